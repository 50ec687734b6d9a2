/*
 * The guest memory that a front-end shares, as one connection sees it: a few
 * mapped regions, found by guest address (descriptors) or by the front-end's
 * own address (rings).
 */
#ifndef HUSK_BACKENDS_MEMORY_H
#define HUSK_BACKENDS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/vhost_user.h"

/* A guest physical address. Never a pointer. */
typedef uint64_t gaddr_t;

#define MEMORY_MAX_REGIONS 32

struct memory_region {
    gaddr_t guest;
    uint64_t user; /* the front-end's address of the same bytes */
    uint64_t size;
    uint8_t *host;
    void *map; /* host, rounded to what mmap takes */
    size_t map_size;
};

struct memory {
    unsigned n_regions;
    struct memory_region region[MEMORY_MAX_REGIONS];
};

/*
 * Map one region. fd is borrowed. On failure nothing is added.
 *   -EINVAL  empty, beyond the file's end, wrapping 2^64 or overlapping another
 *   -ENOSPC  MEMORY_MAX_REGIONS are there
 *   other    what fstat or mmap said
 */
int memory_add(struct memory *mem, const struct vu_mem_region *wire, int fd);

/* Unmap the region with these addresses and size; -ENOENT if there is none. */
int memory_remove(struct memory *mem, const struct vu_mem_region *wire);

void memory_clear(struct memory *mem);

/* len bytes at a guest address, or NULL unless all lie in one region. */
void *memory_at(const struct memory *mem, gaddr_t addr, uint64_t len);

/* The same by the front-end's address, as SET_VRING_ADDR gives it. */
void *memory_at_user(const struct memory *mem, uint64_t user, uint64_t len);

/* Copy len bytes out, across regions; -EFAULT if some are not there. */
int memory_read(const struct memory *mem, gaddr_t addr, void *to, size_t len);

/*
 * Describe len bytes at addr by at most max pieces. Returns how many, or
 *   -EFAULT  some of the bytes are not there
 *   -E2BIG   they would take more pieces
 */
int memory_iov(const struct memory *mem, gaddr_t addr, uint64_t len,
               struct iovec *iov, unsigned max);

#endif
