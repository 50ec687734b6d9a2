/*
 * A device tree while it is written, in order, with libfdt's sequential calls.
 * After the first error nothing more is written; the error stays in rc.
 */
#ifndef HUSK_BOOT_TREE_H
#define HUSK_BOOT_TREE_H

#include <stddef.h>
#include <stdint.h>

/* phandle of the controller that takes the devices' interrupts. */
#define TREE_CONTROLLER 1u

struct tree {
    void *blob;
    int rc; /* of libfdt */
};

void tree_begin(struct tree *t, const char *name);
/* name@address, address in hexadecimal behind a prefix. */
void tree_begin_at(struct tree *t, const char *name, const char *prefix,
                   uint64_t address);
void tree_end(struct tree *t);

/* Properties of the node that was begun last. */
void tree_bytes(struct tree *t, const char *name, const void *data,
                size_t size);
void tree_text(struct tree *t, const char *name, const char *value);
void tree_flag(struct tree *t, const char *name);
void tree_cell(struct tree *t, const char *name, uint32_t value);
/* At most TREE_MAX_CELLS. */
void tree_cells(struct tree *t, const char *name, const uint32_t *value,
                unsigned count);
#define TREE_MAX_CELLS 16u
/* "reg" of two cells each. */
void tree_reg(struct tree *t, uint64_t base, uint64_t size);

#endif
