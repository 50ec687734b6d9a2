/*
 * A connection's life: messages come in by pieces, one is acted on at a time,
 * and its answer is sent before the next is read. Descriptors belong to the
 * message whose bytes they came with. Nothing here blocks: what has to wait is
 * resumed from the loop's prepare watcher, which also notifies drivers.
 */
#include "devices/backends/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backends/complain.h"
#include "devices/virtio.h"

#define MAX_MESSAGES_A_TURN 256

uint64_t session_offers(const struct session *s)
{
    return s->dev->shape.features | VIRTIO_F_VERSION_1 |
           VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED |
           VIRTIO_F_RING_RESET | VHOST_F_PROTOCOL_FEATURES;
}

uint64_t session_protocol_offers(const struct session *s)
{
    return VU_PF_MQ | VU_PF_REPLY_ACK | VU_PF_BACKEND_REQ | VU_PF_RESET_DEVICE |
           VU_PF_INFLIGHT_SHMFD | VU_PF_CONFIGURE_MEM_SLOTS | VU_PF_STATUS |
           VU_PF_STANDALONE | (s->dev->shape.config_size ? VU_PF_CONFIG : 0);
}

void session_update(struct session *s)
{
    s->host.running = !s->paused && !s->closing &&
                      (!(s->protocol_features & VU_PF_STATUS) ||
                       s->status & VIRTIO_STATUS_DRIVER_OK);
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_update(&s->queue[i]);
}

bool session_idle(const struct session *s)
{
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++) {
        if (s->queue[i].ring.in_flight)
            return false;
    }
    return true;
}

void session_close(struct session *s)
{
    if (s->closing)
        return;
    s->closing = true;
    ev_io_stop(s->dev->loop, &s->readable);
    ev_io_stop(s->dev->loop, &s->writable);
    session_update(s);
    /* the loop must turn once more for the end to be seen */
    ev_feed_event(s->dev->loop, &s->readable, EV_CUSTOM);
}

int session_fail(struct session *s, const char *format, ...)
{
    char text[160];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    complain("front-end: %s", text);
    s->failed = true;
    session_close(s);
    return -1;
}

/* Send what is left of the answer; reading goes on when it is gone. */
static void send_out(struct session *s)
{
    while (s->out_done < s->out_size) {
        struct iovec iov = { .iov_base = s->out + s->out_done,
                             .iov_len = s->out_size - s->out_done };
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control = { .bytes = { 0 } };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (s->out_fd >= 0) {
            msg.msg_control = control.bytes;
            msg.msg_controllen = sizeof control.bytes;

            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(c), &s->out_fd, sizeof(int));
        }

        ssize_t n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            ev_io_stop(s->dev->loop, &s->readable);
            ev_io_start(s->dev->loop, &s->writable);
            return;
        }
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            session_close(s); /* it hung up before the answer */
            return;
        }
        if (n < 0) {
            session_fail(s, "answering request %u: %s", s->in.header.request,
                         strerror(errno));
            return;
        }
        if (s->out_fd >= 0)
            close(s->out_fd);
        s->out_fd = -1;
        s->out_done += (size_t)n;
    }
    s->out_done = s->out_size = 0;
}

void session_reply(struct session *s, const void *data, size_t size, int fd)
{
    struct vu_header header = {
        .request = s->in.header.request,
        .flags = VU_VERSION | VU_REPLY,
        .size = (uint32_t)size,
    };

    memcpy(s->out, &header, VU_HEADER_SIZE);
    if (size)
        memcpy(s->out + VU_HEADER_SIZE, data, size);
    s->out_size = VU_HEADER_SIZE + size;
    s->out_done = 0;
    s->out_fd = fd;
    send_out(s);
}

static void forget_message(struct session *s)
{
    for (unsigned i = 0; i < s->in.n_fds; i++) {
        if (s->in.fd[i] >= 0)
            close(s->in.fd[i]);
    }
    s->in.n_fds = 0;
    s->in_done = 0;
    s->waiting = false;
}

static int keep_fds(struct session *s, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;

        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (s->in.n_fds < MESSAGE_MAX_FDS)
                s->in.fd[s->in.n_fds++] = fd;
            else
                close(fd);
        }
    }
    if (msg->msg_flags & MSG_CTRUNC)
        return session_fail(s, "too many descriptors with a message");
    return 0;
}

/* Read on to size bytes of message: 1 they are there, 0 not yet, -1 the end. */
static int receive(struct session *s, size_t size)
{
    while (s->in_done < size) {
        struct iovec iov = { .iov_base = (uint8_t *)&s->in + s->in_done,
                             .iov_len = size - s->in_done };
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(MESSAGE_MAX_FDS * sizeof(int))];
        } control;
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof control.bytes,
        };
        ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != ECONNRESET)
            return session_fail(s, "%s", strerror(errno));
        if (n <= 0) {
            if (s->in_done)
                return session_fail(s, "hung up in the middle of a message");
            session_close(s);
            return -1;
        }
        s->in_done += (size_t)n;
        if (keep_fds(s, &msg) < 0)
            return -1;
    }
    return 1;
}

/* Take in one message: 1 it is complete, 0 not yet, -1 the end. */
static int take_in(struct session *s)
{
    const struct vu_header *h = &s->in.header;
    int rc = receive(s, VU_HEADER_SIZE);

    if (rc <= 0)
        return rc;
    if ((h->flags & VU_VERSION_MASK) != VU_VERSION || h->flags & VU_REPLY)
        return session_fail(s, "request %u has flags 0x%x", h->request,
                            h->flags);
    if (h->size > VU_MAX_PAYLOAD)
        return session_fail(s, "request %u has a payload of %u bytes",
                            h->request, h->size);
    return receive(s, VU_HEADER_SIZE + h->size);
}

static void pump(struct session *s)
{
    for (int n = 0; n < MAX_MESSAGES_A_TURN; n++) {
        if (s->closing || s->out_size)
            return;
        if (!s->waiting && take_in(s) <= 0)
            return;
        s->waiting = s->calls->handle(s) == MESSAGE_WAIT;
        if (s->waiting) {
            ev_io_stop(s->dev->loop, &s->readable);
            return;
        }
        forget_message(s);
    }
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct session *s = w->data;

    (void)loop, (void)events;
    if (!s->waiting)
        pump(s);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct session *s = w->data;

    (void)events;
    send_out(s);
    if (s->out_size || s->closing)
        return;
    ev_io_stop(loop, &s->writable);
    if (!s->waiting)
        ev_io_start(loop, &s->readable);
    pump(s);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
    struct session *s = w->data;

    (void)events;
    if (s->waiting && !s->closing) {
        pump(s);
        if (!s->waiting && !s->closing && !s->out_size)
            ev_io_start(loop, &s->readable);
    }
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_notify(&s->queue[i]);
    if (s->closing && session_idle(s))
        s->calls->ended(s);
}

struct session *session_open(struct device *dev, int fd,
                             const struct session_calls *calls)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s || !(s->queue = calloc(dev->shape.max_vqs, sizeof *s->queue))) {
        complain("out of memory");
        free(s);
        close(fd);
        return NULL;
    }
    s->dev = dev;
    s->host = (struct queue_host){
        .dev = dev,
        .memory = &s->memory,
        .inflight = &s->inflight,
    };
    s->host.running = true; /* until STATUS is negotiated */
    s->fd = fd;
    s->out_fd = -1;
    s->calls = calls;
    uplink_init(&s->uplink, dev->loop);
    for (unsigned i = 0; i < dev->shape.max_vqs; i++)
        queue_init(&s->queue[i], &s->host, i);
    ev_io_init(&s->readable, on_readable, fd, EV_READ);
    ev_io_init(&s->writable, on_writable, fd, EV_WRITE);
    ev_prepare_init(&s->prepare, on_prepare);
    s->readable.data = s->writable.data = s->prepare.data = s;
    ev_io_start(dev->loop, &s->readable);
    ev_prepare_start(dev->loop, &s->prepare);
    dev->session = s;
    return s;
}

void session_free(struct session *s)
{
    struct ev_loop *loop = s->dev->loop;

    ev_io_stop(loop, &s->readable);
    ev_io_stop(loop, &s->writable);
    ev_prepare_stop(loop, &s->prepare);
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_reset(&s->queue[i]);
    if (s->dev->backend->reset)
        s->dev->backend->reset(s->dev);
    uplink_close(&s->uplink);
    memory_clear(&s->memory);
    inflight_unmap(&s->inflight);
    forget_message(s);
    if (s->out_fd >= 0)
        close(s->out_fd);
    close(s->fd);
    s->dev->session = NULL;
    free(s->queue);
    free(s);
}

/* for devices */

uint64_t device_features(const struct device *dev)
{
    return dev->session ? dev->session->host.features : 0;
}

void device_config_changed(struct device *dev)
{
    if (dev->session)
        uplink_config_changed(&dev->session->uplink);
}

struct queue *device_queue(struct device *dev, unsigned index)
{
    if (!dev->session || index >= dev->shape.max_vqs ||
        !dev->session->queue[index].active)
        return NULL;
    return &dev->session->queue[index];
}
