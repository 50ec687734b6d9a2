/*
 * The choice of loader, entry and tables by the kernel's kind, and the words
 * for what is no kernel.
 */
#include "boot/image.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/bytes.h"
#include "tests/unit/ram.h"
#include "vmm/machine/layout_x86_64.h"

#define MIB  0x100000u
#define TEXT 0x200000u

static struct boot_virtio device = {
    .base = 0xd0000000, .size = 0x1000, .irq = 17, .id = 4
};
static struct mem mem;

static struct boot_board board = {
    .mem = &mem,
    .cpus = 1,
    .cmdline = "console=ttyS0",
    .virtio = &device,
    .n_virtio = 1,
};

static uint8_t image[0x2000];
static struct file kernel = { "test.elf", image, sizeof image };

static void setup(void)
{
    ram_init(&mem, 16 * MIB, 0, 0);
}

static void teardown(void)
{
    ram_fini(&mem);
}

/* note: a vendor's name with its zero, or NULL for no note */
static void make_elf(const char *note, uint32_t type)
{
    memset(image, 0, sizeof image);
    memcpy(image, "\177ELF\2\1\1", 7);
    put16(image + 16, 2);
    put16(image + 18, 62);
    put32(image + 20, 1);
    put64(image + 24, TEXT + 0x10);
    put64(image + 32, 64);
    put16(image + 52, 64);
    put16(image + 54, 56);
    put16(image + 56, note != NULL ? 2 : 1);
    put32(image + 64, 1);
    put64(image + 64 + 8, 0x1000);
    put64(image + 64 + 24, TEXT);
    put64(image + 64 + 32, 0x100);
    put64(image + 64 + 40, 0x100);
    if (note == NULL)
        return;
    put32(image + 120, 4);
    put64(image + 120 + 8, 0x800);
    put64(image + 120 + 32, 24);
    put32(image + 0x800, (uint32_t)strlen(note) + 1);
    put32(image + 0x804, 4);
    put32(image + 0x808, type);
    memcpy(image + 0x80c, note, strlen(note) + 1);
    put32(image + 0x80c + (strlen(note) > 3 ? 8 : 4), TEXT + 0x20);
}

static void make_bzimage(void)
{
    memset(image, 0, sizeof image);
    image[0x1f1] = 1;
    put32(image + 0x1f4, 0x1c00 / 16);
    put16(image + 0x1fe, 0xaa55);
    image[0x201] = 0x6a;
    memcpy(image + 0x202, "HdrS", 4);
    put16(image + 0x206, 0x020f);
    image[0x211] = 1;
    put32(image + 0x22c, 0x7fffff);
    put32(image + 0x230, 0x100000);
    put16(image + 0x236, 1);
    put32(image + 0x238, 200);
    put64(image + 0x258, TEXT);
    put32(image + 0x260, 0x200000);
}

static struct boot_entry boot(unsigned tables)
{
    struct boot_entry entry = { 0 };
    struct husk_err err;

    memset(mem.region[0].host, 0, MIB);
    cr_assert_eq(
        image_boot(&board, &kernel, NULL, 0, tables, true, &entry, &err), 0,
        "%s", err.text);
    return entry;
}

static const uint8_t *at(gpa_t gpa)
{
    return mem_at(&mem, gpa, 16);
}

/* Whether boot_params lead to a tree. */
static bool has_tree(void)
{
    gpa_t data = get64(at(LAYOUT_PARAMS) + 0x250);

    while (data != 0 && get32(at(data) + 8) != 2)
        data = get64(at(data));
    return data != 0 && memcmp(at(data + 16), "\xd0\x0d\xfe\xed", 4) == 0;
}

static bool has_acpi(void)
{
    gpa_t rsdp = get64(at(LAYOUT_PARAMS) + 0x070);

    return rsdp != 0 && memcmp(at(rsdp), "RSD PTR ", 8) == 0;
}

Test(image, plain_elf_gets_a_tree, .init = setup, .fini = teardown)
{
    struct boot_entry entry;

    make_elf(NULL, 0);
    entry = boot(0);
    cr_assert_eq(entry.mode, BOOT_LONG64);
    cr_assert_eq(entry.entry, TEXT + 0x10);
    cr_assert_eq(entry.info, LAYOUT_PARAMS);
    cr_assert(has_tree() && !has_acpi());
    /* mov $0xfe, %al; out %al, $0x64 */
    cr_assert_arr_eq(at(0xffff0), "\xb0\xfe\xe6\x64", 4);
}

Test(image, pvh_gets_acpi, .init = setup, .fini = teardown)
{
    struct boot_entry entry;

    make_elf("Xen", 18);
    entry = boot(0);
    cr_assert_eq(entry.mode, BOOT_PVH32);
    cr_assert_eq(entry.entry, TEXT + 0x20);
    cr_assert_eq(entry.info, LAYOUT_PVH_INFO);
    cr_assert_eq(get64(at(LAYOUT_PVH_INFO + 32)), LAYOUT_ACPI);
}

Test(image, linux_gets_acpi_or_a_tree, .init = setup, .fini = teardown)
{
    make_elf("Linux", 0x101);
    cr_assert_eq(boot(0).mode, BOOT_LONG64);
    cr_assert(has_acpi() && !has_tree());
    board.cmdline = "acpi=offline xacpi=off";
    boot(0);
    cr_assert(has_acpi() && !has_tree());
    board.cmdline = "xacpi=off acpi=off";
    boot(0);
    cr_assert(!has_acpi() && has_tree());
    boot(IMAGE_TREE | IMAGE_ACPI);
    cr_assert(has_acpi() && has_tree());
}

Test(image, mptable_comes_with_words, .init = setup, .fini = teardown)
{
    const char *line;

    make_elf("Linux", 0x101);
    boot(IMAGE_MPTABLE);
    line = mem_at(&mem, get32(at(LAYOUT_PARAMS + 0x228)), 256);
    cr_assert_str_eq(line, "console=ttyS0 "
                           "virtio_mmio.device=4K@0xd0000000:17");
    cr_assert_arr_eq(at(LAYOUT_MPTABLE), "_MP_", 4);
    cr_assert(!has_acpi() && !has_tree());
}

Test(image, bzimage_with_initrds, .init = setup, .fini = teardown)
{
    const struct file initrd[] = { { "a", "1234567", 7 }, { "b", "89", 2 } };
    struct boot_entry entry;
    struct husk_err err;
    char line[202];

    make_bzimage();
    cr_assert_eq(image_boot(&board, &kernel, initrd, 2, 0, true, &entry, &err),
                 0, "%s", err.text);
    cr_assert_eq(entry.mode, BOOT_LONG64);
    cr_assert_eq(entry.entry, TEXT + 0x200);
    cr_assert(has_acpi());
    cr_assert_eq(at(LAYOUT_PARAMS)[0x211], 1, "the setup header is copied");
    cr_assert_eq(get32(at(LAYOUT_PARAMS + 0x218)), 0x7ff000, "initrd_addr_max");
    cr_assert_eq(get32(at(LAYOUT_PARAMS + 0x21c)), 12);
    cr_assert_arr_eq(at(0x7ff000), "1234567\00089\0\0", 12);

    /* the same again, without them, at a reboot */
    cr_assert_eq(image_boot(&board, &kernel, NULL, 0, 0, false, &entry, &err),
                 0);
    cr_assert_eq(get32(at(LAYOUT_PARAMS + 0x218)), 0);

    memset(line, 'x', 201);
    line[201] = '\0';
    board.cmdline = line;
    cr_assert_eq(image_boot(&board, &kernel, NULL, 0, 0, false, &entry, &err),
                 -E2BIG);
    cr_assert_str_eq(err.text, "the command line is 201 bytes long, "
                               "this kernel takes 200 (cmdline_size): "
                               "make it shorter");
}

static void check_refusal(size_t size, int code, const char *words)
{
    struct file file = { "it", image, size };
    struct boot_entry entry;
    struct husk_err err;
    int rc = image_boot(&board, &file, NULL, 0, 0, true, &entry, &err);

    cr_assert_eq(rc, code, "%s: %d", words, rc);
    cr_assert_not_null(strstr(err.text, words), "\"%s\" is not in \"%s\"",
                       words, err.text);
    cr_assert_eq(strncmp(err.text, "kernel it", 9), 0, "%s", err.text);
}

Test(image, names_what_it_refuses, .init = setup, .fini = teardown)
{
    static const struct {
        size_t offset, length;
        const char *bytes, *words;
    } cases[] = {
        { 56, 4, "ARM\x64", "an arm64 Image, this machine is x86_64" },
        { 0, 2, "\x1f\x8b", "compressed by gzip: unpack it first" },
        { 0, 6,
          "\xfd"
          "7zXZ",
          "compressed by xz" },
        { 0, 4, "\x28\xb5\x2f\xfd", "compressed by zstd" },
        { 0, 2, "MZ", "an EFI program" },
        { 48, 4, "RISC", "a RISC-V Image, this machine is x86_64" },
        /* a setup header without its boot flag */
        { 0x202, 4, "HdrS", "of no known format" },
        { 0, 6, "070701", "a cpio archive: give it as an initrd" },
        { 0, 4, "\xd0\x0d\xfe\xed", "a device tree" },
        { 0, 4, "\x0b\x01\x64\x00", "an a.out file" },
        { 510, 2, "\x55\xaa", "a boot sector without" },
        { 64, 12, "\x02\xb0\xad\x1b\0\0\0\0\xfe\x4f\x52\xe4",
          "a multiboot kernel, which is not supported" },
        { 64, 16, "\xd6\x50\x52\xe8\0\0\0\0\x10\0\0\0\x1a\xaf\xad\x17",
          "a multiboot2 kernel" },
        { 0, 2, "Hi",
          "of no known format, it begins with 48 69 00 00: give a kernel for "
          "x86_64" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(image, 0, sizeof image);
        memcpy(image + cases[i].offset, cases[i].bytes, cases[i].length);
        check_refusal(sizeof image, -ENOEXEC, cases[i].words);
    }
    memset(image, 'x', 4);
    check_refusal(0, -ENOEXEC, "is empty");
    check_refusal(1, -ENOEXEC, "begins with 78 00 00 00");

    make_elf(NULL, 0);
    put16(image + 18, 183);
    check_refusal(sizeof image, -ENOEXEC, "for aarch64");
    make_elf(NULL, 0);
    image[4] = 1;
    put16(image + 18, 3);
    memcpy(image + 0x400, "\x02\xb0\xad\x1b\0\0\0\0\xfe\x4f\x52\xe4", 12);
    check_refusal(sizeof image, -ENOEXEC, "32-bit x86");
    check_refusal(sizeof image, -ENOEXEC, "multiboot is not supported");
    make_bzimage();
    image[0x236] = 0;
    check_refusal(sizeof image, -ENOEXEC, "a 32-bit kernel");
}
