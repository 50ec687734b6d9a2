/*
 * The kernel and the initrds: read once when the VM starts, loaded into guest
 * memory at each boot. The content is kept only where a reset boots again.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "boot/fdt.h"
#include "boot/image.h"
#include "vmm/machine/file.h"
#include "vmm/vm.h"

/*
 * A kernel's file can be larger than what is loaded of it: debug information
 * stays behind.
 */
#define KERNEL_EXTRA (UINT64_C(1) << 30)

int vm_read_images(struct husk_vm *vm, struct husk_err *err)
{
    struct file_kind kernel = { "kernel ", vm->config.memory + KERNEL_EXTRA,
                                "strip its debug information" };
    struct file_kind initrd = { "initrd ", vm->config.memory,
                                "give the guest more memory" };
    int rc = file_read(&vm->images.kernel, &kernel, vm->kernel, err);

    for (unsigned i = 0; i < vm->n_initrds && rc == 0; i++) {
        rc = file_read(&vm->images.initrd[i], &initrd, vm->initrds[i], err);
        initrd.limit -= vm->images.initrd[i].size;
    }
    if (rc < 0)
        vm_free_images(vm);
    return rc;
}

void vm_free_images(struct husk_vm *vm)
{
    file_free(&vm->images.kernel);
    for (unsigned i = 0; i < vm->n_initrds; i++)
        file_free(&vm->images.initrd[i]);
}

static void describe(const struct husk_vm *vm, struct boot_board *board,
                     struct boot_virtio *virtio)
{
    *board = (struct boot_board){
        .mem = &vm->mem,
        .cpus = vm->config.cpus,
        .cmdline = vm->append,
        .virtio = virtio,
        .n_virtio = vm->n_devices,
        .panic = arch_panic_base,
    };
    for (unsigned i = 0; i < vm->n_devices; i++) {
        const struct device *device = vm->devices[i];

        virtio[i] = (struct boot_virtio){
            .base = device->base,
            .size = device_window_size(device),
            .irq = device->gsi,
            .id = device->is.id,
            .config_size = device->is.config_size,
        };
    }
    /* a guest without a seed is slower to start, no more */
    if (getrandom(board->rng_seed, sizeof board->rng_seed, GRND_NONBLOCK) < 0)
        memset(board->rng_seed, 0, sizeof board->rng_seed);
}

int vm_tree(const struct husk_vm *vm, void **blob, size_t *size,
            struct husk_err *err)
{
    struct boot_virtio virtio[VM_MAX_DEVICES];
    struct boot_board board;
    struct mem plan;

    describe(vm, &board, virtio);
    if (!vm->has_machine) {
        mem_plan(&plan, vm->config.memory, &arch_ram);
        board.mem = &plan;
    }
    return fdt_build(&board, blob, size, err);
}

static unsigned tables(enum husk_discovery discovery)
{
    switch (discovery) {
    case HUSK_DISCOVERY_ACPI:
        return IMAGE_ACPI;
    case HUSK_DISCOVERY_FDT:
        return IMAGE_TREE;
    case HUSK_DISCOVERY_CMDLINE:
        return IMAGE_MPTABLE;
    case HUSK_DISCOVERY_AUTO:
        break;
    }
    return 0;
}

int vm_load(struct husk_vm *vm, bool fresh, struct boot_entry *entry,
            struct husk_err *err)
{
    struct boot_virtio virtio[VM_MAX_DEVICES];
    struct boot_board board;
    int rc;

    describe(vm, &board, virtio);
    rc =
        image_boot(&board, &vm->images.kernel, vm->images.initrd, vm->n_initrds,
                   tables(vm->config.discovery), fresh, entry, err);
    if (!vm->config.reset_again)
        vm_free_images(vm);
    return rc;
}
