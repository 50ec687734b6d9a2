/* See input.h. The end of standard input ends nothing. */
#include "vmm/cmd/input.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE 0x01 /* Ctrl-A */

struct cmd_input {
    struct husk_vm *vm;
    struct ev_loop *loop;
    ev_io watcher;
    ev_signal stop, cont; /* job control */
    bool terminal;        /* and it is raw */
    bool escaped;         /* the last byte was Ctrl-A */
    bool paused;          /* held is not empty: nothing is read */
    uint8_t held[512];    /* read, not taken by the guest yet */
    size_t first, count;
};

/* Global for the signal handler. */
static struct termios before;
static volatile sig_atomic_t raw;

static void restore(void)
{
    if (raw) {
        raw = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    }
}

/* husk has crashed: restore the terminal, then end by the same signal. */
static void on_fatal(int number)
{
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

static void make_raw(void)
{
    struct termios now = before;

    cfmakeraw(&now);
    raw = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &now);
}

static void offer(struct cmd_input *input)
{
    ssize_t taken = husk_vm_console_input(input->vm, input->held + input->first,
                                          input->count);

    if (taken > 0) {
        input->first += (size_t)taken;
        input->count -= (size_t)taken;
    }
    if (input->count == 0 && input->paused) {
        input->paused = false;
        ev_io_start(input->loop, &input->watcher);
    } else if (input->count && !input->paused) {
        input->paused = true;
        ev_io_stop(input->loop, &input->watcher);
    }
}

/* Ctrl-A x ends the run, Ctrl-A a is a Ctrl-A. Returns the bytes that are left
 * for the guest. */
static size_t take_escapes(struct cmd_input *input, uint8_t *data, size_t size)
{
    size_t kept = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = data[i];

        if (input->escaped) {
            input->escaped = false;
            if (byte == 'x') {
                husk_vm_stop(input->vm);
                return 0;
            }
            if (byte == 'a')
                byte = ESCAPE;
        } else if (byte == ESCAPE) {
            input->escaped = true;
            continue;
        }
        data[kept++] = byte;
    }
    return kept;
}

static void on_input(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct cmd_input *input = watcher->data;
    ssize_t n = read(STDIN_FILENO, input->held, sizeof input->held);

    (void)revents;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        ev_io_stop(loop, watcher);
        return;
    }
    input->first = 0;
    input->count = (size_t)n;
    if (input->terminal)
        input->count = take_escapes(input, input->held, (size_t)n);
    offer(input);
}

static void on_stop(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    (void)loop;
    (void)watcher;
    (void)revents;
    restore();
    raise(SIGSTOP);
}

static void on_cont(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    (void)loop;
    (void)watcher;
    (void)revents;
    if (tcgetpgrp(STDIN_FILENO) == getpgrp())
        make_raw();
}

/* Make the terminal raw, until restore(). */
static void take_terminal(struct cmd_input *input)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE };
    struct sigaction action = { .sa_handler = on_fatal };

    input->terminal = true;
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        sigaction(fatal[i], &action, NULL);
    ev_signal_init(&input->stop, on_stop, SIGTSTP);
    ev_signal_init(&input->cont, on_cont, SIGCONT);
    ev_signal_start(input->loop, &input->stop);
    ev_signal_start(input->loop, &input->cont);
    atexit(restore);
    make_raw();
}

struct cmd_input *cmd_input_start(struct husk_vm *vm, struct ev_loop *loop)
{
    struct cmd_input *input = calloc(1, sizeof *input);

    if (!input)
        return NULL;
    input->vm = vm;
    input->loop = loop;
    ev_io_init(&input->watcher, on_input, STDIN_FILENO, EV_READ);
    input->watcher.data = input;
    if (tcgetattr(STDIN_FILENO, &before) == 0) {
        /* in the background: another job reads from this terminal */
        if (tcgetpgrp(STDIN_FILENO) != getpgrp())
            return input;
        take_terminal(input);
    } else if (lseek(STDIN_FILENO, 0, SEEK_CUR) < 0 && errno == EBADF) {
        return input; /* there is no standard input */
    }
    ev_io_start(loop, &input->watcher);
    return input;
}

void cmd_input_room(struct cmd_input *input)
{
    if (input && input->count)
        offer(input);
}

void cmd_input_stop(struct cmd_input *input)
{
    if (!input)
        return;
    ev_io_stop(input->loop, &input->watcher);
    if (input->terminal) {
        ev_signal_stop(input->loop, &input->stop);
        ev_signal_stop(input->loop, &input->cont);
    }
    restore();
    free(input);
}
