/*
 * husk-peer: a vhost-user back-end for tests, which judges the front-end by
 * the contract and misbehaves where it is told to. One connection at a time,
 * one thread, one poll loop. --help is the manual.
 */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL_SIZE CMSG_SPACE(256 * sizeof(int))

static void begin(struct peer *p, int fd)
{
    struct connection *c = &p->c;
    struct ucred cred = { .pid = 0 };
    socklen_t size = sizeof cred;

    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->number = ++p->stats.connections;
    c->batch = 1;
    c->out_end = &c->out;
    c->channel.fd = -1;
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        ring_init(&c->ring[i]);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0)
        c->pid = cred.pid;
    peer_log(p, "c%u begins, process %d", c->number, (int)c->pid);
}

static void drop_message(struct connection *c)
{
    for (unsigned i = 0; i < c->in.n_fds; i++)
        if (c->in.fd[i] >= 0)
            close(c->in.fd[i]);
    c->in.n_fds = 0;
    c->in_size = 0;
    c->in_header = false;
}

static void end(struct peer *p)
{
    struct connection *c = &p->c;

    if (c->fd < 0)
        return;
    drop_message(c);
    output_drop(c);
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        ring_fini(&c->ring[i]);
    memory_drop(c);
    device_drop(c);
    if (c->channel.fd >= 0)
        close(c->channel.fd);
    close(c->fd);
    c->fd = -1;
    p->faults_done = true;
    peer_log(p, "c%u ends", c->number);
}

static void take_fds(struct connection *c, struct msghdr *msg)
{
    for (struct cmsghdr *m = CMSG_FIRSTHDR(msg); m; m = CMSG_NXTHDR(msg, m)) {
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(m) + i * sizeof fd, sizeof fd);
            if (c->in.n_fds < 256)
                c->in.fd[c->in.n_fds++] = fd;
            else
                close(fd);
        }
    }
}

/* 1: bytes came, 0: none are there, -1: the front-end is gone or is wrong */
static int read_some(struct peer *p, void *to, size_t size)
{
    struct connection *c = &p->c;
    union {
        char bytes[CONTROL_SIZE];
        struct cmsghdr align;
    } control;
    struct iovec iov = { to, size };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };
    const bool first = !c->in_header && !c->in_size;
    ssize_t n;

    do
        n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    take_fds(c, &msg);
    if (msg.msg_controllen && !first && c->in.n_fds &&
        peer_violation(p, "descriptors in the middle of a message") < 0)
        return -1;
    c->in_size += (size_t)n;
    return 1;
}

static int judge(struct peer *p)
{
    struct connection *c = &p->c;
    struct message *m = &c->in;
    const uint32_t request = m->header.request;

    m->batch = c->batch;
    c->batch_messages++;
    p->stats.messages++;
    if (request < WIRE_REQUESTS)
        c->count[request]++;
    peer_log_message(p, m);
    if (form_judge(p, m) < 0 || order_judge(p, m) < 0)
        return -1;
    return device_handle(p, m);
}

/* 1: a message was dealt with, 0: none is complete, -1: the end */
static int read_message(struct peer *p)
{
    struct connection *c = &p->c;
    struct message *m = &c->in;
    int rc;

    if (!c->in_header) {
        rc = read_some(p, (uint8_t *)&m->header + c->in_size,
                       WIRE_HEADER - c->in_size);
        if (rc <= 0)
            return rc;
        if (c->in_size < WIRE_HEADER)
            return 1;
        c->in_header = true;
        c->in_size = 0;
        memset(m->payload, 0, sizeof m->payload);
        if (m->header.size > WIRE_MAX_PAYLOAD) {
            peer_violation(p, "%s: payload of %u bytes",
                           wire_name(m->header.request), m->header.size);
            return -1;
        }
    }
    if (c->in_size < m->header.size) {
        rc = read_some(p, m->payload + c->in_size, m->header.size - c->in_size);
        if (rc <= 0)
            return rc;
        if (c->in_size < m->header.size)
            return 1;
    }
    rc = judge(p);
    drop_message(c);
    return rc < 0 ? -1 : 1;
}

static int read_batch(struct peer *p)
{
    struct connection *c = &p->c;
    int rc = 1;

    while (rc > 0 && !c->hung)
        rc = read_message(p);
    if (c->batch_messages) {
        p->stats.batches++;
        c->batch++;
        c->batch_messages = 0;
    }
    return rc < 0 ? -1 : 0;
}

/* Whether the front-end left without a word that the contract asks for. */
static void judge_end(struct peer *p)
{
    const struct connection *c = &p->c;

    if (c->probe == PROBE_FAILED && !c->fence && !c->hung && !c->closing &&
        !p->violated && !p->options.n_faults)
        peer_violation(p, "the front-end hung up at request 41, with nothing "
                          "sent behind it");
}

static int run_rings(struct peer *p)
{
    struct connection *c = &p->c;
    uint64_t now = peer_now();

    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        if (c->ring[i].pending && ring_runs(c, &c->ring[i]))
            ring_run(p, i);
    if (p->options.spurious && now >= p->next_spurious) {
        p->next_spurious = now + p->options.spurious;
        for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
            if (ring_runs(c, &c->ring[i]))
                ring_call(p, i);
    }
    if (ring_tick(p, now) < 0)
        return -1;
    return channel_tick(p);
}

static void sooner(int *timeout, uint64_t now, uint64_t due)
{
    int wait = due <= now ? 0 : due - now > 1000 ? 1000 : (int)(due - now);

    if (*timeout < 0 || wait < *timeout)
        *timeout = wait;
}

static int timeout_of(const struct peer *p)
{
    const struct connection *c = &p->c;
    uint64_t now = peer_now(), due;
    int timeout = -1;

    if (c->fd < 0)
        return -1;
    due = output_due(p);
    if (due)
        sooner(&timeout, now, due);
    if (c->hung)
        return timeout;
    for (unsigned i = 0; i < WIRE_MAX_RINGS; i++)
        if (c->ring[i].pending && ring_runs(c, &c->ring[i]))
            return 0;
    if (c->channel.waiting)
        sooner(&timeout, now, now + 50);
    if (!channel_open(c))
        return timeout;
    /* what runs may have limits and timers: look again in a while */
    sooner(&timeout, now, now + 50);
    if (p->options.spurious)
        sooner(&timeout, now, p->next_spurious);
    if (c->channel.next_change > now && !c->channel.waiting)
        sooner(&timeout, now, c->channel.next_change);
    return timeout;
}

struct poll_set {
    struct pollfd fd[WIRE_MAX_RINGS + 4];
    unsigned ring[WIRE_MAX_RINGS + 4];
    nfds_t n;
};

static void watch(struct poll_set *set, int fd, int events)
{
    set->fd[set->n++] = (struct pollfd){ .fd = fd, .events = (short)events };
}

/* 0 and 1 are the signals and the listener, 2 and 3 the connection's. */
static void build(const struct peer *p, struct poll_set *set, int signals)
{
    const struct connection *c = &p->c;

    set->n = 0;
    watch(set, signals, POLLIN);
    watch(set, c->fd < 0 ? p->listener : -1, POLLIN);
    if (c->fd < 0)
        return;
    watch(set, c->fd,
          (c->hung ? 0 : POLLIN) | POLLRDHUP |
              (c->out && !output_due(p) ? POLLOUT : 0));
    watch(set, c->hung ? -1 : c->channel.fd, POLLIN);
    for (unsigned i = 0; i < WIRE_MAX_RINGS && !c->hung; i++) {
        if (!c->ring[i].started || c->ring[i].kick < 0)
            continue;
        set->ring[set->n] = i;
        watch(set, c->ring[i].kick, POLLIN);
    }
}

/* -1 ends the connection. */
static int serve(struct peer *p, const struct poll_set *set)
{
    struct connection *c = &p->c;
    const short events = set->fd[2].revents;

    /* kicks first: their order against messages is judged by what is left */
    for (nfds_t i = 4; i < set->n; i++)
        if (set->fd[i].revents & POLLIN)
            ring_read_kick(p, set->ring[i]);
    if (set->fd[3].revents && c->channel.fd >= 0 && channel_read(p) < 0)
        return -1;
    if (events & POLLIN && read_batch(p) < 0)
        return -1;
    if (output_flush(p) < 0)
        return -1;
    if (c->hung)
        return events & (POLLRDHUP | POLLHUP | POLLERR) ? -1 : 0;
    if (events & (POLLHUP | POLLERR) && !(events & POLLIN))
        return -1;
    return run_rings(p);
}

static int loop(struct peer *p, int signals)
{
    const struct options *o = &p->options;
    struct poll_set set;

    for (;;) {
        build(p, &set, signals);
        if (poll(set.fd, set.n, timeout_of(p)) < 0) {
            if (errno == EINTR)
                continue;
            perror("husk-peer: poll");
            return 1;
        }
        if (set.fd[0].revents)
            return 0;
        if (p->c.fd < 0) {
            int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);

            if (fd >= 0)
                begin(p, fd);
            continue;
        }
        if (serve(p, &set) == 0)
            continue;
        judge_end(p);
        end(p);
        if (p->violated && !o->lenient)
            return 3;
        if (p->listener < 0 ||
            (o->connections && p->stats.connections >= o->connections))
            return 0;
    }
}

static int listen_at(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof addr.sun_path) {
        fprintf(stderr, "husk-peer: %s: the path is too long\n", path);
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        listen(fd, 8) < 0) {
        fprintf(stderr, "husk-peer: %s: %s\n", path, strerror(errno));
        return -1;
    }
    return fd;
}

static int prepare(struct peer *p, uint8_t *config, uint32_t given)
{
    const struct options *o = &p->options;
    const uint32_t size = o->config_size < 65536 ? o->config_size : 65536;

    p->config = calloc(1, size + 1);
    p->segment = calloc(MAX_SEGMENTS, sizeof *p->segment);
    if (!p->config || !p->segment)
        return 1;
    for (uint32_t i = 0; i < size; i++)
        p->config[i] = !config ? (uint8_t)(i + 1) : i < given ? config[i] : 0;
    p->config_bytes = size;
    if (o->log_path) {
        p->log = fopen(o->log_path, "we");
        if (!p->log) {
            fprintf(stderr, "husk-peer: %s: %s\n", o->log_path,
                    strerror(errno));
            return 1;
        }
    }
    if (o->fd >= 0)
        begin(p, o->fd);
    else
        p->listener = o->socket_path ? listen_at(o->socket_path) : o->listen_fd;
    return o->fd < 0 && p->listener < 0;
}

int main(int argc, char **argv)
{
    struct peer *p = calloc(1, sizeof *p);
    uint8_t *config = NULL;
    uint32_t given = 0;
    sigset_t mask;

    if (!p)
        return 1;
    p->start = peer_now();
    p->listener = p->c.fd = -1;
    int rc = options_parse(&p->options, argc, argv, &config, &given);

    if (rc >= 0)
        goto out;
    signal(SIGPIPE, SIG_IGN); /* a reader of stderr that goes away */
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC);

    rc = signals < 0 ? 1 : prepare(p, config, given);
    if (!rc)
        rc = loop(p, signals);
    end(p);
    peer_stats(p);
    if (p->log)
        fclose(p->log);
out:
    free(config);
    free(p->config);
    free(p->segment);
    free(p);
    return rc;
}
