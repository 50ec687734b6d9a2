/*
 * Framing of vhost-user messages, after "Message Specification" in QEMU's
 * docs/interop/vhost-user.rst. Reads a header and then just its payload, so
 * that a descriptor can never be taken for the next message's. Judges sizes
 * only: who sent what in answer to which is the caller's business.
 */
#include "devices/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/helper.h"
#include "vmm/machine/fail.h"

#define KERNEL_MAX_FDS 253 /* SCM_MAX_FD */

struct wire_mark {
    size_t at;  /* in out[] */
    bool owned; /* to be closed when they are sent */
    unsigned n_fds;
    int fds[WIRE_MAX_FDS];
};

void wire_init(struct wire *wire, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    memset(wire, 0, sizeof *wire);
    wire->fd = fd;
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static void drop_fds(struct wire *wire)
{
    for (unsigned i = 0; i < wire->n_fds; i++)
        if (wire->fds[i] >= 0)
            helper_close(wire->helper, wire->fds[i]);
    wire->n_fds = 0;
    wire->extra_fds = 0;
}

/* The descriptors of a message are sent, or never will be. */
static void let_go(const struct wire *wire, const struct wire_mark *mark)
{
    for (unsigned i = 0; mark->owned && i < mark->n_fds; i++)
        helper_close(wire->helper, mark->fds[i]);
}

void wire_fini(struct wire *wire)
{
    drop_fds(wire);
    while (wire->mark < wire->n_marks)
        let_go(wire, &wire->marks[wire->mark++]);
    if (wire->fd >= 0)
        helper_hang_up(wire->helper, wire->fd);
    free(wire->out);
    free(wire->marks);
    memset(wire, 0, sizeof *wire);
    wire->fd = -1;
}

/* Make room for more bytes at the end of out[]. */
static int reserve(struct wire *wire, size_t more)
{
    size_t room = wire->room ? wire->room : 512;
    uint8_t *out;

    while (room - wire->end < more)
        room *= 2;
    if (room == wire->room)
        return 0;
    out = realloc(wire->out, room);
    if (!out)
        return -ENOMEM;
    wire->out = out;
    wire->room = room;
    return 0;
}

static int add_mark(struct wire *wire, const int *fds, unsigned n_fds)
{
    struct wire_mark *mark;

    if (wire->n_marks == wire->marks_room) {
        size_t room = wire->marks_room ? 2 * wire->marks_room : 4;

        mark = realloc(wire->marks, room * sizeof *mark);
        if (!mark)
            return -ENOMEM;
        wire->marks = mark;
        wire->marks_room = room;
    }
    mark = &wire->marks[wire->n_marks++];
    mark->at = wire->end;
    mark->owned = false;
    mark->n_fds = n_fds;
    memcpy(mark->fds, fds, n_fds * sizeof *fds);
    return 0;
}

int wire_put(struct wire *wire, uint32_t request, uint32_t flags,
             const void *payload, size_t size, const int *fds, unsigned n_fds)
{
    struct vu_header header = { request, flags | VU_VERSION, (uint32_t)size };
    int rc = reserve(wire, sizeof header + size);

    if (rc == 0 && n_fds)
        rc = add_mark(wire, fds, n_fds);
    if (rc < 0)
        return rc;
    memcpy(wire->out + wire->end, &header, sizeof header);
    if (size)
        memcpy(wire->out + wire->end + sizeof header, payload, size);
    wire->end += sizeof header + size;
    return 0;
}

void wire_own(struct wire *wire)
{
    wire->marks[wire->n_marks - 1].owned = true;
}

/* One sendmsg of out[sent..until), with the descriptors of mark if it is set.
 */
static ssize_t send_some(struct wire *wire, size_t until,
                         const struct wire_mark *mark)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { wire->out + wire->sent, until - wire->sent };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t n;

    if (mark) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * mark->n_fds);
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * mark->n_fds);
        memcpy(CMSG_DATA(cmsg), mark->fds, sizeof(int) * mark->n_fds);
    }
    do {
        n = sendmsg(wire->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/*
 * A message with descriptors is a sendmsg of its own; those without, up to the
 * next one with, share one.
 */
int wire_flush(struct wire *wire)
{
    while (wire->sent < wire->end) {
        const struct wire_mark *mark = NULL;
        size_t until = wire->end;
        ssize_t n;

        if (wire->mark < wire->n_marks) {
            const struct wire_mark *next = &wire->marks[wire->mark];

            if (next->at == wire->sent) {
                struct vu_header header;

                mark = next;
                memcpy(&header, wire->out + wire->sent, sizeof header);
                until = wire->sent + sizeof header + header.size;
            } else {
                until = next->at;
            }
        }
        n = send_some(wire, until, mark);
        if (n < 0)
            return (int)n;
        if (mark) {
            let_go(wire, mark);
            wire->mark++;
        }
        wire->sent += (size_t)n;
    }
    wire->sent = wire->end = 0;
    wire->mark = wire->n_marks = 0;
    return 0;
}

static void keep_fds(struct wire *wire, struct msghdr *msg)
{
    struct cmsghdr *cmsg;

    for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        size_t n;

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof fd, sizeof fd);
            if (wire->n_fds < WIRE_MAX_FDS) {
                wire->fds[wire->n_fds++] = fd;
            } else {
                helper_close(wire->helper, fd);
                wire->extra_fds++;
            }
        }
    }
}

/* Read up to n bytes into in[]. Descriptors belong to the message. */
static ssize_t receive(struct wire *wire, size_t n, bool *cut)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * KERNEL_MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { wire->in + wire->got, n };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };
    ssize_t got;

    do {
        got = recvmsg(wire->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    keep_fds(wire, &msg);
    *cut = (msg.msg_flags & MSG_CTRUNC) != 0;
    return got;
}

int wire_pull(struct wire *wire, struct wire_message *message,
              struct husk_err *err)
{
    struct vu_header header;
    size_t need = VU_HEADER_SIZE;

    if (wire->got == 0) /* the message before this one has been used */
        drop_fds(wire);
    for (;;) {
        bool cut = false;
        ssize_t n;

        if (wire->got >= VU_HEADER_SIZE) {
            memcpy(&header, wire->in, sizeof header);
            if (header.size > VU_MAX_PAYLOAD)
                return fail(err, -EPROTO,
                            "a message of %u bytes came, at most "
                            "%u are allowed",
                            header.size, VU_MAX_PAYLOAD);
            need = VU_HEADER_SIZE + header.size;
            if (wire->got == need)
                break;
        }
        if (helper_is_stuck(wire->helper))
            return fail(err, -EMFILE,
                        "the descriptors that it sent cannot be closed");
        n = receive(wire, need - wire->got, &cut);
        if (n == -EAGAIN || n == -EWOULDBLOCK)
            return -EAGAIN;
        if (n == 0 || n == -ECONNRESET)
            return fail(err, -EPIPE,
                        wire->got ? "it hung up in the middle of "
                                    "a message"
                                  : "it hung up");
        if (n < 0)
            return fail(err, (int)n, "recvmsg: %s", strerror((int)-n));
        if (cut)
            return fail(err, -EPROTO, "descriptors were cut off");
        wire->got += (size_t)n;
    }
    message->header = header;
    message->payload = wire->in + VU_HEADER_SIZE;
    message->fds = wire->fds;
    message->n_fds = wire->n_fds + wire->extra_fds;
    wire->got = 0;
    return 0;
}

int wire_take_fd(struct wire *wire, unsigned index)
{
    int fd = -1;

    if (index < wire->n_fds) {
        fd = wire->fds[index];
        wire->fds[index] = -1;
    }
    return fd;
}
