/*
 * Requests and answers of one vhost-user connection. The back-end is trusted
 * with guest memory and with nothing else: each answer is checked against the
 * oldest request that is pending (number, version, REPLY flag, size,
 * descriptors) before a byte of it is used. A late answer would be taken for
 * the next one's, so that a missed deadline ends the connection.
 */
#include "devices/frontend.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/deadline.h"
#include "devices/helper.h"
#include "devices/names.h"

void frontend_init(struct frontend *fe, int fd)
{
    wire_init(&fe->wire, fd);
    fe->wire.helper = fe->helper;
    fe->lost = false;
    fe->err = (struct husk_err){ 0 };
    fe->acked = fe->max_slots = 0;
    fe->device_status = 0;
    fe->memory_sent = false;
    fe->config_due = 0;
    fe->config_again = false;
    fe->head = fe->tail = 0;
}

void frontend_fini(struct frontend *fe)
{
    wire_fini(&fe->wire);
    if (fe->inflight_fd >= 0)
        helper_close(fe->helper, fe->inflight_fd);
    fe->inflight_fd = -1;
    free(fe->pending);
    fe->pending = NULL;
    fe->head = fe->tail = fe->room = 0;
    free(fe->config);
    free(fe->config_in);
    fe->config = fe->config_in = NULL;
}

int frontend_lose(struct frontend *fe, int code, const char *format, ...)
{
    va_list args;
    int n;

    if (fe->lost)
        return code;
    fe->lost = true;
    fe->err.code = code;
    n = snprintf(fe->err.text, sizeof fe->err.text, "%s: ", fe->name);
    if (n > 0 && (size_t)n < sizeof fe->err.text) {
        va_start(args, format);
        vsnprintf(fe->err.text + n, sizeof fe->err.text - (size_t)n, format,
                  args);
        va_end(args);
    }
    fe->head = fe->tail = 0;
    /* Closing is the loop's: it may be watching the descriptor. */
    if (fe->wire.fd >= 0)
        shutdown(fe->wire.fd, SHUT_RDWR);
    return code;
}

static int put(struct frontend *fe, uint32_t request, uint32_t flags,
               const void *payload, size_t size, const int *fds, unsigned n_fds)
{
    if (fe->lost)
        return -ENOTCONN;
    if (wire_put(&fe->wire, request, flags, payload, size, fds, n_fds) < 0)
        return frontend_lose(fe, -ENOMEM, "out of memory for a request");
    return 0;
}

int frontend_send(struct frontend *fe, uint32_t request, const void *payload,
                  size_t size, const int *fds, unsigned n_fds)
{
    return put(fe, request, 0, payload, size, fds, n_fds);
}

static int ack_done(struct frontend *fe, const struct frontend_pending *pending,
                    const uint8_t *payload, size_t size)
{
    uint64_t answer;

    (void)size;
    memcpy(&answer, payload, sizeof answer);
    if (!answer)
        return 0;
    if (pending->request == VU_SET_VRING_NUM)
        return frontend_lose(fe, -EREMOTEIO,
                             "the back-end refused a queue of "
                             "%u entries: give a smaller queue-size=",
                             pending->arg);
    return frontend_lose(fe, -EREMOTEIO,
                         "the back-end refused %s (value %u) "
                         "with error %llu",
                         names_request(pending->request), pending->arg,
                         (unsigned long long)answer);
}

int frontend_setup(struct frontend *fe, uint32_t request, const void *payload,
                   size_t size, const int *fds, unsigned n_fds, uint32_t value)
{
    bool ack = fe->acked & VU_PF_REPLY_ACK;
    int rc =
        put(fe, request, ack ? VU_NEED_REPLY : 0, payload, size, fds, n_fds);

    if (rc < 0 || !ack)
        return rc;
    return frontend_expect(fe, (struct frontend_pending){ .request = request,
                                                          .arg = value,
                                                          .min = 8,
                                                          .max = 8,
                                                          .done = ack_done });
}

int frontend_expect(struct frontend *fe, struct frontend_pending pending)
{
    if (fe->lost)
        return -ENOTCONN;
    if (fe->head == fe->tail)
        fe->head = fe->tail = 0;
    if (fe->tail == fe->room) {
        size_t room = fe->room ? 2 * fe->room : 16;
        struct frontend_pending *grown =
            realloc(fe->pending, room * sizeof *grown);

        if (!grown)
            return frontend_lose(fe, -ENOMEM, "out of memory for an answer");
        fe->pending = grown;
        fe->room = room;
    }
    fe->pending[fe->tail++] = pending;
    return 0;
}

/* The request that this answer must answer; those passed over are dropped. */
static int match(struct frontend *fe, const struct vu_header *header,
                 struct frontend_pending *out)
{
    for (;;) {
        struct frontend_pending head = fe->pending[fe->head];
        int rc;

        if (head.request == header->request || !head.optional ||
            fe->head + 1 == fe->tail) {
            *out = head;
            fe->head++;
            return 0;
        }
        fe->head++;
        rc = head.done(fe, &head, NULL, 0);
        if (rc < 0)
            return rc;
    }
}

static int take(struct frontend *fe, const struct wire_message *message)
{
    const struct vu_header *header = &message->header;
    struct frontend_pending want;
    const char *name;
    int rc = match(fe, header, &want);

    if (rc < 0)
        return rc;
    fe->taken++;
    name = names_request(want.request);
    if (header->request != want.request)
        return frontend_lose(fe, -EPROTO,
                             "%s expected an answer, but one to "
                             "request %u came",
                             name, header->request);
    if ((header->flags & VU_VERSION_MASK) != VU_VERSION)
        return frontend_lose(fe, -EPROTO,
                             "the answer to %s has version %u, "
                             "%u expected",
                             name, header->flags & VU_VERSION_MASK, VU_VERSION);
    if (!(header->flags & VU_REPLY))
        return frontend_lose(fe, -EPROTO,
                             "the answer to %s has flags 0x%x, "
                             "without REPLY (0x%x)",
                             name, header->flags, VU_REPLY);
    if (message->n_fds != want.n_fds)
        return frontend_lose(fe, -EPROTO,
                             "the answer to %s came with %u "
                             "descriptors, %u expected",
                             name, message->n_fds, want.n_fds);
    if (header->size < want.min || header->size > want.max)
        return frontend_lose(fe, -EPROTO,
                             "the answer to %s has %u bytes, %u "
                             "expected",
                             name, header->size, want.min);
    return want.done(fe, &want, message->payload, header->size);
}

int frontend_pump(struct frontend *fe)
{
    int rc;

    if (fe->lost)
        return -ENOTCONN;
    for (;;) {
        struct wire_message message;
        struct husk_err err;

        rc = wire_flush(&fe->wire); /* done() may have queued more */
        if (rc < 0 && rc != -EAGAIN)
            return frontend_lose(fe, rc,
                                 rc == -EPIPE || rc == -ECONNRESET
                                     ? "the back-end hung up"
                                     : "sending to the back-end: %s",
                                 strerror(-rc));
        if (fe->head == fe->tail)
            return rc;
        rc = wire_pull(&fe->wire, &message, &err);
        if (rc == -EAGAIN)
            return rc;
        if (rc < 0)
            return frontend_lose(fe, rc, "waiting for %s from the back-end: %s",
                                 names_request(fe->pending[fe->head].request),
                                 err.text);
        rc = take(fe, &message);
        if (rc < 0)
            return rc;
    }
}

short frontend_events(const struct frontend *fe)
{
    return (short)((fe->head < fe->tail ? POLLIN : 0) |
                   (fe->wire.sent < fe->wire.end ? POLLOUT : 0));
}

int frontend_timeout(struct frontend *fe)
{
    if (fe->lost)
        return -ENOTCONN;
    if (fe->head == fe->tail)
        return frontend_lose(fe, -ETIMEDOUT,
                             "the back-end took no request for "
                             "%g s (deadline=)",
                             fe->deadline);
    return frontend_lose(fe, -ETIMEDOUT,
                         "the back-end gave no answer to %s "
                         "within %g s (deadline=)",
                         names_request(fe->pending[fe->head].request),
                         fe->deadline);
}

int frontend_wait(struct frontend *fe, uint64_t deadline)
{
    for (;;) {
        struct pollfd polled[2] = { { .fd = fe->wire.fd },
                                    { .fd = fe->stop_fd, .events = POLLIN } };
        int rc = frontend_pump(fe), left;

        if (rc != -EAGAIN)
            return rc;
        polled[0].events = frontend_events(fe);
        left = deadline_left(deadline);
        if (left == 0)
            return frontend_timeout(fe);
        if (poll(polled, 2, left) > 0 && polled[1].revents)
            return -ECANCELED;
    }
}
