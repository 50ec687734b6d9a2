/*
 * The virtio-mmio transport: the register file of VIRTIO 1.2, section 4.2.2
 * (version 2, no legacy interface), for a device of any type. Reads are served
 * by a page that the guest reads without leaving KVM_RUN; writes come here.
 *
 * A deliberate deviation from 4.2.2.1: after DRIVER_OK InterruptStatus holds
 * the used-buffer bit until reset, since a back-end that signals an eventfd
 * leaves nobody to set it. Drivers look at their rings, as they must anyway.
 */
#ifndef HUSK_DEVICES_TRANSPORT_H
#define HUSK_DEVICES_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/identity.h"
#include "devices/mailbox.h"
#include "devices/shm.h"
#include "devices/vring.h"
#include "vmm/machine/mem.h"
#include "vmm/machine/window.h"

/* What is behind the registers. Every call comes under the device's lock, and
 * returns 0 or the negative errno that lost the device; -ECANCELED when
 * the run ends while it waits. */
struct transport_ops {
    int (*status)(void *ctx, uint8_t status, uint64_t deadline);
    int (*features)(void *ctx, uint64_t features, uint8_t status,
                    bool *accepted, uint64_t deadline);
    int (*start)(void *ctx, const struct vrings *rings, uint8_t status,
                 uint64_t deadline);
    int (*ring_start)(void *ctx, const struct vrings *rings, unsigned index,
                      uint64_t deadline);
    int (*ring_stop)(void *ctx, const struct vrings *rings, unsigned index,
                     uint64_t deadline);
    int (*reset)(void *ctx, const struct vrings *rings, uint64_t deadline);
    int (*send_reset)(void *ctx, const struct vrings *rings); /* no wait */
    int (*config_write)(void *ctx, uint32_t offset, const void *data,
                        uint32_t size, uint64_t deadline);
    /* a kick by message, where rings have no kick descriptor */
    int (*kick)(void *ctx, uint32_t index, uint64_t deadline);
};

/* What a transport is made of. All that is pointed to, and the descriptors,
 * outlive it, but for config. */
struct transport_setup {
    struct mailbox *box; /* the device's lock */
    const struct identity *is;
    const uint8_t *config; /* is->config_size bytes: config space at first */
    const struct shm *shm; /* its shared memory regions, placed; or NULL */
    struct window window;
    const struct mem *mem;
    struct helper *helper; /* signals eventfds, or NULL */
    int call_fd;           /* interrupts the guest */
    int ack_fd;            /* swallows acknowledgements, or -1 */
    double deadline;       /* seconds that one access may take */
    const struct transport_ops *ops;
    void *ctx;
};

#define TRANSPORT_STATUSES 5 /* that a driver can write between resets */

/*
 * | fields                        | who                                     |
 * |-------------------------------|-----------------------------------------|
 * | box to ack_fd                 | fixed by transport_init(); any thread   |
 * | the registers in window.page  | written under the lock, read without    |
 * | rings.given[].kick            | written under the lock, read without    |
 * | the rest                      | under the device's lock, box->lock      |
 */
struct transport {
    struct mailbox *box;
    struct window window;
    const struct mem *mem;
    const struct transport_ops *ops;
    void *ctx;
    const struct identity *is;
    const struct shm *shm;
    double deadline;
    uint64_t shown;  /* features that the guest sees */
    int call_fd;     /* interrupts the guest; borrowed */
    int ack_fd;      /* swallows acknowledgements; borrowed */
    bool ack_direct; /* KVM swallows acknowledgements */

    struct vrings rings; /* is->vqs of them */
    uint32_t feature_sel, driver_sel, queue_sel, shm_sel;
    bool driver_beyond; /* the guest accepted a bit above 63 */
    uint8_t status;
    /* statuses in the order in which the driver wrote them, since reset */
    uint8_t history[TRANSPORT_STATUSES];
    unsigned n_history;
    uint64_t epoch; /* one more with everything that a new back-end must know */
    bool lost;      /* for good: FEATURES_OK never again */
    uint64_t kicks_refused; /* rings whose kicks KVM could not take */
};

/* The bytes of window that a device with so much config space needs: whole
 * pages. */
size_t transport_window_size(uint32_t config_size);

/* The features of these that belong to devices and are shown to guests. */
uint64_t transport_shown(uint64_t features);

/* The device as it is at start.
 *   -ENOMEM  out of memory
 *   -EMFILE  no descriptor for each ring's kicks */
int transport_init(struct transport *t, const struct transport_setup *setup);
void transport_fini(struct transport *t);

/* A guest's access, on its vCPU's thread. Reads past the window's end give 0.
 * Neither takes longer than the deadline. */
void transport_read(struct transport *t, uint64_t offset, void *data,
                    unsigned size);
void transport_write(struct transport *t, uint64_t offset, const void *data,
                     unsigned size);

/* A note in the box: the guest reset the device, but could not have the lock in
 * time. Whoever reads it calls transport_late_reset(). The device's own notes
 * begin above it. */
#define TRANSPORT_NOTE_RESET 1u

/* The reset, without waiting: the back-end's answers are pending when this
 * returns. Under the lock. */
void transport_late_reset(struct transport *t);

/* The config space is now these bytes; interrupt the guest if notify. Under
 * the lock. */
void transport_config(struct transport *t, const uint8_t *config, bool notify);

/* The device cannot go on until it is reset; for good if lost. Under the
 * lock. */
void transport_needs_reset(struct transport *t, bool lost);

/*
 * The machine is gone and another one comes: as after a reset, and kicks leave
 * KVM_RUN until the device starts again. The back-end's answers are pending
 * when this returns. No vCPU runs. Under the lock.
 */
void transport_reboot(struct transport *t);

#endif
