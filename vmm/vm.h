/* A VM across its boots: what husk.h hands out as an opaque handle. */
#ifndef HUSK_VMM_VM_H
#define HUSK_VMM_VM_H

#include <ev.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "husk.h"
#include "vmm/console.h"
#include "vmm/link/device.h"
#include "vmm/machine/file.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/mem.h"

#define VM_MAX_DEVICES 32
#define VM_MAX_PINS    32

enum vm_state {
    VM_NEW,
    VM_PROBING, /* the devices are being asked */
    VM_PROBED,  /* husk_vm_probe() is done, no machine yet */
    VM_RUNNING,
    VM_REBOOTING, /* no vCPU runs; the devices are being reset */
    VM_DRAINING,  /* no vCPU runs; output is being written */
    VM_ENDED,
};

/* Why a run ends. The first reason counts. */
struct vm_end {
    bool set;
    enum husk_outcome outcome;
    long value; /* of the exit port, or -1 */
    char text[256];
};

struct husk_vm {
    struct ev_loop *loop;
    struct husk_config config;
    char *kernel, *append, *initrds[HUSK_MAX_INITRDS]; /* as in config */
    unsigned n_initrds;
    struct {
        struct file kernel, initrd[HUSK_MAX_INITRDS];
    } images; /* content of these files, while a boot may need it */
    enum vm_state state;
    bool boot; /* a machine is wanted, not only answers */

    struct mem mem;
    struct windows windows;
    struct machine machine;
    bool has_machine;
    struct console console;

    struct device *devices[VM_MAX_DEVICES];
    unsigned n_devices, n_ready, n_lost, n_settled, boots;
    int pin_fd[VM_MAX_PINS]; /* call eventfds, -1: not used */
    int ack_fd;

    int stop_fd; /* readable when the run ends, for whatever reason */
    atomic_bool stop;
    pthread_mutex_t lock;
    struct vm_end end; /* lock */
    bool room;         /* lock: input is taken again */

    ev_io on_stop, on_output;
    ev_async wake;
    ev_timer timeout, drain;
    size_t drain_left;

    /* ns, 0: not yet; of the first boot */
    uint64_t t_start, t_setup, t_probed, t_entry, t_end;
    uint64_t t_create, t_memory, t_loaded, t_entered;
    struct machine_times t_machine;
    struct vcpu_exits exits;
};

/* End the run, unless something ended it before. Any thread. */
void vm_end(struct husk_vm *vm, enum husk_outcome outcome, long value,
            const char *text);

/* The machine's events, on vCPUs' threads. */
void vm_on_power(void *ctx, enum power_event event, uint32_t value);
void vm_on_crash(void *ctx, const char *where);
void vm_on_failure(void *ctx, const char *text);

/* Make stop_fd readable. Any thread; async-signal-safe. */
void vm_signal_stop(struct husk_vm *vm);

/* Loop: write console output that waits, as much as is taken at once. */
void vm_flush_console(struct husk_vm *vm);
/* The same when no vCPU runs any more; ended() follows, now or later. */
void vm_drain(struct husk_vm *vm);
void vm_on_output(struct ev_loop *loop, ev_io *watcher, int revents);
void vm_on_drain(struct ev_loop *loop, ev_timer *watcher, int revents);

/*
 * All devices are known: each gets its registers, pin and shared memory, and is
 * put on the machine if that stands. Then attach alone for another machine.
 */
int vm_place_devices(struct husk_vm *vm, struct husk_err *err);
int vm_place_shm(struct husk_vm *vm, struct husk_err *err);
int vm_attach_devices(struct husk_vm *vm, struct husk_err *err);

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
