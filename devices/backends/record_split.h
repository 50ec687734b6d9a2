/*
 * The record of chains in flight of a split ring. For inflight.c, whose header
 * says when each call is made.
 */

#ifndef HUSK_BACKENDS_RECORD_SPLIT_H
#define HUSK_BACKENDS_RECORD_SPLIT_H

#include <stddef.h>

#include "devices/backends/chain.h"
#include "devices/backends/ring_state.h"

/* Its bytes for a ring of so many entries. */
size_t record_split_size(unsigned entries);

/* Begin anew at the ring's position. 0, or -EINVAL with the ring broken. */
int record_split_begin(struct ring *ring, uint64_t features);

/* Continue what another back-end left. 0, or -EINVAL with the ring broken. */
int record_split_recover(struct ring *ring, uint64_t features);

void record_split_taken(struct ring *ring, struct chain *chain);
void record_split_returned(struct ring *ring, const struct chain *chain);
void record_split_giving(struct ring *ring, const struct chain *chain);
void record_split_given(struct ring *ring, const struct chain *chain);

/* The chain of an entry in flight, or NULL with the ring broken. */
struct chain *record_split_chain(struct ring *ring, unsigned entry);

#endif
