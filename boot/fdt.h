/*
 * The device tree of the board, built with libfdt: memory, cpus, chosen, the
 * interrupt controllers, the serial port and a virtio,mmio node a device.
 */
#ifndef HUSK_BOOT_FDT_H
#define HUSK_BOOT_FDT_H

#include "boot/board.h"

/*
 * Build the tree. *blob is heap memory that the caller frees.
 *   -ENOMEM  no memory, or the tree outgrew every sensible size
 *   -EINVAL  libfdt refused the tree; err has its words
 */
int fdt_build(const struct boot_board *board, void **blob, size_t *size,
              struct husk_err *err);

#endif
