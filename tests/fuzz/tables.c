/*
 * What guests are told of the machine, for any board: the device tree, which
 * libfdt itself must find whole; ACPI's tables, found from their root and
 * summed; the MP table; and the command line's words. Memory that is not
 * theirs must stay as it was, also where memory is too small.
 *
 * Input: a board, then how much memory there is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>

#include "boot/acpi_x86_64.h"
#include "boot/bytes.h"
#include "boot/fdt.h"
#include "boot/mptable_x86_64.h"
#include "tests/fuzz/ram.h"
#include "vmm/machine/layout_x86_64.h"

#define MARK 0xa5u

static struct mem mem;

/* Low memory, all MARK, but not more than size bytes of it. */
static void make_memory(uint64_t size)
{
    bool first = mem.n_regions == 0;

    mem = *ram_mem();
    mem.n_regions = 1;
    mem.size = mem.region[0].size = size;
    /* the rest is checked to be MARK still */
    if (first)
        memset(mem.region[0].host, MARK, RAM_LOW);
    memset(mem.region[0].host + LAYOUT_ACPI, MARK,
           LAYOUT_HIGH_START - LAYOUT_ACPI);
}

/* Nothing was written but from..to. */
static void check_only(gpa_t from, gpa_t to)
{
    const uint8_t *bytes = mem.region[0].host;

    CHECK(bytes[0] == MARK && !memcmp(bytes, bytes + 1, from - 1));
    CHECK(bytes[to] == MARK &&
          !memcmp(bytes + to, bytes + to + 1, RAM_LOW - to - 1));
}

static uint8_t sum(gpa_t at, size_t size)
{
    const uint8_t *bytes = mem_at(&mem, at, size);
    uint8_t total = 0;

    CHECK(bytes != NULL);
    for (size_t i = 0; i < size; i++)
        total = (uint8_t)(total + bytes[i]);
    return total;
}

static void check_error(int rc, const struct husk_err *err)
{
    CHECK(rc < 0 && err->code == rc && err->text[0]);
}

static void check_tree(const struct boot_board *board)
{
    struct husk_err err = { 0 };
    void *tree = NULL;
    size_t size = 0;
    int rc = fdt_build(board, &tree, &size, &err), node, length;
    unsigned devices = 0, cpus = 0;
    const char *text;

    CHECK_EQ(rc, 0); /* no board of these is too large for it */
    CHECK_EQ(fdt_check_full(tree, size), 0);
    node = fdt_path_offset(tree, "/chosen");
    text = fdt_getprop(tree, node, "bootargs", &length);
    CHECK(text && (size_t)length == strlen(board->cmdline) + 1);
    CHECK(!strcmp(text, board->cmdline));
    for (node = fdt_node_offset_by_compatible(tree, -1, "virtio,mmio");
         node >= 0;
         node = fdt_node_offset_by_compatible(tree, node, "virtio,mmio")) {
        const uint8_t *reg = fdt_getprop(tree, node, "reg", &length);

        CHECK(reg && length == 16);
        CHECK_EQ(fdt64_ld((const fdt64_t *)(const void *)reg),
                 board->virtio[devices].base);
        devices++;
    }
    CHECK_EQ(devices, board->n_virtio);
    node = fdt_path_offset(tree, "/cpus");
    for (node = fdt_first_subnode(tree, node); node >= 0;
         node = fdt_next_subnode(tree, node))
        cpus++;
    CHECK_EQ(cpus, board->cpus);
    free(tree);
}

static void check_table(gpa_t at, const char *signature)
{
    const uint8_t *table = mem_at(&mem, at, 36);

    CHECK(table != NULL && at >= LAYOUT_ACPI && at % 4 == 0);
    if (signature)
        CHECK(!memcmp(table, signature, 4));
    CHECK(get32(table + 4) >= 36);
    CHECK(at + get32(table + 4) <= LAYOUT_MPTABLE);
    CHECK_EQ(sum(at, get32(table + 4)), 0);
}

static void check_acpi(const struct boot_board *board)
{
    struct husk_err err = { 0 };
    gpa_t rsdp = 0;
    int rc = acpi_write(board, &rsdp, &err);
    const uint8_t *root, *xsdt;
    gpa_t at;

    check_only(LAYOUT_ACPI, LAYOUT_MPTABLE);
    if (mem.size >= LAYOUT_HIGH_START && board->cpus <= 255)
        CHECK_EQ(rc, 0);
    if (mem.size < LAYOUT_ACPI)
        CHECK_EQ(rc, -ENOMEM);
    if (rc < 0) {
        check_error(rc, &err);
        return;
    }
    root = mem_at(&mem, rsdp, 36);
    CHECK(root && rsdp >= LAYOUT_ACPI && rsdp % 16 == 0);
    CHECK(!memcmp(root, "RSD PTR ", 8));
    CHECK_EQ(sum(rsdp, 20), 0);
    CHECK_EQ(sum(rsdp, 36), 0);
    at = get64(root + 24);
    check_table(at, "XSDT");
    xsdt = mem_at(&mem, at, 36);
    for (uint32_t i = 36; i < get32(xsdt + 4); i += 8) {
        gpa_t entry = get64(xsdt + i);

        check_table(entry, NULL);
        if (!memcmp(mem_at(&mem, entry, 4), "FACP", 4))
            check_table(get64((uint8_t *)mem_at(&mem, entry, 148) + 140),
                        "DSDT");
    }
}

static void check_mptable(const struct boot_board *board)
{
    struct husk_err err = { 0 };
    int rc = mptable_write(board, &err);
    const uint8_t *pointer, *table;
    bool has_pins = true;

    check_only(LAYOUT_MPTABLE, LAYOUT_RESET);
    for (unsigned i = 0; i < board->n_virtio; i++)
        has_pins &= board->virtio[i].irq < 24;
    if (mem.size >= LAYOUT_HIGH_START && board->cpus <= 250)
        CHECK_EQ(rc, has_pins ? 0 : -EINVAL);
    CHECK(rc < 0 || (has_pins && board->cpus < 256));
    if (rc < 0) {
        check_error(rc, &err);
        return;
    }
    pointer = mem_at(&mem, LAYOUT_MPTABLE, 16);
    CHECK(!memcmp(pointer, "_MP_", 4));
    CHECK_EQ(sum(LAYOUT_MPTABLE, 16), 0);
    table = mem_at(&mem, get32(pointer + 4), 44);
    CHECK(table && !memcmp(table, "PCMP", 4));
    CHECK(get16(table + 4) >= 44);
    CHECK_EQ(sum(get32(pointer + 4), get16(table + 4)), 0);
}

static void check_words(const struct boot_board *board, size_t room)
{
    char *line = malloc(room);
    char *expected = malloc(8192);
    struct husk_err err = { 0 };
    int rc = mptable_cmdline(board, line, room, &err);
    size_t length;

    CHECK(expected != NULL);
    length = (size_t)sprintf(expected, "%s", board->cmdline);
    for (unsigned i = 0; i < board->n_virtio; i++) {
        const struct boot_virtio *virtio = &board->virtio[i];

        length += (size_t)sprintf(
            expected + length, "%svirtio_mmio.device=%lluK@0x%llx:%u",
            length ? " " : "", (unsigned long long)virtio->size / 1024,
            (unsigned long long)virtio->base, virtio->irq);
    }
    if (length + 1 <= room) {
        CHECK_EQ(rc, 0);
        CHECK(!strcmp(line, expected));
    } else {
        CHECK_EQ(rc, -E2BIG);
        check_error(rc, &err);
    }
    free(line);
    free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size };
    struct boot_board board;
    uint32_t less;

    ram_board(&board, &in);
    less = input_u32(&in) % (RAM_LOW + 1);
    board.mem = &mem;
    make_memory(RAM_LOW - less);
    if (input_u8(&in) & 1) {
        board.initrd = input_u64(&in);
        board.initrd_size = input_u64(&in);
    }
    check_tree(&board);
    check_acpi(&board);
    make_memory(RAM_LOW - less);
    check_mptable(&board);
    check_words(&board, 1u + input_u16(&in) % 4300);
    return 0;
}
