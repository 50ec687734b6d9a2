/*
 * What is needed to put a back-end that comes back where its predecessor was:
 * who had the guest's rings, config space that was written meanwhile, and the
 * steps in which a new connection is restored.
 */
#ifndef HUSK_VMM_LINK_RECOVERY_H
#define HUSK_VMM_LINK_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/frontend.h"
#include "devices/transport.h"
#include "vmm/link/lines.h"

/* The guest's rings and the back-ends so far. */
enum recovery_rings {
    RECOVERY_UNUSED,  /* none has had the rings that there are */
    RECOVERY_HELD,    /* one had them: where they stand is in guest memory, and
                       * in the inflight area */
    RECOVERY_UNKNOWN, /* one had them, and nobody knows where they stand: the
                       * guest must reset the device first */
};

enum recovery_step {
    RECOVERY_STATUSES, /* what the driver wrote up to FEATURES_OK */
    RECOVERY_INFLIGHT, /* the area, in which requests in flight are noted */
    RECOVERY_RINGS,
    RECOVERY_CONFIG, /* what the driver wrote to it meanwhile */
    RECOVERY_END,
};

/* Under the device's lock, but for what the loop alone touches. */
struct recovery {
    struct lines *lines; /* loop */
    enum recovery_rings rings;
    /* Config space that the guest wrote while no back-end was there: as many
     * bytes as it has, and as many that say which were written; NULL: none. */
    uint8_t *config;
    uint32_t config_size;
    enum recovery_step step; /* loop */
    uint64_t epoch;          /* loop: the transport's, when step 1 began */
    bool doubles_said;       /* loop: that requests may be done twice */
};

void recovery_init(struct recovery *recovery, struct lines *lines);
void recovery_fini(struct recovery *recovery);

/* All but the first and the last three: under the lock. */

/* The back-end was given the rings that are ready. */
void recovery_given(struct recovery *recovery);

/* The back-end is gone: it has no ring any more. */
void recovery_gone(struct recovery *recovery, struct vrings *rings);

/* The guest reset the device. */
void recovery_reset(struct recovery *recovery);
/* The guest reset a ring while no back-end was there. */
void recovery_ring_reset(struct recovery *recovery, const struct frontend *fe);
/* The guest wrote to config space while no back-end was there. Without memory
 * for it the write is lost, like one that a back-end ignores. */
void recovery_config(struct recovery *recovery, struct transport *t,
                     uint32_t offset, const void *data, uint32_t size);

/* The rings stay as they are until the guest resets the device. */
static inline bool recovery_waits_for_reset(const struct recovery *recovery)
{
    return recovery->rings == RECOVERY_UNKNOWN;
}

/* The loop, under the lock: the guest sees the config space of the back-end
 * that came back, before that serves a ring, and is interrupted if it differs.
 */
void recovery_show_config(struct transport *t, const struct frontend *fe);

/* The loop: a new connection has been probed; begin with the first step. */
void recovery_begin(struct recovery *recovery);

/*
 * The loop, under the lock: the next step, when all answers to the one before
 * have come. True: there is another one. A failure loses the connection of fe:
 * -ENODEV where another attempt cannot help.
 */
bool recovery_step(struct recovery *recovery, struct transport *t,
                   struct frontend *fe);

#endif
