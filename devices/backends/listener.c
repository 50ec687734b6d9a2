/*
 * Unix sockets by path. Refuses to replace the socket of a program that still
 * listens, to replace a file of another kind, and to shorten a path that does
 * not fit into an address.
 */
#include "devices/backends/listener.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backends/complain.h"

static int fill_address(struct sockaddr_un *addr, const char *option,
                        const char *path)
{
    size_t length = strlen(path);

    *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (!length || length >= sizeof addr->sun_path)
        return complain("--%s=%s: a socket's path has 1 to %zu bytes, not %zu",
                        option, path, sizeof addr->sun_path - 1, length);
    memcpy(addr->sun_path, path, length);
    return 0;
}

/* Whether a program still listens there. */
static bool in_use(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool used =
        fd >= 0 && (!connect(fd, (const struct sockaddr *)addr, sizeof *addr) ||
                    errno == EAGAIN);

    if (fd >= 0)
        close(fd);
    return used;
}

int listener_open(struct listener *l, const char *option, const char *path)
{
    struct sockaddr_un addr;
    struct stat st;

    if (fill_address(&addr, option, path) < 0)
        return -1;
    if (!lstat(path, &st)) {
        if (!S_ISSOCK(st.st_mode))
            return complain("--%s=%s: a file that is no socket is there: give "
                            "another path or remove it",
                            option, path);
        if (in_use(&addr))
            return complain("--%s=%s: another program listens there", option,
                            path);
        unlink(path);
    }
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return complain("--%s=%s: socket: %s", option, path, strerror(errno));
    if (bind(l->fd, (const struct sockaddr *)&addr, sizeof addr) < 0)
        return complain("--%s=%s: %s", option, path, strerror(errno));
    if (!lstat(path, &st)) {
        l->path = path;
        l->device = st.st_dev;
        l->inode = st.st_ino;
    }
    if (listen(l->fd, 8) < 0)
        return complain("--%s=%s: %s", option, path, strerror(errno));
    return 0;
}

void listener_close(struct listener *l)
{
    struct stat st;

    if (l->path && !lstat(l->path, &st) && st.st_ino == l->inode &&
        st.st_dev == l->device)
        unlink(l->path);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    l->path = NULL;
}

int listener_connect(const char *option, const char *path)
{
    struct sockaddr_un addr;

    if (fill_address(&addr, option, path) < 0)
        return -1;

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return complain("--%s=%s: socket: %s", option, path, strerror(errno));
    if (connect(fd, (const struct sockaddr *)&addr, sizeof addr) < 0) {
        complain("--%s=%s: %s%s", option, path, strerror(errno),
                 errno == ECONNREFUSED || errno == ENOENT
                     ? " (start the peer first)"
                     : "");
        close(fd);
        return -1;
    }
    return fd;
}
