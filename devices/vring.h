/*
 * A vring is two things. What the guest's driver programmed is plain data: it
 * is written by the queue registers, and could be written to a file and read
 * back. What the back-end was given of it belongs to one boot of husk.
 */
#ifndef HUSK_DEVICES_VRING_H
#define HUSK_DEVICES_VRING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/mem.h"

/* As the driver programmed it. Under the device's lock. */
struct vring {
    gpa_t desc;   /* descriptor area */
    gpa_t driver; /* driver area: available ring */
    gpa_t device; /* device area: used ring */
    uint32_t num; /* as written; judged when the ring is made ready */
    bool ready;   /* QueueReady */
    bool stopped; /* reset by QueueReset while the device runs */
};

/* What the back-end was given. Under the device's lock, but for kick. */
struct vring_given {
    bool started;  /* the back-end has the ring */
    bool has_base; /* it has stopped, and said where */
    uint32_t base; /* GET_VRING_BASE's answer */
    bool direct;   /* KVM signals kick: a kick needs no exit */
    int spare;     /* the eventfd that kick will be, made early; or -1 */
    /*
     * The eventfd, -1 until the ring is first used; after that it stays.
     * Written under the lock, with release order when the eventfd is made; read
     * by any vCPU without the lock, with acquire order: a number that is seen
     * here is that of a descriptor which is open.
     */
    atomic_int kick;
};

/* The rings of a device: two arrays of n. Under the device's lock. */
struct vrings {
    unsigned n;
    struct helper *helper;    /* signals and closes kicks; borrowed, or NULL */
    uint64_t driver_features; /* accepted by the driver: the rings' layout */
    struct vring *ring;
    struct vring_given *given;
};

/* n rings that nobody has programmed or been given.
 *   -ENOMEM  out of memory */
int vrings_init(struct vrings *rings, unsigned n);
/* Make the eventfds of all kicks, so that none is missing later.
 *   -EMFILE  and others, as of eventfd() */
int vrings_make_kicks(struct vrings *rings);
/* Closes the kick descriptors. Safe on one that is all zero. */
void vrings_fini(struct vrings *rings);

/* The descriptor, or -1. Any thread. */
static inline int vring_kick_fd(const struct vring_given *given)
{
    return atomic_load_explicit(&given->kick, memory_order_acquire);
}

#endif
