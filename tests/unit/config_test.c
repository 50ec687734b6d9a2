/*
 * Config space as the guest sees it: writes that fit, changes that never tear,
 * generation and interrupt; and the shared memory registers, which are read the
 * same way.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/spy.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define GOOD     VIRTIO_F_VERSION_1

/* Every offset and length over the window and past it: a write that fits is
 * the back-end's, as it is; no other is. */
Test(config, writes, .timeout = 30)
{
    static const uint32_t sizes[] = { 0,  1,  2,    3,    4,    6,
                                      20, 60, 3840, 3841, 4095, 4096 };
    static const unsigned widths[] = { 1, 2, 4, 8 };
    static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

    for (unsigned i = 0; i < COUNT(sizes); i++) {
        struct spy spy;

        spy_identity(&spy);
        spy.is.config_size = sizes[i];
        spy_start(&spy);
        for (unsigned w = 0; w < 4; w++) {
            for (uint32_t at = 0; at < spy.t.window.size; at++) {
                unsigned calls = spy.n_config_write, width = widths[w];
                bool fits =
                    width <= 4 && at % width == 0 && at + width <= sizes[i];

                transport_write(&spy.t, VIRTIO_MMIO_CONFIG + at, bytes, width);
                cr_assert_eq(spy.n_config_write - calls, fits,
                             "%u bytes of config, %u at %u", sizes[i], width,
                             at);
                if (!fits)
                    continue;
                cr_assert_eq(spy.offset, at);
                cr_assert_eq(spy.size, width);
                cr_assert_arr_eq(spy.data, bytes, width);
            }
            transport_write(&spy.t, UINT64_C(0x100000100), bytes, widths[w]);
            transport_write(&spy.t, UINT64_MAX, bytes, widths[w]);
            transport_write(&spy.t, UINT64_MAX - 3, bytes, widths[w]);
        }
        cr_assert_eq(spy_calls(&spy), spy.n_config_write);
        cr_assert_arr_eq(spy.t.window.page + VIRTIO_MMIO_CONFIG, spy.config,
                         sizes[i]);
        spy_fini(&spy);
    }
}

Test(config, past_the_end_reads_zero, .timeout = 10)
{
    static const uint32_t sizes[] = { 0, 1, 5, 3840, 3841, 4096 };

    for (unsigned i = 0; i < COUNT(sizes); i++) {
        struct spy spy;

        spy_identity(&spy);
        spy.is.config_size = sizes[i];
        spy_start(&spy);
        for (uint32_t at = 0; at < spy.t.window.size + 64; at++) {
            uint8_t byte = 0xaa;

            transport_read(&spy.t, VIRTIO_MMIO_CONFIG + at, &byte, 1);
            cr_assert_eq(byte, at < sizes[i] ? spy.config[at] : 0, "byte %u",
                         at);
        }
        spy_fini(&spy);
    }
}

static void change(struct spy *spy, const uint8_t *config, bool notify)
{
    cr_assert(mailbox_trylock(&spy->box));
    transport_config(&spy->t, config, notify);
    mailbox_unlock(&spy->box);
}

/* Bytes, generation and interrupt, by what changed and what the driver is up
 * to. */
Test(config, change, .timeout = 10)
{
    static const uint8_t statuses[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f };

    for (unsigned i = 0; i < COUNT(statuses); i++) {
        for (unsigned way = 0; way < 4; way++) {
            bool other = way & 1, notify = way & 2;
            bool told = notify && statuses[i] == 0x0f;
            uint8_t config[SPY_CONFIG];
            uint32_t generation;
            struct spy spy;
            uint8_t *page;

            spy_init(&spy);
            spy_go(&spy, statuses[i], GOOD);
            page = spy.t.window.page;
            generation = spy_read(&spy, VIRTIO_MMIO_CONFIG_GEN);
            memcpy(config, spy.config, sizeof config);
            config[7] ^= other ? 0x55 : 0;
            change(&spy, config, notify);
            cr_assert_eq(spy.t.window.page, page);
            cr_assert_arr_eq(page + VIRTIO_MMIO_CONFIG, config, sizeof config);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_CONFIG_GEN),
                         generation + other);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS),
                         (statuses[i] == 0x0f ? 1u : 0u) | (told ? 2u : 0u));
            cr_assert_eq(spy_interrupts(&spy), told);
            /* the rest of the window is as it was */
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_MAGIC),
                         VIRTIO_MMIO_MAGIC_VALUE);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), statuses[i]);
            cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_QUEUE_NUM_MAX), SPY_QUEUE);
            spy_fini(&spy);
        }
    }
}

/* The driver acknowledges CONFIG alone; VRING stays. */
Test(config, acknowledged, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0f, GOOD);
    change(&spy, spy.config, true);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, 2);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    change(&spy, spy.config, true);
    change(&spy, spy.config, true);
    cr_assert_eq(spy_interrupts(&spy), 3);
    spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, 3);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    change(&spy, spy.config, true);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    spy_fini(&spy);
}

/* A config space over more than one page is exchanged as a whole. */
Test(config, two_pages, .timeout = 10)
{
    uint8_t config[4096];
    struct spy spy;

    spy_identity(&spy);
    spy.is.config_size = sizeof config;
    spy_start(&spy);
    spy_go(&spy, 0x0f, GOOD);
    for (unsigned n = 0; n < 100; n++) {
        memset(config, (int)n, sizeof config);
        change(&spy, config, true);
        cr_assert_eq(spy.t.window.size, 8192);
        cr_assert_arr_eq(spy.t.window.page + VIRTIO_MMIO_CONFIG, config,
                         sizeof config);
        cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_CONFIG_GEN), n + 1);
    }
    spy_fini(&spy);
}

/* A page that the guest reads is never written to for it: another takes its
 * place. A write would fault here. */
Test(config, not_in_place, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0f, GOOD);
    for (unsigned way = 0; way < 4; way++) {
        uint8_t config[SPY_CONFIG];

        memset(config, way & 1 ? 0x11 : 0x22, sizeof config);
        cr_assert_eq(mprotect(spy.t.window.page, spy.t.window.size, PROT_READ),
                     0);
        change(&spy, config, way & 2);
        cr_assert_arr_eq(spy.t.window.page + VIRTIO_MMIO_CONFIG, config,
                         sizeof config);
    }
    /* and the registers of the new one can be */
    spy_write(&spy, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    spy_fini(&spy);
}

struct reader {
    const volatile uint8_t *page;
    atomic_bool stop;
    unsigned accepted, torn, values;
};

/* What a driver does: generation, bytes, generation, until both are equal. */
static void *read_config(void *ctx)
{
    struct reader *reader = ctx;
    uint8_t last = 0;

    while (!atomic_load(&reader->stop)) {
        const volatile uint32_t *generation =
            (const volatile uint32_t *)(const volatile void
                                            *)(reader->page +
                                               VIRTIO_MMIO_CONFIG_GEN);
        uint32_t before = *generation;
        uint8_t bytes[64];

        for (unsigned i = 0; i < sizeof bytes; i++)
            bytes[i] = reader->page[VIRTIO_MMIO_CONFIG + i * 60];
        if (*generation != before)
            continue;
        reader->accepted++;
        for (unsigned i = 0; i < sizeof bytes; i++)
            reader->torn += bytes[i] != (uint8_t)before;
        reader->values += bytes[0] != last;
        last = bytes[0];
    }
    return NULL;
}

/* While it changes all the time, no read that a driver accepts is of two
 * states, or of another generation's. */
Test(config, never_torn, .timeout = 60)
{
    struct reader reader = { 0 };
    static uint8_t config[64 * 60]; /* the rest of the page */
    pthread_t thread;
    struct spy spy;

    spy_identity(&spy);
    spy.is.config_size = sizeof config;
    memset(spy.config, 0, sizeof config);
    spy_start(&spy);
    spy_go(&spy, 0x0f, GOOD);
    reader.page = spy.t.window.page;
    cr_assert_eq(pthread_create(&thread, NULL, read_config, &reader), 0);
    for (unsigned n = 1; n <= 20000; n++) {
        memset(config, (int)(n & 0xff), sizeof config);
        change(&spy, config, n % 2);
        if (n % 100 == 0)
            usleep(100);
    }
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    cr_assert_eq(reader.torn, 0, "%u of %u reads", reader.torn,
                 reader.accepted);
    cr_assert_gt(reader.values, 20, "it saw %u values only", reader.values);
    spy_fini(&spy);
}

/* Writes after DRIVER_OK and before, and one that fails. */
Test(config, write_fails, .timeout = 10)
{
    struct spy spy;

    spy_init(&spy);
    spy_go(&spy, 0x0f, GOOD);
    spy.rc = -ECANCELED;
    transport_write(&spy.t, VIRTIO_MMIO_CONFIG, "abcd", 4);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x0f);
    spy.rc = -ETIMEDOUT;
    transport_write(&spy.t, VIRTIO_MMIO_CONFIG, "abcd", 4);
    cr_assert_eq(spy_read(&spy, VIRTIO_MMIO_STATUS), 0x4f);
    cr_assert_eq(spy_interrupts(&spy), 1);
    transport_write(&spy.t, VIRTIO_MMIO_CONFIG, "abcd", 4);
    cr_assert_eq(spy.n_config_write, 2, "written though it is lost");
    spy_fini(&spy);
}

static uint64_t read64(struct spy *spy, uint32_t offset)
{
    return spy_read(spy, offset) | (uint64_t)spy_read(spy, offset + 4) << 32;
}

/* Shared memory regions: each by its number, all ones where there is none. */
Test(config, shared_memory, .timeout = 10)
{
    static const uint32_t none[] = { 1,       4,          254,
                                     256,     0x105,      0xffff,
                                     0x10005, 0x80000000, 0xffffffff };
    struct vu_shm_config config = { .n_regions = 3 };
    struct husk_err err;
    struct shm shm;
    struct spy spy;

    config.size[0] = 0x1000;
    config.size[5] = UINT64_C(0x140000000);
    config.size[255] = 0x2000;
    spy_identity(&spy);
    cr_assert_eq(shm_init(&shm, &config, &err), 0, "%s", err.text);
    for (unsigned i = 0; i < 3; i++)
        shm.regions[i].base = UINT64_C(0x4000000000) * (i + 1) + 0x3000;
    spy.shm = &shm;
    spy_start(&spy);
    for (unsigned turn = 0; turn < 2; turn++) {
        cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_LEN), 0x1000);
        cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_BASE),
                     UINT64_C(0x4000003000));
        spy_write(&spy, VIRTIO_MMIO_SHM_SEL, 5);
        cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_LEN), UINT64_C(0x140000000));
        cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_BASE),
                     UINT64_C(0x8000003000));
        spy_write(&spy, VIRTIO_MMIO_SHM_SEL, 255);
        cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_LEN), 0x2000);
        for (unsigned i = 0; i < COUNT(none); i++) {
            spy_write(&spy, VIRTIO_MMIO_SHM_SEL, 5);
            spy_write(&spy, VIRTIO_MMIO_SHM_SEL, none[i]);
            cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_LEN), UINT64_MAX,
                         "region %u", none[i]);
            cr_assert_eq(read64(&spy, VIRTIO_MMIO_SHM_BASE), UINT64_MAX);
        }
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0);
    }
    shm_fini(&shm);
    spy_fini(&spy);
}
