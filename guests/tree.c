/*
 * The device tree that came with boot_params (Devicetree Specification 0.4,
 * chapter 5): where virtio devices are, and on which pins. Read in one pass and
 * without libfdt: that costs ten times the instructions, which is milliseconds
 * a device where guests are emulated, and it would be the same code that wrote
 * the tree. Every offset and length is checked against the tree's own sizes.
 */
#include "virtio.h"

#define MAGIC       0xd00dfeedu
#define VERSION     17u
#define COMPATIBLE  16u
#define HEADER_SIZE 40u

#define TOKEN_BEGIN 1u
#define TOKEN_END   2u
#define TOKEN_PROP  3u
#define TOKEN_NOP   4u
#define TOKEN_LAST  9u

static uint32_t be32(const uint8_t *at)
{
    return __builtin_bswap32(*(const uint32_t *)(const void *)at);
}

/* Numbers of one or two cells. */
static uint64_t cells(const uint8_t *at, uint32_t n)
{
    return n == 1 ? be32(at) : (uint64_t)be32(at) << 32 | be32(at + 4);
}

void tree_begin(struct tree_walk *walk)
{
    const uint8_t *tree = boot_tree();
    uint32_t total, nodes, names;

    if (tree == NULL)
        exit_fail("there is no device tree");
    if (be32(tree) != MAGIC)
        exit_fail("device tree: magic %#x", be32(tree));
    if (be32(tree + 20) < VERSION || be32(tree + 24) > COMPATIBLE)
        exit_fail("device tree: version %u, compatible with %u",
                  be32(tree + 20), be32(tree + 24));
    memset(walk, 0, sizeof *walk);
    total = be32(tree + 4);
    nodes = be32(tree + 8);
    names = be32(tree + 12);
    walk->names_size = be32(tree + 32);
    walk->left = be32(tree + 36);
    if (total < HEADER_SIZE || nodes > total || walk->left > total - nodes ||
        names > total || walk->names_size > total - names || nodes % 4 != 0)
        exit_fail("device tree: its blocks lie outside its %u bytes", total);
    walk->at = tree + nodes;
    walk->names = (const char *)tree + names;
}

/* The next size bytes of the structure block, and what pads them. */
static const uint8_t *take(struct tree_walk *walk, uint32_t size)
{
    const uint8_t *at = walk->at;
    uint32_t padded = (size + 3) & ~3u;

    if (padded < size || padded > walk->left)
        exit_fail("device tree: cut short");
    walk->at += padded;
    walk->left -= padded;
    return at;
}

static void begin_node(struct tree_walk *walk)
{
    size_t size = strnlen((const char *)walk->at, walk->left);

    take(walk, (uint32_t)size + 1);
    if (walk->depth == TREE_DEPTH)
        exit_fail("device tree: deeper than %u", TREE_DEPTH);
    walk->level[walk->depth++] = (struct tree_node){
        .address_cells = 2, /* what the specification says if they do not */
        .size_cells = 1,
    };
}

/* compatible is a list of strings, one NUL after each. */
static void read_compatible(struct tree_walk *walk, const char *text,
                            uint32_t size)
{
    static const char ours[] = "virtio,mmio", child[] = "virtio,device";
    struct tree_node *node = &walk->level[walk->depth - 1];

    if (size == 0 || text[size - 1] != '\0')
        exit_fail("device tree: compatible has no end");
    if (walk->depth > 1 && size > sizeof child &&
        memcmp(text, child, sizeof child - 1) == 0)
        node[-1].child_id =
            (uint32_t)strtoul(text + sizeof child - 1, NULL, 16);
    for (const char *end = text + size; text < end; text += strlen(text) + 1)
        if (strcmp(text, ours) == 0)
            node->is_virtio = true;
}

static void read_property(struct tree_walk *walk)
{
    const uint8_t *head = take(walk, 8);
    uint32_t size = be32(head), name_at = be32(head + 4);
    const uint8_t *data = take(walk, size);
    struct tree_node *node;
    const char *name;

    if (walk->depth == 0 || name_at >= walk->names_size)
        exit_fail("device tree: property out of place");
    node = &walk->level[walk->depth - 1];
    name = walk->names + name_at;
    if (strcmp(name, "compatible") == 0) {
        read_compatible(walk, (const char *)data, size);
    } else if (strcmp(name, "reg") == 0) {
        node->reg = data;
        node->reg_size = size;
    } else if (strcmp(name, "interrupts") == 0 && size == 8) {
        node->interrupts = data;
    } else if (strcmp(name, "husk,config-size") == 0 && size == 4) {
        node->config_size = data;
    } else if (strcmp(name, "#address-cells") == 0 && size == 4) {
        node->address_cells = be32(data);
    } else if (strcmp(name, "#size-cells") == 0 && size == 4) {
        node->size_cells = be32(data);
    }
}

static void describe(struct tree_walk *walk, const struct tree_node *node,
                     const struct tree_node *parent, struct virtio *dev)
{
    uint32_t n = parent->address_cells, m = parent->size_cells;

    if (n < 1 || n > 2 || m < 1 || m > 2 || node->reg_size != 4 * (n + m))
        exit_fail("device tree: reg of %u bytes", node->reg_size);
    if (node->interrupts == NULL)
        exit_fail("device tree: a device without an interrupt");
    *dev = (struct virtio){
        .number = walk->found++,
        .base = cells(node->reg, n),
        .size = cells(node->reg + 4 * n, m),
        .pin = be32(node->interrupts),
        .sense = be32(node->interrupts + 4),
        .tree_id = node->child_id,
    };
    if (dev->size < REG_CONFIG)
        exit_fail("device tree: %lu bytes of registers", dev->size);
    dev->config_size = node->config_size != NULL
                           ? be32(node->config_size)
                           : (uint32_t)dev->size - REG_CONFIG;
}

bool tree_next(struct tree_walk *walk, struct virtio *dev)
{
    for (;;) {
        switch (be32(take(walk, 4))) {
        case TOKEN_BEGIN:
            begin_node(walk);
            break;
        case TOKEN_PROP:
            read_property(walk);
            break;
        case TOKEN_NOP:
            break;
        case TOKEN_END: {
            const struct tree_node *node;

            if (walk->depth == 0)
                exit_fail("device tree: more ends than nodes");
            node = &walk->level[--walk->depth];
            if (!node->is_virtio || walk->depth == 0)
                break;
            describe(walk, node, node - 1, dev);
            return true;
        }
        case TOKEN_LAST:
            return false;
        default:
            exit_fail("device tree: no such token");
        }
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
