/*
 * Buffered output. The descriptor is made non-blocking where that does not
 * disturb others who share it: a socket is sent to without waiting, a pipe or
 * terminal is opened anew; a file never blocks.
 */
#include "vmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/machine/sys.h"

#define RETRY 1024 /* bytes that are dropped between tries to write */

void console_init(struct console *console, void (*wake)(void *ctx), void *ctx)
{
    memset(console, 0, sizeof *console);
    pthread_mutex_init(&console->lock, NULL);
    console->fd = -1;
    console->wake = wake;
    console->ctx = ctx;
}

static void close_fd(struct console *console)
{
    if (console->restore)
        fcntl(console->fd, F_SETFL, fcntl(console->fd, F_GETFL) & ~O_NONBLOCK);
    console->restore = false;
    sys_close(&console->fd);
}

void console_fini(struct console *console)
{
    close_fd(console);
    free(console->buffer);
    console->buffer = NULL;
    pthread_mutex_destroy(&console->lock);
}

/* A description of its own for a pipe or terminal, so that O_NONBLOCK is
 * husk's alone. */
static int reopen(int fd, const struct stat *st)
{
    char path[32];

    if (!S_ISFIFO(st->st_mode) && !(S_ISCHR(st->st_mode) && isatty(fd)))
        return -EINVAL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Whether both are the same terminal: a pty's master opened anew is not. */
static bool same(int fd, const struct stat *st)
{
    struct stat other;

    return fstat(fd, &other) == 0 && other.st_dev == st->st_dev &&
           other.st_ino == st->st_ino &&
           !(S_ISCHR(st->st_mode) && st->st_rdev == 0x502);
}

int console_open(struct console *console, int fd)
{
    struct stat st;
    int opened, flags;

    close_fd(console);
    console->gone = false; /* that was another reader */
    if (fd < 0)
        return 0;
    /* here, so that no vCPU's thread gets an arena of malloc's for it */
    if (!console->buffer)
        console->buffer = malloc(CONSOLE_BUFFER);
    if (!console->buffer)
        return -ENOMEM;
    if (fstat(fd, &st) < 0)
        return -errno;
    console->is_socket = S_ISSOCK(st.st_mode);
    console->is_file = S_ISREG(st.st_mode);
    opened = reopen(fd, &st);
    if (opened >= 0 && same(opened, &st)) {
        console->fd = opened;
        return 0;
    }
    if (opened >= 0)
        close(opened);
    console->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (console->fd < 0)
        return -errno;
    flags = fcntl(console->fd, F_GETFL);
    if (!console->is_socket && !S_ISREG(st.st_mode) && !(flags & O_NONBLOCK)) {
        console->restore = true;
        fcntl(console->fd, F_SETFL, flags | O_NONBLOCK);
    }
    return 0;
}

/* write() without the SIGPIPE that a reader who has gone would cause: the
 * program's handling of it is not the library's to change. */
static ssize_t write_quietly(int fd, const void *data, size_t size)
{
    const struct timespec now = { 0, 0 };
    sigset_t pipe, before;
    ssize_t n;
    int code;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    n = write(fd, data, size);
    code = errno;
    if (!sigismember(&before, SIGPIPE)) { /* a vCPU's thread blocks it */
        if (n < 0 && code == EPIPE)
            sigtimedwait(&pipe, NULL, &now);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    errno = code;
    return n;
}

static ssize_t write_some(struct console *console, const void *data,
                          size_t size)
{
    ssize_t n;

    do {
        n = console->is_socket
                ? send(console->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                : write_quietly(console->fd, data, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void drop_locked(struct console *console)
{
    console->dropped += console->count;
    console->count = 0;
}

static int flush_locked(struct console *console)
{
    while (console->count && !console->gone) {
        size_t run = CONSOLE_BUFFER - console->first;
        ssize_t n = write_some(console, console->buffer + console->first,
                               console->count < run ? console->count : run);

        if (n == -EAGAIN || n == -EWOULDBLOCK)
            return -EAGAIN;
        if (n < 0) {
            console->gone = true;
            break;
        }
        console->first = (console->first + (size_t)n) % CONSOLE_BUFFER;
        console->count -= (size_t)n;
    }
    if (console->gone)
        drop_locked(console);
    return 0;
}

int console_flush(struct console *console)
{
    int rc;

    pthread_mutex_lock(&console->lock);
    rc = flush_locked(console);
    pthread_mutex_unlock(&console->lock);
    return rc;
}

int console_descriptor(const struct console *console)
{
    return console->fd;
}

size_t console_waiting(struct console *console)
{
    size_t count;

    pthread_mutex_lock(&console->lock);
    count = console->count;
    pthread_mutex_unlock(&console->lock);
    return count;
}

void console_drop(struct console *console)
{
    pthread_mutex_lock(&console->lock);
    drop_locked(console);
    pthread_mutex_unlock(&console->lock);
}

void console_put(struct console *console, uint8_t byte)
{
    bool wake = false;

    pthread_mutex_lock(&console->lock);
    if (!console->spoke) {
        console->spoke = true;
        console->first_byte = sys_now();
    }
    /* full: perhaps the loop has not come round to writing yet; but a reader
     * that has stopped is not asked for every byte */
    if (console->count == CONSOLE_BUFFER && console->stuck % RETRY == 0)
        flush_locked(console);
    if (!console->buffer || console->gone || console->count == CONSOLE_BUFFER) {
        console->stuck++;
        if (console->fd >= 0)
            console->dropped++;
    } else {
        console->stuck = 0;
        wake = console->count == 0;
        console->buffer[(console->first + console->count++) % CONSOLE_BUFFER] =
            byte;
        /* what can be written at once need not wait until the loop's turn */
        if (wake && !console->is_file)
            wake = flush_locked(console) == -EAGAIN;
    }
    pthread_mutex_unlock(&console->lock);
    if (wake)
        console->wake(console->ctx);
}
