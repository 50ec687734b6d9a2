/*
 * What a virtio-mmio device shows its guest and asks of its back-end: a model
 * of VIRTIO 1.2, 4.2.2, written from the text, for comparison. It is told of
 * each access after the device under test has had it, with the calls that this
 * made, and says whether they were the right ones.
 */
#ifndef HUSK_TESTS_MMIO_H
#define HUSK_TESTS_MMIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMIO_MAX_CONFIG 4096u
#define MMIO_MAX_RINGS  256u
#define MMIO_MAX_CALLS  16u

enum mmio_kind {
    MMIO_STATUS,
    MMIO_FEATURES,
    MMIO_START,
    MMIO_RING_START,
    MMIO_RING_STOP,
    MMIO_RESET,
    MMIO_SEND_RESET,
    MMIO_CONFIG_WRITE,
    MMIO_KICK,
};

/* A call to the back-end, and how it went. */
struct mmio_call {
    enum mmio_kind kind;
    uint64_t a, b; /* status; features, status; index; offset, size */
    int rc;
    bool accepted;
    bool new_config; /* one byte of it, without an interrupt, meanwhile */
    uint32_t changed;
};

struct mmio_ring {
    uint64_t desc, driver, device;
    uint32_t num;
    bool ready, stopped, started, has_kick;
    uint64_t kicks;
};

struct mmio_range {
    uint64_t base, size;
};

struct mmio {
    /* what it is */
    uint32_t id, queue_size, config_size;
    unsigned vqs;
    uint64_t offered;
    bool inband;
    struct mmio_range ram[2];
    struct {
        uint32_t id;
        uint64_t base, size;
    } shm[2];

    uint8_t status;
    bool lost, beyond, config_pending;
    uint32_t features_sel, driver_sel, queue_sel, shm_sel, generation;
    uint64_t driver_features;
    struct mmio_ring ring[MMIO_MAX_RINGS];
    uint8_t config[MMIO_MAX_CONFIG];
    unsigned interrupts; /* so far */

    /* of the access that is compared */
    const struct mmio_call *calls;
    unsigned n_calls, next_call;
};

/* The guest wrote size bytes at offset. */
void mmio_write(struct mmio *m, uint64_t offset, uint32_t value, unsigned size);

/* The config space became these bytes. */
void mmio_config(struct mmio *m, const uint8_t *config, bool notify);

/* The device cannot go on; for good if lost. */
void mmio_needs_reset(struct mmio *m, bool lost);

/* Another machine comes. */
void mmio_reboot(struct mmio *m);

/* All that a guest can read: the registers, then the config space. */
void mmio_show(const struct mmio *m, uint8_t *window, size_t size);

#endif
