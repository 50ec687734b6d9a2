/*
 * A vCPU and its thread: KVM_RUN, and the exits that it returns.
 */
#ifndef HUSK_VMM_MACHINE_VCPU_H
#define HUSK_VMM_MACHINE_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "husk.h"

struct kvm_run;
struct machine;

/* Returns from KVM_RUN, by kind. Written by the vCPU's thread, read after it
 * was joined. */
struct vcpu_exits {
    uint64_t io, mmio_read, mmio_write, hlt, other;
};

struct vcpu {
    struct machine *machine;
    unsigned index;
    int fd;
    struct kvm_run *run;
    size_t run_size;
    pthread_t thread;
    bool running; /* loop thread: to be joined */
    struct vcpu_exits exits;
    uint64_t entered; /* its thread: before the first KVM_RUN */
};

/* Make vCPU number index of the machine. The struct may be all zero but fd -1
 * on failure; vcpu_fini() is safe then too. */
int vcpu_init(struct vcpu *cpu, struct machine *machine, unsigned index,
              struct husk_err *err);
void vcpu_fini(struct vcpu *cpu);

int vcpu_start(struct vcpu *cpu, struct husk_err *err);

/* Get it out of KVM_RUN, whatever it does. The machine is stopping already.
 * Loop thread. */
void vcpu_kick(struct vcpu *cpu);
void vcpu_join(struct vcpu *cpu);

#endif
