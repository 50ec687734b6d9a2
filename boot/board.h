/*
 * The machine as boot code describes it to the guest: vmm/ fills struct
 * boot_board, boot/ turns it into trees and tables.
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
    uint64_t size;        /* whole pages */
    uint32_t irq;         /* as the interrupt controller numbers it */
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
    gpa_t panic;          /* one byte of pvpanic register; 0: none */
    bool uart2;           /* the results UART exists */
};

#endif
