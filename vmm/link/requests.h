/*
 * What a back-end says unasked: requests on the channel that it was handed,
 * errors of rings, and shared memory that it maps. Served on the loop, without
 * the device's lock; what the device has to do about it is a note.
 *
 * Time is divided into windows of 10 ms, the first of which begins with a
 * request or an error. In a window at most 100 requests (and those of one step)
 * are served, the first config change and the first error of a ring. A window's
 * end reports all later config changes as one, and the rest is served then.
 */
#ifndef HUSK_VMM_LINK_REQUESTS_H
#define HUSK_VMM_LINK_REQUESTS_H

#include <ev.h>

#include "devices/channel.h"
#include "devices/frontend.h"
#include "devices/shm.h"
#include "vmm/link/lines.h"

/* Loop thread. */
struct requests_ops {
    void (*config_changed)(void *ctx);
    void (*call)(void *ctx); /* in-band: interrupt the guest */
    void (*ring_failed)(void *ctx);
    /* A file that the guest has as shared memory was cut short: true if no
     * mapping of it is left. */
    bool (*check_shm)(void *ctx);
};

struct requests {
    struct ev_loop *loop;
    struct lines *lines;
    struct shm *shm; /* the device's */
    const struct requests_ops *ops;
    void *ctx;
    struct channel channel;
    int err_fd; /* eventfd that the back-end signals; owned */
    ev_io on_channel, on_err;
    ev_timer on_shm;      /* the next look at the files that are mapped */
    unsigned ring_errors; /* lines about them so far */
    double window;        /* its length in seconds */
    ev_timer on_window;   /* its end */
    unsigned served;      /* channel.served at its beginning */
    bool config_reported; /* once in this window */
    bool config_again;    /* to report at its end */
    bool channel_paused, err_paused; /* not watched until its end */
};

/* requests_fini() takes also one that is all zero but the descriptors. */
void requests_init(struct requests *requests, struct ev_loop *loop,
                   struct lines *lines, struct shm *shm,
                   const struct requests_ops *ops, void *ctx);
void requests_fini(struct requests *requests);

/* Before the first connection. -errno  as of eventfd() */
int requests_start(struct requests *requests);

/* A channel for a new connection. helper closes what comes by it.
 *   -errno  as of socketpair() */
int requests_open(struct requests *requests, struct helper *helper);

/* The connection is ready: serve what its back-end sends. */
void requests_serve(struct requests *requests, const struct frontend *fe);

/* The connection is gone, or nothing is to be served any more. */
void requests_stop(struct requests *requests);
/* And whoever awaits an answer on the channel learns of it. */
void requests_close(struct requests *requests);

#endif
