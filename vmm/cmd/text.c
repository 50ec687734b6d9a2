/* See text.h. UTF-8 as in RFC 3629: no surrogates, no longer form than needed.
 */
#include "vmm/cmd/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 character at text, or 0 if there is none. */
static size_t character(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    unsigned char low = 0x80, high = 0xbf; /* limits of the second byte */
    size_t size;

    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    size = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return size;
}

/* Whether the character at text, of size bytes, is a control character. */
static bool is_control(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;

    if (size == 1)
        return at[0] < 0x20 || at[0] == 0x7f;
    return size == 2 && at[0] == 0xc2 && at[1] < 0xa0;
}

/* What stands for the byte or character at *text; moves *text behind it. */
static size_t take(const char **text, bool printable, char piece[8])
{
    size_t size = character(*text);
    const char *at = *text;

    *text += size ? size : 1;
    if (!size)
        return (size_t)snprintf(piece, 8, "\\x%02x", (unsigned char)*at);
    if (printable && *at == '\r')
        return 0;
    if (printable && *at != '\t' && is_control(at, size)) {
        piece[0] = '?';
        return 1;
    }
    memcpy(piece, at, size);
    return size;
}

size_t cmd_text_printable(char *out, size_t size, const char *text)
{
    size_t used = 0;

    while (*text) {
        char piece[8];
        size_t n = take(&text, true, piece);

        if (used + n >= size)
            break;
        memcpy(out + used, piece, n);
        used += n;
    }
    out[used] = 0;
    return used;
}

char *cmd_text_utf8(const char *text)
{
    char *copy = malloc(4 * strlen(text) + 1), *end = copy;

    while (copy && *text) {
        char piece[8];
        size_t n = take(&text, false, piece);

        memcpy(end, piece, n);
        end += n;
    }
    if (copy)
        *end = 0;
    return copy;
}
