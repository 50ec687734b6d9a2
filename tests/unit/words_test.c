/* Splitting command lines into words: what a shell would find, without one. */
#include "vmm/link/words.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Test(words, split, .timeout = 10)
{
    static const struct {
        const char *text;
        const char *words[6];
    } rows[] = {
        { "", { NULL } },
        { "  \t\n ", { NULL } },
        { "a", { "a" } },
        { " a  b\tc\nd ", { "a", "b", "c", "d" } },
        { "'a b' c", { "a b", "c" } },
        { "\"a b\" c", { "a b", "c" } },
        { "a' 'b\" \"c", { "a b c" } },
        { "''", { "" } },
        { "\"\" '' x", { "", "", "x" } },
        { "a''b", { "ab" } },
        { "'a\"b'", { "a\"b" } },
        { "\"a'b\"", { "a'b" } },
        { "a\\ b", { "a b" } },
        { "\\'a\\'", { "'a'" } },
        { "\\\"", { "\"" } },
        { "\\\\", { "\\" } },
        { "'a\\b'", { "a\\b" } },
        { "'\\'", { "\\" } },
        { "\"a\\b\"", { "a\\b" } },
        { "\"a\\\"b\"", { "a\"b" } },
        { "\"a\\\\b\"", { "a\\b" } },
        { "\"\\$x\\`y\"", { "$x`y" } },
        /* nothing is expanded */
        { "$HOME *.c ~ `ls` $(x) a;b|c",
          { "$HOME", "*.c", "~", "`ls`", "$(x)", "a;b|c" } },
        { "--a=b,c --d={fd}", { "--a=b,c", "--d={fd}" } },
        { "\xc3\xa4 \xff", { "\xc3\xa4", "\xff" } },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct husk_err err;
        char **words;
        unsigned n = 0;

        cr_assert_eq(words_split(rows[i].text, &words, &err), 0, "'%s': %s",
                     rows[i].text, err.text);
        for (; n < 6 && rows[i].words[n]; n++) {
            cr_assert_not_null(words[n], "'%s': %u words", rows[i].text, n);
            cr_assert_str_eq(words[n], rows[i].words[n]);
        }
        cr_assert_null(words[n], "'%s': '%s' too", rows[i].text, words[n]);
        words_free(words);
    }
}

Test(words, refused, .timeout = 10)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "'", "'" },
        { "\"", "\"" },
        { "a 'b c", "'" },
        { "a \"b c", "\"" },
        { "'a\"", "'" },
        { "\"a'", "\"" },
        { "\"a\\\"", "\"" },
        { "a \\", "backslash" },
        { "\\", "backslash" },
        { "\"\\", "backslash" },
        { "good words first 'x", "'" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct husk_err err;
        char **words;

        cr_assert_eq(words_split(rows[i].text, &words, &err), -EINVAL, "%s",
                     rows[i].text);
        cr_assert_not_null(strstr(err.text, rows[i].says), "%s", err.text);
        words_free(words);
        cr_assert_eq(words_split(rows[i].text, &words, NULL), -EINVAL);
        words_free(words);
    }
}

/* Every string of a few characters: no word is lost, none is made up. */
Test(words, all_short_strings, .timeout = 30)
{
    static const char letters[] = "a '\"\\";
    unsigned good = 0;

    for (unsigned n = 0; n < 5 * 5 * 5 * 5 * 5 * 5; n++) {
        char text[7] = { 0 };
        char **words;
        size_t size = 0;

        for (unsigned i = 0, k = n; i < 6; i++, k /= 5)
            text[i] = letters[k % 5];
        if (words_split(text, &words, NULL) == 0) {
            good++;
            for (unsigned i = 0; words[i]; i++)
                size += strlen(words[i]);
            cr_assert_leq(size, strlen(text));
            for (unsigned i = 0, k = 0; text[i]; i++)
                if (text[i] == 'a')
                    cr_assert_lt(k++, size, "a letter of '%s' is lost", text);
        }
        words_free(words);
    }
    cr_assert_gt(good, 1000);
}

Test(words, append_and_replace, .timeout = 10)
{
    char **words = NULL, **copy;

    cr_assert_eq(words_append(&words, "a"), 0);
    cr_assert_eq(words_append(&words, "{fd}x{fd}{fd"), 0);
    cr_assert_eq(words_append(&words, ""), 0);
    cr_assert_eq(words_append(&words, "{{fd}}"), 0);
    copy = words_replace(words, "{fd}", "{fd}17");
    cr_assert_not_null(copy);
    cr_assert_str_eq(copy[0], "a");
    cr_assert_str_eq(copy[1], "{fd}17x{fd}17{fd");
    cr_assert_str_eq(copy[2], "");
    cr_assert_str_eq(copy[3], "{{fd}17}");
    cr_assert_null(copy[4]);
    cr_assert_str_eq(words[1], "{fd}x{fd}{fd", "the original is changed");
    words_free(copy);
    copy = words_replace(words, "{fd}", "");
    cr_assert_not_null(copy);
    cr_assert_str_eq(copy[1], "x{fd");
    words_free(copy);
    words_free(words);
    words_free(NULL);
}
