/*
 * A VM across its boots: what husk.h hands out as an opaque handle.
 *
 * The struct belongs to the thread that runs the loop. What other threads touch
 * has a lock of its own, or is atomic:
 *
 *   lock          guards                        taken by
 *   end.lock      the reason for the end        any thread
 *   log.lock      messages for the embedder     any thread, under any lock
 *   console.lock  output on its way             vCPUs, the loop
 *   a UART's      its registers and input       vCPUs, the loop
 *   a device's    its transport and connection  vCPUs, the loop (trylock)
 *
 * end.lock, log.lock and console.lock are leaves: whoever holds one takes no
 * other. A UART's lock may be held when console.lock is taken, a device's when
 * log.lock is. No callback of the embedder's runs under any of them.
 */
#ifndef HUSK_VMM_VM_H
#define HUSK_VMM_VM_H

#include <ev.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "husk.h"
#include "vmm/console.h"
#include "vmm/end.h"
#include "vmm/link/device.h"
#include "vmm/log.h"
#include "vmm/machine/file.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/mem.h"

#define VM_MAX_DEVICES 32
#define VM_MAX_PINS    32

/*
 *   NEW ── probe() ──> PROBING ── all ready ──> PROBED
 *    └──── start() ──> PROBING ── all ready, machine built ──> RUNNING
 *   PROBED ── start(), machine built ──> RUNNING
 *   RUNNING ── reset, reset_again ──> REBOOTING ── all settled ──> RUNNING
 *   any of these ── a reason for the end ──> DRAINING ── written ──> ENDED
 *   NEW, PROBING, PROBED ── probe() or start() fails ──> FAILED
 */
enum vm_state {
    VM_NEW,
    VM_PROBING, /* the back-ends are being connected and probed */
    VM_PROBED,  /* husk_vm_probe() is done, no machine yet */
    VM_RUNNING,
    VM_REBOOTING, /* no vCPU runs; the devices are being reset */
    VM_DRAINING,  /* no vCPU runs; output is being written */
    VM_ENDED,
    VM_FAILED, /* a call returned an error: only destroy may follow */
};

/* What a boot, or the answer of husk_vm_probe(), still waits for. */
#define VM_WAITS_DEVICES 1u /* until all are ready, or have been reset */
#define VM_WAITS_MACHINE 2u

/* When it came, CLOCK_MONOTONIC in ns; 0: not yet. Of the first boot. */
struct vm_times {
    uint64_t create, start, memory, setup, probed, loaded, entry, entered;
    struct machine_times machine;
};

struct husk_vm {
    struct ev_loop *loop;      /* fixed at creation */
    struct husk_config config; /* the same; its strings are the VM's own */
    char *kernel, *append, *initrds[HUSK_MAX_INITRDS];
    unsigned n_initrds;

    /* the loop's thread */
    struct {
        struct file kernel, initrd[HUSK_MAX_INITRDS];
    } images; /* content of these files, while a boot may need it */
    enum vm_state state;
    bool boots_guest; /* husk_vm_start() was called: not only a probe */
    unsigned waits;   /* VM_WAITS_... */
    bool known;       /* the devices have their registers, and a tree */
    bool has_machine; /* built, as a whole */
    unsigned n_devices, n_ready, n_lost, n_settled, boots;
    struct mem mem;         /* made once; any thread reads it after that */
    gpa_t shm_end;          /* where the devices' shared memory ends */
    struct windows windows; /* made once; each page under its device's lock */
    struct machine machine; /* vCPU threads too: see machine.h */
    struct device *devices[VM_MAX_DEVICES];
    int pin_fd[VM_MAX_PINS]; /* call eventfds, -1: not used */
    int ack_fd;
    ev_io on_stop, on_output;
    ev_timer timeout, drain;
    size_t drain_left;
    struct vm_times times;
    struct vcpu_exits exits; /* of machines that are gone */

    /* any thread, each by its own rules */
    struct console console;
    struct end end;
    struct log log;
    int stop_fd; /* fixed; readable when the run ends, for whatever reason */
    atomic_bool room; /* input is taken again; the loop clears it */
    ev_async wake;
};

/* Get the loop to look at what other threads left for it. Any thread. */
void vm_wake(void *ctx);

/* A message for the embedder: it gets it on the loop, under no lock. Any
 * thread, under any lock. */
void vm_log(void *ctx, enum husk_log level, const char *text);
/* Loop, under no lock: hand out what waits. */
void vm_hand_out_log(struct husk_vm *vm);

/* End the run, unless something ended it before. Any thread. */
void vm_end(struct husk_vm *vm, enum husk_outcome outcome, long value,
            const char *text);
/* Make stop_fd readable. Any thread; async-signal-safe. */
void vm_signal_stop(struct husk_vm *vm);

/* Copy what the VM needs of the embedder's configuration.
 *   -EINVAL, -ENOMEM  as husk_vm_create() */
int vm_take_config(struct husk_vm *vm, const struct husk_config *config,
                   struct husk_err *err);
void vm_free_config(struct husk_vm *vm);

/* The devices' events: see struct device_events. */
extern const struct device_events vm_device_events;

/*
 * Loop: boot, or report the probe's answers, if nothing is waited for any more.
 * Whatever a boot waits for calls this when it has come.
 */
int vm_go_on(struct husk_vm *vm, struct husk_err *err);
/* The same, and an error ends the run. */
void vm_go_on_or_end(struct husk_vm *vm);

/* Loop: stop and take away the machine, reset the devices, boot again. */
void vm_reboot(struct husk_vm *vm);
/* Loop: stop the machine and add up what its vCPUs counted. */
void vm_stop_machine(struct husk_vm *vm);

/* Loop: stop the machine, write the output that waits; ended() follows. */
void vm_finish(struct husk_vm *vm);
/* Loop: no watcher is active any more, but for the wake-up. */
void vm_stop_watchers(struct husk_vm *vm);
/* Loop: write console output that waits, as much as is taken at once. */
void vm_flush_console(struct husk_vm *vm);
void vm_on_output(struct ev_loop *loop, ev_io *watcher, int revents);
void vm_on_drain(struct ev_loop *loop, ev_timer *watcher, int revents);

/* The board: where devices lie. See board.c. */
int board_place(struct husk_vm *vm, struct husk_err *err);
int board_attach(struct husk_vm *vm, struct husk_err *err);

/* Read kernel and initrds into vm->images; after an error nothing is there. */
int vm_read_images(struct husk_vm *vm, struct husk_err *err);
void vm_free_images(struct husk_vm *vm);

/*
 * Load the images, tree and parameters into guest memory; free the images
 * unless a reset boots again. fresh: guest memory is all zeros.
 */
int vm_load(struct husk_vm *vm, bool fresh, struct boot_entry *entry,
            struct husk_err *err);

/* The tree that describes this VM's board; the caller frees *blob. */
int vm_tree(const struct husk_vm *vm, void **blob, size_t *size,
            struct husk_err *err);

#endif
