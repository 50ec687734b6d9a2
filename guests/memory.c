/*
 * Memory behind the image, handed out upwards. It is not cleared: who needs
 * zeros writes them. Its end comes from the e820 map of boot_params; without
 * one a megabyte is taken to be there.
 */
#include "runtime.h"

#define E820_COUNT 0x1e8u
#define E820_TABLE 0x2d0u
#define E820_RAM   1u
#define E820_MAX   128u

struct e820_entry {
    uint64_t base, size;
    uint32_t type;
} __attribute__((packed));

extern uint8_t image_end[];

static uint64_t next, end;

static void find_end(void)
{
    const struct e820_entry *e;
    unsigned n;

    next = (uintptr_t)image_end;
    end = next + (UINT64_C(1) << 20);
    if (boot_params == NULL)
        return;
    e = (const void *)(boot_params + E820_TABLE);
    n = boot_params[E820_COUNT];
    for (unsigned i = 0; i < n && i < E820_MAX; i++)
        if (e[i].type == E820_RAM && e[i].base <= next &&
            next - e[i].base < e[i].size)
            end = e[i].base + e[i].size;
}

void *memory_take(size_t size, size_t align)
{
    uint64_t at;

    if (end == 0)
        find_end();
    at = (next + align - 1) & ~(uint64_t)(align - 1);
    if (at > end || size > end - at)
        exit_panic("no memory for %lu bytes", size);
    next = at + size;
    return (void *)at;
}

uint64_t memory_mark(void)
{
    if (end == 0)
        find_end();
    return next;
}

void memory_release(uint64_t mark)
{
    next = mark;
}

uint64_t memory_end(void)
{
    if (end == 0)
        find_end();
    return end;
}
