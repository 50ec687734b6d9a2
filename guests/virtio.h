/*
 * A driver's half of virtio-mmio and of its queues (VIRTIO 1.2: 2.7 split,
 * 2.8 packed, 4.2 MMIO). Knows no device types.
 */
#ifndef GUESTS_VIRTIO_H
#define GUESTS_VIRTIO_H

#include "runtime.h"

#define STATUS_ACKNOWLEDGE 0x01u
#define STATUS_DRIVER      0x02u
#define STATUS_DRIVER_OK   0x04u
#define STATUS_FEATURES_OK 0x08u
#define STATUS_NEEDS_RESET 0x40u
#define STATUS_FAILED      0x80u

#define FEATURE_INDIRECT   (UINT64_C(1) << 28)
#define FEATURE_EVENT_IDX  (UINT64_C(1) << 29)
#define FEATURE_VERSION_1  (UINT64_C(1) << 32)
#define FEATURE_PACKED     (UINT64_C(1) << 34)
#define FEATURE_RING_RESET (UINT64_C(1) << 40)

/* 4.2.2 */
#define REG_MAGIC            0x000u
#define REG_VERSION          0x004u
#define REG_DEVICE_ID        0x008u
#define REG_VENDOR_ID        0x00cu
#define REG_DEVICE_FEATURES  0x010u
#define REG_DEVICE_FEAT_SEL  0x014u
#define REG_DRIVER_FEATURES  0x020u
#define REG_DRIVER_FEAT_SEL  0x024u
#define REG_QUEUE_SEL        0x030u
#define REG_QUEUE_NUM_MAX    0x034u
#define REG_QUEUE_NUM        0x038u
#define REG_QUEUE_READY      0x044u
#define REG_QUEUE_NOTIFY     0x050u
#define REG_INTERRUPT_STATUS 0x060u
#define REG_INTERRUPT_ACK    0x064u
#define REG_STATUS           0x070u
#define REG_QUEUE_DESC       0x080u
#define REG_QUEUE_DRIVER     0x090u
#define REG_QUEUE_DEVICE     0x0a0u
#define REG_QUEUE_RESET      0x0c0u
#define REG_CONFIG_GEN       0x0fcu
#define REG_CONFIG           0x100u

#define INT_VRING  0x1u
#define INT_CONFIG 0x2u

#define QUEUES_MAX   256u
#define SEGMENTS_MAX 4u

struct virtio {
    /* from the tree */
    unsigned number; /* in tree order, from 0 */
    uint64_t base, size;
    unsigned pin, sense;
    uint32_t tree_id;     /* of the child node; 0 if there is none */
    uint32_t config_size; /* exact where the tree says it */
    /* from the registers */
    uint32_t id;
    unsigned n_queues;
    uint64_t offered, accepted;
    /* as it runs */
    uint32_t interrupts;     /* of its pin, as of the last wait */
    uint32_t config_changes; /* acknowledged so far */
};

/* tree.c: the virtio,mmio nodes of the device tree in its own order */
#define TREE_DEPTH 8u
struct tree_node {
    bool is_virtio;
    uint32_t child_id;
    const uint8_t *reg, *interrupts, *config_size; /* NULL: not there */
    uint32_t reg_size;
    uint32_t address_cells, size_cells; /* of its children */
};
struct tree_walk {
    const uint8_t *at; /* in the structure block, and what is left of it */
    uint32_t left;
    const char *names;
    uint32_t names_size;
    unsigned depth, found;
    struct tree_node level[TREE_DEPTH]; /* the nodes that are open */
};
/* A guest without a sound tree ends here as failed. */
void tree_begin(struct tree_walk *walk);
bool tree_next(struct tree_walk *walk, struct virtio *dev);
/* The first device of a type, or of any (id 0) with config space or without. */
bool tree_find(struct virtio *dev, uint32_t id, bool with_config);

/* virtio.c: registers. What can go wrong returns a text, NULL if it did not. */
uint32_t virtio_read(const struct virtio *dev, unsigned reg);
void virtio_write(const struct virtio *dev, unsigned reg, uint32_t value);
/* Look at what the device is; nothing is changed but selectors. */
const char *virtio_open(struct virtio *dev);
/* VERSION_1 and what the options packed, event-idx, ... ask for. */
uint64_t virtio_wanted(void);
const char *virtio_reset(struct virtio *dev);
/* Reset, then up to FEATURES_OK; of accept what is offered is accepted. */
const char *virtio_negotiate(struct virtio *dev, uint64_t accept);
void virtio_start(struct virtio *dev); /* DRIVER_OK */
bool virtio_needs_reset(const struct virtio *dev);
/* Sleep until the device's pin had an interrupt and acknowledge it. */
bool virtio_wait(struct virtio *dev, uint64_t deadline);
void virtio_config_read(const struct virtio *dev, unsigned offset, void *out,
                        size_t size);

/*
 * All of config space as of one moment (2.5.1): read again until the generation
 * did not change meanwhile. Returns the generation. A generation that never
 * stands still fails the guest.
 */
uint32_t virtio_config_snapshot(const struct virtio *dev, void *out);
/* Write with accesses of width 1, 2 or 4 bytes; size is a multiple of it. */
void virtio_config_write(const struct virtio *dev, unsigned offset,
                         const void *bytes, size_t size, unsigned width);

/* One piece of a request, in guest-physical addresses. */
struct segment {
    void *at;
    uint32_t size;
    bool write; /* by the device */
};

struct queue_slot {
    uint32_t tag;
    uint16_t count; /* descriptors; 0 if nothing is under way */
};

struct queue_desc {
    uint64_t address;
    uint32_t size;
    uint16_t flags, next; /* packed: id, flags */
};

struct queue {
    struct virtio *dev;
    unsigned index, size;
    bool packed, event_idx, indirect;
    struct queue_desc *desc;
    uint16_t *driver; /* available ring, or driver's event suppression */
    uint16_t *device; /* used ring, or the device's */
    struct queue_desc *tables; /* indirect: SEGMENTS_MAX a descriptor */
    struct queue_slot *slots;
    uint16_t *chain; /* split: the next descriptor of a chain */
    uint16_t *ids;   /* a stack of those free */
    unsigned n_ids, room;
    unsigned under_way;
    uint16_t next, kicked, last_used;
    bool next_wrap, used_wrap;
};

/* queue.c */
/* Set up a queue of at most size entries; before virtio_start(). */
const char *queue_init(struct queue *q, struct virtio *dev, unsigned index,
                       unsigned size);
/* The whole of it for a device whose queue 0 is enough: open it, negotiate what
 * the command line wants, a queue of 8, start. Or the guest's end. */
void queue_begin(struct queue *q, struct virtio *dev);
/* Only the memory; no register but QueueSel is written. */
const char *queue_prepare(struct queue *q, struct virtio *dev, unsigned index,
                          unsigned size);
/* The same memory once more, after the queue was reset. */
const char *queue_again(struct queue *q);
/* QueueReset: what was under way never comes back. */
const char *queue_reset(struct queue *q);
/* False where there is no room. tag comes back with the answer. */
bool queue_add(struct queue *q, const struct segment *segments, unsigned n,
               uint32_t tag);
void queue_kick(struct queue *q);
/* An answer, if there is one. One that was never asked for fails the guest. */
bool queue_get(struct queue *q, uint32_t *tag, uint32_t *size);
/* One request and its answer, by interrupt; false after so many milliseconds.
 * Only where nothing else is under way on the queue. */
bool queue_ask(struct queue *q, const struct segment *segments, unsigned n,
               uint32_t *size, uint64_t milliseconds);
uint16_t queue_take_id(struct queue *q);
/* For split.c and packed.c: give back a request's id, get its tag. */
uint32_t queue_done(struct queue *q, unsigned id);

/* split.c and packed.c */
void split_init(struct queue *q);
void split_add(struct queue *q, const struct segment *segments, unsigned n,
               uint32_t tag);
bool split_wants_kick(struct queue *q);
bool split_get(struct queue *q, uint32_t *tag, uint32_t *size);
void packed_init(struct queue *q);
void packed_add(struct queue *q, const struct segment *segments, unsigned n,
                uint32_t tag);
bool packed_wants_kick(struct queue *q);
bool packed_get(struct queue *q, uint32_t *tag, uint32_t *size);

#endif
