/*
 * The driver's side of one virtqueue, split or packed, in a piece of memory of
 * the test's: what a guest does, so that back-ends can be tried without one.
 */
#ifndef HUSK_TESTS_DRIVER_H
#define HUSK_TESTS_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#define DRIVER_MAX_SIZE  256u
#define DRIVER_MAX_TABLE 64u /* descriptors in an indirect table */

struct driver {
    uint8_t *mem; /* guest memory, from guest address base on */
    uint64_t base;
    unsigned size;
    bool packed, event_idx, indirect;
    uint64_t desc, avail, used; /* guest addresses */
    uint64_t table;             /* of indirect tables, one for each id */
    uint16_t next, seen;        /* positions in the ring */
    bool wrap, seen_wrap;
    uint16_t kicked; /* next, when a kick was last considered */
    unsigned free;   /* descriptors left */
    unsigned n_ids;
    uint16_t id[DRIVER_MAX_SIZE];    /* a stack of free ids */
    uint16_t slots[DRIVER_MAX_SIZE]; /* taken by each id in flight */
};

struct buffer {
    uint64_t addr;
    uint32_t len;
    bool writable;
};

/* Guest memory that a ring of this size takes from driver_init()'s at on. */
uint64_t driver_footprint(unsigned size);

/* features are VIRTIO's; at is a guest address, of zeroed memory. */
void driver_init(struct driver *d, uint8_t *mem, uint64_t base, uint64_t at,
                 unsigned size, uint64_t features);

/* Make a chain available. Its id, or -1: no room. */
int driver_add(struct driver *d, const struct buffer *b, unsigned n);

/* Whether the device wants a kick for what was added since last asked. */
bool driver_must_kick(struct driver *d);

/* The next used chain's id, or -1: none. */
int driver_get(struct driver *d, uint32_t *len);

/*
 * Ask to be interrupted when count more chains are used (1: at the next), or
 * with count 0 not at all. Without EVENT_IDX count is only looked at for 0.
 * True: something is there already.
 */
bool driver_listen(struct driver *d, unsigned count);

/* A place in guest memory. */
void *driver_at(const struct driver *d, uint64_t addr);

#endif
