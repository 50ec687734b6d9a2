/*
 * What a guest's accesses cause: the calls of the transport, which go to the
 * back-end, or are kept for one that comes back. vCPU threads, under the
 * device's lock.
 */
#ifndef HUSK_VMM_LINK_GUEST_H
#define HUSK_VMM_LINK_GUEST_H

#include "devices/transport.h"

/* ctx is the struct device. */
extern const struct transport_ops guest_ops;

#endif
