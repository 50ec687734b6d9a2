/*
 * The tests' vhost-user front-end. Waits at most ten seconds for anything.
 */
#include "tests/unit/vu_client.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define PATIENCE_MS 60000
#define MAX_ARGS    16

int vu_readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 1;
}

void *vu_at(const struct vu_client *c, uint64_t addr)
{
    return c->mem + (addr - VU_GUEST);
}

/* The directory of the built programs, found from the test program's own. */
static void program_path(char *path, size_t size, const char *program)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    cr_assert_gt(n, 0);
    self[n] = 0;

    int made =
        snprintf(path, size, "%s/../backends/%s", dirname(self), program);

    cr_assert(made > 0 && (size_t)made < size);
}

static pid_t execute(const char *program, const char *const *args, int keep_fd,
                     int in, int out, int stderr_fd)
{
    char path[PATH_MAX], fd_arg[32];
    const char *argv[MAX_ARGS + 3] = { program };
    unsigned n = 1;

    program_path(path, sizeof path, program);
    for (; args && *args; args++) {
        cr_assert_lt(n, MAX_ARGS);
        argv[n++] = *args;
    }
    if (keep_fd >= 0) {
        snprintf(fd_arg, sizeof fd_arg, "--fd=%d", keep_fd);
        argv[n++] = fd_arg;
    }

    pid_t pid = fork();

    cr_assert_geq(pid, 0);
    if (!pid) {
        if (in >= 0)
            dup2(in, STDIN_FILENO);
        if (out >= 0)
            dup2(out, STDOUT_FILENO);
        if (stderr_fd >= 0)
            dup2(stderr_fd, STDERR_FILENO);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    return pid;
}

pid_t vu_exec(const char *program, const char *const *args, int keep_fd,
              int stderr_fd)
{
    return execute(program, args, keep_fd, -1, -1, stderr_fd);
}

void vu_connected(struct vu_client *c, int fd)
{
    c->fd = fd;
    c->uplink = -1;
    c->memfd = memfd_create("guest", MFD_CLOEXEC);
    cr_assert_geq(c->memfd, 0);
    cr_assert_eq(ftruncate(c->memfd, VU_MEM_SIZE), 0);
    c->mem = mmap(NULL, VU_MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                  c->memfd, 0);
    cr_assert_neq(c->mem, MAP_FAILED);
    for (unsigned i = 0; i < VU_MAX_QUEUES; i++)
        c->queue[i].kick = c->queue[i].call = c->queue[i].err = -1;
}

void vu_spawn(struct vu_client *c, const char *program, const char *const *args)
{
    vu_spawn_io(c, program, args, -1, -1);
}

void vu_spawn_io(struct vu_client *c, const char *program,
                 const char *const *args, int in, int out)
{
    int pair[2];

    memset(c, 0, sizeof *c);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c->stderr_fd = memfd_create("stderr", MFD_CLOEXEC);

    int theirs = dup(pair[1]); /* without CLOEXEC */

    close(pair[1]);
    c->pid = execute(program, args, theirs, in, out, c->stderr_fd);
    close(theirs);
    vu_connected(c, pair[0]);
}

static size_t said(const struct vu_client *c, char *text, size_t size)
{
    ssize_t n = pread(c->stderr_fd, text, size - 1, 0);

    text[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

void vu_says(const struct vu_client *c, const char *text)
{
    char all[8192];

    for (int i = 0; i < PATIENCE_MS / 10; i++) {
        said(c, all, sizeof all);
        if (strstr(all, text))
            return;
        usleep(10000);
    }
    cr_assert_fail("\"%s\" is not in \"%s\"", text, all);
}

void vu_end(struct vu_client *c, int status)
{
    int got = 0;
    char all[8192];

    close(c->fd);
    for (int i = 0; waitpid(c->pid, &got, WNOHANG) == 0; i++) {
        if (i == PATIENCE_MS / 10) {
            kill(c->pid, SIGKILL);
            waitpid(c->pid, &got, 0);
            cr_assert_fail("the back-end does not end");
        }
        usleep(10000);
    }
    said(c, all, sizeof all);
    cr_assert(WIFEXITED(got) && WEXITSTATUS(got) == status,
              "wait status 0x%x: %s", got, all);
    munmap(c->mem, VU_MEM_SIZE);
    close(c->memfd);
    close(c->stderr_fd);
}

void vu_send(struct vu_client *c, uint32_t request, uint32_t flags,
             const void *payload, size_t size, int fd)
{
    struct vu_header h = { request, VU_VERSION | flags, (uint32_t)size };
    struct iovec iov[2] = { { &h, VU_HEADER_SIZE },
                            { (void *)(uintptr_t)payload, size } };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = size ? 2 : 1 };

    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;

        struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);

        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cm), &fd, sizeof fd);
    }
    cr_assert_eq(sendmsg(c->fd, &msg, MSG_NOSIGNAL),
                 (ssize_t)(VU_HEADER_SIZE + size), "request %u: %s", request,
                 strerror(errno));
}

static void receive(struct vu_client *c, void *to, size_t size, int *fd)
{
    char *at = to;

    while (size) {
        struct iovec iov = { at, size };
        char control[CMSG_SPACE(4 * sizeof(int))];
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof control };

        cr_assert(vu_readable(c->fd, PATIENCE_MS), "no answer");

        ssize_t n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);

        cr_assert_gt(n, 0, "the back-end hung up");

        struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);

        if (cm) {
            cr_assert_not_null(fd, "a descriptor that nobody asked for");
            cr_assert_eq(cm->cmsg_len, CMSG_LEN(sizeof(int)));
            memcpy(fd, CMSG_DATA(cm), sizeof *fd);
        }
        at += n;
        size -= (size_t)n;
    }
}

size_t vu_answer(struct vu_client *c, uint32_t request, void *to, size_t max,
                 int *fd)
{
    struct vu_header h;

    if (fd)
        *fd = -1;
    receive(c, &h, VU_HEADER_SIZE, fd);
    cr_assert_eq(h.request, request, "an answer to %u, not to %u", h.request,
                 request);
    cr_assert_eq(h.flags, VU_VERSION | VU_REPLY);
    cr_assert_leq(h.size, max);
    receive(c, to, h.size, fd);
    return h.size;
}

uint64_t vu_get(struct vu_client *c, uint32_t request)
{
    uint64_t value;

    vu_send(c, request, 0, NULL, 0, -1);
    cr_assert_eq(vu_answer(c, request, &value, sizeof value, NULL), 8);
    return value;
}

uint64_t vu_set(struct vu_client *c, uint32_t request, const void *payload,
                size_t size, int fd)
{
    uint64_t value;

    vu_send(c, request, VU_NEED_REPLY, payload, size, fd);
    cr_assert_eq(vu_answer(c, request, &value, sizeof value, NULL), 8);
    return value;
}

uint64_t vu_set_u64(struct vu_client *c, uint32_t request, uint64_t value)
{
    return vu_set(c, request, &value, sizeof value, -1);
}

void vu_config(struct vu_client *c, uint32_t offset, void *to, uint32_t size)
{
    uint8_t bytes[sizeof(struct vu_config) + VU_MAX_CONFIG] = { 0 };
    struct vu_config range = { offset, size, 0 };

    memcpy(bytes, &range, sizeof range);
    vu_send(c, VU_GET_CONFIG, 0, bytes, sizeof range + size, -1);
    cr_assert_eq(vu_answer(c, VU_GET_CONFIG, bytes, sizeof bytes, NULL),
                 sizeof range + size);
    cr_assert_arr_eq(bytes, &range, sizeof range);
    memcpy(to, bytes + sizeof range, size);
}

void vu_handshake(struct vu_client *c)
{
    struct vu_mem_reg reg = { .region = { VU_GUEST, VU_MEM_SIZE,
                                          (uintptr_t)c->mem, 0 } };
    int pair[2];

    c->offers = vu_get(c, VU_GET_FEATURES);
    c->protocol_offers = vu_get(c, VU_GET_PROTOCOL_FEATURES);
    c->protocol = c->protocol_offers;
    vu_send(c, VU_SET_PROTOCOL_FEATURES, 0, &c->protocol, 8, -1);
    vu_send(c, VU_GET_BACKEND_SPECS, 0, NULL, 0, -1);
    cr_assert_eq(
        vu_answer(c, VU_GET_BACKEND_SPECS, &c->specs, sizeof c->specs, NULL),
        sizeof c->specs);
    cr_assert_eq(vu_get(c, VU_GET_QUEUE_NUM), c->specs.max_vqs);
    cr_assert_eq(vu_set(c, VU_SET_OWNER, NULL, 0, -1), 0);
    cr_assert_eq(vu_set(c, VU_ADD_MEM_REG, &reg, sizeof reg, c->memfd), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c->uplink = pair[0];
    cr_assert_eq(vu_set(c, VU_SET_BACKEND_REQ_FD, NULL, 0, pair[1]), 0);
    close(pair[1]);
}

void vu_features(struct vu_client *c, uint64_t wanted)
{
    uint64_t ok = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                  VIRTIO_STATUS_FEATURES_OK;

    c->features =
        c->offers & (wanted | VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES);
    cr_assert_eq(vu_set_u64(c, VU_SET_FEATURES, c->features), 0);
    cr_assert_eq(vu_set_u64(c, VU_SET_STATUS, ok), 0);
    cr_assert_eq(vu_get(c, VU_GET_STATUS), ok);
}

void vu_queue_resume(struct vu_client *c, unsigned i, uint32_t base)
{
    const struct driver *d = &c->queue[i].driver;
    struct vu_vring_state num = { i, d->size }, at = { i, base }, on = { i, 1 };
    uint64_t user = (uintptr_t)c->mem - VU_GUEST, index = i;
    struct vu_vring_addr addr = { .index = i,
                                  .desc = d->desc + user,
                                  .avail = d->avail + user,
                                  .used = d->used + user };

    if (c->queue[i].kick < 0) {
        c->queue[i].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        c->queue[i].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        c->queue[i].err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    cr_assert_eq(vu_set(c, VU_SET_VRING_NUM, &num, sizeof num, -1), 0);
    cr_assert_eq(vu_set(c, VU_SET_VRING_ADDR, &addr, sizeof addr, -1), 0);
    cr_assert_eq(vu_set(c, VU_SET_VRING_BASE, &at, sizeof at, -1), 0);
    cr_assert_eq(vu_set(c, VU_SET_VRING_ERR, &index, 8, c->queue[i].err), 0);
    cr_assert_eq(vu_set(c, VU_SET_VRING_CALL, &index, 8, c->queue[i].call), 0);
    cr_assert_eq(vu_set(c, VU_SET_VRING_KICK, &index, 8, c->queue[i].kick), 0);
    cr_assert_eq(vu_set(c, VU_SET_VRING_ENABLE, &on, sizeof on, -1), 0);
}

void vu_queue_start(struct vu_client *c, unsigned i, unsigned size)
{
    uint64_t stride = (driver_footprint(size) + 63) & ~UINT64_C(63);

    cr_assert_leq((i + 1) * stride, VU_MEM_SIZE / 2);
    memset(vu_at(c, VU_GUEST + i * stride), 0, stride);
    driver_init(&c->queue[i].driver, c->mem, VU_GUEST, VU_GUEST + i * stride,
                size, c->features);
    vu_queue_resume(c, i, c->features & VIRTIO_F_RING_PACKED ? 0x80008000u : 0);
}

uint32_t vu_queue_stop(struct vu_client *c, unsigned i)
{
    struct vu_vring_state state = { i, 0 };

    vu_send(c, VU_GET_VRING_BASE, 0, &state, sizeof state, -1);
    cr_assert_eq(vu_answer(c, VU_GET_VRING_BASE, &state, sizeof state, NULL),
                 sizeof state);
    cr_assert_eq(state.index, i);
    return state.num;
}

void vu_driver_ok(struct vu_client *c)
{
    cr_assert_eq(vu_set_u64(c, VU_SET_STATUS,
                            VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                                VIRTIO_STATUS_FEATURES_OK |
                                VIRTIO_STATUS_DRIVER_OK),
                 0);
}

void vu_start(struct vu_client *c, uint64_t wanted, unsigned n, unsigned size)
{
    vu_handshake(c);
    vu_features(c, wanted);
    for (unsigned i = 0; i < n; i++)
        vu_queue_start(c, i, size);
    vu_driver_ok(c);
}

void vu_kick(struct vu_client *c, unsigned i)
{
    uint64_t one = 1;

    if (driver_must_kick(&c->queue[i].driver))
        cr_assert_eq(write(c->queue[i].kick, &one, sizeof one), 8);
}

int vu_wait(struct vu_client *c, unsigned i, uint32_t *len)
{
    struct driver *d = &c->queue[i].driver;

    for (;;) {
        int id = driver_get(d, len);
        uint64_t count;

        if (id >= 0)
            return id;
        if (driver_listen(d, 1))
            continue;
        cr_assert(vu_readable(c->queue[i].call, PATIENCE_MS),
                  "no interrupt of queue %u", i);
        cr_assert_eq(read(c->queue[i].call, &count, sizeof count), 8);
    }
}

uint32_t vu_do(struct vu_client *c, unsigned i, const struct buffer *b,
               unsigned n)
{
    uint32_t len;
    int id = driver_add(&c->queue[i].driver, b, n);

    cr_assert_geq(id, 0);
    vu_kick(c, i);
    cr_assert_eq(vu_wait(c, i, &len), id);
    return len;
}
