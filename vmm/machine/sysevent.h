/*
 * KVM's system events: what a guest asked its firmware for (PSCI, SBI, Hyper-V
 * registers) and what each of them means for the run.
 */
#ifndef HUSK_VMM_MACHINE_SYSEVENT_H
#define HUSK_VMM_MACHINE_SYSEVENT_H

#include <stdint.h>

#include "devices/power.h"

/*
 * What an event of this type (KVM_SYSTEM_EVENT_...) means.
 *   -ENOTSUP  it ends no run that husk could judge: husk cannot suspend a guest
 */
int sysevent_power(uint32_t type, enum power_event *event);

/* Its name for a message, or NULL where husk does not know the type. */
const char *sysevent_name(uint32_t type);

#endif
