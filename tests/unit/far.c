/* The far end of a front-end's connection. See far.h. */
#include "tests/unit/far.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define MAX_ATTACHED 253

static atomic_uint writes;

/* Takes the place of libc's, so that tests can count writes. */
ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    atomic_fetch_add(&writes, 1);
    return syscall(SYS_sendmsg, fd, msg, flags);
}

unsigned far_writes(void)
{
    return atomic_load(&writes);
}

unsigned far_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    cr_assert_not_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 3; /* ".", ".." and the directory itself */
}

int far_open(int *far)
{
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *far = pair[1];
    return pair[0];
}

static void keep_fds(struct far_message *message, struct msghdr *msg)
{
    struct cmsghdr *cmsg;

    for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        cr_assert_eq(cmsg->cmsg_type, SCM_RIGHTS);
        cr_assert_leq(message->n_fds + n, FAR_MAX_FDS);
        memcpy(message->fds + message->n_fds, CMSG_DATA(cmsg), n * sizeof(int));
        message->n_fds += (unsigned)n;
    }
}

/* Read size bytes; false: the near end hung up, or wait is false and nothing
 * is there. */
static bool receive(int far, void *to, size_t size, struct far_message *message,
                    bool wait)
{
    for (size_t got = 0; got < size;) {
        union {
            char bytes[CMSG_SPACE(sizeof(int) * FAR_MAX_FDS)];
            struct cmsghdr align;
        } control;
        struct iovec iov = { (char *)to + got, size - got };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
        ssize_t n = recvmsg(far, &msg, wait || got ? 0 : MSG_DONTWAIT);

        if (n <= 0)
            return false;
        cr_assert_not(msg.msg_flags & MSG_CTRUNC);
        keep_fds(message, &msg);
        got += (size_t)n;
    }
    return true;
}

bool far_take(int far, struct far_message *message)
{
    message->n_fds = 0;
    if (!receive(far, &message->header, sizeof message->header, message, false))
        return false;
    cr_assert_leq(message->header.size, sizeof message->payload);
    memset(message->payload, 0, 64);
    return receive(far, message->payload, message->header.size, message, true);
}

void far_drop(struct far_message *message)
{
    for (unsigned i = 0; i < message->n_fds; i++)
        if (message->fds[i] >= 0)
            close(message->fds[i]);
    message->n_fds = 0;
}

void far_raw(int far, const void *bytes, size_t size, unsigned n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_ATTACHED)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { (void *)(uintptr_t)bytes, size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    int null = -1;

    if (n_fds) {
        struct cmsghdr *cmsg;
        int fds[MAX_ATTACHED];

        cr_assert_leq(n_fds, MAX_ATTACHED);
        null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        cr_assert_geq(null, 0);
        for (unsigned i = 0; i < n_fds; i++)
            fds[i] = null;
        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
    }
    /* a front-end that gave up has closed its end: that is its business */
    if (size && syscall(SYS_sendmsg, far, &msg, MSG_NOSIGNAL) < 0)
        cr_assert(errno == EPIPE || errno == ECONNRESET);
    if (null >= 0)
        close(null);
}

void far_answer(int far, uint32_t request, const void *payload, size_t size)
{
    struct vu_header header = { request, VU_VERSION | VU_REPLY,
                                (uint32_t)size };
    uint8_t bytes[VU_HEADER_SIZE + FAR_PAYLOAD];

    cr_assert_leq(size, FAR_PAYLOAD);
    memcpy(bytes, &header, sizeof header);
    if (size)
        memcpy(bytes + sizeof header, payload, size);
    far_raw(far, bytes, sizeof header + size, 0);
}

void far_u64(int far, uint32_t request, uint64_t value)
{
    far_answer(far, request, &value, sizeof value);
}
