/*
 * A ring's life: kick, call and error descriptors, start and stop, and what is
 * done with each buffer. Split and packed rings are walked in split.c and
 * packed.c. A guest whose descriptors make no sense breaks its ring, never the
 * peer: that is not the front-end's fault.
 */
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Written to the kick of a stopped ring: more than any guest kicks. */
#define POISON (UINT64_C(1) << 32)

void ring_init(struct ring *r)
{
    *r = (struct ring){ .kick = -1, .call = -1, .err = -1, .old_kick = -1 };
}

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void ring_fini(struct ring *r)
{
    shut(&r->kick);
    shut(&r->call);
    shut(&r->err);
    shut(&r->old_kick);
}

static void signal_fd(int fd, uint64_t value)
{
    ssize_t n;

    do
        n = write(fd, &value, sizeof value);
    while (n < 0 && errno == EINTR);
}

/* What was written to fd since it was last read; 0 if nothing was. */
static uint64_t drain(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    uint64_t value = 0;

    if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLIN))
        return 0;
    if (read(fd, &value, sizeof value) != (ssize_t)sizeof value)
        return 0;
    return value ? value : 1;
}

static bool same_file(int a, int b)
{
    pid_t pid = getpid();

    return syscall(SYS_kcmp, pid, pid, KCMP_FILE, (unsigned long)a,
                   (unsigned long)b) == 0;
}

bool ring_runs(const struct connection *c, const struct ring *r)
{
    if (!r->started || !r->enabled || r->broken || r->refused)
        return false;
    return !order_acked(c, PF_STATUS) || c->status & STATUS_DRIVER_OK;
}

static bool socket_empty(const struct connection *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
}

/* A kick was read: is it one that this device loses? */
static void kicked(struct peer *p, unsigned index)
{
    struct connection *c = &p->c;
    struct ring *r = &c->ring[index];

    p->stats.kicks++;
    if (!r->kick_seen)
        peer_log(p, "c%u kick ring=%u", c->number, index);
    r->kick_seen = true;
    /* with nothing left to read, what would allow it was sent after it */
    if (!ring_runs(c, r) &&
        (p->options.ignore_kick == IGNORE_HARD ||
         (p->options.ignore_kick == IGNORE_SURE && socket_empty(c)))) {
        peer_note(p, "a kick of ring %u is lost", index);
        r->kick_seen = false;
        return;
    }
    r->pending = true;
}

int ring_kick_given(struct peer *p, unsigned index, int fd)
{
    struct ring *r = &p->c.ring[index];
    uint64_t value = fd >= 0 ? drain(fd) : 0;
    bool again = fd >= 0 && r->old_kick >= 0 && same_file(fd, r->old_kick);

    shut(&r->kick);
    r->kick = fd;
    shut(&r->old_kick);
    if (value >= POISON) {
        if (peer_violation(p,
                           "SET_VRING_KICK for ring %u: the descriptor was "
                           "not emptied since the reset",
                           index) < 0)
            return -1;
    }
    if (again)
        peer_log(p, "ring=%u has its kick descriptor again", index);
    ring_start(p, index);
    r->pending = p->options.ignore_kick == IGNORE_NONE;
    if (value)
        kicked(p, index);
    return 0;
}

void ring_start(struct peer *p, unsigned index)
{
    struct connection *c = &p->c;
    struct ring *r = &c->ring[index];
    const uint64_t num = r->num;
    const bool packed = c->features >> F_PACKED & 1;

    r->desc = memory_user(c, r->addr.desc, 16 * num);
    r->avail = memory_user(c, r->addr.avail, packed ? 4 : 6 + 2 * num);
    r->used = memory_user(c, r->addr.used, packed ? 4 : 6 + 8 * num);
    r->broken = !num || !r->desc || !r->avail || !r->used;
    r->started = true;
    r->kick_seen = r->pending = r->call_owed = false;
    r->since = 0;
    if (packed) {
        r->avail_wrap = r->avail_idx >> 15;
        r->used_wrap = r->used_idx >> 15;
        r->avail_idx &= 0x7fff;
        r->used_idx &= 0x7fff;
    } else if (!r->broken) {
        memcpy(&r->used_idx, r->used + 2, sizeof r->used_idx);
        if (c->inflight_given)
            r->avail_idx = r->used_idx;
    }
    if (!(c->features & BIT(F_PROTOCOL)))
        r->enabled = true;
    c->ran = true;
    p->rings_seen_by = p->options.forget ? 0 : c->pid;
}

uint32_t ring_stop(struct peer *p, unsigned index)
{
    struct connection *c = &p->c;
    struct ring *r = &c->ring[index];
    uint32_t base = r->avail_idx;

    if (c->features >> F_PACKED & 1)
        base |= (uint32_t)r->avail_wrap << 15 | (uint32_t)r->used_idx << 16 |
                (uint32_t)r->used_wrap << 31;
    if (r->kick >= 0 && !p->options.no_poison)
        signal_fd(r->kick, POISON);
    shut(&r->old_kick);
    r->old_kick = r->kick;
    r->kick = -1;
    shut(&r->call);
    shut(&r->err);
    r->started = r->enabled = r->pending = r->refused = false;
    r->phase = PHASE_NONE;
    r->since = 0;
    return base;
}

void ring_read_kick(struct peer *p, unsigned index)
{
    if (drain(p->c.ring[index].kick))
        kicked(p, index);
}

void ring_break(struct peer *p, unsigned index, const char *why)
{
    struct ring *r = &p->c.ring[index];

    r->broken = true;
    peer_note(p, "ring %u is served no more: %s", index, why);
    if (r->err >= 0)
        signal_fd(r->err, 1);
}

void ring_call(struct peer *p, unsigned index)
{
    struct ring *r = &p->c.ring[index];

    p->stats.calls++;
    if (r->call >= 0)
        signal_fd(r->call, 1);
    else if (order_acked(&p->c, PF_INBAND))
        channel_call(p, index);
}

bool ring_segment(struct peer *p, unsigned *n, uint64_t guest, uint32_t size,
                  bool write)
{
    struct segment *s = &p->segment[*n];

    if (*n == MAX_SEGMENTS)
        return false;
    s->data = size ? memory_guest(&p->c, guest, size) : NULL;
    s->size = size;
    s->write = write;
    (*n)++;
    return !size || s->data;
}

static uint32_t echo(struct peer *p, unsigned n)
{
    uint32_t total = 0, from = 0;
    unsigned in = 0;

    for (unsigned out = 0; out < n; out++) {
        struct segment *w = &p->segment[out];
        uint32_t to = 0;

        while (w->write && to < w->size) {
            struct segment *r = &p->segment[in];

            if (in < n && (r->write || from == r->size)) {
                in++;
                from = 0;
                continue;
            }
            if (in >= n)
                return total;
            uint32_t bytes = w->size - to;

            if (bytes > r->size - from)
                bytes = r->size - from;
            memmove(w->data + to, r->data + from, bytes);
            to += bytes;
            from += bytes;
            total += bytes;
        }
    }
    return total;
}

uint32_t ring_serve(struct peer *p, unsigned n)
{
    uint32_t total = 0;

    p->served++;
    p->stats.buffers++;
    if (p->options.echo)
        return echo(p, n);
    for (unsigned i = 0; i < n; i++) {
        struct segment *s = &p->segment[i];

        if (!s->write || !s->size)
            continue;
        memset(s->data, p->options.fill, s->size);
        total += s->size;
    }
    return total;
}

void ring_run(struct peer *p, unsigned index)
{
    struct connection *c = &p->c;
    struct ring *r = &c->ring[index];
    bool call = false;
    unsigned n;

    r->pending = false;
    if (c->features >> F_PACKED & 1)
        n = packed_run(p, index, &call);
    else
        n = split_run(p, index, &call);
    if (n && call && !p->options.no_call)
        ring_call(p, index);
    if (p->options.vring_err_after && !r->broken &&
        p->served >= p->options.vring_err_after)
        ring_break(p, index, "told to fail by --vring-err-after");
}

int ring_tick(struct peer *p, uint64_t now)
{
    struct connection *c = &p->c;

    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++) {
        struct ring *r = &c->ring[i];

        if (!ring_runs(c, r) || !p->options.kick_limit)
            continue;
        if (!r->since)
            r->since = now;
        if (r->kick_seen || now - r->since < p->options.kick_limit)
            continue;
        r->since = now;
        if (peer_violation(p,
                           "ring %u was not kicked within %u ms of "
                           "DRIVER_OK",
                           i, p->options.kick_limit) < 0)
            return -1;
    }
    return 0;
}
