/*
 * The record of chains in flight, in memory that outlives the back-end: after a
 * crash the front-end hands it to the next one, which does again what had not
 * been given back, in order, and nothing else. vhost-user: "Inflight I/O
 * tracking"; its layouts for split and for packed rings.
 */
#ifndef HUSK_BACKENDS_INFLIGHT_H
#define HUSK_BACKENDS_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"

struct ring;
struct chain;

/* The whole buffer of a connection. */
struct inflight {
    uint8_t *map; /* NULL: none */
    size_t map_size;
    uint16_t n_queues, queue_size;
};

/* One ring's part of it. */
struct inflight_queue {
    void *region;      /* NULL: not tracked */
    uint16_t size;     /* entries that it has */
    bool recovered;    /* it was another back-end's before */
    uint64_t counter;  /* of the next chain taken */
    uint16_t *pending; /* entries to be done again, in order */
    unsigned n_pending, next_pending;
};

/*
 * Make a buffer: wire says for how many queues of which size, and is completed;
 * *fd becomes the caller's.
 *   -EINVAL  no queue, too many, or none of that size can be
 *   other    what memfd_create, ftruncate or mmap said
 */
int inflight_create(struct inflight *inflight, struct vu_inflight *wire,
                    int *fd);

/* Map one that was handed back. fd is borrowed. -EINVAL: it cannot be one. */
int inflight_map(struct inflight *inflight, const struct vu_inflight *wire,
                 int fd);
void inflight_unmap(struct inflight *inflight);

/* Forget what is in flight: the device was reset. */
void inflight_forget(struct inflight *inflight);

/* The part of queue index; not tracked where there is none. */
void inflight_attach(struct inflight_queue *q, const struct inflight *inflight,
                     unsigned index);
void inflight_detach(struct inflight_queue *q);

/* ring.c calls these; the ring has just been mapped and put to its base. */
int inflight_start(struct ring *ring, uint64_t features);

/* The ring is stopped; what is still pending stays so for the next start. */
void inflight_stop(struct ring *ring);

/* A chain was taken; of a packed ring, from descriptor first on. */
void inflight_taken(struct ring *ring, struct chain *chain, unsigned first);
void inflight_returned(struct ring *ring, const struct chain *chain);
void inflight_giving(struct ring *ring, const struct chain *chain);
void inflight_given(struct ring *ring, const struct chain *chain);

/* Whether chains are to be done again, and the next of them. */
bool inflight_pending(const struct ring *ring);
struct chain *inflight_take(struct ring *ring);

#endif
