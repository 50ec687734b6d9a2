/*
 * The x86_64 board: every address and interrupt number in one place. A leaf
 * header, with no code.
 */
#ifndef HUSK_VMM_MACHINE_LAYOUT_X86_64_H
#define HUSK_VMM_MACHINE_LAYOUT_X86_64_H

/* Guest memory starts at 0; what lies past the hole's start moves above it. */
#define LAYOUT_HOLE_START 0xc0000000u
#define LAYOUT_HOLE_END   0x100000000ull

/* Low memory, written before the first instruction and free afterwards. */
#define LAYOUT_GDT          0x00000500u
#define LAYOUT_PVH_INFO     0x00001000u /* start info, memory map */
#define LAYOUT_PARAMS       0x00002000u /* boot_params, one page */
#define LAYOUT_PAGE_TABLE   0x00003000u /* six pages: 4 GiB, one to one */
#define LAYOUT_STACK        0x0000f000u /* grows down, one page is plenty */
#define LAYOUT_CMDLINE      0x00010000u
#define LAYOUT_CMDLINE_SIZE 0x1000u
#define LAYOUT_SETUP_DATA   0x00020000u /* SETUP_DTB and the tree */
#define LAYOUT_SETUP_SIZE   0x00060000u
#define LAYOUT_LOW_END      0x0009fc00u /* end of conventional memory */
#define LAYOUT_ACPI         0x000e0000u /* firmware tables, reserved in e820 */
#define LAYOUT_MPTABLE      0x000f0000u /* where kernels search for it */
#define LAYOUT_RESET        0x000ffff0u /* real mode's reset vector, f000:fff0 */
#define LAYOUT_HIGH_START   0x00100000u /* kernels are loaded from here up */

/* The hole. */
#define LAYOUT_VIRTIO 0xd0000000u
#define LAYOUT_PANIC  0xd1000000u /* pvpanic, one byte */
#define LAYOUT_IOAPIC 0xfec00000u
#define LAYOUT_LAPIC  0xfee00000u
#define LAYOUT_TSS    0xfffbd000u /* KVM's own, three pages */
#define LAYOUT_IDMAP  0xfffbc000u /* KVM's own, one page */

/* Ports. */
#define LAYOUT_UART_PIO    0x3f8u
#define LAYOUT_UART2_PIO   0x2f8u
#define LAYOUT_UART_PORTS  8u
#define LAYOUT_EXIT_PIO    0xf4u /* value v ends the run with status v */
#define LAYOUT_EXIT_PORTS  4u
#define LAYOUT_I8042_PIO   0x60u  /* data; command at + 4: 0xfe resets */
#define LAYOUT_POWER_PIO   0x600u /* FADT sleep control: bit 5 set = off */
#define LAYOUT_POWER_PORTS 2u     /* control, then status */

/* How a kernel is entered: boot_entry.mode. */
enum {
    BOOT_LONG64, /* 64-bit mode, paging on, info in rsi */
    BOOT_PVH32,  /* 32-bit protected mode, paging off, info in ebx */
};

/* Interrupts: IOAPIC pins. */
#define LAYOUT_UART_GSI  4u
#define LAYOUT_UART2_GSI 3u

_Static_assert(LAYOUT_PAGE_TABLE + 6 * 4096 <= LAYOUT_STACK - 4096,
               "page tables and stack overlap");
_Static_assert(LAYOUT_SETUP_DATA + LAYOUT_SETUP_SIZE <= LAYOUT_LOW_END,
               "setup data reaches past conventional memory");
_Static_assert(LAYOUT_UART2_PIO + LAYOUT_UART_PORTS <= LAYOUT_UART_PIO,
               "the UARTs overlap");

#endif
