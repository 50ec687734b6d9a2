/* What arch_x86_64.c, board_x86_64.c and vcpu_x86_64.c share. */
#ifndef HUSK_VMM_MACHINE_X86_64_H
#define HUSK_VMM_MACHINE_X86_64_H

#include "vmm/machine/arch.h"
#include "vmm/machine/bus.h"

struct kvm_cpuid2;

struct arch_machine {
    struct kvm_cpuid2 *cpuid; /* what the host offers, fetched once */
    bool tsc_deadline;        /* the local APIC's timer has that mode */
    struct bus pio;           /* ports; filled before the vCPUs start */
    struct uart uart;
};

/* The board's parts on the machine's buses: reads like a parts list. */
int board_wire(struct machine *machine, struct husk_err *err);

#endif
