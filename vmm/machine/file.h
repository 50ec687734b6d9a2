/*
 * Files that a user names as input: kernel, initrds, a device's config space.
 * Each is read into memory whole, so that nobody can change what husk uses by
 * writing to the file afterwards. A leaf header.
 */
#ifndef HUSK_VMM_MACHINE_FILE_H
#define HUSK_VMM_MACHINE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "husk.h"

/* A file in memory. All zeros: no file. */
struct file {
    const char *name; /* its path, borrowed */
    const void *data; /* on the heap if file_read() filled it; NULL: none */
    size_t size;
};

/* What a file is for, and how messages speak of it. */
struct file_kind {
    const char *prefix; /* what stands before the path: "kernel " */
    uint64_t limit;     /* bytes that such a file can have at most */
    const char *remedy; /* what to do about a longer one */
};

/*
 * Read the file at path into memory. Only regular files are opened: a FIFO, a
 * terminal or another device could make husk wait without a limit. A file on a
 * file system that no longer answers still can; no call opens a file in a way
 * that prevents it.
 *   -EINVAL   not a regular file, or an empty one
 *   -EFBIG    longer than kind allows
 *   -ETXTBSY  the file changed while it was read
 *   -ENOMEM   no memory for the content
 *   other     what stat, open, fstat or read said
 * After an error there is nothing to free.
 */
int file_read(struct file *file, const struct file_kind *kind, const char *path,
              struct husk_err *err);

/* Free the content. For a file of all zeros too, and twice. */
void file_free(struct file *file);

#endif
