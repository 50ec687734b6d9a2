/*
 * A device's SPEC: a socket's path, or key=value pairs and at last exec=, as
 * the README lists them.
 */
#ifndef HUSK_VMM_LINK_SPEC_H
#define HUSK_VMM_LINK_SPEC_H

#include <stddef.h>

#include "devices/probe.h"
#include "husk.h"
#include "vmm/link/peer.h"

/* How a back-end that is started finds its front-end. */
enum spec_link {
    SPEC_CONNECTED, /* {fd}: a connected socket's number */
    SPEC_LISTENING, /* {listen}: a bound, listening socket's number */
    SPEC_PATH,      /* {socket}: a path that it will listen on */
};

struct spec {
    char name[32];
    char *socket;          /* path to connect to, or NULL */
    struct peer_rule peer; /* who may listen on socket */
    char **argv;           /* command to start, NULL-terminated, or NULL */
    enum spec_link link;
    char **env; /* of the command: NAME or NAME=VALUE each; or NULL */
    char *dir;  /* the command's working folder, or NULL: as husk's */
    struct probe_given given;
    uint8_t *config;       /* what given.config points to */
    double deadline, wait; /* seconds */
    uint64_t shm;          /* bytes that its shared memory may have */
    double reconnect;      /* seconds to try for; 0: off, INFINITY: for ever */
};

/*
 * Parse text for device number index, whose default name is "virtio<index>".
 *   -EINVAL  err says what is wrong, and what would be right
 *   -ENOMEM  out of memory
 */
int spec_parse(struct spec *spec, const char *text, unsigned index,
               struct husk_err *err);

/* Free what spec_parse() made, also after it failed. */
void spec_fini(struct spec *spec);

#endif
