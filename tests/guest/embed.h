/*
 * A VM inside of a test's own process: its callbacks note what they saw, and
 * what the process holds is counted.
 */
#ifndef HUSK_TESTS_GUEST_EMBED_H
#define HUSK_TESTS_GUEST_EMBED_H

#include <ev.h>
#include <pthread.h>

#include "husk.h"
#include "tests/guest/run.h"

/* What the callbacks of one VM saw. */
struct seen {
    struct ev_loop *loop;
    struct husk_vm *vm;
    unsigned probed, ended;
    bool leave; /* the loop, when it has ended */
    enum husk_outcome outcome;
    int status;
    char text[512];
    pthread_t thread; /* of the last callback */
};

/* For the suites: harness_fini(), and nothing may have been lost. */
void embed_fini(void);

/* All of these fail the case where the library fails. 16 MiB of memory. */
void embed_make(struct seen *seen, struct ev_loop *loop, const char *kernel,
                const char *append, unsigned cpus);
void embed_add(struct seen *seen, const char *spec);
void embed_start(struct seen *seen);
/* The callback ended(), with a struct seen for its context. */
void embed_ended(void *ctx, const struct husk_end *end);
/* Until a callback breaks out of the loop; never for ever. */
void embed_run(struct ev_loop *loop);
/* A whole life with two devices. */
void embed_device_run(struct ev_loop *loop, bool exits_on_read);
/* As many descriptors and threads as before, and no more mappings. */
void embed_check_holdings(const struct holdings *before);

#endif
