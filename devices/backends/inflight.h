/*
 * The inflight buffer of a connection, in memory that outlives the back-end:
 * after a crash the front-end hands it to the next back-end, which processes
 * again the chains that were not marked used, in order, and no others.
 * vhost-user, "Inflight I/O tracking".
 */

#ifndef HUSK_BACKENDS_INFLIGHT_H
#define HUSK_BACKENDS_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backends/chain.h"
#include "devices/backends/record.h"
#include "devices/vhost_user.h"

struct inflight {
    uint8_t *map; /* NULL: there is no buffer */
    size_t map_size;
    uint16_t n_queues, queue_size;
};

/*
 * Make a buffer: wire says for how many queues of which size, and is completed;
 * *fd becomes the caller's.
 *   -EINVAL  no queue, more than 256, or a size that no ring can have
 *   other    what memfd_create, ftruncate or mmap said
 */
int inflight_create(struct inflight *inflight, struct vu_inflight *wire,
                    int *fd);

/*
 * Map a buffer that was handed back. fd is borrowed.
 *   -EINVAL  the numbers are out of range, or the file is too short for them
 *   other    what fstat or mmap said
 */
int inflight_map(struct inflight *inflight, const struct vu_inflight *wire,
                 int fd);
void inflight_unmap(struct inflight *inflight);

/* The device was reset: no chain is in flight. */
void inflight_forget(struct inflight *inflight);

/* Let q be the part of queue index; not tracked if the buffer has none. */
void inflight_attach(struct inflight_queue *q, const struct inflight *inflight,
                     unsigned index);
void inflight_detach(struct inflight_queue *q);

/*
 * The calls of ring.c, for a ring whose inflight is not NULL.
 *
 * Start: the ring has been mapped and set to its base. 0, or -EINVAL with the
 * ring broken.
 */
int inflight_start(struct ring *ring, uint64_t features);

/* Stop; chains that are still pending stay so for the next start. */
void inflight_stop(struct ring *ring);

/* A chain was taken; first is the position of its first descriptor. */
void inflight_taken(struct ring *ring, struct chain *chain, unsigned first);
void inflight_returned(struct ring *ring, const struct chain *chain);

/* Before and after the chain is marked used in the ring. */
void inflight_giving(struct ring *ring, const struct chain *chain);
void inflight_given(struct ring *ring, const struct chain *chain);

/* Whether chains have to be processed again, and the next of them. */
bool inflight_pending(const struct ring *ring);
struct chain *inflight_take(struct ring *ring);

#endif
