/* A device's lines. See lines.h. */
#include "vmm/link/lines.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static void put(const struct lines *lines, char *out, size_t size,
                const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

static void put(const struct lines *lines, char *out, size_t size,
                const char *format, va_list args)
{
    int n = snprintf(out, size, "%s: ", lines->name);

    if (n > 0 && (size_t)n < size)
        vsnprintf(out + n, size - (size_t)n, format, args);
}

void lines_say(struct lines *lines, enum husk_log level, const char *format,
               ...)
{
    char text[sizeof lines->kept[0].text];
    va_list args;

    va_start(args, format);
    put(lines, text, sizeof text, format, args);
    va_end(args);
    lines->log(lines->ctx, level, text);
}

void lines_keep(struct lines *lines, enum husk_log level, const char *format,
                ...)
{
    va_list args;

    if (lines->n == LINES_KEPT) {
        lines->dropped++;
        return;
    }
    lines->kept[lines->n].level = level;
    va_start(args, format);
    put(lines, lines->kept[lines->n].text, sizeof lines->kept[0].text, format,
        args);
    va_end(args);
    lines->n++;
}

void lines_flush(struct lines *lines)
{
    unsigned n = lines->n, dropped = lines->dropped;

    lines->n = lines->dropped = 0;
    for (unsigned i = 0; i < n; i++)
        lines->log(lines->ctx, lines->kept[i].level, lines->kept[i].text);
    if (dropped)
        lines_say(lines, HUSK_LOG_WARNING, "%u lines were dropped", dropped);
}
