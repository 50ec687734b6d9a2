/*
 * husk-loop: the echo over every kind of ring and every queue, and config space
 * of every size, written, changed and told of.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/vu_client.h"

#define DATA VU_DATA

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

static void echo_of(uint64_t features)
{
    static const char *const args[] = { "--queues=3", NULL };
    struct vu_client c;

    vu_spawn(&c, "husk-loop", args);
    vu_start(&c, features, 3, 32);
    cr_assert_eq(c.specs.id, 63);
    cr_assert_eq(c.specs.config_size, 0);
    cr_assert_eq(c.specs.max_vqs, 3);
    for (unsigned turn = 0; turn < 300; turn++) {
        uint32_t out = 1 + turn * 37 % 5000, in = 1 + turn * 91 % 5000;
        struct buffer buf[] = {
            { DATA, out / 3, false },
            { DATA + out / 3, out - out / 3, false },
            { DATA + 0x10000, in / 2, true },
            { DATA + 0x20000, in - in / 2, true },
        };
        uint32_t both = out < in ? out : in;

        for (uint32_t i = 0; i < out; i++)
            *(uint8_t *)vu_at(&c, DATA + i) = (uint8_t)(i * 7 + turn);
        memset(vu_at(&c, DATA + 0x10000), 0, 0x20000);
        cr_assert_eq(vu_do(&c, turn % 3, buf, 4), both);
        for (uint32_t i = 0; i < in; i++) {
            uint64_t at =
                i < in / 2 ? DATA + 0x10000 + i : DATA + 0x20000 + i - in / 2;

            cr_assert_eq(*(uint8_t *)vu_at(&c, at),
                         i < both ? (uint8_t)(i * 7 + turn) : 0);
        }
        /* nothing to read: filled; nothing to write: taken */
        cr_assert_eq(vu_do(&c, turn % 3, buf + 2, 2), in);
        cr_assert_eq(*(uint8_t *)vu_at(&c, DATA + 0x20000), 0xa5);
        cr_assert_eq(vu_do(&c, turn % 3, buf, 2), 0);
    }
    vu_end(&c, 0);
}

Test(backend_loop, echo, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        echo_of(kinds[i]);
}

/* Many chains at once on each of 256 queues. */
Test(backend_loop, many_queues, .timeout = 60)
{
    static const char *const args[] = { "--queues=256", NULL };
    struct buffer buf[] = { { DATA, 8, false }, { DATA + 64, 8, true } };
    static struct vu_client c;

    vu_spawn(&c, "husk-loop", args);
    vu_start(&c, VIRTIO_F_EVENT_IDX, 256, 16);
    cr_assert_eq(c.specs.max_vqs, 256);
    for (unsigned turn = 0; turn < 10; turn++) {
        for (unsigned q = 0; q < 256; q++) {
            while (driver_add(&c.queue[q].driver, buf, 2) >= 0)
                ;
            vu_kick(&c, q);
        }
        for (unsigned q = 0; q < 256; q++) {
            for (unsigned i = 0; i < 8; i++) {
                uint32_t len;

                vu_wait(&c, q, &len);
                cr_assert_eq(len, 8);
            }
        }
    }
    vu_end(&c, 0);
}

Test(backend_loop, config, .timeout = 60)
{
    static const uint32_t sizes[] = { 1, 3, 4, 60, 255, 256, 257, 4096 };

    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char arg[32];
        const char *args[] = { arg, "--id=40", NULL };
        uint8_t bytes[256], message[12 + 256];
        struct vu_client c;

        snprintf(arg, sizeof arg, "--config-size=%u", sizes[i]);
        vu_spawn(&c, "husk-loop", args);
        vu_handshake(&c);
        cr_assert_eq(c.specs.id, 40);
        cr_assert_eq(c.specs.config_size, sizes[i]);
        cr_assert(c.protocol_offers & VU_PF_CONFIG);
        for (uint32_t at = 0; at < sizes[i]; at += 256) {
            uint32_t n = sizes[i] - at < 256 ? sizes[i] - at : 256;

            vu_config(&c, at, bytes, n);
            for (uint32_t j = 0; j < n; j++)
                cr_assert_eq(bytes[j], (uint8_t)(at + j));
        }
        /* written, to its last byte and not past it */
        uint32_t last = sizes[i] - 1;
        struct vu_config range = { last, 1, 0 };

        memcpy(message, &range, 12);
        message[12] = 0x5a;
        cr_assert_eq(vu_set(&c, VU_SET_CONFIG, message, 13, -1), 0);
        vu_config(&c, last, bytes, 1);
        cr_assert_eq(bytes[0], 0x5a);
        range.size = 2;
        memcpy(message, &range, 12);
        cr_assert_neq(vu_set(&c, VU_SET_CONFIG, message, 14, -1), 0);
        cr_assert_neq(vu_set(&c, VU_SET_CONFIG, message, 13, -1), 0);
        range = (struct vu_config){ UINT32_MAX, 2, 0 };
        memcpy(message, &range, 12);
        cr_assert_neq(vu_set(&c, VU_SET_CONFIG, message, 14, -1), 0);
        /* and read where it is not */
        range = (struct vu_config){ UINT32_MAX, 2, 0 };
        memcpy(message, &range, 12);
        vu_send(&c, VU_GET_CONFIG, 0, message, 14, -1);
        cr_assert_eq(
            vu_answer(&c, VU_GET_CONFIG, message, sizeof message, NULL), 0);
        vu_end(&c, 0);
    }
}

static void expect_config_change(const struct vu_client *c)
{
    struct vu_header h;

    cr_assert(vu_readable(c->uplink, 5000));
    cr_assert_eq(read(c->uplink, &h, sizeof h), (ssize_t)sizeof h);
    cr_assert_eq(h.request, VU_BACKEND_CONFIG_CHANGE_MSG);
    cr_assert_eq(h.flags, VU_VERSION | VU_NEED_REPLY);
    cr_assert_eq(h.size, 0);
}

static void answer_config_change(const struct vu_client *c, uint64_t value)
{
    struct vu_header h = { VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION | VU_REPLY,
                           8 };

    cr_assert_eq(write(c->uplink, &h, sizeof h), (ssize_t)sizeof h);
    cr_assert_eq(write(c->uplink, &value, 8), 8);
}

/* SIGHUP changes the config; unanswered messages hold nothing up. */
Test(backend_loop, config_change, .timeout = 30)
{
    static const char *const args[] = { "--config=00ff7fA0", NULL };
    struct buffer buf[] = { { DATA, 8, false }, { DATA + 64, 8, true } };
    uint8_t bytes[4];
    struct vu_client c;

    vu_spawn(&c, "husk-loop", args);
    vu_start(&c, 0, 1, 8);
    vu_config(&c, 0, bytes, 4);
    cr_assert_arr_eq(bytes, "\x00\xff\x7f\xa0", 4);
    kill(c.pid, SIGHUP);
    expect_config_change(&c);
    vu_config(&c, 0, bytes, 4);
    cr_assert_arr_eq(bytes, "\x01\x00\x80\xa1", 4);
    /* not answered yet: rings and requests go on; changes are told later */
    cr_assert_eq(vu_do(&c, 0, buf, 2), 8);
    kill(c.pid, SIGHUP);
    for (int i = 0; i < 500 && bytes[0] != 2; i++)
        vu_config(&c, 0, bytes, 4);
    cr_assert_eq(bytes[0], 2);
    cr_assert_not(vu_readable(c.uplink, 50));
    answer_config_change(&c, 0);
    expect_config_change(&c);
    answer_config_change(&c, 1);
    vu_says(&c, "CONFIG_CHANGE: the front-end answered 1");
    /* a wrong answer ends the channel, not the connection */
    kill(c.pid, SIGHUP);
    expect_config_change(&c);

    struct vu_header wrong = { 9, VU_VERSION | VU_REPLY, 0 };
    char byte;

    cr_assert_eq(write(c.uplink, &wrong, sizeof wrong), (ssize_t)sizeof wrong);
    cr_assert(vu_readable(c.uplink, 5000));
    cr_assert_eq(read(c.uplink, &byte, 1), 0);
    cr_assert_eq(vu_do(&c, 0, buf, 2), 8);
    kill(c.pid, SIGHUP);
    for (int i = 0; i < 500 && bytes[0] != 4; i++)
        vu_config(&c, 0, bytes, 4);
    cr_assert_eq(bytes[0], 4);
    vu_end(&c, 0);
}
