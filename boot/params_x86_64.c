/*
 * Linux's boot_params as the 64-bit boot protocol wants them (the kernel's
 * Documentation/arch/x86/boot.rst and zero-page.rst), and hvm_start_info of the
 * PVH boot protocol (Xen's public/arch-x86/hvm/start_info.h). Offsets are the
 * documents'. A command line that does not fit is refused, never cut.
 */
#include "boot/params_x86_64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "boot/bytes.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

/* zero-page.rst */
#define ZP_SIZE             0x1000u
#define ZP_ACPI_RSDP        0x070u
#define ZP_EXT_RAMDISK      0x0c0u
#define ZP_EXT_RAMDISK_SIZE 0x0c4u
#define ZP_E820_ENTRIES     0x1e8u
#define ZP_E820_TABLE       0x2d0u
#define E820_ENTRY          20u

/* boot.rst, "the real-mode kernel header"; offsets hold for the page too */
#define HDR_START        0x1f1u
#define HDR_BOOT_FLAG    0x1feu
#define HDR_MAGIC        0x202u
#define HDR_VERSION      0x206u
#define HDR_LOADER       0x210u
#define HDR_RAMDISK      0x218u
#define HDR_RAMDISK_SIZE 0x21cu
#define HDR_CMDLINE      0x228u
#define HDR_CMDLINE_SIZE 0x238u
#define HDR_SETUP_DATA   0x250u
#define HDR_END          0x290u /* what follows belongs to the page */
#define LOADER_UNDEFINED 0xffu

#define SETUP_HEADER   16u /* next, type, length */
#define SETUP_DTB      2u
#define SETUP_RNG_SEED 9u

/* start_info.h */
#define PVH_MAGIC       0x336ec578u
#define PVH_INFO_SIZE   56u
#define PVH_MODULES     0x40u /* where the lists stand in the page */
#define PVH_MODULE_SIZE 32u
#define PVH_MEMMAP      0x80u
#define PVH_MEMMAP_SIZE 24u

/* Types of the e820 map, which are PVH's too. */
enum { RANGE_RAM = 1, RANGE_RESERVED = 2 };

struct range {
    gpa_t start, end;
    uint32_t type;
};

struct map {
    unsigned count;
    struct range range[2 * MEM_MAX_REGIONS + 1];
};

static void add_range(struct map *map, gpa_t start, gpa_t end, uint32_t type)
{
    if (start < end)
        map->range[map->count++] = (struct range){ start, end, type };
}

/* Memory but for the firmware's place below 1 MiB. */
static void make_map(const struct mem *mem, struct map *map)
{
    map->count = 0;
    for (unsigned i = 0; i < mem->n_regions; i++) {
        gpa_t start = mem->region[i].base;
        gpa_t end = start + mem->region[i].size;
        gpa_t low = end < LAYOUT_LOW_END ? end : LAYOUT_LOW_END;
        gpa_t high = start > LAYOUT_HIGH_START ? start : LAYOUT_HIGH_START;

        add_range(map, start, low, RANGE_RAM);
        if (i == 0)
            add_range(map, low, end < high ? end : high, RANGE_RESERVED);
        add_range(map, high, end, RANGE_RAM);
    }
}

static int put_cmdline(const struct boot_board *board, struct husk_err *err)
{
    size_t length = strlen(board->cmdline);
    char *to = mem_at(board->mem, LAYOUT_CMDLINE, LAYOUT_CMDLINE_SIZE);

    if (length > PARAMS_MAX_CMDLINE)
        return fail(err, -E2BIG,
                    "the command line is %zu bytes long, at most %u are taken",
                    length, PARAMS_MAX_CMDLINE);
    if (to == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for the "
                    "command line at %#x",
                    board->mem->size, LAYOUT_CMDLINE);
    memcpy(to, board->cmdline, length + 1);
    return 0;
}

/* Returns where the next piece of setup data goes. */
static gpa_t put_setup(const struct mem *mem, gpa_t at, uint32_t type,
                       const void *data, size_t size, bool last)
{
    gpa_t next = (at + SETUP_HEADER + size + 15) & ~(gpa_t)15;
    uint8_t *to = mem_at(mem, at, SETUP_HEADER + size);

    put64(to, last ? 0 : next);
    put32(to + 8, type);
    put32(to + 12, (uint32_t)size);
    memcpy(to + SETUP_HEADER, data, size);
    return next;
}

static int put_setup_data(const struct boot_board *board,
                          const struct params *params, struct husk_err *err)
{
    size_t used = 2 * SETUP_HEADER + sizeof board->rng_seed;
    size_t tree_size = params->tree != NULL ? params->tree_size : 0;
    gpa_t at = LAYOUT_SETUP_DATA;

    if (tree_size > LAYOUT_SETUP_SIZE - used)
        return fail(err, -E2BIG,
                    "the device tree is %zu bytes long, at most %zu fit",
                    tree_size, LAYOUT_SETUP_SIZE - used);
    if (mem_at(board->mem, at, used + tree_size) == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for %zu "
                    "bytes of device tree at %#x",
                    board->mem->size, tree_size, LAYOUT_SETUP_DATA);
    at = put_setup(board->mem, at, SETUP_RNG_SEED, board->rng_seed,
                   sizeof board->rng_seed, params->tree == NULL);
    if (params->tree != NULL)
        put_setup(board->mem, at, SETUP_DTB, params->tree, tree_size, true);
    return 0;
}

static void put_e820(const struct mem *mem, uint8_t *page)
{
    uint8_t *entry = page + ZP_E820_TABLE;
    struct map map;

    make_map(mem, &map);
    page[ZP_E820_ENTRIES] = (uint8_t)map.count;
    for (unsigned i = 0; i < map.count; i++, entry += E820_ENTRY) {
        put64(entry, map.range[i].start);
        put64(entry + 8, map.range[i].end - map.range[i].start);
        put32(entry + 16, map.range[i].type);
    }
}

static void put_initrd(const struct boot_board *board, uint8_t *page)
{
    put32(page + HDR_RAMDISK, (uint32_t)board->initrd);
    put32(page + HDR_RAMDISK_SIZE, (uint32_t)board->initrd_size);
    put32(page + ZP_EXT_RAMDISK, (uint32_t)(board->initrd >> 32));
    put32(page + ZP_EXT_RAMDISK_SIZE, (uint32_t)(board->initrd_size >> 32));
}

int params_linux(const struct boot_board *board, const struct params *params,
                 struct boot_entry *entry, struct husk_err *err)
{
    uint8_t *page = mem_at(board->mem, LAYOUT_PARAMS, ZP_SIZE);
    int rc;

    if (params->header != NULL && params->header_size > HDR_END - HDR_START)
        return fail(err, -E2BIG,
                    "the setup header is %zu bytes long, at most %u are known",
                    params->header_size, HDR_END - HDR_START);
    if (page == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for "
                    "boot_params at %#x",
                    board->mem->size, LAYOUT_PARAMS);
    if ((rc = put_cmdline(board, err)) < 0 ||
        (rc = put_setup_data(board, params, err)) < 0)
        return rc;

    memset(page, 0, ZP_SIZE);
    if (params->header != NULL) {
        memcpy(page + HDR_START, params->header, params->header_size);
    } else {
        put16(page + HDR_BOOT_FLAG, 0xaa55);
        memcpy(page + HDR_MAGIC, "HdrS", 4);
        put16(page + HDR_VERSION, 0x020f);
        put32(page + HDR_CMDLINE_SIZE, PARAMS_MAX_CMDLINE);
    }
    page[HDR_LOADER] = LOADER_UNDEFINED;
    put32(page + HDR_CMDLINE, LAYOUT_CMDLINE);
    put64(page + HDR_SETUP_DATA, LAYOUT_SETUP_DATA);
    put64(page + ZP_ACPI_RSDP, params->rsdp);
    put_initrd(board, page);
    put_e820(board->mem, page);
    entry->info = LAYOUT_PARAMS;
    return 0;
}

static void put_pvh_map(const struct mem *mem, uint8_t *page)
{
    uint8_t *entry = page + PVH_MEMMAP;
    struct map map;

    make_map(mem, &map);
    put64(page + 40, LAYOUT_PVH_INFO + PVH_MEMMAP);
    put32(page + 48, map.count);
    for (unsigned i = 0; i < map.count; i++, entry += PVH_MEMMAP_SIZE) {
        put64(entry, map.range[i].start);
        put64(entry + 8, map.range[i].end - map.range[i].start);
        put32(entry + 16, map.range[i].type);
    }
}

int params_pvh(const struct boot_board *board, gpa_t rsdp,
               struct boot_entry *entry, struct husk_err *err)
{
    uint8_t *page = mem_at(board->mem, LAYOUT_PVH_INFO, 0x1000);
    int rc;

    if (page == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for the "
                    "start info at %#x",
                    board->mem->size, LAYOUT_PVH_INFO);
    if ((rc = put_cmdline(board, err)) < 0)
        return rc;

    memset(page, 0, 0x1000);
    put32(page, PVH_MAGIC);
    put32(page + 4, 1); /* the version that has a memory map */
    put64(page + 24, LAYOUT_CMDLINE);
    put64(page + 32, rsdp);
    if (board->initrd_size > 0) {
        put32(page + 12, 1);
        put64(page + 16, LAYOUT_PVH_INFO + PVH_MODULES);
        put64(page + PVH_MODULES, board->initrd);
        put64(page + PVH_MODULES + 8, board->initrd_size);
    }
    put_pvh_map(board->mem, page);
    entry->info = LAYOUT_PVH_INFO;
    return 0;
}

_Static_assert(PVH_INFO_SIZE <= PVH_MODULES &&
                   PVH_MODULES + PVH_MODULE_SIZE <= PVH_MEMMAP,
               "the start info overlaps its lists");
