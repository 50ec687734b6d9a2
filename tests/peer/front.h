/*
 * A front-end of a few lines, to test the test back-end with. It starts
 * husk-peer on one end of a socket pair and does no more than it is told.
 */
#ifndef PEER_FRONT_H
#define PEER_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

#define FRONT_GUEST UINT64_C(0x100000)
#define FRONT_USER  UINT64_C(0x7f0000000000)
#define FRONT_SIZE  (1u << 20)
#define FRONT_RINGS 4u

struct front {
    int fd, channel, errors; /* errors: the peer's stderr */
    pid_t pid;
    int memory;
    uint8_t *ram;
    int kick[FRONT_RINGS], call[FRONT_RINGS], err[FRONT_RINGS];
    uint32_t num;      /* size of the rings; 8 */
    uint64_t features; /* what ring setup and SET_FEATURES go by */
    int status;        /* of the peer, after front_end() */
    char said[4096];   /* its stderr */
};

/* args: options separated by blanks, or NULL */
void front_begin(struct front *f, const char *args);
/* With --socket-path among args: connect, leaving the connection before. */
void front_connect(struct front *f, const char *path);
/* Wait for the peer to end (hanging up first, if hangup), fill status, said. */
void front_end(struct front *f, bool hangup);
/* Hang up; it must end with that status, and have said so, or (NULL) of no
 * violation. */
void front_finish(struct front *f, int status, const char *said);

void front_send(struct front *f, uint32_t request, uint32_t flags,
                const void *payload, uint32_t size);
void front_send_fd(struct front *f, uint32_t request, uint32_t flags,
                   const void *payload, uint32_t size, int fd);
void front_u64(struct front *f, uint32_t request, uint64_t value);
void front_state(struct front *f, uint32_t request, uint32_t index,
                 uint32_t num);
/* The payload's size, or -1 if the connection ended or nothing came in 2 s. */
int front_receive(struct front *f, uint32_t request, void *payload,
                  uint32_t size);
uint64_t front_ask(struct front *f, uint32_t request);

/* Parts of a correct life, in this order. */
void front_hello(struct front *f); /* features, protocol features, probe */
void front_features_ok(struct front *f);
void front_memory(struct front *f);
void front_ring(struct front *f, uint32_t index); /* NUM to ENABLE 1 */
void front_driver_ok(struct front *f); /* SET_STATUS 0xf, then kicks */
void front_live(struct front *f);      /* all of these with ring 0 */
void front_stop(struct front *f, uint32_t index);
void front_addr(struct front *f, uint32_t index, uint64_t desc, uint64_t avail,
                uint64_t used);

void front_descriptor(struct front *f, uint32_t request, uint64_t index,
                      int fd);

/* Where ring index lies in ram. */
size_t front_desc(uint32_t index);
size_t front_avail(uint32_t index);
size_t front_used(uint32_t index);
/* Make one writable buffer of size available on a split ring, and kick. */
void front_offer(struct front *f, uint32_t index, uint64_t guest,
                 uint32_t size);
/* Wait for the call descriptor; false if it stays silent for ms. */
bool front_called(struct front *f, uint32_t index, int ms);

#endif
