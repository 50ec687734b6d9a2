/*
 * A back-end that goes and comes back. Its device stays as it is for the guest;
 * a new connection goes through the whole handshake, must be to the same
 * device, and is told where things stood: the driver's statuses, its rings, and
 * what was under way. The loop does all of that and never waits; a guest that
 * changes the device meanwhile makes it begin anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/doorbell.h"
#include "devices/helper.h"
#include "devices/virtio.h"
#include "vmm/link/device.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define FIRST_BACK_OFF 0.05 /* seconds, doubled */
#define LAST_BACK_OFF  1.0
#define STEADY         1.0 /* seconds of service that earn a try at once */

bool device_may_return(const struct device *device)
{
    return device->spec.reconnect > 0 && device->state != DEVICE_LOST &&
           device->has_transport;
}

/* Drop what there is of a connection. */
static void disconnect(struct device *device)
{
    device_stop_watchers(device);
    wire_fini(&device->fe.wire);
    sys_close(&device->hang_up_fd);
    channel_fini(&device->channel);
}

static void back_off(struct device *device)
{
    device->back_off =
        device->back_off > 0 ? 2 * device->back_off : FIRST_BACK_OFF;
    if (device->back_off > LAST_BACK_OFF)
        device->back_off = LAST_BACK_OFF;
}

/* No back-end has a ring now; whether one had. */
static bool take_rings(struct device *device)
{
    bool had = false;

    for (unsigned i = 0; i < device->transport.rings.n; i++) {
        had |= device->transport.rings.given[i].started;
        device->transport.rings.given[i].started = false;
    }
    return had;
}

void device_away(struct device *device)
{
    char text[300];

    device->away = true;
    device->told = false;
    device->away_since = device_now();
    snprintf(text, sizeof text, "%s: connecting again", device->fe.err.text);
    device->events.log(device->events.ctx, HUSK_LOG_WARNING, text);
    disconnect(device);
    shm_clear(&device->shm);
    if (!take_rings(device))
        device->fresh = true;
    /* what its predecessor said last is not of the next one */
    atomic_store(&device->hung_up, false);
    atomic_store(&device->faulted, false);
    atomic_store(&device->ring_error, false);
    atomic_store(&device->config_changed, false);
    doorbell_take(device->err_fd);
    if (device->away_since - device->back_since > STEADY)
        device->back_off = 0;
    else
        back_off(device);
    device_pause(device, device->back_off);
}

/* It will not come back, or not as what it was. */
static void lose(struct device *device, const char *text)
{
    char line[320];

    disconnect(device);
    transport_lock(&device->transport);
    device->state = DEVICE_LOST;
    device->away = false;
    device->told = true;
    if (!device->fe.lost)
        frontend_lose(&device->fe, -ENODEV, "given up");
    transport_needs_reset(&device->transport, true);
    transport_unlock(&device->transport);
    snprintf(line, sizeof line, "%s", text);
    device_lose(device, line);
}

void device_retry(struct device *device, const struct husk_err *err)
{
    double gone = device_now() - device->away_since;
    char text[320];

    if (gone > device->spec.reconnect) {
        snprintf(text, sizeof text, "%s: given up after %g s (reconnect=)",
                 err->text, device->spec.reconnect);
        lose(device, text);
        return;
    }
    disconnect(device);
    back_off(device);
    device_pause(device, device->back_off);
}

/* What is other than it was, or NULL. */
static bool differs(const struct device *device, char *text, size_t size)
{
    const struct identity *was = &device->is, *is = &device->probe.is;
    uint64_t missing = device->transport.shown & ~is->features;

    if (is->id != was->id || is->config_size != was->config_size ||
        is->vqs != was->vqs)
        snprintf(text, size,
                 "%s: another device came back: id %u, %u queues, "
                 "%u bytes of config space; it was id %u, %u, %u",
                 device->spec.name, is->id, is->vqs, is->config_size, was->id,
                 was->vqs, was->config_size);
    else if (missing)
        snprintf(text, size,
                 "%s: the back-end came back without features that "
                 "it offered: 0x%" PRIx64,
                 device->spec.name, missing);
    else if (is->inband != was->inband)
        snprintf(text, size,
                 "%s: the back-end came back %s in-band "
                 "notifications",
                 device->spec.name, was->inband ? "without" : "with");
    else if (memcmp(&is->shm, &was->shm, sizeof is->shm))
        snprintf(text, size,
                 "%s: the back-end came back with other shared "
                 "memory regions",
                 device->spec.name);
    else
        return false;
    return true;
}

void device_returned(struct device *device)
{
    char text[256];
    int rc;

    if (differs(device, text, sizeof text)) {
        lose(device, text);
        return;
    }
    device->state = DEVICE_RESTORING;
    device->step = RESTORE_STATUS;
    device->epoch = 0;
    rc = device_watch_ready(device);
    if (rc < 0)
        frontend_lose(&device->fe, rc, "epoll: %s", strerror(-rc));
    device_arm(device);
    device_restore_on(device);
}

/* A ring that runs cannot be taken up where it stood. */
static bool must_reset(const struct device *device)
{
    const struct transport *t = &device->transport;

    return t->status & VIRTIO_STATUS_DRIVER_OK && !device->fresh &&
           (device->torn || (t->rings.driver_features & VIRTIO_F_RING_PACKED &&
                             device->fe.inflight_fd < 0));
}

static void warn_of_doubles(struct device *device)
{
    if (device->warned || device->fe.acked & VU_PF_INFLIGHT_SHMFD)
        return;
    device->warned = true;
    device_say(device, HUSK_LOG_WARNING,
               "the back-end has no INFLIGHT_SHMFD: "
               "requests that were under way may be done twice");
}

/* The bytes of config space that are unsaid, a run of them a message. */
static void send_unsaid(struct device *device)
{
    const uint8_t *bytes = device->unsaid;
    uint32_t all = device->is.config_size, end;

    for (uint32_t at = 0; bytes && at < all; at = end) {
        end = at + 1;
        if (!bytes[all + at])
            continue;
        while (end < all && bytes[all + end] && end - at < VU_MAX_CONFIG)
            end++;
        frontend_send_config(&device->fe, at, bytes + at, end - at);
    }
    if (bytes)
        frontend_config_refresh(&device->fe);
}

/* The guest reads the new back-end's config space before that serves a ring. */
static void show_config(struct device *device)
{
    const struct frontend *fe = &device->fe;
    struct transport *t = &device->transport;

    if (fe->is->config_size)
        transport_config(t, fe->config,
                         memcmp(t->window.page + VIRTIO_MMIO_CONFIG, fe->config,
                                fe->is->config_size) != 0);
}

/* Everything has been told: the device is the guest's again. */
static void come_back(struct device *device)
{
    struct transport *t = &device->transport;
    struct frontend *fe = &device->fe;
    char text[80];

    device->away = device->fresh = device->torn = false;
    device_drop_unsaid(device);
    device->state = DEVICE_READY;
    device->back_since = device_now();
    ev_timer_stop(device->loop, &device->timer);
    device_watch(device, 0);
    show_config(device);
    if (device->must_reset)
        transport_needs_reset(t, false);
    frontend_kick_all(fe, &t->rings);
    frontend_pump(fe); /* sends those that go in-band */
    /* what its predecessor finished may not have been signalled */
    if (t->status & VIRTIO_STATUS_DRIVER_OK)
        helper_ring(device->helper, t->call_fd);
    snprintf(text, sizeof text, "the back-end is back after %.1f s",
             device->back_since - device->away_since);
    device_say(device, HUSK_LOG_WARNING, text);
}

/* One step of the restoring; false: it waits for answers, or has ended. */
static bool step(struct device *device)
{
    struct transport *t = &device->transport;
    struct frontend *fe = &device->fe;
    bool more = true;

    transport_lock(t);
    if (device->step != RESTORE_STATUS && device->epoch != t->epoch) {
        frontend_lose(fe, -EAGAIN, "the guest changed the device meanwhile");
        transport_unlock(t);
        return true;
    }
    switch (device->step) {
    case RESTORE_STATUS:
        device->epoch = t->epoch;
        take_rings(device); /* from one that went again on its way */
        if (device->fresh || !(fe->acked & VU_PF_INFLIGHT_SHMFD))
            frontend_drop_inflight(fe);
        device->must_reset = must_reset(device);
        device->step = device->must_reset ? RESTORE_CONFIG : RESTORE_INFLIGHT;
        if (!device->must_reset)
            frontend_send_statuses(fe, t->history, t->n_history,
                                   t->rings.driver_features);
        break;
    case RESTORE_INFLIGHT:
        device->step = RESTORE_RINGS;
        if (t->status & VIRTIO_STATUS_FEATURES_OK && fe->acked & VU_PF_STATUS &&
            !(fe->device_status & VIRTIO_STATUS_FEATURES_OK))
            frontend_lose(fe, -ENODEV,
                          "the back-end that came back refuses "
                          "the features that the guest uses");
        else if (t->status & VIRTIO_STATUS_DRIVER_OK)
            frontend_get_inflight(fe, &t->rings);
        break;
    case RESTORE_RINGS:
        device->step = RESTORE_CONFIG;
        if (t->status & VIRTIO_STATUS_DRIVER_OK) {
            device->fresh = device->torn = false;
            if (!device->unsaid)
                show_config(device);
            frontend_send_rings(fe, &t->rings,
                                t->status & ~VIRTIO_STATUS_NEEDS_RESET);
            warn_of_doubles(device);
        }
        break;
    case RESTORE_CONFIG:
        device->step = RESTORE_END;
        send_unsaid(device);
        break;
    case RESTORE_END:
        come_back(device);
        more = false;
        break;
    }
    transport_unlock(t);
    return more;
}

void device_restore_on(struct device *device)
{
    struct frontend *fe = &device->fe;
    struct husk_err err;
    int rc;

    do {
        rc = frontend_pump(fe);
        if (rc == -EAGAIN) {
            device_watch(device, frontend_events(fe));
            return;
        }
        if (rc < 0) {
            err = fe->err;
            if (err.code == -ENODEV)
                lose(device, err.text);
            else
                device_retry(device, &err);
            return;
        }
    } while (step(device));
    device_wake(device);
}
