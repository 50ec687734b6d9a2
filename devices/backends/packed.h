/*
 * The format of a packed virtqueue, for ring.c, which says what each call does,
 * and for the record of chains in flight.
 */

#ifndef HUSK_BACKENDS_PACKED_H
#define HUSK_BACKENDS_PACKED_H

#include "devices/backends/gather.h"

int packed_map(struct ring *ring);

/* Add a descriptor, or the whole table that it names. 0 or -EINVAL. */
int packed_gather(struct ring *ring, struct gather *g, gaddr_t addr,
                  uint32_t len, unsigned flags);

struct chain *packed_take(struct ring *ring);
void packed_give(struct ring *ring, const struct chain *chain,
                 uint32_t written);
void packed_disable_kicks(struct ring *ring);
bool packed_enable_kicks(struct ring *ring);
bool packed_must_notify(struct ring *ring);

#endif
