/*
 * The board's device tree, written in order with libfdt's sequential calls.
 * The interrupt controllers bear the names that Linux's
 * arch/x86/kernel/devicetree.c looks for; their second interrupt cell is not
 * the usual IRQ_TYPE: 0 and 3 are edge, low and high active, 1 and 2 level.
 * Devices follow the kernel's bindings virtio/mmio.yaml and
 * virtio/virtio-device.yaml; beyond them a device has "husk,config-size", the
 * bytes of its config space.
 */
#include "boot/fdt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

#define FIRST_SIZE 0x1000u /* of a tree, with so much more a device */
#define MORE_SIZE  0x200u
#define MAX_SIZE   0x400000u

#define PHANDLE_IOAPIC 1u
#define EDGE_RISING    3u
#define ISA_IO         1u /* first address cell of an I/O port */

/* After the first error nothing more is written. */
struct tree {
    void *blob;
    int rc; /* of libfdt */
};

static void begin(struct tree *t, const char *name)
{
    if (t->rc == 0)
        t->rc = fdt_begin_node(t->blob, name);
}

/* name@address, in the hexadecimal form that dtc checks. */
static void begin_at(struct tree *t, const char *name, const char *prefix,
                     uint64_t address)
{
    char full[64];

    snprintf(full, sizeof full, "%s@%s%" PRIx64, name, prefix, address);
    begin(t, full);
}

static void end(struct tree *t)
{
    if (t->rc == 0)
        t->rc = fdt_end_node(t->blob);
}

static void bytes(struct tree *t, const char *name, const void *data,
                  size_t size)
{
    if (t->rc == 0)
        t->rc = fdt_property(t->blob, name, data, (int)size);
}

static void text(struct tree *t, const char *name, const char *value)
{
    bytes(t, name, value, strlen(value) + 1);
}

static void flag(struct tree *t, const char *name)
{
    bytes(t, name, NULL, 0);
}

static void cells(struct tree *t, const char *name, const uint32_t *value,
                  unsigned count)
{
    fdt32_t out[8];

    for (unsigned i = 0; i < count; i++)
        out[i] = cpu_to_fdt32(value[i]);
    bytes(t, name, out, count * sizeof *out);
}

static void cell(struct tree *t, const char *name, uint32_t value)
{
    cells(t, name, &value, 1);
}

static void reg(struct tree *t, uint64_t base, uint64_t size)
{
    const uint32_t value[] = { (uint32_t)(base >> 32), (uint32_t)base,
                               (uint32_t)(size >> 32), (uint32_t)size };

    cells(t, "reg", value, 4);
}

static void interrupt(struct tree *t, uint32_t gsi)
{
    const uint32_t value[] = { gsi, EDGE_RISING };

    cell(t, "interrupt-parent", PHANDLE_IOAPIC);
    cells(t, "interrupts", value, 2);
}

static void put_chosen(struct tree *t, const struct boot_board *board)
{
    fdt64_t place;

    begin(t, "chosen");
    text(t, "bootargs", board->cmdline);
    text(t, "stdout-path", "/isa@i0/serial@i3f8");
    bytes(t, "rng-seed", board->rng_seed, sizeof board->rng_seed);
    if (board->initrd_size > 0) {
        place = cpu_to_fdt64(board->initrd);
        bytes(t, "linux,initrd-start", &place, sizeof place);
        place = cpu_to_fdt64(board->initrd + board->initrd_size);
        bytes(t, "linux,initrd-end", &place, sizeof place);
    }
    end(t);
}

static void put_memory(struct tree *t, const struct mem *mem)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        begin_at(t, "memory", "", mem->region[i].base);
        text(t, "device_type", "memory");
        reg(t, mem->region[i].base, mem->region[i].size);
        end(t);
    }
}

static void put_cpus(struct tree *t, unsigned cpus)
{
    begin(t, "cpus");
    cell(t, "#address-cells", 1);
    cell(t, "#size-cells", 0);
    for (unsigned i = 0; i < cpus; i++) {
        begin_at(t, "cpu", "", i);
        text(t, "device_type", "cpu");
        text(t, "compatible", "husk,vcpu");
        cell(t, "reg", i); /* the local APIC's id */
        end(t);
    }
    end(t);
}

static void put_controller(struct tree *t, uint64_t base,
                           const char *compatible, uint32_t phandle)
{
    begin_at(t, "interrupt-controller", "", base);
    text(t, "compatible", compatible);
    flag(t, "interrupt-controller");
    cell(t, "#interrupt-cells", 2);
    cell(t, "#address-cells", 0);
    reg(t, base, 0x1000);
    if (phandle != 0)
        cell(t, "phandle", phandle);
    else
        flag(t, "intel,virtual-wire-mode"); /* how KVM resets LINT0 */
    end(t);
}

static void put_uart(struct tree *t, uint32_t port, uint32_t gsi)
{
    const uint32_t place[] = { ISA_IO, port, LAYOUT_UART_PORTS };

    begin_at(t, "serial", "i", port);
    text(t, "compatible", "ns16550a");
    cells(t, "reg", place, 3);
    cell(t, "clock-frequency", 1843200);
    cell(t, "current-speed", 115200);
    interrupt(t, gsi);
    end(t);
}

static void put_isa(struct tree *t, bool uart2)
{
    /* All ports, each at its own number. */
    const uint32_t ranges[] = { ISA_IO, 0, 0, 0, 0x10000 };

    begin(t, "isa@i0"); /* memory@0 has the plain address */
    text(t, "compatible", "isa");
    cell(t, "#address-cells", 2);
    cell(t, "#size-cells", 1);
    cells(t, "ranges", ranges, 5);
    put_uart(t, LAYOUT_UART_PIO, LAYOUT_UART_GSI);
    if (uart2)
        put_uart(t, LAYOUT_UART2_PIO, LAYOUT_UART2_GSI);
    end(t);
}

static void put_virtio(struct tree *t, const struct boot_virtio *virtio)
{
    char compatible[32];

    begin_at(t, "virtio", "", virtio->base);
    text(t, "compatible", "virtio,mmio");
    reg(t, virtio->base, virtio->size);
    interrupt(t, virtio->gsi);
    flag(t, "dma-coherent");
    cell(t, "husk,config-size", virtio->config_size);
    begin(t, "device");
    snprintf(compatible, sizeof compatible, "virtio,device%" PRIx32,
             virtio->id);
    text(t, "compatible", compatible);
    end(t);
    end(t);
}

static void put_root(struct tree *t, const struct boot_board *board)
{
    begin(t, "");
    text(t, "compatible", "husk,board");
    text(t, "model", "husk");
    cell(t, "#address-cells", 2);
    cell(t, "#size-cells", 2);
    cell(t, "interrupt-parent", PHANDLE_IOAPIC);
    put_chosen(t, board);
    put_memory(t, board->mem);
    put_cpus(t, board->cpus);
    put_controller(t, LAYOUT_IOAPIC, "intel,ce4100-ioapic", PHANDLE_IOAPIC);
    put_controller(t, LAYOUT_LAPIC, "intel,ce4100-lapic", 0);
    put_isa(t, board->uart2);
    for (unsigned i = 0; i < board->n_virtio; i++)
        put_virtio(t, &board->virtio[i]);
    if (board->panic != 0) {
        begin_at(t, "pvpanic", "", board->panic);
        text(t, "compatible", "qemu,pvpanic-mmio");
        reg(t, board->panic, 2);
        end(t);
    }
    end(t);
}

/* Returns libfdt's error code. */
static int write_tree(void *blob, int size, const struct boot_board *board)
{
    struct tree t = { .blob = blob };

    /* a name that is stored twice costs less than looking for it each time */
    t.rc = fdt_create_with_flags(blob, size, FDT_CREATE_FLAG_NO_NAME_DEDUP);
    if (t.rc == 0)
        t.rc = fdt_finish_reservemap(blob);
    put_root(&t, board);
    if (t.rc == 0)
        t.rc = fdt_finish(blob);
    return t.rc;
}

int fdt_build(const struct boot_board *board, void **blob, size_t *size,
              struct husk_err *err)
{
    size_t room = FIRST_SIZE + board->n_virtio * MORE_SIZE;

    for (; room <= MAX_SIZE; room *= 2) {
        /* Zeroed, since libfdt leaves its paddings as they are. */
        void *tree = calloc(1, room);
        int rc;

        if (tree == NULL)
            return fail(err, -ENOMEM, "no memory for the device tree");
        rc = write_tree(tree, (int)room, board);
        if (rc == 0) {
            *blob = tree;
            *size = fdt_totalsize(tree);
            return 0;
        }
        free(tree);
        if (rc != -FDT_ERR_NOSPACE)
            return fail(err, -EINVAL, "the device tree: %s", fdt_strerror(rc));
    }
    return fail(err, -ENOMEM, "the device tree outgrew %u bytes", MAX_SIZE);
}
