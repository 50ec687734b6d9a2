/*
 * The serial port's output on its way to a descriptor: a buffer between vCPUs,
 * which never wait, and a reader who may be slow or gone.
 */
#ifndef HUSK_VMM_CONSOLE_H
#define HUSK_VMM_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_BUFFER (256u << 10) /* bytes */

struct console {
    pthread_mutex_t lock;
    int fd;         /* owned, -1: all output is dropped silently */
    bool is_socket; /* fixed at open */
    bool is_file;   /* fixed at open: a write may wait for a disk */
    bool restore;   /* O_NONBLOCK was set on a description that is shared */
    void (*wake)(void *ctx); /* output is left to flush; any thread */
    void *ctx;
    /* the rest: lock */
    uint8_t *buffer; /* from the first console_open() on */
    size_t first, count;
    bool gone;  /* nobody will ever read again */
    bool spoke; /* a byte was put */
    /* written under the lock, read without by any thread: counts of their own
     * that nothing else depends on */
    _Atomic uint64_t first_byte; /* when a byte was put first; ns */
    _Atomic uint64_t dropped;    /* bytes */
    unsigned stuck;              /* of them, since there was room last */
};

void console_init(struct console *console, void (*wake)(void *ctx), void *ctx);
void console_fini(struct console *console);

/* Write to fd from now on, which is duplicated.
 *   -errno  it cannot be */
int console_open(struct console *console, int fd);

/* Take a byte, or count it as dropped. Never waits. Any thread. */
void console_put(struct console *console, uint8_t byte);

/*
 * Write as much as the reader takes at once.
 *   0        all is written
 *   -EAGAIN  poll the descriptor for writing
 */
int console_flush(struct console *console);

/* The descriptor to poll. Loop. */
int console_descriptor(const struct console *console);

/* Bytes that wait to be written. */
size_t console_waiting(struct console *console);

/* Give up on what waits: it is counted as dropped. */
void console_drop(struct console *console);

#endif
