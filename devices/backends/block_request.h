/*
 * A request to a disk: what the driver wants, and how much of it is done.
 */

#ifndef HUSK_BACKENDS_BLOCK_REQUEST_H
#define HUSK_BACKENDS_BLOCK_REQUEST_H

#include "devices/backends/block_layout.h"
#include "devices/backends/disk.h"
#include "devices/backends/queue.h"

#define MAX_SEGMENTS 16u
#define MAX_SECTORS  (1u << 22) /* of a segment: 2 GiB */

struct request {
    struct request *next; /* free ones */
    struct queue *queue;
    struct chain *chain;
    uint8_t *status;
    uint32_t type;
    uint64_t sector;   /* as the header says */
    struct iovec *iov; /* what is left to read or write */
    unsigned n_iov;
    uint64_t offset;
    size_t left, done;
    struct segment segment[MAX_SEGMENTS];
    unsigned n_segments;
    struct iovec zero;  /* being written; empty: fallocate does it */
    bool synchronising; /* the segments are done, their fdatasync is not */
};

/*
 * Read the header of a chain. False: it has no room for header or status; the
 * queue is broken and the chain given back.
 */
bool request_parse(struct request *r, struct queue *queue, struct chain *chain);

/*
 * Check what is asked for, all of it before any of it is done. STATUS_PENDING:
 * it is left to do; else the request is over with that status.
 */
enum status request_begin(struct request *r, const struct disk *disk,
                          const char *serial);

/* The first sectors of the first segment are done. */
void request_advance(struct request *r, uint32_t sectors);

#endif
