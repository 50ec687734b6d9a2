/*
 * The device's side of one virtqueue, split (VIRTIO 1.2, 2.7) or packed (2.8).
 * A ring takes chains of buffers that the driver made available and marks them
 * used, in any order. It knows neither eventfds nor vhost-user.
 *
 * A driver that breaks a rule breaks the ring, and only the ring: nothing more
 * is taken from it, and ring->error says why.
 */

#ifndef HUSK_BACKENDS_RING_H
#define HUSK_BACKENDS_RING_H

#include "devices/backends/chain.h"
#include "devices/backends/ring_state.h"

/*
 * Map a ring and go to its base. features are those that the driver accepted.
 * 0, or -EINVAL with the ring broken.
 */
int ring_start(struct ring *ring, const struct memory *mem, uint64_t features);

/* Translate the addresses again, after the memory table changed. */
int ring_map(struct ring *ring);

/* The ring is stopped, and none of its chains is in flight. */
void ring_stop(struct ring *ring);

/* The ring's position, as GET_VRING_BASE answers it. */
uint32_t ring_base(const struct ring *ring);

/*
 * The next chain, or NULL: there is none, or the ring is broken. It is the
 * caller's until ring_give() or ring_return().
 */
struct chain *ring_take(struct ring *ring);

/* Mark a chain used, with written bytes written. Frees it. */
void ring_give(struct ring *ring, struct chain *chain, uint32_t written);

/* Undo the latest ring_take(), before any other. Frees the chain. */
void ring_return(struct ring *ring, struct chain *chain);

/* Ask the driver for no kicks; it may kick nevertheless. */
void ring_disable_kicks(struct ring *ring);

/*
 * Ask for a kick at the next chain. True: a chain became available meanwhile,
 * so that no kick may follow for it.
 */
bool ring_enable_kicks(struct ring *ring);

/*
 * Whether the driver wants a notification for what was marked used since the
 * last call.
 */
bool ring_must_notify(struct ring *ring);

#endif
