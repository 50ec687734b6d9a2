/*
 * A back-end gets all of the guest's memory. In a folder that several users
 * can write to, any of them may have created the socket, so the user behind it
 * is checked at each connection. The kernel records that user at listen().
 */
#include "vmm/link/peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/machine/fail.h"

bool peer_is_allowed(const struct peer_rule *rule, uid_t peer, uid_t own)
{
    return rule->any || peer == own || peer == 0 ||
           (rule->has_uid && peer == rule->uid);
}

int peer_check(int fd, const struct peer_rule *rule, const char *name,
               const char *path, struct husk_err *err)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return fail(err, -errno, "%s: the user of %s: %s", name, path,
                    strerror(errno));
    if (peer_is_allowed(rule, peer.uid, geteuid()))
        return 0;
    return fail(err, -EPERM,
                "%s: user %u listens on %s, neither this user (%u) nor root: "
                "peer-uid=%u allows it",
                name, (unsigned)peer.uid, path, (unsigned)geteuid(),
                (unsigned)peer.uid);
}
