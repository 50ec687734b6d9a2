/*
 * A transport whose back-end is a spy: it writes down what the registers ask
 * for, and answers as it is told to. The guest is the test.
 */
#ifndef HUSK_TESTS_SPY_H
#define HUSK_TESTS_SPY_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/transport.h"
#include "devices/virtio.h"
#include "vmm/machine/mem.h"
#include "vmm/machine/window.h"

#define SPY_VQS     4u
#define SPY_QUEUE   256u /* QueueNumMax */
#define SPY_CONFIG  20u
#define SPY_LOW     (64u << 10)         /* bytes of guest memory at 0 */
#define SPY_GAP_END (UINT64_C(1) << 32) /* and as many from here */

/* A call posts entered and waits until it may leave. */
struct spy_gate {
    sem_t entered, leave;
};

struct spy {
    struct transport t;
    struct mailbox box;
    struct windows all;
    struct window window;
    struct mem mem;
    struct identity is;
    const struct shm *shm;
    double deadline; /* seconds that an access may take */
    uint8_t config[4096];
    int call_fd;
    unsigned opened; /* descriptors before it all */

    /* how it answers */
    int rc;                /* to everything */
    bool refuses;          /* FEATURES_OK */
    struct spy_gate *gate; /* or NULL; holds each call */

    /* what it was asked */
    unsigned n_status, n_features, n_start, n_ring_start, n_ring_stop, n_reset,
        n_send_reset, n_config_write, n_kick, n_read;
    uint8_t status;
    uint64_t features;
    unsigned index;
    uint32_t offset, size;
    uint8_t data[8];
    void (*on_read)(struct spy *spy);
};

/* A device with four rings and all 64 features offered; set is before. */
void spy_init(struct spy *spy);
/* The same with what the caller changed in is and config. */
void spy_identity(struct spy *spy);
void spy_start(struct spy *spy);
void spy_fini(struct spy *spy);

/* All calls so far. */
unsigned spy_calls(const struct spy *spy);

/* 32-bit accesses of the guest. A read is made in the page and by
 * transport_read(), which must agree. */
uint32_t spy_read(struct spy *spy, uint32_t offset);
void spy_write(struct spy *spy, uint32_t offset, uint32_t value);

/* Interrupts since the last time. */
uint64_t spy_interrupts(struct spy *spy);

/* Accept features and go to a status by the usual steps: 0, 1, 3, 0x0b or
 * 0x0f. */
void spy_go(struct spy *spy, uint8_t status, uint64_t features);

/* Lay out ring index as a driver would, without making it ready. */
void spy_ring(struct spy *spy, uint32_t index, uint32_t num, gpa_t desc,
              gpa_t driver, gpa_t device);
/* A ring of num entries in a place of its own, made ready. */
void spy_ready(struct spy *spy, uint32_t index, uint32_t num);

#endif
