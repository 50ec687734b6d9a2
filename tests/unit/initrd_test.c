/*
 * Initrds: joined, padded, placed between the kernel's end and every limit.
 */
#include "boot/initrd.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/unit/ram.h"

#define MIB        0x100000u
#define INITRD_MAX 0x7fffffffu

static struct mem mem;

static void setup(void)
{
    ram_init(&mem, 4 * MIB, 0x100000000, MIB);
    memset(mem.region[0].host, 0xee, 4 * MIB);
}

static void teardown(void)
{
    ram_fini(&mem);
}

Test(initrd, joins_and_pads, .init = setup, .fini = teardown)
{
    const struct file files[] = {
        { "one", "12345", 5 },
        { "two", "abcd", 4 },
        { "three", "x", 1 },
    };
    struct husk_err err;
    gpa_t address;
    uint64_t size;

    cr_assert_eq(
        initrd_load(&mem, files, 3, 2 * MIB, INITRD_MAX, &address, &size, &err),
        0, "%s", err.text);
    cr_assert_eq(size, 16);
    cr_assert_eq(address, 4 * MIB - 0x1000, "a page, as high as it goes");
    cr_assert_arr_eq(mem_at(&mem, address, 17), "12345\0\0\0abcdx\0\0\0\xee",
                     17);
    cr_assert_eq(mem.region[0].host[address - 1], 0xee);
}

Test(initrd, keeps_to_the_limits, .init = setup, .fini = teardown)
{
    static char data[MIB];
    struct file file = { "big", data, MIB };
    struct husk_err err;
    gpa_t address;
    uint64_t size;

    /* exactly between the kernel and the end of low memory */
    cr_assert_eq(
        initrd_load(&mem, &file, 1, 3 * MIB, INITRD_MAX, &address, &size, &err),
        0);
    cr_assert_eq(address, 3 * MIB);
    cr_assert_eq(initrd_load(&mem, &file, 1, 3 * MIB + 1, INITRD_MAX, &address,
                             &size, &err),
                 -ENOMEM);
    cr_assert_str_eq(
        err.text,
        "the initrd takes 1024 KiB, the kernel and its "
        "limit leave 1023 KiB of the guest's 5 MiB: give the guest more "
        "memory");

    /* the kernel's own limit is its last byte */
    cr_assert_eq(
        initrd_load(&mem, &file, 1, MIB, 2 * MIB - 1, &address, &size, &err),
        0);
    cr_assert_eq(address, MIB);
    cr_assert_eq(
        initrd_load(&mem, &file, 1, MIB, 2 * MIB - 2, &address, &size, &err),
        -ENOMEM);
    cr_assert_eq(
        initrd_load(&mem, &file, 1, 8 * MIB, INITRD_MAX, &address, &size, &err),
        -ENOMEM);
    cr_assert_not_null(strstr(err.text, "leave 0 KiB"));

    /* it would fit, but not on a page */
    file.size = MIB - 8;
    cr_assert_eq(initrd_load(&mem, &file, 1, 3 * MIB + 4, INITRD_MAX, &address,
                             &size, &err),
                 -ENOMEM);
}

Test(initrd, refuses_an_empty_file, .init = setup, .fini = teardown)
{
    const struct file files[] = { { "a", "12", 2 }, { "b", NULL, 0 } };
    struct husk_err err;
    gpa_t address;
    uint64_t size;

    cr_assert_eq(
        initrd_load(&mem, files, 2, MIB, INITRD_MAX, &address, &size, &err),
        -EINVAL);
    cr_assert_str_eq(err.text, "initrd b is empty");
}

/* Memory does not begin at 0 on every architecture. */
Test(initrd, memory_with_a_base, .init = setup, .fini = teardown)
{
    struct file file = { "one", "12345678", 8 };
    struct husk_err err;
    gpa_t address;
    uint64_t size;

    mem.region[0].base = 0x40000000;
    cr_assert_eq(initrd_load(&mem, &file, 1, 0x40000000 + MIB, INITRD_MAX,
                             &address, &size, &err),
                 0, "%s", err.text);
    cr_assert_eq(address, 0x40000000 + 4 * MIB - 0x1000);
    cr_assert_arr_eq(mem.region[0].host + 4 * MIB - 0x1000, "12345678", 8);
}
