/*
 * The record of chains in flight of a packed ring. For inflight.c, whose header
 * says when each call is made.
 */

#ifndef HUSK_BACKENDS_RECORD_PACKED_H
#define HUSK_BACKENDS_RECORD_PACKED_H

#include <stddef.h>

#include "devices/backends/chain.h"
#include "devices/backends/ring_state.h"

/* Its bytes for a ring of so many entries. */
size_t record_packed_size(unsigned entries);

/* Begin anew at the ring's position. 0, or -EINVAL with the ring broken. */
int record_packed_begin(struct ring *ring, uint64_t features);

/* Continue what another back-end left. 0, or -EINVAL with the ring broken. */
int record_packed_recover(struct ring *ring);

/* first: the ring's position of its first descriptor. */
void record_packed_taken(struct ring *ring, struct chain *chain,
                         unsigned first);
void record_packed_returned(struct ring *ring, const struct chain *chain);
void record_packed_giving(struct ring *ring, const struct chain *chain);
void record_packed_given(struct ring *ring, const struct chain *chain);

/* The chain of an entry in flight, or NULL with the ring broken. */
struct chain *record_packed_chain(struct ring *ring, unsigned entry);

#endif
