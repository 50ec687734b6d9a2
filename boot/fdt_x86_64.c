/*
 * x86_64's part of the device tree: processors, interrupt controllers and
 * serial ports. The controllers bear the names that Linux's
 * arch/x86/kernel/devicetree.c looks for; their second interrupt cell is not
 * the usual IRQ_TYPE: 0 and 3 are edge, low and high active, 1 and 2 level.
 */
#include <stdbool.h>

#include "boot/arch.h"
#include "vmm/machine/layout_x86_64.h"

#define EDGE_RISING 3u
#define ISA_IO      1u /* first address cell of an I/O port */

const char *const boot_arch_stdout = "/isa@i0/serial@i3f8";

void boot_arch_interrupt(struct tree *t, uint32_t irq)
{
    const uint32_t value[] = { irq, EDGE_RISING };

    tree_cell(t, "interrupt-parent", TREE_CONTROLLER);
    tree_cells(t, "interrupts", value, 2);
}

static void put_cpus(struct tree *t, unsigned cpus)
{
    tree_begin(t, "cpus");
    tree_cell(t, "#address-cells", 1);
    tree_cell(t, "#size-cells", 0);
    for (unsigned i = 0; i < cpus; i++) {
        tree_begin_at(t, "cpu", "", i);
        tree_text(t, "device_type", "cpu");
        tree_text(t, "compatible", "husk,vcpu");
        tree_cell(t, "reg", i); /* the local APIC's id */
        tree_end(t);
    }
    tree_end(t);
}

static void put_controller(struct tree *t, uint64_t base,
                           const char *compatible, uint32_t phandle)
{
    tree_begin_at(t, "interrupt-controller", "", base);
    tree_text(t, "compatible", compatible);
    tree_flag(t, "interrupt-controller");
    tree_cell(t, "#interrupt-cells", 2);
    tree_cell(t, "#address-cells", 0);
    tree_reg(t, base, 0x1000);
    if (phandle != 0)
        tree_cell(t, "phandle", phandle);
    else
        tree_flag(t, "intel,virtual-wire-mode"); /* how KVM resets LINT0 */
    tree_end(t);
}

static void put_uart(struct tree *t, uint32_t port, uint32_t gsi)
{
    const uint32_t place[] = { ISA_IO, port, LAYOUT_UART_PORTS };

    tree_begin_at(t, "serial", "i", port);
    tree_text(t, "compatible", "ns16550a");
    tree_cells(t, "reg", place, 3);
    tree_cell(t, "clock-frequency", 1843200);
    tree_cell(t, "current-speed", 115200);
    boot_arch_interrupt(t, gsi);
    tree_end(t);
}

static void put_isa(struct tree *t, bool uart2)
{
    /* All ports, each at its own number. */
    const uint32_t ranges[] = { ISA_IO, 0, 0, 0, 0x10000 };

    tree_begin(t, "isa@i0"); /* memory@0 has the plain address */
    tree_text(t, "compatible", "isa");
    tree_cell(t, "#address-cells", 2);
    tree_cell(t, "#size-cells", 1);
    tree_cells(t, "ranges", ranges, 5);
    put_uart(t, LAYOUT_UART_PIO, LAYOUT_UART_GSI);
    if (uart2)
        put_uart(t, LAYOUT_UART2_PIO, LAYOUT_UART2_GSI);
    tree_end(t);
}

void boot_arch_nodes(struct tree *t, const struct boot_board *board)
{
    put_cpus(t, board->cpus);
    put_controller(t, LAYOUT_IOAPIC, "intel,ce4100-ioapic", TREE_CONTROLLER);
    put_controller(t, LAYOUT_LAPIC, "intel,ce4100-lapic", 0);
    put_isa(t, board->uart2);
}
