/*
 * The ELF loader on a small well-formed kernel, on that kernel with one field
 * wrong, cut at every byte and changed in every byte of its headers.
 */
#include "boot/elf.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/arch.h"
#include "boot/bytes.h"
#include "tests/unit/ram.h"

#define RAM     (4u << 20)
#define VIRT    UINT64_C(0xffffffff80000000)
#define TEXT    0x100000u
#define DATA    0x180000u
#define BSS     0x1000u
#define HEADERS (64u + 3u * 56u)
#define NOTE    HEADERS /* Linux's, then the PVH entry */
#define NOTES   44u
#define BODY    (NOTE + NOTES)
#define BODIES  32u
#define IMAGE   (BODY + 2 * BODIES)
#define PH(n)   (64u + 56u * (n))

static void put_ph(uint8_t *ph, uint32_t type, uint64_t offset, uint64_t paddr,
                   uint64_t filesz, uint64_t memsz)
{
    put32(ph, type);
    put32(ph + 4, 7);
    put64(ph + 8, offset);
    put64(ph + 16, VIRT + paddr);
    put64(ph + 24, paddr);
    put64(ph + 32, filesz);
    put64(ph + 40, memsz);
    put64(ph + 48, 4);
}

static void make(uint8_t image[IMAGE])
{
    memset(image, 0, IMAGE);
    memcpy(image, "\177ELF\2\1\1", 7);
    put16(image + 16, 2);
    put16(image + 18, 62);
    put32(image + 20, 1);
    put64(image + 24, TEXT + 4);
    put64(image + 32, 64);
    put16(image + 52, 64);
    put16(image + 54, 56);
    put16(image + 56, 3);
    put_ph(image + PH(0), 1, BODY, TEXT, BODIES, BODIES);
    put_ph(image + PH(1), 1, BODY + BODIES, DATA, BODIES, BSS);
    put_ph(image + PH(2), 4, NOTE, 0, NOTES, NOTES);
    put32(image + NOTE, 6);
    put32(image + NOTE + 4, 4);
    put32(image + NOTE + 8, 0x101);
    memcpy(image + NOTE + 12, "Linux", 6);
    put32(image + NOTE + 24, 4);
    put32(image + NOTE + 28, 4);
    put32(image + NOTE + 32, 18);
    memcpy(image + NOTE + 36, "Xen", 4);
    put32(image + NOTE + 40, TEXT + 8);
    memset(image + BODY, 0x90, BODIES);
    memset(image + BODY + BODIES, 0xda, BODIES);
}

/* Load a heap copy of exactly size bytes, so that overreads are seen. */
static int load(const struct mem *mem, const uint8_t *image, size_t size,
                bool fresh, struct elf_info *info, struct husk_err *err)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    int rc;

    cr_assert_not_null(copy);
    memcpy(copy, image, size);
    err->text[0] = '\0';
    rc = elf_load(mem, &boot_arch_elf, copy, size, fresh, info, err);
    free(copy);
    return rc;
}

Test(elf, loads_segments_and_notes)
{
    uint8_t image[IMAGE];
    struct elf_info info;
    struct husk_err err;
    struct mem mem;
    uint8_t *data;

    make(image);
    ram_init(&mem, RAM, 0, 0);
    cr_assert_eq(load(&mem, image, IMAGE, true, &info, &err), 0, "%s",
                 err.text);
    cr_assert_eq(info.entry, TEXT + 4);
    cr_assert_eq(info.end, DATA + BSS);
    cr_assert(info.has_note && info.is_linux);
    cr_assert_eq(info.note_entry, TEXT + 8);
    data = mem_at(&mem, DATA, BSS);
    cr_assert_arr_eq(mem_at(&mem, TEXT, BODIES), image + BODY, BODIES);
    cr_assert_arr_eq(data, image + BODY + BODIES, BODIES);

    /* a reboot finds the old guest's bytes */
    memset(data, 0x55, BSS + 1);
    cr_assert_eq(load(&mem, image, IMAGE, false, &info, &err), 0);
    cr_assert_eq(data[BODIES - 1], 0xda);
    for (unsigned i = BODIES; i < BSS; i++)
        cr_assert_eq(data[i], 0, "byte %u", i);
    cr_assert_eq(data[BSS], 0x55);
    ram_fini(&mem);
}

Test(elf, leaves_fresh_bss_alone)
{
    uint8_t image[IMAGE];
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    ram_init(&mem, RAM, 0, 0);
    mem.region[0].host[DATA + BODIES] = 0x55;
    cr_assert_eq(load(&mem, image, IMAGE, true, &info, &err), 0);
    cr_assert_eq(mem.region[0].host[DATA + BODIES], 0x55);
    ram_fini(&mem);
}

Test(elf, turns_a_virtual_entry_into_a_physical_one)
{
    uint8_t image[IMAGE];
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    put64(image + 24, VIRT + DATA + 16);
    ram_init(&mem, RAM, 0, 0);
    cr_assert_eq(load(&mem, image, IMAGE, true, &info, &err), 0);
    cr_assert_eq(info.entry, DATA + 16);
    ram_fini(&mem);
}

Test(elf, takes_an_eight_byte_pvh_note)
{
    uint8_t image[IMAGE];
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    /* the body's first bytes become the upper half of the address */
    put32(image + NOTE + 28, 8);
    put64(image + PH(2) + 32, NOTES + 4);
    memset(image + BODY, 0, 4);
    ram_init(&mem, RAM, 0, 0);
    cr_assert_eq(load(&mem, image, IMAGE, true, &info, &err), 0, "%s",
                 err.text);
    cr_assert_eq(info.note_entry, TEXT + 8);
    ram_fini(&mem);
}

static const struct {
    unsigned offset, width;
    uint64_t value;
    int code;
    const char *words; /* of the error text */
} wrong[] = {
    { 0, 1, 0x7e, -ENOEXEC, "e_ident does not begin" },
    { 4, 1, 1, -ENOEXEC, "class is 1 (32-bit), 64-bit code (2)" },
    { 4, 1, 9, -ENOEXEC, "class is 9, 64-bit code (2)" },
    { 5, 1, 3, -ENOEXEC, "data is 3, little-endian (1)" },
    { 6, 1, 0, -ENOEXEC, "version is 0, not 1" },
    { 16, 2, 1, -ENOEXEC, "e_type is 1 (an object file)" },
    { 16, 2, 4, -ENOEXEC, "e_type is 4, an executable (2 or 3)" },
    { 18, 2, 183, -ENOEXEC, "for aarch64 (e_machine 183)" },
    { 18, 2, 3, -ENOEXEC, "for 32-bit x86 (e_machine 3)" },
    { 18, 2, 999, -ENOEXEC, "another architecture (e_machine 999)" },
    { 20, 4, 2, -ENOEXEC, "e_version is 2, not 1" },
    { 24, 8, 0x1234, -ENOEXEC, "e_entry 0x1234 lies in no segment" },
    { 24, 8, VIRT + DATA + BSS, -ENOEXEC, "e_entry 0xffffffff80181000" },
    { 32, 8, IMAGE - 167, -ENOEXEC, "e_phoff" },
    { 32, 8, UINT64_MAX - 8, -ENOEXEC, "e_phoff 0xfffffffffffffff7" },
    { 52, 2, 52, -ENOEXEC, "e_ehsize is 52, not 64" },
    { 54, 2, 32, -ENOEXEC, "e_phentsize is 32, not 56" },
    { 56, 2, 0, -ENOEXEC, "e_phnum is 0" },
    { 56, 2, 0xffff, -ENOEXEC, "e_phnum is 65535, 1 to 65534" },
    { 56, 2, 6, -ENOEXEC, "6 program headers" },
    { PH(0) + 8, 8, IMAGE - 31, -ENOEXEC, "p_offset 0x135 with p_filesz 0x20" },
    { PH(0) + 8, 8, UINT64_MAX, -ENOEXEC, "segment 0: p_offset 0xffff" },
    { PH(0) + 32, 8, 33, -ENOEXEC, "p_filesz 0x21 is above p_memsz 0x20" },
    { PH(1) + 32, 8, BODIES + 1, -ENOEXEC, "segment 1: p_offset" },
    { PH(0) + 24, 8, 0xffffe, -ENOEXEC, "p_paddr 0xffffe is below 0x100000" },
    { PH(0) + 24, 8, RAM - 31, -ENOMEM, "outside the guest's 4 MiB" },
    { PH(0) + 24, 8, UINT64_MAX - 8, -ENOMEM, "p_paddr 0xfffffffffffffff7" },
    { PH(1) + 40, 8, UINT64_MAX, -ENOMEM, "p_memsz 0xffffffffffffffff" },
    { PH(1) + 24, 8, TEXT + 31, -ENOEXEC, "segments 0 (p_paddr 0x100000" },
    { PH(2) + 8, 8, IMAGE - 43, -ENOEXEC, "segment 2: p_offset" },
    { PH(2) + 32, 8, 43, -ENOEXEC, "descsz 4) ends past p_filesz 0x2b" },
    { NOTE, 4, UINT32_MAX, -ENOEXEC, "namesz 4294967295" },
    { NOTE + 4, 4, 0x21, -ENOEXEC, "descsz 33" },
    { NOTE + 28, 4, 3, -ENOEXEC, "descsz is 3, not 4 or 8" },
    { NOTE + 40, 4, 0x99, -ENOEXEC, "0x99 lies in no segment" },
};

Test(elf, names_the_wrong_field)
{
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    ram_init(&mem, RAM, 0, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t image[IMAGE], value[8];
        int rc;

        make(image);
        put64(value, wrong[i].value);
        memcpy(image + wrong[i].offset, value, wrong[i].width);
        rc = load(&mem, image, IMAGE, true, &info, &err);
        cr_assert_eq(rc, wrong[i].code, "case %zu: %d %s", i, rc, err.text);
        cr_assert_not_null(strstr(err.text, wrong[i].words),
                           "case %zu: \"%s\" is not in \"%s\"", i,
                           wrong[i].words, err.text);
        cr_assert_eq(mem.region[0].host[TEXT], 0, "case %zu wrote memory", i);
    }
    ram_fini(&mem);
}

Test(elf, needs_a_loadable_segment)
{
    uint8_t image[IMAGE];
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    put32(image + PH(0), 6);
    put64(image + PH(1) + 32, 0);
    put64(image + PH(1) + 40, 0);
    ram_init(&mem, RAM, 0, 0);
    cr_assert_eq(load(&mem, image, IMAGE, true, &info, &err), -ENOEXEC);
    cr_assert_not_null(strstr(err.text, "none of the 3 program headers"));
    ram_fini(&mem);
}

Test(elf, refuses_every_truncation)
{
    uint8_t image[IMAGE];
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    ram_init(&mem, RAM, 0, 0);
    for (size_t size = 0; size < IMAGE; size++) {
        int rc = load(&mem, image, size, true, &info, &err);

        cr_assert_eq(rc, -ENOEXEC, "%zu bytes: %d", size, rc);
        cr_assert(err.text[0] != '\0', "%zu bytes: no text", size);
    }
    ram_fini(&mem);
}

Test(elf, survives_every_changed_byte, .timeout = 60)
{
    static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff };
    unsigned loaded = 0, refused = 0;
    struct elf_info info;
    struct husk_err err;
    struct mem mem;

    ram_init(&mem, RAM, 0, 0);
    for (size_t at = 0; at < BODY; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            uint8_t image[IMAGE];
            int rc;

            make(image);
            image[at] = values[v];
            rc = load(&mem, image, IMAGE, true, &info, &err);
            cr_assert(rc == 0 || rc == -ENOEXEC || rc == -ENOMEM);
            cr_assert(rc == 0 || err.text[0] != '\0');
            if (rc == 0)
                cr_assert_not_null(mem_at(&mem, info.entry, 1));
            loaded += rc == 0;
            refused += rc < 0;
        }
    }
    cr_assert_gt(loaded, 100);
    cr_assert_gt(refused, 100);
    ram_fini(&mem);
}
