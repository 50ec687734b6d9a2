/*
 * What a descriptor is. See foreign.h. fstat() and fstatfs() are passed on to
 * whoever serves the file, so neither is used before the kind is known.
 */
#include "devices/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PAGE          4096u
#define HANDLE_SIZE   128
#define HANDLE_INODE  0x01 /* a file system's own inode, of 32 bits or */
#define HANDLE_INODE6 0x81 /* 64 */
#define HANDLE_BTRFS  0x4d

static int look(int fd, struct statx *st)
{
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                 STATX_TYPE | STATX_SIZE | STATX_BLOCKS, st) < 0
               ? -errno
               : 0;
}

/*
 * A file of a block device's file system, by how the kernel names its inodes.
 * overlayfs names its own differently, and would show the device number of a
 * layer that another file lies in. Btrfs has no device number of its own.
 */
static bool is_on_disk(int fd, const struct statx *st)
{
    union {
        struct file_handle handle;
        unsigned char bytes[sizeof(struct file_handle) + HANDLE_SIZE];
    } name = { .handle = { .handle_bytes = HANDLE_SIZE } };
    int mount;

    if (name_to_handle_at(fd, "", &name.handle, &mount, AT_EMPTY_PATH) < 0)
        return false;
    if (name.handle.handle_type == HANDLE_BTRFS)
        return true;
    return st->stx_dev_major && (name.handle.handle_type == HANDLE_INODE ||
                                 name.handle.handle_type == HANDLE_INODE6);
}

int foreign_file(int fd, struct foreign_file *file)
{
    struct statfs fs;
    struct statx st;
    int rc = look(fd, &st);

    if (rc < 0)
        return rc;
    if (!S_ISREG(st.stx_mode))
        return -EOPNOTSUPP;
    *file = (struct foreign_file){ .size = st.stx_size, .block = PAGE };
    if (fcntl(fd, F_GET_SEALS) < 0) /* only memory files have seals */
        return is_on_disk(fd, &st) ? 0 : -EOPNOTSUPP;
    if (fstatfs(fd, &fs) < 0)
        return -errno;
    if (fs.f_type == HUGETLBFS_MAGIC)
        file->block = (uint64_t)fs.f_bsize;
    return 0;
}

int foreign_size(int fd, uint64_t *size)
{
    struct statx st;
    int rc = look(fd, &st);

    if (rc == 0)
        *size = st.stx_size;
    return rc;
}

bool foreign_is_starved(int fd)
{
    struct statfs fs;
    struct statx st;

    return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC && fs.f_blocks &&
           !fs.f_bfree && look(fd, &st) == 0 &&
           st.stx_blocks * 512 < st.stx_size;
}
