/* How a ring breaks; see ring_state.h. */
#include "devices/backends/ring_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int ring_break(struct ring *ring, const char *format, ...)
{
    if (!ring->broken) {
        va_list args;

        va_start(args, format);
        vsnprintf(ring->error, sizeof ring->error, format, args);
        va_end(args);
        ring->broken = true;
    }
    return -EINVAL;
}
