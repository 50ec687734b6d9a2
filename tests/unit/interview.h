/*
 * A front-end that probes a model of a back-end, both in the test's thread:
 * each step of one is followed by one of the other, so that nothing waits. What
 * never comes is a missed deadline at once.
 */
#ifndef HUSK_TESTS_INTERVIEW_H
#define HUSK_TESTS_INTERVIEW_H

#include "devices/probe.h"
#include "tests/unit/model.h"

struct interview {
    struct frontend fe;
    struct probe probe;
    struct model model;
    unsigned writes; /* of the front-end */
    unsigned timeouts;
    unsigned opened; /* descriptors before it all */
};

void interview_init(struct interview *in);

/* A new connection, after the first was lost or is not wanted any more. */
void interview_again(struct interview *in);

/* As probe_step() when it is done. */
int interview_run(struct interview *in);

/* The same with the answers handed over a byte at a time. */
int interview_drip(struct interview *in);

/* Expects that no descriptor is left. */
void interview_fini(struct interview *in);

#endif
