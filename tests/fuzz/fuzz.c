/*
 * See fuzz.h. fuzz_poll() and fuzz_clock_gettime() stand in for libc's calls in
 * the code under test, which is compiled with their names exchanged: libFuzzer
 * itself keeps the real ones.
 */
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_FDS 1024

int fuzz_poll(struct pollfd *fds, nfds_t n, int timeout);
int fuzz_clock_gettime(clockid_t clock, struct timespec *now);

/* In the past: a lock that is held counts as held until the deadline. */
uint64_t fuzz_now = 1000000000;
void (*fuzz_turn)(void);

int fuzz_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    int rc;

    if (fuzz_turn)
        fuzz_turn();
    rc = poll(fds, n, 0);
    CHECK(rc >= 0);
    CHECK(timeout >= 0); /* nothing waits for ever */
    fuzz_now += rc > 0 ? 1000 : (uint64_t)timeout * 1000000;
    return rc;
}

int fuzz_clock_gettime(clockid_t clock, struct timespec *now)
{
    CHECK_EQ(clock, CLOCK_MONOTONIC);
    now->tv_sec = (time_t)(fuzz_now / 1000000000);
    now->tv_nsec = (long)(fuzz_now % 1000000000);
    return 0;
}

void fuzz_broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

void fuzz_equal(const char *file, int line, const char *what_a,
                const char *what_b, uint64_t a, uint64_t b)
{
    if (a == b)
        return;
    fprintf(stderr, "%s:%d: %s is %#" PRIx64 ", %s is %#" PRIx64 "\n", file,
            line, what_a, a, what_b, b);
    abort();
}

/* One call for all of them: poll() marks those that are not open. */
unsigned fuzz_open_fds(void)
{
    struct pollfd fds[MAX_FDS];
    unsigned n = 0;

    for (int i = 0; i < MAX_FDS; i++)
        fds[i] = (struct pollfd){ .fd = i };
    CHECK(poll(fds, MAX_FDS, 0) >= 0);
    for (int i = 0; i < MAX_FDS; i++)
        n += !(fds[i].revents & POLLNVAL);
    return n;
}
