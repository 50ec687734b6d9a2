/*
 * Messages on their way to the embedder: any thread puts them in, under
 * whatever locks it holds; the loop hands them out under none. The queue is
 * bounded: what finds no room is left out and counted.
 */
#ifndef HUSK_VMM_LOG_H
#define HUSK_VMM_LOG_H

#include <pthread.h>
#include <stdbool.h>

#include "husk.h"

#define LOG_LINES 512 /* that may wait */

struct log_line;

struct log {
    pthread_mutex_t lock;
    /* the rest: lock */
    struct log_line *first, **last; /* in the order in which they came */
    unsigned n;
    unsigned long long left_out; /* since lines were handed out last */
};

void log_init(struct log *log);
void log_fini(struct log *log); /* what still waits is lost */

/* Copy a line into the queue. True: it was empty, so log_hand_out() must
 * follow on the loop. Any thread; never waits. */
bool log_put(struct log *log, enum husk_log level, const char *text);

/*
 * Call handler for each line that waits, in order, and at last for the number
 * of those that were left out. The handler may call log_put(): such lines wait
 * for the next time. One thread at a time.
 */
void log_hand_out(struct log *log,
                  void (*handler)(void *ctx, enum husk_log level,
                                  const char *text),
                  void *ctx);

#endif
