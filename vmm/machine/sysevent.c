/* The table of system events. See sysevent.h. */
#include "vmm/machine/sysevent.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>

static const struct {
    const char *name;
    int rc; /* 0: event is what it means */
    enum power_event event;
} events[] = {
    [KVM_SYSTEM_EVENT_SHUTDOWN] = { "shutdown", 0, POWER_OFF },
    [KVM_SYSTEM_EVENT_RESET] = { "reset", 0, POWER_RESET },
    [KVM_SYSTEM_EVENT_CRASH] = { "crash", 0, POWER_PANIC },
    [KVM_SYSTEM_EVENT_WAKEUP] = { "wake-up", -ENOTSUP, 0 },
    [KVM_SYSTEM_EVENT_SUSPEND] = { "suspend", -ENOTSUP, 0 },
    [KVM_SYSTEM_EVENT_SEV_TERM] = { "SEV termination", -ENOTSUP, 0 },
};

#define N_EVENTS (sizeof events / sizeof events[0])

int sysevent_power(uint32_t type, enum power_event *event)
{
    if (!sysevent_name(type))
        return -ENOTSUP;
    if (events[type].rc == 0)
        *event = events[type].event;
    return events[type].rc;
}

const char *sysevent_name(uint32_t type)
{
    return type < N_EVENTS ? events[type].name : NULL;
}
