/*
 * What stands in for a device's surroundings, so that its life passes in one
 * thread and at the harness's clock: an event loop with libev's functions, a
 * helper that closes and rings at once, and a lock whose deadline has passed
 * when somebody else holds it.
 */
#ifndef HUSK_TESTS_STAND_IN_H
#define HUSK_TESTS_STAND_IN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

/* Without watchers. A loop that is still watched by one ends the run. */
struct ev_loop *loop_new(void);
void loop_free(struct ev_loop *loop);

/*
 * Call the watchers of descriptors that are ready and of timers that are over,
 * in one of several orders. Returns how many were called.
 */
unsigned loop_round(struct ev_loop *loop, unsigned order);

/* When the next timer is over, as fuzz_now tells it; false: none is active. */
bool loop_next(const struct ev_loop *loop, uint64_t *when);

/* Watchers that are active. */
unsigned loop_active(const struct ev_loop *loop);

/* What helper_is_stuck() returns. */
extern bool helper_stuck;

#endif
