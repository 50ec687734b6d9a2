/*
 * The device's side of one virtqueue, split (VIRTIO 1.2, 2.7) or packed (2.8).
 * A ring takes chains of buffers that the driver made available and gives them
 * back used, in any order. It knows no eventfds and no protocol.
 *
 * Whatever a driver does wrong breaks the ring, and only the ring: nothing more
 * is taken from it, and error says why.
 */
#ifndef HUSK_BACKENDS_RING_H
#define HUSK_BACKENDS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backends/memory.h"

#define RING_MAX_SIZE 32768u

/* Descriptors in an indirect table, and pieces of memory in a chain. */
#define RING_MAX_CHAIN 1024u

struct inflight_queue;

struct ring {
    /* given by the front-end before ring_start() */
    uint32_t size;
    uint64_t desc, avail, used; /* the front-end's addresses */
    uint32_t base;              /* as in SET_VRING_BASE */

    /* where the rings are mapped, and how they work; from ring_start() on */
    const struct memory *mem;
    void *desc_map, *avail_map, *used_map;
    bool packed, indirect, event_idx;

    /* the positions; wrap counters are a packed ring's */
    uint16_t next_avail, next_used;
    bool avail_wrap, used_wrap;
    uint16_t told; /* next_used when the driver was last told */
    bool told_wrap;
    uint32_t given;     /* entries given since then */
    unsigned in_flight; /* entries taken and not given back */

    struct inflight_queue *inflight; /* NULL: not tracked */

    bool broken;
    char error[120]; /* one line, once broken */
};

/*
 * What the driver made available at once: first the parts that the device
 * reads, then those that it writes. Pieces follow the struct in memory.
 */
struct chain {
    uint16_t id;    /* what is given back: head or buffer id */
    uint16_t slots; /* ring entries that it takes */
    uint16_t entry; /* in the record of chains in flight, if there is one */
    bool again;     /* it was taken before, by a back-end that is gone */
    unsigned n_readable, n_writable;
    size_t readable_size, writable_size;
    struct iovec *readable, *writable;
    struct iovec iov[];
};

/*
 * Map a ring and go to its base. features are those that the driver accepted.
 * 0, or -EINVAL with the ring broken.
 */
int ring_start(struct ring *ring, const struct memory *mem, uint64_t features);

/* Translate the addresses anew, after the memory table changed. */
int ring_map(struct ring *ring);

/* The ring is stopped, and all its chains are back. */
void ring_stop(struct ring *ring);

/* Where the ring stands, as GET_VRING_BASE answers it. */
uint32_t ring_base(const struct ring *ring);

/*
 * The next chain, or NULL: there is none, or the ring is broken. It is the
 * caller's until ring_give() or ring_return().
 */
struct chain *ring_take(struct ring *ring);

/* Give a chain back as used, written bytes of it written. Frees it. */
void ring_give(struct ring *ring, struct chain *chain, uint32_t written);

/* Undo the latest ring_take(), before any other. Frees the chain. */
void ring_return(struct ring *ring, struct chain *chain);

/* Tell the driver that kicks are not needed for now; a hint. */
void ring_quiet(struct ring *ring);

/*
 * Ask for a kick at the next chain. True: one came meanwhile, so no kick may
 * follow for it.
 */
bool ring_listen(struct ring *ring);

/* Whether the driver wants an interrupt for what was given since last asked. */
bool ring_must_tell(struct ring *ring);

/* Break the ring. Returns -EINVAL; the first reason given is kept. */
int ring_break(struct ring *ring, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

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
