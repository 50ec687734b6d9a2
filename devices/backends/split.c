/*
 * Split virtqueues, VIRTIO 1.2 section 2.7, the device's side. Refuses more
 * chains than the ring has entries, loops, nested tables and buffers that are
 * not in guest memory.
 */
#include "devices/backends/split.h"

#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "devices/backends/gather.h"
#include "devices/backends/layout.h"

static struct split_avail *avail(const struct ring *ring)
{
    return ring->avail_map;
}

static struct split_used *used(const struct ring *ring)
{
    return ring->used_map;
}

/* the driver's word on when to interrupt, after the available ring */
static _Atomic uint16_t *used_event(const struct ring *ring)
{
    return &avail(ring)->ring[ring->size];
}

/* ours on when to kick, after the used ring */
static _Atomic uint16_t *avail_event(const struct ring *ring)
{
    return (_Atomic uint16_t *)(void *)&used(ring)->ring[ring->size];
}

int split_map(struct ring *ring)
{
    uint64_t event = ring->event_idx ? 2 : 0;

    if (ring->desc & 15 || ring->avail & 1 || ring->used & 3)
        return ring_break(ring, "a part of the ring is not aligned");
    ring->desc_map = memory_at_user(ring->mem, ring->desc,
                                    ring->size * sizeof(struct split_desc));
    ring->avail_map = memory_at_user(ring->mem, ring->avail,
                                     offsetof(struct split_avail, ring) +
                                         ring->size * sizeof(uint16_t) + event);
    ring->used_map =
        memory_at_user(ring->mem, ring->used,
                       offsetof(struct split_used, ring) +
                           ring->size * sizeof(struct split_used_elem) + event);
    if (!ring->desc_map || !ring->avail_map || !ring->used_map)
        return ring_break(ring, "a part of the ring is not in memory");
    return 0;
}

void split_start(struct ring *ring)
{
    ring->next_used =
        le16toh(atomic_load_explicit(&used(ring)->idx, memory_order_relaxed));
}

static uint16_t available(const struct ring *ring)
{
    return le16toh(
        atomic_load_explicit(&avail(ring)->idx, memory_order_acquire));
}

/* Descriptor index of the ring, or of the indirect table at a guest address. */
static int read_desc(struct ring *ring, bool in_table, gaddr_t table,
                     unsigned index, struct split_desc *d)
{
    if (!in_table)
        memcpy(d, (const struct split_desc *)ring->desc_map + index, sizeof *d);
    else if (memory_read(ring->mem, table + index * sizeof *d, d, sizeof *d))
        return ring_break(ring, "an indirect table at 0x%llx, not in memory",
                          (unsigned long long)table);
    /* from here on only the copy is looked at */
    atomic_signal_fence(memory_order_seq_cst);
    d->addr = le64toh(d->addr);
    d->len = le32toh(d->len);
    d->flags = le16toh(d->flags);
    d->next = le16toh(d->next);
    return 0;
}

static int walk(struct ring *ring, unsigned head, struct gather *g)
{
    gaddr_t table = 0;
    bool in_table = false;
    unsigned count = ring->size, index = head;

    for (unsigned n = 0; n < count; n++) {
        struct split_desc d;

        if (read_desc(ring, in_table, table, index, &d) < 0)
            return -1;
        if (d.flags & DESC_F_INDIRECT) {
            if (in_table)
                return ring_break(ring, "an indirect table in another");
            if (gather_table(ring, d.addr, d.len, d.flags) < 0)
                return -1;
            in_table = true;
            table = d.addr;
            count = d.len / sizeof d;
            index = 0;
            n = UINT32_MAX; /* counts from 0 in the table */
            continue;
        }
        if (gather_add(ring, g, d.addr, d.len, d.flags & DESC_F_WRITE) < 0)
            return -1;
        if (!(d.flags & DESC_F_NEXT))
            return 0;
        if (d.next >= count)
            return ring_break(ring, "descriptor %u of %u", d.next, count);
        index = d.next;
    }
    return ring_break(ring, "a loop of descriptors from %u", head);
}

struct chain *split_chain(struct ring *ring, unsigned head)
{
    struct gather g = { .n_readable = 0 };

    if (head >= ring->size) {
        ring_break(ring, "head %u in a ring of %u", head, ring->size);
        return NULL;
    }
    if (walk(ring, head, &g) < 0)
        return NULL;
    return gather_chain(ring, &g, (uint16_t)head, 1);
}

struct chain *split_take(struct ring *ring)
{
    uint16_t ready = (uint16_t)(available(ring) - ring->next_avail);

    if (!ready)
        return NULL;
    if (ready > ring->size) {
        ring_break(ring, "%u chains available in a ring of %u", ready,
                   ring->size);
        return NULL;
    }
    if (ring->in_flight >= ring->size) {
        ring_break(ring, "more chains than the %u entries of the ring",
                   ring->size);
        return NULL;
    }

    unsigned slot = ring->next_avail & (ring->size - 1);
    uint16_t head = le16toh(
        atomic_load_explicit(&avail(ring)->ring[slot], memory_order_relaxed));
    struct chain *chain = split_chain(ring, head);

    if (chain)
        ring->next_avail++;
    return chain;
}

void split_give(struct ring *ring, const struct chain *chain, uint32_t written)
{
    struct split_used_elem *e =
        &used(ring)->ring[ring->next_used & (ring->size - 1)];

    e->id = htole32(chain->id);
    e->len = htole32(written);
    ring->next_used++;
    /* the entry before idx: the driver polls idx */
    atomic_store_explicit(&used(ring)->idx, htole16(ring->next_used),
                          memory_order_release);
}

void split_disable_kicks(struct ring *ring)
{
    /* with EVENT_IDX an avail_event that was passed keeps the driver quiet */
    if (!ring->event_idx)
        atomic_store_explicit(&used(ring)->flags, htole16(USED_F_NO_NOTIFY),
                              memory_order_relaxed);
}

bool split_enable_kicks(struct ring *ring)
{
    if (ring->event_idx)
        atomic_store_explicit(avail_event(ring), htole16(ring->next_avail),
                              memory_order_relaxed);
    else
        atomic_store_explicit(&used(ring)->flags, 0, memory_order_relaxed);
    /* the driver stores idx, then loads what was stored here; never neither */
    atomic_thread_fence(memory_order_seq_cst);
    return available(ring) != ring->next_avail;
}

bool split_must_notify(struct ring *ring)
{
    /* idx before the driver's wish: it stores the wish, then loads idx */
    atomic_thread_fence(memory_order_seq_cst);
    if (ring->event_idx)
        return event_passed(le16toh(atomic_load_explicit(used_event(ring),
                                                         memory_order_relaxed)),
                            ring->next_used, ring->notified);
    return !(le16toh(atomic_load_explicit(&avail(ring)->flags,
                                          memory_order_relaxed)) &
             AVAIL_F_NO_INTERRUPT);
}
