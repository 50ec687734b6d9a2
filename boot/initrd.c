/*
 * Initial RAM disks after the kernel's "initramfs buffer format": a sequence of
 * cpio archives, compressed or not, with zeros between them. What is inside is
 * unpacked and checked by the kernel, not here.
 */
#include "boot/initrd.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/machine/fail.h"

#define PAGE 0x1000u
#define WORD 4u

static uint64_t padded(uint64_t size)
{
    return (size + WORD - 1) & ~(uint64_t)(WORD - 1);
}

int initrd_load(const struct mem *mem, const struct file *file, unsigned count,
                gpa_t floor, gpa_t last, gpa_t *address, uint64_t *size,
                struct husk_err *err)
{
    gpa_t top = mem->region[0].base + mem->region[0].size;
    uint64_t total = 0;
    gpa_t at;

    for (unsigned i = 0; i < count; i++) {
        if (file[i].size == 0)
            return fail(err, -EINVAL, "initrd %s is empty", file[i].name);
        total += padded(file[i].size);
    }
    if (last < top)
        top = last + 1;
    if (top < floor || total > top - floor ||
        ((top - total) & ~(gpa_t)(PAGE - 1)) < floor)
        return fail(err, -ENOMEM,
                    "the initrd takes %" PRIu64 " KiB, the kernel and its "
                    "limit leave %" PRIu64 " KiB of the guest's %" PRIu64
                    " MiB: give the guest more memory",
                    (total + 1023) / 1024,
                    top > floor ? (top - floor) / 1024 : 0, mem->size >> 20);

    *address = at = (top - total) & ~(gpa_t)(PAGE - 1);
    *size = total;
    for (unsigned i = 0; i < count; i++) {
        uint64_t room = padded(file[i].size);
        uint8_t *to = mem_at(mem, at, room);

        memcpy(to, file[i].data, file[i].size);
        memset(to + file[i].size, 0, room - file[i].size);
        at += room;
    }
    return 0;
}
