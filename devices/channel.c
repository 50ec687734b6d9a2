/* Requests of the back-end. See channel.h. */
#include "devices/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/fail.h"

#define BATCH 16 /* requests a call */

#define REFUSED 1u

int channel_init(struct channel *channel, void (*config_changed)(void *ctx),
                 void *ctx)
{
    int pair[2];

    memset(channel, 0, sizeof *channel);
    channel->wire.fd = channel->far = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    wire_init(&channel->wire, pair[0]);
    channel->far = pair[1];
    channel->config_changed = config_changed;
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

int channel_step(struct channel *channel, struct husk_err *err)
{
    bool changed = false;
    int rc = 0;

    for (unsigned i = 0; i < BATCH && rc == 0; i++) {
        struct wire_message message;
        bool known;

        rc = wire_pull(&channel->wire, &message, err);
        if (rc < 0)
            break;
        if ((message.header.flags & VU_VERSION_MASK) != VU_VERSION ||
            message.header.flags & VU_REPLY) {
            rc = fail(err, -EPROTO, "the back-end's request %u has flags 0x%x",
                      message.header.request, message.header.flags);
            break;
        }
        known = message.header.request == VU_BACKEND_CONFIG_CHANGE_MSG &&
                message.header.size == 0 && message.n_fds == 0;
        changed |= known;
        rc = answer(channel, &message.header, known ? 0 : REFUSED);
        if (rc == -EAGAIN) /* it takes no answers: it is not owed any */
            rc = fail(err, -EPROTO, "the back-end sends requests and takes no "
                      "answers");
    }
    if (changed)
        channel->config_changed(channel->ctx);
    return rc == -EAGAIN ? 0 : rc;
}
