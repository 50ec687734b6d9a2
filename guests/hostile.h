/*
 * What a hostile guest does, in two files by what it is done to.
 */
#ifndef GUESTS_HOSTILE_H
#define GUESTS_HOSTILE_H

#include "virtio.h"

/* The device under attack, and a queue and a buffer for honest use of it. */
struct target {
    struct virtio dev;
    struct queue queue;
    uint8_t *buffer;
};

/* Up to FEATURES_OK; fails the guest where the device does not follow. */
void target_negotiate(struct target *t);
/* The same, with queue 0 and DRIVER_OK. */
void target_start(struct target *t);
/* One honest request on queue 0 as it is; fails the guest without an answer. */
void target_request(struct target *t, const char *when);

/* hostile_access.c */
void hostile_widths(struct target *t);
void hostile_live_widths(struct target *t);
void hostile_config_range(struct target *t);
void hostile_unassigned(struct target *t);
void hostile_uart(struct target *t);

#endif
