/* What a back-end says unasked. See requests.h. */
#include "vmm/link/requests.h"

#include <errno.h>
#include <string.h>

#include "devices/doorbell.h"
#include "vmm/machine/sys.h"

#define RING_ERRORS 3   /* lines about them */
#define SHM_PAUSE   1.0 /* seconds between looks at what is mapped */
#define WINDOW      0.01
#define LIMIT       100 /* requests in a window */

static int config_changed(void *ctx)
{
    struct requests *requests = ctx;

    if (requests->config_reported) {
        requests->config_again = true;
        return 0;
    }
    requests->config_reported = true;
    requests->ops->config_changed(requests->ctx);
    return 0;
}

static int call(void *ctx)
{
    struct requests *requests = ctx;

    requests->ops->call(requests->ctx);
    return 0;
}

static int ring_error(void *ctx)
{
    struct requests *requests = ctx;

    if (requests->ring_errors++ < RING_ERRORS)
        lines_say(requests->lines, HUSK_LOG_WARNING,
                  "the back-end signals an error on a "
                  "ring: the guest must reset the device");
    requests->ops->ring_failed(requests->ctx);
    return 0;
}

static int map(void *ctx, const struct vu_map *map, int fd)
{
    struct requests *requests = ctx;
    int rc = shm_map(requests->shm, map, fd);

    if (rc == 0 && !ev_is_active(&requests->on_shm)) {
        requests->on_shm.repeat = SHM_PAUSE;
        ev_timer_again(requests->loop, &requests->on_shm);
    }
    return rc;
}

static int unmap(void *ctx, const struct vu_map *map)
{
    struct requests *requests = ctx;

    return shm_unmap(requests->shm, map);
}

static const struct channel_ops channel_ops = {
    .config_changed = config_changed,
    .call = call,
    .ring_error = ring_error,
    .map = map,
    .unmap = unmap,
};

static void begin_window(struct requests *requests)
{
    if (ev_is_active(&requests->on_window))
        return;
    requests->served = requests->channel.served;
    ev_timer_set(&requests->on_window, requests->window, 0);
    ev_timer_start(requests->loop, &requests->on_window);
}

static void on_window(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct requests *requests = watcher->data;
    bool again = requests->config_again;

    (void)revents;
    ev_timer_stop(loop, watcher);
    if (requests->channel_paused)
        ev_io_start(loop, &requests->on_channel);
    if (requests->err_paused)
        ev_io_start(loop, &requests->on_err);
    requests->channel_paused = requests->err_paused = false;
    requests->config_reported = requests->config_again = false;
    if (again) {
        begin_window(requests);
        config_changed(requests);
    }
}

static void on_channel(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct requests *requests = watcher->data;
    struct husk_err err;
    int rc;

    (void)revents;
    begin_window(requests);
    rc = channel_step(&requests->channel, &err);
    if (rc == 0) {
        requests->channel_paused =
            requests->channel.served - requests->served >= LIMIT;
        if (requests->channel_paused)
            ev_io_stop(loop, watcher);
        return;
    }
    ev_io_stop(loop, watcher);
    channel_fini(&requests->channel);
    if (rc != -EPIPE)
        lines_say(requests->lines, HUSK_LOG_WARNING, "%s", err.text);
}

static void on_err(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct requests *requests = watcher->data;

    (void)revents;
    begin_window(requests);
    requests->err_paused = true;
    ev_io_stop(loop, watcher);
    if (doorbell_take(requests->err_fd))
        ring_error(requests);
}

/*
 * A file that was cut short: an access behind its end fails KVM_RUN, but not
 * where KVM means to fetch the page while the guest waits for it; then the
 * guest tries for ever.
 */
static void on_shm(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct requests *requests = watcher->data;

    (void)revents;
    if (requests->ops->check_shm(requests->ctx) || !shm_mappings(requests->shm))
        ev_timer_stop(loop, watcher);
}

void requests_init(struct requests *requests, struct ev_loop *loop,
                   struct lines *lines, struct shm *shm,
                   const struct requests_ops *ops, void *ctx)
{
    memset(requests, 0, sizeof *requests);
    requests->loop = loop;
    requests->lines = lines;
    requests->shm = shm;
    requests->ops = ops;
    requests->ctx = ctx;
    requests->channel = (struct channel){ .wire = { .fd = -1 }, .far = -1 };
    requests->err_fd = -1;
    ev_init(&requests->on_channel, on_channel);
    ev_init(&requests->on_err, on_err);
    ev_init(&requests->on_shm, on_shm);
    ev_init(&requests->on_window, on_window);
    requests->on_window.data = requests;
    requests->window = WINDOW;
    requests->on_channel.data = requests->on_err.data = requests->on_shm.data =
        requests;
}

void requests_fini(struct requests *requests)
{
    requests_close(requests);
    sys_close(&requests->err_fd);
}

int requests_start(struct requests *requests)
{
    requests->err_fd = sys_eventfd();
    return requests->err_fd < 0 ? requests->err_fd : 0;
}

int requests_open(struct requests *requests, struct helper *helper)
{
    int rc;

    channel_fini(&requests->channel);
    rc = channel_init(&requests->channel, &channel_ops, requests);
    requests->channel.wire.helper = helper;
    return rc;
}

void requests_serve(struct requests *requests, const struct frontend *fe)
{
    if (fe->acked & VU_PF_BACKEND_REQ) {
        sys_close(&requests->channel.far); /* the back-end has it now */
        requests->channel.acked = fe->acked;
        ev_io_set(&requests->on_channel, requests->channel.wire.fd, EV_READ);
        ev_io_start(requests->loop, &requests->on_channel);
    }
    if (!ev_is_active(&requests->on_err)) {
        ev_io_set(&requests->on_err, requests->err_fd, EV_READ);
        ev_io_start(requests->loop, &requests->on_err);
    }
}

void requests_stop(struct requests *requests)
{
    ev_io_stop(requests->loop, &requests->on_channel);
    ev_io_stop(requests->loop, &requests->on_err);
    ev_timer_stop(requests->loop, &requests->on_shm);
    ev_timer_stop(requests->loop, &requests->on_window);
    requests->channel_paused = requests->err_paused = false;
    requests->config_reported = requests->config_again = false;
}

void requests_close(struct requests *requests)
{
    requests_stop(requests);
    channel_fini(&requests->channel);
    if (requests->err_fd >= 0)
        doorbell_take(requests->err_fd); /* it is not of the next one */
}
