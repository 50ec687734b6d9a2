/*
 * The vhost-user front-end: requests and their answers on one connection, and
 * the life of the device behind it. Answers are taken strictly in the order of
 * the requests, by whoever holds the device's lock; nothing here locks.
 *
 * A failure loses the connection for good: frontend.err says why, the socket is
 * shut down and every further call returns -ENOTCONN.
 */
#ifndef HUSK_DEVICES_FRONTEND_H
#define HUSK_DEVICES_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/identity.h"
#include "devices/vring.h"
#include "devices/wire.h"
#include "vmm/machine/mem.h"

#define FRONTEND_MAX_VQS    256u  /* SET_VRING_KICK's index has eight bits */
#define FRONTEND_MAX_CONFIG 4096u /* bytes of config space */

/* Protocol features whose messages are implemented here. */
/* Shared memory needs all three of these, and so do in-band notifications of
 * theirs. */
#define FRONTEND_SHM (VU_PF_SHMEM | VU_PF_BACKEND_REQ | VU_PF_BACKEND_SEND_FD)
#define FRONTEND_INBAND                                                        \
    (VU_PF_INBAND_NOTIFICATIONS | VU_PF_BACKEND_REQ | VU_PF_REPLY_ACK)
#define FRONTEND_PROTOCOL                                                      \
    (VU_PF_MQ | VU_PF_REPLY_ACK | VU_PF_BACKEND_REQ | VU_PF_CONFIG |           \
     VU_PF_RESET_DEVICE | VU_PF_CONFIGURE_MEM_SLOTS | VU_PF_STATUS)

struct frontend;
struct frontend_pending;

/* Take one answer's payload; 0, or what frontend_lose() returned. */
typedef int (*frontend_done)(struct frontend *fe,
                             const struct frontend_pending *pending,
                             const uint8_t *payload, size_t size);

/* A request whose answer is pending. */
struct frontend_pending {
    unsigned n_fds; /* descriptors that come with it */
    uint32_t request;
    uint32_t arg;             /* for done */
    struct vring_given *ring; /* for done: outlives the answer */
    uint32_t min, max;        /* bytes of payload that are accepted */
    bool optional;            /* may be passed over, done gets NULL then */
    frontend_done done;
};

struct frontend {
    struct wire wire;
    struct helper *helper; /* of the device; borrowed, or NULL */
    const char *name;      /* of the device, for messages; borrowed */
    const struct mem *mem; /* borrowed; NULL before the machine stands */
    int stop_fd;           /* readable when the run ends; borrowed, or -1 */
    int call_fd, err_fd;   /* handed to every ring; borrowed */
    double deadline;       /* seconds a request may take */

    bool lost;
    struct husk_err err; /* why */

    const struct identity *is; /* what this connection's probe found */
    uint64_t acked;            /* protocol features as acknowledged */
    uint64_t max_slots;        /* GET_MAX_MEM_SLOTS's answer */
    uint8_t device_status;     /* GET_STATUS's answer */
    bool memory_sent;          /* once a connection */
    int inflight_fd;           /* of the back-end's inflight area; -1: none */
    struct vu_inflight inflight;

    uint8_t *config;     /* is->config_size bytes: the last whole answer */
    uint8_t *config_in;  /* the answer that is arriving */
    unsigned config_due; /* pieces of it that have not come */
    bool config_again;   /* it changed once more meanwhile */
    /* config[] has a new answer; under the device's lock */
    void (*config_arrived)(void *ctx);
    void *ctx;

    struct frontend_pending *pending; /* oldest first: [head..tail) */
    size_t head, tail, room;
    unsigned waits; /* round trips so far */
    uint64_t taken; /* answers so far */
};

/* Start on a connected socket, which it takes over. Keeps helper, name, mem,
 * stop_fd, call_fd, err_fd, deadline, config_arrived, ctx, config space,
 * inflight area and waits as they are; all else is as after a new connection.
 */
void frontend_init(struct frontend *fe, int fd);

/* Close the connection and free everything. Safe to repeat. */
void frontend_fini(struct frontend *fe);

/* Give the connection up: "NAME: text". Returns code. The first reason stays.
 */
int frontend_lose(struct frontend *fe, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Queue a request, with n_fds descriptors that stay the caller's. */
int frontend_send(struct frontend *fe, uint32_t request, const void *payload,
                  size_t size, const int *fds, unsigned n_fds);

/*
 * The same for a request that sets something up: where REPLY_ACK was
 * acknowledged its answer is asked for, and a refusal loses the connection,
 * naming the request and value.
 */
int frontend_setup(struct frontend *fe, uint32_t request, const void *payload,
                   size_t size, const int *fds, unsigned n_fds, uint32_t value);

/* Expect an answer. */
int frontend_expect(struct frontend *fe, struct frontend_pending pending);

/*
 * Send what is queued and take the answers that are there.
 *   0        no answer is pending
 *   -EAGAIN  poll for frontend_events() and call again
 *   other    the connection is lost
 */
int frontend_pump(struct frontend *fe);

/* POLLIN, POLLOUT or both: what frontend_pump() waits for. */
short frontend_events(const struct frontend *fe);

/*
 * Pump until no answer is pending, until the deadline at most.
 *   -ECANCELED  the run ends; answers stay pending and the connection usable
 *   other       the connection is lost
 */
int frontend_wait(struct frontend *fe, uint64_t deadline);

/* Nothing came in time: lose the connection, naming the oldest request. */
int frontend_timeout(struct frontend *fe);

/*
 * Read the config space again. config_arrived() follows, now or whenever the
 * answers are taken. Sends, never waits.
 */
int frontend_config_refresh(struct frontend *fe);

/*
 * After a new connection to a back-end that came back. These send, and do not
 * wait. First the statuses as the driver wrote them, in their order, up to
 * FEATURES_OK, whose answer is then in device_status; then, where the driver
 * had gone on to DRIVER_OK, the inflight area (a new one if there is none), and
 * when that has come the rings where they stood.
 */
int frontend_send_statuses(struct frontend *fe, const uint8_t *statuses,
                           unsigned n, uint64_t features);
int frontend_get_inflight(struct frontend *fe, const struct vrings *rings);
int frontend_send_rings(struct frontend *fe, const struct vrings *rings,
                        uint8_t status);

/* Bytes of config space, at most VU_MAX_CONFIG of them. */
int frontend_send_config(struct frontend *fe, uint32_t offset, const void *data,
                         uint32_t size);

/* The area is of rings that are no more. */
void frontend_drop_inflight(struct frontend *fe);

/* A kick for each ring that the back-end has. */
int frontend_kick_all(struct frontend *fe, const struct vrings *rings);

/* Whether the back-end's memory slots are enough: 0, or the connection is lost
 * (-EPROTO). Memory that is not there yet needs none. */
int frontend_check_slots(struct frontend *fe, const struct mem *mem);

/* The rest is what a guest's register writes cause; each may wait. */

/* Relay a status that starts and resets nothing. */
int frontend_status(struct frontend *fe, uint8_t status, uint64_t deadline);

/*
 * FEATURES_OK: SET_FEATURES, SET_STATUS, GET_STATUS. *accepted is false where
 * the back-end took the bit away again.
 */
int frontend_features(struct frontend *fe, uint64_t features, uint8_t status,
                      bool *accepted, uint64_t deadline);

/*
 * DRIVER_OK: the memory table if this connection has not had it, then those of
 * the rings that are ready, then the status, then a kick each.
 */
int frontend_start(struct frontend *fe, const struct vrings *rings,
                   uint8_t status, uint64_t deadline);

/* One ring more, or again, while the device runs. */
int frontend_ring_start(struct frontend *fe, const struct vrings *rings,
                        unsigned index, uint64_t deadline);
/* Where the back-end stopped is in the ring's base then. */
int frontend_ring_stop(struct frontend *fe, const struct vrings *rings,
                       unsigned index, uint64_t deadline);

/* A kick that the guest gave by a register: only where kicks go by message. */
int frontend_kick(struct frontend *fe, uint32_t index);

/* Status 0: started rings are stopped, the device is reset, the connection
 * stays. */
int frontend_reset(struct frontend *fe, const struct vrings *rings,
                   uint64_t deadline);

/* The same without waiting: the answers are pending when it returns. */
int frontend_send_reset(struct frontend *fe, const struct vrings *rings);

/* Write size bytes of config space at offset, and read all of it back. */
int frontend_config_write(struct frontend *fe, uint32_t offset,
                          const void *data, uint32_t size, uint64_t deadline);

#endif
