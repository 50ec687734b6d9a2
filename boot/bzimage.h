/*
 * Linux bzImages by the 64-bit boot protocol: the protected-mode part goes to
 * the address that the kernel prefers, is entered there in 64-bit mode, and
 * unpacks itself.
 */
#ifndef HUSK_BOOT_BZIMAGE_H
#define HUSK_BOOT_BZIMAGE_H

#include <stdbool.h>

#include "boot/board.h"

struct bzimage_info {
    gpa_t entry;
    gpa_t end;          /* of the memory that the kernel needs to unpack */
    gpa_t initrd_max;   /* last byte that an initrd may take */
    size_t cmdline_max; /* bytes, the final zero not counted */
    const void *header; /* for params_linux(); points into the image */
    size_t header_size;
};

/* Whether the file has a boot sector with Linux's setup header. */
bool bzimage_is(const void *image, size_t size);

/*
 * Load the kernel of size bytes at image. Guest memory is not touched unless
 * every field is right.
 *   -ENOEXEC  a field is wrong, or the kernel is of a kind that is not booted;
 *             err names it and both values
 *   -ENOMEM   guest memory is too small; err says how much is needed
 */
int bzimage_load(const struct mem *mem, const void *image, size_t size,
                 struct bzimage_info *info, struct husk_err *err);

#endif
