/*
 * The relay of what a back-end that was started writes to stdout and stderr: a
 * line at a time into the VM's log, and no more lines a second than a reader
 * can follow. Loop thread.
 */
#ifndef HUSK_VMM_LINK_RELAY_H
#define HUSK_VMM_LINK_RELAY_H

#include <ev.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/link/lines.h"

#define RELAY_LINE  160 /* bytes of a line; a longer one is several */
#define RELAY_LINES 200 /* a second: a back-end's guest may cause them */

struct relay {
    struct ev_loop *loop;
    struct lines *lines;
    uint64_t (*clock)(void); /* ns, monotonic */
    ev_io watcher;
    int fd; /* borrowed from relay_start() to relay_stop(); else -1 */
    char line[RELAY_LINE];
    size_t size;
    uint64_t since;   /* when this second of lines began */
    unsigned n;       /* lines in it */
    uint64_t dropped; /* lines that were too many, and not reported yet */
};

void relay_init(struct relay *relay, struct ev_loop *loop, struct lines *lines,
                uint64_t (*clock)(void));

/* Pass on what can be read from fd, which does not block. */
void relay_start(struct relay *relay, int fd);

/* Pass on what is there now. */
void relay_read(struct relay *relay);

/* Before fd is closed. Safe to repeat. */
void relay_stop(struct relay *relay);

#endif
