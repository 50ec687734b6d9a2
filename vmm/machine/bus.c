/* Address ranges and their handlers. See bus.h. */
#include "vmm/machine/bus.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 8u

void bus_fini(struct bus *bus)
{
    free(bus->range);
    memset(bus, 0, sizeof *bus);
}

static int make_room(struct bus *bus)
{
    unsigned room = bus->room ? 2 * bus->room : FIRST_ROOM;
    struct bus_range *range;

    if (bus->n == BUS_MAX_RANGES)
        return -ENOSPC;
    if (bus->n < bus->room)
        return 0;
    range = realloc(bus->range, room * sizeof *range);
    if (!range)
        return -ENOMEM;
    bus->range = range;
    bus->room = room;
    return 0;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t size,
            const struct bus_ops *ops, void *ctx)
{
    unsigned at = 0;
    int rc;

    if (!size || base + size - 1 < base)
        return -EINVAL;
    rc = make_room(bus);
    if (rc < 0)
        return rc;
    while (at < bus->n && bus->range[at].base < base)
        at++;
    if (at > 0 && base - bus->range[at - 1].base < bus->range[at - 1].size)
        return -EEXIST;
    if (at < bus->n && bus->range[at].base - base < size)
        return -EEXIST;
    memmove(&bus->range[at + 1], &bus->range[at],
            (bus->n - at) * sizeof bus->range[0]);
    bus->range[at] = (struct bus_range){ base, size, ops, ctx };
    bus->n++;
    return 0;
}

/* The range that holds all of the access, or NULL. */
static const struct bus_range *find(const struct bus *bus, uint64_t address,
                                    unsigned size)
{
    unsigned from = 0, to = bus->n;

    while (from < to) { /* the first range above address */
        unsigned middle = (from + to) / 2;

        if (bus->range[middle].base <= address)
            from = middle + 1;
        else
            to = middle;
    }
    if (from > 0) {
        const struct bus_range *range = &bus->range[from - 1];
        uint64_t offset = address - range->base;

        if (offset < range->size && size <= range->size - offset)
            return range;
    }
    return NULL;
}

void bus_read(const struct bus *bus, uint64_t address, void *data,
              unsigned size)
{
    const struct bus_range *range = find(bus, address, size);

    if (range && range->ops->read)
        range->ops->read(range->ctx, address - range->base, data, size);
    else
        memset(data, 0xff, size);
}

void bus_write(const struct bus *bus, uint64_t address, const void *data,
               unsigned size)
{
    const struct bus_range *range = find(bus, address, size);

    if (range && range->ops->write)
        range->ops->write(range->ctx, address - range->base, data, size);
}
