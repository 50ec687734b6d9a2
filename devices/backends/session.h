/*
 * One connection to a front-end: what was negotiated, guest memory, queues, and
 * the message being taken in or answered.
 */
#ifndef HUSK_BACKENDS_SESSION_H
#define HUSK_BACKENDS_SESSION_H

#include <ev.h>

#include "devices/backends/inflight.h"
#include "devices/backends/memory.h"
#include "devices/backends/queue.h"
#include "devices/backends/runtime.h"
#include "devices/backends/uplink.h"
#include "devices/vhost_user.h"

#define MESSAGE_MAX_FDS 16u

struct message {
    struct vu_header header;
    uint8_t payload[VU_MAX_PAYLOAD];
    int fd[MESSAGE_MAX_FDS];
    unsigned n_fds;
};

struct session {
    struct device *dev;
    int fd;
    uint64_t features; /* as SET_FEATURES gave them */
    uint64_t protocol_features;
    uint8_t status;
    bool bad_features;   /* SET_FEATURES held a bit that was not offered */
    bool paused;         /* no queue runs: the memory table changes */
    bool closing;        /* ends as soon as no chain is with the device */
    bool failed;         /* it ends because the front-end broke the rules */
    unsigned complaints; /* about rings, bounded: guests cause them */
    struct memory memory;
    struct inflight inflight;
    struct uplink uplink;
    struct queue *queue; /* shape.max_vqs of them */

    struct message in;
    size_t in_done; /* bytes of header and payload that have come */
    bool waiting;   /* in is complete, and waits for chains to come back */
    uint8_t out[VU_HEADER_SIZE + VU_MAX_PAYLOAD];
    size_t out_size, out_done;
    int out_fd; /* goes with the answer; -1: none */

    ev_io readable, writable;
    ev_prepare prepare;
    void (*ended)(struct session *session); /* frees it, at the very end */
};

/*
 * Serve a connected socket, which becomes the session's. NULL when out of
 * memory, after complain(). ended() comes from the loop and must call
 * session_free().
 */
struct session *session_open(struct device *dev, int fd,
                             void (*ended)(struct session *session));
void session_free(struct session *session);

/* Features that this device offers, the runtime's included. */
uint64_t session_offers(const struct session *session);
uint64_t session_protocol_offers(const struct session *session);

/* Stop reading; end when all chains are back. */
void session_close(struct session *session);

/* A line about the front-end's mistake, and close. Returns -1. */
int session_fail(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Answer the message in hand with size bytes, and fd (taken over) unless -1. */
void session_reply(struct session *session, const void *data, size_t size,
                   int fd);

/* Whether queues may run at all: DRIVER_OK came, and no pause. */
bool session_runs(const struct session *session);

/* Chains that the device has not given back, of one queue or of all. */
bool session_idle(const struct session *session);

enum verdict { MESSAGE_DONE, MESSAGE_WAIT, MESSAGE_FAILED };

/*
 * Act on session->in. MESSAGE_WAIT: chains must come back first, call again
 * then. MESSAGE_FAILED: session_fail() was called.
 */
enum verdict message_handle(struct session *session);

#endif
