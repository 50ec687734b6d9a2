/*
 * Formatted output on the console, in as few pieces as a buffer allows. Knows
 * %s, %c, %u, %x, %% and, for numbers, "l", "#" and a width of zeros; anything
 * else panics, so that a wrong format does not pass for output.
 */
#include "runtime.h"

/* Where characters go: the console when a buffer is full, or cut there. */
struct sink {
    char *text;
    size_t used, size;
    bool console;
};

static void put(struct sink *sink, char c)
{
    if (sink->used == sink->size) {
        if (!sink->console)
            return;
        uart_write(sink->text, sink->used);
        sink->used = 0;
    }
    sink->text[sink->used++] = c;
}

static void put_number(struct sink *sink, uint64_t value, unsigned base,
                       unsigned width)
{
    char digits[20];
    unsigned n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    for (; width > n; width--)
        put(sink, '0');
    while (n-- > 0)
        put(sink, digits[n]);
}

static void format_into(struct sink *sink, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void format_into(struct sink *sink, const char *format, va_list args)
{
    for (; *format != '\0'; format++) {
        bool is_long = false, prefix = false;
        unsigned width = 0;

        if (*format != '%') {
            put(sink, *format);
            continue;
        }
        format++;
        if (*format == '#') {
            prefix = true;
            format++;
        }
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (unsigned)(*format - '0');
        if (*format == 'l') {
            is_long = true;
            format++;
        }
        if (*format == 's') {
            for (const char *s = va_arg(args, const char *); *s != '\0'; s++)
                put(sink, *s);
        } else if (*format == 'c') {
            put(sink, (char)va_arg(args, int));
        } else if (*format == '%') {
            put(sink, '%');
        } else if (*format == 'u' || *format == 'x') {
            uint64_t value =
                is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned);

            if (prefix) {
                put(sink, '0');
                put(sink, 'x');
            }
            put_number(sink, value, *format == 'u' ? 10 : 16, width);
        } else {
            exit_panic("print knows no %%%c", *format);
        }
    }
}

void print_args(const char *format, va_list args)
{
    char text[128];
    struct sink sink = { text, 0, sizeof text, true };

    format_into(&sink, format, args);
    uart_write(text, sink.used);
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_args(format, args);
    va_end(args);
}

size_t print_into(char *out, size_t size, const char *format, ...)
{
    struct sink sink = { out, 0, size - 1, false };
    va_list args;

    va_start(args, format);
    format_into(&sink, format, args);
    va_end(args);
    out[sink.used] = '\0';
    return sink.used;
}

void print_hex(const void *bytes, size_t size)
{
    static const char digits[16] = "0123456789abcdef";
    const uint8_t *b = bytes;
    char text[128];

    while (size > 0) {
        size_t n = size < sizeof text / 2 ? size : sizeof text / 2;

        for (size_t i = 0; i < n; i++) {
            text[2 * i] = digits[b[i] >> 4];
            text[2 * i + 1] = digits[b[i] & 15];
        }
        uart_write(text, 2 * n);
        b += n;
        size -= n;
    }
}
