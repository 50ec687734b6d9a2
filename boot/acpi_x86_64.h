/*
 * ACPI tables, hardware-reduced: a kernel finds its processors, the IOAPIC, the
 * serial ports, a LNRO0005 device for each virtio-mmio device, and how to power
 * off and to reset. There is no SCI, no PM timer, no PIC, PIT or RTC in them: a
 * kernel takes time from the TSC and KVM's clock.
 */
#ifndef HUSK_BOOT_ACPI_X86_64_H
#define HUSK_BOOT_ACPI_X86_64_H

#include "boot/board.h"

/*
 * Write RSDP, DSDT, FADT, MADT and XSDT from LAYOUT_ACPI up, below
 * LAYOUT_MPTABLE. *rsdp is the root pointer.
 *   -E2BIG   so many processors and devices do not fit
 *   -ENOMEM  guest memory does not reach that far
 */
int acpi_write(const struct boot_board *board, gpa_t *rsdp,
               struct husk_err *err);

#endif
