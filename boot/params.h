/*
 * What a kernel is handed at its entry: Linux's boot_params (the 64-bit boot
 * protocol of Documentation/arch/x86/boot.rst) or PVH's hvm_start_info, with
 * the command line, the memory map and, for boot_params, the device tree.
 */
#ifndef HUSK_BOOT_PARAMS_H
#define HUSK_BOOT_PARAMS_H

#include "boot/board.h"

/*
 * Write boot_params, command line, e820 map and the tree (SETUP_DTB) into low
 * memory; entry->info is set. tree may be NULL.
 *   -E2BIG   the command line or the tree is longer than its place
 *   -ENOMEM  guest memory is too small for them
 */
int params_linux(const struct boot_board *board, const void *tree,
                 size_t tree_size, struct boot_entry *entry,
                 struct husk_err *err);

/* The same for PVH: hvm_start_info, command line and memory map. */
int params_pvh(const struct boot_board *board, struct boot_entry *entry,
               struct husk_err *err);

#endif
