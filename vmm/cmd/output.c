/* Output files. See output.h. */
#include "vmm/cmd/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 5 /* seconds that a reader has to take what is written */

static const struct {
    const char *option;
    bool terminal; /* whether its file may be a terminal */
} kinds[CMD_OUTPUTS] = {
    [CMD_OUTPUT_JSON] = { "--json", false },
    [CMD_OUTPUT_DTB] = { "--dump-dtb", false },
    [CMD_OUTPUT_CONSOLE] = { "--console", true },
};

static bool is_stdout(const char *path)
{
    return path && !strcmp(path, "-");
}

/* The path of an output, or NULL where nothing will be written to it. */
static const char *path_of(const struct cmd_options *options,
                           enum cmd_output output)
{
    const char *path = options->output[output];

    if (output != CMD_OUTPUT_CONSOLE)
        return path;
    if (options->output[CMD_OUTPUT_DTB])
        return NULL; /* nothing boots */
    return path ? path : "-";
}

/* At most one output has standard output. */
static int check_stdout(const struct cmd_options *options, struct husk_err *err)
{
    int owner = -1;

    for (int i = 0; i < CMD_OUTPUTS; i++) {
        if (!is_stdout(path_of(options, (enum cmd_output)i)))
            continue;
        if (owner < 0)
            owner = i;
        else if (i == CMD_OUTPUT_CONSOLE)
            return cmd_refuse(err, -EINVAL,
                              "%s -: the guest's console has standard output: "
                              "give --console FILE, or %s a file",
                              kinds[owner].option, kinds[owner].option);
        else
            return cmd_refuse(err, -EINVAL,
                              "%s - and %s - both need standard output: give "
                              "one of them a file",
                              kinds[owner].option, kinds[i].option);
    }
    return 0;
}

/* Why path could not be opened for writing. */
static int refuse_open(const char *option, const char *path, int code,
                       struct husk_err *err)
{
    struct stat st;
    const char *why = strerror(code);

    if (code == ENXIO && stat(path, &st) == 0) {
        if (S_ISFIFO(st.st_mode))
            why = "no process has this FIFO open for reading: start its "
                  "reader first";
        else if (S_ISSOCK(st.st_mode))
            why = "this is a socket: give a file";
    }
    return cmd_refuse(err, -code, "%s %.150s: %s", option, path, why);
}

/*
 * Standard output, written to without waiting: a pipe or a terminal is opened
 * anew, since O_NONBLOCK would otherwise be set for all who share it. For the
 * console the library does the same.
 */
static int open_stdout(enum cmd_output output)
{
    struct stat st;
    int fd = -1;

    if (output == CMD_OUTPUT_CONSOLE)
        return STDOUT_FILENO;
    if (fstat(STDOUT_FILENO, &st) == 0 &&
        (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
        fd = open("/proc/self/fd/1",
                  O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd;
}

/* What is wrong with an open file of this kind, or NULL. */
static const char *check_kind(int fd, bool terminal)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return strerror(errno);
    if (S_ISBLK(st.st_mode))
        return "this is a block device: give a file";
    if (!terminal && isatty(fd))
        return "this is a terminal: give a file, or - for standard output";
    return NULL;
}

static int open_output(struct cmd_outputs *outputs,
                       const struct cmd_options *options,
                       enum cmd_output output, struct husk_err *err)
{
    const char *path = path_of(options, output);
    const char *option = kinds[output].option, *why;
    int fd;

    if (!path)
        return 0;
    if (is_stdout(path))
        fd = open_stdout(output);
    else
        fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                  0666);
    if (fd < 0)
        return refuse_open(option, path, errno, err);
    why = is_stdout(path) ? NULL : check_kind(fd, kinds[output].terminal);
    if (why) {
        close(fd);
        return cmd_refuse(err, -EINVAL, "%s %.150s: %s", option, path, why);
    }
    outputs->fds[output] = fd;
    return 0;
}

/* Whether both are one file or pipe, in which one would overwrite the other. */
static bool same_file(int one, int other)
{
    struct stat a, b;

    return one >= 0 && other >= 0 && fstat(one, &a) == 0 &&
           fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino && (S_ISREG(a.st_mode) || S_ISFIFO(a.st_mode));
}

static int check_same(const struct cmd_outputs *outputs,
                      const struct cmd_options *options, struct husk_err *err)
{
    for (int i = 0; i < CMD_OUTPUTS; i++)
        for (int k = 0; k < i; k++)
            if (same_file(outputs->fds[i], outputs->fds[k]))
                return cmd_refuse(
                    err, -EINVAL,
                    "%s %.80s and %s %.80s are the same file: "
                    "give two",
                    kinds[k].option, path_of(options, (enum cmd_output)k),
                    kinds[i].option, path_of(options, (enum cmd_output)i));
    return 0;
}

/* What an earlier run left in a file is not taken for this run's. */
static void empty_file(const struct cmd_outputs *outputs,
                       const struct cmd_options *options,
                       enum cmd_output output)
{
    struct stat st;
    int fd = outputs->fds[output];

    if (fd >= 0 && !is_stdout(path_of(options, output)) &&
        fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        ftruncate(fd, 0) < 0)
        return; /* an append-only file: what is written comes behind */
}

static void close_output(int *fd)
{
    if (*fd > STDERR_FILENO)
        close(*fd);
    *fd = -1;
}

int cmd_outputs_open_json(struct cmd_outputs *outputs,
                          const struct cmd_options *options,
                          struct husk_err *err)
{
    int rc = 0;

    for (int i = 0; i < CMD_OUTPUTS; i++)
        outputs->fds[i] = -1;
    if (is_stdout(options->output[CMD_OUTPUT_JSON]))
        rc = check_stdout(options, err);
    if (rc == 0)
        rc = open_output(outputs, options, CMD_OUTPUT_JSON, err);
    if (rc == 0)
        empty_file(outputs, options, CMD_OUTPUT_JSON);
    return rc;
}

int cmd_outputs_open(struct cmd_outputs *outputs,
                     const struct cmd_options *options, struct husk_err *err)
{
    struct husk_err second; /* of the record's file; the first is reported */
    int rc = check_stdout(options, err);

    if (rc < 0) {
        cmd_outputs_open_json(outputs, options, &second);
        return rc;
    }
    for (int i = 0; i < CMD_OUTPUTS; i++)
        outputs->fds[i] = -1;
    for (int i = 0; i < CMD_OUTPUTS && rc == 0; i++)
        rc = open_output(outputs, options, (enum cmd_output)i, err);
    if (rc == 0)
        rc = check_same(outputs, options, err);
    for (int i = 0; i < CMD_OUTPUTS; i++)
        if (rc == 0 || i == CMD_OUTPUT_JSON)
            empty_file(outputs, options, (enum cmd_output)i);
        else
            close_output(&outputs->fds[i]);
    return rc;
}

void cmd_outputs_close(struct cmd_outputs *outputs)
{
    for (int i = 0; i < CMD_OUTPUTS; i++)
        close_output(&outputs->fds[i]);
}

static int64_t milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A write that does not wait: at most what a pipe that is writable takes. */
static ssize_t write_some(int fd, const char *data, size_t size)
{
    ssize_t n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK)
        n = write(fd, data, size < 512 ? size : 512);
    return n < 0 ? -errno : n;
}

static int write_all(int fd, const char *data, size_t size)
{
    int64_t end = milliseconds() + PATIENCE * 1000;

    while (size > 0) {
        struct pollfd polled = { .fd = fd, .events = POLLOUT };
        int64_t left = end - milliseconds();
        ssize_t n;

        if (left <= 0 || poll(&polled, 1, (int)left) == 0)
            return -ETIMEDOUT;
        n = write_some(fd, data, size);
        if (n < 0 && n != -EINTR && n != -EAGAIN)
            return (int)n;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int cmd_output_write(const struct cmd_outputs *outputs,
                     const struct cmd_options *options, enum cmd_output output,
                     const void *data, size_t size, struct husk_err *err)
{
    int rc = write_all(outputs->fds[output], data, size);

    if (rc == -ETIMEDOUT)
        return cmd_refuse(err, rc,
                          "writing %s %.150s: its reader did not read it "
                          "within %d s",
                          kinds[output].option, path_of(options, output),
                          PATIENCE);
    if (rc < 0)
        return cmd_refuse(err, rc, "writing %s %.150s: %s",
                          kinds[output].option, path_of(options, output),
                          strerror(-rc));
    return 0;
}
