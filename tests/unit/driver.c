/*
 * A driver's virtqueue, written from VIRTIO 1.2 sections 2.7 and 2.8 and not
 * from the back-ends' headers, so that both sides cannot share a mistake.
 */
#include "tests/unit/driver.h"

#include <string.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 0x80, USED = 0x8000 };

void *driver_at(const struct driver *d, uint64_t addr)
{
    return d->mem + (addr - d->base);
}

static uint16_t load16(const struct driver *d, uint64_t addr)
{
    return __atomic_load_n((uint16_t *)driver_at(d, addr), __ATOMIC_ACQUIRE);
}

static void store16(const struct driver *d, uint64_t addr, unsigned value)
{
    __atomic_store_n((uint16_t *)driver_at(d, addr), (uint16_t)value,
                     __ATOMIC_RELEASE);
}

static void fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint64_t round_up(uint64_t value)
{
    return (value + 63) & ~UINT64_C(63);
}

uint64_t driver_footprint(unsigned size)
{
    return round_up(size * 16u) + round_up(6 + 2 * size) +
           round_up(6 + 8 * size) + size * DRIVER_MAX_TABLE * 16u;
}

void driver_init(struct driver *d, uint8_t *mem, uint64_t base, uint64_t at,
                 unsigned size, uint64_t features)
{
    *d = (struct driver){
        .mem = mem,
        .base = base,
        .size = size,
        .indirect = features >> 28 & 1,
        .event_idx = features >> 29 & 1,
        .packed = features >> 34 & 1,
        .desc = at,
        .wrap = true,
        .seen_wrap = true,
        .free = size,
        .n_ids = size,
    };
    d->avail = at + round_up(size * 16u);
    d->used = d->avail + round_up(6 + 2 * size);
    d->table = d->used + round_up(6 + 8 * size);
    for (unsigned i = 0; i < size; i++)
        d->id[i] = (uint16_t)(size - 1 - i);
}

static void put_desc(const struct driver *d, uint64_t at, uint64_t addr,
                     uint32_t len, unsigned third, unsigned fourth)
{
    uint8_t *p = driver_at(d, at);
    uint16_t words[2] = { (uint16_t)third, (uint16_t)fourth };

    memcpy(p, &addr, 8);
    memcpy(p + 8, &len, 4);
    memcpy(p + 12, words, d->packed ? 2 : 4);
    if (d->packed) /* flags, after all else */
        store16(d, at + 14, fourth);
}

static unsigned flags_of(const struct buffer *b, unsigned i, unsigned n)
{
    return (b[i].writable ? WRITE : 0u) | (i + 1 < n ? NEXT : 0u);
}

/* The table of an id, filled; returns its address. */
static uint64_t fill_table(const struct driver *d, uint16_t id,
                           const struct buffer *b, unsigned n)
{
    uint64_t table = d->table + id * DRIVER_MAX_TABLE * 16u;

    for (unsigned i = 0; i < n; i++) {
        if (d->packed)
            put_desc(d, table + i * 16u, b[i].addr, b[i].len, 0,
                     b[i].writable ? WRITE : 0);
        else
            put_desc(d, table + i * 16u, b[i].addr, b[i].len, flags_of(b, i, n),
                     i + 1);
    }
    return table;
}

static void add_split(struct driver *d, uint16_t id, const struct buffer *b,
                      unsigned n, uint64_t table)
{
    uint16_t index = id;

    /* the head's number is the id; the others come off the stack below it */
    if (table)
        put_desc(d, d->desc + index * 16u, table, n * 16u, INDIRECT, 0);
    for (unsigned i = 0; !table && i < n; i++) {
        uint16_t next = i + 1 < n ? d->id[--d->n_ids] : 0;

        put_desc(d, d->desc + index * 16u, b[i].addr, b[i].len,
                 flags_of(b, i, n), next);
        index = next;
    }
    store16(d, d->avail + 4 + (d->next & (d->size - 1)) * 2u, id);
    d->next++;
    store16(d, d->avail + 2, d->next);
}

static void add_packed(struct driver *d, uint16_t id, const struct buffer *b,
                       unsigned n, uint64_t table)
{
    uint64_t first = d->desc + d->next * 16u;
    unsigned first_flags = 0;
    struct buffer whole = { table, n * 16u, false };

    for (unsigned i = 0; i < (table ? 1 : n); i++) {
        const struct buffer *one = table ? &whole : &b[i];
        unsigned flags = (table ? INDIRECT : flags_of(b, i, n)) |
                         (unsigned)(d->wrap ? AVAIL : USED);

        if (i == 0) { /* made available last: not yet */
            first_flags = flags;
            flags = d->wrap ? 0 : AVAIL | USED;
        }
        put_desc(d, d->desc + d->next * 16u, one->addr, one->len, id, flags);
        if (++d->next == d->size) {
            d->next = 0;
            d->wrap = !d->wrap;
        }
    }
    store16(d, first + 14, first_flags);
}

int driver_add(struct driver *d, const struct buffer *b, unsigned n)
{
    bool indirect = d->indirect && n > 1 && n <= DRIVER_MAX_TABLE;
    unsigned slots = indirect ? 1 : n;

    if (slots > d->free || slots > d->n_ids)
        return -1;

    uint16_t id = d->id[--d->n_ids];
    uint64_t table = indirect ? fill_table(d, id, b, n) : 0;

    d->slots[id] = (uint16_t)slots;
    d->free -= slots;
    if (d->packed)
        add_packed(d, id, b, n, table);
    else
        add_split(d, id, b, n, table);
    return id;
}

bool driver_must_kick(struct driver *d)
{
    uint16_t old = d->kicked, now = d->next;

    d->kicked = now;
    fence();
    if (!d->packed) {
        if (!d->event_idx)
            return !(load16(d, d->used) & 1);

        uint16_t event = load16(d, d->used + 4 + d->size * 8u);

        return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
    }

    unsigned flags = load16(d, d->used + 2), off = load16(d, d->used);

    if (flags != 2)
        return flags == 0;

    uint16_t event = off & 0x7fff;

    if (off >> 15 != d->wrap)
        event -= (uint16_t)d->size;
    if (now <= old) /* went round since then */
        old -= (uint16_t)d->size;
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static int free_id(struct driver *d, unsigned id)
{
    d->free += d->slots[id];
    if (!d->packed && d->slots[id] > 1) { /* follow the chain of descriptors */
        unsigned index = id;

        for (unsigned i = 1; i < d->slots[id]; i++) {
            index = load16(d, d->desc + index * 16u + 14);
            d->id[d->n_ids++] = (uint16_t)index;
        }
    }
    d->id[d->n_ids++] = (uint16_t)id;
    return (int)id;
}

int driver_get(struct driver *d, uint32_t *len)
{
    if (!d->packed) {
        uint64_t at = d->used + 4 + (d->seen & (d->size - 1)) * 8u;
        uint32_t elem[2];

        if (load16(d, d->used + 2) == d->seen)
            return -1;
        memcpy(elem, driver_at(d, at), sizeof elem);
        d->seen++;
        *len = elem[1];
        return free_id(d, elem[0]);
    }

    uint64_t at = d->desc + d->seen * 16u;
    unsigned flags = load16(d, at + 14);
    uint16_t id;

    if (!!(flags & AVAIL) != d->seen_wrap || !!(flags & USED) != d->seen_wrap)
        return -1;
    memcpy(len, driver_at(d, at + 8), 4);
    memcpy(&id, driver_at(d, at + 12), 2);
    d->seen += d->slots[id];
    if (d->seen >= d->size) {
        d->seen -= (uint16_t)d->size;
        d->seen_wrap = !d->seen_wrap;
    }
    return free_id(d, id);
}

bool driver_listen(struct driver *d, unsigned count)
{
    if (!d->packed) {
        if (d->event_idx)
            store16(d, d->avail + 4 + d->size * 2u,
                    (uint16_t)(d->seen + (count ? count - 1 : 0x7fff)));
        else
            store16(d, d->avail, !count);
        fence();
        return load16(d, d->used + 2) != d->seen;
    }
    if (count && d->event_idx) {
        unsigned at = d->seen + count - 1;
        bool wrap = d->seen_wrap;

        if (at >= d->size) {
            at -= d->size;
            wrap = !wrap;
        }
        store16(d, d->avail, at | (unsigned)wrap << 15);
        store16(d, d->avail + 2, 2);
    } else {
        store16(d, d->avail + 2, !count);
    }
    fence();

    unsigned flags = load16(d, d->desc + d->seen * 16u + 14);

    return !!(flags & AVAIL) == d->seen_wrap &&
           !!(flags & USED) == d->seen_wrap;
}
