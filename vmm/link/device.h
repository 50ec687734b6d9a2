/*
 * A device from its SPEC to its end: a back-end that is connected to or
 * started, probed, given its place in the machine, and got back where it goes.
 *
 * Locks of one device, in the order in which they are taken:
 *
 * | lock          | guards                            | taken by             |
 * |---------------|-----------------------------------|----------------------|
 * | box.lock,     | state, fe while it is connected,  | vCPUs, for as long   |
 * | "the device's | transport, recovery, kept notes,  | as a register write  |
 * | lock"         | the register window               | takes; the loop,     |
 * |               |                                   | which does not wait  |
 * | shm.lock      | the mappings of shared memory     | any thread, briefly  |
 *
 * All else belongs to the loop's thread: link, requests, lines, probe; fe while
 * no back-end is connected. State is written by the loop alone, under the lock:
 * the loop reads it without, others with it. is, config, base, gsi and call_fd
 * are fixed before the first vCPU runs. No callback of the VM's is made under
 * the lock, but for wake(), which does not wait.
 */
#ifndef HUSK_VMM_LINK_DEVICE_H
#define HUSK_VMM_LINK_DEVICE_H

#include <ev.h>
#include <stdbool.h>

#include "devices/frontend.h"
#include "devices/mailbox.h"
#include "devices/probe.h"
#include "devices/shm.h"
#include "devices/transport.h"
#include "vmm/link/lines.h"
#include "vmm/link/link.h"
#include "vmm/link/recovery.h"
#include "vmm/link/requests.h"
#include "vmm/link/spec.h"
#include "vmm/machine/machine.h"

struct device;

/* What a device reports to its VM. Loop thread, but for wake(). */
struct device_events {
    void (*ready)(void *ctx, struct device *device);
    /* before it was ready, or before the guest started: err is its line */
    void (*failed)(void *ctx, const struct husk_err *err);
    /* after that: it is lost for good, and the VM goes on */
    void (*lost)(void *ctx, struct device *device);
    /* the reset that device_reboot() began is done, or the device lost */
    void (*settled)(void *ctx, struct device *device);
    void (*log)(void *ctx, enum husk_log level, const char *text);
    void (*wake)(void *ctx); /* call device_wake() on the loop; any thread */
    void *ctx;
};

/* See device.c for what leads from one to another. */
enum device_state {
    DEVICE_NEW,
    DEVICE_CONNECTING, /* until there is a connection */
    DEVICE_PROBING,    /* the back-end is asked what it is */
    DEVICE_KNOWN,      /* it has answered; no place in the machine yet */
    DEVICE_SERVING,    /* it has its place, and a back-end is connected */
    DEVICE_SETTLING,   /* so, and a reset without a guest awaits its answers */
    DEVICE_PAUSING,    /* the back-end is gone: until the next attempt */
    DEVICE_RECONNECTING, /* as CONNECTING, for one that is to come back */
    DEVICE_REPROBING,    /* as PROBING */
    DEVICE_RESTORING,    /* it is put where its predecessor was */
    DEVICE_LOST,         /* for good */
    DEVICE_STATES,
};

/* Notes for the holder of the lock, beside the transport's. */
enum device_note {
    DEVICE_NOTE_HUNG_UP = TRANSPORT_NOTE_RESET << 1,
    DEVICE_NOTE_RING_ERROR = TRANSPORT_NOTE_RESET << 2,
    DEVICE_NOTE_CONFIG = TRANSPORT_NOTE_RESET << 3, /* it has changed */
    DEVICE_NOTE_FAULTED = TRANSPORT_NOTE_RESET << 4,
    DEVICE_NOTES = TRANSPORT_NOTE_RESET * 0x1e,
};

/* Calls for the loop. */
enum device_call {
    DEVICE_CALL_ANSWERS = 1, /* answers are pending, or requests unsent */
    DEVICE_CALL_LOST = 2,    /* the connection is lost */
    DEVICE_CALL_KICKS = 4,   /* KVM has no room for a kick */
    DEVICE_CALL_UNSENT = 8,  /* requests are unsent */
};

struct device {
    struct device_events events;
    struct spec spec;
    enum device_state state;
    struct mailbox box;
    struct lines lines;
    struct link link;
    struct requests requests;
    struct probe probe;
    struct helper *helper; /* owned; any thread */
    struct frontend fe;
    struct transport transport;
    struct shm shm;
    atomic_int shm_loss; /* an enum shm_loss; set before it is noted */
    struct recovery recovery;

    struct identity is;            /* what it is, since it was known */
    uint8_t *config;               /* config space as it was then; owned */
    unsigned round_trips;          /* until then */
    unsigned connections;          /* so far */
    uint64_t t_connected, t_ready; /* the first time; ns, 0 before */

    int call_fd; /* a duplicate of the pin's, owned; -1 before it has a place */
    gpa_t base;
    uint32_t gsi;

    unsigned kept;         /* lock: notes for a back-end that is restored */
    bool config_interrupt; /* lock: config space that arrives interrupts */
    bool kicks_said;       /* loop: that some kicks leave KVM_RUN */
    uint64_t taken;        /* loop: answers when the deadline began */
    double gone_since;     /* loop: seconds of link_now() */
    double serving_since;  /* loop */
};

/* device must be all zero. spec text as of husk_vm_add_device(). */
int device_init(struct device *device, struct ev_loop *loop, const char *spec,
                unsigned index, const struct mem *mem, int stop_fd,
                const struct device_events *events, struct husk_err *err);
/* A back-end that was started has until deadline to end by itself. */
void device_fini(struct device *device, uint64_t deadline);

/* Connect or start, and probe. ready() or failed() follows, perhaps at once.
 *   -errno  it failed at once; failed() does not follow */
int device_start(struct device *device, struct husk_err *err);

/* Ask a back-end that was started to end. */
void device_ask_to_end(struct device *device);

/* Do nothing more on the loop, and say nothing. */
void device_silence(struct device *device);

/* The machine is gone: reset the device for the next one. settled() follows,
 * perhaps at once. */
void device_reboot(struct device *device);

/* See to what the vCPUs left for the loop. */
void device_wake(struct device *device);

/* Bytes of window that a known device needs. */
size_t device_window_size(const struct device *device);

/* KVM_RUN failed for want of a page of guest memory, as shm_fault() has it:
 * true if this device's shared memory may be to blame. A vCPU's thread. */
bool device_faulted(struct device *device, gpa_t gpa, bool again);

/* A file that the guest has as shared memory was cut short, or cannot grow: the
 * device is lost then. Any thread. */
bool device_check_shm(struct device *device);

/* Give the shared memory regions of a known device their places, from base up;
 * *end is where the last one ends. */
void device_place_shm(struct device *device, gpa_t base, gpa_t *end);

/* A known device gets its registers and interrupt. */
int device_place(struct device *device, const struct window *window,
                 const struct mem *mem, uint32_t gsi, int call_fd, int ack_fd,
                 struct husk_err *err);

/* Whether a guest with that memory can start with the back-end that is there.
 *   -errno  its connection is lost, or it has too few memory slots */
int device_check(struct device *device, const struct mem *mem,
                 struct husk_err *err);

/* Put it on the bus of a machine. */
int device_attach(struct device *device, struct machine *machine,
                  struct husk_err *err);

/* For guest.c and place.c, under the device's lock. */

/* A back-end is connected, and knows all that the guest did. */
bool device_is_connected(const struct device *device);
/* The loss of its back-end is not the end of the device. */
bool device_may_return(const struct device *device);
/* It has its registers now, and serves the guest. */
void device_serve(struct device *device);

#endif
