/*
 * A vring as the guest's driver laid it out: filled by the transport's
 * registers, read by the front-end that hands it to the back-end.
 */
#ifndef HUSK_DEVICES_VRING_H
#define HUSK_DEVICES_VRING_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/mem.h"

struct vring {
    gpa_t desc;   /* descriptor area */
    gpa_t driver; /* driver area: available ring */
    gpa_t device; /* device area: used ring */
    uint32_t num; /* as written; judged when the ring is made ready */
    bool ready;   /* QueueReady */
    bool started; /* the back-end has it */
    bool stopped; /* reset by QueueReset while the device runs */
    bool direct;  /* kicks need no exit */
    int kick;     /* eventfd, -1 until first used */
};

#endif
