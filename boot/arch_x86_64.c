/*
 * x86_64: ELF kernels and bzImages, entered in 64-bit mode with boot_params or
 * in 32-bit mode with PVH's start info; the reset vector; and the choice of
 * tables by the kernel's kind.
 */
#include "boot/arch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi_x86_64.h"
#include "boot/bzimage.h"
#include "boot/fdt.h"
#include "boot/image.h"
#include "boot/mptable_x86_64.h"
#include "boot/params_x86_64.h"
#include "boot/rom_x86_64.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

/* The last byte of an initrd for a kernel that does not give its own limit. */
#define INITRD_MAX 0x7fffffffu

const gpa_t boot_arch_lowest = LAYOUT_HIGH_START;
const size_t boot_arch_max_cmdline = PARAMS_MAX_CMDLINE;

const struct elf_target boot_arch_elf = {
    .name = "x86_64",
    .machine = 62,
    .lowest = LAYOUT_HIGH_START,
    .note_vendor = "Xen",
    .note_type = 18, /* XEN_ELFNOTE_PHYS32_ENTRY, PVH's */
};

static int load_elf(const struct mem *mem, const struct file *file, bool fresh,
                    struct boot_image *image, struct husk_err *err)
{
    struct elf_info info;
    int rc = elf_load(mem, &boot_arch_elf, file->data, file->size, fresh, &info,
                      err);

    if (rc < 0)
        return rc;
    *image = (struct boot_image){ .entry.mode = BOOT_LONG64,
                                  .entry.entry = info.entry,
                                  .end = info.end,
                                  .initrd_max = INITRD_MAX,
                                  .cmdline_max = PARAMS_MAX_CMDLINE,
                                  .is_linux = info.is_linux };
    if (info.has_note && !info.is_linux) {
        image->entry.mode = BOOT_PVH32;
        image->entry.entry = info.note_entry;
    }
    return 0;
}

static int load_bzimage(const struct mem *mem, const struct file *file,
                        bool fresh, struct boot_image *image,
                        struct husk_err *err)
{
    struct bzimage_info info;
    int rc = bzimage_load(mem, file->data, file->size, &info, err);

    (void)fresh; /* the kernel clears its own .bss */
    if (rc < 0)
        return rc;
    *image = (struct boot_image){ .entry.mode = BOOT_LONG64,
                                  .entry.entry = info.entry,
                                  .end = info.end,
                                  .initrd_max = info.initrd_max,
                                  .cmdline_max = info.cmdline_max,
                                  .header = info.header,
                                  .header_size = info.header_size,
                                  .is_linux = true };
    return 0;
}

const struct boot_format boot_arch_formats[] = {
    { elf_is, load_elf },
    { bzimage_is, load_bzimage },
};
const unsigned boot_arch_n_formats =
    sizeof boot_arch_formats / sizeof boot_arch_formats[0];

/* Whether the command line has this word. */
static bool has_word(const char *line, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = strstr(line, word); at != NULL;
         at = strstr(at + 1, word))
        if ((at == line || at[-1] == ' ') &&
            (at[length] == '\0' || at[length] == ' '))
            return true;
    return false;
}

static unsigned choose_tables(const struct boot_image *image,
                              const char *cmdline)
{
    if (image->entry.mode == BOOT_PVH32)
        return IMAGE_ACPI;
    if (image->is_linux && !has_word(cmdline, "acpi=off"))
        return IMAGE_ACPI;
    return IMAGE_TREE;
}

static int write_linux_params(const struct boot_board *board, unsigned tables,
                              gpa_t rsdp, struct boot_image *image,
                              struct husk_err *err)
{
    struct params params = { .header = image->header,
                             .header_size = image->header_size,
                             .rsdp = rsdp };
    void *tree = NULL;
    int rc;

    if ((tables & IMAGE_TREE) != 0 &&
        (rc = fdt_build(board, &tree, &params.tree_size, err)) < 0)
        return rc;
    params.tree = tree;
    rc = params_linux(board, &params, &image->entry, err);
    free(tree);
    return rc;
}

static int write_params(const struct boot_board *board, unsigned tables,
                        gpa_t rsdp, struct boot_image *image,
                        struct husk_err *err)
{
    size_t length = strlen(board->cmdline);

    if (length > image->cmdline_max)
        return fail(err, -E2BIG,
                    "the command line is %zu bytes long, this kernel takes "
                    "%zu (cmdline_size): make it shorter",
                    length, image->cmdline_max);
    if (image->entry.mode == BOOT_PVH32)
        return params_pvh(board, rsdp, &image->entry, err);
    return write_linux_params(board, tables, rsdp, image, err);
}

int boot_arch_write(const struct boot_board *board, unsigned tables,
                    struct boot_image *image, struct husk_err *err)
{
    char cmdline[PARAMS_MAX_CMDLINE + 1];
    struct boot_board extended = *board;
    gpa_t rsdp = 0;
    int rc;

    if (tables == 0)
        tables = choose_tables(image, board->cmdline);
    if ((rc = rom_write(board->mem, err)) < 0)
        return rc;
    if ((tables & IMAGE_ACPI) != 0 && (rc = acpi_write(board, &rsdp, err)) < 0)
        return rc;
    if ((tables & IMAGE_MPTABLE) != 0) {
        if ((rc = mptable_write(board, err)) < 0 ||
            (rc = mptable_cmdline(board, cmdline, sizeof cmdline, err)) < 0)
            return rc;
        extended.cmdline = cmdline;
    }
    return write_params(&extended, tables, rsdp, image, err);
}
