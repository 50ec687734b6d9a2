/*
 * All that a front-end stands between: a model of a back-end in a thread of its
 * own, guest memory in two regions, three rings and their descriptors.
 */
#ifndef HUSK_TESTS_RIG_H
#define HUSK_TESTS_RIG_H

#include "devices/frontend.h"
#include "tests/unit/model.h"
#include "vmm/machine/mem.h"

#define RINGS 3

struct rig {
    struct frontend fe;
    struct identity is;
    struct model model;
    struct mem mem;
    struct vrings rings;
    int call_fd, err_fd, stop_fd;
    unsigned opened;  /* descriptors before it all */
    unsigned arrived; /* config spaces */
};

/* Connected, with these protocol features acknowledged; the model serves. */
void rig_init(struct rig *rig, uint64_t protocol);
void rig_fini(struct rig *rig);

/* The handshake of a connection: features are known. */
void rig_connected(struct rig *rig, uint64_t protocol);

/* Stop serving, to look at what came; serve on with an empty log. */
void rig_pause(struct rig *rig);
void rig_go_on(struct rig *rig);

/* The model came back: a new connection, to which nothing was said yet. */
void rig_again(struct rig *rig, uint64_t protocol);

/* Exactly these requests came. */
void rig_expect(const struct rig *rig, const uint32_t *requests, unsigned n);

/* How often an eventfd has been signalled since it was last read. */
uint64_t rig_signals(int fd);

/* A deadline that nothing here should need. */
uint64_t rig_soon(void);

/* DRIVER_OK and reset, as the guest causes them. */
int rig_start(struct rig *rig);
int rig_reset(struct rig *rig);

#endif
