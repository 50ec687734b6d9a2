/*
 * What the functions that act on vhost-user requests have in common. Each acts
 * on session->in, whose size and number of descriptors have been checked.
 */

#ifndef HUSK_BACKENDS_REQUEST_H
#define HUSK_BACKENDS_REQUEST_H

#include "devices/backends/session.h"

enum answer {
    OK,
    DECLINED, /* perhaps because of the driver: an answer, if one is wanted */
    REFUSED,  /* the front-end broke a rule, and complain() said which */
    ANSWERED, /* session_reply() was called */
    WAIT,     /* chains must come back first */
};

enum answer request_reply(struct session *s, const void *data, size_t size);
enum answer request_reply_u64(struct session *s, uint64_t value);

/* Complain about the request. Returns REFUSED. */
enum answer request_refuse(const struct session *s, const char *why);

uint64_t request_u64(const struct session *s);

/* The device goes back to its initial state; the connection stays. */
enum answer request_reset(struct session *s);

#endif
