/*
 * boot_params and hvm_start_info, read back from guest memory by the offsets of
 * their specifications.
 */
#include "boot/params_x86_64.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/bytes.h"
#include "tests/unit/ram.h"
#include "vmm/machine/layout_x86_64.h"

#define MIB 0x100000u

static struct mem mem;

static struct boot_board board = {
    .mem = &mem,
    .cpus = 1,
    .cmdline = "console=ttyS0 panic=-1",
    .rng_seed = { 9, 8, 7, [31] = 0x11 },
};

static const uint8_t tree[] = "a device tree of some bytes";
static const struct params none,
    with_tree = { .tree = tree, .tree_size = sizeof tree, .rsdp = 0xe0000 };

static void setup(void)
{
    ram_init(&mem, 2 * MIB, 0x100000000, MIB);
    /* whatever a former guest left */
    memset(mem.region[0].host, 0xee, 2 * MIB);
}

static void teardown(void)
{
    ram_fini(&mem);
}

static void check_e820(const uint8_t *page, unsigned index, uint64_t start,
                       uint64_t size, uint32_t type)
{
    const uint8_t *entry = page + 0x2d0 + index * 20;

    cr_assert_eq(get64(entry), start, "entry %u: %#lx", index, get64(entry));
    cr_assert_eq(get64(entry + 8), size, "entry %u: %#lx", index,
                 get64(entry + 8));
    cr_assert_eq(get32(entry + 16), type);
}

Test(params, linux, .init = setup, .fini = teardown)
{
    struct boot_entry entry = { .entry = 0x200000 };
    struct husk_err err;
    const uint8_t *page, *data;

    cr_assert_eq(params_linux(&board, &with_tree, &entry, &err), 0, "%s",
                 err.text);
    cr_assert_eq(entry.info, LAYOUT_PARAMS);
    cr_assert_eq(entry.entry, 0x200000);
    page = mem_at(&mem, entry.info, 0x1000);
    cr_assert_eq(page[0x1ef], 0, "the sentinel");
    cr_assert_eq(get16(page + 0x1fe), 0xaa55);
    cr_assert_arr_eq(page + 0x202, "HdrS", 4);
    cr_assert_eq(get16(page + 0x206), 0x020f);
    cr_assert_eq(page[0x210], 0xff);
    cr_assert_eq(get32(page + 0x218), 0);
    cr_assert_eq(get32(page + 0x21c), 0);
    cr_assert_eq(get64(page + 0x070), 0xe0000);
    cr_assert_eq(get32(page + 0x238), 2047);
    cr_assert_str_eq(mem_at(&mem, get32(page + 0x228), 0x1000), board.cmdline);

    cr_assert_eq(page[0x1e8], 4);
    check_e820(page, 0, 0, 0x9fc00, 1);
    check_e820(page, 1, 0x9fc00, MIB - 0x9fc00, 2);
    check_e820(page, 2, MIB, MIB, 1);
    check_e820(page, 3, 0x100000000, MIB, 1);

    data = mem_at(&mem, get64(page + 0x250), 16 + 32);
    cr_assert_eq(get32(data + 8), 9, "SETUP_RNG_SEED");
    cr_assert_eq(get32(data + 12), 32);
    cr_assert_arr_eq(data + 16, board.rng_seed, 32);
    data = mem_at(&mem, get64(data), 16 + sizeof tree);
    cr_assert_eq(get64(data), 0);
    cr_assert_eq(get32(data + 8), 2, "SETUP_DTB");
    cr_assert_eq(get32(data + 12), sizeof tree);
    cr_assert_arr_eq(data + 16, tree, sizeof tree);
}

Test(params, linux_without_tree, .init = setup, .fini = teardown)
{
    struct boot_entry entry;
    struct husk_err err;
    const uint8_t *page, *data;

    cr_assert_eq(params_linux(&board, &none, &entry, &err), 0);
    page = mem_at(&mem, entry.info, 0x1000);
    data = mem_at(&mem, get64(page + 0x250), 16);
    cr_assert_eq(get32(data + 8), 9);
    cr_assert_eq(get64(data), 0);
}

Test(params, linux_takes_the_setup_header, .init = setup, .fini = teardown)
{
    uint8_t header[0x290 - 0x1f1];
    struct params params = { .header = header, .header_size = sizeof header };
    struct boot_entry entry;
    struct husk_err err;
    const uint8_t *page;

    memset(header, 0x77, sizeof header);
    board.initrd = 0x123456000;
    board.initrd_size = 0x1ffff0000;
    cr_assert_eq(params_linux(&board, &params, &entry, &err), 0);
    page = mem_at(&mem, entry.info, 0x1000);
    cr_assert_eq(page[0x1ef], 0);
    cr_assert_eq(page[0x1f1], 0x77);
    cr_assert_eq(page[0x28f], 0x77);
    cr_assert_eq(page[0x290], 0);
    cr_assert_eq(page[0x210], 0xff);
    cr_assert_eq(get32(page + 0x218), 0x23456000);
    cr_assert_eq(get32(page + 0x21c), 0xffff0000);
    cr_assert_eq(get32(page + 0x0c0), 1);
    cr_assert_eq(get32(page + 0x0c4), 1);
    params.header_size++;
    cr_assert_eq(params_linux(&board, &params, &entry, &err), -E2BIG);
}

Test(params, lengths, .init = setup, .fini = teardown)
{
    static char line[2049];
    struct params large = { .tree = tree, .tree_size = LAYOUT_SETUP_SIZE - 63 };
    struct boot_entry entry;
    struct husk_err err;
    struct mem small;

    memset(line, 'x', 2047);
    board.cmdline = line;
    cr_assert_eq(params_linux(&board, &none, &entry, &err), 0);
    cr_assert_eq(params_pvh(&board, 0, &entry, &err), 0);
    line[2047] = 'x';
    cr_assert_eq(params_linux(&board, &none, &entry, &err), -E2BIG);
    cr_assert_str_eq(err.text, "the command line is 2048 bytes long, "
                               "at most 2047 are taken");
    cr_assert_eq(params_pvh(&board, 0, &entry, &err), -E2BIG);

    board.cmdline = "";
    cr_assert_eq(params_linux(&board, &large, &entry, &err), -E2BIG);
    cr_assert_not_null(strstr(err.text, "393153 bytes long, at most 393152"));

    ram_init(&small, 0x20000, 0, 0);
    board.mem = &small;
    cr_assert_eq(params_linux(&board, &with_tree, &entry, &err), -ENOMEM);
    small.region[0].size = 0x10000;
    cr_assert_eq(params_pvh(&board, 0, &entry, &err), -ENOMEM);
    small.region[0].size = 0x1000;
    cr_assert_eq(params_linux(&board, &none, &entry, &err), -ENOMEM);
    cr_assert_eq(params_pvh(&board, 0, &entry, &err), -ENOMEM);
    board.mem = &mem;
    ram_fini(&small);
}

/* No range reaches past the memory that there is. */
Test(params, map_is_clipped, .init = setup, .fini = teardown)
{
    struct boot_entry entry;
    struct husk_err err;
    const uint8_t *page = mem_at(&mem, LAYOUT_PARAMS, 0x1000);

    mem.n_regions = 1;
    mem.region[0].size = 0x90000;
    cr_assert_eq(params_linux(&board, &none, &entry, &err), 0);
    cr_assert_eq(page[0x1e8], 1);
    check_e820(page, 0, 0, 0x90000, 1);
    mem.region[0].size = 0xa0000;
    cr_assert_eq(params_linux(&board, &none, &entry, &err), 0);
    cr_assert_eq(page[0x1e8], 2);
    check_e820(page, 1, 0x9fc00, 0x400, 2);
}

Test(params, pvh, .init = setup, .fini = teardown)
{
    struct boot_entry entry = { .mode = BOOT_PVH32 };
    struct husk_err err;
    const uint8_t *info, *map;

    cr_assert_eq(params_pvh(&board, 0xe0010, &entry, &err), 0, "%s", err.text);
    cr_assert_eq(entry.info, LAYOUT_PVH_INFO);
    cr_assert_eq(entry.mode, BOOT_PVH32);
    info = mem_at(&mem, entry.info, 56);
    cr_assert_eq(get32(info), 0x336ec578);
    cr_assert_eq(get32(info + 4), 1);
    cr_assert_eq(get32(info + 8), 0);
    cr_assert_eq(get32(info + 12), 0);
    cr_assert_eq(get64(info + 16), 0);
    cr_assert_str_eq(mem_at(&mem, get64(info + 24), 0x1000), board.cmdline);
    cr_assert_eq(get64(info + 32), 0xe0010);
    cr_assert_eq(get32(info + 48), 4);
    map = mem_at(&mem, get64(info + 40), 4 * 24);
    cr_assert_eq(get64(map + 2 * 24), MIB);
    cr_assert_eq(get64(map + 2 * 24 + 8), MIB);
    cr_assert_eq(get32(map + 2 * 24 + 16), 1);
    cr_assert_eq(get32(map + 24 + 16), 2);
    cr_assert_eq(get64(map + 3 * 24), 0x100000000);
}

Test(params, pvh_module, .init = setup, .fini = teardown)
{
    struct boot_entry entry;
    struct husk_err err;
    const uint8_t *info, *module;

    board.initrd = 0x180000;
    board.initrd_size = 0x333;
    cr_assert_eq(params_pvh(&board, 0, &entry, &err), 0);
    info = mem_at(&mem, entry.info, 56);
    cr_assert_eq(get32(info + 12), 1);
    module = mem_at(&mem, get64(info + 16), 32);
    cr_assert_eq(get64(module), 0x180000);
    cr_assert_eq(get64(module + 8), 0x333);
    cr_assert_eq(get64(module + 16), 0);
}
