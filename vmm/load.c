/* From the kernel's file to a guest that can take its first instruction. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/elf.h"
#include "boot/fdt.h"
#include "boot/params.h"
#include "vmm/fail.h"
#include "vmm/vm.h"

struct image {
    const void *data;
    size_t size;
};

static int open_image(const char *path, struct image *image,
                      struct husk_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *map;
    int rc = 0;

    if (fd < 0)
        return fail(err, -errno, "kernel %s: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0)
        rc = fail(err, -errno, "kernel %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = fail(err, -ENOEXEC, "kernel %s: not a regular file", path);
    else if (st.st_size == 0)
        rc = fail(err, -ENOEXEC, "kernel %s: the file is empty", path);
    if (rc == 0) {
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            rc = fail(err, -errno, "kernel %s: %s", path, strerror(errno));
        *image = (struct image){ map, (size_t)st.st_size };
    }
    close(fd);
    return rc;
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
    };
    for (unsigned i = 0; i < vm->n_devices; i++) {
        const struct device *device = vm->devices[i];

        virtio[i] = (struct boot_virtio){
            .base = device->base,
            .size = device_window_size(device),
            .gsi = device->gsi,
            .id = device->probe.id,
            .config_size = device->probe.config_size,
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

    describe(vm, &board, virtio);
    return fdt_build(&board, blob, size, err);
}

static int load_image(struct husk_vm *vm, const struct image *image, bool fresh,
                      struct boot_entry *entry, struct husk_err *err)
{
    struct boot_virtio virtio[VM_MAX_DEVICES];
    struct boot_board board;
    struct elf_info info;
    void *tree = NULL;
    size_t size;
    int rc = elf_load(&vm->mem, image->data, image->size, fresh, &info, err);

    if (rc < 0)
        return rc;
    describe(vm, &board, virtio);
    if (info.has_pvh) {
        *entry = (struct boot_entry){ BOOT_PVH32, info.pvh_entry, 0 };
        return params_pvh(&board, entry, err);
    }
    *entry = (struct boot_entry){ BOOT_LONG64, info.entry, 0 };
    rc = fdt_build(&board, &tree, &size, err);
    if (rc == 0)
        rc = params_linux(&board, NULL, 0, tree, size, entry, err);
    free(tree);
    return rc;
}

int vm_load(struct husk_vm *vm, bool fresh, struct boot_entry *entry,
            struct husk_err *err)
{
    struct husk_err inner = { 0 };
    struct image image = { NULL, 0 };
    int rc = open_image(vm->kernel, &image, err);

    if (rc < 0)
        return rc;
    rc = load_image(vm, &image, fresh, entry, &inner);
    munmap((void *)(uintptr_t)image.data, image.size);
    return rc < 0 ? fail(err, rc, "kernel %s: %s", vm->kernel, inner.text) : 0;
}
