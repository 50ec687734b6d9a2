/*
 * Initial RAM disks: several files become one, high in memory below 4 GiB.
 */
#ifndef HUSK_BOOT_INITRD_H
#define HUSK_BOOT_INITRD_H

#include "boot/board.h"

/* Above this an initrd does not go where no kernel told its own limit. */
#define INITRD_MAX 0x7fffffffu

/*
 * Join count files in their order, each padded with zeros to whole words of
 * four bytes, as cpio archives have to begin; place them on a page as high as
 * memory and last, the highest byte allowed, let them. Nothing is written below
 * floor, the kernel's end. *address and *size are for the board.
 *   -EINVAL  a file is empty
 *   -ENOMEM  they do not fit; err says how much is needed and how much there is
 */
int initrd_load(const struct mem *mem, const struct file *file, unsigned count,
                gpa_t floor, gpa_t last, gpa_t *address, uint64_t *size,
                struct husk_err *err);

#endif
