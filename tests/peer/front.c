/*
 * The front-end that the test back-end is tested with: it writes whole
 * messages and waits with a limit. It checks nothing that a test should.
 */
#include "front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define WAIT_MS 2000

static void run_peer(const char *args, int fd, int errors)
{
    char path[512], option[32], copy[512] = "";
    char *argv[32] = { path };
    int n = 1;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);

    if (length < 0)
        _exit(127);
    path[length] = '\0';
    strcpy(strrchr(path, '/') + 1, "husk-peer");
    snprintf(option, sizeof option, "--fd=%d", fd);
    if (!args || !strstr(args, "--socket-path="))
        argv[n++] = option;
    if (args)
        snprintf(copy, sizeof copy, "%s", args);
    for (char *word = strtok(copy, " "); word && n < 31;
         word = strtok(NULL, " "))
        argv[n++] = word;
    argv[n] = NULL;
    dup2(errors, 2);
    if (fcntl(fd, F_SETFD, 0) < 0)
        _exit(127);
    execv(path, argv);
    _exit(127);
}

void front_begin(struct front *f, const char *args)
{
    int pair[2], errors[2];

    memset(f, 0, sizeof *f);
    f->channel = -1;
    f->num = 8;
    f->features = BIT(F_VERSION_1) | BIT(F_PROTOCOL);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(pipe2(errors, O_CLOEXEC), 0);
    f->pid = fork();
    if (!f->pid)
        run_peer(args, pair[1], errors[1]);
    close(pair[1]);
    close(errors[1]);
    f->fd = pair[0];
    f->errors = errors[0];
    f->memory = memfd_create("front", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(f->memory, FRONT_SIZE), 0);
    f->ram = mmap(NULL, FRONT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                  f->memory, 0);
    cr_assert_neq((void *)f->ram, MAP_FAILED);
    for (unsigned i = 0; i < FRONT_RINGS; i++) {
        f->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->err[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
}

void front_end(struct front *f, bool hangup)
{
    size_t n = 0;
    ssize_t got;
    int status;

    if (hangup)
        shutdown(f->fd, SHUT_WR);
    for (int waited = 0; waited < WAIT_MS; waited += 10) {
        if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
            f->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
            f->pid = 0;
            break;
        }
        usleep(10000);
    }
    if (f->pid) {
        kill(f->pid, SIGKILL);
        waitpid(f->pid, &status, 0);
        f->status = -2; /* it did not end */
    }
    while (n < sizeof f->said - 1 &&
           (got = read(f->errors, f->said + n, sizeof f->said - 1 - n)) > 0)
        n += (size_t)got;
    f->said[n] = '\0';
    for (unsigned i = 0; i < FRONT_RINGS; i++) {
        close(f->kick[i]);
        close(f->call[i]);
        close(f->err[i]);
    }
    munmap(f->ram, FRONT_SIZE);
    close(f->memory);
    close(f->errors);
    close(f->fd);
    if (f->channel >= 0)
        close(f->channel);
}

void front_connect(struct front *f, const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    close(f->fd);
    for (int waited = 0; waited < WAIT_MS; waited += 10) {
        f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!connect(f->fd, (struct sockaddr *)&addr, sizeof addr))
            return;
        close(f->fd);
        usleep(10000);
    }
    cr_assert_fail("no connection to %s", path);
}

void front_send_fd(struct front *f, uint32_t request, uint32_t flags,
                   const void *payload, uint32_t size, int fd)
{
    struct wire_header h = { request, flags, size };
    uint8_t bytes[WIRE_HEADER + 512];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = { .bytes = { 0 } };
    struct iovec iov = { bytes, sizeof h + size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    memcpy(bytes, &h, sizeof h);
    if (size)
        memcpy(bytes + sizeof h, payload, size);
    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
    }
    /* after a violation the peer is gone: then there is nobody to write to */
    (void)!sendmsg(f->fd, &msg, MSG_NOSIGNAL);
}

void front_send(struct front *f, uint32_t request, uint32_t flags,
                const void *payload, uint32_t size)
{
    front_send_fd(f, request, flags, payload, size, -1);
}

void front_u64(struct front *f, uint32_t request, uint64_t value)
{
    front_send(f, request, WIRE_VERSION, &value, sizeof value);
}

void front_state(struct front *f, uint32_t request, uint32_t index,
                 uint32_t num)
{
    struct wire_state s = { index, num };

    front_send(f, request, WIRE_VERSION, &s, sizeof s);
}

static bool receive_bytes(int fd, void *to, size_t size)
{
    for (size_t n = 0; n < size;) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };

        if (poll(&ready, 1, WAIT_MS) != 1)
            return false;
        ssize_t got = read(fd, (uint8_t *)to + n, size - n);

        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    return true;
}

int front_receive(struct front *f, uint32_t request, void *payload,
                  uint32_t size)
{
    struct wire_header h;
    uint8_t byte;

    if (!receive_bytes(f->fd, &h, sizeof h))
        return -1;
    cr_expect_eq(h.request, request, "reply to %u, not %u", h.request, request);
    cr_expect_eq(h.flags, (uint32_t)(WIRE_VERSION | WIRE_REPLY));
    for (uint32_t i = 0; i < h.size; i++) {
        if (!receive_bytes(f->fd, &byte, 1))
            return -1;
        if (i < size)
            ((uint8_t *)payload)[i] = byte;
    }
    return (int)h.size;
}

uint64_t front_ask(struct front *f, uint32_t request)
{
    uint64_t value = 0;

    front_send(f, request, WIRE_VERSION, NULL, 0);
    front_receive(f, request, &value, sizeof value);
    return value;
}

void front_hello(struct front *f)
{
    const uint64_t probe = BIT(PF_PROBE), inband = BIT(PF_INBAND);
    struct {
        struct wire_header set;
        uint64_t value;
        struct wire_header ask, fence;
    } __attribute__((packed)) out = {
        { WIRE_SET_PROTOCOL_FEATURES, WIRE_VERSION, 8 },
        0,
        { WIRE_PROBE, WIRE_VERSION, 0 },
        { WIRE_GET_QUEUE_NUM, WIRE_VERSION, 0 },
    };
    uint8_t reply[64];

    front_send(f, WIRE_SET_OWNER, WIRE_VERSION, NULL, 0);
    front_ask(f, WIRE_GET_FEATURES);
    out.value = front_ask(f, WIRE_GET_PROTOCOL_FEATURES) & ~inband;
    if (!(out.value & probe)) {
        front_u64(f, WIRE_SET_PROTOCOL_FEATURES, out.value);
        return;
    }
    (void)!send(f->fd, &out, sizeof out, MSG_NOSIGNAL);
    front_receive(f, WIRE_PROBE, reply, sizeof reply);
    front_receive(f, WIRE_GET_QUEUE_NUM, reply, sizeof reply);
}

void front_features_ok(struct front *f)
{
    front_u64(f, WIRE_SET_FEATURES, f->features);
    front_u64(f, WIRE_SET_STATUS, 0xb);
    front_ask(f, WIRE_GET_STATUS);
}

void front_memory(struct front *f)
{
    struct {
        uint64_t padding;
        struct wire_region r;
    } reg = { 0, { FRONT_GUEST, FRONT_SIZE, FRONT_USER, 0 } };

    front_send_fd(f, WIRE_ADD_MEM_REG, WIRE_VERSION, &reg, sizeof reg,
                  f->memory);
}

size_t front_desc(uint32_t index)
{
    return index * 0x4000u;
}

size_t front_avail(uint32_t index)
{
    return front_desc(index) + 0x1000u;
}

size_t front_used(uint32_t index)
{
    return front_desc(index) + 0x2000u;
}

void front_addr(struct front *f, uint32_t index, uint64_t desc, uint64_t avail,
                uint64_t used)
{
    struct wire_addr a = {
        .index = index, .desc = desc, .avail = avail, .used = used
    };

    front_send(f, WIRE_SET_VRING_ADDR, WIRE_VERSION, &a, sizeof a);
}

void front_descriptor(struct front *f, uint32_t request, uint64_t index, int fd)
{
    front_send_fd(f, request, WIRE_VERSION, &index, sizeof index, fd);
}

void front_ring(struct front *f, uint32_t index)
{
    const bool packed = f->features >> F_PACKED & 1;

    front_state(f, WIRE_SET_VRING_NUM, index, f->num);
    front_addr(f, index, FRONT_USER + front_desc(index),
               FRONT_USER + front_avail(index), FRONT_USER + front_used(index));
    front_state(f, WIRE_SET_VRING_BASE, index, packed ? WIRE_PACKED_BASE : 0);
    front_descriptor(f, WIRE_SET_VRING_ERR, index, f->err[index]);
    front_descriptor(f, WIRE_SET_VRING_CALL, index, f->call[index]);
    front_descriptor(f, WIRE_SET_VRING_KICK, index, f->kick[index]);
    if (f->features >> F_PROTOCOL & 1)
        front_state(f, WIRE_SET_VRING_ENABLE, index, 1);
}

static void signal_fd(int fd)
{
    uint64_t one = 1;

    (void)!write(fd, &one, sizeof one);
}

void front_driver_ok(struct front *f)
{
    front_u64(f, WIRE_SET_STATUS, 0xf);
    for (unsigned i = 0; i < FRONT_RINGS; i++)
        signal_fd(f->kick[i]);
}

void front_live(struct front *f)
{
    front_hello(f);
    front_features_ok(f);
    front_memory(f);
    front_ring(f, 0);
    front_driver_ok(f);
}

void front_stop(struct front *f, uint32_t index)
{
    uint64_t base;

    front_state(f, WIRE_SET_VRING_ENABLE, index, 0);
    front_state(f, WIRE_GET_VRING_BASE, index, 0);
    front_receive(f, WIRE_GET_VRING_BASE, &base, sizeof base);
}

void front_offer(struct front *f, uint32_t index, uint64_t guest, uint32_t size)
{
    uint8_t *desc = f->ram + front_desc(index);
    uint8_t *avail = f->ram + front_avail(index);
    uint16_t idx, slot, head = 0, flags = 2;

    memcpy(desc, &guest, sizeof guest);
    memcpy(desc + 8, &size, sizeof size);
    memcpy(desc + 12, &flags, sizeof flags);
    memcpy(&idx, avail + 2, sizeof idx);
    slot = (uint16_t)(idx % f->num);
    memcpy(avail + 4 + 2 * slot, &head, sizeof head);
    idx++;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    memcpy(avail + 2, &idx, sizeof idx);
    signal_fd(f->kick[index]);
}

bool front_called(struct front *f, uint32_t index, int ms)
{
    struct pollfd ready = { .fd = f->call[index], .events = POLLIN };
    uint64_t value;

    if (poll(&ready, 1, ms) != 1)
        return false;
    return read(f->call[index], &value, sizeof value) == sizeof value;
}

void front_finish(struct front *f, int status, const char *said)
{
    front_end(f, true);
    cr_expect_eq(f->status, status, "status %d: %s", f->status, f->said);
    if (said)
        cr_expect_not_null(strstr(f->said, said), "%s", f->said);
    else
        cr_expect_null(strstr(f->said, "violation"), "%s", f->said);
}
