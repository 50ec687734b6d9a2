/*
 * The back-end's own requests, on the channel that SET_BACKEND_REQ_FD gave.
 * There is one, CONFIG_CHANGE. At most one has no answer yet; all changes
 * before its answer cause one more request after it. Nothing here blocks.
 */
#ifndef HUSK_BACKENDS_UPLINK_H
#define HUSK_BACKENDS_UPLINK_H

#include <ev.h>
#include <stdbool.h>

#include "devices/vhost_user.h"

struct uplink {
    struct ev_loop *loop;
    int fd;        /* -1: none */
    bool acked;    /* REPLY_ACK was negotiated: request answers */
    bool awaiting; /* an answer has not come yet */
    bool changed;  /* send another request after it */
    struct vu_header out;
    size_t out_done;
    uint8_t in[VU_HEADER_SIZE + 8];
    size_t in_done;
    ev_io readable, writable;
};

void uplink_init(struct uplink *uplink, struct ev_loop *loop);

/* Use fd, which becomes the uplink's; a former one is closed. */
void uplink_open(struct uplink *uplink, int fd, bool acked);
void uplink_close(struct uplink *uplink);

void uplink_config_changed(struct uplink *uplink);

#endif
