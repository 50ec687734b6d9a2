/*
 * A back-end that comes back: the pauses between attempts, and what the guest
 * does meanwhile that makes a restore begin anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/unit/rig.h"
#include "tests/unit/spy.h"
#include "vmm/link/link.h"
#include "vmm/link/recovery.h"

#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Test(recovery, pauses_grow, .timeout = 10)
{
    static const double pauses[] = { 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, 1 };
    struct link link = { .back_off = 0 };

    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT(pauses); i++) {
            link_back_off(&link);
            cr_assert_float_eq(link.back_off, pauses[i], 1e-9,
                               "pause %u is %g s", i, link.back_off);
        }
        link_back_off_reset(&link);
        cr_assert_eq(link.back_off, 0);
    }
}

/* Whatever the guest changes, a restore that is under way sees: all of it makes
 * another epoch, and what changes nothing does not. */
Test(recovery, epochs, .timeout = 10)
{
    struct recovery recovery;
    struct spy spy;
    uint64_t epoch;

    spy_init(&spy);
    recovery_init(&recovery, NULL);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
    for (uint8_t i = 0; i < 4; i++) {
        static const uint8_t steps[] = { 0x01, 0x03, 0x0b, 0x0f };

        for (uint32_t k = 0; steps[i] == 0x0b && k < 2; k++) {
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, k);
            spy_write(&spy, VIRTIO_MMIO_DRIVER_FEATURES,
                      (uint32_t)(FEATURES >> 32 * k));
        }
        if (steps[i] == 0x0f)
            spy_ready(&spy, 1, 8);
        epoch = spy.t.epoch;
        spy_write(&spy, VIRTIO_MMIO_STATUS, steps[i]);
        cr_assert_gt(spy.t.epoch, epoch, "status 0x%x", steps[i]);
    }
    epoch = spy.t.epoch;
    spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, 1);
    spy_write(&spy, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    cr_assert_eq(spy.t.epoch, epoch, "nothing has changed");
    spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_gt(spy.t.epoch, epoch, "a ring was reset");
    epoch = spy.t.epoch;
    spy_ready(&spy, 1, 8);
    cr_assert_gt(spy.t.epoch, epoch, "a ring is there again");
    epoch = spy.t.epoch;
    recovery_config(&recovery, &spy.t, 4, "abcd", 4);
    cr_assert_gt(spy.t.epoch, epoch, "config space was written");
    epoch = spy.t.epoch;
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
    cr_assert_gt(spy.t.epoch, epoch, "the device was reset");
    recovery_fini(&recovery);
    spy_fini(&spy);
}

/* A restore whose guest changed the device since its first step is given up,
 * for another attempt. */
Test(recovery, begins_anew, .timeout = 10)
{
    static const enum recovery_step steps[] = { RECOVERY_INFLIGHT,
                                                RECOVERY_RINGS, RECOVERY_CONFIG,
                                                RECOVERY_END };

    for (unsigned i = 0; i < COUNT(steps); i++) {
        struct frontend fe = { .name = "virtio7",
                               .wire = { .fd = -1 },
                               .inflight_fd = -1 };
        struct recovery recovery;
        struct spy spy;

        spy_init(&spy);
        recovery_init(&recovery, NULL);
        recovery.step = steps[i];
        recovery.epoch = spy.t.epoch - 1;
        cr_assert(recovery_step(&recovery, &spy.t, &fe));
        cr_assert(fe.lost, "step %u went on", steps[i]);
        cr_assert_eq(fe.err.code, -EAGAIN);
        spy_fini(&spy);
    }
}

/* Who had the rings, and whether they can be restored. */
Test(recovery, rings, .timeout = 10)
{
    struct frontend with = { .inflight_fd = 0 },
                    without = { .inflight_fd = -1 };
    struct recovery recovery;
    struct vrings rings;

    cr_assert_eq(vrings_init(&rings, 2), 0);
    recovery_init(&recovery, NULL);
    cr_assert_eq(recovery.rings, RECOVERY_UNUSED);
    recovery_given(&recovery);
    rings.given[1].started = true;
    recovery_gone(&recovery, &rings);
    cr_assert_eq(recovery.rings, RECOVERY_HELD);
    cr_assert_not(rings.given[1].started);
    recovery_ring_reset(&recovery, &without);
    cr_assert_eq(recovery.rings, RECOVERY_HELD);
    recovery_ring_reset(&recovery, &with);
    cr_assert(recovery_waits_for_reset(&recovery));
    recovery_gone(&recovery, &rings); /* and once more */
    cr_assert(recovery_waits_for_reset(&recovery));
    recovery_reset(&recovery);
    cr_assert_eq(recovery.rings, RECOVERY_UNUSED);
    recovery_given(&recovery); /* but none was ready */
    recovery_gone(&recovery, &rings);
    cr_assert_eq(recovery.rings, RECOVERY_UNUSED);
    vrings_fini(&rings);
}

/* What the guest wrote meanwhile goes in messages of 256 bytes at most. */
Test(recovery, long_config, .timeout = 20)
{
    static const uint32_t order[] = { VU_SET_CONFIG, VU_SET_CONFIG,
                                      VU_GET_CONFIG, VU_GET_CONFIG };
    static const uint32_t at[] = { 3, 3 + VU_MAX_CONFIG };
    static const uint32_t sizes[] = { VU_MAX_CONFIG, 41 };
    struct transport t = { .epoch = 0 };
    struct recovery recovery;
    uint8_t bytes[300];
    struct rig rig;

    rig_init(&rig, VU_PF_CONFIG);
    rig.is.config_size = sizeof bytes;
    rig.fe.config = calloc(1, sizeof bytes);
    rig.fe.config_in = calloc(1, sizeof bytes);
    t.is = &rig.is;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    recovery_init(&recovery, NULL);
    recovery_config(&recovery, &t, 3, bytes + 3, sizeof bytes - 3);
    recovery.step = RECOVERY_CONFIG;
    recovery.epoch = t.epoch;
    cr_assert(recovery_step(&recovery, &t, &rig.fe));
    cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0);
    rig_pause(&rig);
    rig_expect(&rig, order, COUNT(order));
    for (unsigned i = 0; i < 2; i++) {
        struct vu_config head;

        memcpy(&head, rig.model.log[i].payload, sizeof head);
        cr_assert_eq(head.offset, at[i]);
        cr_assert_eq(head.size, sizes[i]);
    }
    cr_assert_arr_eq(rig.model.config + 3, bytes + 3, sizeof bytes - 3);
    recovery_fini(&recovery);
    rig_fini(&rig);
}
