/*
 * Input files. They are read and not mapped: access to a mapped file that was
 * cut short raises SIGBUS. See file.h.
 */
#include "vmm/machine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/machine/fail.h"

/* A read of one file, and what its messages need. */
struct reading {
    const struct file_kind *kind;
    const char *path;
    struct husk_err *err;
    int fd;
};

static int fail_errno(const struct reading *reading, int error)
{
    return fail(reading->err, -error, "%s%s: %s", reading->kind->prefix,
                reading->path, strerror(error));
}

static const char *type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO or pipe";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
        return "a character device";
    case S_IFBLK:
        return "a block device";
    default:
        return "something else";
    }
}

static int check_type(const struct reading *reading, const struct stat *st)
{
    if (S_ISREG(st->st_mode))
        return 0;
    return fail(reading->err, -EINVAL,
                "%s%s is %s, not a regular file: give the path of a file",
                reading->kind->prefix, reading->path, type_name(st->st_mode));
}

static int check_size(const struct reading *reading, const struct stat *st)
{
    const struct file_kind *kind = reading->kind;

    if (st->st_size == 0)
        return fail(reading->err, -EINVAL,
                    "%s%s is empty: give a file with content", kind->prefix,
                    reading->path);
    if ((uint64_t)st->st_size > kind->limit)
        return fail(reading->err, -EFBIG,
                    "%s%s has %jd bytes, at most %" PRIu64 " are possible: %s",
                    kind->prefix, reading->path, (intmax_t)st->st_size,
                    kind->limit, kind->remedy);
    return 0;
}

/*
 * The type is looked at before open() too: to open a device can have effects of
 * its own, and some drivers wait in open() whatever the flags are. What is
 * opened in the end may be another file; O_NONBLOCK is for a FIFO in its place.
 */
static int open_regular(struct reading *reading, struct stat *st)
{
    int rc;

    if (stat(reading->path, st) < 0)
        return fail_errno(reading, errno);
    if ((rc = check_type(reading, st)) < 0)
        return rc;
    reading->fd =
        open(reading->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (reading->fd < 0 || fstat(reading->fd, st) < 0)
        return fail_errno(reading, errno);
    if ((rc = check_type(reading, st)) < 0)
        return rc;
    return check_size(reading, st);
}

/* *done is less than size where the file ends before. */
static int read_content(const struct reading *reading, uint8_t *data,
                        size_t size, size_t *done)
{
    *done = 0;
    while (*done < size) {
        ssize_t n = read(reading->fd, data + *done, size - *done);

        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return fail_errno(reading, errno);
        if (n > 0)
            *done += (size_t)n;
    }
    return 0;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Whoever writes to a file changes its size or its time of modification. */
static int check_unchanged(const struct reading *reading,
                           const struct stat *before, size_t done)
{
    struct stat after;

    if (fstat(reading->fd, &after) < 0)
        return fail_errno(reading, errno);
    if (done == (size_t)before->st_size && after.st_size == before->st_size &&
        same_time(after.st_mtim, before->st_mtim))
        return 0;
    return fail(reading->err, -ETXTBSY,
                "%s%s was written to while it was read (%jd bytes before, %jd "
                "after): try again when it is complete",
                reading->kind->prefix, reading->path, (intmax_t)before->st_size,
                (intmax_t)after.st_size);
}

static int read_all(struct reading *reading, struct file *file)
{
    struct stat st;
    size_t done;
    void *data;
    int rc;

    if ((rc = open_regular(reading, &st)) < 0)
        return rc;
    file->size = (size_t)st.st_size;
    file->data = data = malloc(file->size);
    if (!data)
        return fail(reading->err, -ENOMEM, "%s%s: no memory for its %zu bytes",
                    reading->kind->prefix, reading->path, file->size);
    if ((rc = read_content(reading, data, file->size, &done)) < 0)
        return rc;
    return check_unchanged(reading, &st, done);
}

int file_read(struct file *file, const struct file_kind *kind, const char *path,
              struct husk_err *err)
{
    struct reading reading = {
        .kind = kind, .path = path, .err = err, .fd = -1
    };
    int rc;

    *file = (struct file){ .name = path };
    rc = read_all(&reading, file);
    if (reading.fd >= 0)
        close(reading.fd);
    if (rc < 0)
        file_free(file);
    return rc;
}

void file_free(struct file *file)
{
    free((void *)(uintptr_t)file->data);
    file->data = NULL;
    file->size = 0;
}
