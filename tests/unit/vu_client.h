/*
 * A vhost-user front-end for tests of back-end programs: starts one over a
 * socket pair, shares a memfd as guest memory, and drives its queues. Each call
 * fails the test that makes it when the back-end does not do as it should.
 */
#ifndef HUSK_TESTS_VU_CLIENT_H
#define HUSK_TESTS_VU_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "devices/vhost_user.h"
#include "devices/virtio.h"
#include "tests/unit/driver.h"

#define VU_GUEST      UINT64_C(0x40000000)
#define VU_MEM_SIZE   (32u << 20)
#define VU_DATA       (VU_GUEST + VU_MEM_SIZE / 2) /* free for the tests */
#define VU_MAX_QUEUES 256u

struct vu_client {
    pid_t pid;
    int fd;
    int stderr_fd; /* a memfd with what the program said */
    int memfd;
    uint8_t *mem;
    uint64_t offers, protocol_offers;
    uint64_t features, protocol;
    struct vu_specs specs;
    int uplink; /* our end of the back-end's own channel, or -1 */
    struct {
        struct driver driver;
        int kick, call, err;
    } queue[VU_MAX_QUEUES];
};

/* Start build/backends/PROGRAM with args (NULL-ended) and --fd. */
void vu_spawn(struct vu_client *c, const char *program,
              const char *const *args);

/* The same with standard input and output; -1: the test's own. */
void vu_spawn_io(struct vu_client *c, const char *program,
                 const char *const *args, int in, int out);

/* Start it otherwise, and use a connected socket. */
pid_t vu_exec(const char *program, const char *const *args, int keep_fd,
              int stderr_fd);
void vu_connected(struct vu_client *c, int fd);

/* Features, protocol features, specs, owner, memory, channel. */
void vu_handshake(struct vu_client *c);

/* SET_FEATURES of what is offered and wanted, and FEATURES_OK. */
void vu_features(struct vu_client *c, uint64_t wanted);

/* Set up and enable queue i; runs after vu_driver_ok(). */
void vu_queue_start(struct vu_client *c, unsigned i, unsigned size);
/* Again with the driver and base as they are, for a back-end that is new. */
void vu_queue_resume(struct vu_client *c, unsigned i, uint32_t base);
uint32_t vu_queue_stop(struct vu_client *c, unsigned i);
void vu_driver_ok(struct vu_client *c);

/* The lot: handshake, features, n queues, DRIVER_OK. */
void vu_start(struct vu_client *c, uint64_t wanted, unsigned n, unsigned size);

/* Hang up and expect the program to end with status. */
void vu_end(struct vu_client *c, int status);

/* Messages. fd -1: none. */
void vu_send(struct vu_client *c, uint32_t request, uint32_t flags,
             const void *payload, size_t size, int fd);
/* The answer to request: its size; at most max bytes, and fd unless NULL. */
size_t vu_answer(struct vu_client *c, uint32_t request, void *to, size_t max,
                 int *fd);
uint64_t vu_get(struct vu_client *c, uint32_t request);
/* With NEED_REPLY; the value of the acknowledgement. */
uint64_t vu_set(struct vu_client *c, uint32_t request, const void *payload,
                size_t size, int fd);
uint64_t vu_set_u64(struct vu_client *c, uint32_t request, uint64_t value);
void vu_config(struct vu_client *c, uint32_t offset, void *to, uint32_t size);

/* Kick queue i if its driver should. */
void vu_kick(struct vu_client *c, unsigned i);
/* Wait until the driver gets a used chain: its id, and len. */
int vu_wait(struct vu_client *c, unsigned i, uint32_t *len);
/* Add, kick, wait: the bytes written. */
uint32_t vu_do(struct vu_client *c, unsigned i, const struct buffer *b,
               unsigned n);
void *vu_at(const struct vu_client *c, uint64_t addr);

/* Poll fd for reading: 1 readable, 0 after ms milliseconds. */
int vu_readable(int fd, int ms);

/* Wait for text on the program's stderr. */
void vu_says(const struct vu_client *c, const char *text);

#endif
