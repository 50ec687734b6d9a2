/*
 * What a back-end says to its user: one line on stderr for each error.
 */

#ifndef HUSK_BACKENDS_COMPLAIN_H
#define HUSK_BACKENDS_COMPLAIN_H

#include <stdint.h>

/* One line, after the program's name. Returns -1. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A decimal number from min to max; -1 after complain(), naming the option. */
int parse_number(const char *option, const char *text, uint64_t min,
                 uint64_t max, uint64_t *value);

#endif
