/*
 * A virtqueue of one connection: a ring with its eventfds, and when it runs.
 * The upper part is for the session and its requests, the lower for devices.
 */

#ifndef HUSK_BACKENDS_QUEUE_H
#define HUSK_BACKENDS_QUEUE_H

#include <ev.h>

#include "devices/backends/backend.h"
#include "devices/backends/chain.h"
#include "devices/backends/inflight.h"
#include "devices/backends/ring.h"

/* What the queues of a connection share. Fixed but for what is noted. */
struct queue_host {
    struct device *dev;
    const struct memory *memory;
    const struct inflight *inflight;
    uint64_t features;   /* as SET_FEATURES gave them */
    bool running;        /* queues may run; queue_update() all on a change */
    unsigned complaints; /* bounded, since guests cause them */
};

struct queue {
    struct queue_host *host; /* fixed */
    unsigned index;          /* fixed */
    struct ring ring;
    struct inflight_queue inflight;
    int call_fd, err_fd, kick_fd; /* -1: none */
    bool has_addr;
    bool started; /* from SET_VRING_KICK to GET_VRING_BASE */
    bool polled;  /* started without a kick descriptor */
    bool enabled;
    bool active;     /* between the device's start() and stop() */
    bool held;       /* by queue_hold() */
    bool unnotified; /* an earlier connection may have lost a notification */
    unsigned budget; /* chains left for this call of handle() */
    ev_io kick;
    ev_timer again; /* go on at the loop's next turn, or poll */
};

void queue_init(struct queue *queue, struct queue_host *host, unsigned index);

/* Deactivate it and forget all that the front-end set. */
void queue_reset(struct queue *queue);

/*
 * Map the ring and start it. 0, or -EINVAL with the ring broken and reported.
 */
int queue_start(struct queue *queue);

/* Stop it. Chains that the device has are still given back afterwards. */
void queue_stop(struct queue *queue);

/* Begin or end the use by the device, as the state of queue and host says. */
void queue_update(struct queue *queue);

/* Translate the ring's addresses again. */
void queue_remap(struct queue *queue);

/* Notify the driver if it wants that for what was marked used. */
void queue_notify(struct queue *queue);

/*
 * Notify by fd from now on (-1: not at all), which becomes the queue's. An
 * active queue's driver is notified at once: a notification by the former
 * descriptor may have been lost.
 */
void queue_set_call(struct queue *queue, int fd);

/* for devices */

unsigned queue_index(const struct queue *queue);
struct device *queue_device(const struct queue *queue);

/*
 * See ring_take(), ring_give() and ring_return(). The driver is notified once
 * for all chains given in a turn of the loop.
 */
struct chain *queue_take(struct queue *queue);
void queue_give(struct queue *queue, struct chain *chain, uint32_t written);
void queue_return(struct queue *queue, struct chain *chain);

/* No handle() for new chains until queue_wake(), which has it called soon. */
void queue_hold(struct queue *queue);
void queue_wake(struct queue *queue);

/* The driver broke a rule of the device type: stop the queue and say why. */
void queue_break(struct queue *queue, const char *why);

#endif
