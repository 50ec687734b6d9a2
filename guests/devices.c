/*
 * Takes every virtio device of the tree in turn, whatever it is: prints what it
 * says of itself, gives every queue a writable buffer of 64 bytes and prints
 * what came back. An answer counts only once an interrupt has announced it.
 *
 *   count=N depth=N ring=N   requests a queue, how many at a time, ring size
 *   packed event-idx indirect ring-reset   accept that feature and use it
 *   reset=N                  so many more lives a device, one request a queue
 *   strict                   a queue without an answer fails the guest
 *   patience=S               seconds that an answer may take: 30 if strict,
 *                              else 1
 *   hold                     wait for the console after each device's first
 *                            life, and after its last
 */
#include "virtio.h"

#define BUFFER_SIZE 64u

struct options {
    uint64_t count, depth, ring, resets;
    uint64_t patience; /* milliseconds */
    uint64_t accept;
    bool strict, ring_reset, hold;
};

/* The first thing that went wrong anywhere, for strict. */
static char failure[160];

static void note_failure(const struct virtio *dev, const char *what)
{
    print("virtio%u: %s\n", dev->number, what);
    if (failure[0] == '\0')
        print_into(failure, sizeof failure, "virtio%u: %s", dev->number, what);
}

static bool ask(struct queue *q, uint8_t *buffers, uint32_t number)
{
    struct segment segment = { buffers + BUFFER_SIZE * number, BUFFER_SIZE,
                               true };

    memset(segment.at, 0, BUFFER_SIZE);
    return queue_add(q, &segment, 1, number);
}

/*
 * So many requests, depth of them at a time. True if all were answered; *last
 * and *size are those of the last answer that came.
 */
static bool exchange(struct queue *q, uint8_t *buffers, uint64_t count,
                     uint64_t depth, uint64_t patience, uint32_t *last,
                     uint32_t *size)
{
    uint64_t sent = 0, got = 0;

    while (sent < count && sent < depth && ask(q, buffers, (uint32_t)sent))
        sent++;
    queue_kick(q);
    while (got < count) {
        uint64_t before = sent;

        if (!virtio_wait(q->dev, time_after(patience)))
            return false;
        while (queue_get(q, last, size)) {
            got++;
            if (sent < count && ask(q, buffers, *last))
                sent++;
        }
        if (sent != before)
            queue_kick(q);
    }
    return true;
}

static void report(const struct queue *q, const uint8_t *buffers, bool answered,
                   uint32_t last, uint32_t size)
{
    if (!answered) {
        print("virtio%u queue %u: no answer\n", q->dev->number, q->index);
        if (failure[0] == '\0')
            print_into(failure, sizeof failure, "virtio%u queue %u: no answer",
                       q->dev->number, q->index);
        return;
    }
    if (size > BUFFER_SIZE)
        size = BUFFER_SIZE;
    print("virtio%u queue %u: %u bytes ", q->dev->number, q->index, size);
    print_hex(buffers + BUFFER_SIZE * last, size);
    print("\n");
}

/* From reset to DRIVER_OK with all queues set up. */
static const char *bring_up(struct virtio *dev, struct queue *queues,
                            const struct options *o)
{
    const char *error = virtio_negotiate(dev, o->accept);

    for (unsigned i = 0; i < dev->n_queues && error == NULL; i++)
        error = queue_init(&queues[i], dev, i, (unsigned)o->ring);
    if (error == NULL)
        virtio_start(dev);
    return error;
}

static void again_by_ring_reset(struct queue *q, uint8_t *buffers,
                                uint64_t patience)
{
    const char *error = queue_reset(q);
    uint32_t last = 0, size = 0;
    bool answered;

    if (error == NULL)
        error = queue_again(q);
    if (error != NULL) {
        note_failure(q->dev, error);
        return;
    }
    answered = exchange(q, buffers, 1, 1, patience, &last, &size);
    report(q, buffers, answered, last, size);
}

static void one_life(struct virtio *dev, struct queue *queues, uint8_t *buffers,
                     const struct options *o)
{
    const char *error = bring_up(dev, queues, o);

    if (error != NULL) {
        note_failure(dev, error);
        return;
    }
    for (unsigned i = 0; i < dev->n_queues; i++) {
        uint32_t last = 0, size = 0;
        bool answered = exchange(&queues[i], buffers, o->count, o->depth,
                                 o->patience, &last, &size);

        report(&queues[i], buffers, answered, last, size);
        /* what was not answered may still be written to */
        if (!answered)
            buffers = memory_take(BUFFER_SIZE * o->depth, 64);
    }
    if (o->ring_reset && (dev->accepted & FEATURE_RING_RESET) != 0)
        for (unsigned i = 0; i < dev->n_queues; i++)
            again_by_ring_reset(&queues[i], buffers, o->patience);
}

static void more_lives(struct virtio *dev, struct queue *queues,
                       uint8_t *buffers, const struct options *o)
{
    uint64_t mark = memory_mark();

    for (uint64_t n = 0; n < o->resets; n++) {
        const char *error = bring_up(dev, queues, o);
        uint32_t last, size;

        if (error != NULL) {
            note_failure(dev, error);
            return;
        }
        for (unsigned i = 0; i < dev->n_queues; i++) {
            if (!exchange(&queues[i], buffers, 1, 1, o->patience, &last,
                          &size)) {
                note_failure(dev, "no answer after a reset");
                return;
            }
        }
        virtio_reset(dev);
        memory_release(mark);
    }
    if (o->resets > 0)
        print("virtio%u: %lu resets\n", dev->number, o->resets);
}

static void hold_between(struct virtio *dev, struct queue *queues,
                         uint8_t *buffers, const struct options *o)
{
    if (o->hold)
        uart_hold();
    more_lives(dev, queues, buffers, o);
    if (o->hold)
        uart_hold();
}

static void print_config(const struct virtio *dev)
{
    uint8_t *bytes = memory_take(dev->config_size, 4);

    virtio_config_read(dev, 0, bytes, dev->config_size);
    print("virtio%u config: ", dev->number);
    print_hex(bytes, dev->config_size);
    print("\n");
}

static void try_device(struct virtio *dev, const struct options *o)
{
    uint64_t mark = memory_mark();
    const char *error = virtio_open(dev);
    struct queue *queues;
    uint8_t *buffers;

    print("virtio%u: id %u at %#lx irq %u queues %u config %u "
          "features %#lx\n",
          dev->number, dev->id, dev->base, dev->pin, dev->n_queues,
          dev->config_size, dev->offered);
    if (error != NULL) {
        note_failure(dev, error);
        return;
    }
    if (dev->id == 0) /* 4.2.2: a place without a device */
        return;
    if (dev->config_size > 0)
        print_config(dev);
    queues = memory_take(dev->n_queues * sizeof *queues, 8);
    buffers = memory_take(BUFFER_SIZE * o->depth, 64);
    one_life(dev, queues, buffers, o);
    if (virtio_needs_reset(dev))
        note_failure(dev, "needs reset");
    error = virtio_reset(dev);
    if (error != NULL)
        note_failure(dev, error);
    else
        hold_between(dev, queues, buffers, o);
    memory_release(mark);
}

static void read_options(struct options *o)
{
    o->count = option_number("count", 1);
    o->depth = option_number("depth", 1);
    o->ring = option_number("ring", 8);
    o->resets = option_number("reset", 0);
    o->strict = option_flag("strict");
    o->patience = 1000 * option_number("patience", o->strict ? 30 : 1);
    o->hold = option_flag("hold");
    o->ring_reset = option_flag("ring-reset");
    o->accept = virtio_wanted();
    if (o->count == 0 || o->depth == 0 || o->depth > 4096)
        exit_fail("count and depth are 1 or more, depth at most 4096");
    while (o->ring < o->depth)
        o->ring *= 2;
    if (o->ring == 0 || o->ring > 32768 || (o->ring & (o->ring - 1)) != 0)
        exit_fail("ring is a power of two, at most 32768");
}

int guest_main(void)
{
    struct options o;
    struct tree_walk walk;
    struct virtio dev;

    read_options(&o);
    tree_begin(&walk);
    while (tree_next(&walk, &dev))
        try_device(&dev, &o);
    if (o.strict && failure[0] != '\0')
        exit_fail("%s", failure);
    print("pass\n");
    return 0;
}
