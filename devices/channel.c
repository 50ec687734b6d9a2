/* Requests of the back-end. See channel.h. */
#include "devices/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/machine/fail.h"

#define BATCH 16 /* requests a call */

#define REFUSED 1u

int channel_init(struct channel *channel, const struct channel_ops *ops,
                 void *ctx)
{
    int pair[2];

    memset(channel, 0, sizeof *channel);
    channel->wire.fd = channel->far = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    wire_init(&channel->wire, pair[0]);
    channel->far = pair[1];
    channel->ops = ops;
    channel->ctx = ctx;
    return 0;
}

void channel_fini(struct channel *channel)
{
    wire_fini(&channel->wire);
    if (channel->far >= 0)
        close(channel->far);
    channel->far = -1;
}

static int answer(struct channel *channel, const struct vu_header *header,
                  uint64_t result)
{
    int rc = 0;

    if (header->flags & VU_NEED_REPLY)
        rc = wire_put(&channel->wire, header->request, VU_REPLY, &result,
                      sizeof result, NULL, 0);
    if (rc == 0)
        rc = wire_flush(&channel->wire);
    return rc;
}

/* A request whose payload and descriptors are as they must be. */
static bool is(const struct wire_message *message, uint32_t request,
               size_t size, unsigned n_fds)
{
    return message->header.request == request && message->header.size == size &&
           message->n_fds == n_fds;
}

static int carry_out(struct channel *channel,
                     const struct wire_message *message)
{
    const struct channel_ops *ops = channel->ops;
    bool inband = channel->acked & VU_PF_INBAND_NOTIFICATIONS;
    bool shm = channel->acked & VU_PF_SHMEM;
    struct vu_map map;

    if (is(message, VU_BACKEND_CONFIG_CHANGE_MSG, 0, 0))
        return ops->config_changed(channel->ctx);
    if (inband &&
        is(message, VU_BACKEND_VRING_CALL, sizeof(struct vu_vring_state), 0))
        return ops->call(channel->ctx);
    if (inband &&
        is(message, VU_BACKEND_VRING_ERR, sizeof(struct vu_vring_state), 0))
        return ops->ring_error(channel->ctx);
    if (shm && is(message, VU_BACKEND_SHMEM_MAP, sizeof map, 1)) {
        memcpy(&map, message->payload, sizeof map);
        return ops->map(channel->ctx, &map, message->fds[0]);
    }
    if (shm && is(message, VU_BACKEND_SHMEM_UNMAP, sizeof map, 0)) {
        memcpy(&map, message->payload, sizeof map);
        return ops->unmap(channel->ctx, &map);
    }
    return -EOPNOTSUPP;
}

int channel_step(struct channel *channel, struct husk_err *err)
{
    int rc = 0;

    for (unsigned i = 0; i < BATCH && rc == 0; i++) {
        struct wire_message message;

        rc = wire_pull(&channel->wire, &message, err);
        if (rc < 0)
            break;
        channel->served++;
        if ((message.header.flags & VU_VERSION_MASK) != VU_VERSION ||
            message.header.flags & VU_REPLY)
            return fail(err, -EPROTO,
                        "the back-end's request %u has flags "
                        "0x%x",
                        message.header.request, message.header.flags);
        rc = answer(channel, &message.header,
                    carry_out(channel, &message) == 0 ? 0 : REFUSED);
        if (rc == -EAGAIN) /* it takes no answers: it is not owed any */
            return fail(err, -EPROTO,
                        "the back-end sends requests and takes "
                        "no answers");
    }
    return rc == -EAGAIN ? 0 : rc;
}
