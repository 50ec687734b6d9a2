/*
 * What split and packed rings have in common: mapping, gathering the pieces of
 * a chain, and the dispatch between the two. The driver is not trusted: each
 * number of its is copied once, then checked, then used.
 */
#include "devices/backends/ring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backends/inflight.h"
#include "devices/backends/layout.h"
#include "devices/virtio.h"

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

int ring_map(struct ring *ring)
{
    return ring->packed ? packed_map(ring) : split_map(ring);
}

int ring_start(struct ring *ring, const struct memory *mem, uint64_t features)
{
    ring->mem = mem;
    ring->packed = features & VIRTIO_F_RING_PACKED;
    ring->indirect = features & VIRTIO_F_INDIRECT_DESC;
    ring->event_idx = features & VIRTIO_F_EVENT_IDX;
    ring->broken = false;
    ring->given = 0;
    ring->in_flight = 0;
    ring->next_avail = (uint16_t)ring->base;
    if (ring->packed) {
        ring->next_avail = ring->base & 0x7fff;
        ring->avail_wrap = ring->base >> 15 & 1;
        ring->next_used = ring->base >> 16 & 0x7fff;
        ring->used_wrap = ring->base >> 31;
    }
    if (!ring->size || ring->size > RING_MAX_SIZE ||
        (!ring->packed && ring->size & (ring->size - 1)))
        return ring_break(ring, "size %u", ring->size);
    if (ring->packed &&
        (ring->next_avail >= ring->size || ring->next_used >= ring->size))
        return ring_break(ring, "base 0x%08x in a ring of %u", ring->base,
                          ring->size);
    if (ring_map(ring) < 0)
        return -EINVAL;
    if (!ring->packed)
        split_start(ring);
    if (ring->inflight && inflight_start(ring, features) < 0)
        return -EINVAL;
    ring->told = ring->next_used;
    ring->told_wrap = ring->used_wrap;
    return 0;
}

void ring_stop(struct ring *ring)
{
    if (ring->inflight)
        inflight_stop(ring);
}

uint32_t ring_base(const struct ring *ring)
{
    if (!ring->packed)
        return ring->next_avail;
    return ring->next_avail | (uint32_t)ring->avail_wrap << 15 |
           (uint32_t)ring->next_used << 16 | (uint32_t)ring->used_wrap << 31;
}

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

struct chain *ring_take(struct ring *ring)
{
    if (ring->broken)
        return NULL;

    bool again = inflight_pending(ring);
    unsigned first = ring->next_avail;
    struct chain *chain = again          ? inflight_take(ring)
                          : ring->packed ? packed_take(ring)
                                         : split_take(ring);

    if (!chain)
        return NULL;
    chain->again = again;
    ring->in_flight += chain->slots;
    if (ring->inflight && !again)
        inflight_taken(ring, chain, first);
    return chain;
}

void ring_give(struct ring *ring, struct chain *chain, uint32_t written)
{
    ring->in_flight -= chain->slots;
    if (!ring->broken) {
        if (ring->inflight)
            inflight_giving(ring, chain);
        if (ring->packed)
            packed_give(ring, chain, written);
        else
            split_give(ring, chain, written);
        if (ring->inflight)
            inflight_given(ring, chain);
        ring->given += chain->slots;
    }
    free(chain);
}

void ring_return(struct ring *ring, struct chain *chain)
{
    ring->in_flight -= chain->slots;
    if (chain->again) {
        ring->inflight->next_pending--;
        free(chain);
        return;
    }
    if (ring->inflight)
        inflight_returned(ring, chain);
    if (ring->packed) {
        if (chain->slots > ring->next_avail) {
            ring->next_avail += (uint16_t)ring->size;
            ring->avail_wrap = !ring->avail_wrap;
        }
    }
    ring->next_avail -= chain->slots;
    free(chain);
}

void ring_quiet(struct ring *ring)
{
    if (ring->broken)
        return;
    if (ring->packed)
        packed_quiet(ring);
    else
        split_quiet(ring);
}

bool ring_listen(struct ring *ring)
{
    if (ring->broken)
        return false;

    bool more = ring->packed ? packed_listen(ring) : split_listen(ring);

    return more || inflight_pending(ring);
}

bool ring_must_tell(struct ring *ring)
{
    if (!ring->given)
        return false;

    /* a whole turn since then, or no ring left to look at: do tell */
    bool tell = ring->broken || ring->given >= ring->size ||
                (ring->packed ? packed_must_tell(ring) : split_must_tell(ring));

    ring->given = 0;
    ring->told = ring->next_used;
    ring->told_wrap = ring->used_wrap;
    return tell;
}

unsigned iov_slice(struct iovec *to, unsigned max, const struct iovec *from,
                   unsigned n, size_t offset, size_t size)
{
    unsigned made = 0;

    for (unsigned i = 0; i < n && size && made < max; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }

        size_t len = from[i].iov_len - offset;

        if (len > size)
            len = size;
        to[made++] = (struct iovec){
            .iov_base = (uint8_t *)from[i].iov_base + offset,
            .iov_len = len,
        };
        offset = 0;
        size -= len;
    }
    return made;
}

void iov_trim(struct iovec **iov, unsigned *n, size_t bytes)
{
    while (*n && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        ++*iov;
        --*n;
    }
    if (*n && bytes) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
}

size_t chain_read(const struct chain *chain, size_t offset, void *to,
                  size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_readable && done < size; i++) {
        struct iovec part;

        if (offset >= chain->readable[i].iov_len) {
            offset -= chain->readable[i].iov_len;
            continue;
        }
        iov_slice(&part, 1, &chain->readable[i], 1, offset, size - done);
        memcpy((uint8_t *)to + done, part.iov_base, part.iov_len);
        done += part.iov_len;
        offset = 0;
    }
    return done;
}

size_t chain_write(const struct chain *chain, size_t offset, const void *from,
                   size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_writable && done < size; i++) {
        struct iovec part;

        if (offset >= chain->writable[i].iov_len) {
            offset -= chain->writable[i].iov_len;
            continue;
        }
        iov_slice(&part, 1, &chain->writable[i], 1, offset, size - done);
        memcpy(part.iov_base, (const uint8_t *)from + done, part.iov_len);
        done += part.iov_len;
        offset = 0;
    }
    return done;
}
