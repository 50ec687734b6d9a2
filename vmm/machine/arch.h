/*
 * What differs by architecture, one contract. The file that keeps it is chosen
 * by name: arch_x86_64.c.
 */
#ifndef HUSK_VMM_MACHINE_ARCH_H
#define HUSK_VMM_MACHINE_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "husk.h"
#include "vmm/machine/entry.h"

struct machine;
struct vcpu;
struct kvm_cpuid2;

/* Per machine. */
struct arch_machine {
    struct kvm_cpuid2 *cpuid; /* what the host offers, fetched once */
    bool tsc_deadline;        /* the local APIC's timer has that mode */
};

/* The hole in guest memory, and where virtio windows lie. */
extern const gpa_t arch_hole_start, arch_hole_end, arch_virtio_base;
/* The pvpanic register. */
extern const gpa_t arch_panic_base;

/* Guest physical addresses that the processor has, in bits. */
unsigned arch_address_bits(const struct machine *machine);

/* Interrupt pin of device number index; pins repeat when they run out. */
uint32_t arch_virtio_pin(unsigned index);
/* How many pins there are for devices. */
unsigned arch_virtio_pins(void);

/* Interrupt controllers and timers. After the memory slots. */
int arch_machine_init(struct machine *machine, struct husk_err *err);
void arch_machine_fini(struct machine *machine);

/* The board's parts on the machine's buses: reads like a parts list. */
int arch_machine_wire(struct machine *machine, struct husk_err *err);

/* A vCPU as after power-on. */
int arch_vcpu_init(struct vcpu *cpu, struct husk_err *err);

/* Ready the boot vCPU, and guest memory, for a kernel's first instruction. */
int arch_vcpu_enter(struct vcpu *cpu, const struct boot_entry *entry,
                    struct husk_err *err);

/* Where a vCPU that does not run stands: "rip 0x100000, bytes 0f 0b ...". */
void arch_vcpu_where(struct vcpu *cpu, char *text, size_t size);

#endif
