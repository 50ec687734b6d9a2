/*
 * What husk-block asks of the kernel, in which order, and when a request
 * completes: the test holds the io_uring. Data that a driver may count on after
 * a power cut was synchronised before its request completed; errors, short
 * transfers and operations that the file system lacks are answered as they
 * should be.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/blk.h"
#include "tests/unit/uring.h"

#define ALL INT64_MAX

struct held {
    struct disk d;
    struct vu_client c;
    int ring;
};

static void held_init(struct held *h, uint64_t features)
{
    int pair[2];
    char number[16];

    disk_init(&h->d);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    h->ring = pair[0];
    snprintf(number, sizeof number, "%d", pair[1]);
    setenv(URING_FD, number, 1);

    const char *args[] = { h->d.arg, NULL };

    vu_spawn(&h->c, "../tests/husk-block-held", args);
    close(pair[1]);
    vu_start(&h->c, features, 1, 128);
}

static void held_fini(struct held *h)
{
    vu_end(&h->c, 0);
    close(h->ring);
    disk_fini(&h->d);
}

/* The next operation that was submitted. */
static struct uring_op next_op(const struct held *h)
{
    struct uring_op op;

    cr_assert(vu_readable(h->ring, 10000), "no operation is submitted");
    cr_assert_eq(recv(h->ring, &op, sizeof op, 0), (ssize_t)sizeof op);
    return op;
}

static void answer(const struct held *h, struct uring_op op, int64_t limit,
                   int32_t res)
{
    struct uring_verdict v = { op.id, limit, res };

    cr_assert_eq(send(h->ring, &v, sizeof v, 0), (ssize_t)sizeof v);
}

static void perform(const struct held *h, struct uring_op op)
{
    answer(h, op, ALL, 0);
}

static void fail(const struct held *h, struct uring_op op, int error)
{
    answer(h, op, -1, -error);
}

/*
 * No further operation, and no answer to the driver. A message is acted on in
 * a later turn of the program's loop than all that came before it.
 */
static void expect_pending(struct held *h, unsigned slot)
{
    uint32_t len;

    for (int i = 0; i < 2; i++)
        vu_get(&h->c, VU_GET_FEATURES);
    cr_assert_not(vu_readable(h->ring, 0));
    cr_assert_eq(blk_status(&h->c, slot), NOTHING);
    cr_assert_eq(driver_get(&h->c.queue[0].driver, &len), -1);
}

static int put(struct held *h, unsigned slot, uint32_t type, uint64_t sector,
               uint32_t len)
{
    int id = blk_add(&h->c, 0, slot, type, sector, len, 4096);

    cr_assert_geq(id, 0);
    vu_kick(&h->c, 0);
    return id;
}

static void expect_done(struct held *h, int id, unsigned slot, unsigned status,
                        uint32_t written)
{
    uint32_t len;

    cr_assert_eq(vu_wait(&h->c, 0, &len), id);
    cr_assert_eq(blk_status(&h->c, slot), status);
    cr_assert_eq(len, written);
}

static void set_writeback(struct held *h, uint8_t on)
{
    uint8_t message[13] = { 32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, on };

    cr_assert_eq(vu_set(&h->c, VU_SET_CONFIG, message, 13, -1), 0);
}

/* A FLUSH is the file's fdatasync(): its end, and its result. */
static void flush_of(struct held *h)
{
    int id = put(h, 0, FLUSH, 0, 0);
    struct uring_op op = next_op(h);

    cr_assert_eq(op.opcode, IORING_OP_FSYNC);
    cr_assert_eq(op.flags & ~IORING_FSYNC_DATASYNC, 0);
    cr_assert_eq(op.offset, 0);
    cr_assert_eq(op.length, 0, "only a part of the file is synchronised");
    expect_pending(h, 0);
    fail(h, op, EIO);
    expect_done(h, id, 0, IOERR, 1);
    id = put(h, 0, FLUSH, 0, 0);
    op = next_op(h);
    cr_assert_eq(op.opcode, IORING_OP_FSYNC);
    fail(h, op, EINTR);
    op = next_op(h);
    cr_assert_eq(op.opcode, IORING_OP_FSYNC);
    perform(h, op);
    expect_done(h, id, 0, OK, 1);
}

/* A write in pieces, of which the kernel takes a part at a time. */
static void write_of(struct held *h, uint32_t flags)
{
    uint32_t size = 3 * 4096;
    uint8_t *data = vu_at(&h->c, place_of(0).data), file[3 * 4096];

    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)random();

    int id = put(h, 0, OUT, 8, size);

    for (uint32_t at = 0; at < size; at += 5000) {
        struct uring_op op = next_op(h);

        cr_assert_eq(op.opcode, IORING_OP_WRITEV);
        cr_assert_eq(op.flags, flags, "flags 0x%x at byte %u", op.flags, at);
        cr_assert_eq(op.offset, 8 * SECTOR + at);
        cr_assert_eq(op.length, size - at);
        expect_pending(h, 0);
        answer(h, op, 5000, 0);
    }
    expect_done(h, id, 0, OK, 1);
    cr_assert_eq(pread(h->d.fd, file, size, 8 * SECTOR), (ssize_t)size);
    cr_assert_eq(memcmp(file, data, size), 0);
}

static void zeroes_of(struct held *h, bool through)
{
    blk_put_segment(&h->c, 0, 0, 8, 4, 0);
    blk_put_segment(&h->c, 0, 1, 20, 4, 1);

    int id = put(h, 0, WRITE_ZEROES, 0, 32);

    for (unsigned i = 0; i < 2; i++) {
        struct uring_op op = next_op(h);

        cr_assert_eq(op.opcode, IORING_OP_FALLOCATE);
        cr_assert_eq(op.mode, FALLOC_FL_KEEP_SIZE |
                                  (unsigned)(i ? FALLOC_FL_PUNCH_HOLE
                                               : FALLOC_FL_ZERO_RANGE));
        cr_assert_eq(op.offset, (i ? 20 : 8) * SECTOR);
        cr_assert_eq(op.length, 4 * SECTOR);
        expect_pending(h, 0);
        answer(h, op, -1, 0);
    }
    if (through) {
        struct uring_op op = next_op(h);

        cr_assert_eq(op.opcode, IORING_OP_FSYNC);
        expect_pending(h, 0);
        perform(h, op);
    }
    expect_done(h, id, 0, OK, 1);
}

/*
 * VIRTIO 1.2, 5.2.6.2: when a write is stable. Without FLUSH there is no later
 * moment than its own completion.
 */
Test(backend_uring, durable, .timeout = 60)
{
    static const struct {
        uint64_t features;
        int writeback; /* what the driver writes; -1: nothing */
        bool through;
    } rows[] = {
        { 0, -1, true },
        { F_FLUSH, -1, false },
        { F_CONFIG_WCE, -1, true },
        { F_FLUSH | F_CONFIG_WCE, -1, false },
        { F_FLUSH | F_CONFIG_WCE, 0, true },
        { F_FLUSH | F_CONFIG_WCE, 1, false },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct held h;
        uint8_t writeback;

        held_init(&h, rows[i].features);
        if (rows[i].writeback >= 0) {
            set_writeback(&h, !rows[i].writeback);
            set_writeback(&h, (uint8_t)rows[i].writeback);
        }
        vu_config(&h.c, 32, &writeback, 1);
        cr_assert_eq(writeback, !rows[i].through, "row %u", i);
        write_of(&h, rows[i].through ? RWF_DSYNC : 0);
        flush_of(&h);
        zeroes_of(&h, rows[i].through);

        /* a ring that stops and goes on changes nothing of it */
        vu_queue_resume(&h.c, 0, vu_queue_stop(&h.c, 0));
        write_of(&h, rows[i].through ? RWF_DSYNC : 0);
        held_fini(&h);
    }
}

/* A reset forgets write-through, and the next driver's choice holds. */
Test(backend_uring, reset, .timeout = 60)
{
    struct held h;

    held_init(&h, F_FLUSH | F_CONFIG_WCE);
    set_writeback(&h, 0);
    write_of(&h, RWF_DSYNC);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(vu_set_u64(&h.c, VU_SET_STATUS, 0), 0);
        vu_features(&h.c, i ? 0 : F_FLUSH);
        vu_queue_start(&h.c, 0, 128);
        vu_driver_ok(&h.c);
        write_of(&h, i ? RWF_DSYNC : 0);
    }
    held_fini(&h);
}

/* Reads: short ones go on, the end of the file is an error, and no flags. */
Test(backend_uring, reads, .timeout = 60)
{
    static const int transient[] = { EAGAIN, EINTR };
    struct held h;
    uint8_t file[8192];

    for (unsigned i = 0; i < sizeof file; i++)
        file[i] = (uint8_t)(i * 7 + i / 256);
    held_init(&h, 0);
    cr_assert_eq(pwrite(h.d.fd, file, sizeof file, SECTOR),
                 (ssize_t)sizeof file);

    int id = put(&h, 0, IN, 1, sizeof file);

    for (uint32_t at = 0; at < sizeof file; at += 3000) {
        struct uring_op op = next_op(&h);

        for (unsigned i = 0; i < 2; i++) { /* asked again, the same */
            fail(&h, op, transient[i]);
            op = next_op(&h);
        }
        cr_assert_eq(op.opcode, IORING_OP_READV);
        cr_assert_eq(op.flags, 0);
        cr_assert_eq(op.offset, SECTOR + at);
        cr_assert_eq(op.length, sizeof file - at);
        answer(&h, op, 3000, 0);
    }
    expect_done(&h, id, 0, OK, sizeof file + 1);
    cr_assert_eq(memcmp(vu_at(&h.c, place_of(0).data), file, sizeof file), 0);

    /* half of it, then an error, or nothing more: cut behind our back */
    for (unsigned i = 0; i < 2; i++) {
        id = put(&h, 0, IN, 1, sizeof file);
        answer(&h, next_op(&h), 4096, 0);
        if (i)
            answer(&h, next_op(&h), -1, 0);
        else
            fail(&h, next_op(&h), EIO);
        expect_done(&h, id, 0, IOERR, 4097);
    }
    id = put(&h, 0, OUT, 1, SECTOR);
    fail(&h, next_op(&h), ENOSPC);
    expect_done(&h, id, 0, IOERR, 1);
    id = put(&h, 0, OUT, 1, SECTOR);
    answer(&h, next_op(&h), -1, 0);
    expect_done(&h, id, 0, IOERR, 1);
    held_fini(&h);
}

/* Requests complete as their operations do, in any order. */
Test(backend_uring, order, .timeout = 60)
{
    struct held h;
    struct uring_op op[4];
    int id[4];

    held_init(&h, F_FLUSH);
    for (unsigned i = 0; i < 4; i++) {
        id[i] = put(&h, i, i == 1 ? FLUSH : OUT, 16 * i, i == 1 ? 0 : SECTOR);
        op[i] = next_op(&h);
    }
    for (unsigned i = 4; i-- > 0;) {
        if (i == 2)
            fail(&h, op[i], EIO);
        else
            perform(&h, op[i]);
        expect_done(&h, id[i], i, i == 2 ? IOERR : OK, 1);
        for (unsigned j = 0; j < i; j++)
            cr_assert_eq(blk_status(&h.c, j), NOTHING);
    }

    /* a ring stops when all that is in flight has completed */
    struct vu_vring_state state = { 0, 0 };

    id[0] = put(&h, 0, OUT, 0, SECTOR);
    op[0] = next_op(&h);
    vu_send(&h.c, VU_GET_VRING_BASE, 0, &state, sizeof state, -1);
    cr_assert_not(vu_readable(h.c.fd, 50));
    perform(&h, op[0]);
    cr_assert_eq(vu_answer(&h.c, VU_GET_VRING_BASE, &state, sizeof state, NULL),
                 sizeof state);
    cr_assert_eq(state.num, 5);
    cr_assert_eq(blk_status(&h.c, 0), OK);
    held_fini(&h);
}

/* A file system without ZERO_RANGE gets zeros, 64 KiB at most at a time. */
static void written_zeroes_of(uint64_t features)
{
    uint32_t flags = features & F_FLUSH ? 0 : RWF_DSYNC;
    struct held h;
    uint8_t data[300 * SECTOR];

    memset(data, 0x66, sizeof data);
    held_init(&h, features);
    cr_assert_eq(pwrite(h.d.fd, data, sizeof data, 0), (ssize_t)sizeof data);
    blk_put_segment(&h.c, 0, 0, 1, 0, 0);
    blk_put_segment(&h.c, 0, 1, 2, 200, 0);
    blk_put_segment(&h.c, 0, 2, 250, 3, 1);
    for (unsigned turn = 0; turn < 2; turn++) {
        uint32_t left = 200 * SECTOR, at = 2 * SECTOR;
        int id = put(&h, 0, WRITE_ZEROES, 0, 48);
        struct uring_op op = next_op(&h);

        if (!turn) { /* only the first tries */
            cr_assert_eq(op.opcode, IORING_OP_FALLOCATE);
            fail(&h, op, EOPNOTSUPP);
            op = next_op(&h);
        }
        while (left) {
            uint32_t size = left < 65536 ? left : 65536;
            uint32_t takes = size < 8192 ? size : 8192;

            cr_assert_eq(op.opcode, IORING_OP_WRITEV);
            cr_assert_eq(op.flags, flags);
            cr_assert_eq(op.offset, at);
            cr_assert_eq(op.length, size);
            answer(&h, op, takes, 0);
            at += takes;
            left -= takes;
            op = next_op(&h);
        }
        cr_assert_eq(op.offset, 250 * SECTOR);
        cr_assert_eq(op.length, 3 * SECTOR);
        perform(&h, op);
        if (flags)
            perform(&h, next_op(&h));
        expect_done(&h, id, 0, OK, 1);
    }
    cr_assert_eq(pread(h.d.fd, data, sizeof data, 0), (ssize_t)sizeof data);
    for (unsigned i = 0; i < sizeof data; i++) {
        unsigned sector = i / SECTOR;
        bool zero =
            (sector >= 2 && sector < 202) || (sector >= 250 && sector < 253);

        cr_assert_eq(data[i], zero ? 0 : 0x66, "byte %u", i);
    }
    held_fini(&h);
}

Test(backend_uring, written_zeroes, .timeout = 60)
{
    written_zeroes_of(0);
    written_zeroes_of(F_FLUSH);
}

/* DISCARD is a hint: a file system may lack it, but not fail at it. */
Test(backend_uring, discard, .timeout = 60)
{
    struct held h;

    held_init(&h, 0);
    blk_put_segment(&h.c, 0, 0, 8, 8, 0);
    blk_put_segment(&h.c, 0, 1, 64, 16, 0);
    for (unsigned turn = 0; turn < 2; turn++) {
        int id = put(&h, 0, DISCARD, 0, 32);

        for (unsigned i = 0; i < 2; i++) {
            struct uring_op op = next_op(&h);

            cr_assert_eq(op.opcode, IORING_OP_FALLOCATE);
            cr_assert_eq(op.mode, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE);
            cr_assert_eq(op.offset, (i ? 64 : 8) * SECTOR);
            cr_assert_eq(op.length, (i ? 16 : 8) * SECTOR);
            if (turn)
                fail(&h, op, EOPNOTSUPP);
            else
                perform(&h, op);
        }
        expect_done(&h, id, 0, OK, 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        int id = put(&h, 0, i ? WRITE_ZEROES : DISCARD, 0, 32);

        fail(&h, next_op(&h), EIO); /* the second segment is left alone */
        expect_done(&h, id, 0, IOERR, 1);
    }
    held_fini(&h);
}

/* A kernel that takes nothing for a while: submitted again, once. */
Test(backend_uring, busy, .timeout = 60)
{
    struct held h;

    setenv(URING_BUSY, "20", 1);
    held_init(&h, F_FLUSH);

    int id = put(&h, 0, OUT, 0, SECTOR);
    struct uring_op op = next_op(&h);

    expect_pending(&h, 0);
    perform(&h, op);
    expect_done(&h, id, 0, OK, 1);
    held_fini(&h);
}
