/*
 * Which function acts on which vhost-user request. A request is checked against
 * the table first: negotiated, of the right size, with no more descriptors than
 * it may have. What the table lacks (migration, IOTLB) is refused.
 */
#include "devices/backends/message.h"

#include <string.h>

#include "devices/backends/complain.h"
#include "devices/backends/request.h"
#include "devices/backends/request_memory.h"
#include "devices/backends/request_ring.h"
#include "devices/virtio.h"

static enum answer get_features(struct session *s)
{
    return request_reply_u64(s, session_offers(s));
}

static enum answer set_features(struct session *s)
{
    uint64_t wanted = request_u64(s), before = s->host.features;
    const struct backend *backend = s->dev->backend;

    s->bad_features = wanted & ~session_offers(s);
    s->host.features = wanted & session_offers(s);
    if (s->host.features != before && backend->features)
        backend->features(s->dev);
    if (s->bad_features && !(s->protocol_features & VU_PF_STATUS))
        return request_refuse(s, "features that were not offered");
    return s->bad_features ? DECLINED : OK;
}

static enum answer set_owner(struct session *s)
{
    (void)s;
    return OK;
}

static enum answer get_protocol_features(struct session *s)
{
    return request_reply_u64(s, session_protocol_offers(s));
}

static enum answer set_protocol_features(struct session *s)
{
    uint64_t wanted = request_u64(s);

    if (wanted & ~session_protocol_offers(s))
        return request_refuse(s, "protocol features that were not offered");
    s->protocol_features = wanted;
    return OK;
}

static enum answer get_queue_num(struct session *s)
{
    return request_reply_u64(s, s->dev->shape.max_vqs);
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

    return request_reply(s, &specs, sizeof specs);
}

static enum answer set_backend_req_fd(struct session *s)
{
    if (s->in.n_fds != 1)
        return request_refuse(s, "no descriptor");
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
        return request_reply(s, NULL, 0);
    range.flags = 0;
    memcpy(answer, &range, sizeof range);
    if (range.offset < dev->shape.config_size) {
        uint32_t there = dev->shape.config_size - range.offset;

        memcpy(answer + sizeof range, dev->config + range.offset,
               there < range.size ? there : range.size);
    }
    return request_reply(s, answer, sizeof range + range.size);
}

static enum answer set_config(struct session *s)
{
    struct device *dev = s->dev;
    struct vu_config range;

    memcpy(&range, s->in.payload, sizeof range);
    if (range.size != s->in.header.size - sizeof range)
        return request_refuse(s, "sizes do not agree");
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
    uint64_t status = request_u64(s);

    if (status > 0xff)
        return request_refuse(s, "a status of more than 8 bits");
    if (!status)
        return request_reset(s);
    if (s->bad_features || !(s->host.features & VIRTIO_F_VERSION_1))
        status &= ~(uint64_t)VIRTIO_STATUS_FEATURES_OK;
    s->status = (uint8_t)status;
    session_update(s);
    return OK;
}

static enum answer get_status(struct session *s)
{
    return request_reply_u64(s, s->status);
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
    [VU_RESET_OWNER] = { request_reset, 0, 0, false, 0 },
    [VU_SET_MEM_TABLE] = { request_set_mem_table, 0, 8, OR_MORE, ANY_FDS },
    [VU_SET_VRING_NUM] = { request_set_vring_num, 0, 8, false, 0 },
    [VU_SET_VRING_ADDR] = { request_set_vring_addr, 0, 40, false, 0 },
    [VU_SET_VRING_BASE] = { request_set_vring_base, 0, 8, false, 0 },
    [VU_GET_VRING_BASE] = { request_get_vring_base, 0, 8, false, 0 },
    [VU_SET_VRING_KICK] = { request_set_vring_kick, 0, 8, false, 1 },
    [VU_SET_VRING_CALL] = { request_set_vring_call, 0, 8, false, 1 },
    [VU_SET_VRING_ERR] = { request_set_vring_err, 0, 8, false, 1 },
    [VU_GET_PROTOCOL_FEATURES] = { get_protocol_features, 0, 0, false, 0 },
    [VU_SET_PROTOCOL_FEATURES] = { set_protocol_features, 0, 8, false, 0 },
    [VU_GET_QUEUE_NUM] = { get_queue_num, VU_PF_MQ, 0, false, 0 },
    [VU_SET_VRING_ENABLE] = { request_set_vring_enable, 0, 8, false, 0 },
    [VU_SET_BACKEND_REQ_FD] = { set_backend_req_fd, VU_PF_BACKEND_REQ, 0,
                                OR_MORE, 1 },
    [VU_GET_CONFIG] = { get_config, VU_PF_CONFIG, 12, OR_MORE, 0 },
    [VU_SET_CONFIG] = { set_config, VU_PF_CONFIG, 12, OR_MORE, 0 },
    [VU_GET_INFLIGHT_FD] = { request_get_inflight_fd, VU_PF_INFLIGHT_SHMFD, 20,
                             OR_MORE, 0 },
    [VU_SET_INFLIGHT_FD] = { request_set_inflight_fd, VU_PF_INFLIGHT_SHMFD, 20,
                             OR_MORE, 1 },
    [VU_RESET_DEVICE] = { request_reset, VU_PF_RESET_DEVICE, 0, false, 0 },
    [VU_GET_MAX_MEM_SLOTS] = { request_get_max_mem_slots,
                               VU_PF_CONFIGURE_MEM_SLOTS, 0, false, 0 },
    [VU_ADD_MEM_REG] = { request_add_mem_reg, VU_PF_CONFIGURE_MEM_SLOTS, 40,
                         false, 1 },
    [VU_REM_MEM_REG] = { request_rem_mem_reg, VU_PF_CONFIGURE_MEM_SLOTS, 40,
                         false, 1 },
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
        return request_refuse(s, "not known here");
    if (rule->needs & ~s->protocol_features)
        return request_refuse(s, "not negotiated");
    if (rule->or_more ? h->size < rule->size : h->size != rule->size) {
        complain("front-end: request %u: %u bytes of payload, not %u",
                 h->request, h->size, rule->size);
        return REFUSED;
    }
    if (s->in.n_fds > rule->max_fds)
        return request_refuse(s, "descriptors that do not belong there");
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
        request_reply_u64(s, answer != OK);
        return MESSAGE_DONE;
    }
    if (answer != REFUSED)
        return MESSAGE_DONE;
    s->failed = true;
    session_close(s);
    return MESSAGE_FAILED;
}
