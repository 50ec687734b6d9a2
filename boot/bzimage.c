/*
 * bzImage by the Linux kernel's Documentation/arch/x86/boot.rst, "64-bit boot
 * protocol". Real-mode code is never run. Refuses kernels that are 32-bit,
 * older than protocol 2.12 (3.8), or loaded low, and files whose header tells
 * of more than they hold.
 */
#include "boot/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "boot/bytes.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

#define SECTOR      512u
#define MIN_VERSION 0x020cu /* xloadflags */
#define ENTRY_64    0x200u  /* into the protected-mode part */

/* boot.rst, "the real-mode kernel header" */
#define HDR_SETUP_SECTS    0x1f1u
#define HDR_SYSSIZE        0x1f4u
#define HDR_BOOT_FLAG      0x1feu
#define HDR_JUMP_OFFSET    0x201u
#define HDR_MAGIC          0x202u
#define HDR_VERSION        0x206u
#define HDR_LOADFLAGS      0x211u
#define HDR_INITRD_MAX     0x22cu
#define HDR_ALIGNMENT      0x230u
#define HDR_XLOADFLAGS     0x236u
#define HDR_CMDLINE_SIZE   0x238u
#define HDR_PAYLOAD        0x248u
#define HDR_PAYLOAD_LENGTH 0x24cu
#define HDR_PREF_ADDRESS   0x258u
#define HDR_INIT_SIZE      0x260u
#define HDR_MIN_END        0x264u /* of protocol 2.12 */
#define HDR_MAX_END        0x290u /* boot_params goes on with other things */

#define LOADED_HIGH   1u
#define XLF_KERNEL_64 1u

bool bzimage_is(const void *image, size_t size)
{
    const uint8_t *h = image;

    return size >= HDR_VERSION && get16(h + HDR_BOOT_FLAG) == 0xaa55 &&
           memcmp(h + HDR_MAGIC, "HdrS", 4) == 0;
}

/* Where the setup header ends: the target of the jump in front of it. */
static unsigned header_end(const uint8_t *h)
{
    return HDR_MAGIC + h[HDR_JUMP_OFFSET];
}

static int check_kind(const uint8_t *h, size_t size, struct husk_err *err)
{
    unsigned version;

    if (!bzimage_is(h, size))
        return fail(err, -ENOEXEC,
                    "boot_flag aa55 and the header HdrS are missing: "
                    "no bzImage");
    if (size < HDR_MAX_END)
        return fail(err, -ENOEXEC,
                    "the file ends after %zu bytes, inside the setup header "
                    "(%u)",
                    size, HDR_MAX_END);
    version = get16(h + HDR_VERSION);
    if (version < MIN_VERSION)
        return fail(err, -ENOEXEC,
                    "the boot protocol is version %u.%02u, "
                    "2.12 (Linux 3.8) or later is needed",
                    version >> 8, version & 0xff);
    if (header_end(h) < HDR_MIN_END || header_end(h) > HDR_MAX_END)
        return fail(err, -ENOEXEC,
                    "the setup header ends at %#x, between %#x and %#x is "
                    "possible",
                    header_end(h), HDR_MIN_END, HDR_MAX_END);
    if ((h[HDR_LOADFLAGS] & LOADED_HIGH) == 0)
        return fail(err, -ENOEXEC,
                    "loadflags is %#x without LOADED_HIGH (1): a zImage, "
                    "not a bzImage",
                    h[HDR_LOADFLAGS]);
    if ((get16(h + HDR_XLOADFLAGS) & XLF_KERNEL_64) == 0)
        return fail(err, -ENOEXEC,
                    "xloadflags is %#x without XLF_KERNEL_64 (1): "
                    "a 32-bit kernel, this machine boots 64-bit ones",
                    get16(h + HDR_XLOADFLAGS));
    return 0;
}

/* The parts of the file: setup, then size bytes of code with the payload. */
static int check_parts(const uint8_t *h, size_t size, size_t setup,
                       uint64_t code, struct husk_err *err)
{
    uint32_t payload = get32(h + HDR_PAYLOAD);
    uint32_t length = get32(h + HDR_PAYLOAD_LENGTH);

    if (setup > size)
        return fail(err, -ENOEXEC,
                    "setup_sects is %u, which takes %zu bytes of a file of %zu",
                    h[HDR_SETUP_SECTS], setup, size);
    if (code > size - setup)
        return fail(err, -ENOEXEC,
                    "syssize tells of %" PRIu64 " bytes of code, %zu are in "
                    "the file: is it cut short?",
                    code, size - setup);
    if (code <= ENTRY_64)
        return fail(err, -ENOEXEC,
                    "syssize tells of %" PRIu64 " bytes of code, more than %u "
                    "are needed",
                    code, ENTRY_64);
    if ((uint64_t)payload + length > code)
        return fail(err, -ENOEXEC,
                    "payload_offset %#" PRIx32 " with payload_length "
                    "%#" PRIx32 " ends past the code's %#" PRIx64 " bytes",
                    payload, length, code);
    return 0;
}

static int check_place(const struct mem *mem, const uint8_t *h, uint64_t code,
                       struct husk_err *err)
{
    uint64_t address = get64(h + HDR_PREF_ADDRESS);
    uint32_t align = get32(h + HDR_ALIGNMENT);
    uint32_t init = get32(h + HDR_INIT_SIZE);

    if (align == 0 || (align & (align - 1)) != 0)
        return fail(err, -ENOEXEC,
                    "kernel_alignment is %#" PRIx32 ", no power of two", align);
    if (init < code)
        return fail(err, -ENOEXEC,
                    "init_size is %#" PRIx32 ", below the code's %#" PRIx64
                    " bytes",
                    init, code);
    if (address < LAYOUT_HIGH_START || address % align != 0)
        return fail(err, -ENOEXEC,
                    "pref_address is %#" PRIx64 ", a multiple of %#" PRIx32
                    " (kernel_alignment) from %#x up is needed",
                    address, align, LAYOUT_HIGH_START);
    if (address >= LAYOUT_HOLE_START || mem_at(mem, address, init) == NULL)
        return fail(err, -ENOMEM,
                    "the kernel needs memory from %#" PRIx64 " to %#" PRIx64
                    " (init_size), the guest has %" PRIu64 " MiB",
                    address, address + init, mem->size >> 20);
    return 0;
}

int bzimage_load(const struct mem *mem, const void *image, size_t size,
                 struct bzimage_info *info, struct husk_err *err)
{
    const uint8_t *h = image;
    uint64_t address, code;
    size_t setup;
    int rc;

    if ((rc = check_kind(h, size, err)) < 0)
        return rc;
    /* 0 setup sectors mean 4; the boot sector comes on top. */
    setup = h[HDR_SETUP_SECTS] != 0 ? h[HDR_SETUP_SECTS] : 4;
    setup = (setup + 1) * SECTOR;
    code = (uint64_t)get32(h + HDR_SYSSIZE) * 16;
    if ((rc = check_parts(h, size, setup, code, err)) < 0 ||
        (rc = check_place(mem, h, code, err)) < 0)
        return rc;

    address = get64(h + HDR_PREF_ADDRESS);
    memcpy(mem_at(mem, address, code), h + setup, code);
    *info = (struct bzimage_info){
        .entry = address + ENTRY_64,
        .end = address + get32(h + HDR_INIT_SIZE),
        .initrd_max = get32(h + HDR_INITRD_MAX),
        .cmdline_max = get32(h + HDR_CMDLINE_SIZE),
        .header = h + HDR_SETUP_SECTS,
        .header_size = header_end(h) - HDR_SETUP_SECTS,
    };
    return 0;
}
