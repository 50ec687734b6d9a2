/*
 * A chain of buffers that the driver made available, as a device sees it: first
 * the parts that the device reads, then the parts that it writes. The pieces of
 * memory follow the struct.
 */

#ifndef HUSK_BACKENDS_CHAIN_H
#define HUSK_BACKENDS_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chain {
    uint16_t id;      /* what is marked used: descriptor head or buffer id */
    uint16_t slots;   /* ring entries that it takes */
    uint16_t entry;   /* in the inflight buffer, if there is one */
    bool resubmitted; /* an earlier back-end took it and did not complete it */
    unsigned n_readable, n_writable;
    size_t readable_size, writable_size;
    struct iovec *readable, *writable;
    struct iovec iov[];
};

/* Copy between a buffer and a chain, from offset on. Returns bytes copied. */
size_t chain_read(const struct chain *chain, size_t offset, void *to,
                  size_t size);
size_t chain_write(const struct chain *chain, size_t offset, const void *from,
                   size_t size);

/*
 * size bytes of pieces from offset on as at most max pieces. Returns how many
 * pieces; they hold fewer bytes only where the source or max ends.
 */
unsigned iov_slice(struct iovec *to, unsigned max, const struct iovec *from,
                   unsigned n, size_t offset, size_t size);

/* Cut bytes off the front of *n pieces. */
void iov_trim(struct iovec **iov, unsigned *n, size_t bytes);

#endif
