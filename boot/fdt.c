/*
 * The frame of the board's device tree, the same for each architecture: chosen,
 * memory and devices. Devices follow the kernel's bindings virtio/mmio.yaml and
 * virtio/virtio-device.yaml; beyond them a device has "husk,config-size", the
 * bytes of its config space.
 */
#include "boot/fdt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <libfdt.h>

#include "boot/arch.h"
#include "vmm/machine/fail.h"

#define FIRST_SIZE 0x1000u /* bytes of a tree, with MORE_SIZE a device */
#define MORE_SIZE  0x200u
#define MAX_SIZE   0x400000u

static void put_chosen(struct tree *t, const struct boot_board *board)
{
    fdt64_t place;

    tree_begin(t, "chosen");
    tree_text(t, "bootargs", board->cmdline);
    tree_text(t, "stdout-path", boot_arch_stdout);
    tree_bytes(t, "rng-seed", board->rng_seed, sizeof board->rng_seed);
    if (board->initrd_size > 0) {
        place = cpu_to_fdt64(board->initrd);
        tree_bytes(t, "linux,initrd-start", &place, sizeof place);
        place = cpu_to_fdt64(board->initrd + board->initrd_size);
        tree_bytes(t, "linux,initrd-end", &place, sizeof place);
    }
    tree_end(t);
}

static void put_memory(struct tree *t, const struct mem *mem)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        tree_begin_at(t, "memory", "", mem->region[i].base);
        tree_text(t, "device_type", "memory");
        tree_reg(t, mem->region[i].base, mem->region[i].size);
        tree_end(t);
    }
}

static void put_virtio(struct tree *t, const struct boot_virtio *virtio)
{
    char compatible[32];

    tree_begin_at(t, "virtio", "", virtio->base);
    tree_text(t, "compatible", "virtio,mmio");
    tree_reg(t, virtio->base, virtio->size);
    boot_arch_interrupt(t, virtio->irq);
    tree_flag(t, "dma-coherent");
    tree_cell(t, "husk,config-size", virtio->config_size);
    tree_begin(t, "device");
    snprintf(compatible, sizeof compatible, "virtio,device%" PRIx32,
             virtio->id);
    tree_text(t, "compatible", compatible);
    tree_end(t);
    tree_end(t);
}

static void put_panic(struct tree *t, gpa_t base)
{
    tree_begin_at(t, "pvpanic", "", base);
    tree_text(t, "compatible", "qemu,pvpanic-mmio");
    tree_reg(t, base, 2);
    tree_end(t);
}

static void put_root(struct tree *t, const struct boot_board *board)
{
    tree_begin(t, "");
    tree_text(t, "compatible", "husk,board");
    tree_text(t, "model", "husk");
    tree_cell(t, "#address-cells", 2);
    tree_cell(t, "#size-cells", 2);
    tree_cell(t, "interrupt-parent", TREE_CONTROLLER);
    put_chosen(t, board);
    put_memory(t, board->mem);
    boot_arch_nodes(t, board);
    for (unsigned i = 0; i < board->n_virtio; i++)
        put_virtio(t, &board->virtio[i]);
    if (board->panic != 0)
        put_panic(t, board->panic);
    tree_end(t);
}

/* Returns libfdt's error code. */
static int write_tree(void *blob, int size, const struct boot_board *board)
{
    struct tree t = { .blob = blob };

    /* a name that is stored twice costs less than looking for it each time */
    t.rc = fdt_create_with_flags(blob, size, FDT_CREATE_FLAG_NO_NAME_DEDUP);
    if (t.rc == 0)
        t.rc = fdt_finish_reservemap(blob);
    put_root(&t, board);
    if (t.rc == 0)
        t.rc = fdt_finish(blob);
    return t.rc;
}

int fdt_build(const struct boot_board *board, void **blob, size_t *size,
              struct husk_err *err)
{
    size_t room = FIRST_SIZE + board->n_virtio * MORE_SIZE;

    for (; room <= MAX_SIZE; room *= 2) {
        /* Zeroed, since libfdt leaves its paddings as they are. */
        void *tree = calloc(1, room);
        int rc;

        if (tree == NULL)
            return fail(err, -ENOMEM, "no memory for the device tree");
        rc = write_tree(tree, (int)room, board);
        if (rc == 0) {
            *blob = tree;
            *size = fdt_totalsize(tree);
            return 0;
        }
        free(tree);
        if (rc != -FDT_ERR_NOSPACE)
            return fail(err, -EINVAL, "the device tree: %s", fdt_strerror(rc));
    }
    return fail(err, -ENOMEM, "the device tree outgrew %u bytes", MAX_SIZE);
}
