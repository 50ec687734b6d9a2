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

/* A kernel whose notes a case makes itself. */
#define ROOM 0x2000u
#define OWN  0x1800u /* where they are in the file */
#define GIB4 0x100000000u

static uint8_t whole[ROOM];
static size_t notes_size;

static void begin_notes(uint64_t p_align)
{
    memset(whole, 0, sizeof whole);
    make(whole);
    memset(whole + NOTE, 0, NOTES);
    put64(whole + PH(2) + 8, OWN);
    put64(whole + PH(2) + 48, p_align);
    notes_size = 0;
}

/* name with namesz bytes; each part is padded to align */
static void add_note(unsigned align, const char *name, uint32_t namesz,
                     uint32_t type, const void *desc, uint32_t descsz)
{
    uint8_t *note = whole + OWN + notes_size;
    size_t at = (12 + namesz + align - 1) / align * align;

    put32(note, namesz);
    put32(note + 4, descsz);
    put32(note + 8, type);
    memcpy(note + 12, name, namesz);
    memcpy(note + at, desc, descsz);
    notes_size += (at + descsz + align - 1) / align * align;
    put64(whole + PH(2) + 32, notes_size);
}

/* Memory of 4 MiB, and 1 MiB from 4 GiB up. */
static int load_whole(struct elf_info *info, struct husk_err *err)
{
    struct mem mem;
    int rc;

    ram_init(&mem, RAM, GIB4, 1 << 20);
    rc = load(&mem, whole, ROOM, true, info, err);
    ram_fini(&mem);
    return rc;
}

static void check_loads(struct elf_info *info)
{
    struct husk_err err;

    cr_assert_eq(load_whole(info, &err), 0, "%s", err.text);
}

static void check_refuses(const char *words)
{
    struct elf_info info;
    struct husk_err err;

    cr_assert_eq(load_whole(&info, &err), -ENOEXEC);
    cr_assert_not_null(strstr(err.text, words), "\"%s\" is not in \"%s\"",
                       words, err.text);
}

/* Names and descriptions of odd lengths, so that each padding counts. */
static void check_padding(uint64_t p_align, unsigned align)
{
    struct elf_info info;
    uint8_t entry[4];

    put32(entry, TEXT + 8);
    begin_notes(p_align);
    add_note(align, "ABCDE", 6, 18, "12345", 5);
    add_note(align, "GNU", 4, 18, "1", 1);
    add_note(align, "Xen", 4, 17, entry, 4);
    add_note(align, "ABCDEFG", 8, 18, "", 0);
    add_note(align, "Xen", 4, 18, entry, 4);
    add_note(align, "Linux", 6, 0x101, "123", 3);
    check_loads(&info);
    cr_assert(info.has_note && info.is_linux, "p_align %lu",
              (unsigned long)p_align);
    cr_assert_eq(info.note_entry, TEXT + 8);
}

Test(elf, notes_are_padded)
{
    check_padding(4, 4);
    check_padding(8, 8);
    check_padding(0, 4);
    check_padding(1, 4);
}

Test(elf, last_note_needs_no_padding)
{
    struct elf_info info;

    begin_notes(8);
    add_note(8, "Linux", 6, 1, "12345", 5);
    put64(whole + PH(2) + 32, notes_size - 3);
    check_loads(&info);
    cr_assert(info.is_linux);
    put64(whole + PH(2) + 32, notes_size - 4);
    check_refuses("ends past p_filesz 0x1c");
}

Test(elf, note_of_a_header_alone)
{
    struct elf_info info;

    begin_notes(4);
    add_note(4, "", 0, 18, "", 0);
    check_loads(&info);
    cr_assert(!info.has_note && !info.is_linux);
    put32(whole + OWN, 1);
    check_refuses("ends past p_filesz 0xc");
}

Test(elf, vendor_is_the_whole_name)
{
    struct elf_info info;
    uint8_t entry[4];

    put32(entry, TEXT + 8);
    begin_notes(4);
    add_note(4, "Xen\0x", 6, 18, entry, 4);
    add_note(4, "Xe", 3, 18, entry, 4);
    add_note(4, "Linux\0x", 8, 1, entry, 4);
    check_loads(&info);
    cr_assert(!info.has_note && !info.is_linux);
}

Test(elf, note_entry_of_64_bits)
{
    struct elf_info info;
    uint8_t entry[8];

    put64(entry, GIB4 + 8);
    begin_notes(4);
    add_note(4, "Xen", 4, 18, entry, 8);
    put64(whole + PH(1) + 24, GIB4);
    check_loads(&info);
    cr_assert_eq(info.note_entry, GIB4 + 8);
    cr_assert_eq(info.end, GIB4 + BSS);
}

Test(elf, entries_lie_in_segments)
{
    struct elf_info info;
    uint8_t entry[4];

    put32(entry, TEXT + BODIES - 1);
    begin_notes(4);
    add_note(4, "Xen", 4, 18, entry, 4);
    put64(whole + 24, DATA + BSS - 1); /* past p_filesz */
    check_loads(&info);
    cr_assert_eq(info.note_entry, TEXT + BODIES - 1);
    cr_assert_eq(info.entry, DATA + BSS - 1);
    put32(whole + OWN + 16, TEXT + BODIES);
    check_refuses("the entry 0x100020 lies in no segment");
}

Test(elf, segments_may_touch)
{
    struct elf_info info;

    begin_notes(4);
    put64(whole + PH(1) + 24, TEXT + BODIES);
    check_loads(&info);
    put64(whole + PH(1) + 24, TEXT + BODIES - 1);
    check_refuses("overlap");
    put64(whole + PH(0) + 24, TEXT + BSS);
    put64(whole + PH(1) + 24, TEXT);
    put64(whole + 24, TEXT);
    check_loads(&info);
    cr_assert_eq(info.end, TEXT + BSS + BODIES);
    put64(whole + PH(0) + 24, TEXT + BSS - 1);
    check_refuses("overlap");
}

Test(elf, segments_are_counted)
{
    struct elf_info info;

    begin_notes(4);
    for (unsigned i = 0; i < 65; i++)
        put_ph(whole + PH(i), 1, 0, TEXT + 16 * i, 0, 16);
    put16(whole + 56, 64);
    check_loads(&info);
    cr_assert_eq(info.end, TEXT + 64 * 16);
    put16(whole + 56, 65);
    check_refuses("segment 64 is one PT_LOAD more than the limit of 64");
}

Test(elf, machine_of_the_other_byte_order)
{
    begin_notes(4);
    whole[5] = 2;
    whole[18] = 0;
    whole[19] = 22;
    check_refuses("for s390 (e_machine 22)");
    whole[19] = 62;
    check_refuses("data is 2 (big-endian), little-endian (1)");
}
