/*
 * The order of a boot: the kernel by the loader of its format, the initrds
 * above it, then what the kernel expects to find in memory, which points to all
 * of them. Formats and expectations are the architecture's; see arch.h.
 */
#include "boot/image.h"

#include <errno.h>

#include "boot/arch.h"
#include "boot/initrd.h"
#include "boot/stranger.h"
#include "vmm/machine/fail.h"

static const struct boot_format *find_format(const struct file *kernel)
{
    for (unsigned i = 0; i < boot_arch_n_formats; i++)
        if (boot_arch_formats[i].is(kernel->data, kernel->size))
            return &boot_arch_formats[i];
    return NULL;
}

static int load_kernel(const struct mem *mem, const struct file *kernel,
                       bool fresh, struct boot_image *image,
                       struct husk_err *err)
{
    const struct boot_format *format = find_format(kernel);
    const char *more = "";
    struct husk_err why;
    int rc;

    if (format == NULL)
        return stranger_refuse(kernel, err);
    rc = format->load(mem, kernel, fresh, image, &why);
    if (rc == 0)
        return 0;
    if (rc == -ENOEXEC && stranger_multiboot(kernel->data, kernel->size))
        more = "; multiboot is not supported";
    return fail(err, rc, "kernel %s: %s%s", kernel->name, why.text, more);
}

int image_boot(const struct boot_board *machine, const struct file *kernel,
               const struct file *initrd, unsigned n_initrd, unsigned tables,
               bool fresh, struct boot_entry *entry, struct husk_err *err)
{
    struct boot_board board = *machine;
    struct boot_image image;
    gpa_t floor;
    int rc;

    if ((rc = load_kernel(board.mem, kernel, fresh, &image, err)) < 0)
        return rc;
    floor = image.end > boot_arch_lowest ? image.end : boot_arch_lowest;
    board.initrd = board.initrd_size = 0;
    if (n_initrd > 0 &&
        (rc = initrd_load(board.mem, initrd, n_initrd, floor, image.initrd_max,
                          &board.initrd, &board.initrd_size, err)) < 0)
        return rc;
    if ((rc = boot_arch_write(&board, tables, &image, err)) < 0)
        return rc;
    *entry = image.entry;
    return 0;
}
