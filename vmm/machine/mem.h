/*
 * Guest memory: one shared, sealed memfd, seen by the guest as one or two
 * ranges of physical addresses (the hole below 4 GiB splits a large one).
 * A leaf header: devices and boot code translate guest addresses with
 * mem_at() and by no other means.
 */
#ifndef HUSK_VMM_MACHINE_MEM_H
#define HUSK_VMM_MACHINE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "husk.h"

/* A guest physical address. Never a pointer. */
typedef uint64_t gpa_t;

#define MEM_MAX_REGIONS 2

struct mem_region {
    gpa_t base;
    uint64_t size;
    uint8_t *host;   /* where husk has it mapped */
    uint64_t offset; /* where it begins in the memfd */
};

/* Fixed once made: any thread may read it. */
struct mem {
    int fd;
    unsigned n_regions;
    struct mem_region region[MEM_MAX_REGIONS];
    uint8_t *map; /* the whole memfd */
    uint64_t size;
};

/* The ranges of addresses that a board has for RAM; filled in this order. */
struct mem_layout {
    unsigned n;
    struct {
        gpa_t base;
        uint64_t size;
    } range[MEM_MAX_REGIONS];
};

/*
 * Make size bytes of guest memory. Nothing is allocated until it is touched.
 *   -EINVAL  size is 0, not whole pages, or more than the layout has room for
 *   -ENOMEM  the host, or this process's memory cgroup, could never back it
 *   other    what memfd_create, ftruncate, fcntl or mmap said
 */
int mem_init(struct mem *mem, uint64_t size, const struct mem_layout *layout,
             struct husk_err *err);
void mem_fini(struct mem *mem);

/* Where that much memory would lie; there is none. Needs no mem_fini(). */
void mem_plan(struct mem *mem, uint64_t size, const struct mem_layout *layout);

/*
 * The len bytes at gpa as husk sees them, or NULL unless all of them lie in
 * one region. The guest may change them at any time: copy, then judge.
 */
void *mem_at(const struct mem *mem, gpa_t gpa, uint64_t len);

#endif
