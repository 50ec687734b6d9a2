/*
 * Opening and measuring a disk. Refuses what is neither a regular file nor a
 * block device, and does not wait for the other end of a FIFO to find out.
 */
#include "devices/backends/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backends/complain.h"

int disk_open(struct disk *d)
{
    int mode = d->read_only ? O_RDONLY : O_RDWR;

    if (!d->path)
        return complain("which disk? Give --file=PATH (see --help)");
    d->fd = open(d->path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (d->fd < 0) {
        bool refused = errno == EACCES || errno == EROFS || errno == EPERM;

        return complain("--file=%s: %s%s", d->path, strerror(errno),
                        refused && !d->read_only
                            ? " (for reading alone give --read-only)"
                            : "");
    }
    if (disk_measure(d) < 0)
        return -1;
    /* io_uring would fail requests with EAGAIN instead of waiting */
    fcntl(d->fd, F_SETFL, fcntl(d->fd, F_GETFL) & ~O_NONBLOCK);
    return 0;
}

int disk_measure(struct disk *d)
{
    struct stat st;
    uint64_t size;

    if (fstat(d->fd, &st) < 0)
        return complain("--file=%s: %s", d->path, strerror(errno));
    size = (uint64_t)st.st_size;
    d->is_device = S_ISBLK(st.st_mode);
    if (!d->is_device && !S_ISREG(st.st_mode))
        return complain("--file=%s: give a regular file or a block device",
                        d->path);
    if (d->is_device && ioctl(d->fd, BLKGETSIZE64, &size) < 0)
        return complain("--file=%s: %s", d->path, strerror(errno));
    if (size % SECTOR)
        complain("--file=%s: the last %u bytes are not used, since a sector "
                 "has %u",
                 d->path, (unsigned)(size % SECTOR), SECTOR);
    d->sectors = size / SECTOR;
    return 0;
}

void disk_geometry(const struct disk *d, unsigned *logical, unsigned *exponent)
{
    unsigned physical = SECTOR;

    *logical = SECTOR;
    *exponent = 0;
    if (d->is_device) {
        int size;

        if (!ioctl(d->fd, BLKSSZGET, &size) && size > 0)
            *logical = physical = (unsigned)size;
        ioctl(d->fd, BLKPBSZGET, &physical);
    } else {
        struct stat st;

        if (!fstat(d->fd, &st) && st.st_blksize <= 65536)
            physical = (unsigned)st.st_blksize;
    }
    while (*exponent < 8 && *logical << (*exponent + 1) <= physical)
        ++*exponent;
}

void disk_close(struct disk *d)
{
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}
