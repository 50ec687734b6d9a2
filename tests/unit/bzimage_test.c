/*
 * The bzImage loader on a small well-formed image, on that image with one field
 * wrong, cut at every byte and changed in every byte of its header.
 */
#include "boot/bzimage.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/bytes.h"
#include "tests/unit/ram.h"

#define RAM   (8u << 20)
#define SETUP (3u * 512u) /* boot sector and two sectors */
#define CODE  0x800u
#define IMAGE (SETUP + CODE + 7) /* a tail that is not loaded */
#define PREF  0x200000u
#define INIT  0x300000u

static void make(uint8_t image[IMAGE])
{
    memset(image, 0x11, SETUP);
    image[0x1f1] = 2;
    put32(image + 0x1f4, CODE / 16);
    put16(image + 0x1fe, 0xaa55);
    image[0x200] = 0xeb;
    image[0x201] = 0x6a;
    memcpy(image + 0x202, "HdrS", 4);
    put16(image + 0x206, 0x020f);
    image[0x211] = 1;
    put32(image + 0x22c, 0x7fffffff);
    put32(image + 0x230, 0x200000);
    image[0x234] = 1;
    put16(image + 0x236, 0x3f);
    put32(image + 0x238, 2047);
    put32(image + 0x248, 0x300);
    put32(image + 0x24c, CODE - 0x300);
    put64(image + 0x258, PREF);
    put32(image + 0x260, INIT);
    for (unsigned i = 0; i < CODE; i++)
        image[SETUP + i] = (uint8_t)(i * 7);
    memset(image + SETUP + CODE, 0x5a, IMAGE - SETUP - CODE);
}

/* Load a heap copy of exactly size bytes, so that overreads are seen. */
static int load(const struct mem *mem, const uint8_t *image, size_t size,
                struct bzimage_info *info, struct husk_err *err)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    int rc;

    cr_assert_not_null(copy);
    memcpy(copy, image, size);
    err->text[0] = '\0';
    rc = bzimage_load(mem, copy, size, info, err);
    if (rc == 0) {
        cr_assert_geq((const uint8_t *)info->header, copy);
        cr_assert_leq((const uint8_t *)info->header + info->header_size,
                      copy + size);
        cr_assert_leq(info->header_size, 0x290 - 0x1f1);
    }
    free(copy);
    return rc;
}

Test(bzimage, loads)
{
    uint8_t image[IMAGE];
    struct bzimage_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    ram_init(&mem, RAM, 0, 0);
    cr_assert(bzimage_is(image, IMAGE));
    cr_assert_eq(load(&mem, image, IMAGE, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.entry, PREF + 0x200);
    cr_assert_eq(info.end, PREF + INIT);
    cr_assert_eq(info.initrd_max, 0x7fffffff);
    cr_assert_eq(info.cmdline_max, 2047);
    cr_assert_eq(info.header_size, 0x26c - 0x1f1);
    cr_assert_arr_eq(mem_at(&mem, PREF, CODE), image + SETUP, CODE);
    cr_assert_eq(mem.region[0].host[PREF + CODE], 0);
    cr_assert_eq(mem.region[0].host[PREF - 1], 0);
    ram_fini(&mem);
}

/* 0 in setup_sects means four sectors. */
Test(bzimage, old_setup_size)
{
    static uint8_t image[5 * 512 + CODE];
    uint8_t plain[IMAGE];
    struct bzimage_info info;
    struct husk_err err;
    struct mem mem;

    make(plain);
    memcpy(image, plain, SETUP);
    image[0x1f1] = 0;
    memcpy(image + 5 * 512, plain + SETUP, CODE);
    ram_init(&mem, RAM, 0, 0);
    cr_assert_eq(load(&mem, image, sizeof image, &info, &err), 0, "%s",
                 err.text);
    cr_assert_arr_eq(mem_at(&mem, PREF, CODE), plain + SETUP, CODE);
    ram_fini(&mem);
}

static const struct {
    unsigned offset, width;
    uint64_t value;
    int code;
    const char *words; /* of the error text */
} wrong[] = {
    { 0x1f1, 1, 255, -ENOEXEC, "setup_sects is 255, which takes 131072" },
    { 0x1f1, 1, 3, -ENOEXEC, "syssize tells of 2048 bytes of code, 1543" },
    { 0x1f4, 4, 0xffffffff, -ENOEXEC, "syssize tells of 68719476720" },
    { 0x1f4, 4, 0x20, -ENOEXEC, "syssize tells of 512 bytes" },
    { 0x1fe, 2, 0x55aa, -ENOEXEC, "boot_flag aa55" },
    { 0x201, 1, 0x10, -ENOEXEC, "setup header ends at 0x212" },
    { 0x201, 1, 0xff, -ENOEXEC, "setup header ends at 0x301" },
    { 0x205, 1, 's', -ENOEXEC, "the header HdrS" },
    { 0x206, 2, 0x020b, -ENOEXEC, "version 2.11, 2.12 (Linux 3.8)" },
    { 0x211, 1, 0x80, -ENOEXEC, "loadflags is 0x80 without LOADED_HIGH" },
    { 0x236, 2, 0x3e, -ENOEXEC, "xloadflags is 0x3e without XLF_KERNEL_64" },
    { 0x230, 4, 0, -ENOEXEC, "kernel_alignment is 0, no power of two" },
    { 0x230, 4, 0x300000, -ENOEXEC, "kernel_alignment is 0x300000" },
    { 0x248, 4, 0x301, -ENOEXEC, "payload_offset 0x301 with payload_length" },
    { 0x24c, 4, 0xffffffff, -ENOEXEC, "payload_length 0xffffffff ends past" },
    { 0x258, 8, 0x1000, -ENOEXEC, "pref_address is 0x1000" },
    { 0x258, 8, 0x300000, -ENOEXEC, "pref_address is 0x300000, a multiple" },
    { 0x258, 8, 0x600000, -ENOMEM, "memory from 0x600000 to 0x900000" },
    { 0x258, 8, UINT64_C(0xffffffffffe00000), -ENOMEM, "0xffffffffffe00000" },
    { 0x260, 4, CODE - 1, -ENOEXEC, "init_size is 0x7ff, below" },
    { 0x260, 4, 0xffffffff, -ENOMEM, "the guest has 8 MiB" },
};

Test(bzimage, names_the_wrong_field)
{
    struct bzimage_info info;
    struct husk_err err;
    struct mem mem;

    ram_init(&mem, RAM, 0, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t image[IMAGE], value[8];
        int rc;

        make(image);
        put64(value, wrong[i].value);
        memcpy(image + wrong[i].offset, value, wrong[i].width);
        rc = load(&mem, image, IMAGE, &info, &err);
        cr_assert_eq(rc, wrong[i].code, "case %zu: %d %s", i, rc, err.text);
        cr_assert_not_null(strstr(err.text, wrong[i].words),
                           "case %zu: \"%s\" is not in \"%s\"", i,
                           wrong[i].words, err.text);
        cr_assert_eq(mem.region[0].host[PREF + 1], 0, "case %zu wrote", i);
    }
    ram_fini(&mem);
}

Test(bzimage, refuses_every_truncation)
{
    uint8_t image[IMAGE];
    struct bzimage_info info;
    struct husk_err err;
    struct mem mem;

    make(image);
    ram_init(&mem, RAM, 0, 0);
    for (size_t size = 0; size < SETUP + CODE; size++) {
        int rc = load(&mem, image, size, &info, &err);

        cr_assert_eq(rc, -ENOEXEC, "%zu bytes: %d", size, rc);
        cr_assert(err.text[0] != '\0', "%zu bytes: no text", size);
    }
    ram_fini(&mem);
}

Test(bzimage, survives_every_changed_byte, .timeout = 60)
{
    static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff };
    unsigned loaded = 0, refused = 0;
    struct bzimage_info info;
    struct husk_err err;
    struct mem mem;

    ram_init(&mem, RAM, 0, 0);
    for (size_t at = 0x1f1; at < 0x290; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            uint8_t image[IMAGE];
            int rc;

            make(image);
            image[at] = values[v];
            rc = load(&mem, image, IMAGE, &info, &err);
            cr_assert(rc == 0 || rc == -ENOEXEC || rc == -ENOMEM);
            cr_assert(rc == 0 || err.text[0] != '\0');
            if (rc == 0)
                cr_assert_not_null(mem_at(&mem, info.entry, 1));
            loaded += rc == 0;
            refused += rc < 0;
        }
    }
    cr_assert_gt(loaded, 100);
    cr_assert_gt(refused, 50);
    ram_fini(&mem);
}

static void check_code(const uint8_t *image, size_t size, int code,
                       const char *words)
{
    struct bzimage_info info;
    struct husk_err err;
    struct mem mem;
    int rc;

    ram_init(&mem, RAM, 0x100000000, RAM);
    rc = load(&mem, image, size, &info, &err);
    cr_assert_eq(rc, code, "%d: %s", rc, err.text);
    cr_assert_not_null(strstr(err.text, words), "\"%s\" is not in \"%s\"",
                       words, err.text);
    ram_fini(&mem);
}

/* The last value that is right, and the first that is wrong. */
Test(bzimage, limits_are_exact)
{
    uint8_t image[IMAGE];

    make(image);
    cr_assert(bzimage_is(image, 0x206));
    cr_assert(!bzimage_is(image, 0x205));
    check_code(image, 0x28f, -ENOEXEC, "inside the setup header (656)");
    put16(image + 0x206, 0x020c);
    check_code(image, IMAGE, 0, "");
    put16(image + 0x206, 0x020b);
    check_code(image, IMAGE, -ENOEXEC, "version 2.11");

    make(image);
    image[0x201] = 0x62;
    check_code(image, IMAGE, 0, "");
    image[0x201] = 0x61;
    check_code(image, IMAGE, -ENOEXEC, "the setup header ends at 0x263");
    image[0x201] = 0x8e;
    check_code(image, IMAGE, 0, "");
    image[0x201] = 0x8f;
    check_code(image, IMAGE, -ENOEXEC, "the setup header ends at 0x291");

    make(image);
    put32(image + 0x260, CODE);
    check_code(image, IMAGE, 0, "");
    put32(image + 0x260, CODE - 1);
    check_code(image, IMAGE, -ENOEXEC, "init_size is 0x7ff, below");
}

Test(bzimage, is_loaded_between_1_mib_and_the_hole)
{
    uint8_t image[IMAGE];

    make(image);
    put64(image + 0x258, 0);
    check_code(image, IMAGE, -ENOEXEC, "pref_address is 0,");
    put64(image + 0x258, 0x100000000);
    check_code(image, IMAGE, -ENOMEM, "needs memory from 0x100000000");
}
