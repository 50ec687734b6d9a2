/*
 * What the parts of the rings' harness share: one run, the driver that breaks
 * rules in it, and the back-ends that die in it.
 */
#ifndef HUSK_TESTS_RINGS_H
#define HUSK_TESTS_RINGS_H

#include "devices/backends/inflight.h"
#include "devices/backends/ring.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/walk.h"

#define RINGS_MAX_CHAINS 64u

struct rings {
    struct memory mem;
    uint8_t *host[WALK_REGIONS];
    struct ring ring;
    uint64_t features;
    struct walk walk;
    struct inflight inflight;
    struct inflight_queue record;
    struct vu_inflight area; /* as the front-end keeps it */
    int area_fd;
    bool tracked;
    bool wild; /* the record was written to: no model of what comes next */
    struct chain *chain[RINGS_MAX_CHAINS]; /* taken, in their order */
    struct walk_chain *expected[RINGS_MAX_CHAINS];
    unsigned n;
    bool rude;        /* the driver has written to what the device has */
    bool twice;       /* a head was in flight twice: the record cannot tell */
    bool can_return;  /* the last step of the ring took the last chain */
    uint32_t offered; /* by the driver that keeps the rules */
    uint32_t free;    /* where its descriptors go next */
};

extern struct rings run;

/* Where a byte of the model's memory is in the ring's. */
uint8_t *rings_host(uint32_t at);

/* The same bytes, or the same number, in both memories. */
void rings_store(uint32_t at, const uint8_t *bytes, uint32_t size);
void rings_store_16(uint32_t at, unsigned value);

/* The driver's steps: bytes anywhere, bytes where drivers write, and a chain as
 * it should be. */
void rings_scribble(struct input *in);
void rings_scribble_well(struct input *in);
void rings_offer(struct input *in);

/* A chain is as the model has it; or, without a model, in memory. */
void rings_check(const struct chain *chain, const struct walk_chain *expected);
void rings_check_in_memory(const struct chain *chain);

/* Remember a chain that was taken; forget one that is freed. */
void rings_keep(struct chain *chain, const struct walk_chain *expected);
void rings_forget(unsigned index);

/* A record of chains in flight for the ring, before it is started. */
void rings_track(void);

/* The back-end dies, between two steps or in one, and another takes its place
 * with what guest memory and the record tell. */
void rings_come_back(struct input *in);

#endif
