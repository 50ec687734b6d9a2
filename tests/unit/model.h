/*
 * A model of a whole back-end: it answers all requests, writes them down, and
 * bends the answers that it is told to bend. Served by the test's own thread,
 * or by one of its own where the front-end waits.
 */
#ifndef HUSK_TESTS_MODEL_H
#define HUSK_TESTS_MODEL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"
#include "tests/unit/far.h"

#define MODEL_MAX_LOG 1024

/* What the model says to 41. */
enum model_probe {
    MODEL_IGNORES, /* nothing, and goes on */
    MODEL_SPECS,
    MODEL_MESSAGES,
    MODEL_BYTES, /* probe_size bytes */
    MODEL_HANGS_UP,
    MODEL_SILENT, /* nothing, to this and all that follows */
};

/* An answer on its way out. */
struct model_reply {
    struct vu_header header;
    uint8_t payload[FAR_PAYLOAD];
    size_t size;    /* bytes of payload to send */
    unsigned n_fds; /* descriptors to attach */
    size_t cut;     /* hang up after so many bytes */
    unsigned drip;  /* microseconds between bytes; 0: all at once */
    bool never;
};

struct model_entry {
    uint32_t request, flags, size;
    unsigned n_fds;
    uint64_t value; /* the first eight bytes of payload */
    uint64_t stale; /* SET_VRING_KICK: what the eventfd held */
    bool kicked;    /* some ring had been kicked by then */
    bool reply_asked;
    unsigned char payload[64]; /* its beginning */
};

struct model {
    int fd;
    uint64_t features, protocol;
    enum model_probe probe;
    size_t probe_size;
    uint32_t id, config_size, min_vqs, max_vqs;
    uint64_t queue_num, max_slots;
    uint8_t config[4096];
    struct vu_shm_config shm; /* GET_SHMEM_CONFIG tells it */
    uint64_t status;          /* as set; GET_STATUS tells it */
    uint64_t status_refused;  /* bits that never stick */
    uint32_t refuse;          /* this request is acknowledged with an error */

    /* change the answers to one request */
    uint32_t bend_request;
    bool bend_any; /* or to all */
    void (*bend)(struct model *m, struct model_reply *reply);
    uint64_t arg; /* for it */

    /* what came */
    uint64_t accepted; /* SET_FEATURES */
    uint64_t protocol_accepted;
    struct model_entry log[MODEL_MAX_LOG];
    unsigned n_log;
    int kick[256];   /* as handed over, -1: not */
    int backend_req; /* its end of the channel for its own requests; -1: none */
    int err;         /* the last ring's ERR descriptor; -1: none */
    unsigned kicks;  /* of them that were handed over */
    bool silent;

    pthread_t thread;
    bool threaded;
    int stop;
};

/*
 * A stand-alone back-end with a config space of 20 bytes, two rings and all
 * protocol features that husk serves. Returns the near end.
 */
int model_init(struct model *m);
/* The same without a connection: see model_accept(). */
void model_prepare(struct model *m);
void model_fini(struct model *m);

/* The same model on a new connection. */
int model_again(struct model *m);

/* Take a connection from a listening socket that does not block, with an empty
 * log; false: there is none. */
bool model_accept(struct model *m, int listener);

/* Close the connection, and all descriptors that came by it. */
void model_hang_up(struct model *m);

/* Send a request on the channel of SET_BACKEND_REQ_FD, with fd attached unless
 * it is -1. It asks for an answer, which model_result() reads: -1 if none has
 * come. */
void model_ask(struct model *m, uint32_t request, const void *payload,
               size_t size, int fd);
int model_result(struct model *m);

/* Answer what is there; the number of requests. */
unsigned model_serve(struct model *m);

/* Serve from a thread of its own, until model_stop() or hang-up. */
void model_start(struct model *m);
void model_stop(struct model *m);

/* How often request is in the log, and the last such entry or NULL. */
unsigned model_count(const struct model *m, uint32_t request);
const struct model_entry *model_last(const struct model *m, uint32_t request);

#endif
