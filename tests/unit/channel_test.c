/*
 * The back-end's own requests: those that are served are answered, all others
 * refused, a flood of them holds up nothing, and what breaks the protocol ends
 * the channel.
 */
#include "devices/channel.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ALL      (VU_PF_INBAND_NOTIFICATIONS | VU_PF_SHMEM)

struct loop {
    struct channel channel;
    int far;
    unsigned opened;
    unsigned n_changed, n_call, n_error, n_map, n_unmap;
    struct vu_map map;
    bool had_fd;
    int rc; /* of all of them */
};

static struct husk_err err;

static int on_changed(void *ctx)
{
    struct loop *loop = ctx;

    loop->n_changed++;
    return loop->rc;
}

static int on_call(void *ctx)
{
    struct loop *loop = ctx;

    loop->n_call++;
    return loop->rc;
}

static int on_error(void *ctx)
{
    struct loop *loop = ctx;

    loop->n_error++;
    return loop->rc;
}

static int on_map(void *ctx, const struct vu_map *map, int fd)
{
    struct loop *loop = ctx;

    loop->n_map++;
    loop->map = *map;
    loop->had_fd = fd >= 0;
    return loop->rc;
}

static int on_unmap(void *ctx, const struct vu_map *map)
{
    struct loop *loop = ctx;

    loop->n_unmap++;
    loop->map = *map;
    return loop->rc;
}

static const struct channel_ops ops = { on_changed, on_call, on_error, on_map,
                                        on_unmap };

static void loop_init(struct loop *loop, uint64_t acked)
{
    memset(loop, 0, sizeof *loop);
    loop->opened = far_open_fds();
    cr_assert_eq(channel_init(&loop->channel, &ops, loop), 0);
    loop->channel.acked = acked;
    loop->far = loop->channel.far;
    loop->channel.far = -1;
}

static void loop_fini(struct loop *loop)
{
    channel_fini(&loop->channel);
    channel_fini(&loop->channel);
    if (loop->far >= 0)
        close(loop->far);
    cr_assert_eq(far_open_fds(), loop->opened, "%d descriptors left",
                 (int)(far_open_fds() - loop->opened));
}

static void request(struct loop *loop, uint32_t number, uint32_t flags,
                    const void *payload, uint32_t size, unsigned n_fds)
{
    struct vu_header header = { number, flags, size };
    uint8_t bytes[VU_HEADER_SIZE + 256] = { 0 };

    memcpy(bytes, &header, sizeof header);
    if (payload)
        memcpy(bytes + sizeof header, payload, size);
    far_raw(loop->far, bytes, sizeof header + size, n_fds);
}

/* The answer's value; -1: none came. */
static int64_t answer(struct loop *loop, uint32_t number)
{
    struct far_message message;
    uint64_t value;

    if (!far_take(loop->far, &message))
        return -1;
    cr_assert_eq(message.header.request, number);
    cr_assert_eq(message.header.flags, VU_VERSION | VU_REPLY);
    cr_assert_eq(message.header.size, 8);
    cr_assert_eq(message.n_fds, 0);
    memcpy(&value, message.payload, sizeof value);
    cr_assert_leq(value, INT32_MAX);
    return (int64_t)value;
}

static int step(struct loop *loop)
{
    return channel_step(&loop->channel, &err);
}

Test(channel, config_change, .timeout = 10)
{
    struct loop loop;

    loop_init(&loop, 0);
    cr_assert_eq(step(&loop), 0);
    request(&loop, VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION, NULL, 0, 0);
    cr_assert_eq(step(&loop), 0);
    cr_assert_eq(loop.n_changed, 1);
    cr_assert_eq(answer(&loop, 2), -1, "answered though it did not ask");
    request(&loop, VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION | VU_NEED_REPLY,
            NULL, 0, 0);
    cr_assert_eq(step(&loop), 0);
    cr_assert_eq(loop.n_changed, 2);
    cr_assert_eq(answer(&loop, 2), 0);
    loop.rc = -EINVAL;
    request(&loop, VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION | VU_NEED_REPLY,
            NULL, 0, 0);
    cr_assert_eq(step(&loop), 0);
    cr_assert_gt(answer(&loop, 2), 0);
    loop_fini(&loop);
}

/* What is served, by what was acknowledged. */
Test(channel, served, .timeout = 10)
{
    struct vu_map map = { .shmid = 3,
                          .fd_offset = 4096,
                          .shm_offset = 8192,
                          .size = 12288,
                          .flags = VU_MAP_WRITABLE };
    struct vu_vring_state ring = { 1, 0 };

    for (unsigned acked = 0; acked < 2; acked++) {
        struct loop loop;
        unsigned want = acked;

        loop_init(&loop, acked ? ALL : 0);
        request(&loop, VU_BACKEND_VRING_CALL, VU_VERSION | VU_NEED_REPLY, &ring,
                sizeof ring, 0);
        request(&loop, VU_BACKEND_VRING_ERR, VU_VERSION | VU_NEED_REPLY, &ring,
                sizeof ring, 0);
        request(&loop, VU_BACKEND_SHMEM_MAP, VU_VERSION | VU_NEED_REPLY, &map,
                sizeof map, 1);
        request(&loop, VU_BACKEND_SHMEM_UNMAP, VU_VERSION | VU_NEED_REPLY, &map,
                sizeof map, 0);
        cr_assert_eq(step(&loop), 0);
        cr_assert_eq(loop.n_call, want);
        cr_assert_eq(loop.n_error, want);
        cr_assert_eq(loop.n_map, want);
        cr_assert_eq(loop.n_unmap, want);
        cr_assert_eq(loop.had_fd, acked);
        if (acked)
            cr_assert_eq(memcmp(&loop.map, &map, sizeof map), 0);
        cr_assert_eq(answer(&loop, VU_BACKEND_VRING_CALL) == 0, acked);
        cr_assert_eq(answer(&loop, VU_BACKEND_VRING_ERR) == 0, acked);
        cr_assert_eq(answer(&loop, VU_BACKEND_SHMEM_MAP) == 0, acked);
        cr_assert_eq(answer(&loop, VU_BACKEND_SHMEM_UNMAP) == 0, acked);
        loop_fini(&loop);
    }
}

/* Payloads and descriptors as they must not be: refused, and the channel
 * lives. */
Test(channel, refused, .timeout = 20)
{
    static const struct {
        uint32_t number, size;
        unsigned n_fds;
    } rows[] = {
        { 0, 0, 0 },
        { 1, 0, 0 },
        { 1, 32, 0 },
        { 3, 0, 0 },
        { 3, 16, 1 },
        { 11, 0, 0 },
        { 200, 4, 0 },
        { 0xffffffff, 0, 0 },
        { VU_BACKEND_CONFIG_CHANGE_MSG, 1, 0 },
        { VU_BACKEND_CONFIG_CHANGE_MSG, 8, 0 },
        { VU_BACKEND_CONFIG_CHANGE_MSG, 0, 1 },
        { VU_BACKEND_CONFIG_CHANGE_MSG, 0, 253 },
        { VU_BACKEND_VRING_CALL, 0, 0 },
        { VU_BACKEND_VRING_CALL, 7, 0 },
        { VU_BACKEND_VRING_CALL, 9, 0 },
        { VU_BACKEND_VRING_CALL, 8, 1 },
        { VU_BACKEND_VRING_ERR, 4, 0 },
        { VU_BACKEND_VRING_ERR, 8, 8 },
        { VU_BACKEND_SHMEM_MAP, 40, 0 },
        { VU_BACKEND_SHMEM_MAP, 40, 2 },
        { VU_BACKEND_SHMEM_MAP, 39, 1 },
        { VU_BACKEND_SHMEM_MAP, 48, 1 },
        { VU_BACKEND_SHMEM_MAP, 40, 253 },
        { VU_BACKEND_SHMEM_UNMAP, 40, 1 },
        { VU_BACKEND_SHMEM_UNMAP, 0, 0 },
        { VU_BACKEND_SHMEM_UNMAP, 41, 0 },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct loop loop;

        loop_init(&loop, ALL);
        request(&loop, rows[i].number, VU_VERSION | VU_NEED_REPLY, NULL,
                rows[i].size, rows[i].n_fds);
        cr_assert_eq(step(&loop), 0, "row %u", i);
        cr_assert_gt(answer(&loop, rows[i].number), 0, "row %u", i);
        cr_assert_eq(loop.n_changed + loop.n_call + loop.n_error + loop.n_map +
                         loop.n_unmap,
                     0);
        /* its descriptors are gone without waiting for more */
        cr_assert_eq(far_open_fds(), loop.opened + 2, "row %u: %u are left", i,
                     far_open_fds() - loop.opened - 2);
        request(&loop, VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION, NULL, 0, 0);
        cr_assert_eq(step(&loop), 0);
        cr_assert_eq(loop.n_changed, 1);
        loop_fini(&loop);
    }
}

/* What no back-end may say. */
Test(channel, broken, .timeout = 10)
{
    static const struct {
        uint32_t flags, size;
    } rows[] = {
        { 0, 0 },
        { 2, 0 },
        { 3, 0 },
        { VU_VERSION | VU_REPLY, 0 },
        { VU_VERSION | VU_REPLY | VU_NEED_REPLY, 0 },
        { VU_VERSION, 4097 },
        { VU_VERSION, 0xffffffff },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct vu_header header = { VU_BACKEND_CONFIG_CHANGE_MSG, rows[i].flags,
                                    rows[i].size };
        struct loop loop;

        loop_init(&loop, ALL);
        far_raw(loop.far, &header, sizeof header, 8);
        cr_assert_eq(step(&loop), -EPROTO, "row %u", i);
        cr_assert_gt(strlen(err.text), 10u);
        cr_assert_eq(loop.n_changed, 0);
        loop_fini(&loop);
    }
}

/* A message in pieces is one message. */
Test(channel, dripped, .timeout = 10)
{
    struct vu_header header = { VU_BACKEND_CONFIG_CHANGE_MSG,
                                VU_VERSION | VU_NEED_REPLY, 0 };
    struct loop loop;

    loop_init(&loop, 0);
    for (unsigned i = 0; i < sizeof header; i++) {
        cr_assert_eq(loop.n_changed, 0);
        far_raw(loop.far, (uint8_t *)&header + i, 1, 0);
        cr_assert_eq(step(&loop), 0);
    }
    cr_assert_eq(loop.n_changed, 1);
    cr_assert_eq(answer(&loop, 2), 0);
    loop_fini(&loop);
}

Test(channel, closed, .timeout = 10)
{
    struct loop loop;

    loop_init(&loop, 0);
    request(&loop, VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION, NULL, 0, 0);
    close(loop.far);
    loop.far = -1;
    cr_assert_eq(step(&loop), -EPIPE);
    cr_assert_eq(loop.n_changed, 1, "what it said last is lost");
    loop_fini(&loop);

    /* and before its answer: no SIGPIPE */
    cr_assert_eq((size_t)signal(SIGPIPE, SIG_DFL), (size_t)SIG_DFL);
    loop_init(&loop, 0);
    request(&loop, VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION | VU_NEED_REPLY,
            NULL, 0, 0);
    close(loop.far);
    loop.far = -1;
    cr_assert_eq(step(&loop), -EPIPE);
    loop_fini(&loop);
}

/* A flood: each call does a little of it. */
Test(channel, flood, .timeout = 20)
{
    struct vu_header header = { VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION, 0 };
    unsigned sent = 0, steps = 0;
    struct loop loop;

    loop_init(&loop, 0);
    while (send(loop.far, &header, sizeof header, MSG_DONTWAIT) ==
           sizeof header)
        sent++;
    cr_assert_gt(sent, 100);
    while (loop.n_changed < sent) {
        unsigned before = loop.n_changed;

        cr_assert_eq(step(&loop), 0);
        cr_assert_gt(loop.n_changed, before);
        cr_assert_leq(loop.n_changed - before, 64, "%u in one call",
                      loop.n_changed - before);
        steps++;
    }
    cr_assert_gt(steps, sent / 64);
    loop_fini(&loop);
}

/* It asks and never reads: it is cut off before its answers pile up. */
Test(channel, asks_and_never_reads, .timeout = 20)
{
    struct vu_header header = { VU_BACKEND_CONFIG_CHANGE_MSG,
                                VU_VERSION | VU_NEED_REPLY, 0 };
    struct loop loop;
    int rc = 0;

    loop_init(&loop, 0);
    for (unsigned n = 0; n < 1000000 && rc == 0; n++) {
        send(loop.far, &header, sizeof header, MSG_DONTWAIT);
        rc = step(&loop);
    }
    cr_assert_eq(rc, -EPROTO);
    cr_assert_not_null(strstr(err.text, "takes no answers"), "%s", err.text);
    cr_assert_leq(loop.channel.wire.room, 65536u);
    loop_fini(&loop);
}
