/*
 * The probe: the handshake with a back-end, asking it what it is, and the rule
 * that weighs its answers against what the command line says. A state machine
 * without a loop of its own: rounds of requests that share a write, answered
 * in order.
 */
#ifndef HUSK_DEVICES_PROBE_H
#define HUSK_DEVICES_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/frontend.h"

enum probe_mode { PROBE_AUTO, PROBE_SPECS, PROBE_MESSAGES, PROBE_OFF };

/* What the command line says of a device; what is not given is not judged. */
struct probe_given {
    enum probe_mode mode;
    bool has_id, has_vqs, has_config_size;
    uint32_t id, vqs, config_size;
    uint32_t queue_size;   /* QueueNumMax, always given */
    bool inflight;         /* what is under way must outlive the back-end */
    bool inband;           /* kicks and calls by message, if offered */
    const uint8_t *config; /* config_size bytes instead of the back-end's */
};

enum probe_round {
    PROBE_FEATURES,
    PROBE_PROTOCOL,
    PROBE_ASK,
    PROBE_SIZES,
    PROBE_CONFIG,
    PROBE_DONE,
};

struct probe {
    struct frontend *fe;
    struct probe_given given;
    int backend_req_fd; /* handed over where BACKEND_REQ is served; borrowed */

    enum probe_round round;
    bool started;
    bool asked; /* request 41 went out on this connection */
    bool saw_bit18;

    uint64_t queue_num; /* GET_QUEUE_NUM's answer, 0 if none */

    struct identity is; /* so far; the verdict when the probe has ended */
    char note[200];     /* a line for the user, or empty */
};

/* Begin on a fresh connection of fe, whose identity is the probe's from now on.
 * The dialect stays what an earlier connection found it to be. */
void probe_start(struct probe *probe, struct frontend *fe);

/*
 * Go on as far as the answers reach.
 *   0        done: fe has the features, config space and verdict
 *   -EAGAIN  poll for frontend_events() and call again
 *   other    fe is lost; see probe_again()
 */
int probe_step(struct probe *probe);

/*
 * Whether the connection was lost at request 41 by a back-end that may be used
 * without a probe: connect (or start it) again, and probe_start() again.
 */
bool probe_again(struct probe *probe);

#endif
