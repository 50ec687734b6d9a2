/*
 * A bus: ranges of addresses, sorted, each with a handler. Filled before the
 * vCPUs start and only read after that, so it needs no lock.
 */
#ifndef HUSK_VMM_MACHINE_BUS_H
#define HUSK_VMM_MACHINE_BUS_H

#include <stdint.h>

#define BUS_MAX_RANGES 512

struct bus_ops {
    /* size is 1, 2, 4 or 8; offset is from the range's base. vCPU threads. */
    void (*read)(void *ctx, uint64_t offset, void *data, unsigned size);
    void (*write)(void *ctx, uint64_t offset, const void *data, unsigned size);
};

struct bus_range {
    uint64_t base, size;
    const struct bus_ops *ops;
    void *ctx;
};

/* All zero is an empty one. */
struct bus {
    unsigned n, room;
    struct bus_range *range; /* by base */
};

void bus_fini(struct bus *bus);

/*
 *   -EINVAL  the range is empty or wraps
 *   -EEXIST  it overlaps another
 *   -ENOSPC  there are BUS_MAX_RANGES already
 *   -ENOMEM  out of memory
 */
int bus_add(struct bus *bus, uint64_t base, uint64_t size,
            const struct bus_ops *ops, void *ctx);

/* What nobody answers reads as ones, and ignores writes. */
void bus_read(const struct bus *bus, uint64_t address, void *data,
              unsigned size);
void bus_write(const struct bus *bus, uint64_t address, const void *data,
               unsigned size);

#endif
