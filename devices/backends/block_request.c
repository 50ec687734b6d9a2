/*
 * Reading and checking requests. Refuses what lies outside the disk, and
 * writing to a disk that is read-only.
 */
#include "devices/backends/block_request.h"

#include <endian.h>
#include <string.h>

/* Whether count sectors from sector on are on the disk. */
static bool on_disk(const struct disk *disk, uint64_t sector, uint64_t count)
{
    return sector <= disk->sectors && count <= disk->sectors - sector;
}

void request_advance(struct request *r, uint32_t sectors)
{
    r->segment[0].sector += sectors;
    r->segment[0].sectors -= sectors;
    while (r->n_segments && !r->segment[0].sectors) {
        r->n_segments--;
        memmove(r->segment, r->segment + 1,
                r->n_segments * sizeof r->segment[0]);
    }
}

static enum status begin_data(struct request *r, const struct disk *disk)
{
    struct chain *c = r->chain;

    if (r->type == TYPE_OUT) {
        if (disk->read_only)
            return STATUS_IOERR;
        r->iov = c->readable;
        r->n_iov = c->n_readable;
        r->left = c->readable_size - HEADER_SIZE;
        iov_trim(&r->iov, &r->n_iov, HEADER_SIZE);
    } else {
        r->iov = c->writable;
        r->n_iov = c->n_writable;
        r->left = c->writable_size - 1;
        if (!--r->iov[r->n_iov - 1].iov_len) /* the status is no data */
            r->n_iov--;
    }
    if (r->left % SECTOR || !on_disk(disk, r->sector, r->left / SECTOR))
        return STATUS_IOERR;
    r->offset = r->sector * SECTOR;
    return r->left ? STATUS_PENDING : STATUS_OK;
}

static enum status begin_segments(struct request *r, const struct disk *disk)
{
    const struct chain *c = r->chain;
    size_t size = c->readable_size - HEADER_SIZE;
    uint32_t allowed = r->type == TYPE_WRITE_ZEROES ? UNMAP : 0;

    if (disk->read_only)
        return STATUS_IOERR;
    if (!size || size % sizeof r->segment[0] || size > sizeof r->segment)
        return STATUS_IOERR;
    chain_read(c, HEADER_SIZE, r->segment, size);
    r->n_segments = (unsigned)(size / sizeof r->segment[0]);
    for (unsigned i = 0; i < r->n_segments; i++) {
        struct segment *seg = &r->segment[i];

        seg->sector = le64toh(seg->sector);
        seg->sectors = le32toh(seg->sectors);
        seg->flags = le32toh(seg->flags);
        if (seg->flags & ~allowed)
            return STATUS_UNSUPP;
        if (seg->sectors > MAX_SECTORS ||
            !on_disk(disk, seg->sector, seg->sectors))
            return STATUS_IOERR;
    }
    request_advance(r, 0); /* empty ones need nothing */
    return r->n_segments ? STATUS_PENDING : STATUS_OK;
}

static enum status get_id(struct request *r, const char *serial)
{
    char id[ID_SIZE] = { 0 };
    size_t room = r->chain->writable_size - 1;

    memcpy(id, serial, strlen(serial));
    r->done = chain_write(r->chain, 0, id, room < sizeof id ? room : sizeof id);
    return STATUS_OK;
}

enum status request_begin(struct request *r, const struct disk *disk,
                          const char *serial)
{
    switch (r->type) {
    case TYPE_IN:
    case TYPE_OUT:
        return begin_data(r, disk);
    case TYPE_FLUSH:
        return STATUS_PENDING;
    case TYPE_GET_ID:
        return get_id(r, serial);
    case TYPE_DISCARD:
    case TYPE_WRITE_ZEROES:
        return begin_segments(r, disk);
    default:
        return STATUS_UNSUPP;
    }
}

bool request_parse(struct request *r, struct queue *queue, struct chain *chain)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;

    if (chain_read(chain, 0, &header, sizeof header) < sizeof header ||
        !chain->writable_size) {
        queue_break(queue, "a request without header or status");
        queue_give(queue, chain, 0);
        return false;
    }

    const struct iovec *last = &chain->writable[chain->n_writable - 1];

    r->queue = queue;
    r->chain = chain;
    r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    r->type = le32toh(header.type);
    r->left = r->done = 0;
    r->n_segments = 0;
    r->zero.iov_len = 0;
    r->synchronising = false;
    r->sector = le64toh(header.sector);
    return true;
}
