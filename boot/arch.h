/*
 * What differs by architecture when a kernel is loaded, one contract: the
 * formats of its kernels, what they expect in memory, and its part of the
 * device tree. arch_x86_64.c and fdt_x86_64.c keep it for x86_64; the files are
 * chosen by name.
 */
#ifndef HUSK_BOOT_ARCH_H
#define HUSK_BOOT_ARCH_H

#include <stdbool.h>

#include "boot/board.h"
#include "boot/elf.h"
#include "boot/tree.h"
#include "vmm/machine/entry.h"

/* A loaded kernel, and what is needed to go on. */
struct boot_image {
    struct boot_entry entry; /* without info */
    gpa_t end;               /* of the memory that the kernel needs at first */
    gpa_t initrd_max;        /* last byte that an initrd may take */
    size_t cmdline_max;      /* bytes, the final zero not counted */
    const void *header;      /* part of the file that goes into the kernel's */
    size_t header_size;      /* parameters, or NULL */
    bool is_linux;
};

struct boot_format {
    /* Whether a file is of this format. */
    bool (*is)(const void *data, size_t size);
    /*
     * Load it. Guest memory is touched only if every field is right. fresh:
     * guest memory is all zeros.
     *   -ENOEXEC  the file is broken; err names the field
     *   -ENOMEM   guest memory is too small
     */
    int (*load)(const struct mem *mem, const struct file *file, bool fresh,
                struct boot_image *image, struct husk_err *err);
};

/* The kernels of this architecture; the first that matches is taken. */
extern const struct boot_format boot_arch_formats[];
extern const unsigned boot_arch_n_formats;

/* The ELF files among them. */
extern const struct elf_target boot_arch_elf;

/* Images are loaded from this address up. */
extern const gpa_t boot_arch_lowest;

/* The longest command line that any kernel takes, without the final zero. */
extern const size_t boot_arch_max_cmdline;

/*
 * Write all that the kernel expects in memory besides itself and its initrd:
 * the tables (a set of IMAGE_..., or 0 for what suits the kernel) and the
 * parameters. Sets image->entry.info.
 *   -E2BIG   the command line or a table is longer than its place
 *   -EINVAL  a table cannot describe a device, or this architecture has no such
 *            table
 *   -ENOMEM  guest memory is too small, or the host's
 */
int boot_arch_write(const struct boot_board *board, unsigned tables,
                    struct boot_image *image, struct husk_err *err);

/* The device tree: /chosen's stdout-path. */
extern const char *const boot_arch_stdout;
/* The property that names an interrupt of the controller TREE_CONTROLLER. */
void boot_arch_interrupt(struct tree *t, uint32_t irq);
/* Nodes of the root: processors, interrupt controllers, serial ports, ... */
void boot_arch_nodes(struct tree *t, const struct boot_board *board);

#endif
