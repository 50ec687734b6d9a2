/*
 * The buffer itself, and the choice between the layouts of split and packed
 * rings.
 */
#include "devices/backends/inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backends/record_packed.h"
#include "devices/backends/record_split.h"
#include "devices/virtio.h"

/* One queue's bytes: room for either layout. */
static size_t stride(unsigned queue_size)
{
    return (record_packed_size(queue_size) + 63) & ~(size_t)63;
}

static bool valid(const struct vu_inflight *wire)
{
    return wire->num_queues && wire->num_queues <= 256 && wire->queue_size &&
           wire->queue_size <= RING_MAX_SIZE;
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
    if (!valid(wire))
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

    if (!valid(wire) ||
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
        struct record_header *h = region_of(inflight, i);

        h->version = 0;
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

int inflight_start(struct ring *ring, uint64_t features)
{
    const struct inflight_queue *q = ring->inflight;
    const struct record_header *h = q->region;

    if (ring->size > q->size)
        return ring_break(ring, "an inflight buffer for rings of %u, not %u",
                          q->size, ring->size);
    if (h->version != RECORD_VERSION)
        return ring->packed ? record_packed_begin(ring, features)
                            : record_split_begin(ring, features);
    if (h->desc_num != q->size ||
        (h->features ^ features) & VIRTIO_F_RING_PACKED)
        return record_refuse(ring);
    ring->inflight->recovered = true;
    return ring->packed ? record_packed_recover(ring)
                        : record_split_recover(ring, features);
}

void inflight_stop(struct ring *ring)
{
    if (!inflight_pending(ring))
        ((struct record_header *)ring->inflight->region)->version = 0;
}

void inflight_taken(struct ring *ring, struct chain *chain, unsigned first)
{
    if (ring->packed)
        record_packed_taken(ring, chain, first);
    else
        record_split_taken(ring, chain);
}

void inflight_returned(struct ring *ring, const struct chain *chain)
{
    if (ring->packed)
        record_packed_returned(ring, chain);
    else
        record_split_returned(ring, chain);
}

void inflight_giving(struct ring *ring, const struct chain *chain)
{
    if (ring->packed)
        record_packed_giving(ring, chain);
    else
        record_split_giving(ring, chain);
}

void inflight_given(struct ring *ring, const struct chain *chain)
{
    if (ring->packed)
        record_packed_given(ring, chain);
    else
        record_split_given(ring, chain);
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
    struct chain *chain = ring->packed ? record_packed_chain(ring, entry)
                                       : record_split_chain(ring, entry);

    if (!chain)
        return NULL;
    chain->entry = (uint16_t)entry;
    q->next_pending++;
    return chain;
}
