/*
 * Connecting to a back-end or starting it, again and again where it may come
 * late. Two commands never run at a time: they would share a file, or requests.
 */
#include "vmm/link/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/link/peer.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define FIRST_PAUSE    0.001 /* seconds between tries to connect, doubled */
#define LAST_PAUSE     0.05
#define FIRST_BACK_OFF 0.05 /* seconds between attempts, doubled */
#define LAST_BACK_OFF  1.0
#define END_WAIT       200 /* ms that a command which hung up has to end */

double link_now(const struct link *link)
{
    return (double)link->clock() / 1e9;
}

static void on_socket(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct link *link = watcher->data;

    (void)loop;
    (void)revents;
    link->ops->event(link->ctx, LINK_SOCKET);
}

static void on_timer(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct link *link = watcher->data;

    (void)loop;
    (void)revents;
    link->ops->event(link->ctx, LINK_TIMER);
}

static void on_hang_up(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct link *link = watcher->data;

    (void)revents;
    ev_io_stop(loop, watcher);
    link->ops->event(link->ctx, LINK_HANG_UP);
}

static void describe_end(char *text, size_t size, enum child_news news,
                         int value, const struct spec *spec)
{
    const char *command = spec->argv[0];

    if (news == CHILD_NOT_STARTED)
        snprintf(text, size, "starting %s: %s", command, strerror(value));
    else if (news == CHILD_NO_FOLDER)
        snprintf(text, size, "starting %s in %s: %s", command, spec->dir,
                 strerror(value));
    else if (news == CHILD_UNKEPT)
        snprintf(text, size,
                 "%s was killed, as the husk process above it was killed",
                 command);
    else if (WIFSIGNALED(value))
        snprintf(text, size, "%s was ended by signal %d (%s)", command,
                 WTERMSIG(value), strsignal(WTERMSIG(value)));
    else
        snprintf(text, size, "%s ended with status %d", command,
                 WEXITSTATUS(value));
}

static void on_control(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct link *link = watcher->data;
    enum child_news news;
    char text[200];
    int value;

    (void)revents;
    while ((news = child_news(&link->child, &value)) != CHILD_NOTHING) {
        if (news == CHILD_GONE) {
            ev_io_stop(loop, watcher);
            link->ops->event(link->ctx, LINK_CHILD_GONE);
            return;
        }
        describe_end(text, sizeof text, news, value, link->spec);
        link->ops->child_ended(link->ctx, text);
    }
}

void link_init(struct link *link, struct ev_loop *loop, const struct spec *spec,
               struct lines *lines, const struct link_ops *ops, void *ctx)
{
    memset(link, 0, sizeof *link);
    link->loop = loop;
    link->spec = spec;
    link->ops = ops;
    link->ctx = ctx;
    link->clock = sys_now;
    link->hang_up_fd = -1;
    child_init(&link->child);
    relay_init(&link->relay, loop, lines, sys_now);
    ev_init(&link->socket, on_socket);
    ev_init(&link->hang_up, on_hang_up);
    ev_init(&link->control, on_control);
    ev_init(&link->timer, on_timer);
    link->socket.data = link->hang_up.data = link->control.data =
        link->timer.data = link;
}

void link_fini(struct link *link, uint64_t deadline)
{
    link_unwatch(link);
    link_silence(link);
    child_end(&link->child, deadline);
}

void link_begin(struct link *link, double wait)
{
    link->wait = wait;
    link->pause = FIRST_PAUSE;
    if (!link->spec->argv) {
        link->phase = LINK_TRYING;
        link->since = link_now(link);
        return;
    }
    link_silence(link);
    child_drop(&link->child);
    /* one that did not end in an earlier attempt has had that time already */
    if (link->phase != LINK_LEAVING)
        link->since = link_now(link);
    link->phase = LINK_LEAVING;
    link->wait = link->spec->deadline;
}

static int start_child(struct link *link, struct husk_err *err)
{
    struct husk_err inner;
    int rc = child_start(&link->child, link->spec, &inner);

    if (rc < 0)
        return fail(err, rc, "%s: %s", link->spec->name, inner.text);
    ev_io_set(&link->control, link->child.control, EV_READ);
    ev_io_start(link->loop, &link->control);
    relay_start(&link->relay, link->child.output);
    return 0;
}

/* The command that was killed has ended, and a new one runs: -EAGAIN: not yet.
 */
static int replace_child(struct link *link, struct husk_err *err)
{
    int rc;

    if (!child_is_gone(&link->child)) {
        if (link_now(link) - link->since > link->spec->deadline)
            return fail(err, -ETIMEDOUT,
                        "%s: the back-end that was killed "
                        "does not end",
                        link->spec->name);
        return -EAGAIN;
    }
    link->phase = LINK_TRYING;
    link->since = link_now(link);
    rc = start_child(link, err);
    return rc == -EAGAIN ? -ENOBUFS : rc; /* -EAGAIN means another try */
}

/* connect() failed: whether another try may help. */
static bool may_come(const struct link *link, int code)
{
    double limit = link->wait;

    if (code == EAGAIN && limit < link->spec->deadline)
        limit = link->spec->deadline; /* it listens, but is busy */
    return (code == ENOENT || code == ECONNREFUSED || code == EAGAIN) &&
           link_now(link) - link->since < limit;
}

static int connect_once(struct link *link, int *fd, struct husk_err *err)
{
    const struct spec *spec = link->spec;
    const char *path = spec->socket ? spec->socket : link->child.path;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int code;

    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return fail(err, -errno, "%s: socket: %s", spec->name, strerror(errno));
    memcpy(address.sun_path, path, strlen(path));
    if (connect(*fd, (struct sockaddr *)&address, sizeof address) == 0) {
        /* child.path is in a folder that nobody else can write to */
        code = spec->socket
                   ? peer_check(*fd, &spec->peer, spec->name, path, err)
                   : 0;
        if (code < 0)
            sys_close(fd);
        return code;
    }
    code = errno;
    close(*fd);
    if (may_come(link, code))
        return -EAGAIN;
    /* -EAGAIN means another try */
    return fail(err, code == EAGAIN ? -ETIMEDOUT : -code,
                "%s: connecting to %s: %s%s", spec->name, path,
                code == EAGAIN ? "it listens, but takes no connection"
                               : strerror(code),
                code == ENOENT || code == ECONNREFUSED
                    ? ": is the back-end running? (wait=SECONDS lets it come "
                      "late)"
                    : "");
}

int link_try(struct link *link, int *fd, struct husk_err *err)
{
    int rc;

    if (link->phase == LINK_LEAVING) {
        rc = replace_child(link, err);
        if (rc == -EAGAIN)
            link_timer_once(link, FIRST_PAUSE);
        if (rc < 0)
            return rc;
        *fd = child_take(&link->child);
        if (*fd >= 0)
            return 0;
    }
    rc = connect_once(link, fd, err);
    if (rc == -EAGAIN) {
        link_timer_once(link, link->pause);
        link->pause *= 2;
        if (link->pause > LAST_PAUSE)
            link->pause = LAST_PAUSE;
    }
    return rc;
}

bool link_child_end(struct link *link, struct husk_err *err)
{
    struct child *child = &link->child;
    struct pollfd polled = { .fd = child->control, .events = POLLIN };
    char text[200];
    int value;

    if (child->control < 0)
        return false;
    if (child->fate == CHILD_NOTHING && poll(&polled, 1, END_WAIT) > 0)
        child_news(child, &value);
    if (child->fate == CHILD_NOTHING)
        return false;
    relay_read(&link->relay);
    describe_end(text, sizeof text, child->fate, child->fate_value, link->spec);
    fail(err, -ECONNREFUSED, "%s: %s%s", link->spec->name, text,
         child->fate == CHILD_ENDED ? " before it said what it is" : "");
    return true;
}

void link_watch(struct link *link, int fd, short events)
{
    int mask =
        (events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0);

    if (ev_is_active(&link->socket) && link->socket.events == mask)
        return;
    ev_io_stop(link->loop, &link->socket);
    ev_io_set(&link->socket, fd, mask);
    if (mask)
        ev_io_start(link->loop, &link->socket);
}

int link_watch_hang_up(struct link *link, int fd)
{
    struct epoll_event event = { .events = EPOLLRDHUP };

    sys_close(&link->hang_up_fd);
    link->hang_up_fd = epoll_create1(EPOLL_CLOEXEC);
    if (link->hang_up_fd < 0 ||
        epoll_ctl(link->hang_up_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    ev_io_set(&link->hang_up, link->hang_up_fd, EV_READ);
    ev_io_start(link->loop, &link->hang_up);
    return 0;
}

void link_timer_once(struct link *link, double seconds)
{
    ev_now_update(link->loop);
    ev_timer_stop(link->loop, &link->timer);
    ev_timer_set(&link->timer, seconds, 0);
    ev_timer_start(link->loop, &link->timer);
}

void link_timer_every(struct link *link, double seconds)
{
    link->timer.repeat = seconds;
    ev_now_update(link->loop);
    ev_timer_again(link->loop, &link->timer);
}

void link_timer_stop(struct link *link)
{
    ev_timer_stop(link->loop, &link->timer);
}

void link_back_off(struct link *link)
{
    link->back_off = link->back_off > 0 ? 2 * link->back_off : FIRST_BACK_OFF;
    if (link->back_off > LAST_BACK_OFF)
        link->back_off = LAST_BACK_OFF;
}

void link_back_off_reset(struct link *link)
{
    link->back_off = 0;
}

void link_unwatch(struct link *link)
{
    ev_io_stop(link->loop, &link->socket);
    ev_io_stop(link->loop, &link->hang_up);
    ev_timer_stop(link->loop, &link->timer);
    sys_close(&link->hang_up_fd);
}

void link_silence(struct link *link)
{
    ev_io_stop(link->loop, &link->control);
    relay_stop(&link->relay);
}
