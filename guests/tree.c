/*
 * The device tree that came with boot_params, read with libfdt: where virtio
 * devices are, and on which pins. Every node is looked at once, every property
 * of it once: on a machine that emulates guests a search costs milliseconds.
 */
#include <libfdt.h>

#include "virtio.h"

void tree_begin(struct tree_walk *walk)
{
    int rc;

    memset(walk, 0, sizeof *walk);
    walk->tree = boot_tree();
    if (walk->tree == NULL)
        exit_fail("there is no device tree");
    rc = fdt_check_header(walk->tree);
    if (rc < 0)
        exit_fail("device tree: %s", fdt_strerror(rc));
    walk->cells_of = -1;
}

/* Numbers of one or two cells; tree data has no alignment of its own. */
static uint64_t cells(const char *data, int n)
{
    uint64_t value = 0;

    for (int i = 0; i < 4 * n; i++)
        value = value << 8 | (uint8_t)data[i];
    return value;
}

static uint32_t child_id(const struct tree_walk *walk)
{
    static const char prefix[] = "virtio,device";
    int child = fdt_first_subnode(walk->tree, walk->node);
    const char *text;
    int size;

    if (child < 0)
        return 0;
    text = fdt_getprop(walk->tree, child, "compatible", &size);
    if (text == NULL || size <= (int)sizeof prefix ||
        memcmp(text, prefix, sizeof prefix - 1) != 0)
        return 0;
    return (uint32_t)strtoul(text + sizeof prefix - 1, NULL, 16);
}

/* Whether the node is a virtio device; then all of dev's tree half is set. */
static bool read_node(struct tree_walk *walk, struct virtio *dev)
{
    const char *reg = NULL, *pin = NULL, *exact = NULL;
    int reg_size = 0, pin_size = 0, at;
    bool ours = false;
    int parent = walk->parent[walk->depth - 1];

    fdt_for_each_property_offset(at, walk->tree, walk->node)
    {
        const char *name;
        int size;
        const char *data = fdt_getprop_by_offset(walk->tree, at, &name, &size);

        if (data == NULL)
            exit_fail("device tree: %s", fdt_strerror(size));
        if (strcmp(name, "compatible") == 0) {
            ours = fdt_stringlist_contains(data, size, "virtio,mmio");
            if (!ours)
                return false;
        } else if (strcmp(name, "reg") == 0) {
            reg = data;
            reg_size = size;
        } else if (strcmp(name, "interrupts") == 0) {
            pin = data;
            pin_size = size;
        } else if (strcmp(name, "husk,config-size") == 0 && size == 4) {
            exact = data;
        }
    }
    if (!ours)
        return false;
    if (walk->cells_of != parent) {
        walk->cells_of = parent;
        walk->address_cells = fdt_address_cells(walk->tree, parent);
        walk->size_cells = fdt_size_cells(walk->tree, parent);
    }
    if (walk->address_cells < 1 || walk->address_cells > 2 ||
        walk->size_cells < 1 || walk->size_cells > 2 ||
        reg_size != 4 * (walk->address_cells + walk->size_cells))
        exit_fail("device tree: reg of %u bytes", (unsigned)reg_size);
    if (pin_size != 8)
        exit_fail("device tree: interrupts of %u bytes", (unsigned)pin_size);

    memset(dev, 0, sizeof *dev);
    dev->base = cells(reg, walk->address_cells);
    dev->size = cells(reg + 4 * walk->address_cells, walk->size_cells);
    dev->pin = (unsigned)cells(pin, 1);
    dev->sense = (unsigned)cells(pin + 4, 1);
    dev->config_size = (uint32_t)dev->size - REG_CONFIG;
    if (exact != NULL)
        dev->config_size = (uint32_t)cells(exact, 1);
    dev->tree_id = child_id(walk);
    dev->number = walk->found++;
    return true;
}

bool tree_next(struct tree_walk *walk, struct virtio *dev)
{
    for (;;) {
        walk->node = fdt_next_node(walk->tree, walk->node, &walk->depth);
        if (walk->node < 0 || walk->depth < 1)
            return false;
        if (walk->depth > (int)TREE_DEPTH)
            exit_fail("device tree: deeper than %u", TREE_DEPTH);
        walk->parent[walk->depth] = walk->node;
        if (read_node(walk, dev))
            return true;
    }
}

bool tree_find(struct virtio *dev, uint32_t id, bool with_config)
{
    struct tree_walk walk;

    tree_begin(&walk);
    while (tree_next(&walk, dev)) {
        uint32_t found = virtio_read(dev, REG_DEVICE_ID);

        if (found != 0 && (id == 0 || found == id) &&
            (!with_config || dev->config_size > 0))
            return true;
    }
    return false;
}
