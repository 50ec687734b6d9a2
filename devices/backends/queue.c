/*
 * When a virtqueue runs, how its driver kicks, and how it is notified. A queue
 * is looked at once when it becomes active, so that a kick that came earlier or
 * was lost does no harm. A driver that adds chains as fast as they are
 * processed cannot keep the loop from other work.
 */
#include "devices/backends/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/backends/complain.h"
#include "devices/virtio.h"

#define MAX_ROUNDS     4
#define MAX_COMPLAINTS 16
#define POLL_SECONDS   0.001

static struct ev_loop *loop_of(const struct queue *q)
{
    return q->host->dev->loop;
}

static void signal_fd(int fd)
{
    uint64_t one = 1;

    /* a full eventfd is readable already */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0 && errno == EINTR)
        signal_fd(fd);
}

/* The ring is broken: say so, signal the front-end, stop the device's use. */
static void report(struct queue *q)
{
    struct queue_host *h = q->host;

    if (h->complaints < MAX_COMPLAINTS)
        complain("queue %u stopped: %s%s", q->index, q->ring.error,
                 ++h->complaints == MAX_COMPLAINTS
                     ? " (further messages about queues are dropped)"
                     : "");
    signal_fd(q->err_fd);
    queue_update(q);
}

static void again_soon(struct queue *q, double seconds)
{
    if (ev_is_active(&q->again))
        return;
    ev_timer_set(&q->again, seconds, 0.);
    ev_timer_start(loop_of(q), &q->again);
}

static void run(struct queue *q)
{
    const struct backend *backend = q->host->dev->backend;
    bool more = true;

    for (int round = 0; more && round < MAX_ROUNDS; round++) {
        if (!q->active || (q->held && !q->ring.broken))
            return;
        ring_disable_kicks(&q->ring);
        q->budget = q->ring.size;
        if (!q->ring.broken)
            backend->handle(q);
        if (q->ring.broken) {
            report(q);
            return;
        }
        if (!q->active || q->held)
            return;
        more = ring_enable_kicks(&q->ring);
    }
    if (more)
        again_soon(q, 0.);
    else if (q->polled)
        again_soon(q, POLL_SECONDS);
}

static void on_kick(struct ev_loop *loop, ev_io *w, int events)
{
    struct queue *q = w->data;
    uint64_t count;
    ssize_t n = read(q->kick_fd, &count, sizeof count);

    (void)events;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        complain("queue %u: kick descriptor: %s", q->index,
                 n ? strerror(errno) : "end of file");
        ev_io_stop(loop, w);
        return;
    }
    run(q);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    run(w->data);
}

void queue_init(struct queue *q, struct queue_host *host, unsigned index)
{
    *q = (struct queue){
        .host = host,
        .index = index,
        .call_fd = -1,
        .err_fd = -1,
        .kick_fd = -1,
    };
    ev_init(&q->kick, on_kick);
    ev_init(&q->again, on_again);
    q->kick.data = q->again.data = q;
}

static void set_active(struct queue *q, bool active)
{
    const struct backend *backend = q->host->dev->backend;

    q->active = active;
    if (!active) {
        ev_io_stop(loop_of(q), &q->kick);
        ev_timer_stop(loop_of(q), &q->again);
        if (backend->stop)
            backend->stop(q);
        return;
    }
    q->held = false;
    if (q->unnotified)
        signal_fd(q->call_fd);
    q->unnotified = false;
    if (q->kick_fd >= 0) {
        ev_io_set(&q->kick, q->kick_fd, EV_READ);
        ev_io_start(loop_of(q), &q->kick);
    }
    if (backend->start)
        backend->start(q);
    run(q);
}

void queue_update(struct queue *q)
{
    const struct queue_host *h = q->host;
    /* without VHOST_USER_F_PROTOCOL_FEATURES rings start enabled */
    bool enabled = q->enabled || !(h->features & VHOST_F_PROTOCOL_FEATURES);
    bool active = q->started && enabled && !q->ring.broken && h->running;

    if (active != q->active)
        set_active(q, active);
}

int queue_start(struct queue *q)
{
    struct queue_host *h = q->host;

    q->started = true;
    inflight_attach(&q->inflight, h->inflight, q->index);
    q->ring.inflight = q->inflight.region ? &q->inflight : NULL;
    if (ring_start(&q->ring, h->memory, h->features) < 0) {
        report(q);
        return -EINVAL;
    }
    q->unnotified =
        q->inflight.recovered ||
        (q->ring.packed ? q->ring.base != 0x80008000u : q->ring.next_used != 0);
    queue_update(q);
    return 0;
}

void queue_stop(struct queue *q)
{
    if (!q->started)
        return;
    q->started = false;
    queue_update(q);
}

void queue_remap(struct queue *q)
{
    if (q->started && !q->ring.broken && ring_map(&q->ring) < 0)
        report(q);
}

void queue_reset(struct queue *q)
{
    queue_stop(q);
    if (q->call_fd >= 0)
        close(q->call_fd);
    if (q->err_fd >= 0)
        close(q->err_fd);
    if (q->kick_fd >= 0)
        close(q->kick_fd);
    inflight_detach(&q->inflight);
    queue_init(q, q->host, q->index);
}

void queue_notify(struct queue *q)
{
    if (q->ring.given && ring_must_notify(&q->ring))
        signal_fd(q->call_fd);
}

void queue_set_call(struct queue *q, int fd)
{
    if (q->call_fd >= 0)
        close(q->call_fd);
    q->call_fd = fd;
    if (q->active)
        signal_fd(fd);
}

/* for devices */

unsigned queue_index(const struct queue *q)
{
    return q->index;
}

struct device *queue_device(const struct queue *q)
{
    return q->host->dev;
}

struct chain *queue_take(struct queue *q)
{
    if (!q->active || !q->budget)
        return NULL;

    struct chain *chain = ring_take(&q->ring);

    if (chain)
        q->budget--;
    return chain;
}

void queue_give(struct queue *q, struct chain *chain, uint32_t written)
{
    ring_give(&q->ring, chain, written);
}

void queue_return(struct queue *q, struct chain *chain)
{
    ring_return(&q->ring, chain);
    q->budget++;
}

void queue_hold(struct queue *q)
{
    q->held = true;
}

void queue_wake(struct queue *q)
{
    if (!q->active || !q->held)
        return;
    q->held = false;
    again_soon(q, 0.);
}

void queue_break(struct queue *q, const char *why)
{
    ring_break(&q->ring, "%s", why);
    again_soon(q, 0.);
}
