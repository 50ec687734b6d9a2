/*
 * Inflight I/O tracking of packed rings. A crash may come between any two
 * stores, so their order is the point of this file. The free list is made anew
 * at each start, and every index in a buffer that was handed back is checked
 * before it is used.
 */
#include "devices/backends/record_packed.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backends/layout.h"
#include "devices/backends/packed.h"
#include "devices/backends/record.h"

struct packed_state {
    uint8_t inflight;
    uint8_t padding;
    uint16_t next; /* of the chain, or of the free list */
    uint16_t last; /* in a chain's head: its last entry */
    uint16_t num;  /* in a chain's head: how many it has */
    uint64_t counter;
    uint16_t id; /* the descriptor, which the ring may lose */
    uint16_t flags;
    uint32_t len;
    uint64_t addr;
};

struct packed_region {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t free_head, old_free_head;
    uint16_t used_idx, old_used_idx;
    uint8_t used_wrap_counter, old_used_wrap_counter;
    uint8_t padding[10];
    struct packed_state desc[];
};

_Static_assert(sizeof(struct packed_state) == 32, "packed state");
_Static_assert(sizeof(struct packed_region) == 32, "packed region");

static bool in_flight(const void *region, unsigned i, uint64_t *counter)
{
    const struct packed_region *r = region;

    *counter = r->desc[i].counter;
    return r->desc[i].inflight;
}

size_t record_packed_size(unsigned entries)
{
    return sizeof(struct packed_region) + entries * sizeof(struct packed_state);
}

/* Whether the chain at the old position was marked used before the crash. */
static bool published(const struct ring *ring, const struct packed_region *r)
{
    const struct packed_desc *d =
        (const struct packed_desc *)ring->desc_map + r->old_used_idx;
    unsigned flags =
        le16toh(atomic_load_explicit(&d->flags, memory_order_acquire));

    /* not if it is still as the driver made it available in that turn; the
     * driver may have used it anew for the next turn already */
    return !(!!(flags & DESC_F_AVAIL) == r->old_used_wrap_counter &&
             !!(flags & DESC_F_USED) != r->old_used_wrap_counter);
}

/* The free list: all entries that no chain in flight has. */
static int link_free(struct ring *ring, unsigned *slots)
{
    const struct inflight_queue *q = ring->inflight;
    struct packed_region *r = q->region;
    uint8_t *taken = calloc(q->size, 1);
    uint16_t *link = &r->free_head;

    if (!taken)
        return ring_break(ring, "out of memory");
    *slots = 0;
    for (unsigned i = 0; i < q->n_pending; i++) {
        unsigned entry = q->pending[i], num = r->desc[entry].num;

        *slots += num;
        for (unsigned n = 0; n < num; n++) {
            if (*slots > ring->size || entry >= q->size || taken[entry]) {
                free(taken);
                return record_refuse(ring);
            }
            taken[entry] = 1;
            entry = r->desc[entry].next;
        }
    }
    for (unsigned i = 0; i < q->size; i++) {
        if (taken[i])
            continue;
        *link = (uint16_t)i;
        link = &r->desc[i].next;
    }
    *link = q->size; /* the end */
    r->old_free_head = r->free_head;
    free(taken);
    return 0;
}

int record_packed_begin(struct ring *ring, uint64_t features)
{
    struct inflight_queue *q = ring->inflight;
    struct packed_region *r = q->region;
    unsigned slots;

    memset(r, 0, record_packed_size(q->size));
    r->features = features;
    r->desc_num = q->size;
    r->used_idx = r->old_used_idx = ring->next_used;
    r->used_wrap_counter = r->old_used_wrap_counter = ring->used_wrap;
    if (record_collect(ring, in_flight) < 0 || link_free(ring, &slots) < 0)
        return -EINVAL;
    record_order();
    r->version = RECORD_VERSION;
    return 0;
}

int record_packed_recover(struct ring *ring)
{
    struct inflight_queue *q = ring->inflight;
    struct packed_region *r = q->region;
    unsigned slots, next;

    if (r->used_idx >= ring->size || r->old_used_idx >= ring->size ||
        r->used_wrap_counter > 1 || r->old_used_wrap_counter > 1)
        return record_refuse(ring);
    if (r->used_idx != r->old_used_idx ||
        r->used_wrap_counter != r->old_used_wrap_counter) {
        if (published(ring, r)) {
            if (r->free_head < q->size)
                r->desc[r->free_head].inflight = 0;
            record_order();
            r->old_used_idx = r->used_idx;
            r->old_used_wrap_counter = r->used_wrap_counter;
        } else {
            r->used_idx = r->old_used_idx;
            r->used_wrap_counter = r->old_used_wrap_counter;
        }
    }
    if (record_collect(ring, in_flight) < 0 || link_free(ring, &slots) < 0)
        return -EINVAL;
    ring->next_used = r->used_idx;
    ring->used_wrap = r->used_wrap_counter;
    next = r->used_idx + slots;
    ring->avail_wrap = ring->used_wrap;
    if (next >= ring->size) {
        next -= ring->size;
        ring->avail_wrap = !ring->avail_wrap;
    }
    ring->next_avail = (uint16_t)next;
    return 0;
}

void record_packed_taken(struct ring *ring, struct chain *chain, unsigned first)
{
    struct inflight_queue *q = ring->inflight;
    struct packed_region *r = q->region;
    unsigned entry = r->free_head < q->size ? r->free_head : 0;
    struct packed_state *head = &r->desc[entry];

    chain->entry = (uint16_t)entry;
    head->num = 0;
    for (unsigned n = 0; n < chain->slots; n++) {
        const struct packed_desc *d =
            (const struct packed_desc *)ring->desc_map +
            (first + n) % ring->size;
        struct packed_state *state = &r->desc[entry];

        if (entry >= q->size) {
            ring_break(ring, "the inflight buffer was written to");
            return;
        }
        state->addr = le64toh(d->addr);
        state->len = le32toh(d->len);
        state->id = le16toh(d->id);
        state->flags =
            le16toh(atomic_load_explicit(&d->flags, memory_order_relaxed));
        head->last = (uint16_t)entry;
        head->num++;
        entry = state->next;
    }
    r->free_head = (uint16_t)entry;
    head->counter = q->counter++;
    record_order();
    head->inflight = 1;
    record_order();
    r->old_free_head = r->free_head;
}

/* Put a chain's entries back on the free list. */
static void free_entries(const struct inflight_queue *q, unsigned entry)
{
    struct packed_region *r = q->region;
    unsigned last = r->desc[entry].last;

    r->desc[last < q->size ? last : entry].next = r->free_head;
    r->free_head = (uint16_t)entry;
}

void record_packed_returned(struct ring *ring, const struct chain *chain)
{
    struct packed_region *r = ring->inflight->region;

    r->desc[chain->entry].inflight = 0;
    record_order();
    free_entries(ring->inflight, chain->entry);
    r->old_free_head = r->free_head;
}

void record_packed_giving(struct ring *ring, const struct chain *chain)
{
    struct packed_region *r = ring->inflight->region;
    unsigned next = ring->next_used + chain->slots;
    bool wrap = ring->used_wrap;

    if (next >= ring->size) {
        next -= ring->size;
        wrap = !wrap;
    }
    free_entries(ring->inflight, chain->entry);
    record_order();
    r->used_idx = (uint16_t)next;
    r->used_wrap_counter = wrap;
    record_order();
}

void record_packed_given(struct ring *ring, const struct chain *chain)
{
    struct packed_region *r = ring->inflight->region;

    record_order();
    r->desc[chain->entry].inflight = 0;
    record_order();
    r->old_free_head = r->free_head;
    r->old_used_idx = r->used_idx;
    r->old_used_wrap_counter = r->used_wrap_counter;
}

struct chain *record_packed_chain(struct ring *ring, unsigned entry)
{
    const struct inflight_queue *q = ring->inflight;
    const struct packed_region *r = q->region;
    struct gather g = { .n_readable = 0 };
    unsigned at = entry;
    uint16_t id = 0;

    for (unsigned n = 0; n < r->desc[entry].num && at < q->size; n++) {
        const struct packed_state *d = &r->desc[at];

        if (packed_gather(ring, &g, d->addr, d->len, d->flags) < 0)
            return NULL;
        id = d->id;
        at = d->next;
    }
    return gather_chain(ring, &g, id, r->desc[entry].num);
}
