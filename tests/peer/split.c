/*
 * Split rings (VIRTIO 1.2, 2.7): descriptor chains, indirect tables and both
 * ways of notification suppression. One buffer at a time, in order.
 */
#include "peer.h"

#include <endian.h>
#include <string.h>

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static uint16_t load(const uint8_t *at)
{
    return le16toh(
        __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE));
}

static void store(uint8_t *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)at, htole16(value), __ATOMIC_RELEASE);
}

static struct desc get(const uint8_t *table, uint32_t i)
{
    struct desc d;

    memcpy(&d, table + 16 * (size_t)i, sizeof d);
    d.addr = le64toh(d.addr);
    d.len = le32toh(d.len);
    d.flags = le16toh(d.flags);
    d.next = le16toh(d.next);
    return d;
}

/* The number of segments of the chain at head, or -1 if it is no chain. */
static int walk(struct peer *p, const struct ring *r, uint16_t head)
{
    const uint8_t *table = r->desc;
    uint32_t size = r->num, at = head;
    bool indirect = false;
    unsigned n = 0;

    for (uint32_t steps = 0; steps < size; steps++) {
        if (at >= size)
            return -1;
        struct desc d = get(table, at);

        if (d.flags & DESC_INDIRECT) {
            if (indirect || d.flags & DESC_NEXT || !d.len || d.len % 16 ||
                !(p->c.features >> F_INDIRECT & 1))
                return -1;
            table = memory_guest(&p->c, d.addr, d.len);
            if (!table)
                return -1;
            size = d.len / 16;
            at = 0;
            indirect = true;
            steps = UINT32_MAX; /* the table is counted anew */
            continue;
        }
        if (!ring_segment(p, &n, d.addr, d.len, d.flags & DESC_WRITE))
            return -1;
        if (!(d.flags & DESC_NEXT))
            return (int)n;
        at = d.next;
    }
    return -1;
}

static bool wants_call(const struct peer *p, const struct ring *r, uint16_t old)
{
    if (!(p->c.features >> F_EVENT_IDX & 1))
        return !(load(r->avail) & 1);
    uint16_t event = load(r->avail + 4 + 2 * (size_t)r->num);

    return (uint16_t)(r->used_idx - event - 1) < (uint16_t)(r->used_idx - old);
}

unsigned split_run(struct peer *p, unsigned index, bool *call)
{
    struct ring *r = &p->c.ring[index];
    const uint16_t old = r->used_idx;
    unsigned served = 0;

    while (served < 4 * r->num) {
        if (load(r->avail + 2) == r->avail_idx) {
            if (!(p->c.features >> F_EVENT_IDX & 1))
                break;
            store(r->used + 4 + 8 * (size_t)r->num, r->avail_idx);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            if (load(r->avail + 2) == r->avail_idx)
                break;
        }
        if ((uint16_t)(load(r->avail + 2) - r->avail_idx) > r->num) {
            ring_break(p, index, "avail idx runs past the ring");
            break;
        }
        uint16_t head =
            load(r->avail + 4 + 2 * (size_t)(r->avail_idx & (r->num - 1)));
        int n = walk(p, r, head);

        if (n < 0) {
            ring_break(p, index, "a descriptor chain makes no sense");
            break;
        }
        uint32_t entry[2] = { htole32(head),
                              htole32(ring_serve(p, (unsigned)n)) };

        memcpy(r->used + 4 + 8 * (size_t)(r->used_idx & (r->num - 1)), entry,
               sizeof entry);
        r->avail_idx++;
        /* the entry before the index: the driver polls the index */
        store(r->used + 2, ++r->used_idx);
        served++;
        if (p->options.vring_err_after &&
            p->served >= p->options.vring_err_after)
            break;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (served)
        *call = wants_call(p, r, old);
    r->pending = served >= 4 * r->num;
    return served;
}
