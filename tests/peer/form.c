/*
 * The form of each message: version and flags, size of the payload, number of
 * descriptors, and whether the protocol feature behind it was acknowledged.
 * What is wrong here cannot be handled at all, so -1 also when lenient.
 */
#include "peer.h"

#include <inttypes.h>
#include <string.h>

bool order_acked(const struct connection *c, unsigned feature)
{
    return c->acked >> feature & 1;
}

static int judge_flags(struct peer *p, const struct message *m)
{
    uint32_t flags = m->header.flags;
    const char *name = wire_name(m->header.request);
    uint64_t value = 0;

    if ((flags & WIRE_VERSION_MASK) != WIRE_VERSION)
        return peer_violation(p, "%s: version %" PRIu32 " in flags 0x%" PRIx32,
                              name, flags & WIRE_VERSION_MASK, flags);
    if (flags & ~(uint32_t)(WIRE_VERSION_MASK | WIRE_NEED_REPLY))
        return peer_violation(p, "%s: flags 0x%" PRIx32 " in a request", name,
                              flags);
    if (!(flags & WIRE_NEED_REPLY) || order_acked(&p->c, PF_REPLY_ACK))
        return 0;
    /* the message that negotiates REPLY_ACK may already ask for the answer */
    if (m->header.request == WIRE_SET_PROTOCOL_FEATURES)
        memcpy(&value, m->payload, sizeof value);
    if (value & p->options.protocol & BIT(PF_REPLY_ACK))
        return 0;
    return peer_violation(p,
                          "%s: NEED_REPLY, but REPLY_ACK is not "
                          "acknowledged",
                          name);
}

static int judge_size(struct peer *p, const struct message *m,
                      const struct wire_shape *shape)
{
    uint32_t size = m->header.size, n, expected = 0;
    bool right = size >= shape->min && size <= shape->max;

    switch (right ? m->header.request : 0) {
    case WIRE_SET_MEM_TABLE:
        memcpy(&n, m->payload, sizeof n);
        if (!n || n > WIRE_TABLE_MAX) {
            peer_violation(p, "SET_MEM_TABLE: %" PRIu32 " regions", n);
            return -1;
        }
        /* the specification draws all eight, programs send what they use */
        expected = 8 + n * 32;
        right = size == expected || size == shape->max;
        break;
    case WIRE_GET_CONFIG:
    case WIRE_SET_CONFIG:
        memcpy(&n, m->payload + 4, sizeof n);
        expected = n <= WIRE_MAX_CONFIG ? WIRE_HEADER + n : 0;
        right = size == expected;
        break;
    case WIRE_GET_INFLIGHT_FD:
    case WIRE_SET_INFLIGHT_FD:
        right = size == WIRE_INFLIGHT || size == sizeof(struct wire_inflight);
        break;
    default:
        break;
    }
    if (right)
        return 0;
    peer_violation(p, "%s: payload of %" PRIu32 " bytes", shape->name, size);
    return -1;
}

static int judge_fds(struct peer *p, const struct message *m)
{
    unsigned expected = 0;
    uint64_t value;
    uint32_t n;

    switch (m->header.request) {
    case WIRE_SET_MEM_TABLE:
        memcpy(&n, m->payload, sizeof n);
        expected = n;
        break;
    case WIRE_SET_VRING_KICK:
    case WIRE_SET_VRING_CALL:
    case WIRE_SET_VRING_ERR:
        memcpy(&value, m->payload, sizeof value);
        if (value & ~UINT64_C(0x1ff)) {
            peer_violation(p, "%s: payload 0x%" PRIx64,
                           wire_name(m->header.request), value);
            return -1;
        }
        expected = !(value & WIRE_RING_NO_FD);
        break;
    case WIRE_SET_BACKEND_REQ_FD:
    case WIRE_SET_INFLIGHT_FD:
    case WIRE_ADD_MEM_REG:
        expected = 1;
        break;
    default:
        break;
    }
    if (m->n_fds == expected)
        return 0;
    peer_violation(p, "%s: %u descriptors, not %u",
                   wire_name(m->header.request), m->n_fds, expected);
    return -1;
}

static int judge_feature(struct peer *p, const struct wire_shape *shape)
{
    const struct connection *c = &p->c;

    if (shape->feature == NO_FEATURE || order_acked(c, shape->feature))
        return 0;
    /* GET_QUEUE_NUM is allowed once the bit was seen, unless it was refused */
    if (shape->feature == PF_MQ && !c->acked_set &&
        c->told & BIT(WIRE_GET_PROTOCOL_FEATURES) &&
        p->options.protocol & BIT(PF_MQ))
        return 0;
    return peer_violation(p, "%s: protocol feature %u is not acknowledged",
                          shape->name, shape->feature);
}

int form_judge(struct peer *p, const struct message *m)
{
    const struct wire_shape *shape = wire_shape(m->header.request);

    if (!shape) {
        peer_violation(p, "request %" PRIu32 " (%s), which nothing allows",
                       m->header.request, wire_name(m->header.request));
        return -1;
    }
    if (judge_size(p, m, shape) < 0 || judge_fds(p, m) < 0 ||
        judge_flags(p, m) < 0)
        return -1;
    return judge_feature(p, shape);
}
