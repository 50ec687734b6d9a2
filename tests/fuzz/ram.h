/*
 * Guest memory for harnesses of boot code: two ranges on the heap, so that the
 * sanitizer sees every byte outside of them; and a board around it.
 */
#ifndef HUSK_TESTS_FUZZ_RAM_H
#define HUSK_TESTS_FUZZ_RAM_H

#include "boot/board.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/entry.h"

#define RAM_LOW  (0x100000u + 0x10000u) /* kernels begin at 1 MiB */
#define RAM_HIGH 0x4000u
#define RAM_GAP  0x100000000u /* where the second range begins */

/* Made once, all zeros at first. */
const struct mem *ram_mem(void);

/* Fill memory from 1 MiB up, and the second range, with byte. */
void ram_fill(uint8_t byte);
/* Whether they still hold it. */
bool ram_is(uint8_t byte);

/* A board with this memory, from the input: processors, devices, command line.
 * What it points to stays until the next call. */
void ram_board(struct boot_board *board, struct input *in);

/* A copy that ends where a page of address space does not: reading past it is
 * seen. The caller frees it. */
void *ram_copy(const void *data, size_t size);

/* What the kernel was told and where it is entered must be in memory. */
void ram_check_entry(const struct boot_entry *entry);

#endif
