/*
 * A back-end that is started, and kept by a keeper: a small process between
 * husk and it that outlives husk by an instant. When husk has ended, for
 * whatever reason, the keeper ends the back-end and everything that it started.
 */
#ifndef HUSK_VMM_LINK_CHILD_H
#define HUSK_VMM_LINK_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "husk.h"
#include "vmm/link/keeper.h"
#include "vmm/link/spec.h"

#define CHILD_LEAVING 8

struct child {
    enum child_news fate; /* the first news of its end, with its value */
    int fate_value;
    pid_t keeper;                 /* 0: none */
    pid_t leaving[CHILD_LEAVING]; /* earlier ones, not reaped yet; 0: free */
    int control; /* to the keeper; readable when it has news; -1: none */
    int output;  /* what the back-end writes to stdout and stderr; -1: none */
    int socket;  /* connected to the back-end, until child_take(); -1: none */
    int listener;
    char folder[32]; /* private, holds path; empty: none */
    char path[48];   /* where to connect, if socket is -1 */
};

void child_init(struct child *child);

/* Start spec's command.
 *   -errno  what failed; err says */
int child_start(struct child *child, const struct spec *spec,
                struct husk_err *err);

/* The next news of the keeper's; never blocks. */
enum child_news child_news(struct child *child, int *value);

/* The connected socket becomes the caller's; -1: connect to child.path. */
int child_take(struct child *child);

/* Ask it to end (SIGTERM). */
void child_ask(struct child *child);

/* Have it killed, and all that it started, without waiting for that: whatever
 * is left of it is reaped by and by. Closes everything. Safe to repeat. */
void child_drop(struct child *child);

/* Whether all that was dropped is gone. */
bool child_is_gone(struct child *child);

/* The same for the last time: it has until deadline to go by itself, is killed
 * then, and has a second more to be gone. */
void child_end(struct child *child, uint64_t deadline);

#endif
