/*
 * Tells kernel images apart by their first bytes and calls the loaders in
 * order: kernel, initrds above it, tables, and last the parameters that point
 * to them all. Refuses what is no 64-bit x86 kernel, and says what it is.
 */
#include "boot/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi.h"
#include "boot/bytes.h"
#include "boot/bzimage.h"
#include "boot/elf.h"
#include "boot/fdt.h"
#include "boot/initrd.h"
#include "boot/mptable.h"
#include "boot/params.h"
#include "boot/rom.h"
#include "vmm/machine/fail.h"

/* A loaded kernel, and what is left to know of it. */
struct image {
    struct boot_entry entry;
    gpa_t end;
    gpa_t initrd_max;
    size_t cmdline_max;
    const void *header;
    size_t header_size;
    bool is_linux;
};

/* Files that people hand over in a kernel's place. */
static const struct {
    unsigned offset, length;
    const char *magic;
    const char *what;
} strangers[] = {
    { 56, 4, "ARM\x64", "an arm64 Image, this machine is x86_64" },
    { 48, 4, "RISC", "a RISC-V Image, this machine is x86_64" },
    { 0, 2, "\x1f\x8b", "compressed by gzip: unpack it first" },
    { 0, 4, "\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first" },
    { 0, 6, "\xfd\x37zXZ", "compressed by xz: unpack it first" },
    { 0, 3, "BZh", "compressed by bzip2: unpack it first" },
    { 0, 4, "\x02\x21\x4c\x18", "compressed by lz4: unpack it first" },
    { 0, 4, "\x04\x22\x4d\x18", "compressed by lz4: unpack it first" },
    { 0, 4, "\x27\x05\x19\x56", "a U-Boot image, which is not booted" },
    { 0, 4, "\xd0\x0d\xfe\xed", "a device tree or FIT, no kernel" },
    { 0, 5, "07070", "a cpio archive: an initrd, no kernel" },
    { 0, 7, "!<arch>", "an archive or a Debian package, no kernel" },
    { 0, 4, "QFI\xfb", "a qcow2 disk, no kernel" },
    { 0x8001, 5, "CD001", "a CD image, no kernel" },
    { 0, 4, "\xcf\xfa\xed\xfe", "a Mach-O file, which is not booted" },
    { 0, 2, "MZ", "an EFI program without a Linux kernel's header" },
    { 0, 4, "\x07\x01\x64\x00", "an a.out file, which is not booted" },
    { 0, 4, "\x0b\x01\x64\x00", "an a.out file, which is not booted" },
    { 0, 4, "\xcc\x00\x64\x00", "an a.out file, which is not booted" },
    { 0, 2, "#!", "a script, no kernel" },
    { 510, 2, "\x55\xaa", "a boot sector without a Linux kernel's header" },
};

/* Multiboot kernels say so in their first 8 KiB, the second kind in 32. */
static const char *find_multiboot(const uint8_t *image, size_t size)
{
    for (size_t at = 0; at + 12 <= size && at < 0x8000; at += 4) {
        uint32_t sum =
            get32(image + at) + get32(image + at + 4) + get32(image + at + 8);

        if (at < 0x2000 && get32(image + at) == 0x1badb002 && sum == 0)
            return "multiboot";
        if (at % 8 == 0 && at + 16 <= size && get32(image + at) == 0xe85250d6 &&
            sum + get32(image + at + 12) == 0)
            return "multiboot2";
    }
    return NULL;
}

static int refuse(const struct file *file, struct husk_err *err)
{
    const char *multiboot = find_multiboot(file->data, file->size);
    const uint8_t *image = file->data;

    if (file->size == 0)
        return fail(err, -ENOEXEC, "kernel %s is empty", file->name);
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        size_t offset = strangers[i].offset, length = strangers[i].length;

        if (file->size >= offset + length &&
            memcmp(image + offset, strangers[i].magic, length) == 0)
            return fail(err, -ENOEXEC, "kernel %s is %s", file->name,
                        strangers[i].what);
    }
    if (multiboot != NULL)
        return fail(err, -ENOEXEC,
                    "kernel %s is of the %s kind, "
                    "which is not supported",
                    file->name, multiboot);
    return fail(err, -ENOEXEC,
                "kernel %s is neither an ELF file nor a bzImage: "
                "it begins with %02x %02x %02x %02x",
                file->name, image[0], file->size > 1 ? image[1] : 0,
                file->size > 2 ? image[2] : 0, file->size > 3 ? image[3] : 0);
}

/* Put the kernel's name, and perhaps more, in front of a loader's words. */
static int blame(const struct file *file, const char *more, int rc,
                 const struct husk_err *why, struct husk_err *err)
{
    return fail(err, rc, "kernel %s: %s%s", file->name, why->text, more);
}

static int load_elf(const struct mem *mem, const struct file *file, bool fresh,
                    struct image *image, struct husk_err *err)
{
    struct elf_info info;
    struct husk_err why;
    int rc = elf_load(mem, file->data, file->size, fresh, &info, &why);

    if (rc == -ENOEXEC && find_multiboot(file->data, file->size) != NULL)
        return blame(file, "; multiboot is not supported", rc, &why, err);
    if (rc < 0)
        return blame(file, "", rc, &why, err);
    *image = (struct image){ .entry.mode = BOOT_LONG64,
                             .entry.entry = info.entry,
                             .end = info.end,
                             .initrd_max = INITRD_MAX,
                             .cmdline_max = PARAMS_MAX_CMDLINE,
                             .is_linux = info.is_linux };
    if (info.has_pvh && !info.is_linux) {
        image->entry.mode = BOOT_PVH32;
        image->entry.entry = info.pvh_entry;
    }
    return 0;
}

static int load_bzimage(const struct mem *mem, const struct file *file,
                        struct image *image, struct husk_err *err)
{
    struct bzimage_info info;
    struct husk_err why;
    int rc = bzimage_load(mem, file->data, file->size, &info, &why);

    if (rc < 0)
        return blame(file, "", rc, &why, err);
    *image = (struct image){ .entry.mode = BOOT_LONG64,
                             .entry.entry = info.entry,
                             .end = info.end,
                             .initrd_max = info.initrd_max,
                             .cmdline_max = info.cmdline_max,
                             .header = info.header,
                             .header_size = info.header_size,
                             .is_linux = true };
    return 0;
}

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

static unsigned choose_tables(const struct image *image, const char *cmdline)
{
    if (image->entry.mode == BOOT_PVH32)
        return IMAGE_ACPI;
    if (image->is_linux && !has_word(cmdline, "acpi=off"))
        return IMAGE_ACPI;
    return IMAGE_TREE;
}

static int write_params(const struct boot_board *board, unsigned tables,
                        struct image *image, struct husk_err *err)
{
    size_t length = strlen(board->cmdline);
    void *tree = NULL;
    size_t size = 0;
    int rc;

    if (length > image->cmdline_max)
        return fail(err, -E2BIG,
                    "the command line is %zu bytes long, this kernel takes "
                    "%zu (cmdline_size)",
                    length, image->cmdline_max);
    if (image->entry.mode == BOOT_PVH32)
        return params_pvh(board, &image->entry, err);
    if ((tables & IMAGE_TREE) != 0 &&
        (rc = fdt_build(board, &tree, &size, err)) < 0)
        return rc;
    rc = params_linux(board, image->header, image->header_size, tree, size,
                      &image->entry, err);
    free(tree);
    return rc;
}

static int write_tables(const struct boot_board *machine, unsigned tables,
                        struct image *image, struct husk_err *err)
{
    char cmdline[PARAMS_MAX_CMDLINE + 1];
    struct boot_board board = *machine;
    int rc;

    board.rsdp = 0;
    if ((tables & IMAGE_ACPI) != 0 &&
        (rc = acpi_write(&board, &board.rsdp, err)) < 0)
        return rc;
    if ((tables & IMAGE_MPTABLE) != 0) {
        if ((rc = mptable_write(&board, err)) < 0 ||
            (rc = mptable_cmdline(&board, cmdline, sizeof cmdline, err)) < 0)
            return rc;
        board.cmdline = cmdline;
    }
    return write_params(&board, tables, image, err);
}

int image_boot(const struct boot_board *machine, const struct file *kernel,
               const struct file *initrd, unsigned n_initrd, unsigned tables,
               bool fresh, struct boot_entry *entry, struct husk_err *err)
{
    struct boot_board board = *machine;
    struct image image;
    int rc;

    if (elf_is(kernel->data, kernel->size))
        rc = load_elf(board.mem, kernel, fresh, &image, err);
    else if (bzimage_is(kernel->data, kernel->size))
        rc = load_bzimage(board.mem, kernel, &image, err);
    else
        rc = refuse(kernel, err);
    if (rc < 0)
        return rc;

    board.initrd = board.initrd_size = 0;
    if (n_initrd > 0 &&
        (rc = initrd_load(board.mem, initrd, n_initrd, image.end,
                          image.initrd_max, &board.initrd, &board.initrd_size,
                          err)) < 0)
        return rc;
    if (tables == 0)
        tables = choose_tables(&image, board.cmdline);
    if ((rc = rom_write(board.mem, err)) < 0 ||
        (rc = write_tables(&board, tables, &image, err)) < 0)
        return rc;
    *entry = image.entry;
    return 0;
}
