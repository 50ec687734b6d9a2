/*
 * The kernel command line: words between spaces, NAME or NAME=VALUE. Unknown
 * words are ignored, as Linux does, so that one line serves several guests.
 */
#include "runtime.h"

static const char *line = "";

void option_init(const char *text)
{
    line = text;
}

const char *option_line(void)
{
    return line;
}

/* The text after NAME: "" or "=VALUE" up to a space; NULL if there is none. */
static const char *find(const char *name)
{
    size_t size = strlen(name);
    const char *p = line;

    while (*p != '\0') {
        if (memcmp(p, name, size) == 0 &&
            (p[size] == '\0' || p[size] == ' ' || p[size] == '='))
            return p + size;
        while (*p != '\0' && *p != ' ')
            p++;
        while (*p == ' ')
            p++;
    }
    return NULL;
}

bool option_flag(const char *name)
{
    return find(name) != NULL;
}

uint64_t option_number(const char *name, uint64_t otherwise)
{
    const char *text = find(name);
    char *end;
    uint64_t value;

    if (text == NULL)
        return otherwise;
    if (*text != '=')
        exit_fail("option %s wants a number", name);
    value = strtoul(text + 1, &end, 0);
    if (end != text + 1 && (*end == 'k' || *end == 'm'))
        value <<= *end++ == 'k' ? 10 : 20;
    if (end == text + 1 || (*end != '\0' && *end != ' '))
        exit_fail("option %s is not a number", name);
    return value;
}

size_t option_hex(const char *text, uint8_t *out, size_t size)
{
    size_t n = 0;

    for (; text[2 * n] != '\0'; n++) {
        char pair[3] = { text[2 * n], text[2 * n + 1], '\0' };
        char *end;

        if (n == size)
            exit_fail("more than %lu bytes of hex", size);
        out[n] = (uint8_t)strtoul(pair, &end, 16);
        if (end != pair + 2)
            exit_fail("%s is not hex", text);
    }
    return n;
}

bool option_text(const char *name, char *out, size_t size)
{
    const char *text = find(name);
    size_t n = 0;

    if (text == NULL)
        return false;
    if (*text != '=')
        exit_fail("option %s wants a value", name);
    for (text++; text[n] != '\0' && text[n] != ' '; n++) {
        if (n + 1 >= size)
            exit_fail("option %s is longer than %lu bytes", name, size - 1);
        out[n] = text[n];
    }
    out[n] = '\0';
    return true;
}
