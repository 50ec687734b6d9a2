/*
 * Replies on their way out: in order, late, drop by drop, cut or falsified as
 * told. A reply counts as told to the front-end only when its last byte has
 * left; the rules on what a front-end may know hang on that.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_PADDED 65536u

static bool applies(const struct peer *p, const struct fault *f,
                    enum fault_kind kind, const struct message *m)
{
    uint32_t request = m->header.request;

    if (f->kind != kind || f->request != request)
        return false;
    if (p->options.faults_once && p->faults_done)
        return false;
    return !f->nth ||
           (request < WIRE_REQUESTS && p->c.count[request] == f->nth);
}

const struct fault *fault_find(const struct peer *p, enum fault_kind kind,
                               const struct message *m)
{
    for (unsigned i = 0; i < p->options.n_faults; i++)
        if (applies(p, &p->options.fault[i], kind, m))
            return &p->options.fault[i];
    return NULL;
}

bool fault_on_reply(const struct peer *p, const struct message *m)
{
    for (unsigned i = 0; i < p->options.n_faults; i++)
        if (applies(p, &p->options.fault[i], p->options.fault[i].kind, m))
            return true;
    return false;
}

static void mutate(const struct peer *p, const struct message *m,
                   struct chunk *chunk, struct wire_header *h)
{
    for (unsigned i = 0; i < p->options.n_faults; i++) {
        const struct fault *f = &p->options.fault[i];

        if (!applies(p, f, f->kind, m))
            continue;
        switch (f->kind) {
        case FAULT_SET_REQUEST:
            h->request = (uint32_t)f->value;
            break;
        case FAULT_SET_FLAGS:
            h->flags = (uint32_t)f->value;
            break;
        case FAULT_SET_SIZE:
            h->size = (uint32_t)f->value;
            if (h->size <= MAX_PADDED)
                chunk->size = WIRE_HEADER + h->size;
            break;
        case FAULT_SET_PAYLOAD:
            if (f->offset <= MAX_PADDED - f->width)
                memcpy(chunk->data + WIRE_HEADER + f->offset, &f->value,
                       f->width);
            break;
        case FAULT_CUT:
        case FAULT_DIE:
        case FAULT_HANG:
        case FAULT_ATTACH:
            break;
        }
    }
}

static void attach(const struct fault *f, struct chunk *chunk)
{
    for (uint64_t i = 0; i < f->value && chunk->n_fds < 253; i++) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (fd < 0)
            break;
        chunk->fd[chunk->n_fds++] = fd;
    }
}

static void judge_probe_reply(struct peer *p, const struct message *m,
                              uint32_t size)
{
    if (m->header.request != WIRE_PROBE)
        return;
    if (fault_on_reply(p, m) || size > WIRE_MAX_PAYLOAD)
        p->c.probe = PROBE_UNSURE;
    else if (size >= 16)
        p->c.probe = PROBE_SPECS;
    else if (size == 4)
        p->c.probe = PROBE_MESSAGES;
    else
        p->c.probe = PROBE_FAILED;
    if (p->c.probe == PROBE_FAILED)
        p->probe_failed_by = p->c.pid;
}

void output_reply(struct peer *p, const struct message *m, const void *payload,
                  uint32_t size, int fd)
{
    struct connection *c = &p->c;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    struct wire_header h = { m->header.request, WIRE_VERSION | WIRE_REPLY,
                             size };

    if (chunk)
        chunk->data = calloc(1, WIRE_HEADER + MAX_PADDED);
    if (!chunk || !chunk->data || size > MAX_PADDED) {
        fprintf(stderr, "peer: no memory for a reply of %u bytes\n", size);
        exit(1);
    }
    judge_probe_reply(p, m, size);
    if (size)
        memcpy(chunk->data + WIRE_HEADER, payload, size);
    chunk->size = WIRE_HEADER + size;
    chunk->request = m->header.request;
    if (fd >= 0)
        chunk->fd[chunk->n_fds++] = fd;
    mutate(p, m, chunk, &h);
    memcpy(chunk->data, &h, sizeof h);
    const struct fault *f = fault_find(p, FAULT_ATTACH, m);

    if (f)
        attach(f, chunk);
    f = fault_find(p, FAULT_CUT, m);
    if (f) {
        chunk->hangup = true;
        if (f->value < chunk->size)
            chunk->size = (size_t)f->value;
    }
    uint64_t first = 0;

    if (size >= 8)
        memcpy(&first, payload, sizeof first);
    else if (size)
        memcpy(&first, payload, size);
    peer_log(p, "c%u b%u > %s size=%zu fds=%u first=0x%" PRIx64, c->number,
             m->batch, wire_name(m->header.request), chunk->size, chunk->n_fds,
             first);
    if (!c->out && p->options.latency)
        c->flush_at = peer_now() + p->options.latency;
    *c->out_end = chunk;
    c->out_end = &chunk->next;
}

static void pop(struct connection *c)
{
    struct chunk *chunk = c->out;

    for (unsigned i = 0; i < chunk->n_fds; i++)
        close(chunk->fd[i]);
    c->out = chunk->next;
    if (!c->out)
        c->out_end = &c->out;
    free(chunk->data);
    free(chunk);
}

/* Bytes sent, 0 if the socket is full, -1 if it is gone. */
static ssize_t send_some(struct connection *c, struct chunk *chunk,
                         size_t limit)
{
    union {
        char bytes[CMSG_SPACE(256 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { chunk->data + chunk->sent, chunk->size - chunk->sent };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (iov.iov_len > limit)
        iov.iov_len = limit;
    if (!chunk->sent && chunk->n_fds) {
        size_t bytes = chunk->n_fds * sizeof(int);

        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(cmsg), chunk->fd, bytes);
    }
    for (;;) {
        ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0)
            return n;
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -1;
    }
}

/*
 * Answers begin to leave. A front-end that has more to say at this moment does
 * not wait for them yet: false, it is heard first. Asked before, not after:
 * a fast one would have sent its next request by then.
 */
static bool begin_flush(struct peer *p)
{
    struct connection *c = &p->c;
    char byte;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0 && !c->hung && !c->closing)
        return false;
    c->flushing = true;
    if (n >= 0 || errno != EAGAIN)
        return true;
    p->stats.waits++;
    if (!c->count[WIRE_SET_FEATURES] && !c->count[WIRE_SET_STATUS] &&
        !c->count[WIRE_SET_MEM_TABLE] && !c->count[WIRE_ADD_MEM_REG])
        p->stats.handshake_waits++;
    peer_log(p, "c%u wait %u", c->number, p->stats.waits);
    return true;
}

int output_flush(struct peer *p)
{
    struct connection *c = &p->c;
    const struct options *o = &p->options;
    uint64_t now = peer_now();

    if (!c->out || (c->flush_at && now < c->flush_at))
        return 0;
    if (!c->flushing && !begin_flush(p))
        return 0;
    while (c->out) {
        struct chunk *chunk = c->out;

        if (o->drips && now < c->drip_at)
            return 0;
        if (chunk->sent < chunk->size) {
            ssize_t n = send_some(c, chunk, o->drips ? 1 : SIZE_MAX);

            if (n < 0)
                return -1;
            if (!n)
                return 0;
            chunk->sent += (size_t)n;
            c->drip_at = now + o->drip;
        }
        if (chunk->sent < chunk->size)
            continue;
        if (chunk->request < WIRE_REQUESTS)
            c->told |= BIT(chunk->request);
        if (chunk->hangup) {
            c->closing = true;
            return -1;
        }
        pop(c);
    }
    c->flush_at = 0;
    c->flushing = false;
    return 0;
}

uint64_t output_due(const struct peer *p)
{
    const struct connection *c = &p->c;

    if (!c->out)
        return 0;
    uint64_t due = c->flush_at;

    if (p->options.drips && c->drip_at > due)
        due = c->drip_at;
    return due;
}

void output_drop(struct connection *c)
{
    while (c->out)
        pop(c);
    c->out_end = &c->out;
}
