/*
 * A guest that breaks the rules of virtio-mmio on its first device, one way
 * after another, and checks by an honest request that the device still works
 * after a reset each time. The device must answer a writable buffer on queue 0.
 *
 *   case=NAME   only this one        device=N   the Nth device, from 0
 *   resets=N    lives in the case "resets", 50
 */
#include "hostile.h"

#define BUFFER_SIZE 64u
#define PATIENCE    30000u

static void need(const char *error)
{
    if (error != NULL)
        exit_fail("%s", error);
}

void target_negotiate(struct target *t)
{
    need(virtio_negotiate(&t->dev, FEATURE_VERSION_1));
}

void target_start(struct target *t)
{
    target_negotiate(t);
    need(queue_init(&t->queue, &t->dev, 0, 8));
    virtio_start(&t->dev);
}

void target_request(struct target *t, const char *when)
{
    struct segment segment = { t->buffer, BUFFER_SIZE, true };
    uint32_t used;

    if (!queue_ask(&t->queue, &segment, 1, &used, PATIENCE))
        exit_fail("no answer %s", when);
}

/* The device as it was at first, and at work. */
static void check_alive(struct target *t, const char *name)
{
    struct virtio now = t->dev;

    need(virtio_reset(&t->dev));
    need(virtio_open(&now));
    if (now.id != t->dev.id || now.offered != t->dev.offered ||
        now.n_queues != t->dev.n_queues)
        exit_fail("%s: the device is another one: id %u, %u queues, "
                  "features %#lx",
                  name, now.id, now.n_queues, now.offered);
    target_start(t);
    target_request(t, name);
    if (virtio_needs_reset(&t->dev))
        exit_fail("%s: needs reset after an honest request", name);
    need(virtio_reset(&t->dev));
}

static void selectors(struct target *t)
{
    const struct virtio *dev = &t->dev;
    const uint32_t beyond[] = { dev->n_queues, 255,         256,        0xffff,
                                0x10000,       0x80000000u, 0xffffffffu };

    target_negotiate(t);
    for (unsigned i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        if (beyond[i] < dev->n_queues)
            continue;
        virtio_write(dev, REG_QUEUE_SEL, beyond[i]);
        virtio_write(dev, REG_QUEUE_NUM, 8);
        for (unsigned reg = REG_QUEUE_DESC; reg <= REG_QUEUE_DEVICE + 4;
             reg += 4)
            virtio_write(dev, reg, 0);
        virtio_write(dev, REG_QUEUE_READY, 1);
        virtio_write(dev, REG_QUEUE_RESET, 1);
        if (virtio_read(dev, REG_QUEUE_NUM_MAX) != 0 ||
            virtio_read(dev, REG_QUEUE_READY) != 0)
            exit_fail("queue %#x is there", beyond[i]);
        virtio_write(dev, REG_DEVICE_FEAT_SEL, beyond[i] | 2);
        if (virtio_read(dev, REG_DEVICE_FEATURES) != 0)
            exit_fail("features are there at selector %#x", beyond[i] | 2);
        virtio_write(dev, REG_DRIVER_FEAT_SEL, beyond[i] | 2);
        virtio_write(dev, REG_DRIVER_FEATURES, 0xffffffffu);
    }
}

static void notify(struct target *t)
{
    static const uint32_t wrong[] = { 1,       255,         256,        0xffff,
                                      0x10000, 0x80000000u, 0xffffffffu };

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        virtio_write(&t->dev, REG_QUEUE_NOTIFY, wrong[i]);
    virtio_write(&t->dev, REG_QUEUE_NOTIFY, 0);
    target_start(t);
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        virtio_write(&t->dev, REG_QUEUE_NOTIFY, wrong[i]);
    target_request(t, "after wrong notifications");
    for (unsigned i = 0; i < 1000; i++)
        virtio_write(&t->dev, REG_QUEUE_NOTIFY, 0);
    target_request(t, "after many notifications");
}

/* Start queue 0 with one register pair or number replaced, and kick it. */
static void start_wrong(struct target *t, unsigned reg, uint64_t value)
{
    const struct virtio *dev = &t->dev;
    struct queue *q = &t->queue;
    struct segment segment = { t->buffer, BUFFER_SIZE, true };
    uint64_t mark = memory_mark();

    target_negotiate(t);
    need(queue_prepare(q, &t->dev, 0, 8));
    virtio_write(dev, REG_QUEUE_NUM, q->size);
    for (unsigned i = 0; i < 3; i++) {
        const void *rings[3] = { q->desc, q->driver, q->device };

        virtio_write(dev, REG_QUEUE_DESC + 16 * i,
                     (uint32_t)(uintptr_t)rings[i]);
        virtio_write(dev, REG_QUEUE_DESC + 16 * i + 4, 0);
    }
    virtio_write(dev, reg, (uint32_t)value);
    if (reg != REG_QUEUE_NUM)
        virtio_write(dev, reg + 4, (uint32_t)(value >> 32));
    virtio_write(dev, REG_QUEUE_READY, 1);
    virtio_start(&t->dev);
    queue_add(q, &segment, 1, 0);
    virtio_write(dev, REG_QUEUE_NOTIFY, 0);
    need(virtio_reset(&t->dev));
    memory_release(mark);
}

static void queue_num(struct target *t)
{
    static const uint32_t fixed[] = {
        0, 3, 7, 0x8001, 0x10000, 0x10008, 0x80000000u, 0xffffffffu
    };
    uint32_t max;

    virtio_write(&t->dev, REG_QUEUE_SEL, 0);
    max = virtio_read(&t->dev, REG_QUEUE_NUM_MAX);
    for (unsigned i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        start_wrong(t, REG_QUEUE_NUM, fixed[i]);
    start_wrong(t, REG_QUEUE_NUM, max + 1);
    start_wrong(t, REG_QUEUE_NUM, 2 * max);

    /* the smallest and the largest are legal */
    for (uint32_t size = 1;; size = max) {
        target_negotiate(t);
        need(queue_init(&t->queue, &t->dev, 0, size));
        virtio_start(&t->dev);
        target_request(t,
                       size == 1 ? "in a queue of 1" : "in the largest queue");
        need(virtio_reset(&t->dev));
        if (size == max)
            break;
    }
}

static void addresses(struct target *t)
{
    const uint64_t end = memory_end();
    const uint64_t wrong[] = {
        (uintptr_t)t->buffer + 1,
        (uintptr_t)t->buffer + 2,
        end - 16,
        end - 2,
        end,
        end + 4096,
        0xbffffff0u,
        0xc0000000u,
        t->dev.base,
        0xfec00000u,
        0xfffffff0u,
        UINT64_C(1) << 40,
        UINT64_C(1) << 52,
        UINT64_C(1) << 63,
        UINT64_MAX - 15,
        UINT64_MAX - 1,
        UINT64_MAX,
    };

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        for (unsigned ring = 0; ring < 3; ring++)
            start_wrong(t, REG_QUEUE_DESC + 16 * ring, wrong[i]);
}

/* Bits in any order. Only NEEDS_RESET may be there without being written. */
static void status_walk(struct target *t)
{
    const struct virtio *dev = &t->dev;
    uint32_t random = 1, written = 0;

    need(virtio_reset(&t->dev));
    for (unsigned n = 0; n < 300; n++) {
        uint32_t value, status;

        random = random * 1103515245u + 12345u;
        value = (random >> 16) & 0xcf;
        if (n % 7 == 6)
            value = 0;
        if (n % 50 == 49)
            value = 0xffffffffu;
        virtio_write(dev, REG_STATUS, value);
        status = virtio_read(dev, REG_STATUS);
        written = value == 0 ? 0 : written | value;
        if ((status & ~written & ~STATUS_NEEDS_RESET) != 0)
            exit_fail("status %#x after writing %#x", status, value);
        if (value == 0)
            need(virtio_reset(&t->dev));
    }
}

static void features(struct target *t)
{
    const struct virtio *dev = &t->dev;

    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t accept = FEATURE_VERSION_1 | UINT64_C(1) << bit;

        if ((dev->offered & (UINT64_C(1) << bit)) != 0)
            continue;
        need(virtio_reset(&t->dev));
        virtio_write(dev, REG_STATUS, 0x03);
        virtio_write(dev, REG_DRIVER_FEAT_SEL, 0);
        virtio_write(dev, REG_DRIVER_FEATURES, (uint32_t)accept);
        virtio_write(dev, REG_DRIVER_FEAT_SEL, 1);
        virtio_write(dev, REG_DRIVER_FEATURES, (uint32_t)(accept >> 32));
        virtio_write(dev, REG_STATUS, 0x0b);
        if ((virtio_read(dev, REG_STATUS) & STATUS_FEATURES_OK) != 0)
            exit_fail("feature bit %u is accepted but was not offered", bit);
        virtio_write(dev, REG_STATUS, 0x0f);
        virtio_write(dev, REG_QUEUE_NOTIFY, 0);
    }
}

/* What a running queue is made of must not change under the device. */
static void live_registers(struct target *t)
{
    const struct virtio *dev = &t->dev;

    target_start(t);
    virtio_write(dev, REG_QUEUE_SEL, 0);
    virtio_write(dev, REG_QUEUE_NUM, 0x10000);
    for (unsigned reg = REG_QUEUE_DESC; reg <= REG_QUEUE_DEVICE + 4; reg += 4)
        if (reg % 16 < 8)
            virtio_write(dev, reg, 0xfffffff0u);
    virtio_write(dev, REG_QUEUE_READY, 1);
    virtio_write(dev, REG_DRIVER_FEATURES, 0xffffffffu);
    virtio_write(dev, REG_STATUS, 0x0f);
    target_request(t, "after queue registers were written");
    virtio_write(dev, REG_QUEUE_READY, 0);
    virtio_write(dev, REG_QUEUE_NUM, 3);
    virtio_write(dev, REG_QUEUE_READY, 1);
    virtio_write(dev, REG_QUEUE_READY, 0xffffffffu);
    virtio_write(dev, REG_QUEUE_NOTIFY, 0);
}

/* QueueReset where it was not accepted, on queues there and not there. */
static void ring_reset(struct target *t)
{
    target_start(t);
    for (unsigned i = 0; i < 4; i++) {
        virtio_write(&t->dev, REG_QUEUE_SEL, i);
        virtio_write(&t->dev, REG_QUEUE_RESET, 1);
        virtio_write(&t->dev, REG_QUEUE_RESET, 0);
        virtio_write(&t->dev, REG_QUEUE_RESET, 0xffffffffu);
    }
    virtio_write(&t->dev, REG_QUEUE_NOTIFY, 0);
}

/* Lives that end at every step, also with a request under way. */
static void resets(struct target *t)
{
    uint64_t lives = option_number("resets", 50);
    struct segment segment = { t->buffer, BUFFER_SIZE, true };
    uint64_t mark = memory_mark();

    for (uint64_t n = 0; n < lives; n++) {
        target_negotiate(t);
        if (n % 4 == 0)
            continue;
        need(queue_init(&t->queue, &t->dev, 0, 8));
        memory_release(mark);
        if (n % 4 == 1)
            continue;
        virtio_start(&t->dev);
        if (n % 4 == 2)
            continue;
        queue_add(&t->queue, &segment, 1, 0);
        queue_kick(&t->queue);
    }
    need(virtio_reset(&t->dev));
}

static const struct {
    const char *name;
    void (*run)(struct target *t);
} cases[] = {
    { "selectors", selectors },
    { "notify", notify },
    { "queue-num", queue_num },
    { "addresses", addresses },
    { "widths", hostile_widths },
    { "live-widths", hostile_live_widths },
    { "config-range", hostile_config_range },
    { "unassigned", hostile_unassigned },
    { "status", status_walk },
    { "features", features },
    { "live-registers", live_registers },
    { "ring-reset", ring_reset },
    { "uart", hostile_uart },
    { "resets", resets },
};

static void find_target(struct target *t, uint64_t number)
{
    struct tree_walk walk;

    tree_begin(&walk);
    while (tree_next(&walk, &t->dev))
        if (t->dev.number == number) {
            need(virtio_open(&t->dev));
            t->buffer = memory_take(BUFFER_SIZE, 64);
            return;
        }
    exit_fail("there is no device %lu", number);
}

int guest_main(void)
{
    static struct target t;
    char only[32] = "";
    bool found = false;

    option_text("case", only, sizeof only);
    find_target(&t, option_number("device", 0));
    check_alive(&t, "at first");
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t mark = memory_mark();

        if (only[0] != '\0' && strcmp(only, cases[i].name) != 0)
            continue;
        found = true;
        cases[i].run(&t);
        check_alive(&t, cases[i].name);
        print("hostile %s: ok\n", cases[i].name);
        memory_release(mark);
    }
    if (!found)
        exit_fail("there is no case %s", only);
    print("pass\n");
    return 0;
}
