/*
 * The rules that a front-end's requests keep, whatever the back-end answers:
 * sizes, descriptors, what was negotiated, and the order on the wire.
 */
#ifndef HUSK_TESTS_ORDER_H
#define HUSK_TESTS_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost_user.h"

/* What one connection has seen. */
struct order {
    bool owner;
    uint64_t acked;    /* the last SET_PROTOCOL_FEATURES */
    uint64_t features; /* as the back-end would offer them */
    unsigned regions;  /* of guest memory */
    struct vu_mem_region region[VU_MAX_MEM_REGIONS];
    uint8_t ring[256]; /* what each was given */
    unsigned fds;      /* descriptors that should have come */
};

/* One whole request. Ends the run where it breaks a rule. */
void order_check(struct order *order, const struct vu_header *header,
                 const uint8_t *payload);

#endif
