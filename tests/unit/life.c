/* A device, its back-end and no loop. See life.h. */
#include "tests/unit/life.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/deadline.h"
#include "devices/doorbell.h"
#include "devices/virtio.h"
#include "tests/unit/far.h"

#define MAX_STEPS 100000
#define SECOND    UINT64_C(1000000000)

static uint64_t now = 1000 * SECOND;

static uint64_t test_clock(void)
{
    return now;
}

void life_pass(double seconds)
{
    now += (uint64_t)(seconds * 1e9);
}

/* Every callback of the VM's, but for wake(). */
static void expect_unlocked(struct life *life)
{
    pthread_mutex_t *lock = &life->device.box.lock;

    cr_assert_eq(pthread_mutex_trylock(lock), 0,
                 "a callback under the device's lock");
    pthread_mutex_unlock(lock);
    cr_assert_not(life->silent, "a callback after device_silence()");
}

static void on_ready(void *ctx, struct device *device)
{
    struct life *life = ctx;

    cr_assert_eq(device, &life->device);
    expect_unlocked(life);
    life->n_ready++;
}

static void on_failed(void *ctx, const struct husk_err *err)
{
    struct life *life = ctx;

    expect_unlocked(life);
    life->err = *err;
    life->n_failed++;
}

static void on_lost(void *ctx, struct device *device)
{
    struct life *life = ctx;

    cr_assert_eq(device, &life->device);
    expect_unlocked(life);
    life->n_lost++;
}

static void on_settled(void *ctx, struct device *device)
{
    struct life *life = ctx;

    cr_assert_eq(device, &life->device);
    expect_unlocked(life);
    life->n_settled++;
}

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    struct life *life = ctx;

    (void)level;
    expect_unlocked(life);
    cr_assert_lt(life->n_lines, LIFE_LINES);
    snprintf(life->line[life->n_lines++], sizeof life->line[0], "%s", text);
}

static void on_wake(void *ctx)
{
    struct life *life = ctx;

    atomic_store(&life->woken, true);
}

void life_init(struct life *life, const char *pairs)
{
    static const struct mem_layout layout = { .n = 1,
                                              .range = { { 0, 64 << 10 } } };
    struct device_events events = { on_ready, on_failed, on_lost, on_settled,
                                    on_log,   on_wake,   life };
    char spec[400];

    memset(life, 0, sizeof *life);
    life->opened = far_open_fds();
    life->listener = -1;
    life->loop = ev_loop_new(EVFLAG_NOENV);
    cr_assert_not_null(life->loop);
    folder_init(&life->folder);
    model_prepare(&life->model);
    life->model.protocol |= VU_PF_BACKEND_REQ | VU_PF_BACKEND_SEND_FD |
                            VU_PF_INFLIGHT_SHMFD | VU_PF_INBAND_NOTIFICATIONS;
    life->model.features |= VIRTIO_F_RING_RESET;
    cr_assert_eq(mem_init(&life->mem, 64 << 10, &layout, &life->err), 0, "%s",
                 life->err.text);
    life->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    life->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (strstr(pairs, "exec="))
        snprintf(spec, sizeof spec, "%s", pairs);
    else
        snprintf(spec, sizeof spec, "%s%ssocket=%s", pairs, *pairs ? "," : "",
                 life->folder.file[0]);
    cr_assert_eq(device_init(&life->device, life->loop, spec, 7, &life->mem,
                             life->stop_fd, &events, &life->err),
                 0, "%s", life->err.text);
    life->device.link.clock = life->device.link.relay.clock = test_clock;
}

void life_fini(struct life *life)
{
    model_stop(&life->model);
    device_fini(&life->device, deadline_now());
    ev_loop_destroy(life->loop);
    windows_fini(&life->all);
    mem_fini(&life->mem);
    life_deafen(life);
    model_fini(&life->model);
    close(life->call_fd);
    close(life->stop_fd);
    folder_fini(&life->folder);
    /* the helper closes some of them by and by */
    for (unsigned n = 0; n < 10000 && far_open_fds() != life->opened; n++)
        usleep(1000);
    cr_assert_eq(far_open_fds(), life->opened, "%d descriptors left",
                 (int)(far_open_fds() - life->opened));
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a process is left");
}

void life_listen(struct life *life)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = life->device.link.child.path;

    if (!*path)
        path = life->folder.file[0];
    strcpy(address.sun_path, path);
    unlink(path);
    life->listener =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_geq(life->listener, 0);
    cr_assert_eq(
        bind(life->listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(life->listener, 0), 0);
}

void life_deafen(struct life *life)
{
    if (life->listener >= 0)
        close(life->listener);
    life->listener = -1;
}

static bool step_watcher(struct life *life, ev_io *watcher)
{
    struct pollfd polled = { .fd = watcher->fd };
    int events = 0;

    if (!ev_is_active(watcher))
        return false;
    polled.events = (short)((watcher->events & EV_READ ? POLLIN : 0) |
                            (watcher->events & EV_WRITE ? POLLOUT : 0));
    cr_assert_geq(poll(&polled, 1, 0), 0);
    cr_assert_not(polled.revents & POLLNVAL, "a closed descriptor is watched");
    if (polled.revents & (POLLIN | POLLHUP | POLLERR))
        events |= watcher->events & EV_READ;
    if (polled.revents & (POLLOUT | POLLHUP | POLLERR))
        events |= watcher->events & EV_WRITE;
    if (events)
        ev_invoke(life->loop, watcher, events);
    return events;
}

static bool step(struct life *life)
{
    struct device *device = &life->device;
    ev_io *watchers[] = {
        &device->link.socket,         &device->link.hang_up,
        &device->link.control,        &device->link.relay.watcher,
        &device->requests.on_channel, &device->requests.on_err,
    };
    const unsigned n = sizeof watchers / sizeof watchers[0];
    bool more = false;

    if (atomic_exchange(&life->woken, false)) {
        device_wake(device);
        more = true;
    }
    if (!life->model.threaded) {
        if (life->listener >= 0)
            more |= model_accept(&life->model, life->listener);
        more |= model_serve(&life->model) > 0;
    }
    for (unsigned i = 0; i < n; i++)
        more |= step_watcher(life, watchers[life->backwards ? n - 1 - i : i]);
    return more;
}

void life_run(struct life *life)
{
    unsigned n = 0;

    while (step(life))
        cr_assert_lt(n++, MAX_STEPS, "it does not end");
}

bool life_wait(struct life *life, int milliseconds)
{
    struct device *device = &life->device;
    const ev_io *watchers[] = { &device->link.socket, &device->link.hang_up,
                                &device->link.control,
                                &device->link.relay.watcher };
    struct pollfd polled[sizeof watchers / sizeof watchers[0]];
    nfds_t n = 0;

    for (unsigned i = 0; i < sizeof watchers / sizeof watchers[0]; i++)
        if (ev_is_active(watchers[i]))
            polled[n++] = (struct pollfd){
                .fd = watchers[i]->fd,
                .events = watchers[i]->events & EV_READ ? POLLIN : POLLOUT
            };
    if (poll(polled, n, milliseconds) < 1)
        return false;
    life_run(life);
    return true;
}

double life_tick(struct life *life)
{
    ev_timer *timer = &life->device.link.timer;
    double seconds = timer->repeat;

    cr_assert(ev_is_active(timer), "no timer runs in state %d",
              (int)life->device.state);
    if (seconds <= 0) { /* once */
        seconds = ev_timer_remaining(life->loop, timer);
        ev_timer_stop(life->loop, timer);
    }
    life_pass(seconds);
    ev_invoke(life->loop, timer, EV_TIMER);
    life_run(life);
    return seconds;
}

int life_start(struct life *life)
{
    int rc = device_start(&life->device, &life->err);

    life_run(life);
    return rc;
}

void life_limit(unsigned n)
{
    static struct rlimit before;
    struct rlimit limit;

    if (!before.rlim_cur)
        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    if (n != LIFE_ALL) {
        limit.rlim_cur = 0;
        for (n++; n > 0; limit.rlim_cur++)
            n -= fcntl((int)limit.rlim_cur, F_GETFD) < 0;
        limit.rlim_cur--;
    }
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

void life_expect(const struct life *life, enum device_state state)
{
    cr_assert_eq(life->device.state, state, "state %d, not %d: %s; %s",
                 (int)life->device.state, (int)state, life->device.fe.err.text,
                 life->n_lines ? life->line[life->n_lines - 1] : "no lines");
}

void life_know(struct life *life)
{
    life_listen(life);
    cr_assert_eq(life_start(life), 0, "%s", life->err.text);
    life_expect(life, DEVICE_KNOWN);
    cr_assert_eq(life->n_ready, 1);
}

void life_place(struct life *life)
{
    life_know(life);
    life_put(life);
}

void life_put(struct life *life)
{
    size_t size = device_window_size(&life->device);
    gpa_t end;

    cr_assert_eq(windows_init(&life->all, LIFE_BASE, size), 0);
    window_init(&life->window, &life->all, 0, size);
    device_place_shm(&life->device, UINT64_C(1) << 32, &end);
    cr_assert_eq(device_place(&life->device, &life->window, &life->mem, 5,
                              life->call_fd, -1, &life->err),
                 0, "%s", life->err.text);
    life_run(life);
    life_expect(life, DEVICE_SERVING);
}

void life_drive(struct life *life, uint64_t features)
{
    life_place(life);
    life_go(life, features);
    cr_assert_eq(life_read(life, VIRTIO_MMIO_STATUS), 0x0f);
}

void life_hang_up(struct life *life)
{
    model_hang_up(&life->model);
    life_run(life);
}

void life_come_back(struct life *life)
{
    life_expect(life, DEVICE_PAUSING);
    life_tick(life);
    life_expect(life, DEVICE_SERVING);
}

static void write_at(struct life *life, uint32_t offset, const void *data,
                     unsigned size)
{
    bool threaded = life->model.threaded;

    if (!threaded)
        model_start(&life->model);
    transport_write(&life->device.transport, offset, data, size);
    if (!threaded) {
        model_stop(&life->model);
        life_run(life);
    }
}

void life_write(struct life *life, uint32_t offset, uint32_t value)
{
    write_at(life, offset, &value, sizeof value);
}

void life_write_config(struct life *life, uint32_t offset, uint8_t value)
{
    write_at(life, VIRTIO_MMIO_CONFIG + offset, &value, sizeof value);
}

uint32_t life_read(const struct life *life, uint32_t offset)
{
    uint32_t value;

    memcpy(&value, life->device.transport.window.page + offset, sizeof value);
    return value;
}

void life_ready(struct life *life, uint32_t index, uint32_t num)
{
    life_write(life, VIRTIO_MMIO_QUEUE_SEL, index);
    life_write(life, VIRTIO_MMIO_QUEUE_NUM, num);
    life_write(life, VIRTIO_MMIO_QUEUE_DESC, 0x3000 * index);
    life_write(life, VIRTIO_MMIO_QUEUE_DRIVER, 0x3000 * index + 0x1000);
    life_write(life, VIRTIO_MMIO_QUEUE_DEVICE, 0x3000 * index + 0x2000);
    life_write(life, VIRTIO_MMIO_QUEUE_READY, 1);
    cr_assert_eq(life_read(life, VIRTIO_MMIO_QUEUE_READY), 1);
}

void life_go(struct life *life, uint64_t features)
{
    life_write(life, VIRTIO_MMIO_STATUS, 0x01);
    life_write(life, VIRTIO_MMIO_STATUS, 0x03);
    for (uint32_t k = 0; k < 2; k++) {
        life_write(life, VIRTIO_MMIO_DRIVER_FEAT_SEL, k);
        life_write(life, VIRTIO_MMIO_DRIVER_FEATURES,
                   (uint32_t)(features >> 32 * k));
    }
    life_write(life, VIRTIO_MMIO_STATUS, 0x0b);
    life_ready(life, 0, 8);
    life_write(life, VIRTIO_MMIO_STATUS, 0x0f);
}

bool life_rung(int fd)
{
    struct pollfd polled = { .fd = fd, .events = POLLIN };

    return poll(&polled, 1, 10000) == 1 && doorbell_take(fd);
}

unsigned life_said(const struct life *life, const char *text)
{
    unsigned n = 0;

    for (unsigned i = 0; i < life->n_lines; i++)
        n += strstr(life->line[i], text) != NULL;
    return n;
}

void life_expect_failed(const struct life *life, int code, const char *text)
{
    cr_assert_eq(life->err.code, code, "code %d, not %d: %s", life->err.code,
                 code, life->err.text);
    cr_assert_not_null(strstr(life->err.text, text), "'%s' is not in: %s", text,
                       life->err.text);
}
