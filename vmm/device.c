/*
 * Devices on the loop. Before the guest runs the loop owns the connection;
 * after that it takes a device's lock only if nobody holds it, sends, and never
 * waits: whoever holds the lock sees to the rest when letting go of it.
 */
#include "vmm/device.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/deadline.h"
#include "devices/virtio.h"
#include "vmm/fail.h"
#include "vmm/sys.h"

#define FIRST_PAUSE 0.001 /* seconds between tries to connect, doubled */
#define LAST_PAUSE  0.05
#define LAST_WORDS  200 /* ms that a back-end which hung up has to end */
#define RING_ERRORS 3   /* lines about them */

static void say(struct device *device, enum husk_log level, const char *text)
{
    char line[320];

    snprintf(line, sizeof line, "%s: %s", device->spec.name, text);
    device->events.log(device->events.ctx, level, line);
}

/* The back-end's own words, a line at a time. */
static void read_output(struct device *device)
{
    char bytes[512];
    ssize_t n;

    while ((n = read(device->child.output, bytes, sizeof bytes)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] != '\n' && device->line_size < sizeof device->line - 1) {
                device->line[device->line_size++] = bytes[i];
                continue;
            }
            device->line[device->line_size] = 0;
            say(device, HUSK_LOG_WARNING, device->line);
            device->line_size = 0;
            if (bytes[i] != '\n')
                device->line[device->line_size++] = bytes[i];
        }
    }
    if (n == 0)
        ev_io_stop(device->loop, &device->output);
}

static void on_output(struct ev_loop *loop, ev_io *watcher, int revents)
{
    (void)loop;
    (void)revents;
    read_output(watcher->data);
}

static void describe_end(char *text, size_t size, enum child_news news,
                         int value, const char *command)
{
    if (news == CHILD_NOT_STARTED)
        snprintf(text, size, "starting %s: %s", command, strerror(value));
    else if (WIFSIGNALED(value))
        snprintf(text, size, "%s was ended by signal %d (%s)", command,
                 WTERMSIG(value), strsignal(WTERMSIG(value)));
    else
        snprintf(text, size, "%s ended with status %d", command,
                 WEXITSTATUS(value));
}

static void on_control(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;
    enum child_news news;
    char text[200];
    int value;

    (void)revents;
    while ((news = child_news(&device->child, &value)) != CHILD_NOTHING) {
        if (news == CHILD_GONE) {
            ev_io_stop(loop, watcher);
            return;
        }
        describe_end(text, sizeof text, news, value, device->spec.argv[0]);
        say(device, HUSK_LOG_INFO, text);
    }
}

/* A started back-end that hung up: what became of it says more. */
static bool last_words(struct device *device, struct husk_err *err)
{
    const struct child *child = &device->child;
    struct pollfd polled = { .fd = child->control, .events = POLLIN };
    char text[200];
    int value;

    if (child->control < 0)
        return false;
    if (child->fate == CHILD_NOTHING && poll(&polled, 1, LAST_WORDS) > 0)
        child_news(&device->child, &value);
    if (child->fate == CHILD_NOTHING)
        return false;
    read_output(device);
    describe_end(text, sizeof text, child->fate, child->fate_value,
                 device->spec.argv[0]);
    fail(err, -ECONNREFUSED, "%s: %s%s", device->spec.name, text,
         child->fate == CHILD_ENDED ? " before it said what it is" : "");
    return true;
}

static void stop_watchers(struct device *device)
{
    ev_io_stop(device->loop, &device->socket);
    ev_io_stop(device->loop, &device->hang_up);
    ev_io_stop(device->loop, &device->err);
    ev_io_stop(device->loop, &device->requests);
    ev_timer_stop(device->loop, &device->timer);
    atomic_store(&device->watching, false);
}

/* Before it was ready: the end of the attempt. */
static void give_up(struct device *device, const struct husk_err *err)
{
    struct husk_err more = *err;

    device->state = DEVICE_LOST;
    stop_watchers(device);
    if (err->code == -EPIPE || err->code == -ECONNRESET)
        last_words(device, &more);
    device->events.failed(device->events.ctx, &more);
}

static void watch(struct device *device, short events)
{
    int mask = (events & POLLIN ? EV_READ : 0) |
               (events & POLLOUT ? EV_WRITE : 0);

    if (ev_is_active(&device->socket) && device->socket.events == mask)
        return;
    ev_io_stop(device->loop, &device->socket);
    ev_io_set(&device->socket, device->fe.wire.fd, mask);
    if (mask)
        ev_io_start(device->loop, &device->socket);
}

/* (Re)start the deadline of what is due. */
static void arm(struct device *device)
{
    device->timer.repeat = device->spec.deadline;
    ev_now_update(device->loop);
    ev_timer_again(device->loop, &device->timer);
}

static int connect_or_start(struct device *device, struct husk_err *err);
static void config_arrived(void *ctx);
static const struct channel_ops channel_ops;

static int watch_hang_up(struct device *device)
{
    struct epoll_event event = { .events = EPOLLRDHUP };

    device->hang_up_fd = epoll_create1(EPOLL_CLOEXEC);
    if (device->hang_up_fd < 0 ||
        epoll_ctl(device->hang_up_fd, EPOLL_CTL_ADD, device->fe.wire.fd,
                  &event) < 0)
        return -errno;
    ev_io_set(&device->hang_up, device->hang_up_fd, EV_READ);
    ev_io_start(device->loop, &device->hang_up);
    return 0;
}

static void become_ready(struct device *device)
{
    struct husk_err err, inner;
    int rc;

    watch(device, 0);
    ev_timer_stop(device->loop, &device->timer);
    if (device->probe.note[0])
        device->events.log(device->events.ctx, HUSK_LOG_WARNING,
                           device->probe.note);
    device->fe.ctx = device;
    device->fe.config_arrived = config_arrived;
    rc = shm_init(&device->shm, &device->probe.shm, &inner);
    if (rc < 0) {
        fail(&err, rc, "%s: %s", device->spec.name, inner.text);
        give_up(device, &err);
        return;
    }
    rc = watch_hang_up(device);
    if (rc < 0) {
        fail(&err, rc, "%s: epoll: %s", device->spec.name, strerror(-rc));
        give_up(device, &err);
        return;
    }
    if (device->fe.acked & VU_PF_BACKEND_REQ) {
        sys_close(&device->channel.far); /* the back-end has it now */
        device->channel.acked = device->fe.acked;
        ev_io_set(&device->requests, device->channel.wire.fd, EV_READ);
        ev_io_start(device->loop, &device->requests);
    }
    device->state = DEVICE_READY;
    device->events.ready(device->events.ctx, device);
}

static void probe_on(struct device *device)
{
    unsigned waits = device->fe.waits;
    struct husk_err err;
    int rc = probe_step(&device->probe);

    if (rc == -EAGAIN) {
        watch(device, frontend_events(&device->fe));
        if (device->fe.waits != waits)
            arm(device);
    } else if (rc == 0) {
        become_ready(device);
    } else if (probe_again(&device->probe)) {
        say(device, HUSK_LOG_INFO, "no answer to the probe: connecting again "
            "without one");
        rc = connect_or_start(device, &err);
        if (rc < 0)
            give_up(device, &err);
    } else {
        err = device->fe.err;
        give_up(device, &err);
    }
}

static int begin_probe(struct device *device, int fd, struct husk_err *err)
{
    int rc;

    frontend_init(&device->fe, fd);
    channel_fini(&device->channel);
    rc = channel_init(&device->channel, &channel_ops, device);
    if (rc < 0)
        return fail(err, rc, "%s: socketpair: %s", device->spec.name,
                    strerror(-rc));
    device->probe.backend_req_fd = device->channel.far;
    device->state = DEVICE_PROBING;
    probe_start(&device->probe, &device->fe);
    arm(device);
    probe_on(device);
    return 0;
}

/* One try. -EAGAIN: there will be another. */
static int try_connect(struct device *device, struct husk_err *err)
{
    const char *path = device->spec.socket ? device->spec.socket :
                                             device->child.path;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    double limit = device->spec.argv ? device->spec.deadline :
                                       device->spec.wait;
    int fd, code;

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(err, -errno, "%s: socket: %s", device->spec.name,
                    strerror(errno));
    memcpy(address.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return begin_probe(device, fd, err);
    code = errno;
    close(fd);
    if (code == EAGAIN && limit < device->spec.deadline)
        limit = device->spec.deadline; /* it listens, but is busy */
    if ((code == ENOENT || code == ECONNREFUSED || code == EAGAIN) &&
        ev_time() - device->started < limit)
        return -EAGAIN;
    return fail(err, -code, "%s: connecting to %s: %s%s", device->spec.name,
                path, strerror(code),
                code == ENOENT || code == ECONNREFUSED ?
                    ": is the back-end running? (wait=SECONDS lets it come "
                    "late)" : "");
}

static void connect_on(struct device *device)
{
    struct husk_err err;
    int rc = try_connect(device, &err);

    if (rc == -EAGAIN) {
        ev_timer_stop(device->loop, &device->timer);
        ev_timer_set(&device->timer, device->pause, 0);
        ev_timer_start(device->loop, &device->timer);
        device->pause *= 2;
        if (device->pause > LAST_PAUSE)
            device->pause = LAST_PAUSE;
    } else if (rc < 0) {
        give_up(device, &err);
    }
}

static void watch_child(struct device *device)
{
    ev_io_set(&device->control, device->child.control, EV_READ);
    ev_io_start(device->loop, &device->control);
    ev_io_set(&device->output, device->child.output, EV_READ);
    ev_io_start(device->loop, &device->output);
}

static void end_child(struct device *device, uint64_t deadline)
{
    ev_io_stop(device->loop, &device->control);
    ev_io_stop(device->loop, &device->output);
    child_end(&device->child, deadline);
}

/* From scratch: what there was of a connection is dropped. */
static int connect_or_start(struct device *device, struct husk_err *err)
{
    int rc, fd;

    stop_watchers(device);
    wire_fini(&device->fe.wire);
    device->state = DEVICE_CONNECTING;
    device->started = ev_time();
    device->pause = FIRST_PAUSE;
    if (device->spec.argv) {
        end_child(device, 0);
        rc = child_start(&device->child, &device->spec, err);
        if (rc < 0) {
            struct husk_err inner = *err;

            return fail(err, rc, "%s: %s", device->spec.name, inner.text);
        }
        watch_child(device);
        fd = child_take(&device->child);
        if (fd >= 0)
            return begin_probe(device, fd, err);
    }
    rc = try_connect(device, err);
    if (rc == -EAGAIN) {
        ev_timer_set(&device->timer, device->pause, 0);
        ev_timer_start(device->loop, &device->timer);
        rc = 0;
    }
    return rc;
}

/* Loop: take answers that are due, if nobody else is at it. */
static void take_answers(struct device *device)
{
    if (!transport_trylock(&device->transport)) {
        watch(device, 0);
        atomic_store(&device->watching, false);
        transport_work(&device->transport); /* see to it when you let go */
        return;
    }
    frontend_pump(&device->fe);
    if (!device->fe.lost && frontend_events(&device->fe)) {
        watch(device, frontend_events(&device->fe));
    } else {
        watch(device, 0);
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
        probe_on(device);
    else if (device->has_transport)
        take_answers(device);
    else if (frontend_pump(&device->fe) != -EAGAIN)
        watch(device, 0);
}

static void on_timer(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct device *device = watcher->data;

    (void)revents;
    switch (device->state) {
    case DEVICE_CONNECTING:
        connect_on(device);
        break;
    case DEVICE_PROBING:
        frontend_timeout(&device->fe);
        probe_on(device);
        break;
    case DEVICE_READY:
        /* a vCPU that holds the lock has a deadline of its own */
        if (!device->has_transport ||
            !transport_trylock(&device->transport))
            break;
        ev_timer_stop(loop, watcher);
        if (frontend_events(&device->fe))
            frontend_timeout(&device->fe);
        transport_unlock(&device->transport);
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
    if (device->has_transport) {
        atomic_store(&device->hung_up, true);
        transport_work(&device->transport);
    } else {
        struct husk_err err;

        fail(&err, -EPIPE, "%s: the back-end hung up before the guest started",
             device->spec.name);
        give_up(device, &err);
    }
}

static int ring_failed(void *ctx)
{
    struct device *device = ctx;

    if (device->ring_errors++ < RING_ERRORS)
        say(device, HUSK_LOG_WARNING, "the back-end signals an error on a "
            "ring: the guest must reset the device");
    atomic_store(&device->ring_error, true);
    if (device->has_transport)
        transport_work(&device->transport);
    return 0;
}

static void on_err(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;
    uint64_t count;

    (void)loop;
    (void)revents;
    if (read(device->err_fd, &count, sizeof count) < 0)
        return;
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
    if (rc != -EPIPE)
        say(device, HUSK_LOG_WARNING, err.text);
}

/* The back-end says so, on the loop. */
static int config_changed(void *ctx)
{
    struct device *device = ctx;

    if (device->has_transport) {
        atomic_store(&device->config_changed, true);
        transport_work(&device->transport);
    } else if (device->state == DEVICE_READY &&
               frontend_config_refresh(&device->fe) == 0) {
        watch(device, frontend_events(&device->fe));
    }
    return 0;
}

static int inband_call(void *ctx)
{
    struct device *device = ctx;
    uint64_t one = 1;

    if (device->call_fd >= 0 && write(device->call_fd, &one, sizeof one) < 0)
        return -errno;
    return 0;
}

static int map_shm(void *ctx, const struct vu_map *map, int fd)
{
    struct device *device = ctx;

    return shm_map(&device->shm, map, fd);
}

static int unmap_shm(void *ctx, const struct vu_map *map)
{
    struct device *device = ctx;

    return shm_unmap(&device->shm, map);
}

static const struct channel_ops channel_ops = {
    .config_changed = config_changed,
    .call = inband_call,
    .ring_error = ring_failed,
    .map = map_shm,
    .unmap = unmap_shm,
};

static void config_arrived(void *ctx)
{
    struct device *device = ctx;

    if (!device->has_transport)
        return; /* the transport will begin with it */
    transport_config(&device->transport, device->fe.config, device->notify);
    device->notify = false;
}

/* Under the device's lock, on any thread, before it is let go. */
static void leave(void *ctx)
{
    struct device *device = ctx;
    struct frontend *fe = &device->fe;

    if (atomic_exchange(&device->hung_up, false))
        frontend_lose(fe, -EPIPE, "the back-end hung up");
    if (atomic_exchange(&device->faulted, false))
        frontend_lose(fe, -EFAULT, "the guest read shared memory behind which "
                      "the back-end cut its file short");
    if (atomic_exchange(&device->ring_error, false) ||
        fe->device_status & VIRTIO_STATUS_NEEDS_RESET)
        transport_needs_reset(&device->transport, false);
    if (atomic_exchange(&device->config_changed, false) && !fe->lost &&
        fe->acked & VU_PF_CONFIG && fe->config_size) {
        device->notify = true;
        if (frontend_config_refresh(fe) == 0)
            frontend_pump(fe);
    }
    if (fe->lost && !device->told) {
        device->told = true;
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

void device_wake(struct device *device)
{
    struct frontend *fe = &device->fe;
    bool lost, idle;

    if (!device->has_transport || device->state != DEVICE_READY ||
        !transport_trylock(&device->transport))
        return; /* whoever holds it wakes us again */
    lost = fe->lost;
    idle = !lost && !frontend_events(fe);
    if (lost) {
        stop_watchers(device);
        device->state = DEVICE_LOST;
        wire_fini(&fe->wire);
    } else if (frontend_events(fe)) {
        atomic_store(&device->watching, true);
        watch(device, frontend_events(fe));
        arm(device);
    }
    transport_unlock(&device->transport);
    if (idle)
        settle(device);
    if (!lost)
        return;
    sys_close(&device->hang_up_fd);
    channel_fini(&device->channel);
    device->events.log(device->events.ctx, HUSK_LOG_WARNING, fe->err.text);
    device->events.lost(device->events.ctx, device);
    settle(device);
}

void device_reboot(struct device *device)
{
    device->settling = true;
    if (device->state != DEVICE_READY) {
        settle(device);
        return;
    }
    /* no vCPU is left that could hold it */
    if (transport_trylock(&device->transport)) {
        transport_reboot(&device->transport);
        frontend_pump(&device->fe);
        transport_unlock(&device->transport);
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
    device->fe.wire.fd = -1;
    device->channel = (struct channel){ .wire = { .fd = -1 }, .far = -1 };
    child_init(&device->child);
    ev_init(&device->socket, on_socket);
    ev_init(&device->hang_up, on_hang_up);
    ev_init(&device->err, on_err);
    ev_init(&device->requests, on_requests);
    ev_init(&device->control, on_control);
    ev_init(&device->output, on_output);
    ev_init(&device->timer, on_timer);
    device->socket.data = device->hang_up.data = device->err.data =
        device->requests.data = device->control.data = device->output.data =
            device->timer.data = device;
    device->fe.mem = mem;
    device->fe.stop_fd = stop_fd;
    return spec_parse(&device->spec, spec, index, err);
}

void device_fini(struct device *device)
{
    stop_watchers(device);
    if (device->has_transport)
        transport_fini(&device->transport);
    device->has_transport = false;
    shm_fini(&device->shm);
    frontend_fini(&device->fe);
    channel_fini(&device->channel);
    end_child(device, deadline_now() + 1000000000u);
    sys_close(&device->hang_up_fd);
    sys_close(&device->err_fd);
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
    return connect_or_start(device, err);
}

size_t device_window_size(const struct device *device)
{
    return transport_window_size(device->probe.config_size);
}

static int op_status(void *ctx, uint8_t status, uint64_t deadline)
{
    struct device *device = ctx;

    return frontend_status(&device->fe, status, deadline);
}

static int op_features(void *ctx, uint64_t features, uint8_t status,
                       bool *accepted, uint64_t deadline)
{
    struct device *device = ctx;

    return frontend_features(&device->fe, features, status, accepted, deadline);
}

static int op_start(void *ctx, struct vring *rings, unsigned n, uint8_t status,
                    uint64_t deadline)
{
    struct device *device = ctx;

    return frontend_start(&device->fe, rings, n, status, deadline);
}

static int op_ring_start(void *ctx, struct vring *rings, unsigned index,
                         uint64_t deadline)
{
    struct device *device = ctx;

    return frontend_ring_start(&device->fe, rings, index, deadline);
}

static int op_ring_stop(void *ctx, struct vring *rings, unsigned index,
                        uint64_t deadline)
{
    struct device *device = ctx;

    return frontend_ring_stop(&device->fe, rings, index, deadline);
}

static int op_reset(void *ctx, struct vring *rings, unsigned n,
                    uint64_t deadline)
{
    struct device *device = ctx;

    int rc = frontend_reset(&device->fe, rings, n, deadline);

    shm_clear(&device->shm);
    return rc;
}

static int op_kick(void *ctx, uint32_t index, uint64_t deadline)
{
    struct device *device = ctx;
    int rc = frontend_kick(&device->fe, index);

    return rc < 0 ? rc : frontend_wait(&device->fe, deadline);
}

static int op_config_write(void *ctx, uint32_t offset, const void *data,
                           uint32_t size, uint64_t deadline)
{
    struct device *device = ctx;

    return frontend_config_write(&device->fe, offset, data, size, deadline);
}

static int op_send_reset(void *ctx, struct vring *rings, unsigned n)
{
    struct device *device = ctx;

    shm_clear(&device->shm);
    return frontend_send_reset(&device->fe, rings, n);
}

static const struct transport_ops transport_ops = {
    .status = op_status,
    .features = op_features,
    .start = op_start,
    .ring_start = op_ring_start,
    .ring_stop = op_ring_stop,
    .reset = op_reset,
    .send_reset = op_send_reset,
    .config_write = op_config_write,
    .kick = op_kick,
    .leave = leave,
};

int device_place(struct device *device, const struct window *window,
                 const struct mem *mem, uint32_t gsi, int call_fd, int ack_fd,
                 struct husk_err *err)
{
    struct transport_identity identity = {
        .id = device->probe.id,
        .vqs = device->probe.vqs,
        .queue_size = device->spec.queue_size,
        .features = device->fe.features,
        .config_size = device->probe.config_size,
        .config = device->fe.config,
        .shm = device->shm.n ? &device->shm : NULL,
        .inband = device->fe.acked & VU_PF_INBAND_NOTIFICATIONS,
        .deadline = device->spec.deadline,
    };
    int rc = transport_init(&device->transport, window, mem, &identity, call_fd,
                            ack_fd, &transport_ops, device);

    if (rc < 0)
        return fail(err, rc, "%s: out of memory", device->spec.name);
    device->has_transport = true;
    device->base = window->base;
    device->gsi = gsi;
    device->call_fd = device->fe.call_fd = call_fd;
    ev_io_set(&device->err, device->err_fd, EV_READ);
    ev_io_start(device->loop, &device->err);
    return 0;
}

static void bus_read_op(void *ctx, uint64_t offset, void *data, unsigned size)
{
    transport_read(ctx, offset, data, size);
}

static void bus_write_op(void *ctx, uint64_t offset, const void *data,
                         unsigned size)
{
    transport_write(ctx, offset, data, size);
}

static const struct bus_ops registers = { bus_read_op, bus_write_op };

#define SHM_ALIGN (UINT64_C(1) << 21) /* so that large pages can be used */

void device_place_shm(struct device *device, gpa_t base, gpa_t *end)
{
    for (unsigned i = 0; i < device->shm.n; i++) {
        base = (base + SHM_ALIGN - 1) & ~(SHM_ALIGN - 1);
        device->shm.regions[i].base = base;
        base += device->shm.regions[i].size;
    }
    *end = base;
}

bool device_faulted(struct device *device)
{
    if (!device->has_transport || !shm_is_broken(&device->shm))
        return false;
    shm_clear(&device->shm); /* the guest goes on, over zeros */
    atomic_store(&device->faulted, true);
    transport_work(&device->transport);
    return true;
}

/*
 * An access to shared memory that left KVM_RUN: KVM could not read or write
 * what is mapped there.
 */
static void shm_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    (void)offset;
    memset(data, 0, size);
    device_faulted(ctx);
}

static void shm_write(void *ctx, uint64_t offset, const void *data,
                      unsigned size)
{
    (void)offset;
    (void)data;
    (void)size;
    device_faulted(ctx);
}

static const struct bus_ops shm_faults = { shm_read, shm_write };

static int attach_shm(struct device *device, struct machine *machine,
                      struct husk_err *err)
{
    int rc = 0;

    for (unsigned i = 0; i < device->shm.n && rc == 0; i++) {
        const struct shm_region *region = &device->shm.regions[i];

        rc = machine_add_slot(machine, region->base, region->size, region->map,
                              err);
        if (rc == 0 && (rc = bus_add(&machine->mmio, region->base, region->size,
                                     &shm_faults, device)) < 0)
            fail(err, rc, "%s: no place on the bus for shared memory: %s",
                 device->spec.name, strerror(-rc));
    }
    return rc;
}

int device_attach(struct device *device, struct machine *machine,
                  struct husk_err *err)
{
    int rc = bus_add(&machine->mmio, device->base,
                     device->transport.window.size, &registers,
                     &device->transport);

    if (rc < 0)
        return fail(err, rc, "%s: no place on the bus: %s", device->spec.name,
                    strerror(-rc));
    return attach_shm(device, machine, err);
}
