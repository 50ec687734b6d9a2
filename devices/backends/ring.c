/*
 * What split and packed rings have in common, and the choice between the two.
 */
#include "devices/backends/ring.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/backends/inflight.h"
#include "devices/backends/packed.h"
#include "devices/backends/split.h"
#include "devices/virtio.h"

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
    ring->notified = ring->next_used;
    ring->notified_wrap = ring->used_wrap;
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
    chain->resubmitted = again;
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
    if (chain->resubmitted) {
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

void ring_disable_kicks(struct ring *ring)
{
    if (ring->broken)
        return;
    if (ring->packed)
        packed_disable_kicks(ring);
    else
        split_disable_kicks(ring);
}

bool ring_enable_kicks(struct ring *ring)
{
    if (ring->broken)
        return false;

    bool more =
        ring->packed ? packed_enable_kicks(ring) : split_enable_kicks(ring);

    return more || inflight_pending(ring);
}

bool ring_must_notify(struct ring *ring)
{
    if (!ring->given)
        return false;

    /* a whole turn since then, or no ring left to look at: do tell */
    bool tell =
        ring->broken || ring->given >= ring->size ||
        (ring->packed ? packed_must_notify(ring) : split_must_notify(ring));

    ring->given = 0;
    ring->notified = ring->next_used;
    ring->notified_wrap = ring->used_wrap;
    return tell;
}
