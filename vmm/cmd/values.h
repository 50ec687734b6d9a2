/* Values of options. Each function returns 0, or -EINVAL and *out is unchanged.
 */
#ifndef HUSK_VMM_CMD_VALUES_H
#define HUSK_VMM_CMD_VALUES_H

#include <stdint.h>

/* Bytes: a number above 0 and one of K M G T P E; without a unit, MiB. */
int cmd_take_size(const char *text, uint64_t *out);

/* A whole number from min to max. */
int cmd_take_number(const char *text, unsigned min, unsigned max,
                    unsigned *out);

/* Seconds above 0, fractions allowed, at most 1e9. */
int cmd_take_seconds(const char *text, double *out);

/* The index of text in words, which ends with NULL. */
int cmd_take_word(const char *text, const char *const *words, unsigned *out);

#endif
