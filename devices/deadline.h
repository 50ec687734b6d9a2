/*
 * Points in time, in nanoseconds of CLOCK_MONOTONIC. All that one guest access
 * or one round of the probe causes shares one.
 */
#ifndef HUSK_DEVICES_DEADLINE_H
#define HUSK_DEVICES_DEADLINE_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t deadline_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What is left, in milliseconds rounded up: for poll(). */
static inline int deadline_left(uint64_t deadline)
{
    uint64_t now = deadline_now(), left;

    if (now >= deadline)
        return 0;
    left = (deadline - now + 999999) / 1000000;
    return left > INT_MAX ? INT_MAX : (int)left;
}

#endif
