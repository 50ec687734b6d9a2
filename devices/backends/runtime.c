/*
 * A back-end's main(): options, the socket that front-ends connect to, signals,
 * and one connection after another.
 */
#include "devices/backends/runtime.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backends/listener.h"
#include "devices/backends/message.h"
#include "devices/backends/session.h"

#define VERSION     "0.1.0"
#define MAX_OPTIONS 24
#define PATIENCE    2. /* seconds, for chains in flight at the end */

struct runtime {
    struct device dev;
    struct listener listener;
    bool failed;
    bool ending; /* as soon as the connection is over */
    ev_io listening;
    ev_timer patience;
    ev_signal term, interrupt, hangup;
};

enum {
    OPT_SOCKET = 256,
    OPT_FD,
    OPT_CAPABILITIES,
    OPT_HELP,
    OPT_VERSION,
    OPT_DEVICE
};

static const struct option common[] = {
    { "socket-path", required_argument, NULL, OPT_SOCKET },
    { "fd", required_argument, NULL, OPT_FD },
    { "print-capabilities", no_argument, NULL, OPT_CAPABILITIES },
    { "help", no_argument, NULL, OPT_HELP },
    { "version", no_argument, NULL, OPT_VERSION },
};

#define N_COMMON (sizeof common / sizeof common[0])

static void help(const struct backend *b)
{
    printf("Usage: husk-%s --socket-path=PATH | --fd=N [options]\n"
           "%s, as a vhost-user back-end.\n\n"
           "  --socket-path=PATH    listen there, serve one front-end after "
           "another\n"
           "  --fd=N                serve that connected socket, or listen on "
           "it\n",
           b->type, b->about);
    for (const struct backend_option *o = b->options; o && o->name; o++) {
        char name[64];

        snprintf(name, sizeof name, "--%s%s%s", o->name, o->value ? "=" : "",
                 o->value ? o->value : "");
        printf("  %-21s %s\n", name, o->help);
    }
    printf("  --print-capabilities  what this is, as JSON\n"
           "  --help, --version\n");
}

static void print_capabilities(const struct backend *b)
{
    printf("{\n  \"type\": \"%s\",\n  \"features\": [", b->type);
    for (const char *const *c = b->capabilities; c && *c; c++)
        printf("%s\"%s\"", c == b->capabilities ? "" : ", ", *c);
    printf("]\n}\n");
}

static void serve(struct runtime *rt, int fd);

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
    struct runtime *rt = w->data;
    int fd = accept4(rt->listener.fd, NULL, NULL, SOCK_CLOEXEC);

    (void)events;
    if (fd >= 0) {
        ev_io_stop(loop, w);
        serve(rt, fd);
    } else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
        complain("accept: %s", strerror(errno));
        rt->failed = true;
        ev_break(loop, EVBREAK_ALL);
    }
}

static void on_ended(struct session *session)
{
    struct device *dev = session->dev;
    struct runtime *rt =
        (struct runtime *)((char *)dev - offsetof(struct runtime, dev));
    bool failed = session->failed;

    session_free(session);
    if (rt->ending) {
        ev_break(dev->loop, EVBREAK_ALL);
    } else if (rt->listener.fd >= 0) {
        ev_io_start(dev->loop, &rt->listening);
    } else {
        rt->failed = failed;
        ev_break(dev->loop, EVBREAK_ALL);
    }
}

static const struct session_calls calls = {
    .handle = message_handle,
    .ended = on_ended,
};

static void serve(struct runtime *rt, int fd)
{
    if (session_open(&rt->dev, fd, &calls))
        return;
    rt->failed = true;
    ev_break(rt->dev.loop, EVBREAK_ALL);
}

static void on_patience(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)w, (void)events;
    ev_break(loop, EVBREAK_ALL);
}

/* Wait for chains in flight: at most 2 s, and not after a second signal. */
static void on_end_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    struct runtime *rt = w->data;

    (void)events;
    if (!rt->dev.session || rt->ending) {
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    rt->ending = true;
    session_close(rt->dev.session);
    ev_timer_init(&rt->patience, on_patience, PATIENCE, 0.);
    ev_timer_start(loop, &rt->patience);
}

static void on_hangup(struct ev_loop *loop, ev_signal *w, int events)
{
    struct runtime *rt = w->data;

    (void)loop, (void)events;
    rt->dev.backend->hangup(&rt->dev);
}

/* The descriptor of --fd: accept on it if it listens, else serve it. */
static int take_fd(struct runtime *rt, int fd)
{
    int listening;
    socklen_t size = sizeof listening;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0)
        return complain("--fd=%d: %s", fd, strerror(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (listening)
        rt->listener.fd = fd;
    else
        serve(rt, fd);
    return rt->failed ? -1 : 0;
}

static int run(struct runtime *rt, const char *path, int fd)
{
    struct device *dev = &rt->dev;

    dev->loop = ev_default_loop(0);
    if (!dev->loop)
        return complain("no event loop");
    ev_signal_init(&rt->term, on_end_signal, SIGTERM);
    ev_signal_init(&rt->interrupt, on_end_signal, SIGINT);
    ev_signal_init(&rt->hangup, on_hangup, SIGHUP);
    rt->term.data = rt->interrupt.data = rt->hangup.data = rt;
    ev_signal_start(dev->loop, &rt->term);
    ev_signal_start(dev->loop, &rt->interrupt);
    if (dev->backend->hangup)
        ev_signal_start(dev->loop, &rt->hangup);
    signal(SIGPIPE, SIG_IGN);

    if (dev->backend->init && dev->backend->init(dev) < 0)
        return -1;
    if ((path ? listener_open(&rt->listener, "socket-path", path)
              : take_fd(rt, fd)) < 0)
        return -1;
    if (rt->listener.fd >= 0) {
        fcntl(rt->listener.fd, F_SETFL,
              fcntl(rt->listener.fd, F_GETFL) | O_NONBLOCK);
        ev_io_init(&rt->listening, on_connection, rt->listener.fd, EV_READ);
        rt->listening.data = rt;
        ev_io_start(dev->loop, &rt->listening);
    }
    ev_run(dev->loop, 0);
    return rt->failed ? -1 : 0;
}

/* 1: run the device, 0: nothing is left to do, -1 after complain(). */
static int parse(struct runtime *rt, int argc, char **argv, const char **path,
                 int *fd)
{
    const struct backend *b = rt->dev.backend;
    struct option table[MAX_OPTIONS + 1] = { 0 };
    unsigned n = 0;
    uint64_t number;

    for (; n < N_COMMON; n++)
        table[n] = common[n];
    for (const struct backend_option *o = b->options;
         o && o->name && n < MAX_OPTIONS; o++, n++)
        table[n] = (struct option){
            .name = o->name,
            .has_arg = o->value ? required_argument : no_argument,
            .val = OPT_DEVICE + (int)(n - N_COMMON),
        };

    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", table, NULL)) != -1;) {
        switch (c) {
        case ':':
            return complain("%s: give it a value (see --help)",
                            argv[optind - 1]);
        case '?':
            return complain("%s: no such option, or one that takes no value "
                            "(see --help)",
                            argv[optind - 1]);
        case OPT_SOCKET:
            *path = optarg;
            break;
        case OPT_FD:
            if (parse_number("fd", optarg, 0, INT32_MAX, &number) < 0)
                return -1;
            *fd = (int)number;
            break;
        case OPT_CAPABILITIES:
            print_capabilities(b);
            return 0;
        case OPT_HELP:
            help(b);
            return 0;
        case OPT_VERSION:
            printf("husk-%s " VERSION "\n", b->type);
            return 0;
        default:
            if (b->options[c - OPT_DEVICE].set(&rt->dev, optarg) < 0)
                return -1;
        }
    }
    if (optind < argc)
        return complain("%s: not an option (see --help)", argv[optind]);
    if (!*path == (*fd < 0))
        return complain("give either --socket-path or --fd (see --help)");
    return 1;
}

int backend_main(const struct backend *backend, void *state, int argc,
                 char **argv)
{
    struct runtime *rt = calloc(1, sizeof *rt);
    const char *path = NULL;
    int fd = -1;

    if (!rt)
        return complain("out of memory"), 1;
    rt->dev.backend = backend;
    rt->dev.state = state;
    rt->dev.shape = backend->shape;
    rt->listener.fd = -1;

    int rc = parse(rt, argc, argv, &path, &fd);

    if (rc > 0) {
        rc = run(rt, path, fd);
        if (rt->dev.session)
            session_free(rt->dev.session);
        listener_close(&rt->listener);
        if (backend->fini)
            backend->fini(&rt->dev);
    }
    free(rt);
    return rc < 0 ? 1 : 0;
}
