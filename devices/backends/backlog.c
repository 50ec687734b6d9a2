/* Output that waits; see backlog.h. At most 1 MiB is kept. */
#include "devices/backends/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "devices/backends/complain.h"

#define MAX_BACKLOG (1u << 20)

void backlog_add(struct backlog *b, const struct chain *chain, size_t from)
{
    size_t size = chain->readable_size - from, room = MAX_BACKLOG - b->size;
    size_t kept = size < room ? size : room;
    uint8_t *grown = kept ? realloc(b->bytes, b->size + kept) : NULL;

    if (grown) {
        b->bytes = grown;
        kept = chain_read(chain, from, grown + b->size, kept);
        b->size += kept;
    } else {
        kept = 0;
    }
    if (kept < size)
        complain("%zu bytes of output are lost: the queue was stopped and "
                 "nobody reads",
                 size - kept);
}

void backlog_drop(struct backlog *b, size_t size)
{
    b->size -= size;
    memmove(b->bytes, b->bytes + size, b->size);
}

void backlog_clear(struct backlog *b)
{
    free(b->bytes);
    *b = (struct backlog){ .size = 0 };
}
