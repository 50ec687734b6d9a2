/*
 * Keeps requests of one shape under way on one queue of the first device, of
 * whatever type, until so many were answered, and says nothing meanwhile: what
 * a run costs besides shows as the difference of two counts.
 *
 *   queue=N count=N depth=N   queue 0, 100 requests, 8 at a time
 *   head=HEX out=BYTES in=BYTES   a request: these bytes, so many more that the
 *                             device reads, and room for so many; in=64
 *   judge                     the last byte written must be 0, as on a disk
 *   hold                      print a line and wait for a byte from the console
 *   packed event-idx indirect
 *
 * It knows no time, since a clock that ticks costs something, too: a run of it
 * is limited from outside.
 */
#include "virtio.h"

#define DEPTH_MAX 64u
#define HEAD_MAX  64u

struct flow {
    struct virtio dev;
    struct queue queue;
    uint8_t *buffers;
    uint32_t head, out, in, stride;
    bool judge;
};

/* Request number n, which is not under way. */
static void ask(struct flow *f, uint32_t n)
{
    uint8_t *at = f->buffers + (uint64_t)n * f->stride;
    struct segment segments[2];
    unsigned count = 0;

    if (f->head + f->out > 0)
        segments[count++] = (struct segment){ at, f->head + f->out, false };
    at += f->head + f->out;
    if (f->in > 0)
        segments[count++] = (struct segment){ at, f->in, true };
    if (f->judge)
        at[f->in - 1] = 0xff;
    if (!queue_add(&f->queue, segments, count, n))
        exit_fail("queue %u has no room", f->queue.index);
}

static void judge(const struct flow *f, uint32_t n)
{
    const volatile uint8_t *last =
        f->buffers + (uint64_t)n * f->stride + f->head + f->out + f->in - 1;

    if (f->judge && *last != 0)
        exit_fail("a request ended with status %u", *last);
}

static void exchange(struct flow *f, uint64_t count, uint64_t depth)
{
    uint64_t sent = 0, got = 0;
    uint32_t n, size;

    for (; sent < count && sent < depth; sent++)
        ask(f, (uint32_t)sent);
    queue_kick(&f->queue);
    while (got < count) {
        uint64_t before = sent;

        virtio_wait(&f->dev, TIME_NEVER);
        while (queue_get(&f->queue, &n, &size)) {
            got++;
            judge(f, n);
            if (sent < count) {
                ask(f, n);
                sent++;
            }
        }
        if (sent != before)
            queue_kick(&f->queue);
    }
}

static void begin(struct flow *f, uint64_t depth)
{
    char text[2 * HEAD_MAX + 1];
    uint8_t head[HEAD_MAX];
    struct tree_walk walk;
    const char *error;

    if (option_text("head", text, sizeof text))
        f->head = (uint32_t)option_hex(text, head, sizeof head);
    f->out = (uint32_t)option_number("out", 0);
    f->in = (uint32_t)option_number("in", 64);
    f->judge = option_flag("judge") && f->in > 0;
    f->stride = (f->head + f->out + f->in + 63) & ~63u;
    if (f->stride == 0 || depth == 0 || depth > DEPTH_MAX)
        exit_fail("give a size, and a depth of 1 to %u", DEPTH_MAX);
    tree_begin(&walk);
    if (!tree_next(&walk, &f->dev))
        exit_fail("there is no device");
    error = virtio_open(&f->dev);
    if (error == NULL)
        error = virtio_negotiate(&f->dev, virtio_wanted());
    if (error == NULL)
        error = queue_init(&f->queue, &f->dev,
                           (unsigned)option_number("queue", 0), 4 * DEPTH_MAX);
    if (error != NULL)
        exit_fail("virtio%u: %s", f->dev.number, error);
    f->buffers = memory_take(f->stride * depth, 64);
    for (uint64_t n = 0; n < depth; n++) {
        memcpy(f->buffers + n * f->stride, head, f->head);
        memset(f->buffers + n * f->stride + f->head, 0, f->out);
    }
    virtio_start(&f->dev);
}

int guest_main(void)
{
    static struct flow f;
    uint64_t depth = option_number("depth", 8);

    begin(&f, depth);
    exchange(&f, option_number("count", 100), depth);
    if (option_flag("hold"))
        uart_hold();
    return 0;
}
