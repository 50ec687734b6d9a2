/*
 * Inflight I/O tracking. A crash may come between any two stores, so their
 * order is the point of this file; order() keeps the compiler to it, and what a
 * dead process stored last is there for the next one. The free list of a packed
 * ring's record is made anew at each start, and every index in a buffer that
 * was handed back is checked before it is used.
 */
#include "devices/backends/inflight.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backends/layout.h"
#include "devices/virtio.h"

#define VERSION 1u

struct split_state {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next; /* given before this one */
    uint64_t counter;
};

struct split_region {
    uint64_t features;
    uint16_t version; /* 0: nothing was ever in flight */
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_idx;
    struct split_state desc[];
};

struct packed_state {
    uint8_t inflight;
    uint8_t padding;
    uint16_t next; /* of the chain, or of the free list */
    uint16_t last; /* in a chain's head: its last entry */
    uint16_t num;  /* in a chain's head: how many it has */
    uint64_t counter;
    uint16_t id; /* the descriptor, which the ring may lose */
    uint16_t flags;
    uint32_t len;
    uint64_t addr;
};

struct packed_region {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t free_head, old_free_head;
    uint16_t used_idx, old_used_idx;
    uint8_t used_wrap_counter, old_used_wrap_counter;
    uint8_t padding[10];
    struct packed_state desc[];
};

_Static_assert(sizeof(struct split_state) == 16, "split state");
_Static_assert(sizeof(struct split_region) == 16, "split region");
_Static_assert(sizeof(struct packed_state) == 32, "packed state");
_Static_assert(sizeof(struct packed_region) == 32, "packed region");

/* Whatever was stored before is stored before whatever is after. */
static inline void order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* Room for either layout. */
static size_t stride(unsigned queue_size)
{
    return (sizeof(struct packed_region) +
            queue_size * sizeof(struct packed_state) + 63) &
           ~(size_t)63;
}

static int map_fd(struct inflight *inflight, const struct vu_inflight *wire,
                  int fd)
{
    size_t size = wire->num_queues * stride(wire->queue_size);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                     (off_t)wire->mmap_offset);

    if (map == MAP_FAILED)
        return -errno;
    inflight_unmap(inflight);
    *inflight = (struct inflight){
        .map = map,
        .map_size = size,
        .n_queues = wire->num_queues,
        .queue_size = wire->queue_size,
    };
    return 0;
}

int inflight_create(struct inflight *inflight, struct vu_inflight *wire,
                    int *fd)
{
    if (!wire->num_queues || wire->num_queues > 256 || !wire->queue_size ||
        wire->queue_size > RING_MAX_SIZE)
        return -EINVAL;
    wire->mmap_offset = 0;
    wire->mmap_size = wire->num_queues * stride(wire->queue_size);
    *fd = memfd_create("inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    int rc = *fd < 0 || ftruncate(*fd, (off_t)wire->mmap_size) < 0 ||
                     fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0
                 ? -errno
                 : map_fd(inflight, wire, *fd);

    if (rc < 0 && *fd >= 0)
        close(*fd);
    return rc;
}

int inflight_map(struct inflight *inflight, const struct vu_inflight *wire,
                 int fd)
{
    struct stat st;

    if (!wire->num_queues || wire->num_queues > 256 || !wire->queue_size ||
        wire->queue_size > RING_MAX_SIZE ||
        wire->mmap_size < wire->num_queues * stride(wire->queue_size))
        return -EINVAL;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || wire->mmap_offset > (uint64_t)st.st_size ||
        wire->mmap_size > (uint64_t)st.st_size - wire->mmap_offset)
        return -EINVAL;
    return map_fd(inflight, wire, fd);
}

void inflight_unmap(struct inflight *inflight)
{
    if (inflight->map)
        munmap(inflight->map, inflight->map_size);
    *inflight = (struct inflight){ 0 };
}

static void *region_of(const struct inflight *inflight, unsigned index)
{
    return inflight->map + index * stride(inflight->queue_size);
}

void inflight_forget(struct inflight *inflight)
{
    for (unsigned i = 0; i < inflight->n_queues; i++) {
        struct split_region *r = region_of(inflight, i);

        r->version = 0; /* at the same place in both layouts */
    }
}

void inflight_attach(struct inflight_queue *q, const struct inflight *inflight,
                     unsigned index)
{
    inflight_detach(q);
    if (index >= inflight->n_queues)
        return;
    q->region = region_of(inflight, index);
    q->size = inflight->queue_size;
}

void inflight_detach(struct inflight_queue *q)
{
    free(q->pending);
    *q = (struct inflight_queue){ 0 };
}

static bool in_flight(const struct inflight_queue *q, bool packed, unsigned i)
{
    return packed ? ((const struct packed_region *)q->region)->desc[i].inflight
                  : ((const struct split_region *)q->region)->desc[i].inflight;
}

static uint64_t counter_of(const struct inflight_queue *q, bool packed,
                           unsigned i)
{
    return packed ? ((const struct packed_region *)q->region)->desc[i].counter
                  : ((const struct split_region *)q->region)->desc[i].counter;
}

/* List the entries in flight by their counters. */
static int collect(struct ring *ring)
{
    struct inflight_queue *q = ring->inflight;

    free(q->pending);
    q->n_pending = q->next_pending = 0;
    q->counter = 0;
    q->pending = calloc(q->size, sizeof *q->pending);
    if (!q->pending)
        return ring_break(ring, "out of memory");
    for (unsigned i = 0; i < q->size; i++) {
        unsigned at = q->n_pending;
        uint64_t counter;

        if (!in_flight(q, ring->packed, i))
            continue;
        counter = counter_of(q, ring->packed, i);
        if (counter >= q->counter)
            q->counter = counter + 1;
        for (; at && counter_of(q, ring->packed, q->pending[at - 1]) > counter;
             at--)
            q->pending[at] = q->pending[at - 1];
        q->pending[at] = (uint16_t)i;
        q->n_pending++;
    }
    return 0;
}

/* Whether the chain that was being given at the old position is out. */
static bool published(const struct ring *ring, const struct packed_region *r)
{
    const struct packed_desc *d =
        (const struct packed_desc *)ring->desc_map + r->old_used_idx;
    unsigned flags =
        le16toh(atomic_load_explicit(&d->flags, memory_order_acquire));

    /* not if it is still as the driver made it available in that turn; the
     * driver may have used it anew for the next turn already */
    return !(!!(flags & DESC_F_AVAIL) == r->old_used_wrap_counter &&
             !!(flags & DESC_F_USED) != r->old_used_wrap_counter);
}

/* The free list: all entries that no chain in flight has. */
static int link_free(struct ring *ring, unsigned *slots)
{
    const struct inflight_queue *q = ring->inflight;
    struct packed_region *r = q->region;
    uint8_t *taken = calloc(q->size, 1);
    uint16_t *link = &r->free_head;

    if (!taken)
        return ring_break(ring, "out of memory");
    *slots = 0;
    for (unsigned i = 0; i < q->n_pending; i++) {
        unsigned entry = q->pending[i], num = r->desc[entry].num;

        *slots += num;
        for (unsigned n = 0; n < num; n++) {
            if (*slots > ring->size || entry >= q->size || taken[entry]) {
                free(taken);
                return ring_break(ring, "an inflight buffer of another ring");
            }
            taken[entry] = 1;
            entry = r->desc[entry].next;
        }
    }
    for (unsigned i = 0; i < q->size; i++) {
        if (taken[i])
            continue;
        *link = (uint16_t)i;
        link = &r->desc[i].next;
    }
    *link = q->size; /* the end */
    r->old_free_head = r->free_head;
    free(taken);
    return 0;
}

static int recover_packed(struct ring *ring)
{
    struct inflight_queue *q = ring->inflight;
    struct packed_region *r = q->region;
    unsigned slots, next;

    if (r->used_idx >= ring->size || r->old_used_idx >= ring->size ||
        r->used_wrap_counter > 1 || r->old_used_wrap_counter > 1)
        return ring_break(ring, "an inflight buffer of another ring");
    if (r->used_idx != r->old_used_idx ||
        r->used_wrap_counter != r->old_used_wrap_counter) {
        if (published(ring, r)) {
            if (r->free_head < q->size)
                r->desc[r->free_head].inflight = 0;
            order();
            r->old_used_idx = r->used_idx;
            r->old_used_wrap_counter = r->used_wrap_counter;
        } else {
            r->used_idx = r->old_used_idx;
            r->used_wrap_counter = r->old_used_wrap_counter;
        }
    }
    if (collect(ring) < 0 || link_free(ring, &slots) < 0)
        return -EINVAL;
    ring->next_used = r->used_idx;
    ring->used_wrap = r->used_wrap_counter;
    next = r->used_idx + slots;
    ring->avail_wrap = ring->used_wrap;
    if (next >= ring->size) {
        next -= ring->size;
        ring->avail_wrap = !ring->avail_wrap;
    }
    ring->next_avail = (uint16_t)next;
    return 0;
}

static int begin(struct ring *ring, uint64_t features)
{
    struct inflight_queue *q = ring->inflight;
    struct split_region *s = q->region;
    struct packed_region *p = q->region;
    unsigned slots;

    memset(q->region, 0, stride(q->size));
    s->features = features;
    s->desc_num = q->size;
    if (collect(ring) < 0)
        return -EINVAL;
    if (ring->packed) {
        p->used_idx = p->old_used_idx = ring->next_used;
        p->used_wrap_counter = p->old_used_wrap_counter = ring->used_wrap;
        if (link_free(ring, &slots) < 0)
            return -EINVAL;
    } else {
        s->used_idx = ring->next_used;
    }
    order();
    s->version = VERSION;
    return 0;
}

static int recover_split(struct ring *ring, uint64_t features)
{
    struct inflight_queue *q = ring->inflight;
    struct split_region *r = q->region;
    uint16_t ahead = (uint16_t)(ring->next_used - r->used_idx);
    unsigned head = r->last_batch_head;

    /* the driver began anew, without the device knowing */
    if (ahead > ring->size)
        return begin(ring, features);
    /* given, but not yet off the record */
    for (unsigned n = 0; n < ahead && head < ring->size; n++) {
        r->desc[head].inflight = 0;
        head = r->desc[head].next;
    }
    order();
    r->used_idx = ring->next_used;
    if (collect(ring) < 0)
        return -EINVAL;
    if (q->n_pending > ring->size)
        return ring_break(ring, "an inflight buffer of another ring");
    ring->next_avail = (uint16_t)(ring->next_used + q->n_pending);
    return 0;
}

int inflight_start(struct ring *ring, uint64_t features)
{
    const struct inflight_queue *q = ring->inflight;
    const struct split_region *r = q->region;

    if (ring->size > q->size)
        return ring_break(ring, "an inflight buffer for rings of %u, not %u",
                          q->size, ring->size);
    if (r->version != VERSION)
        return begin(ring, features);
    if (r->desc_num != q->size ||
        (r->features ^ features) & VIRTIO_F_RING_PACKED)
        return ring_break(ring, "an inflight buffer of another ring");
    ring->inflight->recovered = true;
    return ring->packed ? recover_packed(ring) : recover_split(ring, features);
}

void inflight_stop(struct ring *ring)
{
    if (!inflight_pending(ring))
        ((struct split_region *)ring->inflight->region)->version = 0;
}

void inflight_taken(struct ring *ring, struct chain *chain, unsigned first)
{
    struct inflight_queue *q = ring->inflight;

    if (!ring->packed) {
        struct split_state *d =
            &((struct split_region *)q->region)->desc[chain->id];

        chain->entry = chain->id;
        d->counter = q->counter++;
        order();
        d->inflight = 1;
        return;
    }

    struct packed_region *r = q->region;
    unsigned entry = r->free_head < q->size ? r->free_head : 0;
    struct packed_state *head = &r->desc[entry];

    chain->entry = (uint16_t)entry;
    head->num = 0;
    for (unsigned n = 0; n < chain->slots; n++) {
        const struct packed_desc *d =
            (const struct packed_desc *)ring->desc_map +
            (first + n) % ring->size;
        struct packed_state *state = &r->desc[entry];

        if (entry >= q->size) {
            ring_break(ring, "the inflight buffer was written to");
            return;
        }
        state->addr = le64toh(d->addr);
        state->len = le32toh(d->len);
        state->id = le16toh(d->id);
        state->flags =
            le16toh(atomic_load_explicit(&d->flags, memory_order_relaxed));
        head->last = (uint16_t)entry;
        head->num++;
        entry = state->next;
    }
    r->free_head = (uint16_t)entry;
    head->counter = q->counter++;
    order();
    head->inflight = 1;
    order();
    r->old_free_head = r->free_head;
}

/* Put a chain's entries back on the free list. */
static void free_entries(const struct inflight_queue *q, unsigned entry)
{
    struct packed_region *r = q->region;
    unsigned last = r->desc[entry].last;

    r->desc[last < q->size ? last : entry].next = r->free_head;
    r->free_head = (uint16_t)entry;
}

void inflight_returned(struct ring *ring, const struct chain *chain)
{
    struct packed_region *r = ring->inflight->region;

    if (!ring->packed) {
        ((struct split_region *)ring->inflight->region)
            ->desc[chain->entry]
            .inflight = 0;
        return;
    }
    r->desc[chain->entry].inflight = 0;
    order();
    free_entries(ring->inflight, chain->entry);
    r->old_free_head = r->free_head;
}

void inflight_giving(struct ring *ring, const struct chain *chain)
{
    if (!ring->packed) {
        struct split_region *r = ring->inflight->region;

        r->desc[chain->entry].next = r->last_batch_head;
        order();
        r->last_batch_head = chain->entry;
        order();
        return;
    }

    struct packed_region *r = ring->inflight->region;
    unsigned next = ring->next_used + chain->slots;
    bool wrap = ring->used_wrap;

    if (next >= ring->size) {
        next -= ring->size;
        wrap = !wrap;
    }
    free_entries(ring->inflight, chain->entry);
    order();
    r->used_idx = (uint16_t)next;
    r->used_wrap_counter = wrap;
    order();
}

void inflight_given(struct ring *ring, const struct chain *chain)
{
    order();
    if (!ring->packed) {
        struct split_region *r = ring->inflight->region;

        r->desc[chain->entry].inflight = 0;
        order();
        r->used_idx = ring->next_used;
        return;
    }

    struct packed_region *r = ring->inflight->region;

    r->desc[chain->entry].inflight = 0;
    order();
    r->old_free_head = r->free_head;
    r->old_used_idx = r->used_idx;
    r->old_used_wrap_counter = r->used_wrap_counter;
}

bool inflight_pending(const struct ring *ring)
{
    const struct inflight_queue *q = ring->inflight;

    return q && q->next_pending < q->n_pending;
}

struct chain *inflight_take(struct ring *ring)
{
    struct inflight_queue *q = ring->inflight;
    unsigned entry = q->pending[q->next_pending];
    struct chain *chain;

    if (ring->packed) {
        const struct packed_region *r = q->region;
        struct gather g = { .n_readable = 0 };
        unsigned at = entry;
        uint16_t id = 0;

        for (unsigned n = 0; n < r->desc[entry].num && at < q->size; n++) {
            const struct packed_state *d = &r->desc[at];

            if (packed_gather(ring, &g, d->addr, d->len, d->flags) < 0)
                return NULL;
            id = d->id;
            at = d->next;
        }
        chain = gather_chain(ring, &g, id, r->desc[entry].num);
    } else {
        chain = split_chain(ring, entry);
    }
    if (!chain)
        return NULL;
    chain->entry = (uint16_t)entry;
    q->next_pending++;
    return chain;
}
