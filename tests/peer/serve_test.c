/*
 * What the test back-end remembers from one connection to the next, and the
 * ways of serving rings that its other tests leave out.
 */
#include "front.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

static void put16(uint8_t *to, uint16_t v)
{
    memcpy(to, &v, sizeof v);
}

static uint16_t get16(const uint8_t *from)
{
    uint16_t v;

    memcpy(&v, from, sizeof v);
    return v;
}

static void put_descriptor(uint8_t *to, uint64_t addr, uint32_t len,
                           uint16_t flags, uint16_t next)
{
    memcpy(to, &addr, sizeof addr);
    memcpy(to + 8, &len, sizeof len);
    put16(to + 12, flags);
    put16(to + 14, next);
}

static void begin_at_path(struct front *f, char *path, size_t size,
                          const char *args)
{
    char all[256];

    snprintf(path, size, "/tmp/peer-test-%d.sock", (int)getpid());
    snprintf(all, sizeof all, "--socket-path=%s %s", path, args);
    front_begin(f, all);
    front_connect(f, path);
}

Test(serve, a_failed_probe_is_not_tried_again, .timeout = 20)
{
    static const struct {
        const char *args;
        int status;
        const char *said;
    } cases[] = {
        { "--at-41=hangup", 3, "failed on an earlier connection" },
        { "--at-41=hangup --forget --connections=2", 0, NULL },
        { "--connections=2", 0, NULL },
    };
    struct front f;
    char path[64];

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_at_path(&f, path, sizeof path, cases[i].args);
        front_hello(&f);
        front_connect(&f, path);
        front_hello(&f);
        front_finish(&f, cases[i].status, cases[i].said);
        unlink(path);
    }
}

Test(serve, a_ring_goes_on_after_a_reconnect, .timeout = 20)
{
    struct front f;
    char path[64];

    /* base 3, where the used ring stands: only for whom it ran before */
    for (int again = 0; again < 2; again++) {
        begin_at_path(&f, path, sizeof path, again ? "--connections=2" : "");
        if (again) {
            front_live(&f);
            front_connect(&f, path);
        }
        front_hello(&f);
        front_features_ok(&f);
        front_memory(&f);
        put16(f.ram + front_used(0) + 2, 3);
        front_state(&f, WIRE_SET_VRING_NUM, 0, f.num);
        front_addr(&f, 0, FRONT_USER + front_desc(0),
                   FRONT_USER + front_avail(0), FRONT_USER + front_used(0));
        front_state(&f, WIRE_SET_VRING_BASE, 0, 3);
        front_ask(&f, WIRE_GET_STATUS);
        front_finish(&f, again ? 0 : 3, again ? NULL : "0x3, not 0x0");
        unlink(path);
    }
}

static int receive_fd(struct front *f, void *payload, size_t size)
{
    uint8_t bytes[64];
    int fd = -1;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { bytes, WIRE_HEADER + size };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };

    cr_assert_eq(recvmsg(f->fd, &msg, MSG_WAITALL),
                 (ssize_t)(WIRE_HEADER + size));
    cr_assert_not_null(CMSG_FIRSTHDR(&msg));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    memcpy(payload, bytes + WIRE_HEADER, size);
    return fd;
}

Test(serve, an_inflight_area_tells_where_to_go_on, .timeout = 20)
{
    struct front f;
    struct wire_inflight i = { .queues = 1, .queue_size = 8 };

    front_begin(&f, "--protocol=19209");
    front_hello(&f);
    front_send(&f, WIRE_GET_INFLIGHT_FD, WIRE_VERSION, &i, sizeof i);
    int fd = receive_fd(&f, &i, sizeof i);

    cr_assert_eq(i.size, 16 + 16 * 8);
    front_send_fd(&f, WIRE_SET_INFLIGHT_FD, WIRE_VERSION, &i, sizeof i, fd);
    /* as after a reconnect: the area has been used, the ring stands at 2 */
    front_send_fd(&f, WIRE_SET_INFLIGHT_FD, WIRE_VERSION, &i, sizeof i, fd);
    put16(f.ram + front_used(0) + 2, 2);
    put16(f.ram + front_avail(0) + 2, 2);
    front_features_ok(&f);
    uint32_t n[2] = { 1, 0 };
    struct wire_region r = { FRONT_GUEST, FRONT_SIZE, FRONT_USER, 0 };
    uint8_t table[40];

    memcpy(table, n, sizeof n);
    memcpy(table + 8, &r, sizeof r);
    front_send_fd(&f, WIRE_SET_MEM_TABLE, WIRE_VERSION, table, sizeof table,
                  f.memory);
    front_ring(&f, 0);
    front_driver_ok(&f);
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 16);
    cr_expect(front_called(&f, 0, 2000));
    cr_expect_eq(get16(f.ram + front_used(0) + 2), 3);
    close(fd);
    front_finish(&f, 0, NULL);
}

Test(serve, event_idx_keeps_quiet, .timeout = 20)
{
    struct front f;
    uint8_t *used_event;

    front_begin(&f, NULL);
    f.features |= BIT(F_EVENT_IDX);
    used_event = f.ram + front_avail(0) + 4 + 2 * f.num;
    put16(used_event, 2);
    front_live(&f);
    for (int i = 1; i <= 3; i++) {
        front_offer(&f, 0, FRONT_GUEST + 0x80000, 16);
        cr_expect_eq(front_called(&f, 0, i == 3 ? 2000 : 100), i == 3, "%d", i);
    }
    /* the avail event says which buffer to kick for */
    cr_expect_eq(get16(f.ram + front_used(0) + 4 + 8 * f.num), 3);
    front_finish(&f, 0, NULL);
}

Test(serve, an_indirect_chain_is_echoed, .timeout = 20)
{
    struct front f;
    uint8_t *table;
    uint32_t len;

    front_begin(&f, "--echo");
    f.features |= BIT(F_INDIRECT);
    table = f.ram + 0x90000;
    memcpy(f.ram + 0x80000, "hello, echo", 12);
    put_descriptor(table, FRONT_GUEST + 0x80000, 5, 1, 1);
    put_descriptor(table + 16, FRONT_GUEST + 0x80005, 7, 1, 2);
    put_descriptor(table + 32, FRONT_GUEST + 0xa0000, 4, 3, 3);
    put_descriptor(table + 48, FRONT_GUEST + 0xb0000, 100, 2, 0);
    front_live(&f);
    put_descriptor(f.ram + front_desc(0), FRONT_GUEST + 0x90000, 64, 4, 0);
    put16(f.ram + front_avail(0) + 2, 1);
    front_driver_ok(&f); /* a second one: the same status, and a kick */
    cr_expect(front_called(&f, 0, 2000));
    memcpy(&len, f.ram + front_used(0) + 8, sizeof len);
    cr_expect_eq(len, 12);
    cr_expect_eq(memcmp(f.ram + 0xa0000, "hell", 4), 0);
    cr_expect_str_eq((char *)f.ram + 0xb0000, "o, echo");
    front_finish(&f, 0, NULL);
}

Test(serve, in_band, .timeout = 20)
{
    struct front f;
    int pair[2];
    struct wire_header h;
    struct wire_state s;
    uint64_t kicks;

    front_begin(&f, "--allow-inband --protocol=1e229 --dialect=none");
    front_send(&f, WIRE_SET_OWNER, WIRE_VERSION, NULL, 0);
    front_ask(&f, WIRE_GET_FEATURES);
    front_u64(&f, WIRE_SET_PROTOCOL_FEATURES,
              front_ask(&f, WIRE_GET_PROTOCOL_FEATURES));
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    front_send_fd(&f, WIRE_SET_BACKEND_REQ_FD, WIRE_VERSION, NULL, 0, pair[1]);
    close(pair[1]);
    f.channel = pair[0];
    front_features_ok(&f);
    front_memory(&f);
    front_state(&f, WIRE_SET_VRING_NUM, 0, f.num);
    front_addr(&f, 0, FRONT_USER + front_desc(0), FRONT_USER + front_avail(0),
               FRONT_USER + front_used(0));
    front_state(&f, WIRE_SET_VRING_BASE, 0, 0);
    front_state(&f, WIRE_SET_VRING_ENABLE, 0, 1);
    front_u64(&f, WIRE_SET_STATUS, 0xf);
    front_offer(&f, 0, FRONT_GUEST + 0x80000, 16);
    cr_expect_eq(read(f.kick[0], &kicks, sizeof kicks), 8); /* nobody's */
    front_state(&f, WIRE_VRING_KICK, 0, 0);
    struct pollfd ready = { .fd = f.channel, .events = POLLIN };

    cr_assert_eq(poll(&ready, 1, 100000), 1);
    cr_assert_eq(read(f.channel, &h, sizeof h), (ssize_t)sizeof h);
    cr_assert_eq(read(f.channel, &s, sizeof s), (ssize_t)sizeof s);
    cr_expect_eq(h.request, (uint32_t)WIRE_BACKEND_VRING_CALL);
    cr_expect_eq(s.index, 0u);
    cr_expect_eq(f.ram[0x80000 + 15], 0xa5);
    front_finish(&f, 0, NULL);
    front_begin(&f, "--protocol=1e229 --dialect=none");
    front_ask(&f, WIRE_GET_FEATURES);
    front_u64(&f, WIRE_SET_PROTOCOL_FEATURES,
              front_ask(&f, WIRE_GET_PROTOCOL_FEATURES));
    front_finish(&f, 3, "0x4000 is not served");
}

Test(serve, shared_memory_is_listed, .timeout = 20)
{
    struct front f;
    uint64_t reply[257];

    front_begin(&f, "--protocol=410021 --shmem=0,4096");
    front_hello(&f);
    front_send(&f, WIRE_GET_SHMEM_CONFIG, WIRE_VERSION, NULL, 0);
    cr_expect_eq(front_receive(&f, WIRE_GET_SHMEM_CONFIG, reply, sizeof reply),
                 (int)WIRE_SHMEM_REPLY);
    cr_expect_eq(reply[0], 1); /* those of size 0 do not count */
    cr_expect_eq(reply[1], 0);
    cr_expect_eq(reply[2], 4096);
    front_finish(&f, 0, NULL);
}

Test(serve, the_transcript_tells_batches, .timeout = 20)
{
    struct front f;
    char path[64], args[128], text[8192];
    size_t n;

    snprintf(path, sizeof path, "/tmp/peer-test-%d.log", (int)getpid());
    snprintf(args, sizeof args, "--latency=30 --log=%s", path);
    front_begin(&f, args);
    front_hello(&f);
    front_finish(&f, 0, NULL);
    FILE *log = fopen(path, "r");

    cr_assert_not_null(log);
    n = fread(text, 1, sizeof text - 1, log);
    text[n] = '\0';
    fclose(log);
    unlink(path);
    char *ack = strstr(text, "< SET_PROTOCOL_FEATURES");
    char *ask = strstr(text, "< GET_BACKEND_SPECS");

    cr_assert_not_null(ack, "%s", text);
    cr_assert_not_null(ask, "%s", text);
    /* "c1 bN <": the same batch */
    cr_expect_eq(memcmp(ack - 6, ask - 6, 6), 0, "%s", text);
    cr_expect_not_null(strstr(text, "> GET_QUEUE_NUM"), "%s", text);
    cr_expect_not_null(strstr(text, "wait 3"), "%s", text);
    cr_expect_null(strstr(text, "wait 4"), "%s", text);
}
