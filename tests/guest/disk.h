/*
 * Images of disks, and what the block guest leaves in them.
 */
#ifndef HUSK_TESTS_GUEST_DISK_H
#define HUSK_TESTS_GUEST_DISK_H

#include <stdint.h>

/* A file of that many zeros in the case's folder; its path. */
const char *disk_make(const char *name, uint64_t size);

/*
 * The first written bytes are as the block guest writes them, all others are
 * zero, and the file has its size.
 */
void disk_check(const char *path, uint64_t size, uint64_t written);

#endif
