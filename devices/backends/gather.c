/*
 * Gathering the pieces of a chain. Each number of the driver's was copied
 * before, and is checked here before it is used. Refuses buffers outside guest
 * memory, a readable buffer after a writable one, and tables that VIRTIO 1.2
 * (2.7.5.3, 2.8.7) forbids.
 */
#include "devices/backends/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backends/layout.h"

int gather_add(struct ring *ring, struct gather *g, gaddr_t addr, uint32_t len,
               bool writable)
{
    if (!writable && g->n_writable)
        return ring_break(ring, "a readable buffer after a writable one");

    unsigned used = g->n_readable + g->n_writable;
    int n =
        memory_iov(ring->mem, addr, len, g->iov + used, RING_MAX_CHAIN - used);

    if (n == -E2BIG)
        return ring_break(ring, "a chain of more than %u pieces",
                          RING_MAX_CHAIN);
    if (n < 0)
        return ring_break(ring, "a buffer of %u bytes at 0x%llx, not in memory",
                          len, (unsigned long long)addr);
    if (writable) {
        g->n_writable += (unsigned)n;
        g->writable_size += len;
    } else {
        g->n_readable += (unsigned)n;
        g->readable_size += len;
    }
    /* 2.7.4.2: a chain is never longer than 2^32 bytes */
    if (g->readable_size + g->writable_size > UINT32_MAX)
        return ring_break(ring, "a chain of more than 4 GiB");
    return 0;
}

int gather_table(struct ring *ring, gaddr_t addr, uint32_t len, unsigned flags)
{
    struct iovec whole[MEMORY_MAX_REGIONS];

    if (!ring->indirect)
        return ring_break(ring, "an indirect table was not negotiated");
    if (flags & DESC_F_NEXT)
        return ring_break(ring, "a descriptor is indirect and has a next");
    if (!len || len % sizeof(struct split_desc) ||
        len / sizeof(struct split_desc) > RING_MAX_CHAIN)
        return ring_break(ring, "an indirect table of %u bytes", len);
    if (memory_iov(ring->mem, addr, len, whole, MEMORY_MAX_REGIONS) < 0)
        return ring_break(ring, "an indirect table at 0x%llx, not in memory",
                          (unsigned long long)addr);
    return 0;
}

struct chain *gather_chain(struct ring *ring, const struct gather *g,
                           uint16_t id, uint16_t slots)
{
    unsigned n = g->n_readable + g->n_writable;
    struct chain *chain = malloc(sizeof *chain + n * sizeof *chain->iov);

    if (!chain) {
        ring_break(ring, "out of memory");
        return NULL;
    }
    chain->id = id;
    chain->slots = slots;
    chain->n_readable = g->n_readable;
    chain->n_writable = g->n_writable;
    chain->readable_size = g->readable_size;
    chain->writable_size = g->writable_size;
    chain->readable = chain->iov;
    chain->writable = chain->iov + g->n_readable;
    memcpy(chain->iov, g->iov, n * sizeof *chain->iov);
    return chain;
}
