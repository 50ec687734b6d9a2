/*
 * Restoring a back-end that came back. The loop sends, step by step, and never
 * waits; a guest that changes the device meanwhile makes it begin anew, on a
 * new connection.
 */
#include "vmm/link/recovery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio.h"

void recovery_init(struct recovery *recovery, struct lines *lines)
{
    memset(recovery, 0, sizeof *recovery);
    recovery->lines = lines;
}

static void drop_config(struct recovery *recovery)
{
    free(recovery->config);
    recovery->config = NULL;
}

void recovery_fini(struct recovery *recovery)
{
    drop_config(recovery);
}

/* Whether the back-end that is gone had a ring. */
static bool take_rings(struct vrings *rings)
{
    bool had = false;

    for (unsigned i = 0; i < rings->n; i++) {
        had |= rings->given[i].started;
        rings->given[i].started = false;
    }
    return had;
}

void recovery_given(struct recovery *recovery)
{
    recovery->rings = RECOVERY_HELD;
}

void recovery_gone(struct recovery *recovery, struct vrings *rings)
{
    if (!take_rings(rings) && recovery->rings == RECOVERY_HELD)
        recovery->rings = RECOVERY_UNUSED;
}

void recovery_reset(struct recovery *recovery)
{
    recovery->rings = RECOVERY_UNUSED;
    drop_config(recovery);
}

/* The area still has the requests of the ring that is no more. */
void recovery_ring_reset(struct recovery *recovery, const struct frontend *fe)
{
    if (recovery->rings == RECOVERY_HELD && fe->inflight_fd >= 0)
        recovery->rings = RECOVERY_UNKNOWN;
}

void recovery_config(struct recovery *recovery, struct transport *t,
                     uint32_t offset, const void *data, uint32_t size)
{
    uint32_t all = t->is->config_size;

    if (!recovery->config)
        recovery->config = calloc(2, all);
    if (!recovery->config)
        return;
    recovery->config_size = all;
    memcpy(recovery->config + offset, data, size);
    memset(recovery->config + all + offset, 1, size);
    t->epoch++; /* a restore that is under way begins anew */
}

void recovery_begin(struct recovery *recovery)
{
    recovery->step = RECOVERY_STATUSES;
}

static bool is_running(const struct transport *t)
{
    return t->status & VIRTIO_STATUS_DRIVER_OK;
}

/* Where a packed ring stands only the inflight area knows. */
static void judge_rings(struct recovery *recovery, const struct transport *t,
                        const struct frontend *fe)
{
    if (recovery->rings == RECOVERY_HELD && is_running(t) &&
        t->rings.driver_features & VIRTIO_F_RING_PACKED && fe->inflight_fd < 0)
        recovery->rings = RECOVERY_UNKNOWN;
}

static enum recovery_step send_statuses(struct recovery *recovery,
                                        struct transport *t,
                                        struct frontend *fe)
{
    recovery->epoch = t->epoch;
    take_rings(&t->rings); /* of an attempt that did not get to its end */
    if (recovery->rings == RECOVERY_UNUSED ||
        !(fe->acked & VU_PF_INFLIGHT_SHMFD))
        frontend_drop_inflight(fe);
    judge_rings(recovery, t, fe);
    if (recovery_waits_for_reset(recovery))
        return RECOVERY_CONFIG;
    frontend_send_statuses(fe, t->history, t->n_history,
                           t->rings.driver_features);
    return RECOVERY_INFLIGHT;
}

static enum recovery_step get_inflight(struct transport *t, struct frontend *fe)
{
    if (t->status & VIRTIO_STATUS_FEATURES_OK && fe->acked & VU_PF_STATUS &&
        !(fe->device_status & VIRTIO_STATUS_FEATURES_OK))
        frontend_lose(fe, -ENODEV,
                      "the back-end that came back refuses "
                      "the features that the guest uses");
    else if (is_running(t))
        frontend_get_inflight(fe, &t->rings);
    return RECOVERY_RINGS;
}

static void warn_of_doubles(struct recovery *recovery,
                            const struct frontend *fe)
{
    if (recovery->doubles_said || fe->acked & VU_PF_INFLIGHT_SHMFD)
        return;
    recovery->doubles_said = true;
    lines_keep(recovery->lines, HUSK_LOG_WARNING,
               "the back-end has no INFLIGHT_SHMFD: "
               "requests that were in flight may be done twice");
}

void recovery_show_config(struct transport *t, const struct frontend *fe)
{
    uint32_t size = fe->is->config_size;

    if (size)
        transport_config(
            t, fe->config,
            memcmp(t->window.page + VIRTIO_MMIO_CONFIG, fe->config, size) != 0);
}

static enum recovery_step send_rings(struct recovery *recovery,
                                     struct transport *t, struct frontend *fe)
{
    if (is_running(t)) {
        recovery->rings = RECOVERY_HELD;
        if (!recovery->config)
            recovery_show_config(t, fe);
        frontend_send_rings(fe, &t->rings,
                            t->status & ~VIRTIO_STATUS_NEEDS_RESET);
        warn_of_doubles(recovery, fe);
    }
    return RECOVERY_CONFIG;
}

/* The bytes that were written, a run of them a message. */
static enum recovery_step send_config(struct recovery *recovery,
                                      struct frontend *fe)
{
    const uint8_t *bytes = recovery->config;
    uint32_t all = recovery->config_size, end;

    for (uint32_t at = 0; bytes && at < all; at = end) {
        end = at + 1;
        if (!bytes[all + at])
            continue;
        while (end < all && bytes[all + end] && end - at < VU_MAX_CONFIG)
            end++;
        frontend_send_config(fe, at, bytes + at, end - at);
    }
    if (bytes)
        frontend_config_refresh(fe);
    return RECOVERY_END;
}

bool recovery_step(struct recovery *recovery, struct transport *t,
                   struct frontend *fe)
{
    if (recovery->step != RECOVERY_STATUSES && recovery->epoch != t->epoch) {
        frontend_lose(fe, -EAGAIN, "the guest changed the device meanwhile");
        return true; /* and finds the connection lost */
    }
    switch (recovery->step) {
    case RECOVERY_STATUSES:
        recovery->step = send_statuses(recovery, t, fe);
        break;
    case RECOVERY_INFLIGHT:
        recovery->step = get_inflight(t, fe);
        break;
    case RECOVERY_RINGS:
        recovery->step = send_rings(recovery, t, fe);
        break;
    case RECOVERY_CONFIG:
        recovery->step = send_config(recovery, fe);
        break;
    case RECOVERY_END:
        drop_config(recovery);
        return false;
    }
    return true;
}
