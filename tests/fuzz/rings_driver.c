/*
 * The driver in the rings' harness: see rings.h. It lays chains out without
 * minding what the device still has, and writes over all of it.
 */
#include "tests/fuzz/rings.h"

#include <string.h>

#include "boot/bytes.h"

/* Where a byte of the model's memory is in the ring's. */
uint8_t *rings_host(uint32_t at)
{
    unsigned r = at < walk_regions[1].at ? 0 : at < walk_regions[2].at ? 1 : 2;

    return run.host[r] + (at - walk_regions[r].at);
}

/* The same bytes in both memories. */
void rings_store(uint32_t at, const uint8_t *bytes, uint32_t size)
{
    if (size > WALK_MEMORY - at)
        size = WALK_MEMORY - at;
    memcpy(run.walk.memory + at, bytes, size);
    for (uint32_t i = 0; i < size; i++)
        *rings_host(at + i) = bytes[i];
}

void rings_store_16(uint32_t at, unsigned value)
{
    uint8_t bytes[2];

    put16(bytes, (uint16_t)value);
    rings_store(at, bytes, sizeof bytes);
}

void rings_scribble(struct input *in)
{
    uint16_t at = input_u16(in) % WALK_MEMORY;
    uint8_t bytes[16];
    unsigned n = 1 + input_u8(in) % sizeof bytes;

    input_bytes(in, bytes, n);
    rings_store(at, bytes, n);
    run.rude = true;
}

/* Aim at what drivers write: a descriptor, an index, a wish. */
void rings_scribble_well(struct input *in)
{
    const struct walk *w = &run.walk;
    uint8_t what = input_u8(in);
    uint16_t value = input_u16(in);
    unsigned index = input_u8(in) % w->size;

    run.rude = true;
    switch (what % 6) {
    case 0:
        rings_store_16(w->avail + 2, w->packed ? value
                                               : value % (w->size + 2) +
                                                     (unsigned)w->next_avail);
        break;
    case 1:
        rings_store_16(w->avail, value);
        break;
    case 2:
        if (!w->packed)
            rings_store_16(w->avail + 4 + 2 * w->size, value);
        break;
    case 3:
        if (!w->packed)
            rings_store_16(w->avail + 4 + 2 * index, value % (w->size + 1));
        break;
    case 4:
        rings_store_16(w->desc + 16 * index + 12, value);
        break;
    case 5:
        rings_store_16(w->desc + 16 * index + 14, value);
        break;
    }
}

static uint64_t pick_address(struct input *in)
{
    uint8_t pick = input_u8(in);
    uint64_t base = walk_regions[pick % WALK_REGIONS].guest;

    return pick < 250 ? base + 16 * input_u8(in) : base - 1 + pick % 3;
}

static void put_desc(uint32_t at, uint64_t addr, uint32_t len, uint16_t third,
                     uint16_t fourth)
{
    uint8_t d[16];

    put64(d, addr);
    put32(d + 8, len);
    put16(d + 12, third);
    put16(d + 14, fourth);
    rings_store(at, d, sizeof d);
}

/*
 * A chain as a driver would lay it out: in the ring, or in a table. In a split
 * descriptor flags come before next, in a packed one the id before flags.
 */
void rings_offer(struct input *in)
{
    const struct walk *w = &run.walk;
    uint8_t shape = input_u8(in);
    unsigned n = 1 + shape % 4, readable = shape >> 2 & 3;
    bool in_table = shape & 0x10 && w->indirect;
    uint32_t table = 0x5000 + 64 * (shape >> 5 & 3);
    unsigned turn = (run.offered / w->size) % 2 == 0 ? 0x80 : 0x8000;
    unsigned first = run.offered % w->size;

    if (n > w->size)
        n = w->size;
    for (unsigned i = n; i-- > 0;) {
        uint64_t addr = pick_address(in);
        uint32_t len = input_u8(in) % 64;
        uint16_t flags =
            (uint16_t)((i >= readable ? 2 : 0) | (i + 1 < n ? 1 : 0));
        uint32_t position = run.offered + i;
        unsigned slot = position % w->size;

        if (in_table && w->packed)
            put_desc(table + 16 * i, addr, len, 0, flags & 2);
        else if (in_table)
            put_desc(table + 16 * i, addr, len, flags, (uint16_t)(i + 1));
        else if (w->packed)
            put_desc(
                w->desc + 16 * slot, addr, len, (uint16_t)first,
                (uint16_t)(flags |
                           ((position / w->size) % 2 == 0 ? 0x80 : 0x8000)));
        else
            put_desc(w->desc + 16 * slot, addr, len, flags,
                     (uint16_t)((slot + 1) % w->size));
    }
    if (in_table)
        put_desc(w->desc + 16 * first,
                 walk_regions[1].guest + table - walk_regions[1].at, 16 * n,
                 w->packed ? (uint16_t)first : 4,
                 (uint16_t)(w->packed ? 4 | turn : 0));
    run.offered += in_table ? 1 : n;
    run.rude |= run.offered - (uint32_t)w->next_used > w->size;
    if (w->packed)
        return;
    if (shape & 0x80) { /* a head of somewhere else */
        first = input_u8(in) % (w->size + 2);
        run.rude = true;
    }
    rings_store_16(w->avail + 4 + 2 * (run.free % w->size), first);
    run.free++;
    rings_store_16(w->avail + 2, run.free);
}
