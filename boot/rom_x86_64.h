/*
 * The one thing that is left of a BIOS: code at the reset vector. A kernel that
 * knows no better way to restart goes to real mode and jumps there.
 */
#ifndef HUSK_BOOT_ROM_X86_64_H
#define HUSK_BOOT_ROM_X86_64_H

#include "boot/board.h"

/*
 * Write LAYOUT_RESET: code that resets the machine by the keyboard controller.
 *   -ENOMEM  guest memory does not reach that far
 */
int rom_write(const struct mem *mem, struct husk_err *err);

#endif
