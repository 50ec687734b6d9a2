/*
 * Descriptors that came from a back-end. It chose what they are, and may serve
 * the file system behind them: a call that this kernel passes on to whoever
 * serves it may never return. What is asked here this kernel answers by itself.
 */
#ifndef HUSK_DEVICES_FOREIGN_H
#define HUSK_DEVICES_FOREIGN_H

#include <stdbool.h>
#include <stdint.h>

struct foreign_file {
    uint64_t size;  /* now */
    uint64_t block; /* mmap() rounds lengths up to it; a power of two */
};

/*
 * What fd is, if it is a regular file that no process can hold up: a memory
 * file (memfd, tmpfs, hugetlbfs), or one of a file system on a block device.
 * close(), mmap(), munmap() and a page fault of such a file end by themselves.
 *   -EOPNOTSUPP  it is something else, as on FUSE, overlayfs or a network
 *   other        what statx said
 */
int foreign_file(int fd, struct foreign_file *file);

/* Its size alone, of a descriptor that was accepted before. */
int foreign_size(int fd, uint64_t *size);

/* Whether it has holes that cannot be filled: its tmpfs is full. Of a
 * descriptor that was accepted before. */
bool foreign_is_starved(int fd);

#endif
