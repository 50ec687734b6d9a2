/*
 * The faults of the test back-end: each does what it says, and only there.
 */
#include "front.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

static void channel(struct front *f)
{
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    front_send_fd(f, WIRE_SET_BACKEND_REQ_FD, WIRE_VERSION, NULL, 0, pair[1]);
    close(pair[1]);
    f->channel = pair[0];
}

static void live_with_channel(struct front *f)
{
    front_hello(f);
    channel(f);
    front_features_ok(f);
    front_memory(f);
    front_ring(f, 0);
    front_driver_ok(f);
}

/* Answer n back-end requests with value; returns the last one's number. */
static uint32_t answer(struct front *f, int n, uint64_t value)
{
    struct wire_header h = { 0, 0, 0 };

    for (int i = 0; i < n; i++) {
        struct pollfd ready = { .fd = f->channel, .events = POLLIN };

        cr_assert_eq(poll(&ready, 1, 100000), 1, "no back-end request %d", i);
        cr_assert_eq(read(f->channel, &h, sizeof h), (ssize_t)sizeof h);
        cr_assert_eq(h.flags, (uint32_t)(WIRE_VERSION | WIRE_NEED_REPLY));
        uint8_t out[20];
        struct wire_header a = { h.request, WIRE_VERSION | WIRE_REPLY, 8 };

        memcpy(out, &a, sizeof a);
        memcpy(out + sizeof a, &value, sizeof value);
        cr_assert_eq(write(f->channel, out, sizeof out), (ssize_t)sizeof out);
    }
    return h.request;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

Test(fault, buffers_are_filled, .timeout = 20)
{
    struct front f;

    front_begin(&f, "--fill=3c --stats");
    front_live(&f);
    for (int i = 0; i < 40; i++) {
        memset(f.ram + 0x80000, 0, 64);
        front_offer(&f, 0, FRONT_GUEST + 0x80000, 64);
        cr_assert(front_called(&f, 0, 2000), "buffer %d", i);
        cr_assert_eq(f.ram[0x80000], 0x3c);
        cr_assert_eq(f.ram[0x80000 + 63], 0x3c);
        cr_assert_eq(f.ram[0x80000 + 64], 0);
    }
    front_finish(&f, 0, "buffers=40 calls=40");
}

Test(fault, a_mad_driver_breaks_its_ring_only, .timeout = 20)
{
    struct front f;
    struct pollfd err;

    front_begin(&f, NULL);
    front_live(&f);
    front_offer(&f, 0, 0xdead0000, 64);
    err = (struct pollfd){ .fd = f.err[0], .events = POLLIN };
    cr_expect_eq(poll(&err, 1, 100000), 1);
    front_finish(&f, 0, "makes no sense");
}

Test(fault, no_call, .timeout = 20)
{
    struct front f;
    uint16_t idx = 0;

    front_begin(&f, "--no-call");
    front_live(&f);
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 64);
    cr_expect_not(front_called(&f, 0, 200));
    memcpy(&idx, f.ram + front_used(0) + 2, sizeof idx);
    cr_expect_eq(idx, 1);
    front_finish(&f, 0, NULL);
}

Test(fault, spurious_call, .timeout = 20)
{
    struct front f;

    front_begin(&f, "--spurious-call");
    front_live(&f);
    for (int i = 0; i < 5; i++)
        cr_expect(front_called(&f, 0, 1000));
    cr_expect_eq(f.ram[front_used(0) + 2], 0);
    front_finish(&f, 0, NULL);
}

Test(fault, vring_err_after, .timeout = 20)
{
    struct front f;
    struct pollfd err;

    front_begin(&f, "--vring-err-after=2");
    front_live(&f);
    err = (struct pollfd){ .fd = f.err[0], .events = POLLIN };
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 64);
    cr_expect(front_called(&f, 0, 2000));
    cr_expect_eq(poll(&err, 1, 50), 0);
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 64);
    cr_expect_eq(poll(&err, 1, 100000), 1);
    front_finish(&f, 0, NULL);
}

Test(fault, a_kick_before_enable_is_lost, .timeout = 20)
{
    struct front f;

    front_begin(&f, "--ignore-kick-until-enabled --max-vqs=2");
    front_hello(&f);
    front_features_ok(&f);
    front_memory(&f);
    f.features &= ~BIT(F_PROTOCOL);
    front_ring(&f, 0); /* all but the ENABLE */
    front_ask(&f, WIRE_GET_STATUS);
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 64);
    usleep(200000);
    front_state(&f, WIRE_SET_VRING_ENABLE, 0, 1);
    front_u64(&f, WIRE_SET_STATUS, 0xf);
    cr_expect_not(front_called(&f, 0, 200));
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 64);
    cr_expect(front_called(&f, 0, 2000));
    front_finish(&f, 0, "a kick of ring 0 is lost");
}

Test(fault, config_changes, .timeout = 20)
{
    struct front f;
    struct {
        struct wire_config c;
        uint8_t bytes[4];
    } m = { { 0, 4, 0 }, { 0 } };

    front_begin(&f, "--config=01020304 --config-change=10 --config-changes=3 "
                    "--stats");
    live_with_channel(&f);
    cr_expect_eq(answer(&f, 3, 0), (uint32_t)WIRE_BACKEND_CONFIG_CHANGE);
    front_send(&f, WIRE_GET_CONFIG, WIRE_VERSION, &m, sizeof m);
    cr_expect_eq(front_receive(&f, WIRE_GET_CONFIG, &m, sizeof m), 16);
    cr_expect_eq(m.bytes[0], 4);
    cr_expect_eq(m.bytes[3], 7);
    front_finish(&f, 0, "config-changes=3");
}

Test(fault, a_config_change_must_be_answered, .timeout = 20)
{
    struct front f;

    front_begin(&f, "--config=01 --config-change=10 --answer-limit=100");
    live_with_channel(&f);
    usleep(400000);
    front_finish(&f, 3, "was not answered within 100 ms");
}

Test(fault, an_unknown_back_end_request, .timeout = 20)
{
    struct front f;

    front_begin(&f, "--backend-request=200");
    live_with_channel(&f);
    cr_expect_eq(answer(&f, 1, 1), 200u);
    usleep(100000);
    front_finish(&f, 0, "was refused");
    front_begin(&f, "--backend-request=200");
    live_with_channel(&f);
    cr_expect_eq(answer(&f, 1, 0), 200u);
    usleep(100000);
    front_finish(&f, 3, "was answered with 0");
}

Test(fault, round_trips_are_counted, .timeout = 20)
{
    struct front f;
    double begun = seconds();

    front_begin(&f, "--latency=30 --stats");
    front_hello(&f);
    cr_expect_geq(seconds() - begun, 0.09);
    front_finish(&f, 0, "waits=3 handshake-waits=3");
}

Test(fault, dies_and_hangs, .timeout = 20)
{
    struct front f;
    uint64_t value;

    front_begin(&f, "--die-at=GET_FEATURES:2");
    front_ask(&f, WIRE_GET_FEATURES);
    front_send(&f, WIRE_GET_FEATURES, WIRE_VERSION, NULL, 0);
    cr_expect_eq(front_receive(&f, WIRE_GET_FEATURES, &value, 8), -1);
    front_finish(&f, 4, "dies at GET_FEATURES");
    front_begin(&f, "--hang-at=GET_PROTOCOL_FEATURES");
    front_ask(&f, WIRE_GET_FEATURES);
    front_send(&f, WIRE_GET_PROTOCOL_FEATURES, WIRE_VERSION, NULL, 0);
    front_send(&f, WIRE_GET_FEATURES, WIRE_VERSION, NULL, 0);
    cr_expect_eq(front_receive(&f, WIRE_GET_FEATURES, &value, 8), -1);
    front_finish(&f, 0, "hangs at GET_PROTOCOL_FEATURES");
}

static size_t raw(struct front *f, uint8_t *to, size_t size)
{
    size_t n = 0;
    struct pollfd ready = { .fd = f->fd, .events = POLLIN };

    while (n < size && poll(&ready, 1, 300) == 1) {
        ssize_t got = read(f->fd, to + n, size - n);

        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return n;
}

Test(fault, replies_are_falsified, .timeout = 20)
{
    struct front f;
    uint8_t b[64];
    struct wire_header h;
    uint64_t value;

    front_begin(&f, "--mutate=GET_FEATURES:size=10 "
                    "--mutate=GET_FEATURES:flags=0x9 "
                    "--mutate=1:request=0xffff --mutate=1:w4=0x10001 "
                    "--mutate=1:p0=0x7e");
    front_send(&f, WIRE_GET_FEATURES, WIRE_VERSION, NULL, 0);
    cr_assert_eq(raw(&f, b, sizeof b), 22);
    memcpy(&h, b, sizeof h);
    memcpy(&value, b + 12, sizeof value);
    cr_expect_eq(h.request, 0xffffu);
    cr_expect_eq(h.flags, 9u);
    cr_expect_eq(h.size, 10u);
    cr_expect_eq(value, UINT64_C(0x100017000007e));
    front_finish(&f, 0, NULL);
    front_begin(&f, "--cut=GET_FEATURES#2:13");
    front_ask(&f, WIRE_GET_FEATURES);
    front_send(&f, WIRE_GET_FEATURES, WIRE_VERSION, NULL, 0);
    cr_expect_eq(raw(&f, b, sizeof b), 13);
    front_finish(&f, 0, NULL);
}

Test(fault, descriptors_are_attached, .timeout = 20)
{
    struct front f;
    uint8_t b[64];
    union {
        char bytes[CMSG_SPACE(253 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { b, sizeof b };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };

    front_begin(&f, "--attach-fds=GET_FEATURES:253");
    front_send(&f, WIRE_GET_FEATURES, WIRE_VERSION, NULL, 0);
    cr_assert_eq(recvmsg(f.fd, &msg, 0), 20);
    cr_assert_not_null(CMSG_FIRSTHDR(&msg));
    cr_expect_eq(CMSG_FIRSTHDR(&msg)->cmsg_len, CMSG_LEN(253 * sizeof(int)));
    front_finish(&f, 0, NULL);
}

Test(fault, replies_drip, .timeout = 20)
{
    struct front f;
    double begun = seconds();

    front_begin(&f, "--drip=10");
    cr_expect_neq(front_ask(&f, WIRE_GET_FEATURES), 0);
    cr_expect_geq(seconds() - begun, 0.19);
    front_finish(&f, 0, NULL);
}

Test(fault, a_ring_size_is_refused, .timeout = 20)
{
    struct front f;
    struct wire_state s = { 0, 8 };
    uint64_t value = 0;

    front_begin(&f, "--refuse-num=4");
    front_hello(&f);
    front_features_ok(&f);
    front_memory(&f);
    front_send(&f, WIRE_SET_VRING_NUM, WIRE_VERSION | WIRE_NEED_REPLY, &s,
               sizeof s);
    cr_expect_eq(front_receive(&f, WIRE_SET_VRING_NUM, &value, 8), 8);
    cr_expect_eq(value, 1);
    front_finish(&f, 0, "size 8 of ring 0 refused");
}

Test(fault, at_41, .timeout = 20)
{
    static const struct {
        const char *args;
        ssize_t bytes; /* of the two replies, 41 and GET_QUEUE_NUM */
    } cases[] = {
        { "--at-41=hangup", 0 },   { "--at-41=ignore", 20 },
        { "--at-41=silence", 0 },  { "--at-41=zero", 32 },
        { "--at-41=u64", 40 },     { "--at-41=short", 44 },
        { "--specs-extra=8", 56 }, { "--dialect=messages", 36 },
    };
    struct {
        struct wire_header set;
        uint64_t value;
        struct wire_header ask, fence;
    } __attribute__((packed)) out = {
        { WIRE_SET_PROTOCOL_FEATURES, WIRE_VERSION, 8 },
        BIT(PF_MQ) | BIT(PF_PROBE),
        { WIRE_PROBE, WIRE_VERSION, 0 },
        { WIRE_GET_QUEUE_NUM, WIRE_VERSION, 0 },
    };
    uint8_t b[128];
    struct front f;

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        front_begin(&f, cases[i].args);
        front_ask(&f, WIRE_GET_FEATURES);
        front_ask(&f, WIRE_GET_PROTOCOL_FEATURES);
        cr_assert_eq(send(f.fd, &out, sizeof out, 0), (ssize_t)sizeof out);
        cr_expect_eq((ssize_t)raw(&f, b, sizeof b), cases[i].bytes, "%s",
                     cases[i].args);
        front_finish(&f, 0, NULL);
    }
}
