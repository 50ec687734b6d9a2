/*
 * Split queues (VIRTIO 1.2, 2.7), with indirect descriptors (2.7.5.3) and event
 * indices (2.7.10) where they were accepted.
 */
#include "virtio.h"

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

/* Both rings are arrays of 16 bits: flags, index, entries, event. */
#define AVAIL_INDEX 1u
#define AVAIL_RING  2u
#define USED_INDEX  1u
#define USED_RING   2u /* four words an entry: id and length */

static uint16_t load(const uint16_t *at)
{
    return *(const volatile uint16_t *)at;
}

static uint16_t *used_event(struct queue *q)
{
    return q->driver + AVAIL_RING + q->size;
}

static const uint16_t *avail_event(const struct queue *q)
{
    return q->device + USED_RING + 4 * q->size;
}

void split_init(struct queue *q)
{
    memset(q->driver, 0, 6 + 2 * q->size);
    memset(q->device, 0, 6 + 8 * q->size);
}

static void fill(struct queue_desc *desc, const struct segment *segment)
{
    desc->address = (uintptr_t)segment->at;
    desc->size = segment->size;
    desc->flags = segment->write ? DESC_WRITE : 0;
    desc->next = 0;
}

static unsigned add_chain(struct queue *q, const struct segment *segments,
                          unsigned n)
{
    unsigned head = queue_take_id(q);
    unsigned at = head;

    for (unsigned i = 0; i < n; i++) {
        fill(&q->desc[at], &segments[i]);
        if (i + 1 == n)
            break;
        q->chain[at] = queue_take_id(q);
        q->desc[at].flags |= DESC_NEXT;
        q->desc[at].next = q->chain[at];
        at = q->chain[at];
    }
    q->slots[head].count = (uint16_t)n;
    return head;
}

static unsigned add_indirect(struct queue *q, const struct segment *segments,
                             unsigned n)
{
    unsigned head = queue_take_id(q);
    struct queue_desc *table = q->tables + SEGMENTS_MAX * head;

    for (unsigned i = 0; i < n; i++) {
        fill(&table[i], &segments[i]);
        if (i + 1 < n) {
            table[i].flags |= DESC_NEXT;
            table[i].next = (uint16_t)(i + 1);
        }
    }
    q->desc[head].address = (uintptr_t)table;
    q->desc[head].size = n * (uint32_t)sizeof *table;
    q->desc[head].flags = DESC_INDIRECT;
    q->desc[head].next = 0;
    q->slots[head].count = 1;
    return head;
}

void split_add(struct queue *q, const struct segment *segments, unsigned n,
               uint32_t tag)
{
    unsigned head =
        q->indirect ? add_indirect(q, segments, n) : add_chain(q, segments, n);

    q->room -= q->slots[head].count;
    q->slots[head].tag = tag;
    q->driver[AVAIL_RING + q->next % q->size] = (uint16_t)head;
    q->next++;
    /* 2.7.13.3: entries before the index */
    barrier();
    *(volatile uint16_t *)&q->driver[AVAIL_INDEX] = q->next;
}

bool split_wants_kick(struct queue *q)
{
    uint16_t before = q->kicked;

    q->kicked = q->next;
    if (!q->event_idx)
        return (load(&q->device[0]) & 1) == 0;
    /* whether the index passed the event (2.7.10.1) */
    return (uint16_t)(q->next - load(avail_event(q)) - 1) <
           (uint16_t)(q->next - before);
}

bool split_get(struct queue *q, uint32_t *tag, uint32_t *size)
{
    const volatile uint16_t *entry;
    unsigned id, count;

    if (load(&q->device[USED_INDEX]) == q->last_used) {
        if (!q->event_idx)
            return false;
        /* the device may not have seen the event index in time (2.7.10) */
        full_barrier();
        if (load(&q->device[USED_INDEX]) == q->last_used)
            return false;
    }
    barrier();
    entry = q->device + USED_RING + 4 * (q->last_used % q->size);
    id = entry[0] | (unsigned)entry[1] << 16;
    *size = entry[2] | (uint32_t)entry[3] << 16;
    q->last_used++;
    *(volatile uint16_t *)used_event(q) = q->last_used;
    count = id < q->size ? q->slots[id].count : 0;
    *tag = queue_done(q, id);
    q->room += count;
    for (; count > 0; count--) {
        q->ids[q->n_ids++] = (uint16_t)id;
        id = q->chain[id];
    }
    return true;
}
