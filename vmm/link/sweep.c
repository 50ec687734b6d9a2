/*
 * Names are looked up relative to the open folder, one component at a time:
 * what was put in the place of a file or folder meanwhile leads nowhere else.
 */
#include "vmm/link/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH   8
#define ENTRIES 4096

/* What getdents64() fills; the name, which ends with a 0, lies behind. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
};

#define NAME (offsetof(struct entry, type) + 1)

static void sweep(int fd, unsigned depth, unsigned *left);

static bool remove_folder(int fd, const char *name, unsigned depth,
                          unsigned *left)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    int inner =
        depth ? (int)syscall(SYS_openat2, fd, name, &how, sizeof how) : -1;

    if (inner >= 0) {
        sweep(inner, depth - 1, left);
        close(inner);
    }
    return unlinkat(fd, name, AT_REMOVEDIR) == 0;
}

static bool remove_entry(int fd, const char *name, unsigned depth,
                         unsigned *left)
{
    if (!strcmp(name, ".") || !strcmp(name, "..") || *left == 0)
        return false;
    --*left;
    return unlinkat(fd, name, 0) == 0 ||
           (errno == EISDIR && remove_folder(fd, name, depth, left));
}

/* Pass after pass, as entries may be passed over while others are removed. */
static void sweep(int fd, unsigned depth, unsigned *left)
{
    _Alignas(struct entry) char buffer[2048];
    bool removed = true;

    while (removed && *left) {
        long size;

        removed = false;
        lseek(fd, 0, SEEK_SET);
        while ((size = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) >
               0) {
            uint16_t length;

            for (long at = 0; at < size; at += length) {
                memcpy(&length, buffer + at + offsetof(struct entry, size),
                       sizeof length);
                removed |= remove_entry(fd, buffer + at + NAME, depth, left);
            }
        }
    }
}

void sweep_folder(int fd)
{
    unsigned left = ENTRIES;

    sweep(fd, DEPTH, &left);
}
