/* Each of KVM's system events ends a run as what it is. */
#include "vmm/machine/sysevent.h"

#include <errno.h>

#include <criterion/criterion.h>

#define NONE 99u

/* By number: the headers of a kernel name only those that it knows. */
static const struct {
    uint32_t type;
    unsigned event; /* NONE: no outcome but an error */
    const char *name;
} table[] = {
    { 0, NONE, NULL },
    { 1, POWER_OFF, "shutdown" },
    { 2, POWER_RESET, "reset" },
    { 3, POWER_PANIC, "crash" },
    { 4, NONE, "wake-up" },
    { 5, NONE, "suspend" },
    { 6, NONE, "SEV termination" },
    { 7, NONE, NULL },
    { 0x7fffffff, NONE, NULL },
    { 0xffffffff, NONE, NULL },
};

Test(sysevent, table)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        enum power_event event = (enum power_event)NONE;
        int rc = sysevent_power(table[i].type, &event);
        const char *name = sysevent_name(table[i].type);

        cr_assert_eq(rc, table[i].event == NONE ? -ENOTSUP : 0, "type %u: %d",
                     table[i].type, rc);
        cr_assert_eq(event, table[i].event, "type %u: %u", table[i].type,
                     (unsigned)event);
        if (table[i].name)
            cr_assert_str_eq(name, table[i].name);
        else
            cr_assert_null(name, "type %u", table[i].type);
    }
}
