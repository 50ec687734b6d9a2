/*
 * Why a run ends. Any thread may give a reason; the first one counts, and a
 * stop that was requested before it outranks it. What remains is turned into
 * the struct husk_end that the embedder gets. Knows neither KVM nor the loop.
 */
#ifndef HUSK_VMM_END_H
#define HUSK_VMM_END_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/power.h"
#include "husk.h"

struct end_reason {
    enum husk_outcome outcome;
    long value;     /* what the guest wrote to the exit port, or -1 */
    char text[256]; /* one line, or empty */
};

struct end {
    pthread_mutex_t lock;
    atomic_bool stopped; /* any thread, signal handlers too: without the lock */
    /* the rest: lock */
    bool set;
    struct end_reason reason;
    uint64_t when; /* ns; of the last reason that counted */
};

void end_init(struct end *end);
void end_fini(struct end *end);

/* A stop was requested. Any thread; async-signal-safe. */
void end_stop(struct end *end);
bool end_is_stopped(const struct end *end);

/*
 * Give a reason. It counts if there is none yet; if a stop was requested, the
 * reason is HUSK_STOPPED, since a stop cuts requests short and what the guest
 * makes of that is no verdict. text may be NULL. Any thread.
 */
void end_set(struct end *end, enum husk_outcome outcome, long value,
             const char *text);

/* Copy the reason that counts to *reason; false: there is none. Any thread. */
bool end_get(struct end *end, struct end_reason *reason);

/* Forget the reason, but not a requested stop: a reset that ends nothing. */
void end_clear(struct end *end);

/* The outcome of what a guest did to end its run. */
void end_of_power(enum power_event event, uint32_t value,
                  struct end_reason *reason);

/*
 * What the embedder gets. device_lost: a device was lost after the guest's
 * first instruction; then anything but a verdict of the guest's own (pass, fail
 * or skip) becomes HUSK_BACKEND, and reason->text says what it was instead.
 * report->text points into *reason.
 */
void end_report(struct end_reason *reason, bool device_lost,
                struct husk_end *report);

#endif
