/*
 * The order of a ring's messages: NUM, ADDR, BASE, ERR, CALL, KICK, ENABLE 1,
 * each with the values that the contract and VIRTIO 1.2 allow; ENABLE 0 and
 * GET_VRING_BASE to stop it. Rings may be interleaved, and enabled one by one
 * or all at the end.
 */
#include "peer.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

static bool feature(const struct connection *c, unsigned bit)
{
    return c->features >> bit & 1;
}

/* Rings that the front-end can know of; all where that is not certain. */
static uint64_t ring_limit(const struct peer *p)
{
    const struct options *o = &p->options;
    const bool mq = o->protocol & BIT(PF_MQ);
    uint64_t limit = WIRE_MAX_RINGS;

    if (o->n_faults)
        return limit;
    if (p->c.probe == PROBE_SPECS)
        limit = mq && o->queue_num < o->max_vqs ? o->queue_num : o->max_vqs;
    else if (p->c.probe == PROBE_MESSAGES)
        limit = mq ? o->queue_num : o->min_vqs;
    return limit < WIRE_MAX_RINGS ? limit : WIRE_MAX_RINGS;
}

/* What must be true before a ring is set up at all. */
static int setup_gate(struct peer *p, const char *name, uint32_t index)
{
    struct connection *c = &p->c;

    if (order_gate(p, name) < 0)
        return -1;
    if (!c->owner)
        return peer_violation(p, "%s before SET_OWNER", name);
    if (!c->table && !c->slots)
        return peer_violation(p, "%s before the memory table", name);
    if (!c->features_set)
        return peer_violation(p, "%s before SET_FEATURES", name);
    if (order_acked(c, PF_STATUS)) {
        if (c->features_fresh || c->await_read)
            return peer_violation(p,
                                  "%s before FEATURES_OK was set and read "
                                  "back",
                                  name);
        if (!(c->status & STATUS_FEATURES_OK))
            return peer_violation(p, "%s, but FEATURES_OK does not stand",
                                  name);
        if (c->status & STATUS_DRIVER_OK && !feature(c, F_RING_RESET))
            return peer_violation(p,
                                  "%s for ring %" PRIu32 " after DRIVER_OK,"
                                  " without RING_RESET",
                                  name, index);
    }
    if (c->ring[index].started)
        return peer_violation(p, "%s for ring %" PRIu32 ", which is started",
                              name, index);
    c->first_ring = true;
    return 0;
}

/* The step that a message is, and those that may come right before it. */
static int judge_step(struct peer *p, const char *name, uint32_t index,
                      enum phase to)
{
    static const char *const names[] = { "nothing", "NUM",  "ADDR", "BASE",
                                         "ERR",     "CALL", "KICK" };
    struct ring *r = &p->c.ring[index];
    /* in-band, ERR, CALL and KICK may be left out */
    const bool skips = order_acked(&p->c, PF_INBAND) && to >= PHASE_ERR &&
                       r->phase >= PHASE_BASE && r->phase < to;

    if (r->phase + 1 != to && !skips)
        return peer_violation(p, "%s for ring %" PRIu32 " comes after %s", name,
                              index, names[r->phase]);
    r->phase = to;
    return 0;
}

static int judge_num(struct peer *p, const struct wire_state *s)
{
    if (!s->num || s->num > WIRE_MAX_RING)
        return peer_violation(p, "SET_VRING_NUM for ring %" PRIu32 ": %" PRIu32,
                              s->index, s->num);
    if (!feature(&p->c, F_PACKED) && s->num & (s->num - 1))
        return peer_violation(p,
                              "SET_VRING_NUM for ring %" PRIu32 ": %" PRIu32
                              " is not a power of two",
                              s->index, s->num);
    p->c.ring[s->index].num = s->num;
    return 0;
}

static int judge_area(struct peer *p, uint32_t index, const char *what,
                      uint64_t address, uint64_t size, uint64_t align)
{
    if (address & (align - 1))
        return peer_violation(p,
                              "SET_VRING_ADDR for ring %" PRIu32 ": %s at "
                              "0x%" PRIx64 " is not aligned to %" PRIu64,
                              index, what, address, align);
    if (!memory_user(&p->c, address, size)) {
        peer_violation(p,
                       "SET_VRING_ADDR for ring %" PRIu32 ": %s at 0x%" PRIx64
                       ", %" PRIu64 " bytes, is not in the memory "
                       "table",
                       index, what, address, size);
        return -1;
    }
    return 0;
}

static int judge_addr(struct peer *p, const struct wire_addr *a)
{
    struct ring *r = &p->c.ring[a->index];
    const bool packed = feature(&p->c, F_PACKED);
    const uint64_t num = r->num;
    /* both split rings end with a word for EVENT_IDX, negotiated or not */
    const uint64_t avail = packed ? 4 : 6 + 2 * num;
    const uint64_t used = packed ? 4 : 6 + 8 * num;

    if (a->flags)
        return peer_violation(
            p, "SET_VRING_ADDR for ring %" PRIu32 ": flags 0x%" PRIx32,
            a->index, a->flags);
    if (judge_area(p, a->index, "desc", a->desc, 16 * num, 16) < 0 ||
        judge_area(p, a->index, "avail", a->avail, avail, packed ? 4 : 2) < 0 ||
        judge_area(p, a->index, "used", a->used, used, 4) < 0)
        return -1;
    r->addr = *a;
    return 0;
}

static int judge_base(struct peer *p, const struct wire_state *s)
{
    const struct connection *c = &p->c;
    const uint32_t fresh = feature(c, F_PACKED) ? WIRE_PACKED_BASE : 0;
    const bool again = p->options.reconnected || c->inflight_given ||
                       (p->rings_seen_by && p->rings_seen_by == c->pid);
    uint16_t idx;

    if (s->num == fresh)
        return 0;
    if (again && feature(c, F_PACKED))
        return 0;
    /* a ring that goes on after a reconnect: where its used ring stands */
    const uint8_t *used = memory_user(c, c->ring[s->index].addr.used, 4);

    if (again && used) {
        memcpy(&idx, used + 2, sizeof idx);
        if (s->num == le16toh(idx))
            return 0;
    }
    return peer_violation(
        p, "SET_VRING_BASE for ring %" PRIu32 ": 0x%" PRIx32 ", not 0x%" PRIx32,
        s->index, s->num, fresh);
}

static int judge_enable(struct peer *p, const struct wire_state *s)
{
    struct connection *c = &p->c;
    struct ring *r = &c->ring[s->index];

    if (!feature(c, F_PROTOCOL) && s->num)
        return peer_violation(p, "SET_VRING_ENABLE, but bit 30 is not in "
                                 "SET_FEATURES");
    if (s->num > 1)
        return peer_violation(p,
                              "SET_VRING_ENABLE for ring %" PRIu32 ": %" PRIu32,
                              s->index, s->num);
    if (!s->num) {
        if (!(p->options.features & BIT(F_PROTOCOL)))
            return peer_violation(p, "SET_VRING_ENABLE, but bit 30 is not "
                                     "offered");
        r->enabled = false;
        return 0;
    }
    if (r->enabled)
        return peer_violation(
            p, "SET_VRING_ENABLE 1 for ring %" PRIu32 ", which is enabled",
            s->index);
    if (r->phase != PHASE_KICK &&
        !(order_acked(c, PF_INBAND) && r->phase >= PHASE_BASE))
        return peer_violation(
            p, "SET_VRING_ENABLE 1 for ring %" PRIu32 " before its KICK",
            s->index);
    r->enabled = true;
    return 0;
}

static int judge_get_base(struct peer *p, const struct wire_state *s)
{
    const struct connection *c = &p->c;
    struct ring *r = &p->c.ring[s->index];

    if (s->num)
        return peer_violation(
            p, "GET_VRING_BASE for ring %" PRIu32 ": num is %" PRIu32, s->index,
            s->num);
    if (!r->started)
        return peer_violation(
            p, "GET_VRING_BASE for ring %" PRIu32 ", which is not started",
            s->index);
    if (r->enabled && feature(c, F_PROTOCOL))
        return peer_violation(
            p, "GET_VRING_BASE for ring %" PRIu32 " without ENABLE 0 before it",
            s->index);
    return 0;
}

static int judge_descriptor(struct peer *p, const char *name, uint64_t value)
{
    const bool inband = order_acked(&p->c, PF_INBAND);

    if (!(value & WIRE_RING_NO_FD) || inband)
        return 0;
    return peer_violation(p, "%s for ring %" PRIu64 " without a descriptor",
                          name, value & 0xff);
}

static int setup(struct peer *p, const struct message *m, uint32_t index)
{
    const uint32_t request = m->header.request;
    const char *name = wire_name(request);
    struct wire_state s;
    struct wire_addr a;
    uint64_t value;

    if (setup_gate(p, name, index) < 0)
        return -1;
    memcpy(&s, m->payload, sizeof s);
    switch (request) {
    case WIRE_SET_VRING_NUM:
        /* where no status tells of a reset, a setup may begin again */
        if (!order_acked(&p->c, PF_STATUS))
            p->c.ring[index].phase = PHASE_NONE;
        if (judge_step(p, name, index, PHASE_NUM) < 0)
            return -1;
        return judge_num(p, &s);
    case WIRE_SET_VRING_ADDR:
        memcpy(&a, m->payload, sizeof a);
        if (judge_step(p, name, index, PHASE_ADDR) < 0)
            return -1;
        return judge_addr(p, &a);
    case WIRE_SET_VRING_BASE:
        if (judge_step(p, name, index, PHASE_BASE) < 0)
            return -1;
        return judge_base(p, &s);
    default:
        memcpy(&value, m->payload, sizeof value);
        if (judge_step(p, name, index,
                       request == WIRE_SET_VRING_ERR    ? PHASE_ERR
                       : request == WIRE_SET_VRING_CALL ? PHASE_CALL
                                                        : PHASE_KICK) < 0)
            return -1;
        return judge_descriptor(p, name, value);
    }
}

static int judge_vring_kick(struct peer *p, const struct wire_state *s)
{
    const struct ring *r = &p->c.ring[s->index];

    if (s->num)
        return peer_violation(
            p, "VRING_KICK for ring %" PRIu32 ": num is %" PRIu32, s->index,
            s->num);
    if (r->phase < PHASE_BASE)
        return peer_violation(p,
                              "VRING_KICK for ring %" PRIu32 ", which is "
                              "not set up",
                              s->index);
    return 0;
}

int order_ring(struct peer *p, const struct message *m)
{
    const uint32_t request = m->header.request;
    struct wire_state s;

    memcpy(&s, m->payload, sizeof s);
    if (request == WIRE_SET_VRING_KICK || request == WIRE_SET_VRING_CALL ||
        request == WIRE_SET_VRING_ERR)
        s.index &= 0xff; /* a u64: index and the flag in bit 8 */
    if (s.index >= ring_limit(p)) {
        peer_violation(p, "%s for ring %" PRIu32 " of %" PRIu64,
                       wire_name(request), s.index, ring_limit(p));
        return -1;
    }
    switch (request) {
    case WIRE_SET_VRING_ENABLE:
        return judge_enable(p, &s);
    case WIRE_GET_VRING_BASE:
        return judge_get_base(p, &s);
    case WIRE_VRING_KICK:
        return judge_vring_kick(p, &s);
    default:
        return setup(p, m, s.index);
    }
}
