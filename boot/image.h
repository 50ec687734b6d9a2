/*
 * From files to a guest that can be entered: one call loads the kernel and its
 * initrds, and writes what a kernel of its kind expects to find in memory.
 */
#ifndef HUSK_BOOT_IMAGE_H
#define HUSK_BOOT_IMAGE_H

#include <stdbool.h>

#include "boot/board.h"
#include "vmm/machine/entry.h"

/* What describes the machine to the kernel. */
#define IMAGE_TREE    1u /* device tree, by SETUP_DTB */
#define IMAGE_ACPI    2u
#define IMAGE_MPTABLE 4u /* MP table and virtio_mmio.device= words */

/*
 * Load kernel and initrds and write all that the kernel expects. tables is a
 * set of IMAGE_..., or 0 for what suits the kernel. The kernels of x86_64 are:
 *
 *   bzImage               64-bit entry, boot_params in rsi
 *   ELF, Linux's vmlinux  the same
 *   ELF with a PVH note   32-bit entry, hvm_start_info in ebx
 *   ELF without one       64-bit entry, boot_params in rsi
 *
 * There 0 is ACPI for PVH and for Linux, the tree for a Linux whose command
 * line has "acpi=off" and for other ELF kernels. PVH has no place for a tree,
 * and ignores IMAGE_TREE. All other files are refused; err says what they are.
 *
 * board.initrd and .initrd_size are not read: they are found here. The files
 * are borrowed for the call. fresh: guest memory is all zeros.
 *   -ENOEXEC  the kernel is broken, or of a format that is not booted
 *   -ENOMEM   guest memory is too small, or the host's
 *   -EINVAL   an initrd is empty, or a device does not fit a table
 *   -E2BIG    the command line or a table is longer than its place
 */
int image_boot(const struct boot_board *board, const struct file *kernel,
               const struct file *initrd, unsigned n_initrd, unsigned tables,
               bool fresh, struct boot_entry *entry, struct husk_err *err);

#endif
