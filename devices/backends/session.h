/*
 * One connection to a front-end: what was negotiated, guest memory, queues, and
 * the message that is being received, acted on or answered. Which message does
 * what is the business of the calls that session_open() gets.
 */

#ifndef HUSK_BACKENDS_SESSION_H
#define HUSK_BACKENDS_SESSION_H

#include <ev.h>

#include "devices/backends/backend.h"
#include "devices/backends/inflight.h"
#include "devices/backends/memory.h"
#include "devices/backends/queue.h"
#include "devices/backends/uplink.h"
#include "devices/vhost_user.h"

#define MESSAGE_MAX_FDS 16u

struct message {
    struct vu_header header;
    uint8_t payload[VU_MAX_PAYLOAD];
    int fd[MESSAGE_MAX_FDS];
    unsigned n_fds;
};

struct session;

enum verdict { MESSAGE_DONE, MESSAGE_WAIT, MESSAGE_FAILED };

/* What a session calls; the layers above it give the functions. */
struct session_calls {
    /*
     * Act on session->in. MESSAGE_WAIT: chains must come back first, and the
     * call is made again then. MESSAGE_FAILED: the session is closing.
     */
    enum verdict (*handle)(struct session *session);
    /* It is over: call session_free(). From the loop. */
    void (*ended)(struct session *session);
};

struct session {
    const struct session_calls *calls;
    struct queue_host host;
    struct device *dev; /* the same as host.dev */
    int fd;
    uint64_t protocol_features;
    uint8_t status;
    bool bad_features; /* SET_FEATURES held a bit that was not offered */
    bool paused;       /* no queue runs: the memory table changes */
    bool closing;      /* it ends when no chain is with the device */
    bool failed;       /* it ends because the front-end broke a rule */
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
};

/*
 * Serve a connected socket, which becomes the session's. NULL when out of
 * memory, after complain().
 */
struct session *session_open(struct device *dev, int fd,
                             const struct session_calls *calls);
void session_free(struct session *session);

/* The device's features and the runtime's. */
uint64_t session_offers(const struct session *session);
uint64_t session_protocol_offers(const struct session *session);

/* Read no more; end when no chain is with the device. */
void session_close(struct session *session);

/* Complain about the front-end's mistake, and close. Returns -1. */
int session_fail(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Answer session->in with size bytes, and fd (taken over) unless -1. */
void session_reply(struct session *session, const void *data, size_t size,
                   int fd);

/* status, paused or protocol_features changed: let the queues run, or not. */
void session_update(struct session *session);

/* Whether no chain of any queue is with the device. */
bool session_idle(const struct session *session);

/* for devices */

/* Features that the driver accepted; 0 while no front-end is connected. */
uint64_t device_features(const struct device *dev);

/* config was changed: notify the front-end. */
void device_config_changed(struct device *dev);

/* Queue number index between its start() and stop(), else NULL. */
struct queue *device_queue(struct device *dev, unsigned index);

#endif
