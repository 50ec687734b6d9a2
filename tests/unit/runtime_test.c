/*
 * The back-ends' runtime by way of husk-rng, the smallest device: the command
 * line, connections, the order of things before a ring runs, and front-ends
 * that break the protocol.
 */
#include <errno.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/vu_client.h"

#define DATA VU_DATA

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

static bool all_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i])
            return false;
    }
    return true;
}

/* Entropy arrives in each piece of each buffer, and nowhere else. */
static void entropy_of(uint64_t features)
{
    struct vu_client c;
    struct buffer buf[] = { { DATA, 64, true }, { DATA + 4096, 100, true } };

    vu_spawn(&c, "husk-rng", NULL);
    vu_start(&c, features, 1, 8);
    cr_assert_eq(c.specs.id, 4);
    cr_assert_eq(c.specs.config_size, 0);
    cr_assert_eq(c.specs.min_vqs, 1);
    cr_assert_eq(c.specs.max_vqs, 1);
    cr_assert_not(c.protocol_offers & VU_PF_CONFIG);
    for (unsigned turn = 0; turn < 200; turn++) {
        memset(vu_at(&c, DATA), 0, 8192);
        cr_assert_eq(vu_do(&c, 0, buf, 1 + turn % 2), turn % 2 ? 164u : 64u);
        cr_assert_not(all_zero(vu_at(&c, DATA), 32));
        cr_assert_not(all_zero(vu_at(&c, DATA + 32), 32));
        cr_assert(all_zero(vu_at(&c, DATA + 64), 4096 - 64));
        cr_assert_eq(all_zero(vu_at(&c, DATA + 4096), 100), turn % 2 == 0);
        cr_assert(all_zero(vu_at(&c, DATA + 4196), 1000));
    }
    vu_end(&c, 0);
}

Test(runtime, entropy, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        entropy_of(kinds[i]);
}

/* Requests in one write are answered in order; so are requests in bytes. */
Test(runtime, pipelined, .timeout = 30)
{
    static const uint32_t requests[] = {
        VU_GET_FEATURES,  VU_GET_PROTOCOL_FEATURES,
        VU_GET_QUEUE_NUM, VU_GET_MAX_MEM_SLOTS,
        VU_GET_STATUS,    VU_GET_FEATURES,
    };
    enum { N = sizeof requests / sizeof requests[0] };
    struct vu_client c;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    for (unsigned turn = 0; turn < 2; turn++) {
        struct vu_header h[N];
        uint64_t value;

        for (unsigned i = 0; i < N; i++)
            h[i] = (struct vu_header){ requests[i], VU_VERSION, 0 };
        for (size_t at = 0, step = turn ? 1 : sizeof h; at < sizeof h;
             at += step)
            cr_assert_eq(write(c.fd, (char *)h + at, step), (ssize_t)step);
        for (unsigned i = 0; i < N; i++)
            cr_assert_eq(vu_answer(&c, requests[i], &value, 8, NULL), 8);
        cr_assert_eq(value, c.offers);
    }
    vu_end(&c, 0);
}

/* Thousands of requests before any answer is read: none is lost. */
Test(runtime, answers_wait, .timeout = 30)
{
    struct vu_client c;
    struct vu_header h = { VU_GET_FEATURES, VU_VERSION, 0 };
    unsigned sent = 0;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    /* until both directions are full, and stay so */
    for (unsigned stuck = 0; stuck < 10;) {
        ssize_t n = send(c.fd, &h, sizeof h, MSG_DONTWAIT);

        if (n < 0) {
            cr_assert_eq(errno, EAGAIN);
            stuck++;
            usleep(20000);
            continue;
        }
        cr_assert_eq(n, (ssize_t)sizeof h);
        stuck = 0;
        sent++;
    }
    cr_assert_gt(sent, 100);
    for (unsigned i = 0; i < sent; i++) {
        uint64_t value;

        cr_assert_eq(vu_answer(&c, VU_GET_FEATURES, &value, 8, NULL), 8);
        cr_assert_eq(value, c.offers);
    }
    vu_end(&c, 0);
}

/* A feature that was not offered, or VERSION_1 missing, costs FEATURES_OK. */
Test(runtime, features_ok, .timeout = 30)
{
    struct vu_client c;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t mask = UINT64_C(1) << bit;
        uint64_t want = VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES | mask;

        vu_send(&c, VU_SET_FEATURES, 0, &want, 8, -1);
        cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0xb), 0);
        cr_assert_eq(vu_get(&c, VU_GET_STATUS), c.offers & mask ? 0xb : 3,
                     "bit %u", bit);
        cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0), 0);
        cr_assert_eq(vu_get(&c, VU_GET_STATUS), 0);
    }

    uint64_t legacy = VHOST_F_PROTOCOL_FEATURES;

    cr_assert_eq(vu_set_u64(&c, VU_SET_FEATURES, legacy), 0);
    cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0xb), 0);
    cr_assert_eq(vu_get(&c, VU_GET_STATUS), 3);
    vu_end(&c, 0);
}

static void expect_quiet(struct vu_client *c)
{
    uint32_t len;

    /* what follows on the socket is served after the ring would have been */
    vu_get(c, VU_GET_FEATURES);
    usleep(20000);
    cr_assert_eq(driver_get(&c->queue[0].driver, &len), -1);
}

static void enable(struct vu_client *c, uint32_t on)
{
    struct vu_vring_state state = { 0, on };

    cr_assert_eq(vu_set(c, VU_SET_VRING_ENABLE, &state, sizeof state, -1), 0);
}

/* Nothing runs before DRIVER_OK and ENABLE, and no early kick is lost. */
Test(runtime, early_kick, .timeout = 30)
{
    struct vu_client c;
    struct buffer one = { DATA, 64, true };
    uint32_t len;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    vu_features(&c, 0);
    vu_queue_start(&c, 0, 8);
    cr_assert_eq(driver_add(&c.queue[0].driver, &one, 1), 0);
    cr_assert_eq(eventfd_write(c.queue[0].kick, 1), 0);
    expect_quiet(&c);
    enable(&c, 0);
    vu_driver_ok(&c);
    cr_assert_eq(eventfd_write(c.queue[0].kick, 1), 0);
    expect_quiet(&c);
    /* take the kick away: it is not the descriptor that remembers it */
    eventfd_t count;

    eventfd_read(c.queue[0].kick, &count);
    enable(&c, 1);
    cr_assert_eq(vu_wait(&c, 0, &len), 0);
    /* and disabled in between */
    enable(&c, 0);
    cr_assert_eq(driver_add(&c.queue[0].driver, &one, 1), 0);
    vu_kick(&c, 0);
    expect_quiet(&c);
    enable(&c, 1);
    cr_assert_eq(vu_wait(&c, 0, &len), 0);
    vu_end(&c, 0);
}

/*
 * What the back-end does for an earlier kick is over, its interrupt included:
 * a message is acted on in a later turn of its loop.
 */
static void settle(struct vu_client *c)
{
    vu_get(c, VU_GET_FEATURES);
}

/* Another call descriptor while the ring runs: an interrupt by it, at once. */
Test(runtime, call_changes, .timeout = 30)
{
    struct vu_client c;
    struct buffer one = { DATA, 64, true };
    int old, new = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t index = 0, none = 0x100;
    uint32_t len;
    eventfd_t count;

    vu_spawn(&c, "husk-rng", NULL);
    vu_start(&c, 0, 1, 8);
    old = c.queue[0].call;
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    settle(&c);
    cr_assert_eq(vu_set(&c, VU_SET_VRING_CALL, &index, 8, new), 0);
    cr_assert_eq(eventfd_read(new, &count), 0);
    c.queue[0].call = new;
    while (eventfd_read(old, &count) == 0)
        ;
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    settle(&c);
    cr_assert_lt(eventfd_read(old, &count), 0);
    cr_assert_eq(vu_set(&c, VU_SET_VRING_CALL, &none, 8, -1), 0);
    while (eventfd_read(new, &count) == 0)
        ;
    cr_assert_geq(driver_add(&c.queue[0].driver, &one, 1), 0);
    vu_kick(&c, 0);
    while (driver_get(&c.queue[0].driver, &len) < 0)
        sched_yield();
    settle(&c);
    cr_assert_lt(eventfd_read(new, &count), 0);
    close(old);
    vu_end(&c, 0);
}

/* Refused without addresses; without a descriptor the ring is polled. */
Test(runtime, kick_descriptors, .timeout = 30)
{
    struct vu_client c;
    struct buffer one = { DATA, 64, true };
    uint64_t index = 0, none = 0x100;
    uint32_t len;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    vu_features(&c, 0);
    cr_assert_neq(vu_set(&c, VU_SET_VRING_KICK, &index, 8, c.memfd), 0);
    vu_says(&c, "the queue has no addresses");
    vu_queue_start(&c, 0, 8);
    vu_driver_ok(&c);
    vu_queue_stop(&c, 0);
    cr_assert_eq(vu_set(&c, VU_SET_VRING_KICK, &none, 8, -1), 0);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_geq(driver_add(&c.queue[0].driver, &one, 1), 0);
        vu_wait(&c, 0, &len); /* nobody kicks */
        cr_assert_eq(len, 64);
    }
    vu_end(&c, 0);
}

/* RING_RESET as the transport does it, and where a ring stands. */
static void ring_reset_of(uint64_t features)
{
    struct vu_client c;
    struct buffer one = { DATA, 64, true };
    bool packed = features & VIRTIO_F_RING_PACKED;

    vu_spawn(&c, "husk-rng", NULL);
    vu_start(&c, features, 1, 8);
    for (unsigned turn = 0; turn < 3; turn++) {
        for (unsigned i = 0; i < 11; i++)
            cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
        enable(&c, 0);
        /* the second time the ring has 16 entries */
        cr_assert_eq(vu_queue_stop(&c, 0), !packed     ? 11u
                                           : turn == 1 ? 0x800b800bu
                                                       : 0x00030003u);
        vu_queue_start(&c, 0, turn ? 8 : 16);
    }
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);

    /* stopped and gone on with, as after a pause */
    uint32_t base = vu_queue_stop(&c, 0);

    vu_queue_resume(&c, 0, base);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);

    /* by status 0, and by RESET_DEVICE */
    cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0), 0);
    vu_features(&c, features);
    vu_queue_start(&c, 0, 8);
    vu_driver_ok(&c);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    cr_assert_eq(vu_set(&c, VU_RESET_DEVICE, NULL, 0, -1), 0);
    cr_assert_eq(vu_get(&c, VU_GET_STATUS), 0);
    vu_features(&c, features);
    vu_queue_start(&c, 0, 8);
    vu_driver_ok(&c);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    vu_end(&c, 0);
}

Test(runtime, ring_reset, .timeout = 30)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        ring_reset_of(kinds[i]);
}

/* A driver that breaks the rules stops its ring, and a reset heals it. */
Test(runtime, broken_ring, .timeout = 30)
{
    struct vu_client c;
    struct buffer outside = { VU_GUEST + VU_MEM_SIZE, 64, true };
    struct buffer one = { DATA, 64, true };
    uint32_t len;

    vu_spawn(&c, "husk-rng", NULL);
    vu_start(&c, 0, 1, 8);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    cr_assert_eq(driver_add(&c.queue[0].driver, &outside, 1), 0);
    vu_kick(&c, 0);
    cr_assert(vu_readable(c.queue[0].err, 5000));
    vu_says(&c, "queue 0 stopped: a buffer of 64 bytes at 0x42000000, not in "
                "memory");
    cr_assert_eq(driver_get(&c.queue[0].driver, &len), -1);
    cr_assert_eq(vu_queue_stop(&c, 0), 1);
    vu_queue_start(&c, 0, 8);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);

    /* rings that are nowhere: told by acknowledgement and descriptor */
    struct vu_vring_addr addr = { .desc = 4096, .avail = 4096, .used = 4096 };
    uint64_t index = 0;

    vu_queue_stop(&c, 0);
    cr_assert_eq(vu_set(&c, VU_SET_VRING_ADDR, &addr, sizeof addr, -1), 0);
    cr_assert_neq(vu_set(&c, VU_SET_VRING_KICK, &index, 8, c.queue[0].kick), 0);
    vu_says(&c, "a part of the ring is not in memory");
    vu_queue_stop(&c, 0);
    vu_queue_start(&c, 0, 8);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    vu_end(&c, 0);
}

/* Memory tables: replaced under a running ring, and tables that lie. */
Test(runtime, memory, .timeout = 30)
{
    struct vu_client c;
    struct buffer one = { DATA, 64, true };

    vu_spawn(&c, "husk-rng", NULL);
    vu_start(&c, 0, 1, 8);

    struct vu_mem_table table = {
        .n_regions = 1,
        .region[0] = { VU_GUEST, VU_MEM_SIZE, (uintptr_t)c.mem, 0 },
    };
    struct vu_mem_reg reg = { .region = table.region[0] };

    cr_assert_eq(vu_set(&c, VU_SET_MEM_TABLE, &table, 40, c.memfd), 0);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);

    /* overlapping, by guest and by user address; past the end; wrapping */
    static const struct {
        int64_t guest, size, user, offset;
    } wrong[] = {
        { 0, 0, 0, 0 },
        { VU_MEM_SIZE - 1, 0, VU_MEM_SIZE, 0 },
        { VU_MEM_SIZE, 0, VU_MEM_SIZE - 1, 0 },
        { -1, 0, VU_MEM_SIZE, 0 },
        { VU_MEM_SIZE, 1, VU_MEM_SIZE, 0 },
        { VU_MEM_SIZE, 0, VU_MEM_SIZE, 1 },
        { VU_MEM_SIZE, -(int64_t)VU_MEM_SIZE, VU_MEM_SIZE, 0 },
        { VU_MEM_SIZE, -(int64_t)VU_MEM_SIZE - 1, VU_MEM_SIZE, 0 },
        { VU_MEM_SIZE, 0, VU_MEM_SIZE, -1 },
        { -(int64_t)VU_GUEST - 1, 0, VU_MEM_SIZE, 0 },
    };

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct vu_mem_reg bad = reg;

        bad.region.guest_addr += (uint64_t)wrong[i].guest;
        bad.region.size += (uint64_t)wrong[i].size;
        bad.region.user_addr += (uint64_t)wrong[i].user;
        bad.region.mmap_offset += (uint64_t)wrong[i].offset;
        cr_assert_neq(vu_set(&c, VU_ADD_MEM_REG, &bad, sizeof bad, c.memfd), 0,
                      "row %u", i);
    }
    cr_assert_neq(vu_set(&c, VU_ADD_MEM_REG, &reg, sizeof reg, -1), 0);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);

    /* regions more than descriptors, more than allowed, more than sent */
    table.n_regions = 2;
    cr_assert_neq(vu_set(&c, VU_SET_MEM_TABLE, &table, 72, c.memfd), 0);
    table.n_regions = 9;
    cr_assert_neq(vu_set(&c, VU_SET_MEM_TABLE, &table, 264, c.memfd), 0);
    table.n_regions = 1;
    cr_assert_neq(vu_set(&c, VU_SET_MEM_TABLE, &table, 39, c.memfd), 0);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);

    /* taken away under the ring: it breaks, nothing else does */
    reg.region.size--;
    cr_assert_neq(vu_set(&c, VU_REM_MEM_REG, &reg, sizeof reg, -1), 0);
    reg.region.size++;
    cr_assert_eq(vu_set(&c, VU_REM_MEM_REG, &reg, sizeof reg, -1), 0);
    cr_assert(vu_readable(c.queue[0].err, 5000));
    vu_queue_stop(&c, 0);
    cr_assert_eq(vu_set(&c, VU_ADD_MEM_REG, &reg, sizeof reg, c.memfd), 0);
    vu_queue_start(&c, 0, 8);
    cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
    vu_end(&c, 0);
}

/* Slots until there are no more. */
Test(runtime, memory_slots, .timeout = 30)
{
    struct vu_client c;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);

    uint64_t slots = vu_get(&c, VU_GET_MAX_MEM_SLOTS);

    cr_assert_geq(slots, 2);
    for (uint64_t i = 1; i <= slots; i++) {
        struct vu_mem_reg reg = { .region = {
                                      VU_GUEST + i * VU_MEM_SIZE,
                                      4096,
                                      (uintptr_t)c.mem + i * VU_MEM_SIZE,
                                      i * 4096,
                                  } };

        cr_assert_eq(vu_set(&c, VU_ADD_MEM_REG, &reg, sizeof reg, c.memfd) != 0,
                     i == slots);
    }
    vu_end(&c, 0);
}

static unsigned count_fds(pid_t pid)
{
    char path[64];
    unsigned n = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);

    DIR *dir = opendir(path);

    cr_assert_not_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Resets and new rings, over and over, keep no descriptor. */
Test(runtime, no_leak, .timeout = 60)
{
    struct vu_client c;
    struct buffer one = { DATA, 64, true };
    unsigned before = 0;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    for (unsigned turn = 0; turn < 300; turn++) {
        uint64_t index = 0;

        vu_features(&c, turn % 2 ? VIRTIO_F_RING_PACKED : 0);
        /* descriptors that belong to nothing, and those of another queue */
        cr_assert_neq(vu_set(&c, VU_SET_OWNER, NULL, 0, c.memfd), 0);
        cr_assert_neq(vu_set(&c, VU_SET_FEATURES, &c.features, 8, c.memfd), 0);
        vu_queue_start(&c, 0, 8);
        vu_driver_ok(&c);
        cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
        cr_assert_eq(vu_set(&c, VU_SET_VRING_CALL, &index, 8, c.memfd), 0);
        cr_assert_neq(vu_set(&c, VU_SET_VRING_KICK, &index, 8, c.memfd), 0);
        index = 1;
        cr_assert_neq(vu_set(&c, VU_SET_VRING_CALL, &index, 8, c.memfd), 0);
        cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0), 0);
        if (turn == 1)
            before = count_fds(c.pid);
    }
    cr_assert_eq(count_fds(c.pid), before);
    vu_end(&c, 0);
}

/* Messages that are wrong in every way end in an answer or a hang-up. */
Test(runtime, wrong_messages, .timeout = 120)
{
    static const uint32_t sizes[] = { 0, 1, 4, 7, 8, 9, 12, 16, 40, 264, 4096 };
    uint8_t payload[4096];
    unsigned refused = 0;

    for (uint32_t request = 0; request < 48; request++) {
        struct vu_client c;
        uint64_t value;

        vu_spawn(&c, "husk-rng", NULL);
        vu_handshake(&c);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            /* this one answers with its own kind, or hangs up */
            if (request == VU_GET_VRING_BASE && sizes[i] == 8)
                continue;
            memset(payload, 0xff, sizeof payload);

            uint8_t answer[64];

            vu_send(&c, request, VU_NEED_REPLY, payload, sizes[i], -1);

            size_t n = vu_answer(&c, request, answer, sizeof answer, NULL);

            if (n == 8) {
                memcpy(&value, answer, 8);
                refused += value == 1;
            }
            /* if that switched REPLY_ACK off there is no more to see */
            if (request == VU_SET_PROTOCOL_FEATURES)
                cr_assert_eq(value, 1);
        }
        cr_assert_eq(vu_get(&c, VU_GET_FEATURES), c.offers);
        vu_end(&c, 0);
    }
    cr_assert_gt(refused, 300);
}

static void expect_hangup(struct vu_client *c, const char *text)
{
    char byte;

    cr_assert(vu_readable(c->fd, 5000));
    cr_assert_leq(recv(c->fd, &byte, 1, 0), 0);
    vu_says(c, text);
    vu_end(c, 1);
}

Test(runtime, hangups, .timeout = 60)
{
    static const struct {
        struct vu_header h;
        const char *says;
    } rows[] = {
        { { VU_GET_FEATURES, 0, 0 }, "request 1 has flags 0x0" },
        { { VU_GET_FEATURES, 2, 0 }, "request 1 has flags 0x2" },
        { { VU_GET_FEATURES, 5, 0 }, "request 1 has flags 0x5" },
        { { VU_SET_OWNER, 1, 4097 }, "request 3 has a payload of 4097 bytes" },
        { { VU_SET_OWNER, 1, UINT32_MAX }, "has a payload of 4294967295" },
        { { 0, 1, 0 }, "request 0: not known here" },
        { { 99, 1, 0 }, "request 99: not known here" },
        { { UINT32_MAX, 1, 0 }, "request 4294967295: not known here" },
        { { VU_GET_BACKEND_SPECS, 1, 0 }, "request 41: not negotiated" },
        { { VU_GET_CONFIG, 1, 0 }, "request 24: not negotiated" },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct vu_client c;

        vu_spawn(&c, "husk-rng", NULL);
        cr_assert_eq(write(c.fd, &rows[i].h, VU_HEADER_SIZE), VU_HEADER_SIZE);
        expect_hangup(&c, rows[i].says);
    }
}

/* The front-end goes in the middle of a message, at each byte of it. */
Test(runtime, cut, .timeout = 60)
{
    uint8_t message[VU_HEADER_SIZE + 8] = {
        VU_SET_FEATURES, 0, 0, 0, 1, 0, 0, 0, 8
    };

    for (unsigned n = 0; n <= sizeof message; n++) {
        struct vu_client c;

        vu_spawn(&c, "husk-rng", NULL);
        cr_assert_eq(write(c.fd, message, n), (ssize_t)n);
        if (n && n < sizeof message) {
            shutdown(c.fd, SHUT_WR);
            vu_says(&c, "hung up in the middle of a message");
            vu_end(&c, 1);
        } else {
            vu_end(&c, 0);
        }
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    strcpy(addr.sun_path, path);
    for (int i = 0; i < 500; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (!connect(fd, (struct sockaddr *)&addr, sizeof addr))
            return fd;
        close(fd);
        usleep(10000);
    }
    cr_assert_fail("nobody listens at %s", path);
    return -1;
}

static int wait_for(pid_t pid)
{
    int status;

    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* A path serves one front-end after another, and is tidy. */
Test(runtime, socket_path, .timeout = 60)
{
    char dir[] = "/tmp/husk-test-XXXXXX", path[64], arg[96];
    const char *args[] = { arg, NULL };
    struct buffer one = { DATA, 64, true };
    struct stat st;

    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/sock", dir);
    snprintf(arg, sizeof arg, "--socket-path=%s", path);
    for (unsigned turn = 0; turn < 2; turn++) {
        int err = memfd_create("stderr", MFD_CLOEXEC);
        pid_t pid = vu_exec("husk-rng", args, -1, err);

        for (unsigned i = 0; i < 3; i++) {
            struct vu_client c = { .pid = pid, .stderr_fd = err };

            vu_connected(&c, connect_to(path));
            vu_start(&c, 0, 1, 8);
            cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
            close(c.fd);
            munmap(c.mem, VU_MEM_SIZE);
        }
        /* one that breaks the protocol ends its own connection only */
        int fd = connect_to(path);
        char junk[64];

        memset(junk, 0xff, sizeof junk);
        cr_assert_eq(write(fd, junk, sizeof junk), (ssize_t)sizeof junk);
        cr_assert_leq(read(fd, junk, 1), 0);
        close(fd);

        /* the path is not taken away from a program that listens */
        int other = memfd_create("stderr", MFD_CLOEXEC);

        cr_assert_eq(wait_for(vu_exec("husk-rng", args, -1, other)), 1);
        vu_says(&(struct vu_client){ .stderr_fd = other },
                "another program listens there");
        kill(pid, turn ? SIGINT : SIGTERM);
        cr_assert_eq(wait_for(pid), 0);
        cr_assert_neq(stat(path, &st), 0);
    }

    /* left behind by one that was killed: replaced */
    pid_t pid = vu_exec("husk-rng", args, -1, -1);

    close(connect_to(path));
    kill(pid, SIGKILL);
    cr_assert_eq(wait_for(pid), 256 + SIGKILL);
    cr_assert_eq(stat(path, &st), 0);
    pid = vu_exec("husk-rng", args, -1, -1);
    close(connect_to(path));
    kill(pid, SIGTERM);
    cr_assert_eq(wait_for(pid), 0);
    rmdir(dir);
}

/* A listening descriptor is accepted on. */
Test(runtime, listening_fd, .timeout = 30)
{
    char path[] = "/tmp/husk-test-XXXXXX";
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct buffer one = { DATA, 64, true };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int err = memfd_create("stderr", MFD_CLOEXEC);

    cr_assert_not_null(mkdtemp(path));
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/s", path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    cr_assert_eq(listen(fd, 2), 0);

    pid_t pid = vu_exec("husk-rng", NULL, fd, err);

    close(fd);
    for (unsigned i = 0; i < 2; i++) {
        struct vu_client c = { .pid = pid, .stderr_fd = err };

        vu_connected(&c, connect_to(addr.sun_path));
        vu_start(&c, 0, 1, 8);
        cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
        close(c.fd);
    }
    kill(pid, SIGTERM);
    cr_assert_eq(wait_for(pid), 0);
    unlink(addr.sun_path);
    rmdir(path);
}

/* Command lines that cannot be, each with one line. */
Test(runtime, options, .timeout = 30)
{
    static const struct {
        const char *args[3];
        int status;
        const char *says;
    } rows[] = {
        { { NULL }, 1, "give either --socket-path or --fd" },
        { { "--fd=0", "--socket-path=/tmp/x" }, 1, "give either" },
        { { "--fd=x" }, 1, "--fd=x: give a number from 0" },
        { { "--fd=-1" }, 1, "--fd=-1: give a number from 0" },
        { { "--fd=999" }, 1, "--fd=999: Bad file descriptor" },
        { { "--nonsense" }, 1, "--nonsense: no such option" },
        { { "--help=x" }, 1, "--help=x: no such option, or one that takes" },
        { { "--fd" }, 1, "--fd: give it a value" },
        { { "--fd=0", "more" }, 1, "more: not an option" },
        { { "--socket-path=" }, 1, "has 1 to 107 bytes, not 0" },
        { { "--socket-path=/tmp/0123456789012345678901234567890123456789012345"
            "678901234567890123456789012345678901234567890123456789012345678" },
          1,
          "1 to 107 bytes" },
        { { "--socket-path=/nowhere/at/all" },
          1,
          "--socket-path=/nowhere/at/all: No such file" },
        { { "--socket-path=/tmp" },
          1,
          "a file that is no socket is there: give" },
        { { "--help" }, 0, "" },
        { { "--version" }, 0, "" },
        { { "--print-capabilities" }, 0, "" },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int err = memfd_create("stderr", MFD_CLOEXEC);
        char all[512];

        cr_assert_eq(wait_for(vu_exec("husk-rng", rows[i].args, -1, err)),
                     rows[i].status, "row %u", i);
        vu_says(&(struct vu_client){ .stderr_fd = err }, rows[i].says);

        ssize_t n = pread(err, all, sizeof all, 0);

        /* one line, and it ends */
        if (rows[i].status) {
            cr_assert_gt(n, 0);
            cr_assert_eq(memchr(all, '\n', (size_t)n), all + n - 1, "row %u",
                         i);
        }
        close(err);
    }
}
