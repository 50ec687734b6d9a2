/*
 * A virtqueue of one connection: a ring with its eventfds, and when it runs.
 */
#ifndef HUSK_BACKENDS_QUEUE_H
#define HUSK_BACKENDS_QUEUE_H

#include <ev.h>

#include "devices/backends/inflight.h"
#include "devices/backends/ring.h"
#include "devices/backends/runtime.h"

struct queue {
    struct session *session; /* fixed */
    unsigned index;          /* fixed */
    struct ring ring;
    struct inflight_queue inflight;
    int call_fd, err_fd, kick_fd; /* -1: none */
    bool has_addr;
    bool started; /* SET_VRING_KICK to GET_VRING_BASE */
    bool polled;  /* started without a kick descriptor */
    bool enabled;
    bool active;     /* between the device's start() and stop() */
    bool held;       /* queue_hold() */
    bool overdue;    /* an earlier connection may not have told all */
    unsigned budget; /* chains left for this call of handle() */
    ev_io kick;
    ev_timer again; /* go on at the loop's next turn, or poll */
};

void queue_init(struct queue *queue, struct session *session, unsigned index);

/* Deactivate and forget all that the front-end set. */
void queue_reset(struct queue *queue);

/*
 * Map the ring and start it. 0, or -EINVAL with the ring broken and reported.
 */
int queue_start(struct queue *queue);

/* Stop it; chains that the device has are still given back afterwards. */
void queue_stop(struct queue *queue);

/* Begin or end the device's use of it, as the connection's state says. */
void queue_update(struct queue *queue);

/* Translate the ring's addresses anew. */
void queue_remap(struct queue *queue);

/* Interrupt the driver if it wants that for what was given. */
void queue_tell(struct queue *queue);

/*
 * Tell by fd (-1: not at all), which becomes the queue's. While it is active
 * the driver is interrupted at once: what was told by the former descriptor may
 * have gone where nobody looked any more.
 */
void queue_set_call(struct queue *queue, int fd);

#endif
