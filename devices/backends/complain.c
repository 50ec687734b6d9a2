/* Messages, and the numbers of the command line; see complain.h. */
#include "devices/backends/complain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int complain(const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* one write, so that lines of several programs do not mix */
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
    return -1;
}

int parse_number(const char *option, const char *text, uint64_t min,
                 uint64_t max, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || *value < min ||
        *value > max)
        return complain("--%s=%s: give a number from %" PRIu64 " to %" PRIu64,
                        option, text, min, max);
    return 0;
}
