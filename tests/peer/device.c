/*
 * The device behind the messages, once they have been judged: answers, the
 * probe dialects, config space, and the faults that are tied to a request.
 */
#include "peer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int take_fd(struct message *m)
{
    int fd = m->n_fds ? m->fd[0] : -1;

    if (m->n_fds)
        m->fd[0] = -1;
    return fd;
}

static int reply_u64(struct peer *p, const struct message *m, uint64_t v)
{
    output_reply(p, m, &v, sizeof v, -1);
    return 0;
}

static int reply_u32(struct peer *p, const struct message *m, uint32_t v)
{
    output_reply(p, m, &v, sizeof v, -1);
    return 0;
}

/* The answer to a message that has none of its own, where one is asked for. */
static int acknowledge(struct peer *p, const struct message *m, uint64_t error)
{
    if (m->header.flags & WIRE_NEED_REPLY)
        return reply_u64(p, m, error);
    return 0;
}

static enum at41 at41_of(const struct options *o)
{
    if (o->at41 != AT41_ANSWER)
        return o->at41;
    switch (o->dialect) {
    case DIALECT_NONE:
    case DIALECT_SHARED_OBJECT:
        return AT41_HANGUP;
    case DIALECT_IGNORE:
        return AT41_IGNORE;
    case DIALECT_SPECS:
    case DIALECT_MESSAGES:
        break;
    }
    return AT41_ANSWER;
}

static int handle_specs(struct peer *p, const struct message *m)
{
    const struct options *o = &p->options;
    const uint32_t specs[4] = { o->id, o->config_size, o->min_vqs, o->max_vqs };
    uint32_t extra = o->specs_extra < 60000 ? o->specs_extra : 60000;
    uint8_t *bytes = malloc(sizeof specs + extra);

    if (!bytes)
        return -1;
    memcpy(bytes, specs, sizeof specs);
    memset(bytes + sizeof specs, 0xee, extra);
    output_reply(p, m, bytes, (uint32_t)sizeof specs + extra, -1);
    free(bytes);
    return 0;
}

static int handle_41(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;
    const struct options *o = &p->options;
    const uint32_t specs[3] = { o->id, o->config_size, o->min_vqs };
    const uint64_t none = 0;

    switch (at41_of(o)) {
    case AT41_ANSWER:
        break;
    case AT41_ZERO:
        output_reply(p, m, NULL, 0, -1);
        return 0;
    case AT41_U64:
        output_reply(p, m, &none, sizeof none, -1);
        return 0;
    case AT41_SHORT:
        output_reply(p, m, specs, sizeof specs, -1);
        return 0;
    case AT41_HANGUP:
    case AT41_IGNORE:
    case AT41_SILENCE:
        c->probe = PROBE_FAILED;
        p->probe_failed_by = c->pid;
        c->hung = at41_of(o) == AT41_SILENCE;
        if (at41_of(o) != AT41_HANGUP)
            return 0;
        c->closing = true;
        output_flush(p); /* what was answered before it still goes out */
        return -1;
    }
    if (o->dialect == DIALECT_MESSAGES)
        return reply_u32(p, m, o->id);
    return handle_specs(p, m);
}

static int handle_get_config(struct peer *p, const struct message *m)
{
    struct {
        struct wire_config head;
        uint8_t bytes[WIRE_MAX_CONFIG];
    } reply;

    memcpy(&reply.head, m->payload, sizeof reply.head);
    memset(reply.bytes, 0, sizeof reply.bytes);
    for (uint32_t i = 0; i < reply.head.size; i++) {
        uint64_t at = (uint64_t)reply.head.offset + i;

        if (at < p->config_bytes)
            reply.bytes[i] = p->config[at];
    }
    output_reply(p, m, &reply, (uint32_t)sizeof reply.head + reply.head.size,
                 -1);
    return 0;
}

static int handle_set_config(struct peer *p, const struct message *m)
{
    struct wire_config head;

    memcpy(&head, m->payload, sizeof head);
    for (uint32_t i = 0; i < head.size; i++) {
        uint64_t at = (uint64_t)head.offset + i;

        if (at < p->config_bytes)
            p->config[at] = m->payload[sizeof head + i];
    }
    return acknowledge(p, m, 0);
}

/*
 * The area holds a region a queue: 16 bytes of head and 16 a descriptor.
 * Buffers are served one at a time and in order, so where the used ring stands
 * is all that a successor needs; the area only says that there was one.
 */
static int handle_get_inflight(struct peer *p, const struct message *m)
{
    struct wire_inflight i = { .size = 0 };
    int fd = memfd_create("peer-inflight", MFD_CLOEXEC);

    memcpy(&i, m->payload, WIRE_INFLIGHT);
    i.size = (uint64_t)i.queues * (16 + 16 * (uint64_t)i.queue_size);
    i.offset = 0;
    if (fd < 0 || ftruncate(fd, (off_t)i.size) < 0) {
        peer_note(p, "no inflight area");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    output_reply(p, m, &i, m->header.size, fd);
    return 0;
}

static int handle_set_inflight(struct peer *p, struct message *m)
{
    struct connection *c = &p->c;
    struct wire_inflight i = { .size = 0 };
    struct stat st;
    uint16_t version = 0;
    void *map;

    memcpy(&i, m->payload, WIRE_INFLIGHT);
    if (fstat(m->fd[0], &st) < 0 || i.offset > (uint64_t)st.st_size ||
        i.size > (uint64_t)st.st_size - i.offset || i.size < 16) {
        peer_violation(p, "SET_INFLIGHT_FD: the area is beyond its file");
        return -1;
    }
    if (c->inflight)
        munmap(c->inflight, c->inflight_size);
    c->inflight_size = i.offset + i.size;
    map = mmap(NULL, c->inflight_size, PROT_READ | PROT_WRITE, MAP_SHARED,
               m->fd[0], 0);
    c->inflight = map == MAP_FAILED ? NULL : map;
    if (!c->inflight)
        return -1;
    memcpy(&version, c->inflight + i.offset + 8, sizeof version);
    c->inflight_given = version == 1;
    version = 1;
    memcpy(c->inflight + i.offset + 8, &version, sizeof version);
    return acknowledge(p, m, 0);
}

static int handle_shmem(struct peer *p, const struct message *m)
{
    const struct options *o = &p->options;
    uint64_t reply[1 + MAX_SHMEM] = { 0 };

    for (unsigned i = 0; i < o->n_shmem; i++) {
        reply[0] += o->shmem[i] != 0;
        reply[1 + i] = o->shmem[i];
    }
    output_reply(p, m, reply, WIRE_SHMEM_REPLY, -1);
    return 0;
}

static void replace(int *slot, int fd)
{
    if (*slot >= 0)
        close(*slot);
    *slot = fd;
}

static int handle_num(struct peer *p, const struct message *m,
                      const struct wire_state *s)
{
    struct ring *r = &p->c.ring[s->index];

    r->refused = p->options.refuse_num && s->num > p->options.refuse_num;
    if (!r->refused)
        return acknowledge(p, m, 0);
    peer_note(p, "size %u of ring %u refused", s->num, s->index);
    if (!(m->header.flags & WIRE_NEED_REPLY)) {
        p->c.closing = true;
        output_flush(p);
        return -1;
    }
    return acknowledge(p, m, 1);
}

static int handle_ring(struct peer *p, struct message *m)
{
    struct connection *c = &p->c;
    struct wire_state s;

    memcpy(&s, m->payload, sizeof s);
    struct ring *r = &c->ring[s.index & 0xff];

    switch (m->header.request) {
    case WIRE_SET_VRING_NUM:
        return handle_num(p, m, &s);
    case WIRE_SET_VRING_BASE:
        r->avail_idx = s.num & 0xffff;
        r->used_idx = (uint16_t)(s.num >> 16);
        break;
    case WIRE_SET_VRING_ERR:
        replace(&r->err, take_fd(m));
        break;
    case WIRE_SET_VRING_CALL:
        replace(&r->call, take_fd(m));
        break;
    case WIRE_SET_VRING_KICK:
        if (ring_kick_given(p, s.index & 0xff, take_fd(m)) < 0)
            return -1;
        break;
    case WIRE_SET_VRING_ENABLE:
        r->pending |= r->enabled && p->options.ignore_kick == IGNORE_NONE;
        break;
    case WIRE_VRING_KICK:
        if (!r->started)
            ring_start(p, s.index);
        r->kick_seen = r->pending = true;
        p->stats.kicks++;
        break;
    case WIRE_GET_VRING_BASE:
        s.num = ring_stop(p, s.index);
        output_reply(p, m, &s, sizeof s, -1);
        return 0;
    default:
        break;
    }
    return acknowledge(p, m, 0);
}

static bool stops_here(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;

    if (fault_find(p, FAULT_DIE, m)) {
        c->closing = true;
        output_flush(p);
        peer_note(p, "dies at %s", wire_name(m->header.request));
        peer_stats(p);
        exit(4);
    }
    if (!fault_find(p, FAULT_HANG, m))
        return false;
    c->hung = true;
    if (m->header.request == WIRE_PROBE)
        p->probe_failed_by = c->pid;
    peer_note(p, "hangs at %s", wire_name(m->header.request));
    return true;
}

int device_handle(struct peer *p, struct message *m)
{
    struct connection *c = &p->c;
    const struct options *o = &p->options;

    if (stops_here(p, m))
        return 0;
    switch (m->header.request) {
    case WIRE_GET_FEATURES:
        return reply_u64(p, m, o->features);
    case WIRE_GET_PROTOCOL_FEATURES:
        return reply_u64(p, m, o->protocol);
    case WIRE_GET_QUEUE_NUM:
        return reply_u64(p, m, o->queue_num);
    case WIRE_GET_MAX_MEM_SLOTS:
        return reply_u64(p, m, o->mem_slots);
    case WIRE_GET_STATUS:
        return reply_u64(p, m, c->status);
    case WIRE_PROBE:
        return handle_41(p, m);
    case WIRE_GET_CONFIG_SIZE:
        return reply_u32(p, m, o->config_size);
    case WIRE_GET_MIN_VQ:
        return reply_u32(p, m, o->min_vqs);
    case WIRE_GET_CONFIG:
        return handle_get_config(p, m);
    case WIRE_SET_CONFIG:
        return handle_set_config(p, m);
    case WIRE_GET_INFLIGHT_FD:
        return handle_get_inflight(p, m);
    case WIRE_SET_INFLIGHT_FD:
        return handle_set_inflight(p, m);
    case WIRE_GET_SHMEM_CONFIG:
        return handle_shmem(p, m);
    case WIRE_SET_MEM_TABLE:
        if (memory_table(p, m) < 0)
            return -1;
        break;
    case WIRE_ADD_MEM_REG:
        if (memory_add(p, m) < 0)
            return -1;
        break;
    case WIRE_SET_BACKEND_REQ_FD:
        if (channel_set(p, take_fd(m)) < 0)
            return -1;
        break;
    case WIRE_SET_STATUS:
        if (!c->status)
            shm_drop(c);
        for (unsigned i = 0; c->status & STATUS_DRIVER_OK && i < WIRE_MAX_RINGS;
             i++)
            c->ring[i].pending |=
                ring_runs(c, &c->ring[i]) && o->ignore_kick == IGNORE_NONE;
        break;
    case WIRE_SET_OWNER:
    case WIRE_SET_FEATURES:
    case WIRE_SET_PROTOCOL_FEATURES:
    case WIRE_RESET_DEVICE:
    case WIRE_SET_VRING_ADDR:
        break;
    default:
        return handle_ring(p, m);
    }
    return acknowledge(p, m, 0);
}

void device_drop(struct connection *c)
{
    if (c->inflight)
        munmap(c->inflight, c->inflight_size);
    c->inflight = NULL;
    shm_drop(c);
}
