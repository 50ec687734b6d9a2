/*
 * A guest that is entered by PVH: prints the command line and the memory map of
 * hvm_start_info (Xen's public/arch-x86/hvm/start_info.h) and checks what the
 * interface promises of them.
 */
#include "runtime.h"

#define MAGIC       0x336ec578u
#define ENTRIES_MAX 128u

struct start_info {
    uint32_t magic, version, flags, n_modules;
    uint64_t modules, cmdline, rsdp;
    uint64_t map; /* from version 1 on */
    uint32_t n_map, reserved;
};

struct map_entry {
    uint64_t base, size;
    uint32_t type, reserved;
};

extern const struct start_info *pvh_info;
const char *pvh_cmdline(void);

/* The command line for the runtime's options. */
const char *pvh_cmdline(void)
{
    if (pvh_info == NULL || pvh_info->magic != MAGIC || pvh_info->cmdline == 0)
        return "";
    return (const char *)pvh_info->cmdline;
}

int guest_main(void)
{
    const struct map_entry *map;
    bool found = false;

    if (pvh_info == NULL)
        exit_fail("not entered by PVH");
    if (pvh_info->magic != MAGIC)
        exit_fail("start info has magic %#x", pvh_info->magic);
    print("pvh entry: cmdline %s\n", option_line());
    if (pvh_info->version < 1)
        exit_fail("start info of version %u has no memory map",
                  pvh_info->version);
    if (pvh_info->n_map == 0 || pvh_info->n_map > ENTRIES_MAX)
        exit_fail("memory map of %u entries", pvh_info->n_map);
    map = (const struct map_entry *)pvh_info->map;
    for (unsigned i = 0; i < pvh_info->n_map; i++) {
        uint64_t end = map[i].base + map[i].size;

        print("pvh memory: %#lx-%#lx %u\n", map[i].base, end, map[i].type);
        if (end < map[i].base)
            exit_fail("memory map wraps");
        if (map[i].type == 1 && map[i].base <= (uintptr_t)guest_main &&
            (uintptr_t)guest_main < end)
            found = true;
    }
    if (!found)
        exit_fail("the kernel lies outside the memory map");
    print("pass\n");
    return (int)option_number("status", 0);
}
