/*
 * Real-mode code at f000:fff0, as hardware has it there. Linux ends up in it
 * where ACPI is hardware-reduced and there is no EFI: it prefers EFI's reset to
 * the FADT's then, and falls through to the BIOS. Without this code the guest
 * would run on through zeros for ever.
 */
#include "boot/rom_x86_64.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

/* clang-format off */
static const uint8_t reset[] = {
    0xb0, 0xfe,                 /* mov $0xfe, %al */
    0xe6, LAYOUT_I8042_PIO + 4, /* out %al, $0x64 */
    0xf4,                       /* hlt */
    0xeb, 0xfd,                 /* jmp to the hlt */
};
/* clang-format on */

_Static_assert(LAYOUT_RESET + sizeof reset <= LAYOUT_HIGH_START,
               "the code reaches past real mode's memory");

int rom_write(const struct mem *mem, struct husk_err *err)
{
    void *to = mem_at(mem, LAYOUT_RESET, sizeof reset);

    if (to == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for the "
                    "reset vector at %#x",
                    mem->size, LAYOUT_RESET);
    memcpy(to, reset, sizeof reset);
    return 0;
}
