/*
 * Names for what is no kernel of this architecture. Nothing is parsed beyond
 * the magic bytes.
 */
#include "boot/stranger.h"

#include <errno.h>
#include <string.h>

#include "boot/arch.h"
#include "boot/bytes.h"
#include "vmm/machine/fail.h"

struct magic {
    unsigned offset, length;
    const char *bytes;
    const char *name;
    const char *arch; /* whose kernels these are, or NULL */
};

static const struct magic kernels[] = {
    { 56, 4, "ARM\x64", "an arm64 Image", "aarch64" },
    { 48, 4, "RISC", "a RISC-V Image", "riscv64" },
    { 0x202, 4, "HdrS", "an x86 bzImage", "x86_64" },
};

static const struct magic others[] = {
    { 0, 2, "\x1f\x8b", "compressed by gzip: unpack it first", NULL },
    { 0, 4, "\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first", NULL },
    { 0, 6, "\xfd\x37zXZ", "compressed by xz: unpack it first", NULL },
    { 0, 3, "BZh", "compressed by bzip2: unpack it first", NULL },
    { 0, 4, "\x02\x21\x4c\x18", "compressed by lz4: unpack it first", NULL },
    { 0, 4, "\x04\x22\x4d\x18", "compressed by lz4: unpack it first", NULL },
    { 0, 4, "\x27\x05\x19\x56", "a U-Boot image: give the kernel in it", NULL },
    { 0, 4, "\xd0\x0d\xfe\xed", "a device tree or FIT: give a kernel", NULL },
    { 0, 5, "07070", "a cpio archive: give it as an initrd", NULL },
    { 0, 7, "!<arch>", "an archive or Debian package: give a kernel", NULL },
    { 0, 4, "QFI\xfb", "a qcow2 disk: give a kernel", NULL },
    { 0x8001, 5, "CD001", "a CD image: give the kernel in it", NULL },
    { 0, 4, "\xcf\xfa\xed\xfe", "a Mach-O file: give an ELF file", NULL },
    { 0, 2, "MZ",
      "an EFI program without a Linux kernel's header: give a kernel", NULL },
    { 0, 4, "\x07\x01\x64\x00", "an a.out file: give an ELF file", NULL },
    { 0, 4, "\x0b\x01\x64\x00", "an a.out file: give an ELF file", NULL },
    { 0, 4, "\xcc\x00\x64\x00", "an a.out file: give an ELF file", NULL },
    { 0, 2, "#!", "a script: give a kernel", NULL },
    { 510, 2, "\x55\xaa",
      "a boot sector without a Linux kernel's header: give a kernel", NULL },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *find(const struct magic *magic, size_t count,
                        const struct file *file)
{
    const uint8_t *data = file->data;

    for (size_t i = 0; i < count; i++, magic++)
        if ((magic->arch == NULL ||
             strcmp(magic->arch, boot_arch_elf.name) != 0) &&
            file->size >= magic->offset + magic->length &&
            memcmp(data + magic->offset, magic->bytes, magic->length) == 0)
            return magic->name;
    return NULL;
}

/* The header lies in the first 8 KiB, of multiboot2 in the first 32 KiB. */
const char *stranger_multiboot(const void *data, size_t size)
{
    const uint8_t *image = data;

    for (size_t at = 0; at + 12 <= size && at < 0x8000; at += 4) {
        uint32_t sum =
            get32(image + at) + get32(image + at + 4) + get32(image + at + 8);

        if (at < 0x2000 && get32(image + at) == 0x1badb002 && sum == 0)
            return "multiboot";
        if (at % 8 == 0 && at + 16 <= size && get32(image + at) == 0xe85250d6 &&
            sum + get32(image + at + 12) == 0)
            return "multiboot2";
    }
    return NULL;
}

static int refuse_unknown(const struct file *file, struct husk_err *err)
{
    uint8_t first[4] = { 0 };

    memcpy(first, file->data, file->size < 4 ? file->size : 4);
    return fail(err, -ENOEXEC,
                "kernel %s is of no known format, it begins with %02x %02x "
                "%02x %02x: give a kernel for %s",
                file->name, first[0], first[1], first[2], first[3],
                boot_arch_elf.name);
}

int stranger_refuse(const struct file *file, struct husk_err *err)
{
    const char *multiboot, *name;

    if (file->size == 0)
        return fail(err, -ENOEXEC, "kernel %s is empty: give a kernel",
                    file->name);
    if ((name = find(kernels, COUNT(kernels), file)) != NULL)
        return fail(err, -ENOEXEC,
                    "kernel %s is %s, this machine is %s: give a kernel for it",
                    file->name, name, boot_arch_elf.name);
    if ((name = find(others, COUNT(others), file)) != NULL)
        return fail(err, -ENOEXEC, "kernel %s is %s", file->name, name);
    if ((multiboot = stranger_multiboot(file->data, file->size)) != NULL)
        return fail(err, -ENOEXEC,
                    "kernel %s is a %s kernel, which is not supported: give "
                    "one with another entry",
                    file->name, multiboot);
    return refuse_unknown(file, err);
}
