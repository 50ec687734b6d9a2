/*
 * A vhost-user driver without a machine: the least that makes a back-end work,
 * in this process, to set beside a guest that does the same.
 */
#ifndef HUSK_TESTS_BENCH_BARE_H
#define HUSK_TESTS_BENCH_BARE_H

#include <stdint.h>

#include "tests/unit/driver.h"

struct bare {
    int fd, memfd, kick, call;
    uint8_t *mem;
    struct driver driver;
};

/* Connect and bring queue 0 up with those VIRTIO features and no others.
 *   -errno  the back-end refuses, or is no vhost-user back-end */
int bare_open(struct bare *bare, const char *socket, uint64_t features);
void bare_close(struct bare *bare);

/*
 * Keep depth requests under way until count are done: size bytes of head that
 * the device reads, room for in bytes, of which the last must come back as 0.
 * Sleeps for the device's call, as a guest does for an interrupt. Seconds, or
 * negative: a request failed, or ten seconds went without an answer.
 */
double bare_flow(struct bare *bare, unsigned count, unsigned depth,
                 const void *head, uint32_t size, uint32_t in);

#endif
