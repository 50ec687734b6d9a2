/*
 * Framing: messages in pieces, together and cut off, descriptors in every
 * number that a peer can attach, and sockets that are full or gone.
 */
#include "devices/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"

static struct husk_err err;

/* A message of size bytes with a payload that can be told from others. */
static size_t compose(uint8_t *bytes, uint32_t request, uint32_t size)
{
    struct vu_header header = { request, VU_VERSION | VU_REPLY, size };

    memcpy(bytes, &header, sizeof header);
    for (uint32_t i = 0; i < size; i++)
        bytes[sizeof header + i] = (uint8_t)(request + i);
    return sizeof header + size;
}

static void expect_message(const struct wire_message *message, uint32_t request,
                           uint32_t size, unsigned n_fds)
{
    cr_assert_eq(message->header.request, request, "request %u, not %u",
                 message->header.request, request);
    cr_assert_eq(message->header.size, size, "size %u, not %u",
                 message->header.size, size);
    cr_assert_eq(message->n_fds, n_fds, "%u descriptors, not %u",
                 message->n_fds, n_fds);
    for (uint32_t i = 0; i < size; i++)
        cr_assert_eq(message->payload[i], (uint8_t)(request + i));
}

Test(wire, sends_what_was_queued, .timeout = 10)
{
    struct far_message message;
    struct wire wire;
    unsigned before;
    int far;

    wire_init(&wire, far_open(&far));
    cr_assert_eq(wire_put(&wire, 1, 0, NULL, 0, NULL, 0), 0);
    cr_assert_eq(wire_put(&wire, 2, VU_NEED_REPLY, "abcde", 5, NULL, 0), 0);
    cr_assert_eq(wire_put(&wire, 3, 0, "x", 1, NULL, 0), 0);
    cr_assert_not(far_take(far, &message), "sent before it was flushed");
    before = far_writes();
    cr_assert_eq(wire_flush(&wire), 0);
    cr_assert_eq(far_writes() - before, 1, "%u writes for three messages",
                 far_writes() - before);
    cr_assert(far_take(far, &message));
    cr_assert_eq(message.header.request, 1);
    cr_assert_eq(message.header.flags, VU_VERSION);
    cr_assert_eq(message.header.size, 0);
    cr_assert(far_take(far, &message));
    cr_assert_eq(message.header.request, 2);
    cr_assert_eq(message.header.flags, VU_VERSION | VU_NEED_REPLY);
    cr_assert_eq(message.header.size, 5);
    cr_assert_arr_eq(message.payload, "abcde", 5);
    cr_assert(far_take(far, &message));
    cr_assert_eq(message.header.request, 3);
    cr_assert_eq(message.payload[0], 'x');
    cr_assert_not(far_take(far, &message));
    before = far_writes();
    cr_assert_eq(wire_flush(&wire), 0);
    cr_assert_eq(far_writes(), before, "wrote though nothing was queued");
    wire_fini(&wire);
    close(far);
}

/* Each message with descriptors is a write of its own; others share one. */
Test(wire, descriptors_go_with_their_message, .timeout = 10)
{
    static const unsigned n_fds[] = { 0, 0, 2, 0, 1, 8, 0, 0 };
    struct far_message message;
    int fds[WIRE_MAX_FDS], far;
    unsigned before, opened = far_open_fds();
    struct wire wire;

    wire_init(&wire, far_open(&far));
    for (unsigned i = 0; i < WIRE_MAX_FDS; i++)
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (uint32_t i = 0; i < 8; i++)
        cr_assert_eq(wire_put(&wire, 10 + i, 0, "payload", 7, fds, n_fds[i]),
                     0);
    before = far_writes();
    cr_assert_eq(wire_flush(&wire), 0);
    cr_assert_eq(far_writes() - before, 6);
    for (uint32_t i = 0; i < 8; i++) {
        cr_assert(far_take(far, &message));
        cr_assert_eq(message.header.request, 10 + i);
        cr_assert_eq(message.n_fds, n_fds[i], "message %u: %u descriptors", i,
                     message.n_fds);
        far_drop(&message);
    }
    /* they stayed the caller's */
    for (unsigned i = 0; i < WIRE_MAX_FDS; i++)
        cr_assert_eq(close(fds[i]), 0);
    wire_fini(&wire);
    close(far);
    cr_assert_eq(far_open_fds(), opened);
}

/* A message split after each of its bytes is whole only with the last. */
/* One that the wire owns is closed when it is sent, or never will be; another
 * is left alone. */
Test(wire, owned_descriptors, .timeout = 10)
{
    for (unsigned sent = 0; sent < 2; sent++) {
        struct far_message message;
        struct wire wire;
        int far, given, lent;

        wire_init(&wire, far_open(&far));
        given = eventfd(0, EFD_CLOEXEC);
        lent = eventfd(0, EFD_CLOEXEC);
        cr_assert_eq(wire_put(&wire, 1, 0, NULL, 0, &lent, 1), 0);
        cr_assert_eq(wire_put(&wire, 2, 0, NULL, 0, &given, 1), 0);
        wire_own(&wire);
        cr_assert_eq(wire_put(&wire, 3, 0, NULL, 0, &lent, 1), 0);
        cr_assert_geq(fcntl(given, F_GETFD), 0);
        if (sent) {
            cr_assert_eq(wire_flush(&wire), 0);
            cr_assert_lt(fcntl(given, F_GETFD), 0, "still open");
            for (uint32_t i = 1; i <= 3; i++) {
                cr_assert(far_take(far, &message));
                cr_assert_eq(message.header.request, i);
                cr_assert_eq(message.n_fds, 1);
                far_drop(&message);
            }
        }
        wire_fini(&wire);
        cr_assert_lt(fcntl(given, F_GETFD), 0, "still open at the end");
        cr_assert_geq(fcntl(lent, F_GETFD), 0);
        close(lent);
        close(far);
    }
}

Test(wire, split_after_each_byte, .timeout = 20)
{
    uint8_t bytes[64];
    size_t size = compose(bytes, 7, 20);
    struct wire_message message;
    struct wire wire;
    int far;

    wire_init(&wire, far_open(&far));
    cr_assert_eq(wire_pull(&wire, &message, &err), -EAGAIN);
    for (size_t cut = 1; cut < size; cut++) {
        far_raw(far, bytes, cut, 0);
        cr_assert_eq(wire_pull(&wire, &message, &err), -EAGAIN,
                     "whole after %zu bytes", cut);
        far_raw(far, bytes + cut, size - cut, 0);
        cr_assert_eq(wire_pull(&wire, &message, &err), 0);
        expect_message(&message, 7, 20, 0);
    }
    for (unsigned turn = 0; turn < 3; turn++) {
        for (size_t i = 0; i < size; i++) {
            cr_assert_eq(wire_pull(&wire, &message, &err), -EAGAIN);
            far_raw(far, bytes + i, 1, 0);
        }
        cr_assert_eq(wire_pull(&wire, &message, &err), 0);
        expect_message(&message, 7, 20, 0);
    }
    wire_fini(&wire);
    close(far);
}

Test(wire, many_in_one_write, .timeout = 10)
{
    static const uint32_t sizes[] = { 0, 4096, 1, 0, 0, 4095, 17 };
    uint8_t bytes[3 * 4096];
    struct wire_message message;
    struct wire wire;
    size_t size = 0;
    int far;

    wire_init(&wire, far_open(&far));
    for (uint32_t i = 0; i < 7; i++)
        size += compose(bytes + size, i, sizes[i]);
    far_raw(far, bytes, size, 0);
    for (uint32_t i = 0; i < 7; i++) {
        cr_assert_eq(wire_pull(&wire, &message, &err), 0);
        expect_message(&message, i, sizes[i], 0);
    }
    cr_assert_eq(wire_pull(&wire, &message, &err), -EAGAIN);
    wire_fini(&wire);
    close(far);
}

/* However many descriptors come, with whichever byte: none is left. */
Test(wire, attached_descriptors, .timeout = 20)
{
    static const unsigned counts[] = { 0, 1, 7, 8, 9, 253 };
    uint8_t bytes[64];
    size_t size = compose(bytes, 5, 8);
    unsigned opened = far_open_fds();

    for (unsigned i = 0; i < 6; i++) {
        for (size_t at = 0; at < size; at++) {
            struct wire_message message;
            struct wire wire;
            unsigned while_open;
            int far;

            wire_init(&wire, far_open(&far));
            while_open = far_open_fds();
            far_raw(far, bytes, at, 0);
            far_raw(far, bytes + at, size - at, counts[i]);
            cr_assert_eq(wire_pull(&wire, &message, &err), 0);
            expect_message(&message, 5, 8, counts[i]);
            /* those of one message are gone with the next */
            far_raw(far, bytes, size, 0);
            cr_assert_eq(wire_pull(&wire, &message, &err), 0);
            expect_message(&message, 5, 8, 0);
            cr_assert_eq(far_open_fds(), while_open, "%u left of %u",
                         far_open_fds() - while_open, counts[i]);
            far_raw(far, bytes, size, counts[i]);
            cr_assert_eq(wire_pull(&wire, &message, &err), 0);
            expect_message(&message, 5, 8, counts[i]);
            wire_fini(&wire);
            close(far);
            cr_assert_eq(far_open_fds(), opened, "%u left of %u at byte %zu",
                         far_open_fds() - opened, counts[i], at);
        }
    }
}

/* A descriptor with each byte, of a message that never becomes whole. */
Test(wire, descriptors_with_every_byte, .timeout = 20)
{
    uint8_t bytes[256];
    size_t size = compose(bytes, 5, 200);
    unsigned opened = far_open_fds();
    struct wire_message message;
    struct wire wire;
    int far;

    wire_init(&wire, far_open(&far));
    for (size_t i = 0; i + 1 < size; i++) {
        far_raw(far, bytes + i, 1, 3);
        cr_assert_eq(wire_pull(&wire, &message, &err), -EAGAIN);
        cr_assert_leq(far_open_fds(), opened + 2 + WIRE_MAX_FDS);
    }
    wire_fini(&wire);
    close(far);
    cr_assert_eq(far_open_fds(), opened);
}

Test(wire, taken_descriptors_are_the_callers, .timeout = 10)
{
    uint8_t bytes[64];
    size_t size = compose(bytes, 5, 8);
    unsigned opened = far_open_fds();
    struct wire_message message;
    struct wire wire;
    int far, taken;

    wire_init(&wire, far_open(&far));
    far_raw(far, bytes, size, 2);
    cr_assert_eq(wire_pull(&wire, &message, &err), 0);
    taken = wire_take_fd(&wire, 1);
    cr_assert_geq(taken, 0);
    cr_assert_eq(fcntl(taken, F_GETFD), FD_CLOEXEC);
    cr_assert_eq(wire_take_fd(&wire, 1), -1, "taken twice");
    cr_assert_eq(wire_take_fd(&wire, 2), -1);
    cr_assert_eq(wire_take_fd(&wire, 8), -1);
    wire_fini(&wire);
    cr_assert_eq(far_open_fds(), opened + 2);
    close(taken);
    close(far);
    cr_assert_eq(far_open_fds(), opened);
}

/* More descriptors than this process may open: MSG_CTRUNC. */
Test(wire, descriptors_cut_off, .timeout = 10)
{
    uint8_t bytes[64];
    size_t size = compose(bytes, 5, 8);
    unsigned opened = far_open_fds();
    struct wire_message message;
    struct rlimit limit, low;
    struct wire wire;
    int far, rc;

    wire_init(&wire, far_open(&far));
    far_raw(far, bytes, size, 100);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = opened + 20;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    rc = wire_pull(&wire, &message, &err);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(rc, -EPROTO);
    cr_assert_not_null(strstr(err.text, "cut off"), "%s", err.text);
    wire_fini(&wire);
    close(far);
    cr_assert_eq(far_open_fds(), opened);
}

Test(wire, too_large, .timeout = 10)
{
    static const uint32_t sizes[] = { 4097,       0x10000,    0x7fffffff,
                                      0x80000000, 0xfffffff3, 0xfffffff4,
                                      0xffffffff };

    for (unsigned i = 0; i < 7; i++) {
        struct vu_header header = { 1, VU_VERSION | VU_REPLY, sizes[i] };
        uint8_t payload[5000] = { 0 };
        struct wire_message message;
        struct wire wire;
        int far;

        wire_init(&wire, far_open(&far));
        far_raw(far, &header, sizeof header, 2);
        far_raw(far, payload, sizeof payload, 0);
        cr_assert_eq(wire_pull(&wire, &message, &err), -EPROTO, "size %u",
                     sizes[i]);
        cr_assert_eq(err.code, -EPROTO);
        cr_assert_not_null(strstr(err.text, "at most 4096"), "%s", err.text);
        wire_fini(&wire);
        close(far);
    }
}

/* A socket that is full: what was queued goes on where it stopped. */
Test(wire, full_socket, .timeout = 30)
{
    enum { N = 300, SIZE = 4000 };
    static uint8_t payload[N][SIZE];
    struct far_message message;
    unsigned opened = far_open_fds(), taken = 0, again = 0;
    int size = 4096, far, null = open("/dev/null", O_RDONLY | O_CLOEXEC), rc;
    int near = far_open(&far);
    struct wire wire;

    cr_assert_eq(setsockopt(near, SOL_SOCKET, SO_SNDBUF, &size, sizeof size),
                 0);
    wire_init(&wire, near);
    for (uint32_t i = 0; i < N; i++) {
        memset(payload[i], (int)i, SIZE);
        cr_assert_eq(
            wire_put(&wire, i, 0, payload[i], SIZE, &null, i % 10 == 9), 0);
    }
    while ((rc = wire_flush(&wire)) == -EAGAIN) {
        again++;
        cr_assert(far_take(far, &message), "full and nothing in it");
        do {
            cr_assert_eq(message.header.request, taken);
            cr_assert_eq(message.n_fds, taken % 10 == 9 || taken == N,
                         "message %u: %u descriptors", taken, message.n_fds);
            cr_assert_arr_eq(message.payload, payload[taken % N], SIZE);
            far_drop(&message);
            taken++;
            /* put more behind what is there */
            if (taken == N / 2)
                cr_assert_eq(wire_put(&wire, N, 0, payload[0], SIZE, &null, 1),
                             0);
            wire_flush(&wire);
        } while (far_take(far, &message));
    }
    cr_assert_eq(rc, 0);
    cr_assert_gt(again, 0, "the socket was never full");
    while (far_take(far, &message)) {
        cr_assert_eq(message.header.request, taken);
        cr_assert_eq(message.n_fds, taken % 10 == 9 || taken == N);
        far_drop(&message);
        taken++;
    }
    cr_assert_eq(taken, N + 1);
    wire_fini(&wire);
    close(far);
    close(null);
    cr_assert_eq(far_open_fds(), opened);
}

/* Bytes of a message in the socket's way, one at a time: partial sends. */
Test(wire, partial_sends, .timeout = 30)
{
    static uint8_t big[1 << 20];
    uint8_t *back = big + sizeof big / 2;
    size_t size = sizeof big / 2, got = 0;
    struct wire wire;
    int far, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    for (size_t i = 0; i < size; i++)
        big[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    wire_init(&wire, far_open(&far));
    cr_assert_eq(wire_put(&wire, 3, 0, big, size, &null, 1), 0);
    cr_assert_eq(wire_put(&wire, 4, 0, "end", 3, &null, 1), 0);
    cr_assert_eq(wire_flush(&wire), -EAGAIN, "half a megabyte at once");
    while (got < VU_HEADER_SIZE + size) {
        uint8_t bytes[777];
        size_t want = VU_HEADER_SIZE + size - got;
        ssize_t n =
            recv(far, bytes, want < sizeof bytes ? want : sizeof bytes, 0);

        cr_assert_gt(n, 0);
        for (ssize_t i = 0; i < n; i++, got++)
            if (got >= VU_HEADER_SIZE)
                back[got - VU_HEADER_SIZE] = bytes[i];
        wire_flush(&wire);
    }
    cr_assert_eq(memcmp(big, back, size), 0);
    {
        struct far_message message;

        cr_assert(far_take(far, &message));
        cr_assert_eq(message.header.request, 4);
        cr_assert_eq(message.n_fds, 1);
        far_drop(&message);
    }
    wire_fini(&wire);
    close(far);
    close(null);
}

/* The peer hangs up after each byte of a message. */
Test(wire, hang_up_at_each_byte, .timeout = 20)
{
    uint8_t bytes[64];
    size_t size = compose(bytes, 9, 24);

    for (unsigned unread = 0; unread < 2; unread++) {
        for (size_t cut = 0; cut <= size; cut++) {
            struct wire_message message;
            struct wire wire;
            int far;

            wire_init(&wire, far_open(&far));
            /* what the peer never read turns its hang-up into a reset */
            if (unread) {
                cr_assert_eq(wire_put(&wire, 1, 0, NULL, 0, NULL, 0), 0);
                cr_assert_eq(wire_flush(&wire), 0);
            }
            far_raw(far, bytes, cut, 0);
            close(far);
            if (cut == size) {
                int rc = wire_pull(&wire, &message, &err);

                cr_assert(rc == 0 || (rc == -EPIPE && unread));
                if (rc == 0)
                    expect_message(&message, 9, 24, 0);
                /* and now it is gone */
                cr_assert_eq(wire_pull(&wire, &message, &err), -EPIPE);
                cr_assert_null(strstr(err.text, "middle"), "%s", err.text);
            } else {
                cr_assert_eq(wire_pull(&wire, &message, &err), -EPIPE);
                cr_assert_not_null(strstr(err.text, "hung up"), "%s", err.text);
                if (!unread)
                    cr_assert_eq(strstr(err.text, "middle") != NULL, cut > 0,
                                 "after %zu bytes: %s", cut, err.text);
            }
            wire_fini(&wire);
        }
    }
}

/* Half a close is a close: the peer can never answer again. */
Test(wire, half_closed, .timeout = 10)
{
    struct wire_message message;
    struct wire wire;
    int far;

    wire_init(&wire, far_open(&far));
    cr_assert_eq(shutdown(far, SHUT_WR), 0);
    cr_assert_eq(wire_pull(&wire, &message, &err), -EPIPE);
    wire_fini(&wire);
    close(far);
}

Test(wire, sending_to_nobody, .timeout = 10)
{
    struct wire wire;
    int far;

    cr_assert_eq((size_t)signal(SIGPIPE, SIG_DFL), (size_t)SIG_DFL);
    wire_init(&wire, far_open(&far));
    close(far);
    cr_assert_eq(wire_put(&wire, 1, 0, NULL, 0, NULL, 0), 0);
    cr_assert_eq(wire_flush(&wire), -EPIPE);
    wire_fini(&wire);
}

Test(wire, init_and_fini, .timeout = 10)
{
    unsigned opened = far_open_fds();
    struct wire wire;
    int far, near = far_open(&far);

    cr_assert_not(fcntl(near, F_GETFL) & O_NONBLOCK);
    wire_init(&wire, near);
    cr_assert(fcntl(near, F_GETFL) & O_NONBLOCK);
    cr_assert_eq(wire.fd, near);
    cr_assert_eq(wire_put(&wire, 1, 0, "queued", 6, &far, 1), 0);
    wire_fini(&wire);
    cr_assert_eq(wire.fd, -1);
    wire_fini(&wire);
    cr_assert_eq(fcntl(far, F_GETFD), FD_CLOEXEC, "it took a borrowed one");
    close(far);
    cr_assert_eq(far_open_fds(), opened);
}
