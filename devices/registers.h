/*
 * The registers of one transport between the files that serve them:
 * transport.c has the device's own, queues.c those of the selected queue. All
 * but registers_shown() is called under the device's lock.
 */
#ifndef HUSK_DEVICES_REGISTERS_H
#define HUSK_DEVICES_REGISTERS_H

#include <stdatomic.h>

#include "devices/transport.h"
#include "devices/virtio.h"

/*
 * A register as the guest reads it: at memory speed, or by an exit, and in both
 * cases without the lock. The store has release order: a guest that sees the
 * new value also sees what husk wrote to guest memory and to the page before.
 */
static inline void registers_show(struct transport *t, uint32_t offset,
                                  uint32_t value)
{
    atomic_store_explicit((_Atomic uint32_t *)(void *)(t->window.page + offset),
                          value, memory_order_release);
    window_publish(&t->window, offset, sizeof value);
}

/* What it shows now. Relaxed order: every writer holds the lock. */
static inline uint32_t registers_shown(const struct transport *t,
                                       uint32_t offset)
{
    return atomic_load_explicit(
        (_Atomic uint32_t *)(void *)(t->window.page + offset),
        memory_order_relaxed);
}

/* What a call behind the registers returned: a failure loses the device. */
bool registers_went_well(struct transport *t, int rc);

/* DRIVER_OK was written, and no reset since. */
static inline bool registers_running(const struct transport *t)
{
    return t->status & VIRTIO_STATUS_DRIVER_OK;
}

/* The registers of the selected queue, or those of one that is not there. */
void queues_show_selected(struct transport *t);

/* All queues are as at start. Kick descriptors stay. */
void queues_reset(struct transport *t);

/* DRIVER_OK: queues that do not fit are not ready, the others get a kick
 * descriptor. */
void queues_prepare(struct transport *t);

/* A write to a register of the selected queue. */
void queues_write(struct transport *t, uint32_t offset, uint32_t value,
                  uint64_t deadline);

/* QueueNotify. Takes the lock itself where it needs it. */
void queues_notify(struct transport *t, uint32_t index, uint64_t deadline);

#endif
