/*
 * The MultiProcessor table, and the words of the command line, for kernels that
 * have neither ACPI nor a device tree: the table gives them processors, IOAPIC
 * and the interrupts in use, the words their virtio-mmio devices.
 */
#ifndef HUSK_BOOT_MPTABLE_X86_64_H
#define HUSK_BOOT_MPTABLE_X86_64_H

#include "boot/board.h"

/*
 * Write the floating pointer and the configuration table to LAYOUT_MPTABLE,
 * inside the last 64 KiB below 1 MiB, where kernels search.
 *   -E2BIG   more processors than its eight-bit APIC ids can tell
 *   -EINVAL  a device's interrupt is no pin of the IOAPIC
 *   -ENOMEM  guest memory does not reach that far
 */
int mptable_write(const struct boot_board *board, struct husk_err *err);

/*
 * The board's command line, then " virtio_mmio.device=SIZE@ADDRESS:PIN" for
 * each device, in their order, as a string of at most size bytes at line.
 *   -E2BIG  it does not fit; err says how long it is
 */
int mptable_cmdline(const struct boot_board *board, char *line, size_t size,
                    struct husk_err *err);

#endif
