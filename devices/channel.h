/*
 * The channel on which a back-end asks its front-end (BACKEND_REQ). Requests
 * are answered at once and without the device's lock, so that both directions
 * can be busy. What is not served is refused.
 */
#ifndef HUSK_DEVICES_CHANNEL_H
#define HUSK_DEVICES_CHANNEL_H

#include <stdbool.h>

#include "devices/wire.h"

/* What a back-end may ask. The loop's thread; 0, or what is answered as an
 * error. */
struct channel_ops {
    int (*config_changed)(void *ctx);
    int (*call)(void *ctx); /* in-band: interrupt the guest */
    int (*ring_error)(void *ctx);
    int (*map)(void *ctx, const struct vu_map *map, int fd); /* fd: borrowed */
    int (*unmap)(void *ctx, const struct vu_map *map);
};

struct channel {
    struct wire wire; /* our end */
    int far;          /* the back-end's end, until it was sent; -1 */
    uint64_t acked;   /* protocol features: what may be asked */
    unsigned served;  /* requests so far, those that were refused too */
    const struct channel_ops *ops;
    void *ctx;
};

/* Make the pair.
 *   -errno  as of socketpair() */
int channel_init(struct channel *channel, const struct channel_ops *ops,
                 void *ctx);

/* Close both ends. Safe to repeat, and on one that is all zero but fd -1. */
void channel_fini(struct channel *channel);

/*
 * Answer what has come, a few requests at most, so that a flood of them holds
 * up nothing else.
 *   0        call again when the descriptor is readable
 *   -EPIPE   the back-end closed it, which ends nothing
 *   other    it broke the protocol; err says how
 */
int channel_step(struct channel *channel, struct husk_err *err);

#endif
