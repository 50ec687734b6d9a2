/* Whose a socket is: the user that listens on it. */
#ifndef HUSK_VMM_LINK_PEER_H
#define HUSK_VMM_LINK_PEER_H

#include <stdbool.h>
#include <sys/types.h>

#include "husk.h"

/* Whom a socket may belong to besides this process's user and root. */
struct peer_rule {
    bool any;     /* any user */
    bool has_uid; /* the user uid */
    uid_t uid;
};

/* Whether a process of user own may connect to a socket of user peer. */
bool peer_is_allowed(const struct peer_rule *rule, uid_t peer, uid_t own);

/*
 * Check the user that called listen() on the socket that fd is connected to.
 * name and path are for err.
 *   -EPERM  the rule does not allow that user
 *   -errno  as of getsockopt()
 */
int peer_check(int fd, const struct peer_rule *rule, const char *name,
               const char *path, struct husk_err *err);

#endif
