/*
 * ELF64 kernels: every header field is checked against the file before it is
 * used, and segments are copied to their physical addresses.
 */
#ifndef HUSK_BOOT_ELF_H
#define HUSK_BOOT_ELF_H

#include <stdbool.h>

#include "boot/board.h"

/* The kernels that an architecture takes. */
struct elf_target {
    const char *name;        /* of the architecture */
    unsigned machine;        /* e_machine */
    gpa_t lowest;            /* segments lie from here up */
    const char *note_vendor; /* the note that holds another entry's address; */
    uint32_t note_type;      /* NULL: there is none */
};

struct elf_info {
    gpa_t entry; /* e_entry as a physical address */
    gpa_t end;   /* end of the highest loaded segment, .bss included */
    bool has_note;
    gpa_t note_entry; /* the address in the target's note */
    bool is_linux;    /* it carries a note of the vendor "Linux" */
};

/* Whether the file begins like an ELF file. */
bool elf_is(const void *image, size_t size);

/*
 * Load the kernel of size bytes at image. Guest memory below target->lowest is
 * never written, and none at all unless every field is right. fresh: guest
 * memory is all zeros, so .bss is not written and its pages stay untouched.
 *   -ENOEXEC  a field is wrong; err names it and both values
 *   -ENOMEM   a segment lies outside guest memory
 */
int elf_load(const struct mem *mem, const struct elf_target *target,
             const void *image, size_t size, bool fresh, struct elf_info *info,
             struct husk_err *err);

#endif
