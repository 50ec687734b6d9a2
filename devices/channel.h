/*
 * The channel on which a back-end asks its front-end (BACKEND_REQ). Requests
 * are answered at once and without the device's lock, so that both directions
 * can be busy. What is not served is refused.
 */
#ifndef HUSK_DEVICES_CHANNEL_H
#define HUSK_DEVICES_CHANNEL_H

#include <stdbool.h>

#include "devices/wire.h"

struct channel {
    struct wire wire; /* our end */
    int far;          /* the back-end's end, until it was sent; -1 */
    /* the config space has changed. The loop's thread. */
    void (*config_changed)(void *ctx);
    void *ctx;
};

/* Make the pair.
 *   -errno  as of socketpair() */
int channel_init(struct channel *channel, void (*config_changed)(void *ctx),
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
