/*
 * A back-end that answers every request, rightly or as its input bends the
 * answer: the far end of a front-end's connection, without a thread. It takes a
 * turn whenever the front-end waits.
 */
#ifndef HUSK_TESTS_LIAR_H
#define HUSK_TESTS_LIAR_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost_user.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/order.h"

#define LIAR_MAX_OUT   32768u
#define LIAR_MAX_MARKS 64u

enum liar_dialect { LIAR_SPECS, LIAR_MESSAGES, LIAR_IGNORES, LIAR_EMPTY };

struct liar {
    int fd;       /* -1: it has hung up */
    int attached; /* the descriptor that it attaches, again and again */
    int stop_fd;  /* written to where the run is to end */
    bool asks;    /* it keeps the channel for requests of its own: */
    int channel;  /* owned then; -1: none */
    struct input lies;
    bool lied;
    bool flagrant; /* an answer broke the protocol: nobody may take it */
    bool shifted;  /* answers and requests may no longer be pairs */

    /* what it says it is */
    uint64_t features, protocol;
    enum liar_dialect dialect;
    struct vu_specs specs;
    uint64_t queue_num, slots;
    uint64_t status;
    uint8_t config[4096];

    struct order order;
    unsigned fds; /* that came */
    uint8_t in[65536];
    size_t n_in;

    uint8_t out[LIAR_MAX_OUT];
    size_t sent, end;
    struct {
        size_t at;
        unsigned n_fds;
    } marks[LIAR_MAX_MARKS];
    unsigned mark, n_marks;
    unsigned drip; /* bytes a turn; 0: as they are */
    bool silent, closing, deaf;
    uint8_t held[VU_HEADER_SIZE + VU_MAX_PAYLOAD + 64];
    size_t n_held; /* an answer that is sent after the next one */
};

/* A new connection to the same back-end. */
void liar_connect(struct liar *liar, int fd);
void liar_hang_up(struct liar *liar);

/* Take the requests that are there, and send what there is to send. */
void liar_turn(struct liar *liar);

#endif
