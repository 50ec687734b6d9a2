/*
 * The link to one back-end: getting a connection, by connecting to a socket or
 * by starting a command, and watching it. It knows nothing of what is said on
 * the connection, and keeps no state of the device. Loop thread.
 */
#ifndef HUSK_VMM_LINK_LINK_H
#define HUSK_VMM_LINK_LINK_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "husk.h"
#include "vmm/link/child.h"
#include "vmm/link/relay.h"
#include "vmm/link/spec.h"

enum link_event {
    LINK_SOCKET,     /* readable or writable, as watched */
    LINK_TIMER,      /* the one timer */
    LINK_HANG_UP,    /* the back-end shut its end; once */
    LINK_CHILD_GONE, /* the command, and all that it started, has ended */
};

struct link_ops {
    void (*event)(void *ctx, enum link_event event);
    /* how the command that was started ended */
    void (*child_ended)(void *ctx, const char *text);
};

enum link_phase {
    LINK_IDLE,
    LINK_LEAVING, /* until the command that was killed has ended */
    LINK_TRYING,  /* to connect */
};

struct link {
    struct ev_loop *loop;
    const struct spec *spec;
    const struct link_ops *ops;
    void *ctx;
    uint64_t (*clock)(void); /* ns, monotonic */
    struct child child;
    struct relay relay;
    ev_io socket, hang_up, control;
    ev_timer timer;
    int hang_up_fd; /* an epoll of its own, for EPOLLRDHUP alone; -1: none */
    enum link_phase phase;
    double since;    /* of the phase, seconds of clock */
    double wait;     /* seconds that a socket may come late */
    double pause;    /* to the next try to connect */
    double back_off; /* before the next attempt, from scratch */
};

void link_init(struct link *link, struct ev_loop *loop, const struct spec *spec,
               struct lines *lines, const struct link_ops *ops, void *ctx);
/* A command that was started has until deadline to end by itself. */
void link_fini(struct link *link, uint64_t deadline);

/* Seconds of a clock that nobody sets. */
double link_now(const struct link *link);

/*
 * A new attempt, from scratch: a command that runs is killed. A socket that is
 * not there yet is waited for, for so many seconds.
 */
void link_begin(struct link *link, double wait);

/*
 * One try.
 *   0        *fd is a connected socket, the caller's
 *   -EAGAIN  LINK_TIMER comes when it is time for the next try
 *   other    the attempt failed; err is the device's line
 */
int link_try(struct link *link, int *fd, struct husk_err *err);

/* What became of a command that was started, if it has ended: err says. */
bool link_child_end(struct link *link, struct husk_err *err);

/* Watch a connected socket for POLLIN, POLLOUT, both, or nothing. */
void link_watch(struct link *link, int fd, short events);
/* Watch for its end. -errno  as of epoll_create1() and epoll_ctl() */
int link_watch_hang_up(struct link *link, int fd);

/* LINK_TIMER once, or again and again, after so many seconds. */
void link_timer_once(struct link *link, double seconds);
void link_timer_every(struct link *link, double seconds);
void link_timer_stop(struct link *link);

/* The next back_off: doubled, or 0 again. */
void link_back_off(struct link *link);
void link_back_off_reset(struct link *link);

/* Watch nothing of the connection any more; before its socket is closed. */
void link_unwatch(struct link *link);
/* Nor of the command: its output is not passed on any more. */
void link_silence(struct link *link);

#endif
