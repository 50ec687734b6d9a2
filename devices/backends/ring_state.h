/*
 * A virtqueue as the device has it: where it lies and how far it was processed.
 * For the files below ring.h, which says what can be done with one.
 */

#ifndef HUSK_BACKENDS_RING_STATE_H
#define HUSK_BACKENDS_RING_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backends/memory.h"

#define RING_MAX_SIZE 32768u

struct inflight_queue;

struct ring {
    /* set by the front-end before ring_start() */
    uint32_t size;
    uint64_t desc, avail, used; /* the front-end's addresses */
    uint32_t base;              /* as in SET_VRING_BASE */

    /* where the ring is mapped and its format; from ring_start() on */
    const struct memory *mem;
    void *desc_map, *avail_map, *used_map;
    bool packed, indirect, event_idx;

    /* the positions; only a packed ring has wrap counters */
    uint16_t next_avail, next_used;
    bool avail_wrap, used_wrap;
    uint16_t notified; /* next_used when a notification was last considered */
    bool notified_wrap;
    uint32_t given;     /* entries marked used since then */
    unsigned in_flight; /* entries taken and not yet marked used */

    struct inflight_queue *inflight; /* NULL: not tracked */

    bool broken;
    char error[120]; /* one line, once broken */
};

/*
 * The driver broke a rule: nothing more is taken from the ring. Returns
 * -EINVAL; of several reasons the first is kept.
 */
int ring_break(struct ring *ring, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
