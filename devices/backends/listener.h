/*
 * A listening unix socket at a path, which is removed at the end.
 */
#ifndef HUSK_BACKENDS_LISTENER_H
#define HUSK_BACKENDS_LISTENER_H

#include <sys/types.h>

struct listener {
    int fd;           /* -1: none */
    const char *path; /* bound by us; NULL: nothing to remove */
    dev_t device;     /* what was bound, so that no other is removed */
    ino_t inode;
};

/*
 * Bind and listen, for the option that gave the path. A socket file at which no
 * program listens is replaced. path must stay valid. 0, or -1 after complain().
 */
int listener_open(struct listener *listener, const char *option,
                  const char *path);

/* Close, and remove the file. Any state. */
void listener_close(struct listener *listener);

/* Connect to the path. The descriptor, or -1 after complain(). */
int listener_connect(const char *option, const char *path);

#endif
