/*
 * One boot's worth of machine: the KVM virtual machine, its slots, chips,
 * vCPUs, buses and board devices. A reboot makes a new one around the same
 * guest memory and the same back-ends.
 */
#ifndef HUSK_VMM_MACHINE_MACHINE_H
#define HUSK_VMM_MACHINE_MACHINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/power.h"
#include "vmm/machine/arch.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/mem.h"
#include "vmm/machine/vcpu.h"
#include "vmm/machine/window.h"

#define MACHINE_ANYWHERE UINT64_MAX

/* How vCPUs tell the outside that they cannot go on. vCPU threads. */
struct machine_events {
    void (*power)(void *ctx, enum power_event event, uint32_t value);
    /* a triple fault; where is "rip ..." */
    void (*crashed)(void *ctx, const char *where);
    /* KVM or its emulator failed */
    void (*failed)(void *ctx, const char *text);
    /* Guest memory at gpa, or where is not known (MACHINE_ANYWHERE), cannot be
     * had; again: nor could it when this vCPU last tried. True if that is a
     * device's doing, and may have been put right. */
    bool (*faulted)(void *ctx, gpa_t gpa, bool again);
    void *ctx;
};

/* When its parts stood, as sys_now() tells it. */
struct machine_times {
    uint64_t kvm, slots, chips;
};

struct machine {
    const struct mem *mem;
    struct windows *windows; /* NULL without devices */
    bool exits_on_read;      /* no read-only slot over the windows */
    struct machine_events events;
    int kvm_fd, vm_fd;
    uint32_t n_slots;
    int run_size;              /* of a vCPU's shared page */
    struct arch_machine *arch; /* owned */
    struct bus mmio;
    struct power power;
    unsigned n_cpus, max_cpus; /* made so far, and in the end */
    struct vcpu *cpu;
    atomic_bool stopping;
    struct machine_times times;
};

struct machine_config {
    const struct mem *mem;
    struct windows *windows;
    bool exits_on_read; /* no read-only slot over the windows, on purpose */
    unsigned cpus;
    struct uart_sink console;
    struct machine_events events;
};

/*
 * Build it, up to vCPUs that could run. machine_fini() takes also a half-built
 * one.
 *   -ENODEV  /dev/kvm is missing or not usable; err says how
 *   other    KVM refused; err names the call
 */
int machine_init(struct machine *machine, const struct machine_config *config,
                 struct husk_err *err);
void machine_fini(struct machine *machine);

/* Numbers for n more slots of memory, the first of them. */
uint32_t machine_reserve_slots(struct machine *machine, uint32_t n);
/* Put memory into such a slot, or take it away (size 0). Any thread; it costs a
 * grace period or two. 0 or what KVM said; -EBADF when the machine is gone. */
int machine_set_slot(struct machine *machine, uint32_t slot, gpa_t base,
                     uint64_t size, void *host);

/* An eventfd that raises an interrupt pin, by edge. */
int machine_irqfd(struct machine *machine, int eventfd, uint32_t pin,
                  struct husk_err *err);

/* Offer input to the serial port; returns how many bytes were taken. */
size_t machine_input(struct machine *machine, const void *data, size_t size);

/* Start all vCPUs, the first at entry. */
int machine_start(struct machine *machine, const struct boot_entry *entry,
                  struct husk_err *err);

/* Stop and join all vCPUs. Loop thread; safe to repeat. */
void machine_stop(struct machine *machine);

#endif
