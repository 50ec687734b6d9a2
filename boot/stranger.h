/* Files that people give in a kernel's place, told by their first bytes. */
#ifndef HUSK_BOOT_STRANGER_H
#define HUSK_BOOT_STRANGER_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/machine/file.h"

/* "multiboot" or "multiboot2" if the file has such a header, else NULL. */
const char *stranger_multiboot(const void *data, size_t size);

/*
 * The error for a file that no loader of this architecture takes: what it is
 * instead of a kernel, and what to do.
 *   -ENOEXEC  always
 */
int stranger_refuse(const struct file *file, struct husk_err *err);

#endif
