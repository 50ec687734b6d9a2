/*
 * From the entry to the guest's own code, and what boot_params holds: the
 * command line, and the device tree in the list of setup data. Offsets are
 * those of Documentation/arch/x86/zero-page.rst.
 */
#include "runtime.h"

#define PARAMS_EXT_CMDLINE 0x0c8u
#define PARAMS_CMDLINE     0x228u
#define PARAMS_SETUP_DATA  0x250u
#define SETUP_DTB          2u
#define SETUP_MAX          16u

struct setup_data {
    uint64_t next;
    uint32_t type;
    uint32_t size;
    uint8_t data[];
};

const uint8_t *boot_params;

static uint64_t field(unsigned offset, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, boot_params + offset, size);
    return value;
}

void runtime_start(const uint8_t *params, const char *cmdline)
{
    boot_params = params;
    interrupts_init();
    uart_init();
    if (params != NULL)
        cmdline = (const char *)(field(PARAMS_CMDLINE, 4) |
                                 field(PARAMS_EXT_CMDLINE, 4) << 32);
    if (cmdline != NULL)
        option_init(cmdline);
    exit_status((unsigned)guest_main());
}

const void *boot_tree(void)
{
    uint64_t at;

    if (boot_params == NULL)
        return NULL;
    at = field(PARAMS_SETUP_DATA, 8);
    for (unsigned n = 0; at != 0 && n < SETUP_MAX; n++) {
        const struct setup_data *data = (const struct setup_data *)at;

        if (data->type == SETUP_DTB)
            return data->data;
        at = data->next;
    }
    return NULL;
}
