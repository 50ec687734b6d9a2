/*
 * Packed queues (VIRTIO 1.2, 2.8), with indirect descriptors (2.8.7) and event
 * suppression by descriptor (2.8.10) where EVENT_IDX was accepted.
 */
#include "virtio.h"

#define DESC_NEXT     0x0001u
#define DESC_WRITE    0x0002u
#define DESC_INDIRECT 0x0004u
#define DESC_AVAIL    0x0080u
#define DESC_USED     0x8000u

/* Event suppression: offset and wrap counter, then flags (2.8.10). */
#define EVENT_OFFSET  0u
#define EVENT_FLAGS   1u
#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_DESC    2u
#define EVENT_WRAP    15u

/* A packed descriptor's last two fields lie the other way round. */
static uint16_t *desc_id(struct queue_desc *desc)
{
    return &desc->flags;
}

static volatile uint16_t *desc_flags(struct queue_desc *desc)
{
    return &desc->next;
}

static void ask_for_event(struct queue *q)
{
    if (!q->event_idx)
        return;
    *(volatile uint16_t *)&q->driver[EVENT_OFFSET] =
        (uint16_t)(q->last_used | (unsigned)q->used_wrap << EVENT_WRAP);
    barrier();
    *(volatile uint16_t *)&q->driver[EVENT_FLAGS] = EVENT_DESC;
}

void packed_init(struct queue *q)
{
    memset(q->desc, 0, q->size * sizeof *q->desc);
    memset(q->driver, 0, 4);
    memset(q->device, 0, 4);
    ask_for_event(q);
}

static uint16_t wrap_flags(bool wrap)
{
    return wrap ? DESC_AVAIL : DESC_USED;
}

static void advance(struct queue *q)
{
    q->room--;
    if (++q->next == q->size) {
        q->next = 0;
        q->next_wrap = !q->next_wrap;
    }
}

static void add_indirect(struct queue *q, const struct segment *segments,
                         unsigned n, uint16_t id)
{
    struct queue_desc *table = q->tables + SEGMENTS_MAX * id;
    struct queue_desc *desc = &q->desc[q->next];

    for (unsigned i = 0; i < n; i++) {
        table[i].address = (uintptr_t)segments[i].at;
        table[i].size = segments[i].size;
        *desc_id(&table[i]) = 0;
        *desc_flags(&table[i]) = segments[i].write ? DESC_WRITE : 0;
    }
    desc->address = (uintptr_t)table;
    desc->size = n * (uint32_t)sizeof *table;
    *desc_id(desc) = id;
    barrier();
    *desc_flags(desc) = (uint16_t)(DESC_INDIRECT | wrap_flags(q->next_wrap));
    q->slots[id].count = 1;
    advance(q);
}

static void add_chain(struct queue *q, const struct segment *segments,
                      unsigned n, uint16_t id)
{
    struct queue_desc *head = &q->desc[q->next];
    uint16_t head_flags = 0;

    for (unsigned i = 0; i < n; i++) {
        struct queue_desc *desc = &q->desc[q->next];
        unsigned flags = wrap_flags(q->next_wrap) |
                         (segments[i].write ? DESC_WRITE : 0) |
                         (i + 1 < n ? DESC_NEXT : 0);

        desc->address = (uintptr_t)segments[i].at;
        desc->size = segments[i].size;
        *desc_id(desc) = id;
        if (i == 0)
            head_flags = (uint16_t)flags;
        else
            *desc_flags(desc) = (uint16_t)flags;
        advance(q);
    }
    /* 2.8.21.1: the head's flags make all of the list available */
    barrier();
    *desc_flags(head) = head_flags;
    q->slots[id].count = (uint16_t)n;
}

void packed_add(struct queue *q, const struct segment *segments, unsigned n,
                uint32_t tag)
{
    uint16_t id = queue_take_id(q);

    if (q->indirect)
        add_indirect(q, segments, n, id);
    else
        add_chain(q, segments, n, id);
    q->slots[id].tag = tag;
}

bool packed_wants_kick(struct queue *q)
{
    const volatile uint16_t *device = q->device;
    uint16_t flags = device[EVENT_FLAGS] & 3;
    uint16_t before = q->kicked, event;

    q->kicked = q->next;
    if (flags != EVENT_DESC)
        return flags != EVENT_DISABLE;
    event = device[EVENT_OFFSET];
    /* positions of the other lap count as below this one's (2.8.21.3.1) */
    if ((event >> EVENT_WRAP) != (q->next_wrap ? 1u : 0u))
        event = (uint16_t)((event & 0x7fff) - q->size);
    else
        event &= 0x7fff;
    /* a whole lap at once ends where it began */
    if (before >= q->next)
        before = (uint16_t)(before - q->size);
    return (uint16_t)(q->next - event - 1) < (uint16_t)(q->next - before);
}

static bool is_used(struct queue *q)
{
    uint16_t flags = *desc_flags(&q->desc[q->last_used]);
    bool avail = (flags & DESC_AVAIL) != 0, used = (flags & DESC_USED) != 0;

    return avail == used && used == q->used_wrap;
}

bool packed_get(struct queue *q, uint32_t *tag, uint32_t *size)
{
    struct queue_desc *desc = &q->desc[q->last_used];
    unsigned id, count;

    if (!is_used(q)) {
        if (!q->event_idx)
            return false;
        /* the device may not have seen the event offset in time (2.8.10) */
        full_barrier();
        if (!is_used(q))
            return false;
    }
    barrier();
    id = *desc_id(desc);
    *size = *(volatile uint32_t *)&desc->size;
    count = id < q->size ? q->slots[id].count : 0;
    *tag = queue_done(q, id);
    q->ids[q->n_ids++] = (uint16_t)id;
    q->room += count;
    q->last_used = (uint16_t)(q->last_used + count);
    if (q->last_used >= q->size) {
        q->last_used = (uint16_t)(q->last_used - q->size);
        q->used_wrap = !q->used_wrap;
    }
    ask_for_event(q);
    return true;
}
