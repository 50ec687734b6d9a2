/*
 * The functions of <string.h> and <stdlib.h> that the guests and the compiler
 * call. Short rather than fast, but where a string instruction is both.
 */
#include "runtime.h"

void *memcpy(void *to, const void *from, size_t size)
{
    void *end = to;

    __asm__ volatile("rep movsb"
                     : "+D"(end), "+S"(from), "+c"(size)
                     :
                     : "memory");
    return to;
}

void *memset(void *to, int value, size_t size)
{
    void *end = to;
    uint64_t word = (uint8_t)value * UINT64_C(0x0101010101010101);
    size_t words = size / 8;

    size %= 8;
    __asm__ volatile("rep stosq"
                     : "+D"(end), "+c"(words)
                     : "a"(word)
                     : "memory");
    __asm__ volatile("rep stosb"
                     : "+D"(end), "+c"(size)
                     : "a"(word)
                     : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;

    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

size_t strlen(const char *text)
{
    const char *end = text;

    while (*end != '\0')
        end++;
    return (size_t)(end - text);
}

size_t strnlen(const char *text, size_t size)
{
    size_t n = 0;

    while (n < size && text[n] != '\0')
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return (uint8_t)*a - (uint8_t)*b;
}

static unsigned digit(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A') + 10;
    return 99;
}

/* Base 0 is 16 after 0x and 10 otherwise; too large a number wraps. */
unsigned long strtoul(const char *text, char **end, int base)
{
    unsigned long value = 0;

    if ((base == 0 || base == 16) && text[0] == '0' && text[1] == 'x' &&
        digit(text[2]) < 16) {
        text += 2;
        base = 16;
    } else if (base == 0) {
        base = 10;
    }
    for (; digit(*text) < (unsigned)base; text++)
        value = value * (unsigned)base + digit(*text);
    if (end != NULL)
        *end = (char *)(uintptr_t)text;
    return value;
}
