/*
 * ELF64 kernels: every header field is checked against the file before it is
 * used, and segments are copied to their physical addresses.
 */
#ifndef HUSK_BOOT_ELF_H
#define HUSK_BOOT_ELF_H

#include <stdbool.h>

#include "boot/board.h"

struct elf_info {
    gpa_t entry; /* e_entry as a physical address */
    gpa_t end;   /* end of the highest loaded segment, .bss included */
    bool has_pvh;
    gpa_t pvh_entry; /* of the XEN_ELFNOTE_PHYS32_ENTRY note */
    bool is_linux;   /* it carries a note of Linux's own */
};

/* Whether the file begins like an ELF file. */
bool elf_is(const void *image, size_t size);

/*
 * Load the kernel of size bytes at image. No memory of the guest's below
 * LAYOUT_HIGH_START is touched, and none at all unless every field is right.
 * fresh says that guest memory is still all zeros, so that .bss needs no write
 * and its pages stay untouched; at a reboot it is false.
 *   -ENOEXEC  a field is wrong; err names it and both values
 *   -ENOMEM   a segment lies outside guest memory
 */
int elf_load(const struct mem *mem, const void *image, size_t size, bool fresh,
             struct elf_info *info, struct husk_err *err);

#endif
