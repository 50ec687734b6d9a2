/*
 * Eventfds that a back-end has a share of. It shares their file description
 * too, and can make that blocking: no call here may wait because of it.
 */
#ifndef HUSK_DEVICES_DOORBELL_H
#define HUSK_DEVICES_DOORBELL_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

/* Full means rung already. */
static inline void doorbell_ring(int fd)
{
    uint64_t one = 1;
    int flags = fcntl(fd, F_GETFL);
    ssize_t n;

    /* of the calls that write, none takes RWF_NOWAIT for an eventfd */
    if (flags >= 0 && !(flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    n = write(fd, &one, sizeof one);
    (void)n;
}

/* Empty it; whether it had been rung. */
static inline bool doorbell_take(int fd)
{
    uint64_t count;
    struct iovec iov = { &count, sizeof count };

    return preadv2(fd, &iov, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof count;
}

#endif
