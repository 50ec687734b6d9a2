/*
 * What split and packed queues share: their memory, their place in the device's
 * registers, and which requests are under way. The device's half is not
 * trusted: an answer to nothing fails the guest, since a device that gives one
 * is what a test is there to find.
 */
#include "virtio.h"

static void write_address(const struct virtio *dev, unsigned reg,
                          const void *at)
{
    virtio_write(dev, reg, (uint32_t)(uintptr_t)at);
    virtio_write(dev, reg + 4, (uint32_t)((uintptr_t)at >> 32));
}

static void clear(struct queue *q)
{
    q->n_ids = q->room = q->size;
    q->under_way = 0;
    q->next = q->kicked = q->last_used = 0;
    q->next_wrap = q->used_wrap = true;
    for (unsigned i = 0; i < q->size; i++) {
        q->ids[i] = (uint16_t)(q->size - 1 - i);
        q->slots[i].count = 0;
    }
    if (q->packed)
        packed_init(q);
    else
        split_init(q);
}

static const char *show(const struct queue *q)
{
    const struct virtio *dev = q->dev;

    virtio_write(dev, REG_QUEUE_SEL, q->index);
    if (virtio_read(dev, REG_QUEUE_READY) != 0)
        return "queue is ready before it was set up";
    virtio_write(dev, REG_QUEUE_NUM, q->size);
    write_address(dev, REG_QUEUE_DESC, q->desc);
    write_address(dev, REG_QUEUE_DRIVER, q->driver);
    write_address(dev, REG_QUEUE_DEVICE, q->device);
    virtio_write(dev, REG_QUEUE_READY, 1);
    if (virtio_read(dev, REG_QUEUE_READY) != 1)
        return "queue does not get ready";
    return NULL;
}

const char *queue_again(struct queue *q)
{
    clear(q);
    return show(q);
}

const char *queue_prepare(struct queue *q, struct virtio *dev, unsigned index,
                          unsigned size)
{
    uint32_t max;

    virtio_write(dev, REG_QUEUE_SEL, index);
    max = virtio_read(dev, REG_QUEUE_NUM_MAX);
    if (max == 0)
        return "queue is not there";
    while (size > max)
        size /= 2;
    memset(q, 0, sizeof *q);
    q->dev = dev;
    q->index = index;
    q->size = size;
    q->packed = (dev->accepted & FEATURE_PACKED) != 0;
    q->event_idx = (dev->accepted & FEATURE_EVENT_IDX) != 0;
    q->indirect = (dev->accepted & FEATURE_INDIRECT) != 0;
    q->desc = memory_take(size * sizeof *q->desc, 16);
    q->driver = memory_take(6 + 2 * size, 4);
    q->device = memory_take(6 + 8 * size, 4);
    q->slots = memory_take(size * sizeof *q->slots, 8);
    q->chain = memory_take(size * sizeof *q->chain, 8);
    q->ids = memory_take(size * sizeof *q->ids, 8);
    if (q->indirect)
        q->tables = memory_take(size * SEGMENTS_MAX * sizeof *q->tables, 16);
    clear(q);
    return NULL;
}

const char *queue_init(struct queue *q, struct virtio *dev, unsigned index,
                       unsigned size)
{
    const char *error = queue_prepare(q, dev, index, size);

    return error != NULL ? error : show(q);
}

const char *queue_reset(struct queue *q)
{
    struct virtio *dev = q->dev;
    uint64_t deadline = time_after(1000);

    virtio_write(dev, REG_QUEUE_SEL, q->index);
    virtio_write(dev, REG_QUEUE_RESET, 1);
    while (virtio_read(dev, REG_QUEUE_RESET) != 0) {
        if (time_now() >= deadline)
            return "queue reset does not end";
        __asm__ volatile("pause");
    }
    if (virtio_read(dev, REG_QUEUE_READY) != 0)
        return "queue is ready after its reset";
    return NULL;
}

bool queue_add(struct queue *q, const struct segment *segments, unsigned n,
               uint32_t tag)
{
    if (n > SEGMENTS_MAX || q->room < (q->indirect ? 1 : n))
        return false;
    if (q->packed)
        packed_add(q, segments, n, tag);
    else
        split_add(q, segments, n, tag);
    q->under_way++;
    return true;
}

void queue_kick(struct queue *q)
{
    /* 2.7.13.4.1: the index first, then whether the device wants to know */
    full_barrier();
    if (q->packed ? packed_wants_kick(q) : split_wants_kick(q))
        virtio_write(q->dev, REG_QUEUE_NOTIFY, q->index);
}

bool queue_get(struct queue *q, uint32_t *tag, uint32_t *size)
{
    if (q->packed ? !packed_get(q, tag, size) : !split_get(q, tag, size))
        return false;
    q->under_way--;
    return true;
}

bool queue_ask(struct queue *q, const struct segment *segments, unsigned n,
               uint32_t *size, uint64_t milliseconds)
{
    uint64_t deadline = time_after(milliseconds);
    uint32_t tag;

    if (!queue_add(q, segments, n, 0))
        return false;
    queue_kick(q);
    do {
        if (!virtio_wait(q->dev, deadline))
            return false;
    } while (!queue_get(q, &tag, size));
    return true;
}

uint16_t queue_take_id(struct queue *q)
{
    return q->ids[--q->n_ids];
}

uint32_t queue_done(struct queue *q, unsigned id)
{
    if (id >= q->size || q->slots[id].count == 0)
        exit_fail("virtio%u queue %u: an answer to nothing, id %u",
                  q->dev->number, q->index, id);
    q->slots[id].count = 0;
    return q->slots[id].tag;
}

void queue_begin(struct queue *q, struct virtio *dev)
{
    const char *error = virtio_open(dev);

    if (error == NULL)
        error = virtio_negotiate(dev, virtio_wanted());
    if (error == NULL)
        error = queue_init(q, dev, 0, 8);
    if (error != NULL)
        exit_fail("virtio%u: %s", dev->number, error);
    virtio_start(dev);
}
