/*
 * The format of a split virtqueue, for ring.c, which says what each call does,
 * and for the record of chains in flight.
 */

#ifndef HUSK_BACKENDS_SPLIT_H
#define HUSK_BACKENDS_SPLIT_H

#include "devices/backends/chain.h"
#include "devices/backends/ring_state.h"

int split_map(struct ring *ring);

/* Continue behind what the used ring holds. */
void split_start(struct ring *ring);

struct chain *split_take(struct ring *ring);

/* The chain whose first descriptor is head, available or not. */
struct chain *split_chain(struct ring *ring, unsigned head);

void split_give(struct ring *ring, const struct chain *chain, uint32_t written);
void split_disable_kicks(struct ring *ring);
bool split_enable_kicks(struct ring *ring);
bool split_must_notify(struct ring *ring);

#endif
