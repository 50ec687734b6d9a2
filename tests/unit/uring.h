/*
 * An io_uring that a test holds in its hands. build/tests/husk-block-held is
 * husk-block linked with it: each operation that the program submits arrives
 * at the test as a struct uring_op, and completes when the test answers with a
 * struct uring_verdict. The socket between them is SOCK_SEQPACKET; its number
 * in the program is in the environment as HUSK_URING_FD.
 */
#ifndef HUSK_TESTS_URING_H
#define HUSK_TESTS_URING_H

#include <stdint.h>

#define URING_FD "HUSK_URING_FD"

/* How many calls of io_uring_submit() fail with -EBUSY first; default 0. */
#define URING_BUSY "HUSK_URING_BUSY"

struct uring_op {
    uint64_t id;
    uint32_t opcode; /* IORING_OP_... */
    uint32_t flags;  /* RWF_... or IORING_FSYNC_... */
    uint64_t offset, length;
    uint32_t mode; /* of IORING_OP_FALLOCATE */
};

struct uring_verdict {
    uint64_t id;
    int64_t limit; /* do it, for at most so many bytes; -1: do not */
    int32_t res;   /* the result of one that is not done */
};

#endif
