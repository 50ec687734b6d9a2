/*
 * How a loaded kernel is entered: what boot code found out, and the machine
 * sets up on the first vCPU. A leaf header.
 */
#ifndef HUSK_VMM_MACHINE_ENTRY_H
#define HUSK_VMM_MACHINE_ENTRY_H

#include "vmm/machine/mem.h"

struct boot_entry {
    unsigned mode; /* one of the modes in the architecture's layout header */
    gpa_t entry;   /* first instruction, physical */
    gpa_t info;    /* what the kernel gets: its parameters' address */
};

#endif
