/*
 * The far end of a connection, as a test plays it: single messages, with
 * whatever is to be wrong about them.
 */
#ifndef HUSK_TESTS_FAR_H
#define HUSK_TESTS_FAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"

#define FAR_MAX_FDS 8
#define FAR_PAYLOAD 8192u /* more than any front-end may take */

struct far_message {
    struct vu_header header;
    uint8_t payload[FAR_PAYLOAD];
    unsigned n_fds;
    int fds[FAR_MAX_FDS]; /* the test's to close: far_drop() */
};

/* A connection of which the caller gets one end; *far is the other. */
int far_open(int *far);

/* The next request, or false if none is there (or the near end hung up). Waits
 * for the rest of one that has begun. */
bool far_take(int far, struct far_message *message);
void far_drop(struct far_message *message);

/* Send bytes as they are, with n copies of a descriptor attached to the first
 * of them. */
void far_raw(int far, const void *bytes, size_t size, unsigned n_fds);
void far_answer(int far, uint32_t request, const void *payload, size_t size);
void far_u64(int far, uint32_t request, uint64_t value);

/* Calls of sendmsg() that this program made; the far end makes none. */
unsigned far_writes(void);

/* Descriptors that this process has open. */
unsigned far_open_fds(void);

#endif
