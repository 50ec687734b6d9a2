/*
 * What the device's side of a virtqueue must make of guest memory, after VIRTIO
 * 1.2, 2.7 and 2.8: a model for comparison, on a copy of that memory. It reads
 * whole structures where the ring reads words, and keeps positions as numbers
 * that never wrap.
 */
#ifndef HUSK_TESTS_WALK_H
#define HUSK_TESTS_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define WALK_REGIONS 3u
#define WALK_MEMORY  0x7000u /* bytes of all regions */
#define WALK_PIECES  1024u   /* of a chain, at most */

/* Where each region is: for guests, for the front-end, and in the copy. */
extern const struct walk_region {
    uint64_t guest, user;
    uint32_t size, at;
} walk_regions[WALK_REGIONS];

struct walk_piece {
    uint32_t at, len; /* in the copy */
    bool writable;
};

struct walk_chain {
    uint16_t id;
    uint32_t slots;
    unsigned n;
    struct walk_piece piece[WALK_PIECES];
};

/* The bytes of a chain with the pieces that it has. */
static inline size_t walk_size(const struct walk_chain *chain)
{
    return offsetof(struct walk_chain, piece) +
           chain->n * sizeof chain->piece[0];
}

struct walk {
    uint8_t memory[WALK_MEMORY];
    bool packed, indirect, event_idx;
    uint32_t size;
    uint32_t desc, avail, used;           /* in the copy */
    uint64_t next_avail, next_used, told; /* since the beginning of time */
    uint32_t in_flight, given;
    bool broken;
};

/* The part of the copy at a front-end's address, or -1: not len bytes there. */
int64_t walk_user(uint64_t user, uint64_t len);

/*
 * Take the next chain. false: there is none, or the ring is broken now. What a
 * driver did wrong is all the same: the ring is broken or it is not.
 */
bool walk_take(struct walk *w, struct walk_chain *chain);

/* The chain of a split ring that begins at head; false: broken. */
bool walk_split(struct walk *w, unsigned head, struct walk_chain *chain);

void walk_give(struct walk *w, const struct walk_chain *chain,
               uint32_t written);
void walk_return(struct walk *w, const struct walk_chain *chain);
void walk_quiet(struct walk *w);
bool walk_listen(struct walk *w);

/* Whether to interrupt. *sure is false where a driver's wish makes no sense and
 * either will do. */
bool walk_must_tell(struct walk *w, bool *sure);

#endif
