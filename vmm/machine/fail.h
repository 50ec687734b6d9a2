/*
 * Error code and text in one tail-returnable call. A leaf header.
 */
#ifndef HUSK_VMM_MACHINE_FAIL_H
#define HUSK_VMM_MACHINE_FAIL_H

#include "husk.h"

/*
 * Fill err (NULL allowed) with code and the formatted text, cut to fit, and
 * return code: `return fail(err, -EINVAL, "id %u", id);`
 */
int fail(struct husk_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
