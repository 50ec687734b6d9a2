/*
 * Initial RAM disks: several files become one, high in the first region of
 * guest memory.
 */
#ifndef HUSK_BOOT_INITRD_H
#define HUSK_BOOT_INITRD_H

#include "boot/board.h"

/*
 * Join count files in their order, each padded with zeros to a multiple of four
 * bytes, where a cpio archive has to begin. They are placed on a page, as high
 * as memory and last, the highest byte allowed, permit, and not below floor.
 * *address and *size are for the board.
 *   -EINVAL  a file is empty
 *   -ENOMEM  they do not fit; err says how much is needed and how much there is
 */
int initrd_load(const struct mem *mem, const struct file *file, unsigned count,
                gpa_t floor, gpa_t last, gpa_t *address, uint64_t *size,
                struct husk_err *err);

#endif
