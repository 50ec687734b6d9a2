/*
 * The memory table and the inflight buffer. No queue runs while the table
 * changes; the buffer is refused while one does.
 */
#include "devices/backends/request_memory.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "devices/backends/complain.h"

/* Have no queue run while the memory table changes; true: none does. */
static bool pause_queues(struct session *s)
{
    s->paused = true;
    session_update(s);
    if (!session_idle(s))
        return false;
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_notify(&s->queue[i]);
    return true;
}

static void resume_queues(struct session *s)
{
    s->paused = false;
    for (unsigned i = 0; i < s->dev->shape.max_vqs; i++)
        queue_remap(&s->queue[i]);
    session_update(s);
}

enum answer request_set_mem_table(struct session *s)
{
    struct vu_mem_table table = { 0 };
    size_t size =
        s->in.header.size < sizeof table ? s->in.header.size : sizeof table;

    memcpy(&table, s->in.payload, size);
    if (table.n_regions > VU_MAX_MEM_REGIONS ||
        size < offsetof(struct vu_mem_table, region) +
                   table.n_regions * sizeof table.region[0] ||
        s->in.n_fds != table.n_regions)
        return request_refuse(s, "regions, size and descriptors do not agree");
    if (!pause_queues(s))
        return WAIT;
    memory_clear(&s->memory);

    int rc = 0;

    for (unsigned i = 0; i < table.n_regions && !rc; i++)
        rc = memory_add(&s->memory, &table.region[i], s->in.fd[i]);
    resume_queues(s);
    return rc < 0 ? request_refuse(s, strerror(-rc)) : OK;
}

enum answer request_get_max_mem_slots(struct session *s)
{
    return request_reply_u64(s, MEMORY_MAX_REGIONS);
}

enum answer request_add_mem_reg(struct session *s)
{
    struct vu_mem_reg reg;

    memcpy(&reg, s->in.payload, sizeof reg);
    if (s->in.n_fds != 1)
        return request_refuse(s, "a region without its descriptor");

    int rc = memory_add(&s->memory, &reg.region, s->in.fd[0]);

    return rc < 0 ? request_refuse(s, strerror(-rc)) : OK;
}

enum answer request_rem_mem_reg(struct session *s)
{
    struct vu_mem_reg reg;

    memcpy(&reg, s->in.payload, sizeof reg);
    if (!pause_queues(s))
        return WAIT;

    int rc = memory_remove(&s->memory, &reg.region);

    resume_queues(s);
    return rc < 0 ? request_refuse(s, "no such region") : OK;
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

enum answer request_get_inflight_fd(struct session *s)
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

enum answer request_set_inflight_fd(struct session *s)
{
    struct vu_inflight wire = payload_inflight(s);

    if (s->in.n_fds != 1)
        return request_refuse(s, "no descriptor");
    if (any_started(s))
        return request_refuse(s, "a queue runs");

    int rc = inflight_map(&s->inflight, &wire, s->in.fd[0]);

    return rc < 0 ? request_refuse(s, strerror(-rc)) : OK;
}
