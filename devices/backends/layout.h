/*
 * How virtqueues lie in guest memory (VIRTIO 1.2, 2.7 and 2.8), little-endian.
 */

#ifndef HUSK_BACKENDS_LAYOUT_H
#define HUSK_BACKENDS_LAYOUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

/* Whether the step from old to now went past event (2.7.10.1). */
static inline bool event_passed(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

#endif
