/*
 * The transport's queue registers: when they may be written, and which numbers
 * a ring may consist of. What does not fit never reaches the back-end.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"
#include "tests/unit/spy.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SPLIT    (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define PACKED   (SPLIT | VIRTIO_F_RING_PACKED)
#define HIGH     SPY_GAP_END

/* All that describes a ring. */
static const uint32_t ring_registers[] = {
    VIRTIO_MMIO_QUEUE_NUM,        VIRTIO_MMIO_QUEUE_DESC,
    VIRTIO_MMIO_QUEUE_DESC + 4,   VIRTIO_MMIO_QUEUE_DRIVER,
    VIRTIO_MMIO_QUEUE_DRIVER + 4, VIRTIO_MMIO_QUEUE_DEVICE,
    VIRTIO_MMIO_QUEUE_DEVICE + 4,
};

/* A register's value as the transport has it. */
static uint32_t held(const struct vring *ring, uint32_t offset)
{
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        return ring->num;
    case VIRTIO_MMIO_QUEUE_DESC:
        return (uint32_t)ring->desc;
    case VIRTIO_MMIO_QUEUE_DESC + 4:
        return (uint32_t)(ring->desc >> 32);
    case VIRTIO_MMIO_QUEUE_DRIVER:
        return (uint32_t)ring->driver;
    case VIRTIO_MMIO_QUEUE_DRIVER + 4:
        return (uint32_t)(ring->driver >> 32);
    case VIRTIO_MMIO_QUEUE_DEVICE:
        return (uint32_t)ring->device;
    case VIRTIO_MMIO_QUEUE_DEVICE + 4:
        return (uint32_t)(ring->device >> 32);
    }
    return 0;
}

/* Every queue register in every status, for a ring that is ready and one that
 * is not: only before DRIVER_OK, and only the one that is not. */
Test(queue, registers_by_status, .timeout = 20)
{
    static const uint8_t statuses[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f };

    for (unsigned i = 0; i < COUNT(statuses); i++) {
        struct spy spy;

        spy_init(&spy);
        spy_go(&spy, statuses[i], SPLIT);
        if (statuses[i] == 0x0f)
            spy_go(&spy, 0x0b, SPLIT);
        spy_ready(&spy, 1, 16);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 2);
        if (statuses[i] == 0x0f)
            spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
        for (uint32_t index = 0; index < SPY_VQS; index++) {
            bool open = index != 1 && statuses[i] != 0x0f;

            spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, index);
            for (unsigned k = 0; k < COUNT(ring_registers); k++) {
                uint32_t offset = ring_registers[k];
                struct vring before = spy.t.rings.ring[index];
                uint32_t was = held(&before, offset);

                spy_write(&spy, offset, ~was);
                cr_assert_eq(held(&spy.t.rings.ring[index], offset),
                             open ? ~was : was,
                             "status 0x%x, ring %u, register 0x%x", statuses[i],
                             index, offset);
                spy_write(&spy, offset, was);
                cr_assert_eq(
                    memcmp(&spy.t.rings.ring[index], &before, sizeof before), 0,
                    "register 0x%x changes others", offset);
                cr_assert_eq(spy_read(&spy, offset), 0, "it can be read");
            }
            /* making it ready, or not */
            spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 0);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY),
                         index == 1 && statuses[i] == 0x0f);
            spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 1);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), index == 1);
        }
        cr_assert_eq(spy.n_ring_start, 0);
        cr_assert_eq(spy.n_ring_stop, 0);
        spy_fini(&spy);
    }
}

/* Writes to a ring that is not there change none that is. */
Test(queue, selected_past_the_end, .timeout = 10)
{
    static const uint32_t past[] = {
        SPY_VQS, 0xff,       0x100,      0xffff,
        0x10000, 0x7fffffff, 0x80000000, 0xffffffff
    };
    struct vring before[SPY_VQS];
    struct spy spy;

    spy_init(&spy);
    spy_ready(&spy, 3, 16);
    memcpy(before, spy.t.rings.ring, sizeof before);
    for (unsigned i = 0; i < COUNT(past); i++) {
        spy_ring(&spy, past[i], 8, 0x1000, 0x2000, 0x3000);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 0);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 1);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 0);
        cr_assert_eq(memcmp(before, spy.t.rings.ring, sizeof before), 0);
    }
    spy_go(&spy, 0x0f, SPLIT);
    for (unsigned i = 0; i < COUNT(past); i++)
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, past[i]);
    cr_assert_eq(spy.n_kick, 0);
    spy_fini(&spy);
}

static bool can_be_ready(struct spy *spy, uint32_t num, gpa_t desc,
                         gpa_t driver, gpa_t device)
{
    bool ready;

    spy_ring(spy, 0, num, desc, driver, device);
    spy_write(spy, VIRTIO_MMIO_QUEUE_READY, 1);
    ready = spy_read(spy, VIRTIO_MMIO_QUEUE_READY);
    cr_assert_eq(ready, spy->t.rings.ring[0].ready);
    spy_write(spy, VIRTIO_MMIO_QUEUE_READY, 0);
    cr_assert_eq(spy_read(spy, VIRTIO_MMIO_QUEUE_READY), 0);
    return ready;
}

Test(queue, sizes, .timeout = 10)
{
    static const struct {
        uint32_t num;
        bool split, packed;
    } sizes[] = {
        { 0, false, false },
        { 1, true, true },
        { 2, true, true },
        { 3, false, true },
        { 4, true, true },
        { 5, false, true },
        { 127, false, true },
        { 128, true, true },
        { 129, false, true },
        { 255, false, true },
        { 256, true, true },
        { 257, false, false },
        { 512, false, false },
        { 0x8000, false, false },
        { 0x10000, false, false },
        { 0x10001, false, false },
        { 0x10100, false, false },
        { 0x80000000, false, false },
        { 0xffffffff, false, false },
    };

    for (unsigned packed = 0; packed < 2; packed++) {
        struct spy spy;

        spy_init(&spy);
        spy_go(&spy, 0x0b, packed ? PACKED : SPLIT);
        for (unsigned i = 0; i < COUNT(sizes); i++)
            cr_assert_eq(
                can_be_ready(&spy, sizes[i].num, 0x1000, 0x3000, 0x4000),
                packed ? sizes[i].packed : sizes[i].split,
                "%u entries, packed %u", sizes[i].num, packed);
        spy_fini(&spy);
    }
}

/* The three parts of a ring: what each of them asks of its address. */
static void place(unsigned part, gpa_t at, gpa_t address[3])
{
    address[0] = 0x1000;
    address[1] = 0x4000;
    address[2] = 0x6000;
    address[part] = at;
}

Test(queue, addresses, .timeout = 20)
{
    static const unsigned alignment[2][3] = { { 16, 2, 4 }, { 16, 4, 4 } };

    for (unsigned packed = 0; packed < 2; packed++) {
        for (uint32_t num = 1; num <= 256; num *= 4) {
            const uint64_t sizes[2][3] = {
                { 16 * num, 6 + 2 * num, 6 + 8 * num }, { 16 * num, 4, 4 }
            };
            struct spy spy;

            spy_init(&spy);
            spy_go(&spy, 0x0b, packed ? PACKED : SPLIT);
            for (unsigned part = 0; part < 3; part++) {
                uint64_t size = sizes[packed][part];
                unsigned align = alignment[packed][part];
                gpa_t last = (SPY_LOW - size) & ~(gpa_t)(align - 1), address[3];
                const struct {
                    gpa_t at;
                    bool fits;
                } places[] = {
                    { 0, true },
                    { last, true },
                    { last + align, false }, /* over the region's end */
                    { SPY_LOW - align, size <= align },
                    { SPY_LOW, false },
                    { SPY_LOW + 0x1000, false }, /* in the hole */
                    { HIGH - align, false },
                    { HIGH, true },
                    { HIGH + last, true },
                    { HIGH + last + align, false },
                    { HIGH + SPY_LOW, false },
                    { UINT64_C(1) << 63, false },
                    { (gpa_t)0 - align, false }, /* wraps */
                    { (gpa_t)0 - 4096, false },
                    { (gpa_t)0 - size, false },
                    { UINT64_MAX & ~(gpa_t)15, false },
                };

                for (unsigned i = 0; i < COUNT(places); i++) {
                    place(part, places[i].at, address);
                    cr_assert_eq(can_be_ready(&spy, num, address[0], address[1],
                                              address[2]),
                                 places[i].fits,
                                 "packed %u, %u entries, part %u at 0x%llx",
                                 packed, num, part,
                                 (unsigned long long)places[i].at);
                }
                for (unsigned off = 0; off < 32; off++) {
                    place(part, 0x8000 + off, address);
                    cr_assert_eq(can_be_ready(&spy, num, address[0], address[1],
                                              address[2]),
                                 off % align == 0, "packed %u, part %u at +%u",
                                 packed, part, off);
                }
            }
            spy_fini(&spy);
        }
    }
}

/* A ring that fitted as a split one, and then the driver took packed ones, or
 * the other way round: judged again when it starts. */
Test(queue, judged_again_at_driver_ok, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    /* two bytes of alignment are enough for a split ring only */
    spy_ring(&spy, 0, 8, 0x1000, 0x3002, 0x4000);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 1);
    spy_ready(&spy, 1, 8);
    for (uint32_t k = 0; k < 2; k++) {
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, k);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES,
                  (uint32_t)(PACKED >> 32 * k));
    }
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 0);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(spy.n_start, 1);
    cr_assert_not(spy.t.rings.given[0].started);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 0);
    cr_assert(spy.t.rings.given[1].started);
    spy_fini(&spy);
}

static uint64_t kicks(const struct spy *spy, unsigned index)
{
    uint64_t n = 0;

    if (vring_kick_fd(&spy->t.rings.given[index]) < 0)
        return 0;
    return read(vring_kick_fd(&spy->t.rings.given[index]), &n, sizeof n) ==
                   sizeof n
               ? n
               : 0;
}

/* A kick reaches its own ring's eventfd, once there is one. */
Test(queue, notify, .timeout = 10)
{
    static const uint32_t past[] = { SPY_VQS, 0xff,       0x100,     0xffff,
                                     0x10000, 0x80000000, 0xffffffff };
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0b, SPLIT);
    spy_ready(&spy, 1, 8);
    spy_ready(&spy, 3, 8);
    for (uint32_t i = 0; i < SPY_VQS; i++)
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, i);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    for (unsigned i = 0; i < COUNT(past); i++)
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, past[i]);
    for (unsigned i = 0; i < SPY_VQS; i++)
        cr_assert_eq(kicks(&spy, i), 0, "ring %u", i);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 3);
    cr_assert_eq(kicks(&spy, 0), 0);
    cr_assert_eq(kicks(&spy, 1), 2);
    cr_assert_eq(kicks(&spy, 2), 0);
    cr_assert_eq(kicks(&spy, 3), 1);
    cr_assert_lt(vring_kick_fd(&spy.t.rings.given[0]), 0,
                 "a descriptor that nobody needs");
    cr_assert_eq(spy.n_kick, 0);
    spy_fini(&spy);
}

/* Another device uses up all descriptors while this one waits for its driver:
 * its kicks were made before. Without one for each it has no place. */
Test(queue, no_descriptor_left, .timeout = 10)
{
    struct rlimit limit;
    unsigned opened = far_open_fds();
    struct spy spy;
    struct transport other;
    struct transport_setup setup;

    spy_init(&spy);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 3;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_lt(dup(spy.call_fd), 0);
    spy_go(&spy, 0x0b, SPLIT);
    spy_ready(&spy, 1, 8);
    spy_ready(&spy, 3, 8);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(spy.n_start, 1);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 3);
    cr_assert_eq(kicks(&spy, 3), 1);
    setup = (struct transport_setup){ .is = &spy.is,
                                      .config = spy.config,
                                      .window = spy.window,
                                      .mem = &spy.mem,
                                      .call_fd = spy.call_fd,
                                      .ack_fd = -1,
                                      .deadline = 1,
                                      .ops = spy.t.ops,
                                      .ctx = &spy };
    cr_assert_eq(transport_init(&other, &setup), -EMFILE);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    spy_fini(&spy);
    cr_assert_eq(far_open_fds(), opened);
}

/* KVM has no room for a ring's kicks: they leave KVM_RUN, and reach it. */
Test(queue, kicks_that_kvm_refuses)
{
    int no_vm = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct spy spy;

    cr_assert_geq(no_vm, 0);
    spy_init(&spy);
    spy.all.vm_fd = no_vm;
    for (unsigned life = 1; life <= 2; life++) {
        spy_go(&spy, 0x0b, VIRTIO_F_VERSION_1);
        spy_ready(&spy, 1, 8);
        spy_ready(&spy, 3, 8);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
        cr_assert_eq(spy.t.kicks_refused, 2 * life);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 3);
        cr_assert_eq(kicks(&spy, 1), 1);
        cr_assert_eq(kicks(&spy, 3), 1);
    }
    spy.all.vm_fd = -1;
    spy_fini(&spy);
    close(no_vm);
}

/* While a back-end is away, the driver resets a ring and makes it ready again:
 * nothing is stopped, and both make a return that is under way begin anew. */
Test(queue, reset_of_a_ring_that_no_back_end_has)
{
    struct spy spy;
    uint64_t epoch;

    spy_init(&spy);
    spy_go(&spy, 0x0b, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET);
    spy_ready(&spy, 1, 8);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    spy.t.rings.given[1].started = false;
    epoch = spy.t.epoch;
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(spy.n_ring_stop, 1); /* what is behind it knows */
    cr_assert_eq(spy.t.epoch, epoch + 1);
    spy_ready(&spy, 1, 8);
    cr_assert_eq(spy.n_ring_start, 1);
    cr_assert_eq(spy.t.epoch, epoch + 2);
    spy_fini(&spy);
}

/* In-band a kick is the back-end's business, and only of rings that run. */
Test(queue, notify_inband, .timeout = 10)
{
    struct spy spy;

    spy_identity(&spy);
    spy.is.inband = true;
    spy_start(&spy);
    spy_go(&spy, 0x0b, SPLIT);
    spy_ready(&spy, 2, 8);
    for (uint32_t i = 0; i < SPY_VQS + 2; i++)
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, i);
    cr_assert_eq(spy.n_kick, 0);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    for (uint32_t i = 0; i < SPY_VQS + 2; i++)
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, i);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 0xffffffff);
    cr_assert_eq(spy.n_kick, 1);
    cr_assert_eq(spy.index, 2);
    spy.rc = -EPIPE;
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 2);
    cr_assert(spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x40);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 2);
    cr_assert_eq(spy.n_kick, 2, "kicked though it is lost");
    spy_fini(&spy);
}

/* 2.6.1: one ring is taken back while the others run. */
Test(queue, ring_reset, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0b, SPLIT);
    spy_ready(&spy, 0, 8);
    spy_ready(&spy, 1, 8);
    /* not before DRIVER_OK */
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 1);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    /* only 1, and only a ring that is ready */
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 0);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 2);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 0xffffffff);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 2);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(spy.n_ring_stop, 0);
    /* not ready and never reset: still closed */
    spy_ring(&spy, 2, 8, 0x1000, 0x2000, 0x3000);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 0);
    cr_assert_eq(spy.t.rings.ring[2].desc, 0);

    spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 1);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(spy.n_ring_stop, 1);
    cr_assert_eq(spy.index, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_RESET), 0);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 0);
    cr_assert_eq(spy.t.rings.ring[1].desc, 0);
    cr_assert_eq(spy.t.rings.ring[1].num, 0);
    cr_assert(spy.t.rings.given[0].started);
    /* again: nothing is left to reset */
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(spy.n_ring_stop, 1);
    /* laid out anew, judged as ever */
    spy_ring(&spy, 1, 3, 0x1000, 0x2000, 0x3000);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 0);
    cr_assert_eq(spy.n_ring_start, 0);
    spy_ready(&spy, 1, 16);
    cr_assert_eq(spy.n_ring_start, 1);
    cr_assert_eq(spy.index, 1);
    cr_assert_eq(spy.t.rings.ring[1].num, 16);
    /* and closed again */
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NUM, 8);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_READY, 0);
    cr_assert_eq(spy.t.rings.ring[1].num, 16);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 1);
    /* a failure to take it back loses the device */
    spy.rc = -EPIPE;
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert(spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x40);
    cr_assert_eq(spy_interrupts(&spy), 1);
    spy_fini(&spy);
}

/* Without RING_RESET there is no such register. */
Test(queue, ring_reset_not_accepted, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0b, VIRTIO_F_VERSION_1);
    spy_ready(&spy, 0, 8);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(spy.n_ring_stop, 0);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 1);
    cr_assert(spy.t.rings.given[0].started);
    spy_fini(&spy);
}

/* Rings that the driver left alone are none of the back-end's business. */
Test(queue, only_ready_rings_start, .timeout = 10)
{
    for (unsigned mask = 0; mask < 16; mask++) {
        struct spy spy;

        spy_init(&spy);
        spy_go(&spy, 0x0b, SPLIT);
        for (uint32_t i = 0; i < SPY_VQS; i++)
            if (mask >> i & 1)
                spy_ready(&spy, i, 8);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
        for (unsigned i = 0; i < SPY_VQS; i++)
            cr_assert_eq(spy.t.rings.given[i].started, mask >> i & 1);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
        for (unsigned i = 0; i < SPY_VQS; i++) {
            cr_assert_not(spy.t.rings.ring[i].ready);
            cr_assert_eq(spy.t.rings.ring[i].num, 0);
        }
        spy_fini(&spy);
    }
}

/* Any number in any register at any time: no ring that starts is outside
 * memory, and nothing else happens. */
Test(queue, random_writes, .timeout = 60)
{
    static const uint32_t numbers[] = { 0,      1,      2,       3,
                                        8,      256,    257,     0x1000,
                                        0x8000, 0xfff0, 0x10000, 0xffffffff };
    static const uint32_t steps[] = { 0x01, 0x03, 0x0b, 0x0f };
    static const uint32_t driver[] = {
        VIRTIO_MMIO_STATUS,          VIRTIO_MMIO_QUEUE_NUM,
        VIRTIO_MMIO_QUEUE_READY,     VIRTIO_MMIO_QUEUE_SEL,
        VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_QUEUE_RESET,
    };
    uint64_t seed = 2463534242u;
    unsigned ready = 0;
    struct spy spy;

    spy_init(&spy);
    for (unsigned n = 0; n < 200000; n++) {
        uint32_t offset, value, pick;

        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        pick = (uint32_t)(seed >> 41);
        offset = (uint32_t)(seed >> 16) % 64 * 4;
        value = seed >> 40 & 1 ? numbers[pick % COUNT(numbers)] : pick;
        /* a driver that mostly knows what it does */
        if (n % 3 == 0)
            offset = driver[pick % COUNT(driver)];
        if (offset == VIRTIO_MMIO_STATUS)
            value = n % 7 ? steps[value % 4] : 0;
        else if (offset == VIRTIO_MMIO_QUEUE_READY)
            value = n % 5 != 0;
        else if (offset == VIRTIO_MMIO_QUEUE_RESET && n % 2)
            value = 1;
        else if (offset == VIRTIO_MMIO_QUEUE_NUM && n % 2)
            value = 8;
        else if (offset == VIRTIO_MMIO_QUEUE_SEL)
            value %= SPY_VQS + 1;
        else if (offset >= VIRTIO_MMIO_QUEUE_DESC && offset < 0x0a8)
            value = offset & 4 ? value % 8 == 1
                    : n % 4    ? value % 15 << 12
                               : value;
        else if (offset == VIRTIO_MMIO_DRIVER_FEAT_SEL && n % 8)
            value %= 2;
        else if (offset == VIRTIO_MMIO_DRIVER_FEATURES)
            value = spy.t.driver_sel == 1 ? 0x101 | (value & 4) : value & 0x3f;
        spy_write(&spy, offset, value);
        for (unsigned i = 0; i < SPY_VQS; i++) {
            const struct vring *ring = &spy.t.rings.ring[i];

            if (!spy.t.rings.given[i].started)
                continue;
            ready++;
            cr_assert(ring->num >= 1 && ring->num <= SPY_QUEUE);
            cr_assert_not_null(mem_at(&spy.mem, ring->desc, 16 * ring->num));
            cr_assert_not_null(mem_at(&spy.mem, ring->driver, 4));
            cr_assert_not_null(mem_at(&spy.mem, ring->device, 4));
        }
    }
    cr_assert_gt(ready, 1000, "rings ran for %u steps only", ready);
    cr_assert_gt(spy.n_ring_stop, 10);
    cr_assert_gt(spy.n_ring_start, 0);
    cr_assert_not(spy.t.lost);
    spy_fini(&spy);
}
