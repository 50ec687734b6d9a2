/*
 * Text for terminals and records, and values of options: the command's two
 * files that need neither a process nor a VM.
 */
#include "vmm/cmd/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "vmm/cmd/values.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The first and the last of each kind of character, and what lies beside. */
Test(text, utf8, .timeout = 10)
{
    static const struct {
        const char *text;
        const char *utf8; /* NULL: as it is */
    } rows[] = {
        { "", NULL },
        { "a\t\r\n\x1b\x7f", NULL },
        { "\x7f\xc2\x80\xdf\xbf", NULL },
        { "\xe0\xa0\x80\xe1\x80\x80\xec\xbf\xbf", NULL },
        { "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", NULL },
        { "\xf0\x90\x80\x80\xf1\x80\x80\x80\xf4\x8f\xbf\xbf", NULL },
        { "\x80\xbf", "\\x80\\xbf" },
        { "\xc0\x80", "\\xc0\\x80" },
        { "\xc1\xbf", "\\xc1\\xbf" },
        { "\xc2\x7f", "\\xc2\x7f" },
        { "\xc2\xc0\x80", "\\xc2\\xc0\\x80" },
        { "\xe0\x9f\xbf", "\\xe0\\x9f\\xbf" },
        { "\xe1\x80\x7f", "\\xe1\\x80\x7f" },
        { "\xe1\x80\xc0", "\\xe1\\x80\\xc0" },
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },
        { "\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf" },
        { "\xf1\x80\x80\x7f", "\\xf1\\x80\\x80\x7f" },
        { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },
        { "\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80" },
        { "\xff\xfe", "\\xff\\xfe" },
        { "a\xe2\x82", "a\\xe2\\x82" },
        { "\xf0\x9f\x92", "\\xf0\\x9f\\x92" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        char *utf8 = cmd_text_utf8(rows[i].text);

        cr_assert_str_eq(utf8, rows[i].utf8 ? rows[i].utf8 : rows[i].text,
                         "row %u: '%s'", i, utf8);
        free(utf8);
    }
}

Test(text, printable, .timeout = 10)
{
    static const struct {
        const char *text, *shown;
    } rows[] = {
        { "a \t~", "a \t~" },
        { "\x01\x1b\x1f\x7f", "????" },
        { "a\r\n", "a?" },
        { "\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", "???\xc2\xa0" },
        { "\x80\x9b\x9f\xa0", "\\x80\\x9b\\x9f\\xa0" },
        { "\xc3\x9f\xe2\x82\xac\xf0\x9f\x92\xa1",
          "\xc3\x9f\xe2\x82\xac\xf0\x9f\x92\xa1" },
    };
    char out[64];

    for (unsigned i = 0; i < COUNT(rows); i++) {
        cr_assert_eq(cmd_text_printable(out, sizeof out, rows[i].text),
                     strlen(rows[i].shown));
        cr_assert_str_eq(out, rows[i].shown, "row %u: '%s'", i, out);
    }
}

/* Cut between characters, with room for the 0. */
Test(text, printable_in_little_room, .timeout = 10)
{
    static const char *const cut[] = {
        "", "a", "a", "a", "a\xe2\x82\xac", "a\xe2\x82\xac", "a\xe2\x82\xac"
    };
    char out[9];

    for (size_t size = 1; size <= COUNT(cut); size++) {
        memset(out, 'z', sizeof out);
        cr_assert_eq(cmd_text_printable(out, size, "a\xe2\x82\xac\xff"),
                     strlen(cut[size - 1]));
        cr_assert_str_eq(out, cut[size - 1], "in %zu: '%s'", size, out);
        cr_assert_eq(out[size], 'z');
    }
}

Test(values, sizes, .timeout = 10)
{
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } rows[] = {
        { "1", 1 << 20 },
        { "1k", 1024 },
        { "15E", UINT64_C(15) << 60 },
        { "16E", 0 },
        { "17592186044415M", UINT64_MAX - 1048575 },
        { "17592186044416M", 0 },
        { "18014398509481983K", UINT64_MAX - 1023 },
        { "18014398509481984K", 0 },
        { "1KB", 0 },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        uint64_t bytes = 7;
        int rc = cmd_take_size(rows[i].text, &bytes);

        cr_assert_eq(rc, rows[i].bytes ? 0 : -EINVAL, "%s", rows[i].text);
        cr_assert_eq(bytes, rows[i].bytes ? rows[i].bytes : 7, "%s",
                     rows[i].text);
    }
}

Test(values, limits, .timeout = 10)
{
    static const char *const words[] = { "a", "b", NULL };
    double seconds = 7;
    unsigned number = 7;

    cr_assert_eq(cmd_take_number("3", 3, 5, &number), 0);
    cr_assert_eq(number, 3);
    cr_assert_eq(cmd_take_number("5", 3, 5, &number), 0);
    cr_assert_eq(number, 5);
    cr_assert_eq(cmd_take_number("2", 3, 5, &number), -EINVAL);
    cr_assert_eq(cmd_take_number("6", 3, 5, &number), -EINVAL);
    cr_assert_eq(number, 5);
    cr_assert_eq(cmd_take_seconds("1e9", &seconds), 0);
    cr_assert_eq(seconds, 1e9);
    cr_assert_eq(cmd_take_seconds("1000000001", &seconds), -EINVAL);
    cr_assert_eq(cmd_take_seconds(".5", &seconds), 0);
    cr_assert_eq(cmd_take_seconds("0", &seconds), -EINVAL);
    cr_assert_eq(seconds, .5);
    cr_assert_eq(cmd_take_word("b", words, &number), 0);
    cr_assert_eq(number, 1);
    cr_assert_eq(cmd_take_word("c", words, &number), -EINVAL);
    cr_assert_eq(number, 1);
}
