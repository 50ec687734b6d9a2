/* See ram.h. */
#include "tests/fuzz/ram.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DEVICES 40u
#define HIGH_START  0x100000u

const struct mem *ram_mem(void)
{
    static struct mem mem;

    if (mem.n_regions)
        return &mem;
    mem = (struct mem){ .fd = -1, .n_regions = 2, .size = RAM_LOW + RAM_HIGH };
    mem.region[0] =
        (struct mem_region){ .size = RAM_LOW, .host = calloc(1, RAM_LOW) };
    mem.region[1] = (struct mem_region){ .base = RAM_GAP,
                                         .size = RAM_HIGH,
                                         .host = calloc(1, RAM_HIGH),
                                         .offset = RAM_LOW };
    CHECK(mem.region[0].host && mem.region[1].host);
    return &mem;
}

void ram_fill(uint8_t byte)
{
    const struct mem *mem = ram_mem();

    memset(mem->region[0].host + HIGH_START, byte, RAM_LOW - HIGH_START);
    memset(mem->region[1].host, byte, RAM_HIGH);
}

static bool all(const uint8_t *bytes, size_t size, uint8_t byte)
{
    return bytes[0] == byte && !memcmp(bytes, bytes + 1, size - 1);
}

bool ram_is(uint8_t byte)
{
    const struct mem *mem = ram_mem();

    return all(mem->region[0].host + HIGH_START, RAM_LOW - HIGH_START, byte) &&
           all(mem->region[1].host, RAM_HIGH, byte);
}

void ram_board(struct boot_board *board, struct input *in)
{
    static struct boot_virtio devices[MAX_DEVICES];
    static char cmdline[4200];
    uint8_t flags = input_u8(in);
    size_t length = input_u8(in);

    *board = (struct boot_board){ .mem = ram_mem(),
                                  .cmdline = cmdline,
                                  .virtio = devices };
    board->cpus = 1u + input_u8(in) % 16;
    if (flags & 1 && input_u8(in) == 0)
        board->cpus = 1u + input_u16(in) % 1024;
    board->n_virtio = input_u8(in) % (MAX_DEVICES + 1);
    if (flags & 2)
        length = input_u16(in) % sizeof cmdline;
    board->uart2 = flags & 4;
    board->panic = flags & 8 ? 0xd1000000 : 0;
    memset(cmdline, 'a', sizeof cmdline);
    for (size_t i = 0; i < length && i < 64; i++)
        cmdline[i] = (char)input_u8(in);
    cmdline[length] = 0;
    for (unsigned i = 0; i < board->n_virtio; i++) {
        devices[i] =
            (struct boot_virtio){ .base = 0xd0000000 + 0x2000 * (uint64_t)i,
                                  .size = 0x1000,
                                  .irq = 5 + i % 19,
                                  .id = i + 1,
                                  .config_size = i };
        if (flags & 16) {
            devices[i].size = (1ull + input_u8(in)) * 0x1000;
            devices[i].irq = input_u8(in) % 28; /* 24 pins */
            devices[i].id = input_u32(in);
        }
    }
}

void *ram_copy(const void *data, size_t size)
{
    void *copy = malloc(size ? size : 1);

    CHECK(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

void ram_check_entry(const struct boot_entry *entry)
{
    CHECK(mem_at(ram_mem(), entry->entry, 1) != NULL);
    CHECK(entry->entry >= HIGH_START);
    CHECK(mem_at(ram_mem(), entry->info, 4096) != NULL);
    CHECK(entry->info < HIGH_START);
}
