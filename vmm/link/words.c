/* Word splitting. See words.h; quoting after POSIX, Shell Command Language 2.2.
 */
#include "vmm/link/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/fail.h"

size_t words_count(char *const *words)
{
    size_t n = 0;

    while (words && words[n])
        n++;
    return n;
}

int words_append(char ***words, const char *word)
{
    size_t n = words_count(*words);
    char **grown = realloc(*words, (n + 2) * sizeof *grown);

    if (!grown)
        return -ENOMEM;
    *words = grown;
    grown[n] = strdup(word);
    grown[n + 1] = NULL;
    return grown[n] ? 0 : -ENOMEM;
}

/* Copy the word at *text to out, and move *text behind it. */
static int take_word(const char **text, char *out, struct husk_err *err)
{
    const char *in = *text;
    char quote = 0;

    while (*in && (quote || !strchr(" \t\n", *in))) {
        char c = *in++;

        if (quote ? c == quote : c == '\'' || c == '"') {
            quote = quote ? 0 : c;
        } else if (c == '\\' && quote != '\'') {
            if (!*in)
                return fail(err, -EINVAL, "a backslash ends the command");
            /* inside double quotes only some characters can be quoted so */
            if (quote && !strchr("\"\\$`", *in))
                *out++ = c;
            *out++ = *in++;
        } else {
            *out++ = c;
        }
    }
    if (quote)
        return fail(err, -EINVAL, "a quote (%c) is not closed in the command",
                    quote);
    *out = 0;
    *text = in;
    return 0;
}

int words_split(const char *text, char ***words, struct husk_err *err)
{
    char *word = malloc(strlen(text) + 1);
    int rc = 0;

    *words = calloc(1, sizeof **words);
    if (!word || !*words) {
        free(word);
        return fail(err, -ENOMEM, "out of memory");
    }
    while (rc == 0) {
        text += strspn(text, " \t\n");
        if (!*text)
            break;
        rc = take_word(&text, word, err);
        if (rc == 0 && words_append(words, word) < 0)
            rc = fail(err, -ENOMEM, "out of memory");
    }
    free(word);
    return rc;
}

/* word with every mark replaced, on the heap. */
static char *replaced(const char *word, const char *mark, const char *value)
{
    size_t marks = 0, length = strlen(mark);
    char *out, *end;

    for (const char *at = word; (at = strstr(at, mark)); at += length)
        marks++;
    out = end = malloc(strlen(word) + marks * strlen(value) + 1);
    if (!out)
        return NULL;
    for (const char *at; (at = strstr(word, mark)); word = at + length) {
        memcpy(end, word, (size_t)(at - word));
        end += at - word;
        end = stpcpy(end, value);
    }
    strcpy(end, word);
    return out;
}

char **words_replace(char *const *words, const char *mark, const char *value)
{
    size_t n = words_count(words);
    char **copy = calloc(n + 1, sizeof *copy);

    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = replaced(words[i], mark, value);
        if (!copy[i]) {
            words_free(copy);
            return NULL;
        }
    }
    return copy;
}

void words_free(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}
