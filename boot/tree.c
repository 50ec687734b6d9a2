/* The writer of device trees. See tree.h. */
#include "boot/tree.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libfdt.h>

void tree_begin(struct tree *t, const char *name)
{
    if (t->rc == 0)
        t->rc = fdt_begin_node(t->blob, name);
}

void tree_begin_at(struct tree *t, const char *name, const char *prefix,
                   uint64_t address)
{
    char full[64];

    snprintf(full, sizeof full, "%s@%s%" PRIx64, name, prefix, address);
    tree_begin(t, full);
}

void tree_end(struct tree *t)
{
    if (t->rc == 0)
        t->rc = fdt_end_node(t->blob);
}

void tree_bytes(struct tree *t, const char *name, const void *data, size_t size)
{
    if (t->rc == 0)
        t->rc = fdt_property(t->blob, name, data, (int)size);
}

void tree_text(struct tree *t, const char *name, const char *value)
{
    tree_bytes(t, name, value, strlen(value) + 1);
}

void tree_flag(struct tree *t, const char *name)
{
    tree_bytes(t, name, NULL, 0);
}

void tree_cells(struct tree *t, const char *name, const uint32_t *value,
                unsigned count)
{
    fdt32_t out[TREE_MAX_CELLS];

    assert(count <= TREE_MAX_CELLS);
    for (unsigned i = 0; i < count; i++)
        out[i] = cpu_to_fdt32(value[i]);
    tree_bytes(t, name, out, count * sizeof *out);
}

void tree_cell(struct tree *t, const char *name, uint32_t value)
{
    tree_cells(t, name, &value, 1);
}

void tree_reg(struct tree *t, uint64_t base, uint64_t size)
{
    const uint32_t value[] = { (uint32_t)(base >> 32), (uint32_t)base,
                               (uint32_t)(size >> 32), (uint32_t)size };

    tree_cells(t, "reg", value, 4);
}
