/*
 * One ring's part of an inflight buffer, as far as split and packed rings have
 * it in common. vhost-user, "Inflight I/O tracking".
 */

#ifndef HUSK_BACKENDS_RECORD_H
#define HUSK_BACKENDS_RECORD_H

#include <stdatomic.h>

#include "devices/backends/ring_state.h"

#define RECORD_VERSION 1u

/* At the start of the part, in both layouts. */
struct record_header {
    uint64_t features;
    uint16_t version; /* 0: nothing was ever in flight */
    uint16_t desc_num;
};

struct inflight_queue {
    void *region;      /* NULL: not tracked */
    uint16_t size;     /* entries that it has */
    bool recovered;    /* an earlier back-end left chains or positions here */
    uint64_t counter;  /* of the next chain taken */
    uint16_t *pending; /* entries to be processed again, in order */
    unsigned n_pending, next_pending;
};

/*
 * Keeps the order of stores before and after, which is the order that survives
 * a crash: a dead process's last store is in memory for the next one.
 */
static inline void record_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/*
 * List the entries in flight in the order in which they were taken. in_flight()
 * says whether entry i of the region is, and its counter. 0, or -EINVAL with
 * the ring broken.
 */
int record_collect(struct ring *ring,
                   bool (*in_flight)(const void *region, unsigned i,
                                     uint64_t *counter));

/* The buffer that was handed back does not fit this ring: break it. */
int record_refuse(struct ring *ring);

#endif
