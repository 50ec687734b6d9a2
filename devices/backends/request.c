/* What requests have in common; see request.h. */
#include "devices/backends/request.h"

#include <string.h>

#include "devices/backends/complain.h"

enum answer request_reply(struct session *s, const void *data, size_t size)
{
    session_reply(s, data, size, -1);
    return ANSWERED;
}

enum answer request_reply_u64(struct session *s, uint64_t value)
{
    return request_reply(s, &value, sizeof value);
}

uint64_t request_u64(const struct session *s)
{
    uint64_t value;

    memcpy(&value, s->in.payload, sizeof value);
    return value;
}

enum answer request_refuse(const struct session *s, const char *why)
{
    complain("front-end: request %u: %s", s->in.header.request, why);
    return REFUSED;
}

enum answer request_reset(struct session *s)
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
