/*
 * Setting a virtqueue up, starting and stopping it. What only a stopped queue
 * may get is refused while it runs.
 */
#include "devices/backends/request_ring.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/backends/complain.h"
#include "devices/virtio.h"

/* The queue that a vring message names, or NULL after complaining. */
static struct queue *named_queue(struct session *s, uint32_t index)
{
    if (index < s->dev->shape.max_vqs)
        return &s->queue[index];
    complain("front-end: request %u: queue %u of %u", s->in.header.request,
             index, s->dev->shape.max_vqs);
    return NULL;
}

/* The same from a struct vu_vring_state, for a queue that must be stopped. */
static struct queue *stopped_queue(struct session *s, uint32_t index)
{
    struct queue *q = named_queue(s, index);

    if (q && q->started) {
        complain("front-end: request %u: queue %u runs", s->in.header.request,
                 index);
        return NULL;
    }
    return q;
}

static struct vu_vring_state payload_state(const struct session *s)
{
    struct vu_vring_state state;

    memcpy(&state, s->in.payload, sizeof state);
    return state;
}

enum answer request_set_vring_num(struct session *s)
{
    struct vu_vring_state state = payload_state(s);
    struct queue *q = stopped_queue(s, state.index);

    if (!q)
        return REFUSED;
    if (!state.num || state.num > RING_MAX_SIZE ||
        (!(s->host.features & VIRTIO_F_RING_PACKED) &&
         state.num & (state.num - 1)))
        return DECLINED;
    q->ring.size = state.num;
    return OK;
}

enum answer request_set_vring_addr(struct session *s)
{
    struct vu_vring_addr addr;

    memcpy(&addr, s->in.payload, sizeof addr);

    struct queue *q = stopped_queue(s, addr.index);

    if (!q)
        return REFUSED;
    q->ring.desc = addr.desc;
    q->ring.avail = addr.avail;
    q->ring.used = addr.used;
    q->has_addr = true;
    return OK;
}

enum answer request_set_vring_base(struct session *s)
{
    struct vu_vring_state state = payload_state(s);
    struct queue *q = stopped_queue(s, state.index);

    if (!q)
        return REFUSED;
    q->ring.base = state.num;
    return OK;
}

enum answer request_get_vring_base(struct session *s)
{
    struct vu_vring_state state = payload_state(s);

    /* an acknowledgement would look like an answer here */
    if (state.index >= s->dev->shape.max_vqs) {
        session_fail(s, "GET_VRING_BASE of queue %u of %u", state.index,
                     s->dev->shape.max_vqs);
        return REFUSED;
    }

    struct queue *q = &s->queue[state.index];

    queue_stop(q);
    if (q->ring.in_flight)
        return WAIT;
    queue_notify(q);
    if (q->ring.mem) {
        q->ring.base = ring_base(&q->ring);
        ring_stop(&q->ring);
    }
    q->ring.mem = NULL;
    state.num = q->ring.base;
    return request_reply(s, &state, sizeof state);
}

/* The queue and descriptor (-1: none) of a kick, call or error message. */
static struct queue *vring_fd(struct session *s, int *fd)
{
    uint64_t value = request_u64(s);
    struct queue *q = named_queue(s, value & VU_VRING_INDEX_MASK);

    if (!q)
        return NULL;
    if (s->in.n_fds != !(value & VU_VRING_NO_FD)) {
        request_refuse(s, "a wrong number of descriptors");
        return NULL;
    }
    *fd = -1;
    if (s->in.n_fds) {
        *fd = s->in.fd[0];
        s->in.fd[0] = -1;
        fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_NONBLOCK);
    }
    return q;
}

enum answer request_set_vring_kick(struct session *s)
{
    int fd = -1;
    struct queue *q = vring_fd(s, &fd);

    if (!q)
        return REFUSED;
    if (q->started || !q->has_addr) {
        if (fd >= 0)
            close(fd);
        return request_refuse(s, q->started ? "the queue runs"
                                            : "the queue has no addresses");
    }
    if (q->kick_fd >= 0)
        close(q->kick_fd);
    q->kick_fd = fd;
    q->polled = fd < 0;
    return queue_start(q) < 0 ? DECLINED : OK;
}

enum answer request_set_vring_call(struct session *s)
{
    int fd = -1;
    struct queue *q = vring_fd(s, &fd);

    if (!q)
        return REFUSED;
    queue_set_call(q, fd);
    return OK;
}

enum answer request_set_vring_err(struct session *s)
{
    int fd = -1;
    struct queue *q = vring_fd(s, &fd);

    if (!q)
        return REFUSED;
    if (q->err_fd >= 0)
        close(q->err_fd);
    q->err_fd = fd;
    return OK;
}

enum answer request_set_vring_enable(struct session *s)
{
    struct vu_vring_state state = payload_state(s);
    struct queue *q = named_queue(s, state.index);

    if (!q)
        return REFUSED;
    q->enabled = state.num;
    queue_update(q);
    return OK;
}
