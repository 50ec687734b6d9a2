/*
 * husk-block: a disk, VIRTIO 1.2 section 5.2, in a raw file or on a block
 * device. Requests go to io_uring and complete in any order; nothing blocks
 * the loop. SIGHUP looks at the size again and tells the driver. Refuses what
 * lies outside the disk before any of it is done, and all writing with
 * --read-only. Secure erase, zones and lifetime are not offered.
 */
#include <endian.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backends/block.h"
#include "devices/backends/runtime.h"

#define SEG_MAX       126u
#define MAX_SEGMENTS  16u
#define MAX_SECTORS   (1u << 22) /* of a segment: 2 GiB */
#define DEPTH         128u
#define ZEROES        65536u
#define RETRY_SECONDS 0.001

struct request {
    struct request *next; /* free ones */
    struct queue *queue;
    struct chain *chain;
    uint8_t *status;
    uint32_t type;
    struct iovec *iov; /* what is left to read or write */
    unsigned n_iov;
    uint64_t offset;
    size_t left, done;
    struct segment segment[MAX_SEGMENTS];
    unsigned n_segments;
    struct iovec zero;  /* being written; empty: fallocate does it */
    bool synchronising; /* the segments are done, their fdatasync is not */
};

struct block {
    const char *path;
    const char *serial;
    int fd;
    bool read_only, is_device;
    bool no_zero_range; /* the file system can't; zeroes are written */
    uint64_t sectors;
    bool has_uring;
    struct io_uring uring;
    ev_io completed;
    ev_timer retry; /* the kernel did not take all that was issued */
    struct request request[DEPTH];
    struct request *free;
    uint8_t zeroes[ZEROES];
};

static void finish(struct block *blk, struct request *r, enum status status)
{
    *r->status = (uint8_t)status;
    queue_give(r->queue, r->chain, (uint32_t)r->done + 1);
    r->chain = NULL;
    r->next = blk->free;
    blk->free = r;
}

/* Whether count sectors from sector on are on the disk. */
static bool on_disk(const struct block *blk, uint64_t sector, uint64_t count)
{
    return sector <= blk->sectors && count <= blk->sectors - sector;
}

/* In write-through mode a request completes when its data is durable. */
static bool write_through(const struct device *dev)
{
    return !dev->config[CONFIG_WRITEBACK];
}

static void prepare_fsync(const struct block *blk, struct io_uring_sqe *sqe)
{
    io_uring_prep_fsync(sqe, blk->fd, IORING_FSYNC_DATASYNC);
}

static void prepare_zeroes(struct block *blk, const struct device *dev,
                           struct request *r, struct io_uring_sqe *sqe)
{
    const struct segment *seg = &r->segment[0];
    uint64_t size = (uint64_t)seg->sectors * SECTOR;

    if (r->synchronising) {
        prepare_fsync(blk, sqe);
    } else if (blk->no_zero_range) {
        r->zero = (struct iovec){ blk->zeroes, size < ZEROES ? size : ZEROES };
        io_uring_prep_writev2(sqe, blk->fd, &r->zero, 1, seg->sector * SECTOR,
                              write_through(dev) ? RWF_DSYNC : 0);
    } else {
        io_uring_prep_fallocate(sqe, blk->fd,
                                FALLOC_FL_KEEP_SIZE |
                                    (seg->flags & UNMAP ? FALLOC_FL_PUNCH_HOLE
                                                        : FALLOC_FL_ZERO_RANGE),
                                (off_t)(seg->sector * SECTOR), (off_t)size);
    }
}

/* The next operation of a request that has one left. */
static void issue(struct block *blk, struct device *dev, struct request *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&blk->uring);
    const struct segment *seg = &r->segment[0];

    if (!sqe) { /* cannot be: there are as many entries as requests */
        finish(blk, r, STATUS_IOERR);
        return;
    }
    switch (r->type) {
    case TYPE_IN:
        io_uring_prep_readv(sqe, blk->fd, r->iov, r->n_iov, r->offset);
        break;
    case TYPE_OUT:
        io_uring_prep_writev2(sqe, blk->fd, r->iov, r->n_iov, r->offset,
                              write_through(dev) ? RWF_DSYNC : 0);
        break;
    case TYPE_DISCARD:
        io_uring_prep_fallocate(
            sqe, blk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            (off_t)(seg->sector * SECTOR), (off_t)seg->sectors * SECTOR);
        break;
    case TYPE_WRITE_ZEROES:
        prepare_zeroes(blk, dev, r, sqe);
        break;
    default:
        prepare_fsync(blk, sqe);
    }
    io_uring_sqe_set_data(sqe, r);
}

/* The first segment is done with, or only its first sectors are. */
static void advance(struct request *r, uint32_t sectors)
{
    r->segment[0].sector += sectors;
    r->segment[0].sectors -= sectors;
    while (r->n_segments && !r->segment[0].sectors) {
        r->n_segments--;
        memmove(r->segment, r->segment + 1,
                r->n_segments * sizeof r->segment[0]);
    }
}

/* An operation of r ended with res. */
static void complete(struct block *blk, struct device *dev, struct request *r,
                     int res)
{
    bool again = res == -EAGAIN || res == -EINTR;

    switch (r->type) {
    case TYPE_IN:
    case TYPE_OUT:
        if (res > 0) {
            iov_trim(&r->iov, &r->n_iov, (size_t)res);
            r->offset += (uint64_t)res;
            r->left -= (size_t)res;
            if (r->type == TYPE_IN)
                r->done += (size_t)res;
            again = r->left;
        }
        /* the end of the file where the disk goes on: it was cut */
        if (res == 0 && r->left)
            res = -EIO;
        break;
    case TYPE_DISCARD:
        if (res == -EOPNOTSUPP) /* it was a hint */
            res = 0;
        if (res >= 0) {
            advance(r, r->segment[0].sectors);
            again = r->n_segments;
        }
        break;
    case TYPE_WRITE_ZEROES:
        if (r->synchronising)
            break;
        if (res == -EOPNOTSUPP && !r->zero.iov_len) {
            blk->no_zero_range = again = true;
        } else if (res >= 0) {
            advance(r, r->zero.iov_len ? (uint32_t)res / SECTOR
                                       : r->segment[0].sectors);
            again = r->n_segments;
            if (!again && write_through(dev))
                again = r->synchronising = true;
        }
        break;
    default:
        break;
    }
    if (again)
        issue(blk, dev, r);
    else
        finish(blk, r, res < 0 ? STATUS_IOERR : STATUS_OK);
}

static void submit(struct block *blk, struct device *dev)
{
    if (io_uring_sq_ready(&blk->uring))
        io_uring_submit(&blk->uring);
    if (io_uring_sq_ready(&blk->uring) && !ev_is_active(&blk->retry)) {
        ev_timer_set(&blk->retry, RETRY_SECONDS, 0.);
        ev_timer_start(dev->loop, &blk->retry);
    }
}

/* Hand over what was issued, and take what has completed. */
static void turn(struct block *blk, struct device *dev)
{
    struct io_uring_cqe *cqe;
    unsigned n = 0;

    submit(blk, dev);
    for (; n < DEPTH && !io_uring_peek_cqe(&blk->uring, &cqe); n++) {
        struct request *r = io_uring_cqe_get_data(cqe);
        int res = cqe->res;

        io_uring_cqe_seen(&blk->uring, cqe);
        complete(blk, dev, r, res);
    }
    if (!n)
        return;
    submit(blk, dev); /* what has to go on */
    for (unsigned i = 0; i < dev->shape.max_vqs; i++) {
        struct queue *queue = device_queue(dev, i);

        if (queue)
            queue_wake(queue);
    }
}

static void on_completed(struct ev_loop *loop, ev_io *w, int events)
{
    struct device *dev = w->data;

    (void)loop, (void)events;
    turn(dev->state, dev);
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int events)
{
    struct device *dev = w->data;

    (void)loop, (void)events;
    turn(dev->state, dev);
}

static enum status begin_data(struct block *blk, struct request *r,
                              uint64_t sector)
{
    struct chain *c = r->chain;

    if (r->type == TYPE_OUT) {
        if (blk->read_only)
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
    if (r->left % SECTOR || !on_disk(blk, sector, r->left / SECTOR))
        return STATUS_IOERR;
    r->offset = sector * SECTOR;
    return r->left ? STATUS_PENDING : STATUS_OK;
}

static enum status begin_segments(struct block *blk, struct request *r)
{
    const struct chain *c = r->chain;
    size_t size = c->readable_size - HEADER_SIZE;
    uint32_t allowed = r->type == TYPE_WRITE_ZEROES ? UNMAP : 0;

    if (blk->read_only)
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
            !on_disk(blk, seg->sector, seg->sectors))
            return STATUS_IOERR;
    }
    advance(r, 0); /* empty ones need nothing */
    return r->n_segments ? STATUS_PENDING : STATUS_OK;
}

static enum status get_id(struct block *blk, struct request *r)
{
    char id[ID_SIZE] = { 0 };
    size_t room = r->chain->writable_size - 1;

    memcpy(id, blk->serial, strlen(blk->serial));
    r->done = chain_write(r->chain, 0, id, room < sizeof id ? room : sizeof id);
    return STATUS_OK;
}

static enum status begin(struct block *blk, struct request *r, uint64_t sector)
{
    switch (r->type) {
    case TYPE_IN:
    case TYPE_OUT:
        return begin_data(blk, r, sector);
    case TYPE_FLUSH:
        return STATUS_PENDING;
    case TYPE_GET_ID:
        return get_id(blk, r);
    case TYPE_DISCARD:
    case TYPE_WRITE_ZEROES:
        return begin_segments(blk, r);
    default:
        return STATUS_UNSUPP;
    }
}

/* A request that has no place for its header or status is the end of it. */
static bool parse(struct request *r, struct queue *queue, struct chain *chain,
                  uint64_t *sector)
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
    *sector = le64toh(header.sector);
    return true;
}

static void block_handle(struct queue *queue)
{
    struct device *dev = queue_device(queue);
    struct block *blk = dev->state;
    struct chain *chain;

    while (blk->free && (chain = queue_take(queue))) {
        struct request *r = blk->free;
        uint64_t sector;

        if (!parse(r, queue, chain, &sector))
            break;
        blk->free = r->next;

        enum status status = begin(blk, r, sector);

        if (status == STATUS_PENDING)
            issue(blk, dev, r);
        else
            finish(blk, r, status);
    }
    if (!blk->free)
        queue_hold(queue); /* until turn() gets one back */
    turn(blk, dev);
}

static int read_size(struct device *dev)
{
    struct block *blk = dev->state;
    struct stat st;
    uint64_t size;

    if (fstat(blk->fd, &st) < 0)
        return complain("%s: %s", blk->path, strerror(errno));
    size = (uint64_t)st.st_size;
    blk->is_device = S_ISBLK(st.st_mode);
    if (!blk->is_device && !S_ISREG(st.st_mode))
        return complain("%s: neither a file nor a block device", blk->path);
    if (blk->is_device && ioctl(blk->fd, BLKGETSIZE64, &size) < 0)
        return complain("%s: %s", blk->path, strerror(errno));
    if (size % SECTOR)
        complain("%s: the last %u bytes are no whole sector", blk->path,
                 (unsigned)(size % SECTOR));
    blk->sectors = size / SECTOR;
    device_put64(dev, CONFIG_CAPACITY, blk->sectors);
    return 0;
}

static void fill_config(struct device *dev)
{
    const struct block *blk = dev->state;
    unsigned logical = SECTOR, physical = SECTOR, exponent = 0;

    if (blk->is_device) {
        int size;

        if (!ioctl(blk->fd, BLKSSZGET, &size) && size > 0)
            logical = physical = (unsigned)size;
        ioctl(blk->fd, BLKPBSZGET, &physical);
    } else {
        struct stat st;

        if (!fstat(blk->fd, &st) && st.st_blksize <= 65536)
            physical = (unsigned)st.st_blksize;
    }
    while (exponent < 8 && logical << (exponent + 1) <= physical)
        exponent++;
    device_put32(dev, CONFIG_SEG_MAX, SEG_MAX);
    device_put32(dev, CONFIG_BLK_SIZE, logical);
    dev->config[CONFIG_PHYSICAL_EXP] = (uint8_t)exponent;
    device_put16(dev, CONFIG_MIN_IO, 1);
    dev->config[CONFIG_WRITEBACK] = 1;
    device_put16(dev, CONFIG_NUM_QUEUES, (uint16_t)dev->shape.max_vqs);
    if (blk->read_only)
        return;
    device_put32(dev, CONFIG_MAX_DISCARD, MAX_SECTORS);
    device_put32(dev, CONFIG_MAX_DISCARD_SEG, MAX_SEGMENTS);
    device_put32(dev, CONFIG_DISCARD_ALIGNMENT, (logical << exponent) / SECTOR);
    device_put32(dev, CONFIG_MAX_ZEROES, MAX_SECTORS);
    device_put32(dev, CONFIG_MAX_ZEROES_SEG, MAX_SEGMENTS);
    dev->config[CONFIG_ZEROES_MAY_UNMAP] = 1;
}

static int block_init(struct device *dev)
{
    struct block *blk = dev->state;

    if (!blk->path)
        return complain("--file is needed (see --help)");
    blk->fd = open(blk->path, (blk->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (blk->fd < 0)
        return complain("%s: %s", blk->path, strerror(errno));
    if (read_size(dev) < 0)
        return -1;
    fill_config(dev);
    dev->shape.features |=
        blk->read_only ? F_RO : F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES;
    if (dev->shape.max_vqs > 1)
        dev->shape.features |= F_MQ;

    int rc = io_uring_queue_init(DEPTH, &blk->uring, 0);

    if (rc < 0)
        return complain("io_uring: %s", strerror(-rc));
    blk->has_uring = true;
    for (unsigned i = 0; i < DEPTH; i++) {
        blk->request[i].next = blk->free;
        blk->free = &blk->request[i];
    }
    ev_io_init(&blk->completed, on_completed, blk->uring.ring_fd, EV_READ);
    ev_init(&blk->retry, on_retry);
    blk->completed.data = blk->retry.data = dev;
    ev_io_start(dev->loop, &blk->completed);
    return 0;
}

static void block_fini(struct device *dev)
{
    struct block *blk = dev->state;

    if (blk->has_uring) {
        ev_io_stop(dev->loop, &blk->completed);
        io_uring_queue_exit(&blk->uring);
    }
    if (blk->fd >= 0)
        close(blk->fd);
}

/* The driver may switch between write-back and write-through, nothing else. */
static int block_write_config(struct device *dev, uint32_t offset,
                              const void *data, uint32_t size)
{
    const uint8_t *value = data;

    if (offset != CONFIG_WRITEBACK || size != 1 || *value > 1 ||
        !(device_features(dev) & F_CONFIG_WCE))
        return -EPERM;
    dev->config[CONFIG_WRITEBACK] = *value;
    return 0;
}

/* 5.2.5.2: without FLUSH the device starts in write-through mode. */
static void choose_mode(struct device *dev)
{
    dev->config[CONFIG_WRITEBACK] = !!(device_features(dev) & F_FLUSH);
}

static void block_hangup(struct device *dev)
{
    const struct block *blk = dev->state;
    uint64_t before = blk->sectors;

    if (read_size(dev) == 0 && blk->sectors != before)
        device_config_changed(dev);
}

static int set_file(struct device *dev, const char *value)
{
    ((struct block *)dev->state)->path = value;
    return 0;
}

static int set_read_only(struct device *dev, const char *value)
{
    (void)value;
    ((struct block *)dev->state)->read_only = true;
    return 0;
}

static int set_serial(struct device *dev, const char *value)
{
    if (strlen(value) > ID_SIZE)
        return complain("--serial=%s: at most %u bytes are allowed", value,
                        ID_SIZE);
    ((struct block *)dev->state)->serial = value;
    return 0;
}

static const struct backend_option options[] = {
    { "file", "PATH", "the disk: a raw file or a block device", set_file },
    { "blk-file", "PATH", "the same, by vhost-user.json's name", set_file },
    { "read-only", NULL, "refuse all writing", set_read_only },
    { "queues", "N", "number of queues, 1 to 256; 1", device_set_queues },
    { "serial", "TEXT", "what the disk says it is called; husk", set_serial },
    { 0 },
};

static const char *const capabilities[] = { "read-only", "blk-file", NULL };

static const struct backend block = {
    .type = "block",
    .about = "A disk",
    .capabilities = capabilities,
    .options = options,
    .shape = { .id = 2,
               .config_size = CONFIG_SIZE,
               .min_vqs = 1,
               .max_vqs = 1,
               .features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY },
    .init = block_init,
    .fini = block_fini,
    .features = choose_mode,
    .handle = block_handle,
    .write_config = block_write_config,
    .reset = choose_mode,
    .hangup = block_hangup,
};

int main(int argc, char **argv)
{
    static struct block state = { .serial = "husk", .fd = -1 };

    return backend_main(&block, &state, argc, argv);
}
