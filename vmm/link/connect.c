/*
 * Getting at a back-end: connecting to it or starting it, again and again where
 * it may come late, and passing on what one that was started has to say.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/helper.h"
#include "vmm/link/device.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define FIRST_PAUSE  0.001 /* seconds between tries to connect, doubled */
#define LAST_PAUSE   0.05
#define OUTPUT_BATCH 16 /* reads */
#define OUTPUT_LINES                                                           \
    200                /* a second of a back-end's, which its guest may steer */
#define LAST_WORDS 200 /* ms that a back-end which hung up has to end */

ev_tstamp device_now(void)
{
    return (ev_tstamp)sys_now() / 1e9;
}

void device_say(struct device *device, enum husk_log level, const char *text)
{
    char line[320];

    snprintf(line, sizeof line, "%s: %s", device->spec.name, text);
    device->events.log(device->events.ctx, level, line);
}

static void tell_left_out(struct device *device)
{
    char text[80];

    if (!device->lines_left_out)
        return;
    snprintf(text, sizeof text, "%llu lines of the back-end's were left out",
             (unsigned long long)device->lines_left_out);
    device->lines_left_out = 0;
    device_say(device, HUSK_LOG_WARNING, text);
}

static void pass_line(struct device *device)
{
    ev_tstamp now = device_now();

    device->line[device->line_size] = 0;
    device->line_size = 0;
    if (now - device->lines_since >= 1) {
        tell_left_out(device);
        device->lines_since = now;
        device->lines = 0;
    }
    if (device->lines++ < OUTPUT_LINES)
        device_say(device, HUSK_LOG_WARNING, device->line);
    else
        device->lines_left_out++;
}

/* The back-end's own words, a line at a time, and so many at once that one who
 * never stops holds up nothing else. */
static void read_output(struct device *device)
{
    char bytes[512];
    ssize_t n = -1;

    for (int i = 0; i < OUTPUT_BATCH &&
                    (n = read(device->child.output, bytes, sizeof bytes)) > 0;
         i++) {
        for (ssize_t k = 0; k < n; k++) {
            if (bytes[k] != '\n' &&
                device->line_size < sizeof device->line - 1) {
                device->line[device->line_size++] = bytes[k];
                continue;
            }
            pass_line(device);
            if (bytes[k] != '\n')
                device->line[device->line_size++] = bytes[k];
        }
    }
    if (n == 0)
        ev_io_stop(device->loop, &device->output);
}

void device_on_output(struct ev_loop *loop, ev_io *watcher, int revents)
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

void device_on_control(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct device *device = watcher->data;
    enum child_news news;
    struct husk_err err;
    char text[200];
    int value;

    (void)revents;
    while ((news = child_news(&device->child, &value)) != CHILD_NOTHING) {
        if (news == CHILD_GONE) {
            ev_io_stop(loop, watcher);
            /* nobody is left who could come to listen */
            if (device->state == DEVICE_CONNECTING && !device->away &&
                device_last_words(device, &err))
                device_give_up(device, &err);
            return;
        }
        describe_end(text, sizeof text, news, value, device->spec.argv[0]);
        /* before it was ready the device's failure says it */
        device_say(device,
                   device->has_transport ? HUSK_LOG_WARNING : HUSK_LOG_INFO,
                   text);
    }
}

/* A started back-end that hung up: what became of it says more. */
bool device_last_words(struct device *device, struct husk_err *err)
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

static int begin_probe(struct device *device, int fd, struct husk_err *err)
{
    int rc;

    if (!device->t_connected)
        device->t_connected = sys_now();
    frontend_init(&device->fe, fd);
    channel_fini(&device->channel);
    rc = channel_init(&device->channel, &device_channel_ops, device);
    if (rc < 0)
        return fail(err, rc, "%s: socketpair: %s", device->spec.name,
                    strerror(-rc));
    device->channel.wire.helper = device->helper;
    device->probe.backend_req_fd = device->channel.far;
    if (device->away) /* whatever one that came in between made of it */
        device->probe.is.dialect = device->is.dialect;
    device->state = DEVICE_PROBING;
    probe_start(&device->probe, &device->fe);
    device_arm(device);
    device_probe_on(device);
    return 0;
}

/* One try. -EAGAIN: there will be another. */
static int try_connect(struct device *device, struct husk_err *err)
{
    const char *path =
        device->spec.socket ? device->spec.socket : device->child.path;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    /* one that is away has pauses of its own */
    double limit = device->spec.argv ? device->spec.deadline
                   : device->away    ? 0
                                     : device->spec.wait;
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
        device_now() - device->started < limit)
        return -EAGAIN;
    /* -EAGAIN would mean another try */
    return fail(err, code == EAGAIN ? -ETIMEDOUT : -code,
                "%s: connecting to %s: %s%s", device->spec.name, path,
                code == EAGAIN ? "it listens, but takes no connection"
                               : strerror(code),
                code == ENOENT || code == ECONNREFUSED
                    ? ": is the back-end running? (wait=SECONDS lets it come "
                      "late)"
                    : "");
}

void device_connect_on(struct device *device)
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
        device_give_up(device, &err);
    }
}

static void watch_child(struct device *device)
{
    ev_io_set(&device->control, device->child.control, EV_READ);
    ev_io_start(device->loop, &device->control);
    ev_io_set(&device->output, device->child.output, EV_READ);
    ev_io_start(device->loop, &device->output);
}

void device_stop_child(struct device *device)
{
    ev_io_stop(device->loop, &device->control);
    ev_io_stop(device->loop, &device->output);
    tell_left_out(device);
}

/* Come back to device_connect() later. */
void device_pause(struct device *device, double seconds)
{
    device->state = DEVICE_PAUSING;
    ev_now_update(device->loop);
    ev_timer_stop(device->loop, &device->timer);
    ev_timer_set(&device->timer, seconds, 0);
    ev_timer_start(device->loop, &device->timer);
}

/* From scratch: what there was of a connection is dropped. */
int device_connect(struct device *device, struct husk_err *err)
{
    int rc, fd;

    device_stop_watchers(device);
    wire_fini(&device->fe.wire);
    device->state = DEVICE_CONNECTING;
    if (helper_is_stuck(device->helper))
        return fail(err, -EMFILE,
                    "%s: the descriptors that the back-end sent cannot be "
                    "closed",
                    device->spec.name);
    device->started = device_now();
    device->pause = FIRST_PAUSE;
    if (device->spec.argv) {
        device_stop_child(device);
        child_drop(&device->child);
        /* two at a time would share a file, or requests */
        if (!child_is_gone(&device->child)) {
            if (!device->leaving_since)
                device->leaving_since = device->started;
            if (device->started - device->leaving_since > device->spec.deadline)
                return fail(err, -ETIMEDOUT,
                            "%s: the back-end that was killed "
                            "does not end",
                            device->spec.name);
            device_pause(device, FIRST_PAUSE);
            return 0;
        }
        device->leaving_since = 0;
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
