/*
 * What a device is: the answers of its back-end, and what its SPEC says. A
 * probe fills one; when the probe has ended it never changes again, and all
 * else points to it. A back-end that comes back is probed into another one,
 * which is compared with the first.
 */
#ifndef HUSK_DEVICES_IDENTITY_H
#define HUSK_DEVICES_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"

/* How a back-end answers a probe. */
enum dialect {
    DIALECT_UNKNOWN,  /* it was not asked yet */
    DIALECT_NONE,     /* it answers no probe */
    DIALECT_SPECS,    /* one message, four numbers */
    DIALECT_MESSAGES, /* a message a number */
};

struct identity {
    enum dialect dialect;
    uint32_t id;               /* device type */
    uint32_t config_size;      /* bytes of config space that the guest sees */
    uint32_t min_vqs, max_vqs; /* as the back-end says; 0: it does not */
    uint32_t vqs;              /* queues that the guest sees */
    uint32_t queue_size;       /* QueueNumMax */
    uint64_t features;         /* VIRTIO and vhost feature bits as offered */
    uint64_t protocol;         /* protocol features as offered */
    bool standalone; /* the back-end is a whole device, status and config too */
    bool inband;     /* kicks, calls and errors go by message */
    struct vu_shm_config shm; /* shared memory regions; all zero: none */
};

/*
 * Whether a back-end that came back is another device than before, or offers
 * less than the needed feature bits. text says in what.
 */
bool identity_differs(const struct identity *is, const struct identity *was,
                      uint64_t needed, char *text, size_t size);

#endif
