/*
 * The file or block device that is a disk.
 */
#ifndef HUSK_BACKENDS_DISK_H
#define HUSK_BACKENDS_DISK_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR 512u

struct disk {
    const char *path; /* set before disk_open() */
    bool read_only;   /* the same */
    int fd;           /* -1: not open */
    bool is_device;   /* a block device, not a file */
    uint64_t sectors;
};

/* Open the disk and read its size. 0, or -1 after complain(). Never waits. */
int disk_open(struct disk *disk);

/* Read the size again. 0, or -1 after complain(). */
int disk_measure(struct disk *disk);

/* Bytes of a logical block, and how many of them a physical one has: 2^n. */
void disk_geometry(const struct disk *disk, unsigned *logical,
                   unsigned *exponent);

/* In any state. */
void disk_close(struct disk *disk);

#endif
