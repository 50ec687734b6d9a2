/*
 * What boot code must know of the machine, and what the machine must know to
 * enter a kernel. The machine fills struct boot_board; boot code turns it into
 * trees and tables, and never asks the machine for more.
 */
#ifndef HUSK_BOOT_BOARD_H
#define HUSK_BOOT_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "husk.h"
#include "vmm/machine/file.h"
#include "vmm/machine/mem.h"

/* A virtio-mmio device as the guest's tables describe it. */
struct boot_virtio {
    gpa_t base;
    uint64_t size; /* whole pages */
    uint32_t gsi;
    uint32_t id;          /* VIRTIO device type, as probed */
    uint32_t config_size; /* bytes of config space that the guest sees */
};

struct boot_board {
    const struct mem *mem;
    unsigned cpus;
    const char *cmdline; /* never NULL */
    const struct boot_virtio *virtio;
    unsigned n_virtio;
    uint8_t rng_seed[32];
    gpa_t initrd;         /* what initrd_load() placed */
    uint64_t initrd_size; /* 0: none */
    gpa_t rsdp;           /* ACPI's root pointer; 0: no ACPI */
    gpa_t panic;          /* one byte of pvpanic register; 0: none */
    bool uart2;           /* the results UART is there */
};

enum boot_mode {
    BOOT_LONG64, /* 64-bit mode, paging on, info in rsi */
    BOOT_PVH32,  /* 32-bit protected mode, paging off, info in ebx */
};

struct boot_entry {
    enum boot_mode mode;
    gpa_t entry; /* first instruction, physical */
    gpa_t info;  /* boot_params or hvm_start_info */
};

#endif
