/*
 * Devices on the loop. Before the guest runs the loop owns the connection;
 * after that it takes a device's lock only if nobody holds it, sends, and never
 * waits: whoever holds the lock sees to the rest when letting go of it.
 */
#include "vmm/link/device.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devices/doorbell.h"
#include "devices/helper.h"
#include "devices/virtio.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define RING_ERRORS 3   /* lines about them */
#define SHM_PAUSE   1.0 /* seconds between looks at what is mapped */

void device_stop_watchers(struct device *device)
{
    ev_io_stop(device->loop, &device->socket);
    ev_io_stop(device->loop, &device->hang_up);
    ev_io_stop(device->loop, &device->err);
    ev_io_stop(device->loop, &device->requests);
    ev_timer_stop(device->loop, &device->timer);
    ev_timer_stop(device->loop, &device->shm_timer);
    atomic_store(&device->watching, false);
}

/* Before it was ready: the end of the attempt. */
void device_give_up(struct device *device, const struct husk_err *err)
{
    struct husk_err more = *err;

    if (device->away) {
        device_retry(device, err);
        return;
    }
    device->state = DEVICE_LOST;
    device_stop_watchers(device);
    if (err->code == -EPIPE || err->code == -ECONNRESET)
        device_last_words(device, &more);
    device->events.failed(device->events.ctx, &more);
}

void device_watch(struct device *device, short events)
{
    int mask =
        (events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0);

    if (ev_is_active(&device->socket) && device->socket.events == mask)
        return;
    ev_io_stop(device->loop, &device->socket);
    ev_io_set(&device->socket, device->fe.wire.fd, mask);
    if (mask)
        ev_io_start(device->loop, &device->socket);
}

/* (Re)start the deadline of what is due. */
void device_arm(struct device *device)
{
    device->taken = device->fe.taken;
    device->timer.repeat = device->spec.deadline;
    ev_now_update(device->loop);
    ev_timer_again(device->loop, &device->timer);
}

static int watch_hang_up(struct device *device)
{
    struct epoll_event event = { .events = EPOLLRDHUP };

    sys_close(&device->hang_up_fd);
    device->hang_up_fd = epoll_create1(EPOLL_CLOEXEC);
    if (device->hang_up_fd < 0 || epoll_ctl(device->hang_up_fd, EPOLL_CTL_ADD,
                                            device->fe.wire.fd, &event) < 0)
        return -errno;
    ev_io_set(&device->hang_up, device->hang_up_fd, EV_READ);
    ev_io_start(device->loop, &device->hang_up);
    return 0;
}

int device_watch_ready(struct device *device)
{
    int rc = watch_hang_up(device);

    if (rc == 0 && device->fe.acked & VU_PF_BACKEND_REQ) {
        sys_close(&device->channel.far); /* the back-end has it now */
        device->channel.acked = device->fe.acked;
        ev_io_set(&device->requests, device->channel.wire.fd, EV_READ);
        ev_io_start(device->loop, &device->requests);
    }
    if (rc == 0 && !ev_is_active(&device->err)) {
        ev_io_set(&device->err, device->err_fd, EV_READ);
        ev_io_start(device->loop, &device->err);
    }
    return rc;
}

static void become_ready(struct device *device)
{
    struct husk_err err, inner;
    int rc;

    device_watch(device, 0);
    ev_timer_stop(device->loop, &device->timer);
    device->fe.ctx = device;
    device->fe.config_arrived = device_config_arrived;
    if (device->away) {
        device_returned(device);
        return;
    }
    if (device->probe.note[0])
        device->events.log(device->events.ctx, HUSK_LOG_WARNING,
                           device->probe.note);
    device->is = device->probe.is;
    device->config = malloc(device->is.config_size + 1);
    if (!device->config) {
        fail(&err, -ENOMEM, "%s: out of memory", device->spec.name);
        device_give_up(device, &err);
        return;
    }
    memcpy(device->config, device->fe.config, device->is.config_size);
    device->round_trips = device->fe.waits;
    rc = shm_init(&device->shm, &device->is.shm, &inner);
    if (rc < 0) {
        fail(&err, rc, "%s: %s", device->spec.name, inner.text);
        device_give_up(device, &err);
        return;
    }
    rc = device_watch_ready(device);
    if (rc < 0) {
        fail(&err, rc, "%s: epoll: %s", device->spec.name, strerror(-rc));
        device_give_up(device, &err);
        return;
    }
    device->state = DEVICE_READY;
    device->t_ready = sys_now();
    device->events.ready(device->events.ctx, device);
}

void device_probe_on(struct device *device)
{
    unsigned waits = device->fe.waits;
    struct husk_err err;
    int rc = probe_step(&device->probe);

    if (rc == -EAGAIN) {
        device_watch(device, frontend_events(&device->fe));
        if (device->fe.waits != waits)
            device_arm(device);
    } else if (rc == 0) {
        become_ready(device);
    } else if (probe_again(&device->probe)) {
        device_say(device, HUSK_LOG_INFO,
                   "no answer to the probe: connecting again "
                   "without one");
        rc = device_connect(device, &err);
        if (rc < 0)
            device_give_up(device, &err);
    } else {
        err = device->fe.err;
        device_give_up(device, &err);
    }
}

/* Loop: take answers that are due, if nobody else is at it. */
static void take_answers(struct device *device)
{
    if (!transport_trylock(&device->transport)) {
        device_watch(device, 0);
        ev_timer_stop(device->loop, &device->timer);
        atomic_store(&device->watching, false);
        transport_work(&device->transport); /* see to it when you let go */
        return;
    }
    frontend_pump(&device->fe);
    if (!device->fe.lost && frontend_events(&device->fe)) {
        device_watch(device, frontend_events(&device->fe));
    } else {
        device_watch(device, 0);
        ev_timer_stop(device->loop, &device->timer);
        atomic_store(&device->watching, false);
    }
    transport_unlock(&device->transport);
    if (device->settling)
        device_wake(device);
}

static void on_socket(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;

    (void)loop;
    (void)revents;
    if (device->state == DEVICE_PROBING)
        device_probe_on(device);
    else if (device->state == DEVICE_RESTORING)
        device_restore_on(device);
    else if (device->has_transport)
        take_answers(device);
    else if (frontend_pump(&device->fe) != -EAGAIN)
        device_watch(device, 0);
}

static void on_timer(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct device *device = watcher->data;
    struct husk_err err;

    (void)revents;
    switch (device->state) {
    case DEVICE_CONNECTING:
        device_connect_on(device);
        break;
    case DEVICE_PROBING:
        frontend_timeout(&device->fe);
        device_probe_on(device);
        break;
    case DEVICE_READY:
        /* a vCPU that holds the lock has a deadline of its own */
        if (!device->has_transport || !transport_trylock(&device->transport))
            break;
        if (!frontend_events(&device->fe)) {
            ev_timer_stop(loop, watcher);
        } else if (device->fe.taken != device->taken && !device->settling) {
            device_arm(device); /* what is due now was asked for since */
        } else {
            ev_timer_stop(loop, watcher);
            frontend_timeout(&device->fe);
        }
        transport_unlock(&device->transport);
        break;
    case DEVICE_PAUSING:
        if (device_connect(device, &err) < 0)
            device_give_up(device, &err);
        break;
    case DEVICE_RESTORING:
        frontend_timeout(&device->fe);
        device_restore_on(device);
        break;
    case DEVICE_NEW:
    case DEVICE_LOST:
        break;
    }
}

static void on_hang_up(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;

    (void)revents;
    ev_io_stop(loop, watcher);
    if (device->state == DEVICE_RESTORING) {
        frontend_lose(&device->fe, -EPIPE, "the back-end hung up");
        device_restore_on(device);
    } else if (device->has_transport) {
        atomic_store(&device->hung_up, true);
        transport_work(&device->transport);
    } else {
        struct husk_err err;

        fail(&err, -EPIPE, "%s: the back-end hung up before the guest started",
             device->spec.name);
        device_give_up(device, &err);
    }
}

static int ring_failed(void *ctx)
{
    struct device *device = ctx;

    if (device->ring_errors++ < RING_ERRORS)
        device_say(device, HUSK_LOG_WARNING,
                   "the back-end signals an error on a "
                   "ring: the guest must reset the device");
    atomic_store(&device->ring_error, true);
    if (device->has_transport)
        transport_work(&device->transport);
    return 0;
}

static void on_err(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;

    (void)loop;
    (void)revents;
    if (doorbell_take(device->err_fd))
        ring_failed(device);
}

static void on_requests(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;
    struct husk_err err;
    int rc = channel_step(&device->channel, &err);

    (void)revents;
    if (rc == 0)
        return;
    ev_io_stop(loop, watcher);
    channel_fini(&device->channel); /* whoever waits for an answer learns it */
    if (rc != -EPIPE)
        device_say(device, HUSK_LOG_WARNING, err.text);
}

/* The back-end says so, on the loop. */
static int config_changed(void *ctx)
{
    struct device *device = ctx;

    if (device->has_transport) {
        /* one that is away is asked when it is back */
        atomic_store(&device->config_changed, true);
        transport_work(&device->transport);
    } else if (device->state == DEVICE_READY &&
               frontend_config_refresh(&device->fe) == 0) {
        device_watch(device, frontend_events(&device->fe));
    }
    return 0;
}

static int inband_call(void *ctx)
{
    struct device *device = ctx;

    if (device->call_fd >= 0)
        helper_ring(device->helper, device->call_fd);
    return 0;
}

/*
 * A file that was cut short: an access behind its end fails KVM_RUN, but not
 * where KVM means to fetch the page while the guest waits for it; then the
 * guest tries for ever.
 */
static void on_shm_timer(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct device *device = watcher->data;

    (void)revents;
    if (device_faulted(device) || !shm_mappings(&device->shm))
        ev_timer_stop(loop, watcher);
}

static int map_shm(void *ctx, const struct vu_map *map, int fd)
{
    struct device *device = ctx;
    int rc = shm_map(&device->shm, map, fd);

    if (rc == 0 && !ev_is_active(&device->shm_timer)) {
        device->shm_timer.repeat = SHM_PAUSE;
        ev_timer_again(device->loop, &device->shm_timer);
    }
    return rc;
}

static int unmap_shm(void *ctx, const struct vu_map *map)
{
    struct device *device = ctx;

    return shm_unmap(&device->shm, map);
}

const struct channel_ops device_channel_ops = {
    .config_changed = config_changed,
    .call = inband_call,
    .ring_error = ring_failed,
    .map = map_shm,
    .unmap = unmap_shm,
};

void device_config_arrived(void *ctx)
{
    struct device *device = ctx;

    if (!device->has_transport || device->away)
        return; /* the transport will begin, or go on, with it */
    transport_config(&device->transport, device->fe.config, device->notify);
    device->notify = device->notify && device->fe.config_again;
}

/* Under the device's lock, on any thread, before it is let go. */
void device_leave(void *ctx)
{
    struct device *device = ctx;
    struct frontend *fe = &device->fe;

    if (device->away)
        return; /* the connection is the loop's alone */
    if (atomic_exchange(&device->wake_again, false))
        device->events.wake(device->events.ctx);
    if (atomic_exchange(&device->hung_up, false))
        frontend_lose(fe, -EPIPE, "the back-end hung up");
    if (atomic_exchange(&device->faulted, false))
        frontend_lose(fe, -EFAULT,
                      "a file that the guest has as shared memory "
                      "was cut short");
    if (atomic_exchange(&device->ring_error, false) ||
        fe->device_status & VIRTIO_STATUS_NEEDS_RESET)
        transport_needs_reset(&device->transport, false);
    if (atomic_exchange(&device->config_changed, false) && !fe->lost &&
        fe->acked & VU_PF_CONFIG && fe->is->config_size) {
        device->notify = true;
        if (frontend_config_refresh(fe) == 0)
            frontend_pump(fe);
    }
    if (device->transport.kicks_refused && !device->slow_kicks)
        device->events.wake(device->events.ctx);
    if (fe->lost && !device->told) {
        device->told = true;
        if (!device_may_return(device))
            transport_needs_reset(&device->transport, true);
        device->events.wake(device->events.ctx);
    } else if (!fe->lost && frontend_events(fe) &&
               !atomic_load(&device->watching)) {
        device->events.wake(device->events.ctx);
    }
}

static void settle(struct device *device)
{
    if (device->settling) {
        device->settling = false;
        device->events.settled(device->events.ctx, device);
    }
}

void device_lose(struct device *device, const char *line)
{
    device_stop_watchers(device);
    device->state = DEVICE_LOST;
    wire_fini(&device->fe.wire);
    sys_close(&device->hang_up_fd);
    channel_fini(&device->channel);
    device->events.log(device->events.ctx, HUSK_LOG_WARNING, line);
    device->events.lost(device->events.ctx, device);
    settle(device);
}

void device_wake(struct device *device)
{
    struct frontend *fe = &device->fe;
    bool lost, idle;

    if (!device->has_transport || device->state != DEVICE_READY)
        return;
    if (!transport_trylock(&device->transport)) {
        /* perhaps it is still held by who has just woken us */
        atomic_store(&device->wake_again, true);
        transport_work(&device->transport);
        return;
    }
    if (device->transport.kicks_refused && !device->slow_kicks) {
        device->slow_kicks = true;
        device_say(device, HUSK_LOG_INFO,
                   "KVM has no room for more kick "
                   "descriptors: some kicks leave KVM_RUN");
    }
    lost = fe->lost;
    idle = !lost && !frontend_events(fe);
    if (lost && device_may_return(device)) {
        device_away(device);
        lost = false;
        idle = true;
    } else if (!lost && !idle) {
        bool watched = atomic_exchange(&device->watching, true);

        device_watch(device, frontend_events(fe));
        if (!watched) /* else the deadline has begun */
            device_arm(device);
    }
    transport_unlock(&device->transport);
    if (idle)
        settle(device);
    if (lost)
        device_lose(device, fe->err.text);
}

void device_reboot(struct device *device)
{
    device->settling = true;
    if (device->state == DEVICE_READY) { /* all of it shares one deadline */
        ev_timer_stop(device->loop, &device->timer);
        atomic_store(&device->watching, false);
    }
    /* no vCPU is left that could hold it */
    transport_lock(&device->transport);
    transport_reboot(&device->transport);
    if (!device->away && device->state == DEVICE_READY)
        frontend_pump(&device->fe);
    transport_unlock(&device->transport);
    if (device->state != DEVICE_READY) {
        settle(device);
        return;
    }
    device_wake(device);
}

int device_init(struct device *device, struct ev_loop *loop, const char *spec,
                unsigned index, const struct mem *mem, int stop_fd,
                const struct device_events *events, struct husk_err *err)
{
    device->loop = loop;
    device->events = *events;
    device->hang_up_fd = device->err_fd = device->call_fd = -1;
    device->fe.wire.fd = device->fe.inflight_fd = -1;
    device->channel = (struct channel){ .wire = { .fd = -1 }, .far = -1 };
    child_init(&device->child);
    ev_init(&device->socket, on_socket);
    ev_init(&device->hang_up, on_hang_up);
    ev_init(&device->err, on_err);
    ev_init(&device->requests, on_requests);
    ev_init(&device->control, device_on_control);
    ev_init(&device->output, device_on_output);
    ev_init(&device->timer, on_timer);
    ev_init(&device->shm_timer, on_shm_timer);
    device->socket.data = device->hang_up.data = device->err.data =
        device->requests.data = device->control.data = device->output.data =
            device->timer.data = device->shm_timer.data = device;
    device->fe.mem = mem;
    device->fe.stop_fd = stop_fd;
    if (helper_new(&device->helper) < 0)
        return fail(err, -ENOMEM, "out of memory");
    device->fe.helper = device->helper;
    return spec_parse(&device->spec, spec, index, err);
}

void device_fini(struct device *device, uint64_t deadline)
{
    device_stop_watchers(device);
    if (device->has_transport)
        transport_fini(&device->transport);
    device->has_transport = false;
    shm_fini(&device->shm);
    frontend_fini(&device->fe);
    channel_fini(&device->channel);
    device_stop_child(device);
    child_end(&device->child, deadline);
    sys_close(&device->hang_up_fd);
    sys_close(&device->err_fd);
    if (device->call_fd >= 0)
        helper_retire(device->helper, device->call_fd);
    helper_free(device->helper);
    device->helper = NULL;
    device->call_fd = -1;
    free(device->config);
    device->config = NULL;
    device_drop_unsaid(device);
    spec_fini(&device->spec);
}

int device_start(struct device *device, struct husk_err *err)
{
    device->fe.name = device->spec.name;
    device->fe.deadline = device->spec.deadline;
    device->probe.given = device->spec.given;
    device->err_fd = sys_eventfd();
    if (device->err_fd < 0)
        return fail(err, device->err_fd, "eventfd: %s",
                    strerror(-device->err_fd));
    device->fe.err_fd = device->err_fd;
    return device_connect(device, err);
}
