/*
 * From the kernel's and initrds' files to a guest that can take its first
 * instruction.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/fdt.h"
#include "boot/image.h"
#include "vmm/machine/fail.h"
#include "vmm/vm.h"

static void close_file(struct boot_file *file)
{
    if (file->data)
        munmap((void *)(uintptr_t)file->data, file->size);
    file->data = NULL;
}

static int open_file(const char *what, const char *path, struct boot_file *file,
                     struct husk_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *map;
    int rc = 0;

    *file = (struct boot_file){ .name = path };
    if (fd < 0)
        return fail(err, -errno, "%s %s: %s", what, path, strerror(errno));
    if (fstat(fd, &st) < 0)
        rc = fail(err, -errno, "%s %s: %s", what, path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = fail(err, -ENOEXEC, "%s %s: not a regular file", what, path);
    else if (st.st_size == 0)
        rc = fail(err, -ENOEXEC, "%s %s: the file is empty", what, path);
    if (rc == 0) {
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            rc = fail(err, -errno, "%s %s: %s", what, path, strerror(errno));
        } else {
            file->data = map;
            file->size = (size_t)st.st_size;
        }
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
        .panic = arch_panic_base,
    };
    for (unsigned i = 0; i < vm->n_devices; i++) {
        const struct device *device = vm->devices[i];

        virtio[i] = (struct boot_virtio){
            .base = device->base,
            .size = device_window_size(device),
            .gsi = device->gsi,
            .id = device->first.id,
            .config_size = device->first.config_size,
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
        mem_plan(&plan, vm->config.memory, arch_hole_start, arch_hole_end);
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
    struct boot_file kernel, initrd[HUSK_MAX_INITRDS];
    struct boot_board board;
    unsigned n = 0;
    int rc = open_file("kernel", vm->kernel, &kernel, err);

    while (rc == 0 && n < vm->n_initrds) {
        rc = open_file("initrd", vm->initrds[n], &initrd[n], err);
        n++;
    }
    if (rc == 0) {
        describe(vm, &board, virtio);
        rc = image_boot(&board, &kernel, initrd, n,
                        tables(vm->config.discovery), fresh, entry, err);
    }
    close_file(&kernel);
    while (n > 0)
        close_file(&initrd[--n]);
    return rc;
}
