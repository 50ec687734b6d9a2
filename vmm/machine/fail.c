/* Error texts. See fail.h. */
#include "vmm/machine/fail.h"

#include <stdarg.h>
#include <stdio.h>

int fail(struct husk_err *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;

        err->code = code;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}
