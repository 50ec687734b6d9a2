/*
 * What each vhost-user request does. A request is checked against the table
 * first: negotiated, of the right size, with the right number of descriptors.
 * Migration, IOTLB and everything else that is not in the table is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "devices/backends/session.h"
#include "devices/virtio.h"

enum answer {
    OK,
    DECLINED, /* for a reason that may be the guest's: only told if asked */
    REFUSED,  /* the front-end's mistake, and complained about */
    ANSWERED, /* the reply is on its way */
    WAIT,     /* chains must come back first */
};

static enum answer reply(struct session *s, const void *data, size_t size)
{
    session_reply(s, data, size, -1);
    return ANSWERED;
}

static enum answer reply_u64(struct session *s, uint64_t value)
{
    return reply(s, &value, sizeof value);
}

static uint64_t payload_u64(const struct session *s)
{
    uint64_t value;

    memcpy(&value, s->in.payload, sizeof value);
    return value;
}

static enum answer refuse(const struct session *s, const char *why)
{
    complain("front-end: request %u: %s", s->in.header.request, why);
    return REFUSED;
}

static void update_queues(struct session *s)
{
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_update(&s->queue[i]);
}

/* Have no queue run while the memory table changes; true: none does. */
static bool pause_queues(struct session *s)
{
    s->paused = true;
    update_queues(s);
    if (!session_idle(s))
        return false;
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_tell(&s->queue[i]);
    return true;
}

static void resume_queues(struct session *s)
{
    s->paused = false;
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_remap(&s->queue[i]);
    update_queues(s);
}

static enum answer reset_device(struct session *s)
{
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_stop(&s->queue[i]);
    if (!session_idle(s))
        return WAIT;
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_reset(&s->queue[i]);
    inflight_forget(&s->inflight);
    s->status = 0;
    s->bad_features = false;
    if (s->dev->backend->reset)
        s->dev->backend->reset(s->dev);
    return OK;
}

static enum answer get_features(struct session *s)
{
    return reply_u64(s, session_offers(s));
}

static enum answer set_features(struct session *s)
{
    uint64_t wanted = payload_u64(s), before = s->features;
    const struct backend *backend = s->dev->backend;

    s->bad_features = wanted & ~session_offers(s);
    s->features = wanted & session_offers(s);
    if (s->features != before && backend->features)
        backend->features(s->dev);
    if (s->bad_features && !(s->protocol_features & VU_PF_STATUS))
        return refuse(s, "features that were not offered");
    return s->bad_features ? DECLINED : OK;
}

static enum answer set_owner(struct session *s)
{
    (void)s;
    return OK;
}

static enum answer get_protocol_features(struct session *s)
{
    return reply_u64(s, session_protocol_offers(s));
}

static enum answer set_protocol_features(struct session *s)
{
    uint64_t wanted = payload_u64(s);

    if (wanted & ~session_protocol_offers(s))
        return refuse(s, "protocol features that were not offered");
    s->protocol_features = wanted;
    return OK;
}

static enum answer get_queue_num(struct session *s)
{
    return reply_u64(s, s->dev->shape.max_vqs);
}

static enum answer get_specs(struct session *s)
{
    const struct backend_shape *shape = &s->dev->shape;
    struct vu_specs specs = {
        .id = shape->id,
        .config_size = shape->config_size,
        .min_vqs = shape->min_vqs,
        .max_vqs = shape->max_vqs,
    };

    return reply(s, &specs, sizeof specs);
}

static enum answer set_mem_table(struct session *s)
{
    struct vu_mem_table table = { 0 };
    size_t size =
        s->in.header.size < sizeof table ? s->in.header.size : sizeof table;

    memcpy(&table, s->in.payload, size);
    if (table.n_regions > VU_MAX_MEM_REGIONS ||
        size < offsetof(struct vu_mem_table, region) +
                   table.n_regions * sizeof table.region[0] ||
        s->in.n_fds != table.n_regions)
        return refuse(s, "regions, size and descriptors do not agree");
    if (!pause_queues(s))
        return WAIT;
    memory_clear(&s->memory);

    int rc = 0;

    for (unsigned i = 0; i < table.n_regions && !rc; i++)
        rc = memory_add(&s->memory, &table.region[i], s->in.fd[i]);
    resume_queues(s);
    return rc < 0 ? refuse(s, strerror(-rc)) : OK;
}

static enum answer get_max_mem_slots(struct session *s)
{
    return reply_u64(s, MEMORY_MAX_REGIONS);
}

static enum answer add_mem_reg(struct session *s)
{
    struct vu_mem_reg reg;

    memcpy(&reg, s->in.payload, sizeof reg);
    if (s->in.n_fds != 1)
        return refuse(s, "a region without its descriptor");

    int rc = memory_add(&s->memory, &reg.region, s->in.fd[0]);

    return rc < 0 ? refuse(s, strerror(-rc)) : OK;
}

static enum answer rem_mem_reg(struct session *s)
{
    struct vu_mem_reg reg;

    memcpy(&reg, s->in.payload, sizeof reg);
    if (!pause_queues(s))
        return WAIT;

    int rc = memory_remove(&s->memory, &reg.region);

    resume_queues(s);
    return rc < 0 ? refuse(s, "no such region") : OK;
}

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

static enum answer set_vring_num(struct session *s)
{
    struct vu_vring_state state = payload_state(s);
    struct queue *q = stopped_queue(s, state.index);

    if (!q)
        return REFUSED;
    if (!state.num || state.num > RING_MAX_SIZE ||
        (!(s->features & VIRTIO_F_RING_PACKED) && state.num & (state.num - 1)))
        return DECLINED;
    q->ring.size = state.num;
    return OK;
}

static enum answer set_vring_addr(struct session *s)
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

static enum answer set_vring_base(struct session *s)
{
    struct vu_vring_state state = payload_state(s);
    struct queue *q = stopped_queue(s, state.index);

    if (!q)
        return REFUSED;
    q->ring.base = state.num;
    return OK;
}

static enum answer get_vring_base(struct session *s)
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
    queue_tell(q);
    if (q->ring.mem) {
        q->ring.base = ring_base(&q->ring);
        ring_stop(&q->ring);
    }
    q->ring.mem = NULL;
    state.num = q->ring.base;
    return reply(s, &state, sizeof state);
}

/* The queue and descriptor (-1: none) of a kick, call or error message. */
static struct queue *vring_fd(struct session *s, int *fd)
{
    uint64_t value = payload_u64(s);
    struct queue *q = named_queue(s, value & VU_VRING_INDEX_MASK);

    if (!q)
        return NULL;
    if (s->in.n_fds != !(value & VU_VRING_NO_FD)) {
        refuse(s, "a wrong number of descriptors");
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

static enum answer set_vring_kick(struct session *s)
{
    int fd = -1;
    struct queue *q = vring_fd(s, &fd);

    if (!q)
        return REFUSED;
    if (q->started || !q->has_addr) {
        if (fd >= 0)
            close(fd);
        return refuse(s, q->started ? "the queue runs"
                                    : "the queue has no addresses");
    }
    if (q->kick_fd >= 0)
        close(q->kick_fd);
    q->kick_fd = fd;
    q->polled = fd < 0;
    return queue_start(q) < 0 ? DECLINED : OK;
}

static enum answer set_vring_call(struct session *s)
{
    int fd = -1;
    struct queue *q = vring_fd(s, &fd);

    if (!q)
        return REFUSED;
    queue_set_call(q, fd);
    return OK;
}

static enum answer set_vring_err(struct session *s)
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

static enum answer set_vring_enable(struct session *s)
{
    struct vu_vring_state state = payload_state(s);
    struct queue *q = named_queue(s, state.index);

    if (!q)
        return REFUSED;
    q->enabled = state.num;
    queue_update(q);
    return OK;
}

static enum answer set_backend_req_fd(struct session *s)
{
    if (s->in.n_fds != 1)
        return refuse(s, "no descriptor");
    uplink_open(&s->uplink, s->in.fd[0],
                s->protocol_features & VU_PF_REPLY_ACK);
    s->in.fd[0] = -1;
    return OK;
}

/*
 * Bytes past the config space read as zeros: front-ends ask for the whole
 * struct of the device type that they know.
 */
static enum answer get_config(struct session *s)
{
    const struct device *dev = s->dev;
    uint8_t answer[sizeof(struct vu_config) + VU_MAX_CONFIG] = { 0 };
    struct vu_config range;

    memcpy(&range, s->in.payload, sizeof range);
    if (!range.size || range.size > VU_MAX_CONFIG ||
        range.offset > DEVICE_MAX_CONFIG)
        return reply(s, NULL, 0);
    range.flags = 0;
    memcpy(answer, &range, sizeof range);
    if (range.offset < dev->shape.config_size) {
        uint32_t there = dev->shape.config_size - range.offset;

        memcpy(answer + sizeof range, dev->config + range.offset,
               there < range.size ? there : range.size);
    }
    return reply(s, answer, sizeof range + range.size);
}

static enum answer set_config(struct session *s)
{
    struct device *dev = s->dev;
    struct vu_config range;

    memcpy(&range, s->in.payload, sizeof range);
    if (range.size != s->in.header.size - sizeof range)
        return refuse(s, "sizes do not agree");
    if (range.size > VU_MAX_CONFIG || range.offset > dev->shape.config_size ||
        range.size > dev->shape.config_size - range.offset ||
        !dev->backend->write_config)
        return DECLINED;
    return dev->backend->write_config(
               dev, range.offset, s->in.payload + sizeof range, range.size) < 0
               ? DECLINED
               : OK;
}

static enum answer set_status(struct session *s)
{
    uint64_t status = payload_u64(s);

    if (status > 0xff)
        return refuse(s, "a status of more than 8 bits");
    if (!status)
        return reset_device(s);
    if (s->bad_features || !(s->features & VIRTIO_F_VERSION_1))
        status &= ~(uint64_t)VIRTIO_STATUS_FEATURES_OK;
    s->status = (uint8_t)status;
    update_queues(s);
    return OK;
}

static enum answer get_status(struct session *s)
{
    return reply_u64(s, s->status);
}

static bool any_started(const struct session *s)
{
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++) {
        if (s->queue[i].started)
            return true;
    }
    return false;
}

/* As the request was, which may lack the struct's padding at its end. */
static struct vu_inflight payload_inflight(const struct session *s)
{
    struct vu_inflight wire = { 0 };

    memcpy(&wire, s->in.payload,
           s->in.header.size < sizeof wire ? s->in.header.size : sizeof wire);
    return wire;
}

static enum answer get_inflight_fd(struct session *s)
{
    struct vu_inflight wire = payload_inflight(s);
    int fd = -1, rc = any_started(s)
                          ? -EBUSY
                          : inflight_create(&s->inflight, &wire, &fd);

    if (rc < 0) { /* a size of 0 says that there is no buffer */
        complain("front-end: GET_INFLIGHT_FD for %u queues of %u: %s",
                 wire.num_queues, wire.queue_size, strerror(-rc));
        wire = (struct vu_inflight){ 0 };
        fd = -1;
    }
    session_reply(s, &wire, sizeof wire, fd);
    return ANSWERED;
}

static enum answer set_inflight_fd(struct session *s)
{
    struct vu_inflight wire = payload_inflight(s);

    if (s->in.n_fds != 1)
        return refuse(s, "no descriptor");
    if (any_started(s))
        return refuse(s, "a queue runs");

    int rc = inflight_map(&s->inflight, &wire, s->in.fd[0]);

    return rc < 0 ? refuse(s, strerror(-rc)) : OK;
}

#define ANY_FDS UINT8_MAX
#define OR_MORE true

static const struct rule {
    enum answer (*act)(struct session *s);
    uint64_t needs; /* protocol feature that must be negotiated */
    uint32_t size;  /* of the payload */
    bool or_more;
    uint8_t max_fds;
} rules[] = {
    [VU_GET_FEATURES] = { get_features, 0, 0, false, 0 },
    [VU_SET_FEATURES] = { set_features, 0, 8, false, 0 },
    [VU_SET_OWNER] = { set_owner, 0, 0, false, 0 },
    [VU_RESET_OWNER] = { reset_device, 0, 0, false, 0 },
    [VU_SET_MEM_TABLE] = { set_mem_table, 0, 8, OR_MORE, ANY_FDS },
    [VU_SET_VRING_NUM] = { set_vring_num, 0, 8, false, 0 },
    [VU_SET_VRING_ADDR] = { set_vring_addr, 0, 40, false, 0 },
    [VU_SET_VRING_BASE] = { set_vring_base, 0, 8, false, 0 },
    [VU_GET_VRING_BASE] = { get_vring_base, 0, 8, false, 0 },
    [VU_SET_VRING_KICK] = { set_vring_kick, 0, 8, false, 1 },
    [VU_SET_VRING_CALL] = { set_vring_call, 0, 8, false, 1 },
    [VU_SET_VRING_ERR] = { set_vring_err, 0, 8, false, 1 },
    [VU_GET_PROTOCOL_FEATURES] = { get_protocol_features, 0, 0, false, 0 },
    [VU_SET_PROTOCOL_FEATURES] = { set_protocol_features, 0, 8, false, 0 },
    [VU_GET_QUEUE_NUM] = { get_queue_num, VU_PF_MQ, 0, false, 0 },
    [VU_SET_VRING_ENABLE] = { set_vring_enable, 0, 8, false, 0 },
    [VU_SET_BACKEND_REQ_FD] = { set_backend_req_fd, VU_PF_BACKEND_REQ, 0,
                                OR_MORE, 1 },
    [VU_GET_CONFIG] = { get_config, VU_PF_CONFIG, 12, OR_MORE, 0 },
    [VU_SET_CONFIG] = { set_config, VU_PF_CONFIG, 12, OR_MORE, 0 },
    [VU_GET_INFLIGHT_FD] = { get_inflight_fd, VU_PF_INFLIGHT_SHMFD, 20, OR_MORE,
                             0 },
    [VU_SET_INFLIGHT_FD] = { set_inflight_fd, VU_PF_INFLIGHT_SHMFD, 20, OR_MORE,
                             1 },
    [VU_RESET_DEVICE] = { reset_device, VU_PF_RESET_DEVICE, 0, false, 0 },
    [VU_GET_MAX_MEM_SLOTS] = { get_max_mem_slots, VU_PF_CONFIGURE_MEM_SLOTS, 0,
                               false, 0 },
    [VU_ADD_MEM_REG] = { add_mem_reg, VU_PF_CONFIGURE_MEM_SLOTS, 40, false, 1 },
    [VU_REM_MEM_REG] = { rem_mem_reg, VU_PF_CONFIGURE_MEM_SLOTS, 40, false, 1 },
    [VU_SET_STATUS] = { set_status, VU_PF_STATUS, 8, false, 0 },
    [VU_GET_STATUS] = { get_status, VU_PF_STATUS, 0, false, 0 },
    [VU_GET_BACKEND_SPECS] = { get_specs, VU_PF_STANDALONE, 0, false, 0 },
};

static enum answer act(struct session *s)
{
    const struct vu_header *h = &s->in.header;
    const struct rule *rule = NULL;

    if (h->request < sizeof rules / sizeof rules[0])
        rule = &rules[h->request];
    if (!rule || !rule->act)
        return refuse(s, "not known here");
    if (rule->needs & ~s->protocol_features)
        return refuse(s, "not negotiated");
    if (rule->or_more ? h->size < rule->size : h->size != rule->size) {
        complain("front-end: request %u: %u bytes of payload, not %u",
                 h->request, h->size, rule->size);
        return REFUSED;
    }
    if (s->in.n_fds > rule->max_fds)
        return refuse(s, "descriptors that do not belong there");
    return rule->act(s);
}

enum verdict message_handle(struct session *s)
{
    enum answer answer = act(s);

    if (s->closing)
        return MESSAGE_FAILED;
    if (answer == WAIT)
        return MESSAGE_WAIT;
    if (answer == ANSWERED)
        return MESSAGE_DONE;
    if (s->in.header.flags & VU_NEED_REPLY &&
        s->protocol_features & VU_PF_REPLY_ACK) {
        reply_u64(s, answer != OK);
        return MESSAGE_DONE;
    }
    if (answer != REFUSED)
        return MESSAGE_DONE;
    s->failed = true;
    session_close(s);
    return MESSAGE_FAILED;
}
