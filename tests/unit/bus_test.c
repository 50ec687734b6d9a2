/* The bus: ranges that may and may not be added, and where accesses go. */
#include "vmm/machine/bus.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

struct target {
    unsigned reads, writes, size;
    uint64_t offset;
};

static void target_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    struct target *target = ctx;

    target->reads++;
    target->offset = offset;
    target->size = size;
    memset(data, 0x5a, size);
}

static void target_write(void *ctx, uint64_t offset, const void *data,
                         unsigned size)
{
    struct target *target = ctx;

    (void)data;
    target->writes++;
    target->offset = offset;
    target->size = size;
}

static const struct bus_ops ops = { target_read, target_write };
static const struct bus_ops none = { NULL, NULL };

static int add(struct bus *bus, uint64_t base, uint64_t size)
{
    return bus_add(bus, base, size, &ops, NULL);
}

Test(bus, overlaps, .timeout = 10)
{
    static struct bus bus;

    cr_assert_eq(add(&bus, 0x1000, 0x100), 0);
    cr_assert_eq(add(&bus, 0x3000, 0x100), 0);
    cr_assert_eq(add(&bus, 0x1000, 0x100), -EEXIST);
    cr_assert_eq(add(&bus, 0x10ff, 1), -EEXIST);
    cr_assert_eq(add(&bus, 0x1000, 1), -EEXIST);
    cr_assert_eq(add(&bus, 0x0fff, 2), -EEXIST);
    cr_assert_eq(add(&bus, 0x1080, 0x1000), -EEXIST);
    cr_assert_eq(add(&bus, 0x0f00, 0x1000), -EEXIST);
    cr_assert_eq(add(&bus, 0, 0x10000), -EEXIST);
    cr_assert_eq(add(&bus, 0, UINT64_MAX), -EEXIST);
    cr_assert_eq(add(&bus, 0x2fff, 2), -EEXIST);
    /* side by side */
    cr_assert_eq(add(&bus, 0x1100, 0x1f00), 0);
    cr_assert_eq(add(&bus, 0, 0x1000), 0);
    cr_assert_eq(bus.n, 4);
    for (unsigned i = 1; i < bus.n; i++)
        cr_assert_lt(bus.range[i - 1].base, bus.range[i].base);
}

Test(bus, empty_or_wrapping, .timeout = 10)
{
    static struct bus bus;

    cr_assert_eq(add(&bus, 0x1000, 0), -EINVAL);
    cr_assert_eq(add(&bus, UINT64_MAX, 2), -EINVAL);
    cr_assert_eq(add(&bus, 2, UINT64_MAX), -EINVAL);
    cr_assert_eq(add(&bus, UINT64_MAX - 0xff, 0x101), -EINVAL);
    cr_assert_eq(bus.n, 0);
    /* the last byte that there is */
    cr_assert_eq(add(&bus, UINT64_MAX, 1), 0);
    cr_assert_eq(add(&bus, UINT64_MAX - 0xff, 0xff), 0);
}

Test(bus, full, .timeout = 10)
{
    static struct bus bus;

    for (unsigned i = 0; i < BUS_MAX_RANGES; i++)
        cr_assert_eq(
            add(&bus, 0x1000 * (uint64_t)(i * 7 % BUS_MAX_RANGES), 0x1000), 0,
            "range %u", i);
    cr_assert_eq(add(&bus, 0x1000 * (uint64_t)BUS_MAX_RANGES, 0x1000), -ENOSPC);
}

/* Each address of a few ranges: its own, or nobody's; none gets an access that
 * reaches over its end. */
Test(bus, accesses, .timeout = 20)
{
    static const struct {
        uint64_t base, size;
    } ranges[] = { { 0x20, 8 }, { 0x28, 4 }, { 0x40, 1 }, { 0x60, 0x10 } };
    static const unsigned sizes[] = { 1, 2, 4, 8 };
    struct target targets[4] = { { 0 } };
    static struct bus bus;

    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(
            bus_add(&bus, ranges[i].base, ranges[i].size, &ops, &targets[i]),
            0);
    for (uint64_t at = 0; at < 0x80; at++) {
        for (unsigned k = 0; k < 4; k++) {
            uint8_t bytes[8] = { 0 }, want[8];
            unsigned size = sizes[k], taken = 0;

            memset(targets, 0, sizeof targets);
            bus_read(&bus, at, bytes, size);
            bus_write(&bus, at, bytes, size);
            memset(want, 0xff, sizeof want);
            for (unsigned i = 0; i < 4; i++) {
                bool in = at >= ranges[i].base &&
                          at + size <= ranges[i].base + ranges[i].size;

                cr_assert_eq(targets[i].reads, in);
                cr_assert_eq(targets[i].writes, in);
                if (!in)
                    continue;
                taken++;
                cr_assert_eq(targets[i].offset, at - ranges[i].base);
                cr_assert_eq(targets[i].size, size);
                memset(want, 0x5a, sizeof want);
            }
            cr_assert_leq(taken, 1);
            cr_assert_arr_eq(bytes, want, size);
        }
    }
}

Test(bus, at_the_ends_of_the_world, .timeout = 10)
{
    struct target target = { 0 };
    static struct bus bus;
    uint8_t bytes[8];

    bus_read(&bus, 0, bytes, 8); /* nobody is there at all */
    cr_assert_eq(bytes[7], 0xff);
    cr_assert_eq(bus_add(&bus, UINT64_MAX - 7, 8, &ops, &target), 0);
    bus_read(&bus, UINT64_MAX - 7, bytes, 8);
    cr_assert_eq(target.reads, 1);
    bus_read(&bus, UINT64_MAX - 3, bytes, 8); /* wraps */
    bus_read(&bus, UINT64_MAX, bytes, 2);
    bus_write(&bus, UINT64_MAX, bytes, 4);
    bus_read(&bus, 0, bytes, 1);
    cr_assert_eq(target.reads, 1);
    cr_assert_eq(target.writes, 0);
    bus_write(&bus, UINT64_MAX, bytes, 1);
    cr_assert_eq(target.writes, 1);
}

/* A handler that is missing is nobody. */
Test(bus, no_handler, .timeout = 10)
{
    uint8_t bytes[4] = { 0, 0, 0, 0 };
    static struct bus bus;

    cr_assert_eq(bus_add(&bus, 0x10, 0x10, &none, NULL), 0);
    bus_write(&bus, 0x10, bytes, 4);
    bus_read(&bus, 0x10, bytes, 4);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(bytes[i], 0xff);
}
