/*
 * How virtqueues lie in guest memory (VIRTIO 1.2, 2.7 and 2.8), little-endian,
 * and what ring.c, split.c and packed.c share. Nobody else includes this.
 */
#ifndef HUSK_BACKENDS_LAYOUT_H
#define HUSK_BACKENDS_LAYOUT_H

#include <stdatomic.h>

#include "devices/backends/ring.h"

#define DESC_F_NEXT     0x1u
#define DESC_F_WRITE    0x2u
#define DESC_F_INDIRECT 0x4u
#define DESC_F_AVAIL    0x80u   /* packed */
#define DESC_F_USED     0x8000u /* packed */

struct split_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

#define AVAIL_F_NO_INTERRUPT 0x1u
#define USED_F_NO_NOTIFY     0x1u

struct split_avail {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    _Atomic uint16_t ring[]; /* and used_event after it */
};

struct split_used_elem {
    uint32_t id;
    uint32_t len;
};

struct split_used {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    struct split_used_elem ring[]; /* and avail_event after it */
};

struct packed_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    _Atomic uint16_t flags;
};

#define EVENT_ENABLE  0x0u
#define EVENT_DISABLE 0x1u
#define EVENT_DESC    0x2u

struct packed_event { /* the driver's lies at avail, the device's at used */
    _Atomic uint16_t off_wrap;
    _Atomic uint16_t flags;
};

_Static_assert(sizeof(struct split_desc) == 16, "split descriptor");
_Static_assert(sizeof(struct packed_desc) == 16, "packed descriptor");
_Static_assert(sizeof(struct packed_event) == 4, "packed event");
_Static_assert(sizeof(_Atomic uint16_t) == 2, "16-bit atomics");

/* A chain as it is gathered, before its size is known. */
struct gather {
    struct iovec iov[RING_MAX_CHAIN];
    unsigned n_readable, n_writable;
    uint64_t readable_size, writable_size;
};

/* Add one descriptor's bytes; 0, or -EINVAL with the ring broken. */
int gather_add(struct ring *ring, struct gather *g, gaddr_t addr, uint32_t len,
               bool writable);

/* Whether such an indirect table can be; breaks the ring if not. */
int gather_table(struct ring *ring, gaddr_t addr, uint32_t len, unsigned flags);

/* The gathered pieces as a chain, or NULL with the ring broken. */
struct chain *gather_chain(struct ring *ring, const struct gather *g,
                           uint16_t id, uint16_t slots);

/* Whether event lies in what was made between old and now (2.7.10.1). */
static inline bool event_passed(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

int split_map(struct ring *ring);
void split_start(struct ring *ring);
struct chain *split_take(struct ring *ring);
struct chain *split_chain(struct ring *ring, unsigned head);
void split_give(struct ring *ring, const struct chain *chain, uint32_t written);
void split_quiet(struct ring *ring);
bool split_listen(struct ring *ring);
bool split_must_tell(struct ring *ring);

int packed_map(struct ring *ring);
int packed_gather(struct ring *ring, struct gather *g, gaddr_t addr,
                  uint32_t len, unsigned flags);
struct chain *packed_take(struct ring *ring);
void packed_give(struct ring *ring, const struct chain *chain,
                 uint32_t written);
void packed_quiet(struct ring *ring);
bool packed_listen(struct ring *ring);
bool packed_must_tell(struct ring *ring);

#endif
