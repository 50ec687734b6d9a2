/*
 * Terminals and pseudo-terminals; see terminal.h.
 */
#include "devices/backends/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backends/complain.h"

#define ESCAPE 1 /* Ctrl-A */

int terminal_own(int fd, int flags)
{
    char path[32];
    struct stat st;
    int copy = -1;

    if (fstat(fd, &st) < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode))
        copy = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (copy < 0 && (copy = fcntl(fd, F_DUPFD_CLOEXEC, 3)) >= 0)
        fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    return copy;
}

int terminal_raw(int fd, struct termios *before)
{
    struct termios raw;

    if (tcgetattr(fd, before) < 0)
        return 0;
    raw = *before;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSANOW, &raw) < 0)
        return complain("terminal: %s", strerror(errno));
    return 1;
}

/*
 * Give the other side its mode and size. It is opened and closed once by that,
 * without which a side that was never open cannot be told from an open one.
 */
static int prepare_pty(const char *name)
{
    struct winsize size = { .ws_col = 80, .ws_row = 24 };
    struct termios raw;
    int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || tcgetattr(fd, &raw) < 0) {
        complain("%s: %s", name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    ioctl(fd, TIOCSWINSZ, &size);
    close(fd);
    return 0;
}

int terminal_open_pty(void)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    const char *name;

    if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 || !(name = ptsname(fd)))
        complain("--pty: %s", strerror(errno));
    else if (prepare_pty(name) == 0) {
        printf("%s\n", name);
        fflush(stdout);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

bool terminal_connected(int pty)
{
    struct pollfd p = { .fd = pty };

    poll(&p, 1, 0);
    return !(p.revents & POLLHUP);
}

bool terminal_size(int fd, uint16_t *cols, uint16_t *rows)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        return false;
    *cols = size.ws_col;
    *rows = size.ws_row;
    return true;
}

size_t terminal_unescape(bool *escaped, char *text, size_t size, bool *quit)
{
    size_t kept = 0;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (!*escaped && c == ESCAPE) {
            *escaped = true;
            continue;
        }
        if (*escaped && c == 'x')
            *quit = true;
        else
            text[kept++] = c;
        *escaped = false;
    }
    return kept;
}
