/*
 * husk-block: a disk, VIRTIO 1.2 section 5.2, in a raw file or on a block
 * device. Requests go to io_uring and complete in any order; nothing blocks
 * the loop. SIGHUP reads the size again and notifies the driver of a change.
 * Secure erase, zones and lifetime are not offered.
 */
#include <endian.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <string.h>

#include "devices/backends/block_layout.h"
#include "devices/backends/block_request.h"
#include "devices/backends/disk.h"
#include "devices/backends/runtime.h"

#define SEG_MAX       126u
#define DEPTH         128u
#define ZEROES        65536u
#define RETRY_SECONDS 0.001

struct block {
    struct disk disk;
    const char *serial;
    bool no_zero_range; /* the file system lacks it: zeros are written */
    bool has_uring;
    struct io_uring uring;
    ev_io completed;
    ev_timer retry; /* the kernel took only a part of what was issued */
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

/* In write-through mode a request completes when its data is durable. */
static bool write_through(const struct device *dev)
{
    return !dev->config[CONFIG_WRITEBACK];
}

static void prepare_fsync(const struct block *blk, struct io_uring_sqe *sqe)
{
    io_uring_prep_fsync(sqe, blk->disk.fd, IORING_FSYNC_DATASYNC);
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
        io_uring_prep_writev2(sqe, blk->disk.fd, &r->zero, 1,
                              seg->sector * SECTOR,
                              write_through(dev) ? RWF_DSYNC : 0);
    } else {
        io_uring_prep_fallocate(sqe, blk->disk.fd,
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

    if (!sqe) { /* unreachable: there are as many entries as requests */
        finish(blk, r, STATUS_IOERR);
        return;
    }
    switch (r->type) {
    case TYPE_IN:
        io_uring_prep_readv(sqe, blk->disk.fd, r->iov, r->n_iov, r->offset);
        break;
    case TYPE_OUT:
        io_uring_prep_writev2(sqe, blk->disk.fd, r->iov, r->n_iov, r->offset,
                              write_through(dev) ? RWF_DSYNC : 0);
        break;
    case TYPE_DISCARD:
        io_uring_prep_fallocate(
            sqe, blk->disk.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
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
        /* the file ends before the disk does: it was truncated */
        if (res == 0 && r->left)
            res = -EIO;
        break;
    case TYPE_DISCARD:
        if (res == -EOPNOTSUPP) /* DISCARD is a hint */
            res = 0;
        if (res >= 0) {
            request_advance(r, r->segment[0].sectors);
            again = r->n_segments;
        }
        break;
    case TYPE_WRITE_ZEROES:
        if (r->synchronising)
            break;
        if (res == -EOPNOTSUPP && !r->zero.iov_len) {
            blk->no_zero_range = again = true;
        } else if (res >= 0) {
            request_advance(r, r->zero.iov_len ? (uint32_t)res / SECTOR
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

/* Submit what was issued, and process what has completed. */
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

static void block_handle(struct queue *queue)
{
    struct device *dev = queue_device(queue);
    struct block *blk = dev->state;
    struct chain *chain;

    while (blk->free && (chain = queue_take(queue))) {
        struct request *r = blk->free;

        if (!request_parse(r, queue, chain))
            break;
        blk->free = r->next;

        enum status status = request_begin(r, &blk->disk, blk->serial);

        if (status == STATUS_PENDING)
            issue(blk, dev, r);
        else
            finish(blk, r, status);
    }
    if (!blk->free)
        queue_hold(queue); /* until turn() gets one back */
    turn(blk, dev);
}

static void fill_config(struct device *dev)
{
    const struct block *blk = dev->state;
    unsigned logical, exponent;

    disk_geometry(&blk->disk, &logical, &exponent);
    device_put64(dev, CONFIG_CAPACITY, blk->disk.sectors);
    device_put32(dev, CONFIG_SEG_MAX, SEG_MAX);
    device_put32(dev, CONFIG_BLK_SIZE, logical);
    dev->config[CONFIG_PHYSICAL_EXP] = (uint8_t)exponent;
    device_put16(dev, CONFIG_MIN_IO, 1);
    dev->config[CONFIG_WRITEBACK] = 1;
    device_put16(dev, CONFIG_NUM_QUEUES, (uint16_t)dev->shape.max_vqs);
    if (blk->disk.read_only)
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

    if (disk_open(&blk->disk) < 0)
        return -1;
    fill_config(dev);
    dev->shape.features |=
        blk->disk.read_only ? F_RO : F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES;
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
    disk_close(&blk->disk);
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
    struct block *blk = dev->state;
    uint64_t before = blk->disk.sectors;

    if (disk_measure(&blk->disk) < 0 || blk->disk.sectors == before)
        return;
    device_put64(dev, CONFIG_CAPACITY, blk->disk.sectors);
    device_config_changed(dev);
}

static int set_file(struct device *dev, const char *value)
{
    ((struct block *)dev->state)->disk.path = value;
    return 0;
}

static int set_read_only(struct device *dev, const char *value)
{
    (void)value;
    ((struct block *)dev->state)->disk.read_only = true;
    return 0;
}

static int set_serial(struct device *dev, const char *value)
{
    if (strlen(value) > ID_SIZE)
        return complain("--serial=%s: give at most %u bytes", value, ID_SIZE);
    ((struct block *)dev->state)->serial = value;
    return 0;
}

static const struct backend_option options[] = {
    { "file", "PATH", "the disk: a raw image or a block device", set_file },
    { "blk-file", "PATH", "another name of --file, as in vhost-user.json",
      set_file },
    { "read-only", NULL, "the driver cannot write", set_read_only },
    { "queues", "N", "number of queues, 1 to 256; 1", device_set_queues },
    { "serial", "TEXT", "the disk's id, at most 20 bytes; husk", set_serial },
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
    static struct block state = { .serial = "husk", .disk = { .fd = -1 } };

    return backend_main(&block, &state, argc, argv);
}
