/*
 * Output of a queue that was stopped, in order, until it can be sent.
 */

#ifndef HUSK_BACKENDS_BACKLOG_H
#define HUSK_BACKENDS_BACKLOG_H

#include <stddef.h>
#include <stdint.h>

#include "devices/backends/chain.h"

struct backlog {
    uint8_t *bytes;
    size_t size;
};

/* Add a chain's readable bytes from an offset on; complains if some are lost.
 */
void backlog_add(struct backlog *backlog, const struct chain *chain,
                 size_t from);

/* The first bytes were sent. */
void backlog_drop(struct backlog *backlog, size_t size);

void backlog_clear(struct backlog *backlog);

#endif
