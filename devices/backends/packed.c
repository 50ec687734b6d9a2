/*
 * Packed virtqueues, VIRTIO 1.2 section 2.8, the device's side. Refuses chains
 * longer than the ring, more of them than it has entries, nested tables and
 * buffers that are not in guest memory.
 */
#include "devices/backends/packed.h"

#include <endian.h>
#include <string.h>

#include "devices/backends/layout.h"

static struct packed_desc *desc(const struct ring *ring, unsigned index)
{
    return (struct packed_desc *)ring->desc_map + index;
}

static struct packed_event *driver_event(const struct ring *ring)
{
    return ring->avail_map;
}

static struct packed_event *device_event(const struct ring *ring)
{
    return ring->used_map;
}

int packed_map(struct ring *ring)
{
    if (ring->desc & 15 || ring->avail & 3 || ring->used & 3)
        return ring_break(ring, "a part of the ring is not aligned");
    ring->desc_map = memory_at_user(ring->mem, ring->desc,
                                    ring->size * sizeof(struct packed_desc));
    ring->avail_map =
        memory_at_user(ring->mem, ring->avail, sizeof(struct packed_event));
    ring->used_map =
        memory_at_user(ring->mem, ring->used, sizeof(struct packed_event));
    if (!ring->desc_map || !ring->avail_map || !ring->used_map)
        return ring_break(ring, "a part of the ring is not in memory");
    return 0;
}

/* A descriptor's flags if it is available at this turn of the ring, or -1. */
static int available(const struct ring *ring, unsigned index, bool wrap)
{
    unsigned flags = le16toh(
        atomic_load_explicit(&desc(ring, index)->flags, memory_order_acquire));

    if (!!(flags & DESC_F_AVAIL) != wrap || !!(flags & DESC_F_USED) == wrap)
        return -1;
    return (int)flags;
}

/* In a table order is all: NEXT and id mean nothing there (2.8.7). */
static int walk_table(struct ring *ring, gaddr_t table, uint32_t len,
                      struct gather *g)
{
    for (uint32_t at = 0; at < len; at += sizeof(struct packed_desc)) {
        struct split_desc d; /* the same layout but for id and flags' places */

        if (memory_read(ring->mem, table + at, &d, sizeof d) < 0)
            return ring_break(ring,
                              "an indirect table at 0x%llx, not in memory",
                              (unsigned long long)table);
        atomic_signal_fence(memory_order_seq_cst);

        unsigned flags = le16toh(d.next);

        if (flags & DESC_F_INDIRECT)
            return ring_break(ring, "an indirect table in another");
        if (gather_add(ring, g, le64toh(d.addr), le32toh(d.len),
                       flags & DESC_F_WRITE) < 0)
            return -1;
    }
    return 0;
}

int packed_gather(struct ring *ring, struct gather *g, gaddr_t addr,
                  uint32_t len, unsigned flags)
{
    if (!(flags & DESC_F_INDIRECT))
        return gather_add(ring, g, addr, len, flags & DESC_F_WRITE);
    if (gather_table(ring, addr, len, flags) < 0)
        return -1;
    return walk_table(ring, addr, len, g);
}

struct chain *packed_take(struct ring *ring)
{
    unsigned index = ring->next_avail;
    bool wrap = ring->avail_wrap;
    int flags = available(ring, index, wrap);
    struct gather g = { .n_readable = 0 };
    unsigned slots = 0;
    uint16_t id = 0;

    if (flags < 0)
        return NULL;
    for (bool more = true; more;) {
        const struct packed_desc *d = desc(ring, index);
        gaddr_t addr = le64toh(d->addr);
        uint32_t len = le32toh(d->len);

        id = le16toh(d->id);
        atomic_signal_fence(memory_order_seq_cst);
        if (++slots + ring->in_flight > ring->size) {
            ring_break(ring, "more descriptors than the %u of the ring",
                       ring->size);
            return NULL;
        }
        more = flags & DESC_F_NEXT;
        if (packed_gather(ring, &g, addr, len, (unsigned)flags) < 0)
            return NULL;
        if (++index == ring->size) {
            index = 0;
            wrap = !wrap;
        }
        /* 2.8.14: the first one's flags come last, so these are all there */
        if (more && (flags = available(ring, index, wrap)) < 0) {
            ring_break(ring, "a chain goes on in a descriptor not available");
            return NULL;
        }
    }

    struct chain *chain = gather_chain(ring, &g, id, (uint16_t)slots);

    if (chain) {
        ring->next_avail = (uint16_t)index;
        ring->avail_wrap = wrap;
    }
    return chain;
}

void packed_give(struct ring *ring, const struct chain *chain, uint32_t written)
{
    struct packed_desc *d = desc(ring, ring->next_used);
    unsigned flags = ring->used_wrap ? DESC_F_AVAIL | DESC_F_USED : 0;

    /* 2.8.6: a length counts only with the WRITE flag */
    if (chain->n_writable)
        flags |= DESC_F_WRITE;
    d->id = htole16(chain->id);
    d->len = htole32(written);
    /* flags last: the driver polls them */
    atomic_store_explicit(&d->flags, htole16((uint16_t)flags),
                          memory_order_release);
    ring->next_used += chain->slots;
    if (ring->next_used >= ring->size) {
        ring->next_used -= (uint16_t)ring->size;
        ring->used_wrap = !ring->used_wrap;
    }
}

void packed_disable_kicks(struct ring *ring)
{
    atomic_store_explicit(&device_event(ring)->flags, htole16(EVENT_DISABLE),
                          memory_order_relaxed);
}

bool packed_enable_kicks(struct ring *ring)
{
    struct packed_event *event = device_event(ring);

    if (ring->event_idx) {
        unsigned off = ring->next_avail | (unsigned)ring->avail_wrap << 15;

        atomic_store_explicit(&event->off_wrap, htole16((uint16_t)off),
                              memory_order_relaxed);
        atomic_store_explicit(&event->flags, htole16(EVENT_DESC),
                              memory_order_release);
    } else {
        atomic_store_explicit(&event->flags, htole16(EVENT_ENABLE),
                              memory_order_relaxed);
    }
    /* the driver stores flags, then loads what was stored here */
    atomic_thread_fence(memory_order_seq_cst);
    return available(ring, ring->next_avail, ring->avail_wrap) >= 0;
}

bool packed_must_notify(struct ring *ring)
{
    struct packed_event *event = driver_event(ring);

    /* the used descriptor before the driver's wish, as in split rings */
    atomic_thread_fence(memory_order_seq_cst);

    unsigned flags =
        le16toh(atomic_load_explicit(&event->flags, memory_order_acquire));
    unsigned off =
        le16toh(atomic_load_explicit(&event->off_wrap, memory_order_relaxed));

    if (flags == EVENT_DISABLE)
        return false;
    if (flags != EVENT_DESC || !ring->event_idx)
        return true;

    /* count positions so that both wraps of the ring are in one line */
    uint16_t at = off & 0x7fff;
    uint16_t old = ring->notified;

    if (!!(off >> 15) != ring->used_wrap)
        at -= (uint16_t)ring->size;
    if (ring->notified_wrap != ring->used_wrap)
        old -= (uint16_t)ring->size;
    return event_passed(at, ring->next_used, old);
}
