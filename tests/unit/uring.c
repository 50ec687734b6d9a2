/*
 * liburing's functions as far as husk-block calls them, with a test in the
 * kernel's place. Operations are done when their verdicts are read, one after
 * another.
 */
#include "tests/unit/uring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define ENTRIES 128u

static struct io_uring_sqe sqes[ENTRIES];
/* of the flexible member at its end nothing is used */
static _Alignas(16) uint8_t cqe_bytes[ENTRIES * sizeof(struct io_uring_cqe)];
static unsigned sq_head, cq_head, cq_tail, busy;

/* Operations that were submitted and have no verdict yet. */
static struct io_uring_sqe held[ENTRIES];

static unsigned setting(const char *name)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    if (entries != ENTRIES || flags || !getenv(URING_FD))
        return -EINVAL;
    *ring = (struct io_uring){
        .sq = { .khead = &sq_head,
                .sqes = sqes,
                .ring_mask = ENTRIES - 1,
                .ring_entries = ENTRIES },
        .cq = { .khead = &cq_head,
                .ktail = &cq_tail,
                .cqes = (void *)cqe_bytes,
                .ring_mask = ENTRIES - 1,
                .ring_entries = ENTRIES },
        .ring_fd = (int)setting(URING_FD),
    };
    busy = setting(URING_BUSY);
    return 0;
}

void io_uring_queue_exit(struct io_uring *ring)
{
    close(ring->ring_fd);
}

static uint64_t length_of(const struct io_uring_sqe *sqe)
{
    const struct iovec *iov = (const struct iovec *)(uintptr_t)sqe->addr;
    uint64_t length = 0;

    if (sqe->opcode == IORING_OP_FALLOCATE)
        return sqe->addr;
    for (unsigned i = 0; sqe->opcode != IORING_OP_FSYNC && i < sqe->len; i++)
        length += iov[i].iov_len;
    return length;
}

int io_uring_submit(struct io_uring *ring)
{
    unsigned n = 0;

    if (busy) {
        busy--;
        return -EBUSY;
    }
    for (; sq_head != ring->sq.sqe_tail; n++, sq_head++) {
        const struct io_uring_sqe *sqe = &sqes[sq_head % ENTRIES];
        unsigned slot = 0;

        while (slot < ENTRIES && held[slot].user_data)
            slot++;
        if (slot == ENTRIES)
            abort();
        held[slot] = *sqe;

        struct uring_op op = {
            .id = sqe->user_data,
            .opcode = sqe->opcode,
            .flags = (uint32_t)sqe->rw_flags,
            .offset = sqe->off,
            .length = length_of(sqe),
            .mode = sqe->opcode == IORING_OP_FALLOCATE ? sqe->len : 0,
        };

        if (send(ring->ring_fd, &op, sizeof op, 0) != (ssize_t)sizeof op)
            abort();
    }
    return (int)n;
}

/* The result, as a completion has it. */
static int perform(const struct io_uring_sqe *sqe, uint64_t limit)
{
    const struct iovec *given = (const struct iovec *)(uintptr_t)sqe->addr;
    struct iovec iov[1024];
    ssize_t n = 0;

    if (sqe->opcode == IORING_OP_FSYNC)
        return fdatasync(sqe->fd) < 0 ? -errno : 0;
    if (sqe->opcode == IORING_OP_FALLOCATE)
        return fallocate(sqe->fd, (int)sqe->len, (off_t)sqe->off,
                         (off_t)sqe->addr) < 0
                   ? -errno
                   : 0;
    for (unsigned i = 0; i < sqe->len; i++) {
        iov[i] = given[i];
        if (iov[i].iov_len > limit)
            iov[i].iov_len = limit;
        limit -= iov[i].iov_len;
    }
    if (sqe->opcode == IORING_OP_READV)
        n = preadv2(sqe->fd, iov, (int)sqe->len, (off_t)sqe->off,
                    sqe->rw_flags);
    else
        n = pwritev2(sqe->fd, iov, (int)sqe->len, (off_t)sqe->off,
                     sqe->rw_flags);
    return n < 0 ? -errno : (int)n;
}

int __io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe,
                       unsigned submit, unsigned wait_nr, sigset_t *mask)
{
    struct uring_verdict verdict;
    ssize_t n = recv(ring->ring_fd, &verdict, sizeof verdict, MSG_DONTWAIT);

    (void)submit, (void)wait_nr, (void)mask;
    if (n == 0)
        _exit(1); /* the test failed: nothing more would ever complete */
    if (n != (ssize_t)sizeof verdict)
        return -EAGAIN;
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (held[i].user_data != verdict.id)
            continue;
        *cqe = &ring->cq.cqes[cq_tail % ENTRIES];
        (*cqe)->user_data = verdict.id;
        (*cqe)->res = verdict.limit < 0
                          ? verdict.res
                          : perform(&held[i], (uint64_t)verdict.limit);
        held[i].user_data = 0;
        cq_tail++;
        return 0;
    }
    abort(); /* a verdict on what was never submitted */
}
