/*
 * The device tree: what stands in it, read back with libfdt, and that dtc finds
 * nothing to warn of.
 */
#include "boot/fdt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <libfdt.h>

#include "tests/unit/ram.h"

#define DEVICES 32u

static struct boot_virtio devices[DEVICES];
static struct mem mem;

static struct boot_board board = {
    .mem = &mem,
    .cpus = 4,
    .uart2 = true,
    .cmdline = "console=ttyS0 root=/dev/vda \"quoted\"",
    .virtio = devices,
    .n_virtio = DEVICES,
    .rng_seed = { 1, 2, 3, [31] = 0xff },
};

static void setup(void)
{
    mem = (struct mem){ .fd = -1, .n_regions = 2, .size = 0xc8000000 };
    mem.region[0] = (struct mem_region){ .size = 0xc0000000 };
    mem.region[1] =
        (struct mem_region){ .base = 0x100000000, .size = 0x8000000 };
    for (unsigned i = 0; i < DEVICES; i++)
        devices[i] = (struct boot_virtio){
            .base = 0xd0000000 + i * 0x2000,
            .size = 0x2000,
            .irq = 5 + i % 15,
            .id = i == 3 ? 0xfedcba98 : i + 1,
            .config_size = i * 100,
        };
}

static void *build(size_t *size)
{
    struct husk_err err;
    void *blob;

    cr_assert_eq(fdt_build(&board, &blob, size, &err), 0, "%s", err.text);
    cr_assert_eq(fdt_check_full(blob, *size), 0);
    return blob;
}

static const void *get(const void *blob, const char *path, const char *name,
                       int size)
{
    int node = fdt_path_offset(blob, path);
    const void *value;
    int length;

    cr_assert_geq(node, 0, "no node %s", path);
    value = fdt_getprop(blob, node, name, &length);
    cr_assert_not_null(value, "%s has no %s", path, name);
    cr_assert_eq(length, size, "%s %s: %d bytes, not %d", path, name, length,
                 size);
    return value;
}

static void check_cells(const void *blob, const char *path, const char *name,
                        unsigned count, const uint32_t *want)
{
    const fdt32_t *value = get(blob, path, name, (int)count * 4);

    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(fdt32_to_cpu(value[i]), want[i], "%s %s[%u]: %#x, not %#x",
                     path, name, i, fdt32_to_cpu(value[i]), want[i]);
}

static void check_text(const void *blob, const char *path, const char *name,
                       const char *want)
{
    const char *value = get(blob, path, name, (int)strlen(want) + 1);

    cr_assert_str_eq(value, want);
}

#define CELLS(...)                                                             \
    (sizeof((uint32_t[]){ __VA_ARGS__ }) / 4), (const uint32_t[])              \
    {                                                                          \
        __VA_ARGS__                                                            \
    }

Test(fdt, describes_the_board, .init = setup)
{
    size_t size;
    void *blob = build(&size);

    check_text(blob, "/", "compatible", "husk,board");
    check_text(blob, "/", "model", "husk");
    check_cells(blob, "/", "#address-cells", CELLS(2));
    check_cells(blob, "/", "#size-cells", CELLS(2));
    check_text(blob, "/chosen", "bootargs", board.cmdline);
    check_text(blob, "/chosen", "stdout-path", "/isa@i0/serial@i3f8");
    cr_assert_arr_eq(get(blob, "/chosen", "rng-seed", 32), board.rng_seed, 32);
    cr_assert_lt(fdt_path_offset(blob, "/chosen/linux,initrd-start"), 0);
    check_cells(blob, "/memory@0", "reg", CELLS(0, 0, 0, 0xc0000000));
    check_cells(blob, "/memory@100000000", "reg", CELLS(1, 0, 0, 0x8000000));
    check_text(blob, "/cpus/cpu@3", "device_type", "cpu");
    check_cells(blob, "/cpus/cpu@3", "reg", CELLS(3));
    cr_assert_lt(fdt_path_offset(blob, "/cpus/cpu@4"), 0);
    check_text(blob, "/interrupt-controller@fee00000", "compatible",
               "intel,ce4100-lapic");
    check_text(blob, "/interrupt-controller@fec00000", "compatible",
               "intel,ce4100-ioapic");
    check_cells(blob, "/interrupt-controller@fec00000", "#interrupt-cells",
                CELLS(2));
    check_text(blob, "/isa@i0/serial@i3f8", "compatible", "ns16550a");
    check_cells(blob, "/isa@i0/serial@i3f8", "reg", CELLS(1, 0x3f8, 8));
    check_cells(blob, "/isa@i0/serial@i3f8", "interrupts", CELLS(4, 3));
    check_cells(blob, "/isa@i0/serial@i2f8", "interrupts", CELLS(3, 3));
    free(blob);
}

Test(fdt, describes_32_devices, .init = setup)
{
    size_t size;
    void *blob = build(&size);
    int node;

    check_text(blob, "/virtio@d0000000", "compatible", "virtio,mmio");
    for (unsigned i = 0; i < DEVICES; i++) {
        uint32_t base = 0xd0000000 + i * 0x2000;
        char path[64], id[32];

        snprintf(path, sizeof path, "/virtio@%x", base);
        check_cells(blob, path, "reg", CELLS(0, base, 0, 0x2000));
        check_cells(blob, path, "interrupts", CELLS(5 + i % 15, 3));
        check_cells(blob, path, "husk,config-size", CELLS(i * 100));
        get(blob, path, "dma-coherent", 0);
        strcat(path, "/device");
        snprintf(id, sizeof id, "virtio,device%x", devices[i].id);
        check_text(blob, path, "compatible", id);
    }
    check_text(blob, "/virtio@d0006000/device", "compatible",
               "virtio,devicefedcba98");
    node = fdt_path_offset(blob, "/virtio@d0000000");
    cr_assert_eq(fdt_node_offset_by_phandle(
                     blob, fdt32_to_cpu(*(const fdt32_t *)fdt_getprop(
                               blob, node, "interrupt-parent", NULL))),
                 fdt_path_offset(blob, "/interrupt-controller@fec00000"));
    free(blob);
}

Test(fdt, takes_initrd_and_panic, .init = setup)
{
    size_t size;
    void *blob;

    board.initrd = 0x1234000;
    board.initrd_size = 0x999;
    board.panic = 0xd0ff0000;
    blob = build(&size);
    check_cells(blob, "/chosen", "linux,initrd-start", CELLS(0, 0x1234000));
    check_cells(blob, "/chosen", "linux,initrd-end", CELLS(0, 0x1234999));
    check_text(blob, "/pvpanic@d0ff0000", "compatible", "qemu,pvpanic-mmio");
    free(blob);
}

Test(fdt, grows_for_many_cpus, .init = setup)
{
    size_t size;
    void *blob;

    board.cpus = 1000;
    blob = build(&size);
    check_cells(blob, "/cpus/cpu@3e7", "reg", CELLS(999));
    free(blob);
}

static void check_dtc(void)
{
    char path[] = "/tmp/husk-fdt-XXXXXX", command[128], line[512];
    int file = mkstemp(path);
    bool root = false;
    unsigned n_virtio = 0;
    size_t size;
    void *blob = build(&size);
    FILE *dtc;

    cr_assert_geq(file, 0);
    cr_assert_eq(write(file, blob, size), (ssize_t)size);
    close(file);
    snprintf(command, sizeof command, "dtc -I dtb -O dts %s 2>&1", path);
    dtc = popen(command, "r");
    cr_assert_not_null(dtc);
    while (fgets(line, sizeof line, dtc) != NULL) {
        cr_assert_null(strstr(line, "Warning"), "%s", line);
        cr_assert_null(strstr(line, "ERROR"), "%s", line);
        root = root || strcmp(line, "/ {\n") == 0;
        n_virtio += strstr(line, "\"virtio,mmio\"") != NULL;
    }
    cr_assert_eq(pclose(dtc), 0);
    cr_assert(root);
    cr_assert_eq(n_virtio, board.n_virtio);
    unlink(path);
    free(blob);
}

/* What did not fit at first is there in the end. */
Test(fdt, grows_for_a_long_command_line, .init = setup)
{
    static char line[3901];
    size_t size;
    void *blob;

    memset(line, 'x', sizeof line - 1);
    board.cmdline = line;
    board.n_virtio = 0;
    blob = build(&size);
    check_text(blob, "/chosen", "bootargs", line);
    free(blob);
}

Test(fdt, has_a_largest_size, .init = setup)
{
    struct husk_err err;
    void *blob;
    size_t size;

    board.cpus = 20000;
    blob = build(&size);
    cr_assert(size > 0x100000 && size <= 0x400000, "%zu bytes", size);
    free(blob);
    board.cpus = 100000;
    cr_assert_eq(fdt_build(&board, &blob, &size, &err), -ENOMEM);
    cr_assert_str_eq(err.text, "the device tree outgrew 4194304 bytes");
}

Test(fdt, satisfies_dtc, .init = setup, .timeout = 30)
{
    check_dtc();
    board.n_virtio = 0;
    board.cpus = 1;
    mem.n_regions = 1;
    board.cmdline = "";
    board.panic = 0xd0ff0000;
    check_dtc();
}
