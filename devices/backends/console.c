/*
 * husk-console: VIRTIO 1.2 section 5.3, one port, on a file, this terminal or
 * these pipes, a pseudo-terminal, or a socket. While the output takes no bytes
 * the transmit queue waits, and no byte is lost or sent twice. While no peer is
 * connected (no client, pseudo-terminal not open) output is dropped, since a
 * guest may spin until its console took a line. On a terminal Ctrl-A x ends the
 * program and Ctrl-A Ctrl-A is one Ctrl-A.
 *
 * A few lines over 500: transmit, receive and the peer's coming and going work
 * on the same fields and call one another.
 */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backends/backlog.h"
#include "devices/backends/listener.h"
#include "devices/backends/runtime.h"
#include "devices/backends/terminal.h"

#define F_SIZE        (UINT64_C(1) << 0)
#define F_EMERG_WRITE (UINT64_C(1) << 2)

enum { CONFIG_COLS = 0, CONFIG_ROWS = 2, CONFIG_EMERG = 8, CONFIG_SIZE = 12 };
enum { RECEIVE, TRANSMIT };
enum mode { NONE, TO_FILE, STDIO, PTY, SOCKET };

#define MAX_PIECES   64
#define LOOK_SECONDS 0.1 /* how often a pseudo-terminal is looked at */

struct console {
    struct device *dev;
    enum mode mode;
    const char *path;
    bool fixed_size; /* --size */
    int in, out;     /* -1: no peer, or its end */
    int pty;         /* our side of it */
    struct listener listener;
    bool is_terminal, escaped;
    struct termios before; /* of the terminal, if is_terminal */

    struct queue *tx;
    struct chain *chain; /* being sent, done bytes of it are */
    size_t done;
    struct backlog backlog; /* goes first */

    ev_io readable, writable, accept;
    ev_timer look;
    ev_signal winch;
};

/* Sockets and pseudo-terminals can get another peer later. */
static void lose_peer(struct console *con)
{
    struct ev_loop *loop = con->dev->loop;

    ev_io_stop(loop, &con->readable);
    ev_io_stop(loop, &con->writable);
    if (con->mode == SOCKET) {
        close(con->out);
        ev_io_start(loop, &con->accept);
    }
    con->in = con->out = -1;
}

static void watch_input(struct console *con)
{
    if (con->in < 0 || !device_queue(con->dev, RECEIVE))
        return;
    ev_io_stop(con->dev->loop, &con->readable);
    ev_io_set(&con->readable, con->in, EV_READ);
    ev_io_start(con->dev->loop, &con->readable);
}

static void meet_peer(struct console *con, int fd)
{
    con->in = con->out = fd;
    watch_input(con);
}

/* Accept the client that waits, if there is one. */
static void let_in(struct console *con)
{
    int fd =
        accept4(con->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    ev_io_stop(con->dev->loop, &con->accept);
    meet_peer(con, fd);
}

/* transmit */

/* The bytes that the output took; all of them if there is no peer. -1: wait. */
static ssize_t put(struct console *con, const struct iovec *iov, unsigned n)
{
    size_t total = 0;

    for (unsigned i = 0; i < n; i++)
        total += iov[i].iov_len;
    while (con->out >= 0) {
        ssize_t done = writev(con->out, iov, (int)n);

        if (done >= 0)
            return done;
        if (errno == EAGAIN) {
            ev_io_stop(con->dev->loop, &con->writable);
            ev_io_set(&con->writable, con->out, EV_WRITE);
            ev_io_start(con->dev->loop, &con->writable);
            return -1;
        }
        if (errno == EINTR)
            continue;
        if (con->mode != SOCKET && con->mode != PTY)
            complain("output: %s; all further output is dropped",
                     strerror(errno));
        lose_peer(con);
        /*
         * That a client left is noticed only here if the guest takes no input.
         * The next client gets no rest of what this one had in part.
         */
        if (con->mode == SOCKET && !con->done && !con->backlog.size)
            let_in(con);
    }
    return (ssize_t)total;
}

/* Send what there is; true: all of it is sent. */
static bool send_out(struct console *con)
{
    while (con->backlog.size) {
        struct iovec iov = { con->backlog.bytes, con->backlog.size };
        ssize_t n = put(con, &iov, 1);

        if (n < 0)
            return false;
        backlog_drop(&con->backlog, (size_t)n);
    }
    while (con->chain) {
        struct iovec iov[MAX_PIECES];
        unsigned n = iov_slice(iov, MAX_PIECES, con->chain->readable,
                               con->chain->n_readable, con->done, SIZE_MAX);
        ssize_t done = n ? put(con, iov, n) : 0;

        if (done < 0)
            return false;
        con->done += (size_t)done;
        if (con->done < con->chain->readable_size)
            continue;
        queue_give(con->tx, con->chain, 0);
        con->chain = NULL;
    }
    ev_io_stop(con->dev->loop, &con->writable);
    return true;
}

/* The peer disconnected: drop what it did not take; the queue goes on. */
static void hang_up(struct console *con)
{
    lose_peer(con);
    if (send_out(con) && con->tx)
        queue_wake(con->tx);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct console *con = w->data;

    (void)loop, (void)events;
    if (send_out(con) && con->tx)
        queue_wake(con->tx);
}

static void transmit(struct console *con, struct queue *queue)
{
    con->tx = queue;
    while (send_out(con)) {
        con->chain = queue_take(queue);
        con->done = 0;
        if (!con->chain)
            return;
    }
    queue_hold(queue);
}

/* receive */

/* Read into a chain: bytes, 0 if none of them count, -1: there are none. */
static ssize_t get(struct console *con, const struct chain *chain)
{
    char text[4096];
    size_t room = chain->writable_size;
    ssize_t n = read(con->in, text, room < sizeof text ? room : sizeof text);

    if (n > 0) {
        size_t kept = (size_t)n;
        bool quit = false;

        if (con->is_terminal)
            kept = terminal_unescape(&con->escaped, text, kept, &quit);
        if (quit)
            raise(SIGTERM);
        return (ssize_t)chain_write(chain, 0, text, kept);
    }
    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0 && errno == EAGAIN) {
        watch_input(con);
    } else if (con->mode == SOCKET || con->mode == PTY) {
        hang_up(con);
    } else {
        con->in = -1; /* the end of input ends nothing */
    }
    return -1;
}

static void receive(struct console *con, struct queue *queue)
{
    while (con->in >= 0) {
        struct chain *chain = queue_take(queue);

        if (!chain)
            return; /* input waits for the guest's buffers */

        ssize_t n = chain->writable_size ? get(con, chain) : 0;

        if (n > 0 || !chain->writable_size) {
            queue_give(queue, chain, (uint32_t)n);
        } else {
            queue_return(queue, chain);
            if (n < 0)
                break;
        }
    }
    queue_hold(queue); /* buffers wait for input */
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct console *con = w->data;
    struct queue *queue = device_queue(con->dev, RECEIVE);

    (void)events;
    ev_io_stop(loop, w);
    if (queue)
        queue_wake(queue);
}

static void console_start(struct queue *queue)
{
    struct console *con = queue_device(queue)->state;

    if (queue_index(queue) == RECEIVE) {
        queue_hold(queue);
        watch_input(con);
    }
}

static void console_stop(struct queue *queue)
{
    struct console *con = queue_device(queue)->state;

    if (queue_index(queue) == RECEIVE) {
        ev_io_stop(con->dev->loop, &con->readable);
        return;
    }
    if (con->chain) {
        backlog_add(&con->backlog, con->chain, con->done);
        queue_give(queue, con->chain, 0);
    }
    con->chain = NULL;
    con->tx = NULL;
}

static void console_handle(struct queue *queue)
{
    struct console *con = queue_device(queue)->state;

    if (queue_index(queue) == RECEIVE)
        receive(con, queue);
    else
        transmit(con, queue);
}

/* 5.3.4: a character without a queue; dropped if it cannot be sent now. */
static int console_write_config(struct device *dev, uint32_t offset,
                                const void *data, uint32_t size)
{
    struct console *con = dev->state;
    struct iovec iov = { .iov_len = 1 };
    uint8_t byte;

    if (offset != CONFIG_EMERG || !size)
        return -EPERM;
    memcpy(&byte, data, 1);
    iov.iov_base = &byte;
    if (!con->backlog.size && !con->chain)
        put(con, &iov, 1);
    return 0;
}

/* size */

static void set_size(struct console *con, unsigned cols, unsigned rows)
{
    struct device *dev = con->dev;
    uint8_t before[4];

    memcpy(before, dev->config + CONFIG_COLS, sizeof before);
    device_put16(dev, CONFIG_COLS, (uint16_t)cols);
    device_put16(dev, CONFIG_ROWS, (uint16_t)rows);
    if (memcmp(before, dev->config + CONFIG_COLS, sizeof before) != 0)
        device_config_changed(dev);
}

static void look_at_size(struct console *con, int fd)
{
    uint16_t cols, rows;

    if (!con->fixed_size && terminal_size(fd, &cols, &rows))
        set_size(con, cols, rows);
}

static void on_winch(struct ev_loop *loop, ev_signal *w, int events)
{
    struct console *con = w->data;

    (void)loop, (void)events;
    look_at_size(con, STDIN_FILENO);
}

/* peers */

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop, (void)events;
    let_in(w->data);
}

/* No event reports that a pseudo-terminal was opened or resized. */
static void on_look(struct ev_loop *loop, ev_timer *w, int events)
{
    struct console *con = w->data;
    bool connected = terminal_connected(con->pty);

    (void)loop, (void)events;
    look_at_size(con, con->pty);
    if (connected && con->out < 0)
        meet_peer(con, con->pty);
    else if (!connected && con->out >= 0)
        hang_up(con);
}

/* opening and closing */

static int open_file(struct console *con)
{
    con->out =
        open(con->path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC,
             0666);
    if (con->out < 0)
        return complain("--file=%s: %s%s", con->path, strerror(errno),
                        errno == ENXIO ? " (a FIFO: start its reader first)"
                                       : "");
    return 0;
}

static int open_stdio(struct console *con)
{
    con->in = terminal_own(STDIN_FILENO, O_RDONLY);
    con->out = terminal_own(STDOUT_FILENO, O_WRONLY);
    if (con->out < 0)
        return complain("--stdio: standard output: %s", strerror(errno));

    int rc = terminal_raw(STDIN_FILENO, &con->before);

    if (rc <= 0)
        return rc;
    con->is_terminal = true;
    look_at_size(con, STDIN_FILENO);
    ev_signal_init(&con->winch, on_winch, SIGWINCH);
    con->winch.data = con;
    ev_signal_start(con->dev->loop, &con->winch);
    return 0;
}

static int open_pty(struct console *con)
{
    con->pty = terminal_open_pty();
    if (con->pty < 0)
        return -1;
    look_at_size(con, con->pty);
    ev_timer_init(&con->look, on_look, 0., LOOK_SECONDS);
    con->look.data = con;
    ev_timer_start(con->dev->loop, &con->look);
    return 0;
}

static int open_socket(struct console *con)
{
    if (listener_open(&con->listener, "unix", con->path) < 0)
        return -1;
    ev_io_init(&con->accept, on_accept, con->listener.fd, EV_READ);
    con->accept.data = con;
    ev_io_start(con->dev->loop, &con->accept);
    return 0;
}

static int console_init(struct device *dev)
{
    struct console *con = dev->state;

    con->dev = dev;
    ev_init(&con->readable, on_readable);
    ev_init(&con->writable, on_writable);
    con->readable.data = con->writable.data = con;

    int rc = con->mode == TO_FILE ? open_file(con)
             : con->mode == STDIO ? open_stdio(con)
             : con->mode == PTY   ? open_pty(con)
             : con->mode == SOCKET
                 ? open_socket(con)
                 : complain("give one of --file, --stdio, --pty "
                            "and --unix (see --help)");

    if (con->fixed_size || con->is_terminal || con->mode == PTY)
        dev->shape.features |= F_SIZE;
    dev->config[4] = 1; /* max_nr_ports */
    return rc;
}

static void console_fini(struct device *dev)
{
    struct console *con = dev->state;

    if (con->is_terminal)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &con->before);
    listener_close(&con->listener);
    backlog_clear(&con->backlog);
}

static int set_mode(struct device *dev, enum mode mode, const char *path)
{
    struct console *con = dev->state;

    if (con->mode != NONE)
        return complain("give only one of --file, --stdio, --pty and --unix");
    con->mode = mode;
    con->path = path;
    return 0;
}

static int set_file(struct device *dev, const char *value)
{
    return set_mode(dev, TO_FILE, value);
}

static int set_stdio(struct device *dev, const char *value)
{
    return set_mode(dev, STDIO, value);
}

static int set_pty(struct device *dev, const char *value)
{
    return set_mode(dev, PTY, value);
}

static int set_unix(struct device *dev, const char *value)
{
    return set_mode(dev, SOCKET, value);
}

static int set_fixed_size(struct device *dev, const char *value)
{
    struct console *con = dev->state;
    unsigned cols, rows;
    char end;

    if (sscanf(value, "%5ux%5u%c", &cols, &rows, &end) != 2 || cols > 65535 ||
        rows > 65535)
        return complain("--size=%s: give COLUMNSxROWS, such as 80x24", value);
    con->fixed_size = true;
    device_put16(dev, CONFIG_COLS, (uint16_t)cols);
    device_put16(dev, CONFIG_ROWS, (uint16_t)rows);
    return 0;
}

static const struct backend_option options[] = {
    { "file", "PATH", "append output to that file", set_file },
    { "stdio", NULL, "this terminal, or standard input and output", set_stdio },
    { "pty", NULL, "a new pseudo-terminal, whose name is printed", set_pty },
    { "unix", "PATH", "listen there, for one client at a time", set_unix },
    { "size", "COLSxROWS", "the size in config space; the terminal's",
      set_fixed_size },
    { 0 },
};

static const struct backend console = {
    .type = "console",
    .about = "A console",
    .options = options,
    .shape = { .id = 3,
               .config_size = CONFIG_SIZE,
               .min_vqs = 2,
               .max_vqs = 2,
               .features = F_EMERG_WRITE },
    .init = console_init,
    .fini = console_fini,
    .start = console_start,
    .stop = console_stop,
    .handle = console_handle,
    .write_config = console_write_config,
};

int main(int argc, char **argv)
{
    static struct console state = {
        .in = -1, .out = -1, .pty = -1, .listener = { .fd = -1 }
    };

    return backend_main(&console, &state, argc, argv);
}
