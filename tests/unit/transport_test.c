/*
 * The registers in front of a spy: what the window holds at every moment, the
 * status against a model of ten lines, features, accesses that no driver makes,
 * and what becomes of a device that is lost. Rings and config space have files
 * of their own.
 */
#include "devices/transport.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"
#include "tests/unit/spy.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define GOOD     (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)

/* Owned by the transport and never shown. */
#define HIDDEN                                                                 \
    (UINT64_C(1) << 26 | UINT64_C(1) << 30 | UINT64_C(1) << 33 |               \
     UINT64_C(1) << 37 | UINT64_C(1) << 38 | UINT64_C(1) << 39 |               \
     UINT64_C(1) << 41)

static const uint8_t statuses[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f };

/* Every word of the window but those that are named. */
static void expect_window(struct spy *spy, uint32_t status, uint32_t interrupt,
                          uint32_t generation)
{
    for (uint32_t at = 0; at < spy->t.window.size; at += 4) {
        uint32_t want = 0;

        if (at == 0x000)
            want = 0x74726976;
        else if (at == 0x004)
            want = 2;
        else if (at == 0x008)
            want = 0x1234;
        else if (at == 0x00c)
            want = spy_read(spy, at); /* anything */
        else if (at == 0x010)
            want = (uint32_t)~HIDDEN;
        else if (at == 0x034)
            want = SPY_QUEUE;
        else if (at >= 0x0b0 && at < 0x0c0)
            want = 0xffffffff;
        else if (at == 0x060)
            want = interrupt;
        else if (at == 0x070)
            want = status;
        else if (at == 0x0fc)
            want = generation;
        else if (at >= 0x100 && at < 0x100 + SPY_CONFIG)
            memcpy(&want, spy->config + at - 0x100, 4);
        cr_assert_eq(spy_read(spy, at), want, "0x%x at 0x%x, not 0x%x",
                     spy_read(spy, at), at, want);
    }
}

Test(transport, window_at_start_and_after_reset, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    expect_window(&spy, 0, 0, 0);
    for (unsigned i = 0; i < COUNT(statuses); i++) {
        for (unsigned lost = 0; lost < 2; lost++) {
            spy_go(&spy, statuses[i], GOOD);
            spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 3);
            spy_write(&spy, VIRTIO_MMIO_DEVICE_FEAT_SEL, 1);
            spy_write(&spy, VIRTIO_MMIO_SHM_SEL, 7);
            if (lost) {
                cr_assert(mailbox_trylock(&spy.box));
                transport_needs_reset(&spy.t, false);
                mailbox_unlock(&spy.box);
            }
            spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
            expect_window(&spy, 0, 0, 0);
        }
    }
    cr_assert_eq(spy_interrupts(&spy), 1); /* the one that was lost running */
    spy_fini(&spy);
}

Test(transport, window_size, .timeout = 10)
{
    cr_assert_eq(transport_window_size(0), 4096);
    cr_assert_eq(transport_window_size(1), 4096);
    cr_assert_eq(transport_window_size(3840), 4096);
    cr_assert_eq(transport_window_size(3841), 8192);
    cr_assert_eq(transport_window_size(4096), 8192);
}

Test(transport, window_after_driver_ok, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0f, GOOD);
    expect_window(&spy, 0x0f, VIRTIO_MMIO_INT_VRING, 0);
    /* acknowledging it changes nothing */
    spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
    expect_window(&spy, 0x0f, VIRTIO_MMIO_INT_VRING, 0);
    spy_fini(&spy);
}

/* What hangs on a selector changes with it, and only that. */
Test(transport, selectors, .timeout = 10)
{
    static const uint32_t past[] = { SPY_VQS,    SPY_VQS + 1, 0xff,
                                     0x100,      0xffff,      0x10000,
                                     0x80000000, 0xffffffff };
    struct spy spy;

    spy_init(&spy);
    spy_ready(&spy, 2, 8);
    for (uint32_t i = 0; i < SPY_VQS; i++) {
        spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, i);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_NUM_MAX), SPY_QUEUE);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), i == 2);
    }
    for (unsigned i = 0; i < COUNT(past); i++) {
        spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 2);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, past[i]);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_READY), 0);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_RESET), 0);
    }
    spy_write(&spy, VIRTIO_MMIO_DEVICE_FEAT_SEL, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_DEVICE_FEATURES),
                 (uint32_t)(~HIDDEN >> 32));
    for (unsigned i = 0; i < COUNT(past); i++) {
        spy_write(&spy, VIRTIO_MMIO_DEVICE_FEAT_SEL, past[i]);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    }
    spy_write(&spy, VIRTIO_MMIO_DEVICE_FEAT_SEL, 2);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    spy_write(&spy, VIRTIO_MMIO_DEVICE_FEAT_SEL, 0);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_DEVICE_FEATURES),
                 (uint32_t)~HIDDEN);
    spy_fini(&spy);
}

/* Every offset, width and misalignment that the specification does not have,
 * in every status: nothing changes, and nobody is asked. */
Test(transport, odd_accesses, .timeout = 60)
{
    static const unsigned widths[] = { 0, 1, 2, 3, 4, 5, 7, 8, 16 };
    static const uint64_t far_away[] = { 0x1000, 0x10000, 0xffffffff,
                                         UINT64_C(0x100000070), UINT64_MAX };
    static const uint8_t ones[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff };
    struct vring rings[SPY_VQS];
    static uint8_t page[4096];
    struct spy spy;

    spy_init(&spy);
    for (unsigned i = 0; i < COUNT(statuses); i++) {
        unsigned calls;

        spy_go(&spy, statuses[i], GOOD);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 1);
        memcpy(page, spy.t.window.page, sizeof page);
        memcpy(rings, spy.t.rings.ring, sizeof rings);
        calls = spy_calls(&spy);
        for (unsigned w = 0; w < COUNT(widths); w++) {
            unsigned width = widths[w];

            for (uint32_t at = 0; at < 0x1010; at++) {
                bool config = at >= 0x100;

                if (width == 4 && at % 4 == 0)
                    continue;
                if (config && (width == 1 || width == 2) && at % width == 0)
                    continue;
                transport_write(&spy.t, at, ones, width);
            }
            for (unsigned k = 0; k < COUNT(far_away); k++)
                transport_write(&spy.t, far_away[k], ones, width);
        }
        cr_assert_eq(spy_calls(&spy), calls, "status 0x%x: %u calls",
                     statuses[i], spy_calls(&spy) - calls);
        cr_assert_arr_eq(spy.t.window.page, page, sizeof page);
        cr_assert_eq(memcmp(spy.t.rings.ring, rings, sizeof rings), 0);
    }
    cr_assert_eq(spy_interrupts(&spy), 0);
    spy_fini(&spy);
}

/* Reads of every width anywhere: the window's bytes, or zeros. */
Test(transport, reads, .timeout = 30)
{
    static const unsigned widths[] = { 1, 2, 4, 8 };
    static const uint64_t far_away[] = { 0x2000, 0xffffffff,
                                         UINT64_C(0x100000000), UINT64_MAX - 3,
                                         UINT64_MAX };
    uint8_t bytes[8], zeros[8] = { 0 };
    struct spy spy;

    spy_identity(&spy);
    spy.is.config_size = 3840;
    spy_start(&spy);
    spy_go(&spy, 0x0f, GOOD);
    for (unsigned w = 0; w < 4; w++) {
        for (uint32_t at = 0; at < 4096 + 16; at++) {
            memset(bytes, 0xaa, sizeof bytes);
            transport_read(&spy.t, at, bytes, widths[w]);
            cr_assert_arr_eq(
                bytes, at + widths[w] <= 4096 ? spy.t.window.page + at : zeros,
                widths[w]);
        }
        for (unsigned k = 0; k < COUNT(far_away); k++) {
            memset(bytes, 0xaa, sizeof bytes);
            transport_read(&spy.t, far_away[k], bytes, widths[w]);
            cr_assert_arr_eq(bytes, zeros, widths[w]);
        }
    }
    spy_fini(&spy);
}

/* Registers that can only be read stay as they are. */
Test(transport, read_only_registers, .timeout = 10)
{
    static const uint32_t offsets[] = { 0x000, 0x004, 0x008, 0x00c, 0x010,
                                        0x034, 0x060, 0x0b0, 0x0b4, 0x0b8,
                                        0x0bc, 0x0fc, 0x018, 0x028, 0x0f8 };
    struct spy spy;

    spy_init(&spy);
    for (unsigned i = 0; i < COUNT(statuses); i++) {
        spy_go(&spy, statuses[i], GOOD);
        for (unsigned k = 0; k < COUNT(offsets); k++) {
            uint32_t before = spy_read(&spy, offsets[k]);

            spy_write(&spy, offsets[k], ~before);
            cr_assert_eq(spy_read(&spy, offsets[k]), before, "0x%x",
                         offsets[k]);
        }
    }
    spy_fini(&spy);
}

/*
 * The model: a driver may set ACKNOWLEDGE, DRIVER, FEATURES_OK and DRIVER_OK in
 * this order, several at once, FAILED at any time and then nothing more. What
 * takes a bit away, but for 0, counts for nothing.
 */
static uint8_t model_status(uint8_t now, uint32_t written, bool features_good)
{
    uint8_t bits = written & 0x8f, steps = bits & 0x0f;

    if (written == 0)
        return 0;
    if (steps != 0 && steps != 1 && steps != 3 && steps != 0x0b &&
        steps != 0x0f)
        return now; /* a gap */
    if (now & 0x80 || (now & 0x8f & bits) != (now & 0x8f))
        return now; /* it gave up, or takes a bit away */
    if (bits & ~now & 0x08 && !features_good)
        bits &= 0x83;
    return bits | (now & 0x40);
}

Test(transport, random_walks, .timeout = 60)
{
    static const uint32_t usual[] = { 0x01, 0x03, 0x0b, 0x0f, 0x07, 0x0c,
                                      0x80, 0x8f, 0x83, 0x4f, 0x4b, 0x43 };
    uint64_t seed = 88172645463325252u;
    unsigned seen[256] = { 0 }, starts = 0;
    struct spy spy;
    uint8_t now = 0;
    bool good = false;

    spy_init(&spy);
    for (unsigned n = 0; n < 100000; n++) {
        uint32_t value, before;
        unsigned features, start;

        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        value = (uint32_t)(seed >> 8);
        switch (value % 8) {
        case 0:
            value >>= 8; /* anything at all */
            break;
        case 1:
            value = value >> 8 & 0xff;
            break;
        case 2:
            value = value >> 8 & 0x80 ? now : 0;
            break;
        case 3:
            value = now | 1u << (value >> 8 & 7);
            break;
        default:
            value = usual[(value >> 8) % COUNT(usual)];
            break;
        }
        if (seed % 5 == 0 && !(now & 0x08)) {
            good = seed / 5 % 2;
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, good);
        }
        if (seed % 41 == 0) {
            cr_assert(mailbox_trylock(&spy.box));
            transport_needs_reset(&spy.t, false);
            mailbox_unlock(&spy.box);
            now |= now ? 0x40 : 0;
        }
        features = spy.n_features;
        start = spy.n_start;
        before = now;
        now = model_status(now, value, good);
        spy_write(&spy, VIRTIO_MMIO_STATUS, value);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), now,
                     "step %u: 0x%x, then 0x%x: 0x%x, not 0x%x", n, before,
                     value, spy_read(&spy, VIRTIO_MMIO_STATUS), now);
        if (value == 0)
            good = false;
        cr_assert_eq(spy.n_start - start, (now & ~before & 0x04) != 0);
        cr_assert(spy.n_features - features <= 1);
        if (now & ~before & 0x08)
            cr_assert_eq(spy.n_features - features, 1);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS) & 1,
                     (now & 0x04) != 0);
        seen[now]++;
        starts += spy.n_start - start;
    }
    for (unsigned i = 0; i < COUNT(statuses); i++)
        cr_assert_gt(seen[statuses[i]], 100, "status 0x%x", statuses[i]);
    cr_assert_gt(seen[0x4f], 0);
    cr_assert_gt(seen[0x8f], 0);
    cr_assert_gt(starts, 100);
    spy_fini(&spy);
}

/* What the back-end is told of each step. */
Test(transport, steps, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x01);
    cr_assert_eq(spy.n_status, 1);
    cr_assert_eq(spy.status, 0x01);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x03);
    cr_assert_eq(spy.n_status, 2);
    cr_assert_eq(spy.status, 0x03);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 0x81);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 0x01);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
    cr_assert_eq(spy.n_features, 1);
    cr_assert_eq(spy.status, 0x0b);
    cr_assert_eq(spy.features, UINT64_C(0x100000081));
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
    cr_assert_eq(spy_calls(&spy), 3, "told twice");
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(spy.n_start, 1);
    cr_assert_eq(spy.status, 0x0f);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x8f);
    cr_assert_eq(spy.status, 0x8f);
    cr_assert_eq(spy.n_status, 3);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
    cr_assert_eq(spy.n_reset, 1);
    cr_assert_eq(spy_calls(&spy), 6);
    cr_assert_eq(spy.n_read, 10, "the lock was let go %u times", spy.n_read);
    spy_fini(&spy);
}

/* All 64 bits are offered: which are shown, and which may be accepted. */
Test(transport, features, .timeout = 20)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t mask = UINT64_C(1) << bit;
        bool shown = !(mask & HIDDEN);
        struct spy spy;

        spy_init(&spy);
        spy_write(&spy, VIRTIO_MMIO_DEVICE_FEAT_SEL, bit / 32);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_DEVICE_FEATURES) >> bit % 32 &
                         1,
                     shown, "bit %u", bit);
        spy_go(&spy, 0x03, 0);
        for (uint32_t k = 0; k < 2; k++) {
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, k);
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES,
                      (uint32_t)((mask | VIRTIO_F_VERSION_1) >> 32 * k));
        }
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), shown ? 0x0b : 0x03,
                     "bit %u", bit);
        cr_assert_eq(spy.n_features, shown);
        if (shown)
            cr_assert_eq(spy.features, mask | VIRTIO_F_VERSION_1);
        spy_fini(&spy);
    }
}

/* Nor may it accept what was not offered. */
Test(transport, features_not_offered, .timeout = 10)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t offered = ~(UINT64_C(1) << bit) & ~HIDDEN;
        struct spy spy;

        if (bit == 32 || HIDDEN >> bit & 1)
            continue;
        spy_identity(&spy);
        spy.is.features = offered;
        spy_start(&spy);
        spy_go(&spy, 0x0b, offered);
        cr_assert_eq(spy.features, offered);
        spy_go(&spy, 0x03, 0);
        for (uint32_t k = 0; k < 2; k++) {
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, k);
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES,
                      (uint32_t)(~HIDDEN >> 32 * k));
        }
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x03);
        cr_assert_eq(spy.n_features, 1);
        spy_fini(&spy);
    }
}

Test(transport, features_refused, .timeout = 10)
{
    static const uint32_t beyond[] = { 2, 3, 32, 0x80000000, 0xffffffff };
    struct spy spy;

    /* without VERSION_1 */
    spy_init(&spy);
    spy_go(&spy, 0x03, 0);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x03);
    cr_assert_eq(spy.n_features, 0);
    /* by the back-end, whatever else the write says */
    spy.refuses = true;
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x03);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x03);
    cr_assert_eq(spy.n_start, 0);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    /* and then not any more */
    spy.refuses = false;
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x0f);
    cr_assert_eq(spy.n_start, 1);
    spy_fini(&spy);

    /* above 63 */
    for (unsigned i = 0; i < COUNT(beyond); i++) {
        spy_init(&spy);
        spy_go(&spy, 0x03, 0);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, beyond[i]);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 0);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x0b);
        cr_assert_eq(spy.features, VIRTIO_F_VERSION_1);
        spy_go(&spy, 0x03, 0);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, beyond[i]);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x03,
                     "word %u of features", beyond[i]);
        spy_fini(&spy);
    }
}

/* Once they are agreed upon, features are fixed. */
Test(transport, features_fixed, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0b, GOOD);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 0);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 0xffffffff);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 5);
    spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 0xffffffff);
    cr_assert_eq(spy.t.rings.driver_features, GOOD);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x0f);
    spy_fini(&spy);
}

static void lose(struct spy *spy, bool lost)
{
    cr_assert(mailbox_trylock(&spy->box));
    transport_needs_reset(&spy->t, lost);
    mailbox_unlock(&spy->box);
}

/* DEVICE_NEEDS_RESET, with an interrupt where the driver listens. */
Test(transport, needs_reset, .timeout = 10)
{
    for (unsigned i = 0; i < COUNT(statuses); i++) {
        bool runs = statuses[i] & 0x04;
        struct spy spy;

        spy_init(&spy);
        spy_go(&spy, statuses[i], GOOD);
        lose(&spy, false);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS),
                     statuses[i] ? statuses[i] | 0x40u : 0u);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS),
                     runs ? 3 : 0);
        cr_assert_eq(spy_interrupts(&spy), runs);
        lose(&spy, false);
        cr_assert_eq(spy_interrupts(&spy), 0, "told twice");
        spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, 3);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), runs);
        /* a reset makes it good again */
        spy_go(&spy, 0x0f, GOOD);
        spy_fini(&spy);
    }
}

/* Lost for good: a reset is still obeyed, FEATURES_OK never comes back, and
 * the back-end is left in peace. */
Test(transport, lost, .timeout = 10)
{
    for (unsigned i = 0; i < COUNT(statuses); i++) {
        struct spy spy;
        unsigned calls;

        spy_init(&spy);
        spy_ready(&spy, 0, 8);
        spy_go(&spy, statuses[i], GOOD);
        lose(&spy, true);
        cr_assert_eq(spy_interrupts(&spy), (statuses[i] & 0x04) != 0);
        calls = spy_calls(&spy);
        transport_write(&spy.t, VIRTIO_MMIO_CONFIG, "abcd", 4);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        spy_go(&spy, 0x03, 0);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0b);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x0f, 0x03);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x0f, 0x03);
        cr_assert_eq(spy_calls(&spy), calls, "status 0x%x", statuses[i]);
        spy_fini(&spy);
    }
}

/* The back-end hears what the driver writes; DEVICE_NEEDS_RESET is not the
 * driver's to write. */
Test(transport, needs_reset_is_not_relayed, .timeout = 10)
{
    for (unsigned i = 1; i + 1 < COUNT(statuses); i++) {
        struct spy spy;

        spy_init(&spy);
        spy_ready(&spy, 0, 8);
        spy_go(&spy, statuses[i], GOOD);
        lose(&spy, false);
        if (statuses[i] == 0x03) {
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        }
        spy_write(&spy, VIRTIO_MMIO_STATUS, statuses[i + 1]);
        cr_assert_eq(spy.status, statuses[i + 1]);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS),
                     statuses[i + 1] | 0x40u);
        spy_fini(&spy);
    }
}

/* It is lost between FEATURES_OK and DRIVER_OK. */
Test(transport, lost_before_driver_ok, .timeout = 10)
{
    struct spy spy;
    unsigned calls;

    spy_init(&spy);
    spy_ready(&spy, 0, 8);
    spy_go(&spy, 0x0b, GOOD);
    lose(&spy, true);
    calls = spy_calls(&spy);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert(spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x40);
    cr_assert_eq(spy_calls(&spy), calls);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    spy_fini(&spy);
}

/* A driver that writes several bits at once loses the device no less. */
Test(transport, lost_from_nothing, .timeout = 10)
{
    for (unsigned i = 1; i < COUNT(statuses); i++) {
        struct spy spy;

        spy_init(&spy);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
        spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        spy.rc = -EPIPE;
        spy_write(&spy, VIRTIO_MMIO_STATUS, statuses[i]);
        cr_assert(spy.t.lost);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS),
                     (statuses[i] & 0x03) | 0x40u, "0x%x: 0x%x", statuses[i],
                     spy_read(&spy, VIRTIO_MMIO_STATUS));
        spy_fini(&spy);
    }
}

/* What fails behind the registers loses the device; the end of a run does
 * not. */
Test(transport, failures, .timeout = 10)
{
    static const int codes[] = { -EPIPE,    -ETIMEDOUT, -EPROTO,
                                 -ENOTCONN, -ENOMEM,    -ECANCELED };

    for (unsigned i = 0; i < COUNT(codes); i++) {
        bool lost = codes[i] != -ECANCELED;

        for (unsigned at = 0; at < COUNT(statuses); at++) {
            struct spy spy;
            uint32_t next = at + 1 < COUNT(statuses) ? statuses[at + 1] : 0x8f;

            spy_init(&spy);
            spy_go(&spy, statuses[at], GOOD);
            if (statuses[at] == 0x03) {
                spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, 1);
                spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES, 1);
            }
            spy.rc = codes[i];
            spy_write(&spy, VIRTIO_MMIO_STATUS, next);
            cr_assert_eq(spy.t.lost, lost);
            cr_assert_eq((spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x40) != 0, lost,
                         "0x%x to 0x%x: %d", statuses[at], next, codes[i]);
            cr_assert_eq(spy_interrupts(&spy), lost && next & 0x04);
            if (next == 0x0b)
                cr_assert_not(spy_read(&spy, VIRTIO_MMIO_STATUS) & 0x08);
            spy_fini(&spy);

            /* and a reset always ends as 0 */
            spy_init(&spy);
            spy_go(&spy, statuses[at], GOOD);
            spy.rc = codes[i];
            spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
            cr_assert_eq(spy.t.lost, lost);
            spy_fini(&spy);
        }
    }
}

Test(transport, reboot, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_ready(&spy, 0, 8);
    spy_go(&spy, 0x0f, GOOD);
    cr_assert(mailbox_trylock(&spy.box));
    transport_reboot(&spy.t);
    mailbox_unlock(&spy.box);
    expect_window(&spy, 0, 0, 0);
    cr_assert_eq(spy.n_send_reset, 1);
    cr_assert_eq(spy.n_reset, 1, "only spy_go()'s own");
    spy_fini(&spy);
}

static void *write_config(void *spy)
{
    spy_write(spy, VIRTIO_MMIO_CONFIG, 7);
    return NULL;
}

/* One vCPU waits for the back-end, for as long as it likes. A kick of another
 * one gets through, and what else that writes is given up at its deadline. */
Test(transport, two_vcpus)
{
    struct spy_gate gate;
    pthread_t thread;
    struct spy spy;
    uint64_t kicks = 0;

    spy_identity(&spy);
    spy.deadline = 0.05;
    spy_start(&spy);
    spy_go(&spy, 0x0b, GOOD);
    spy_ready(&spy, 1, 8);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    cr_assert_eq(sem_init(&gate.entered, 0, 0), 0);
    cr_assert_eq(sem_init(&gate.leave, 0, 0), 0);
    spy.gate = &gate;
    cr_assert_eq(pthread_create(&thread, NULL, write_config, &spy), 0);
    while (sem_wait(&gate.entered) < 0)
        ;
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    cr_assert_eq(
        read(vring_kick_fd(&spy.t.rings.given[1]), &kicks, sizeof kicks),
        sizeof kicks);
    cr_assert_eq(kicks, 1);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 3);
    cr_assert_eq(spy.t.queue_sel, 1, "written without the lock");
    sem_post(&gate.leave);
    pthread_join(thread, NULL);
    spy.gate = NULL;
    spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 3);
    cr_assert_eq(spy.t.queue_sel, 3);
    sem_destroy(&gate.entered);
    sem_destroy(&gate.leave);
    spy_fini(&spy);
}

/* A reset that cannot have the lock in time is made when the lock is let go. */
Test(transport, reset_that_comes_too_late, .timeout = 10)
{
    struct spy spy;
    unsigned resets;

    spy_identity(&spy);
    spy.deadline = 0.05;
    spy_start(&spy);
    spy_go(&spy, 0x0f, VIRTIO_F_VERSION_1);
    resets = spy.n_reset;
    cr_assert(mailbox_trylock(&spy.box));
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
    cr_assert_eq(spy.t.status, 0x0f);
    mailbox_unlock(&spy.box);
    expect_window(&spy, 0, 0, 0);
    cr_assert_eq(spy.n_send_reset, 1);
    cr_assert_eq(spy.n_reset, resets, "nobody may wait here");
    /* once, and nothing but a reset */
    cr_assert(mailbox_trylock(&spy.box));
    spy_write(&spy, VIRTIO_MMIO_STATUS, 1);
    mailbox_unlock(&spy.box);
    cr_assert_eq(spy.n_send_reset, 1);
    expect_window(&spy, 0, 0, 0);
    spy_fini(&spy);
}

/* Start and reset, over and over. */
Test(transport, many_cycles, .timeout = 60)
{
    unsigned before = 0;
    struct spy spy;

    spy_init(&spy);
    for (unsigned n = 0; n < 10000; n++) {
        spy_go(&spy, 0x0b, GOOD);
        for (uint32_t i = 0; i < SPY_VQS; i++)
            spy_ready(&spy, i, 8);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
        spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, n % SPY_VQS);
        if (n == 0)
            before = far_open_fds();
    }
    cr_assert_eq(far_open_fds(), before);
    cr_assert_eq(spy.n_start, 10000);
    cr_assert_eq(spy.t.kicks_refused, 0);
    spy_fini(&spy);
}
