/* What the records of split and packed rings share; see record.h. */
#include "devices/backends/record.h"

#include <stdlib.h>

int record_refuse(struct ring *ring)
{
    return ring_break(ring, "an inflight buffer of another ring");
}

int record_collect(struct ring *ring,
                   bool (*in_flight)(const void *region, unsigned i,
                                     uint64_t *counter))
{
    struct inflight_queue *q = ring->inflight;

    free(q->pending);
    q->n_pending = q->next_pending = 0;
    q->counter = 0;
    q->pending = calloc(q->size, sizeof *q->pending);
    if (!q->pending)
        return ring_break(ring, "out of memory");
    for (unsigned i = 0; i < q->size; i++) {
        unsigned at = q->n_pending;
        uint64_t counter, other;

        if (!in_flight(q->region, i, &counter))
            continue;
        if (counter >= q->counter)
            q->counter = counter + 1;
        for (; at; at--) {
            in_flight(q->region, q->pending[at - 1], &other);
            if (other <= counter)
                break;
            q->pending[at] = q->pending[at - 1];
        }
        q->pending[at] = (uint16_t)i;
        q->n_pending++;
    }
    return 0;
}
