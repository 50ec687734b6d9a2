/*
 * Which frames a network card takes in, as the driver's control queue says
 * (VIRTIO 1.2, 5.1.6.5.1 and 5.1.6.5.2).
 */
#ifndef HUSK_BACKENDS_NETFILTER_H
#define HUSK_BACKENDS_NETFILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backends/mac.h"

#define FILTER_MAX_MACS                                                        \
    64u /* of each kind; if more are set, all frames of that kind pass */

/* a class, a command, and two tables of at most 1024 addresses together */
#define FILTER_MAX_COMMAND (2u + 8u + 1024u * MAC_SIZE)

#define FILTER_F_CTRL_VQ       (UINT64_C(1) << 17)
#define FILTER_F_CTRL_RX       (UINT64_C(1) << 18)
#define FILTER_F_CTRL_RX_EXTRA (UINT64_C(1) << 20)
#define FILTER_F_CTRL_MAC_ADDR (UINT64_C(1) << 23)
#define FILTER_FEATURES                                                        \
    (FILTER_F_CTRL_VQ | FILTER_F_CTRL_RX | FILTER_F_CTRL_RX_EXTRA |            \
     FILTER_F_CTRL_MAC_ADDR)

struct filter_table {
    unsigned n;
    bool overflow;
    uint8_t mac[FILTER_MAX_MACS][MAC_SIZE];
};

struct filter {
    /* in the order of the commands that set them */
    struct {
        bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast,
            no_broadcast;
    } mode;
    struct filter_table unicast, multicast;
};

/* All frames pass, as before any driver. */
void filter_reset(struct filter *filter);

/*
 * Obey a command of the control queue; mac is the card's address, which one of
 * them changes. The answer: 0 OK, 1 an error.
 */
uint8_t filter_command(struct filter *filter, uint64_t features,
                       const uint8_t *command, size_t size, uint8_t *mac);

/* Whether a frame of at least 6 bytes passes. */
bool filter_passes(const struct filter *filter, const uint8_t *frame,
                   const uint8_t *mac);

#endif
