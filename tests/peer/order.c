/*
 * The order of messages, and what each may say at its place: handshake and
 * probe, features, status, memory, reset. Rings are in order_ring.c. Where the
 * contract leaves freedom, every reading of it is let pass; reads (GET_CONFIG,
 * GET_STATUS, GET_QUEUE_NUM, ...) may come between any two messages.
 */
#include "peer.h"

#include <inttypes.h>
#include <string.h>

static const uint64_t transport_bits =
    BIT(F_LOG_ALL) | BIT(F_ACCESS_PLATFORM) | BIT(F_SR_IOV) |
    BIT(F_NOTIFICATION_DATA) | BIT(F_NOTIF_CONFIG_DATA) | BIT(F_ADMIN_VQ);

static const uint64_t served_protocol =
    BIT(PF_MQ) | BIT(PF_REPLY_ACK) | BIT(PF_BACKEND_REQ) | BIT(PF_CONFIG) |
    BIT(PF_BACKEND_SEND_FD) | BIT(PF_INFLIGHT) | BIT(PF_RESET_DEVICE) |
    BIT(PF_MEM_SLOTS) | BIT(PF_STATUS) | BIT(PF_PROBE) | BIT(PF_SHMEM);

static uint64_t u64_of(const struct message *m)
{
    uint64_t v;

    memcpy(&v, m->payload, sizeof v);
    return v;
}

static bool told(const struct connection *c, unsigned request)
{
    return c->told >> request & 1;
}

bool order_any_started(const struct connection *c)
{
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        if (c->ring[i].started)
            return true;
    return false;
}

static int judge_fence(struct peer *p, const char *what)
{
    const bool mq = p->options.protocol & BIT(PF_MQ);

    if (p->c.probe == PROBE_NONE || p->c.fence)
        return 0;
    return peer_violation(p, "%s: no %s was sent behind request 41", what,
                          mq ? "GET_QUEUE_NUM" : "GET_FEATURES");
}

/* The probe is over for everything behind it: was it done as agreed? */
static int judge_probe_end(struct peer *p, const char *what)
{
    const struct connection *c = &p->c;

    if (judge_fence(p, what) < 0)
        return -1;
    if (c->probe == PROBE_FAILED && order_acked(c, PF_PROBE))
        return peer_violation(p,
                              "%s: bit 18 is still acknowledged though no "
                              "probe came out",
                              what);
    return 0;
}

int order_gate(struct peer *p, const char *what)
{
    const struct connection *c = &p->c;
    const uint64_t features = p->options.features;

    if (!told(c, WIRE_GET_FEATURES))
        return peer_violation(p, "%s before the answer to GET_FEATURES", what);
    if (!(features & BIT(F_VERSION_1)))
        return peer_violation(p, "%s, though VERSION_1 is not offered", what);
    if (c->reset_owed)
        return peer_violation(p, "%s after SET_STATUS 0 without RESET_DEVICE",
                              what);
    return judge_probe_end(p, what);
}

static int judge_set_protocol(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;
    const struct options *o = &p->options;
    uint64_t v = u64_of(m), offered = o->protocol, served = served_protocol;

    if (o->allow_inband)
        served |= BIT(PF_INBAND);
    if (!told(c, WIRE_GET_PROTOCOL_FEATURES))
        return peer_violation(p, "SET_PROTOCOL_FEATURES before the answer to "
                                 "GET_PROTOCOL_FEATURES");
    if (v & ~offered)
        return peer_violation(
            p, "SET_PROTOCOL_FEATURES: 0x%" PRIx64 " was not offered",
            v & ~offered);
    if (v & ~served)
        return peer_violation(
            p, "SET_PROTOCOL_FEATURES: 0x%" PRIx64 " is not served",
            v & ~served);
    if (v & (BIT(PF_BACKEND_SEND_FD) | BIT(PF_SHMEM) | BIT(PF_INBAND)) &&
        !(v & BIT(PF_BACKEND_REQ)))
        return peer_violation(
            p, "SET_PROTOCOL_FEATURES 0x%" PRIx64 ": 10, 14 or 22 without 5",
            v);
    if (v & BIT(PF_INBAND) && !(v & BIT(PF_REPLY_ACK)))
        return peer_violation(p, "SET_PROTOCOL_FEATURES: 14 without 3");
    if (c->first_ring)
        return peer_violation(p, "SET_PROTOCOL_FEATURES after the first ring");
    if (v & BIT(PF_PROBE)) {
        if (o->forbid_probe)
            return peer_violation(p, "bit 18 is acknowledged, but no probe "
                                     "is wanted");
        if (c->probe == PROBE_FAILED)
            return peer_violation(p, "bit 18 is acknowledged again after "
                                     "request 41 came to nothing");
        if (p->probe_failed_by == c->pid && c->pid && !o->forget)
            return peer_violation(p, "bit 18 is acknowledged, but a probe "
                                     "failed on an earlier connection");
        c->ack_batch = m->batch;
    } else if (judge_fence(p, "SET_PROTOCOL_FEATURES") < 0) {
        return -1;
    }
    c->acked = v;
    c->acked_set = true;
    return 0;
}

static int judge_41(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;

    if (p->options.forbid_probe)
        return peer_violation(p, "request 41, but no probe is wanted");
    if (c->probe != PROBE_NONE)
        return peer_violation(p, "request 41 a second time");
    if (c->ack_batch != m->batch)
        return peer_violation(p, "request 41 is not in the same write as the "
                                 "SET_PROTOCOL_FEATURES that allows it");
    c->probe = PROBE_ASKED;
    c->fence = false;
    return 0;
}

static int judge_42(struct peer *p, const struct message *m)
{
    const struct connection *c = &p->c;

    if (told(c, WIRE_PROBE) &&
        (c->probe == PROBE_MESSAGES || c->probe == PROBE_UNSURE))
        return 0;
    return peer_violation(p, "%s without an answer of 4 bytes to request 41",
                          wire_name(m->header.request));
}

static int judge_config(struct peer *p, const struct message *m)
{
    const char *name = wire_name(m->header.request);
    struct wire_config c;

    memcpy(&c, m->payload, sizeof c);
    if (!c.size)
        return peer_violation(p, "%s: 0 bytes", name);
    if (c.flags)
        return peer_violation(p, "%s: flags 0x%" PRIx32, name, c.flags);
    if (c.offset > p->options.config_size ||
        c.size > p->options.config_size - c.offset)
        return peer_violation(p,
                              "%s: %" PRIu32 " bytes at %" PRIu32
                              " of a config space of %" PRIu32,
                              name, c.size, c.offset, p->options.config_size);
    for (uint32_t i = 0; m->header.request == WIRE_GET_CONFIG && i < c.size;
         i++)
        if (m->payload[sizeof c + i])
            return peer_violation(p, "GET_CONFIG: its bytes are not zeros");
    return 0;
}

static int judge_set_features(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;
    const uint64_t v = u64_of(m), offered = p->options.features;
    const bool status = order_acked(c, PF_STATUS);

    if (order_gate(p, "SET_FEATURES") < 0)
        return -1;
    if (v & ~offered)
        return peer_violation(p, "SET_FEATURES: 0x%" PRIx64 " was not offered",
                              v & ~offered);
    if (v & transport_bits)
        return peer_violation(
            p, "SET_FEATURES: 0x%" PRIx64 " belongs to the transport",
            v & transport_bits);
    if (offered & BIT(F_PROTOCOL) && !(v & BIT(F_PROTOCOL)))
        return peer_violation(p, "SET_FEATURES 0x%" PRIx64 " without bit 30",
                              v);
    if (order_any_started(c))
        return peer_violation(p, "SET_FEATURES while a ring is started");
    if (c->status & STATUS_DRIVER_OK)
        return peer_violation(p, "SET_FEATURES after DRIVER_OK");
    if (c->await_read)
        return peer_violation(p, "SET_FEATURES where GET_STATUS should read "
                                 "FEATURES_OK back");
    if (status && c->features_fresh)
        return peer_violation(p, "SET_FEATURES twice without SET_STATUS");
    if (!status && c->ran && p->options.protocol & BIT(PF_RESET_DEVICE))
        return peer_violation(p, "SET_FEATURES after a reset without "
                                 "RESET_DEVICE");
    c->features = v;
    c->features_set = true;
    c->features_fresh = status;
    return 0;
}

static int judge_reset_status(struct peer *p)
{
    struct connection *c = &p->c;

    if (c->await_read)
        return peer_violation(p, "SET_STATUS 0 where GET_STATUS should read "
                                 "FEATURES_OK back");
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++) {
        if (c->ring[i].started)
            return peer_violation(p, "SET_STATUS 0 while ring %u is started",
                                  i);
        c->ring[i].phase = PHASE_NONE;
        c->ring[i].enabled = false;
    }
    if (c->features_fresh)
        return peer_violation(p, "SET_FEATURES was not followed by SET_STATUS "
                                 "with FEATURES_OK, but 0");
    c->features_set = false;
    c->status = 0;
    c->reset_owed = p->options.protocol & BIT(PF_RESET_DEVICE);
    return 0;
}

static int judge_driver_ok(struct peer *p)
{
    const struct connection *c = &p->c;

    if (!(c->status & STATUS_FEATURES_OK))
        return peer_violation(p, "SET_STATUS with DRIVER_OK, but FEATURES_OK "
                                 "does not stand");
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        if (c->ring[i].phase != PHASE_NONE && !c->ring[i].enabled)
            return peer_violation(p,
                                  "SET_STATUS with DRIVER_OK, but ring %u "
                                  "is set up in part",
                                  i);
    return 0;
}

static int judge_set_status(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;
    const uint64_t v = u64_of(m);
    const bool ok = v & STATUS_FEATURES_OK;

    if (v > 0xff)
        return peer_violation(p, "SET_STATUS 0x%" PRIx64, v);
    if (!v)
        return judge_reset_status(p);
    if (order_gate(p, "SET_STATUS") < 0)
        return -1;
    if (c->await_read)
        return peer_violation(p,
                              "SET_STATUS 0x%" PRIx64 " where GET_STATUS "
                              "should read FEATURES_OK back",
                              v);
    if (ok && !c->features_set)
        return peer_violation(p, "SET_STATUS with FEATURES_OK before "
                                 "SET_FEATURES");
    if (!ok && c->features_fresh)
        return peer_violation(p,
                              "SET_FEATURES was followed by SET_STATUS "
                              "0x%" PRIx64 ", without FEATURES_OK",
                              v);
    if (v & STATUS_DRIVER_OK && !(c->status & STATUS_DRIVER_OK) &&
        judge_driver_ok(p) < 0)
        return -1;
    if (!(v & STATUS_DRIVER_OK) && !(c->status & STATUS_DRIVER_OK) &&
        order_any_started(c))
        return peer_violation(p,
                              "SET_STATUS 0x%" PRIx64 " where rings are "
                              "started and DRIVER_OK is due",
                              v);
    c->await_read =
        ok && (c->features_fresh || !(c->status & STATUS_FEATURES_OK));
    c->features_fresh = false;
    c->status = (uint8_t)v;
    if (p->options.refuse_features)
        c->status &= (uint8_t)~STATUS_FEATURES_OK;
    return 0;
}

static int judge_reset_device(struct peer *p)
{
    struct connection *c = &p->c;

    if (order_any_started(c))
        return peer_violation(p, "RESET_DEVICE while a ring is started");
    if (order_acked(c, PF_STATUS) && !c->reset_owed)
        return peer_violation(p, "RESET_DEVICE without SET_STATUS 0 before "
                                 "it");
    c->reset_owed = false;
    c->ran = false;
    if (!order_acked(c, PF_STATUS))
        c->features_set = false;
    return 0;
}

static int judge_memory(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;
    const bool whole = m->header.request == WIRE_SET_MEM_TABLE;
    const char *name = wire_name(m->header.request);

    if (order_gate(p, name) < 0)
        return -1;
    if (c->first_ring)
        return peer_violation(p, "%s after the first ring", name);
    if (c->table || (whole && c->slots))
        return peer_violation(p, "%s: the memory table a second time", name);
    c->table |= whole;
    c->slots |= !whole;
    return 0;
}

static int judge_inflight(struct peer *p, const struct message *m)
{
    struct wire_inflight i = { .size = 0 };

    memcpy(&i, m->payload, WIRE_INFLIGHT);
    if (!i.queues || !i.queue_size)
        return peer_violation(p, "%s: %u queues of %u",
                              wire_name(m->header.request), i.queues,
                              i.queue_size);
    if (m->header.request == WIRE_SET_INFLIGHT_FD && !i.size)
        return peer_violation(p, "SET_INFLIGHT_FD: an area of 0 bytes");
    return 0;
}

static int judge_protocol_allowed(struct peer *p, const char *name)
{
    if (!told(&p->c, WIRE_GET_FEATURES))
        return peer_violation(p, "%s before the answer to GET_FEATURES", name);
    if (!(p->options.features & BIT(F_PROTOCOL)))
        return peer_violation(p, "%s, though bit 30 is not offered", name);
    return 0;
}

int order_judge(struct peer *p, const struct message *m)
{
    struct connection *c = &p->c;
    const bool mq = p->options.protocol & BIT(PF_MQ);

    switch (m->header.request) {
    case WIRE_SET_OWNER:
        if (c->owner)
            return peer_violation(p, "SET_OWNER a second time");
        if (c->first_ring)
            return peer_violation(p, "SET_OWNER after the first ring");
        c->owner = true;
        return 0;
    case WIRE_GET_FEATURES:
        c->fence |= !mq;
        return 0;
    case WIRE_GET_QUEUE_NUM:
        c->fence |= mq;
        return 0;
    case WIRE_GET_PROTOCOL_FEATURES:
        return judge_protocol_allowed(p, "GET_PROTOCOL_FEATURES");
    case WIRE_SET_PROTOCOL_FEATURES:
        if (judge_protocol_allowed(p, "SET_PROTOCOL_FEATURES") < 0)
            return -1;
        return judge_set_protocol(p, m);
    case WIRE_PROBE:
        return judge_41(p, m);
    case WIRE_GET_CONFIG_SIZE:
    case WIRE_GET_MIN_VQ:
        return judge_42(p, m);
    case WIRE_GET_CONFIG:
    case WIRE_SET_CONFIG:
        return judge_config(p, m);
    case WIRE_SET_FEATURES:
        return judge_set_features(p, m);
    case WIRE_SET_STATUS:
        return judge_set_status(p, m);
    case WIRE_GET_STATUS:
        c->await_read = false;
        return 0;
    case WIRE_RESET_DEVICE:
        return judge_reset_device(p);
    case WIRE_SET_MEM_TABLE:
    case WIRE_ADD_MEM_REG:
        return judge_memory(p, m);
    case WIRE_GET_INFLIGHT_FD:
    case WIRE_SET_INFLIGHT_FD:
        return judge_inflight(p, m);
    case WIRE_GET_MAX_MEM_SLOTS:
    case WIRE_SET_BACKEND_REQ_FD:
    case WIRE_GET_SHMEM_CONFIG:
        return 0;
    default:
        return order_ring(p, m);
    }
}
