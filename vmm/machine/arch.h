/*
 * What differs by architecture, one contract. The files that keep it are chosen
 * by name: arch_NAME.c (addresses, interrupt controllers), board_NAME.c (the
 * parts on its buses), vcpu_NAME.c (processor state and exits), cache_NAME.c.
 */
#ifndef HUSK_VMM_MACHINE_ARCH_H
#define HUSK_VMM_MACHINE_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/uart.h"
#include "husk.h"
#include "vmm/machine/entry.h"
#include "vmm/machine/mem.h"

struct machine;
struct vcpu;

/* The architecture's own part of a machine; machine->arch, NULL until
 * arch_machine_init(). */
struct arch_machine;

/* Where guest memory lies, and where the virtio windows do. */
extern const struct mem_layout arch_ram;
extern const gpa_t arch_virtio_base;
/* The lowest address for the devices' shared memory, which is above all RAM
 * too. */
extern const gpa_t arch_shm_base;
/* The pvpanic register. */
extern const gpa_t arch_panic_base;

/* The argument of KVM_CREATE_VM. */
unsigned long arch_vm_type(int kvm_fd);

/* Guest physical addresses that the processor has, in bits. */
unsigned arch_address_bits(const struct machine *machine);

/* Interrupt pin of device number index, as the guest's tables name it; pins
 * repeat when they run out. */
uint32_t arch_virtio_pin(unsigned index);
/* How many pins there are for devices. */
unsigned arch_virtio_pins(void);
/* KVM_IRQFD's number of an interrupt pin. */
uint32_t arch_irqfd_gsi(uint32_t pin);

/* Interrupt controllers and timers; the board's parts on its buses, with the
 * serial port that console is for. After the memory slots, before the vCPUs. */
int arch_machine_init(struct machine *machine, const struct uart_sink *console,
                      struct husk_err *err);
/* What can only be set up when all vCPUs exist. */
int arch_machine_ready(struct machine *machine, struct husk_err *err);
/* Accepts a machine whose init failed or was never called. */
void arch_machine_fini(struct machine *machine);

/* Offer input to the serial port: see uart_input(). */
size_t arch_machine_input(struct machine *machine, const void *data,
                          size_t size);

/* A vCPU as after power-on. */
int arch_vcpu_init(struct vcpu *cpu, struct husk_err *err);

/* Ready the boot vCPU, and guest memory, for a kernel's first instruction. */
int arch_vcpu_enter(struct vcpu *cpu, const struct boot_entry *entry,
                    struct husk_err *err);

/* Where a vCPU that does not run stands: "rip 0x100000, bytes 0f 0b ...". */
void arch_vcpu_where(struct vcpu *cpu, char *text, size_t size);

/* A return from KVM_RUN that only this architecture has: handle it. False: it
 * is not one of those. On the vCPU's thread. */
bool arch_vcpu_exit(struct vcpu *cpu);

#endif
