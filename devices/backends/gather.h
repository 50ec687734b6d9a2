/*
 * A chain while its descriptors are read, for split.c, packed.c and the records
 * of chains in flight.
 */

#ifndef HUSK_BACKENDS_GATHER_H
#define HUSK_BACKENDS_GATHER_H

#include "devices/backends/chain.h"
#include "devices/backends/ring_state.h"

/* The most descriptors of an indirect table, and pieces of a chain. */
#define RING_MAX_CHAIN 1024u

/* The pieces found so far. */
struct gather {
    struct iovec iov[RING_MAX_CHAIN];
    unsigned n_readable, n_writable;
    uint64_t readable_size, writable_size;
};

/* Add one descriptor's buffer. 0, or -EINVAL with the ring broken. */
int gather_add(struct ring *ring, struct gather *g, gaddr_t addr, uint32_t len,
               bool writable);

/* Check an indirect descriptor. 0, or -EINVAL with the ring broken. */
int gather_table(struct ring *ring, gaddr_t addr, uint32_t len, unsigned flags);

/* The gathered pieces as a chain, or NULL with the ring broken. */
struct chain *gather_chain(struct ring *ring, const struct gather *g,
                           uint16_t id, uint16_t slots);

#endif
