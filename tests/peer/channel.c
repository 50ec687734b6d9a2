/*
 * The back-end's own requests: CONFIG_CHANGE, in-band calls, mappings of shared
 * memory, and one that no front-end knows. Sent only while the device runs,
 * since a suspended one keeps silent; one answer is awaited at a time, and
 * judged.
 */
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int channel_set(struct peer *p, int fd)
{
    struct channel *ch = &p->c.channel;
    int type = 0;
    socklen_t size = sizeof type;

    if (ch->fd >= 0)
        close(ch->fd);
    ch->fd = fd;
    ch->waiting = false;
    ch->in_size = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return peer_violation(p, "SET_BACKEND_REQ_FD: the descriptor is no "
                                 "socket");
    return 0;
}

bool channel_send(struct peer *p, uint32_t request, const void *payload,
                  uint32_t size, int fd, bool refused)
{
    struct channel *ch = &p->c.channel;
    const bool ask = order_acked(&p->c, PF_REPLY_ACK);
    struct wire_header h = { request, WIRE_VERSION, size };
    uint8_t out[WIRE_HEADER + sizeof(struct wire_map)];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = { .bytes = { 0 } };
    struct iovec iov = { out, sizeof h + size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (ask)
        h.flags |= WIRE_NEED_REPLY;
    memcpy(out, &h, sizeof h);
    if (size)
        memcpy(out + sizeof h, payload, size);
    if (fd >= 0) {
        struct cmsghdr *cmsg;

        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
    }
    if (sendmsg(ch->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) !=
        (ssize_t)(sizeof h + size))
        return false;
    peer_log(p, "c%u back-end request %" PRIu32 " sent", p->c.number, request);
    ch->waiting = ask;
    ch->refused = refused;
    ch->request = request;
    ch->deadline = peer_now() + p->options.answer_limit;
    return true;
}

static bool send_request(struct peer *p, uint32_t request, const void *payload,
                         uint32_t size)
{
    return channel_send(p, request, payload, size, -1,
                        request == p->options.backend_request);
}

static int judge_answer(struct peer *p)
{
    struct channel *ch = &p->c.channel;
    struct wire_header h;
    uint64_t value;

    memcpy(&h, ch->in, sizeof h);
    memcpy(&value, ch->in + sizeof h, sizeof value);
    ch->in_size = 0;
    if (!ch->waiting)
        return peer_violation(p, "an answer on the back-end channel that "
                                 "nothing asked for");
    ch->waiting = false;
    peer_log(p, "c%u back-end request %" PRIu32 " answered: %" PRIu64,
             p->c.number, h.request, value);
    if (h.request != ch->request || h.size != 8 ||
        (h.flags & ~(uint32_t)WIRE_NEED_REPLY) != (WIRE_VERSION | WIRE_REPLY))
        return peer_violation(p,
                              "back-end request %" PRIu32 " was answered "
                              "with request %" PRIu32 ", flags 0x%" PRIx32
                              ", size %" PRIu32,
                              ch->request, h.request, h.flags, h.size);
    if (ch->refused) {
        if (!value)
            return peer_violation(p,
                                  "back-end request %" PRIu32 ", which has "
                                  "to be refused, was answered with 0",
                                  h.request);
        peer_note(p,
                  "back-end request %" PRIu32 " was refused, as it has "
                  "to be",
                  h.request);
    } else if (value) {
        return peer_violation(p,
                              "back-end request %" PRIu32 " was answered "
                              "with %" PRIu64,
                              h.request, value);
    }
    return 0;
}

int channel_read(struct peer *p)
{
    struct channel *ch = &p->c.channel;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;

    for (;;) {
        struct iovec iov = { ch->in + ch->in_size,
                             sizeof ch->in - ch->in_size };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
        ssize_t n = recvmsg(ch->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0) {
            close(ch->fd);
            ch->fd = -1;
            peer_log(p, "c%u back-end channel is closed", p->c.number);
            return 0;
        }
        if (msg.msg_controllen) {
            struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
            int fd;

            if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
                memcpy(&fd, CMSG_DATA(cmsg), sizeof fd);
                close(fd);
            }
            if (peer_violation(p, "a descriptor with an answer on the "
                                  "back-end channel") < 0)
                return -1;
        }
        ch->in_size += (size_t)n;
        if (ch->in_size == sizeof ch->in && judge_answer(p) < 0)
            return -1;
    }
}

void channel_call(struct peer *p, unsigned index)
{
    struct connection *c = &p->c;
    struct wire_state s = { index, 0 };

    c->ring[index].call_owed =
        c->channel.waiting || c->channel.fd < 0 ||
        !send_request(p, WIRE_BACKEND_VRING_CALL, &s, sizeof s);
}

static void change_config(struct peer *p, uint64_t now)
{
    struct channel *ch = &p->c.channel;
    const struct options *o = &p->options;

    if (!order_acked(&p->c, PF_CONFIG) ||
        (o->config_changes && ch->changes >= o->config_changes))
        return;
    if (!ch->next_change)
        ch->next_change = now + o->config_change;
    if (now < ch->next_change)
        return;
    for (uint32_t i = 0; i < p->config_bytes; i++)
        p->config[i]++;
    if (!send_request(p, WIRE_BACKEND_CONFIG_CHANGE, NULL, 0)) {
        for (uint32_t i = 0; i < p->config_bytes; i++)
            p->config[i]--;
        return;
    }
    ch->changes++;
    p->stats.changes++;
    ch->next_change = now + o->config_change;
}

bool channel_open(const struct connection *c)
{
    /* a device that works without rings is not suspended either */
    if (order_acked(c, PF_STATUS) && c->status & STATUS_DRIVER_OK)
        return true;
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        if (ring_runs(c, &c->ring[i]))
            return true;
    return false;
}

int channel_tick(struct peer *p)
{
    struct connection *c = &p->c;
    struct channel *ch = &c->channel;
    const struct options *o = &p->options;
    uint64_t now = peer_now();

    if (ch->fd < 0)
        return 0;
    if (ch->waiting) {
        if (!o->answer_limit || now < ch->deadline)
            return 0;
        ch->waiting = false;
        return peer_violation(p,
                              "back-end request %" PRIu32 " was not "
                              "answered within %u ms",
                              ch->request, o->answer_limit);
    }
    if (!channel_open(c))
        return 0;
    for (unsigned i = 0; i < WIRE_MAX_RINGS && !ch->waiting; i++)
        if (c->ring[i].call_owed)
            channel_call(p, i);
    if (!ch->waiting && o->backend_request && !ch->asked_unknown)
        ch->asked_unknown = send_request(p, o->backend_request, NULL, 0);
    if (!ch->waiting && o->config_change)
        change_config(p, now);
    if (!ch->waiting)
        shm_tick(p, now);
    return 0;
}
