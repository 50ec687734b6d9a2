/*
 * Framing of vhost-user messages on a Unix stream socket: a queue of messages
 * to send, each descriptor with its own message, and a parser that takes
 * messages as they come, whole or in pieces. Knows no message by name.
 * One owner at a time; the caller locks.
 */
#ifndef HUSK_DEVICES_WIRE_H
#define HUSK_DEVICES_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"
#include "husk.h"

#define WIRE_MAX_FDS 8 /* descriptors with one message */

struct helper;
struct wire_mark;

struct wire {
    int fd;                /* owned; -1 when closed */
    struct helper *helper; /* closes what came; borrowed, or NULL */
    /* what is to be sent: out[sent..end) */
    uint8_t *out;
    size_t sent, end, room;
    /* where in it a message with descriptors begins, in order */
    struct wire_mark *marks;
    size_t mark, n_marks, marks_room;
    /* the message that is arriving */
    size_t got;
    unsigned n_fds;
    int fds[WIRE_MAX_FDS];
    unsigned extra_fds; /* came on top and were closed */
    uint8_t in[VU_HEADER_SIZE + VU_MAX_PAYLOAD];
};

/* A whole message. payload and fds are valid until the next wire_pull(). */
struct wire_message {
    struct vu_header header;
    const uint8_t *payload;
    const int *fds; /* still the wire's own: see wire_take_fd() */
    unsigned n_fds; /* all that came, also those that were closed at once */
};

/* Take over the connected socket fd, which becomes non-blocking. There is no
 * helper then. */
void wire_init(struct wire *wire, int fd);

/* Close the socket and all descriptors that arrived, without waiting where
 * there is a helper. Safe to repeat. */
void wire_fini(struct wire *wire);

/*
 * Queue one message of size bytes, and n_fds descriptors that stay the
 * caller's and must stay open until they are sent. Nothing is sent yet.
 *   -ENOMEM  out of memory
 */
int wire_put(struct wire *wire, uint32_t request, uint32_t flags,
             const void *payload, size_t size, const int *fds, unsigned n_fds);

/* The descriptors of the last message that was put with any become the wire's,
 * which closes them when they are sent, or at its end. */
void wire_own(struct wire *wire);

/*
 * Send what is queued, as much as the socket takes without waiting.
 *   -EAGAIN  the socket is full; poll for POLLOUT
 *   -EPIPE   and others: the connection is gone
 */
int wire_flush(struct wire *wire);

/*
 * Take the next message if all of it is there.
 *   -EAGAIN  not yet; poll for POLLIN
 *   -EPIPE   the peer hung up, err says whether in the middle of a message
 *   -EPROTO  larger than any message may be, or descriptors were cut off
 *   -EMFILE  too many descriptors that came before cannot be closed
 *   other    what recvmsg said
 */
int wire_pull(struct wire *wire, struct wire_message *message,
              struct husk_err *err);

/* Take descriptor index out of the message: it is the caller's to close. */
int wire_take_fd(struct wire *wire, unsigned index);

#endif
