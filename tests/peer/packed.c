/*
 * Packed rings (VIRTIO 1.2, 2.8): chains and indirect tables, used one buffer
 * at a time and in order. Event suppression is read as on or off; a call too
 * many is allowed.
 */
#include "peer.h"

#include <endian.h>
#include <string.h>

enum {
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    DESC_AVAIL = 1 << 7,
    DESC_USED = 1 << 15,
    EVENT_DISABLE = 1,
};

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t id, flags;
};

static struct desc get(const uint8_t *table, uint32_t i)
{
    const uint8_t *at = table + 16 * (size_t)i;
    struct desc d;
    uint16_t flags = __atomic_load_n((const uint16_t *)(const void *)(at + 14),
                                     __ATOMIC_ACQUIRE);

    memcpy(&d, at, sizeof d);
    d.addr = le64toh(d.addr);
    d.len = le32toh(d.len);
    d.id = le16toh(d.id);
    d.flags = le16toh(flags);
    return d;
}

static bool available(const struct ring *r, const struct desc *d)
{
    return !!(d->flags & DESC_AVAIL) == r->avail_wrap &&
           !!(d->flags & DESC_USED) != r->avail_wrap;
}

static bool indirect(struct peer *p, const struct desc *d, unsigned *n)
{
    const uint8_t *table;

    if (d->flags & DESC_NEXT || !d->len || d->len % 16 ||
        !(p->c.features >> F_INDIRECT & 1))
        return false;
    table = memory_guest(&p->c, d->addr, d->len);
    for (uint32_t i = 0; table && i < d->len / 16; i++) {
        struct desc e = get(table, i);

        if (!ring_segment(p, n, e.addr, e.len, e.flags & DESC_WRITE))
            return false;
    }
    return table;
}

/* Ring entries that the buffer takes, 0 if it makes no sense. */
static uint32_t walk(struct peer *p, const struct ring *r, unsigned *n,
                     uint16_t *id)
{
    uint32_t at = r->avail_idx;

    for (uint32_t steps = 1; steps <= r->num; steps++) {
        struct desc d = get(r->desc, at);

        if (d.flags & DESC_INDIRECT) {
            *id = d.id;
            return steps == 1 && indirect(p, &d, n) ? 1 : 0;
        }
        if (!ring_segment(p, n, d.addr, d.len, d.flags & DESC_WRITE))
            return 0;
        if (!(d.flags & DESC_NEXT)) {
            *id = d.id;
            return steps;
        }
        at = at + 1 == r->num ? 0 : at + 1;
    }
    return 0;
}

static void advance(uint16_t *idx, bool *wrap, uint32_t by, uint32_t num)
{
    uint32_t to = *idx + by;

    if (to >= num) {
        to -= num;
        *wrap = !*wrap;
    }
    *idx = (uint16_t)to;
}

static void put_used(struct ring *r, uint16_t id, uint32_t len)
{
    uint8_t *at = r->desc + 16 * (size_t)r->used_idx;
    uint16_t flags = r->used_wrap ? DESC_AVAIL | DESC_USED : 0;

    flags |= len ? DESC_WRITE : 0;
    len = htole32(len);
    id = htole16(id);
    memcpy(at + 8, &len, sizeof len);
    memcpy(at + 12, &id, sizeof id);
    __atomic_store_n((uint16_t *)(void *)(at + 14), htole16(flags),
                     __ATOMIC_RELEASE);
}

unsigned packed_run(struct peer *p, unsigned index, bool *call)
{
    struct ring *r = &p->c.ring[index];
    unsigned served = 0;

    while (r->avail_idx < r->num && r->used_idx < r->num &&
           served < 4 * r->num) {
        struct desc d = get(r->desc, r->avail_idx);
        uint16_t id = 0;
        unsigned n = 0;

        if (!available(r, &d))
            break;
        uint32_t entries = walk(p, r, &n, &id);

        if (!entries) {
            ring_break(p, index, "a descriptor chain makes no sense");
            break;
        }
        put_used(r, id, ring_serve(p, n));
        advance(&r->avail_idx, &r->avail_wrap, entries, r->num);
        advance(&r->used_idx, &r->used_wrap, entries, r->num);
        served++;
        if (p->options.vring_err_after &&
            p->served >= p->options.vring_err_after)
            break;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (served) {
        uint16_t event = le16toh(__atomic_load_n(
            (uint16_t *)(void *)(r->avail + 2), __ATOMIC_RELAXED));

        *call = (event & 3) != EVENT_DISABLE;
    }
    r->pending = served >= 4 * r->num;
    return served;
}
