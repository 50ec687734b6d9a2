/*
 * What a kernel is handed at its entry: Linux's boot_params (the 64-bit boot
 * protocol of Documentation/arch/x86/boot.rst) or PVH's hvm_start_info, with
 * the command line, the memory map and, for boot_params, the device tree.
 */
#ifndef HUSK_BOOT_PARAMS_X86_64_H
#define HUSK_BOOT_PARAMS_X86_64_H

#include "boot/board.h"
#include "vmm/machine/entry.h"

/* Linux on x86 takes no longer command line, its final zero not counted. */
#define PARAMS_MAX_CMDLINE 2047u

/* What boot_params hold beyond the board. All zeros: none of it. */
struct params {
    const void *header; /* a bzImage's setup header: its bytes from 0x1f1 on */
    size_t header_size;
    const void *tree; /* device tree */
    size_t tree_size;
    gpa_t rsdp; /* ACPI's root pointer */
};

/*
 * Write boot_params to LAYOUT_PARAMS, the command line to LAYOUT_CMDLINE, and
 * setup data (the random seed, then SETUP_DTB) to LAYOUT_SETUP_DATA; set
 * entry->info. The initrd is the board's.
 *   -E2BIG   the command line, the tree or the header is longer than its place
 *   -ENOMEM  guest memory is too small for them
 */
int params_linux(const struct boot_board *board, const struct params *params,
                 struct boot_entry *entry, struct husk_err *err);

/*
 * The same for PVH: hvm_start_info, module list and memory map go to
 * LAYOUT_PVH_INFO, the command line to LAYOUT_CMDLINE. There is no place for a
 * tree in it.
 */
int params_pvh(const struct boot_board *board, gpa_t rsdp,
               struct boot_entry *entry, struct husk_err *err);

#endif
