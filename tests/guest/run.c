/*
 * Programs under way: pipes or a terminal around them, a limit on their time,
 * and a signal that ends them with the case. All pumping is done in one poll
 * loop, so that neither side ever waits for the other.
 */
#include "tests/guest/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int records; /* of this case, so far */

double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void nap(double seconds)
{
    struct timespec t = { .tv_sec = (time_t)seconds };

    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

static void open_terminal(int *ours, int *theirs)
{
    const char *name;

    *ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(*ours >= 0 && grantpt(*ours) == 0 && unlockpt(*ours) == 0);
    name = ptsname(*ours);
    *theirs = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(*theirs >= 0, "%s: %s", name, strerror(errno));
}

static void plain_signals(void)
{
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const struct run *run, const char *const *argv, int in,
                   int out, int err)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    plain_signals();
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (run->pty) {
        setsid();
        ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    }
    execvp(argv[0], (char *const *)(const void *)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

void run_start(struct run *run, const char *const *argv)
{
    int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2];

    run->in_fd = run->out_fd = run->err_fd = -1;
    run->in_done = run->out_size = run->err_size = 0;
    cr_assert(pipe2(err, O_CLOEXEC) == 0);
    if (run->pty) {
        open_terminal(&run->out_fd, &in[0]);
        out[1] = fcntl(in[0], F_DUPFD_CLOEXEC, 3);
    } else {
        cr_assert(pipe2(out, O_CLOEXEC) == 0);
        run->out_fd = out[0];
        if (run->in || run->hold_in)
            cr_assert(pipe2(in, O_CLOEXEC) == 0);
        else
            in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        run->in_fd = in[1];
        if (in[1] >= 0)
            fcntl(in[1], F_SETFL, O_NONBLOCK);
    }
    run->err_fd = err[0];
    run->began = now();
    run->pid = fork();
    cr_assert(run->pid >= 0);
    if (run->pid == 0)
        become(run, argv, in[0], out[1], err[1]);
    close(in[0]);
    close(out[1]);
    close(err[1]);
}

/* More output; false at its end. */
static bool take(int *fd, char **text, size_t *size)
{
    char *grown = realloc(*text, *size + 65537);
    ssize_t n;

    cr_assert(grown);
    *text = grown;
    n = read(*fd, grown + *size, 65536);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        n = 0;
    else if (n <= 0) { /* a terminal without its far end says EIO */
        close(*fd);
        *fd = -1;
        n = 0;
    }
    *size += (size_t)n;
    grown[*size] = 0;
    return *fd >= 0;
}

static void feed(struct run *run)
{
    size_t left = run->in_size - run->in_done;
    ssize_t n = left ? write(run->in_fd, run->in + run->in_done, left) : 0;

    if (n > 0)
        run->in_done += (size_t)n;
    if ((n < 0 && errno != EAGAIN) ||
        (run->in_done == run->in_size && !run->hold_in)) {
        close(run->in_fd);
        run->in_fd = -1;
    }
}

static void over(struct run *run)
{
    kill(run->pid, SIGKILL);
    waitpid(run->pid, NULL, 0);
    cr_assert_fail("not at its end after %g s; stdout '%.500s' stderr '%s'",
                   now() - run->began, run->out ? run->out : "",
                   run->err ? run->err : "");
}

/* Whatever can be done now, waiting up to ms; false: all output has ended. */
static bool pump(struct run *run, int ms)
{
    bool more = run->in_fd >= 0 && run->in_done < run->in_size;
    struct pollfd polled[3] = {
        { .fd = run->keep_out ? -1 : run->out_fd, .events = POLLIN },
        { .fd = run->err_fd, .events = POLLIN },
        { .fd = more ? run->in_fd : -1, .events = POLLOUT },
    };

    if (run->in_fd >= 0 && !more)
        feed(run);
    if (polled[0].fd < 0 && polled[1].fd < 0)
        return false;
    if (now() - run->began > (run->limit > 0 ? run->limit : LIMIT))
        over(run);
    poll(polled, 3, ms);
    if (polled[0].revents)
        take(&run->out_fd, &run->out, &run->out_size);
    if (polled[1].revents)
        take(&run->err_fd, &run->err, &run->err_size);
    if (polled[2].revents)
        feed(run);
    return true;
}

bool run_until(struct run *run, const char *text)
{
    while (!run->out || !strstr(run->out, text))
        if (!pump(run, 50) || run->out_fd < 0)
            return run->out && strstr(run->out, text);
    return true;
}

bool run_until_said(struct run *run, const char *text, unsigned times)
{
    while (!run->err || count_text(run->err, text) < times)
        if (!pump(run, 50) || run->err_fd < 0)
            return run->err && count_text(run->err, text) >= times;
    return true;
}

void run_type(struct run *run, const char *text)
{
    int fd = run->pty ? run->out_fd : run->in_fd;

    cr_assert(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void reap(struct run *run)
{
    int status;

    while (waitpid(run->pid, &status, WNOHANG) == 0) {
        if (now() - run->began > (run->limit > 0 ? run->limit : LIMIT))
            over(run);
        nap(0.001);
    }
    run->seconds = now() - run->began;
    run->signalled = WIFSIGNALED(status);
    run->status = run->signalled ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* There is none if husk was killed: the file is made first, and filled last. */
static void read_record(struct run *run)
{
    json_error_t error;
    struct stat st;

    json_decref(run->record);
    run->record = NULL;
    if (!run->record_path || stat(run->record_path, &st) < 0 ||
        (st.st_size == 0 && run->signalled))
        return;
    run->record = json_load_file(run->record_path, 0, &error);
    cr_assert(run->record, "the record: line %d: %s", error.line, error.text);
}

void run_end(struct run *run)
{
    while (pump(run, 50))
        ;
    reap(run);
    if (run->keep_out && run->out_fd >= 0)
        while (take(&run->out_fd, &run->out, &run->out_size))
            ;
    if (run->in_fd >= 0)
        close(run->in_fd);
    run->in_fd = -1;
    if (!run->out)
        run->out = calloc(1, 1);
    if (!run->err)
        run->err = calloc(1, 1);
    read_record(run);
}

void run_free(struct run *run)
{
    free(run->out);
    free(run->err);
    json_decref(run->record);
    memset(run, 0, sizeof *run);
}

void run_argv(struct run *run, const char *const *argv)
{
    run_start(run, argv);
    run_end(run);
}

void start_husk_argv(struct run *run, const char *const *args)
{
    const char *argv[160] = { built("husk"), "run", "--json" };
    size_t n = 4;

    argv[3] = run->record_path = fmt("%s", place(fmt("record%d", ++records)));
    for (; *args && n < sizeof argv / sizeof argv[0] - 1; args++)
        argv[n++] = *args;
    run_start(run, argv);
}

void run_husk_argv(struct run *run, const char *const *args)
{
    start_husk_argv(run, args);
    run_end(run);
}
