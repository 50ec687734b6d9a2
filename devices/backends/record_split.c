/*
 * Inflight I/O tracking of split rings. A crash may come between any two
 * stores, so their order is the point of this file. Every index in a buffer
 * that was handed back is checked before it is used.
 */
#include "devices/backends/record_split.h"

#include <errno.h>
#include <string.h>

#include "devices/backends/record.h"
#include "devices/backends/split.h"

struct split_state {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next; /* given before this one */
    uint64_t counter;
};

struct split_region {
    uint64_t features;
    uint16_t version; /* 0: nothing was ever in flight */
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_idx;
    struct split_state desc[];
};

_Static_assert(sizeof(struct split_state) == 16, "split state");
_Static_assert(sizeof(struct split_region) == 16, "split region");

static bool in_flight(const void *region, unsigned i, uint64_t *counter)
{
    const struct split_region *r = region;

    *counter = r->desc[i].counter;
    return r->desc[i].inflight;
}

size_t record_split_size(unsigned entries)
{
    return sizeof(struct split_region) + entries * sizeof(struct split_state);
}

int record_split_begin(struct ring *ring, uint64_t features)
{
    struct inflight_queue *q = ring->inflight;
    struct split_region *r = q->region;

    memset(r, 0, record_split_size(q->size));
    r->features = features;
    r->desc_num = q->size;
    if (record_collect(ring, in_flight) < 0)
        return -EINVAL;
    r->used_idx = ring->next_used;
    record_order();
    r->version = RECORD_VERSION;
    return 0;
}

int record_split_recover(struct ring *ring, uint64_t features)
{
    struct inflight_queue *q = ring->inflight;
    struct split_region *r = q->region;
    uint16_t ahead = (uint16_t)(ring->next_used - r->used_idx);
    unsigned head = r->last_batch_head;

    /* the driver reset the ring while no back-end was connected */
    if (ahead > ring->size)
        return record_split_begin(ring, features);
    /* marked used, but the record still has them in flight */
    for (unsigned n = 0; n < ahead && head < ring->size; n++) {
        r->desc[head].inflight = 0;
        head = r->desc[head].next;
    }
    record_order();
    r->used_idx = ring->next_used;
    if (record_collect(ring, in_flight) < 0)
        return -EINVAL;
    if (q->n_pending > ring->size)
        return record_refuse(ring);
    ring->next_avail = (uint16_t)(ring->next_used + q->n_pending);
    return 0;
}

void record_split_taken(struct ring *ring, struct chain *chain)
{
    struct inflight_queue *q = ring->inflight;
    struct split_state *d =
        &((struct split_region *)q->region)->desc[chain->id];

    chain->entry = chain->id;
    d->counter = q->counter++;
    record_order();
    d->inflight = 1;
}

void record_split_returned(struct ring *ring, const struct chain *chain)
{
    struct split_region *r = ring->inflight->region;

    r->desc[chain->entry].inflight = 0;
}

void record_split_giving(struct ring *ring, const struct chain *chain)
{
    struct split_region *r = ring->inflight->region;

    r->desc[chain->entry].next = r->last_batch_head;
    record_order();
    r->last_batch_head = chain->entry;
    record_order();
}

void record_split_given(struct ring *ring, const struct chain *chain)
{
    struct split_region *r = ring->inflight->region;

    record_order();
    r->desc[chain->entry].inflight = 0;
    record_order();
    r->used_idx = ring->next_used;
}

struct chain *record_split_chain(struct ring *ring, unsigned entry)
{
    return split_chain(ring, entry);
}
