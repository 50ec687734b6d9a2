/* Command lines as lists of words, split as a shell would and run without one.
 */
#ifndef HUSK_VMM_LINK_WORDS_H
#define HUSK_VMM_LINK_WORDS_H

#include <stddef.h>

#include "husk.h"

/*
 * Split text at blanks, minding quotes and backslashes; nothing is expanded.
 * *words is a NULL-terminated list for words_free(), also after a failure.
 *   -EINVAL  a quote is not closed, or a backslash ends the text
 *   -ENOMEM  out of memory
 */
int words_split(const char *text, char ***words, struct husk_err *err);

/* Add a word at the end. -ENOMEM: out of memory, *words as before. */
int words_append(char ***words, const char *word);

/* A copy in which each mark stands replaced by value, or NULL: no memory. */
char **words_replace(char *const *words, const char *mark, const char *value);

/* words may be NULL: an empty list. */
size_t words_count(char *const *words);

void words_free(char **words);

#endif
