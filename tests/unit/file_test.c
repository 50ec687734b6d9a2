/*
 * Input files: what is refused and in which words, and files that change while
 * they are opened or read.
 */
#include "vmm/machine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/folder.h"
#include "vmm/link/spec.h"

#define MIB 0x100000u

static const struct file_kind kind = { "thing ", 4 * MIB, "make it shorter" };

static struct folder folder;
static const char *const path = folder.file[0], *const other = folder.file[1];

static void setup(void)
{
    folder_init(&folder);
}

static void teardown(void)
{
    folder_fini(&folder);
}

/* Without a file that is read at last, the alarm ends the case. */
TestSuite(file, .init = setup, .fini = teardown, .timeout = 60);

static void make_sparse(const char *name, off_t size)
{
    folder_write(name, "", 0);
    cr_assert_eq(truncate(name, size), 0);
}

/* Fails with code, and with a text of "thing PATH" and then words. */
static void check_refused(const char *name, int code, const char *words)
{
    struct file file;
    struct husk_err err;
    char text[256];

    alarm(20);
    cr_assert_eq(file_read(&file, &kind, name, &err), code, "%s", err.text);
    alarm(0);
    snprintf(text, sizeof text, "thing %s%s", name, words);
    cr_assert_str_eq(err.text, text);
    cr_assert_eq(err.code, code);
    cr_assert_null(file.data);
    cr_assert_eq(file.size, 0);
}

Test(file, is_read_whole)
{
    struct file file;
    struct husk_err err;

    folder_write(path, "a\0b", 3);
    cr_assert_eq(file_read(&file, &kind, path, &err), 0, "%s", err.text);
    cr_assert_str_eq(file.name, path);
    cr_assert_eq(file.size, 3);
    cr_assert_arr_eq(file.data, "a\0b", 3);
    file_free(&file);
    cr_assert_null(file.data);
    file_free(&file);
}

Test(file, limit_is_exact)
{
    struct file file;
    struct husk_err err;

    make_sparse(path, 4 * MIB);
    cr_assert_eq(file_read(&file, &kind, path, &err), 0, "%s", err.text);
    cr_assert_eq(file.size, 4 * MIB);
    file_free(&file);
    make_sparse(path, 4 * MIB + 1);
    check_refused(path, -EFBIG,
                  " has 4194305 bytes, at most 4194304 are possible: make it "
                  "shorter");
}

Test(file, that_is_none)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check_refused(path, -ENOENT, ": No such file or directory");
    folder_write(path, "", 0);
    check_refused(path, -EINVAL, " is empty: give a file with content");
    check_refused(folder.path, -EINVAL,
                  " is a directory, not a regular file: give the path of a "
                  "file");
    check_refused("/dev/null", -EINVAL,
                  " is a character device, not a regular file: give the path "
                  "of a file");
    check_refused("/dev/ptmx", -EINVAL,
                  " is a character device, not a regular file: give the path "
                  "of a file");
    strcpy(address.sun_path, other);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    check_refused(other, -EINVAL,
                  " is a socket, not a regular file: give the path of a file");
    close(fd);
}

Test(file, fifo_without_a_writer)
{
    cr_assert_eq(mkfifo(path, 0600), 0);
    check_refused(path, -EINVAL,
                  " is a FIFO or pipe, not a regular file: give the path of a "
                  "file");
}

Test(file, config_space_is_never_a_fifo)
{
    char text[256];
    struct spec spec;
    struct husk_err err;

    cr_assert_eq(mkfifo(path, 0600), 0);
    snprintf(text, sizeof text, "socket=x,config=@%s", path);
    alarm(20);
    cr_assert_eq(spec_parse(&spec, text, 3, &err), -EINVAL);
    alarm(0);
    snprintf(text, sizeof text,
             "device 3: config=@%s is a FIFO or pipe, not a regular file: "
             "give the path of a file",
             path);
    cr_assert_str_eq(err.text, text);
    spec_fini(&spec);
}

/* What a second thread does to the files until it is told to end. */
struct worker {
    pthread_t thread;
    void (*step)(void);
    atomic_bool end;
};

static void *work(void *arg)
{
    struct worker *worker = arg;

    while (!atomic_load(&worker->end))
        worker->step();
    return NULL;
}

static void worker_start(struct worker *worker, void (*step)(void))
{
    worker->step = step;
    atomic_init(&worker->end, false);
    cr_assert_eq(pthread_create(&worker->thread, NULL, work, worker), 0);
}

static void worker_end(struct worker *worker)
{
    atomic_store(&worker->end, true);
    pthread_join(worker->thread, NULL);
}

static void exchange(void)
{
    renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
}

/* A FIFO takes the file's place between the look at it and its opening. */
Test(file, turns_into_a_fifo)
{
    unsigned files = 0, fifos = 0;
    struct worker worker;

    folder_write(path, "content", 7);
    cr_assert_eq(mkfifo(other, 0600), 0);
    worker_start(&worker, exchange);
    for (unsigned n = 0; n < 200000 && (files < 500 || fifos < 500); n++) {
        struct husk_err err;
        struct file file;
        int rc;

        alarm(20);
        rc = file_read(&file, &kind, path, &err);
        alarm(0);
        if (rc == 0) {
            cr_assert_eq(file.size, 7);
            files++;
        } else {
            cr_assert_eq(rc, -EINVAL, "%s", err.text);
            cr_assert_not_null(strstr(err.text, "a FIFO"), "%s", err.text);
            fifos++;
        }
        file_free(&file);
    }
    worker_end(&worker);
    cr_assert(files >= 500 && fifos >= 500, "%u files, %u FIFOs", files, fifos);
}

static void cut_and_regrow(void)
{
    cr_assert_eq(truncate(path, 0), 0);
    cr_assert_eq(truncate(path, 4 * MIB), 0);
}

Test(file, is_cut_and_regrown_while_it_is_read)
{
    unsigned changed = 0;
    struct worker worker;

    make_sparse(path, 4 * MIB);
    worker_start(&worker, cut_and_regrow);
    for (unsigned n = 0; n < 1000000 && changed < 50; n++) {
        struct husk_err err;
        struct file file;
        int rc = file_read(&file, &kind, path, &err);

        if (rc == 0)
            cr_assert_eq(file.size, 4 * MIB);
        else if (rc == -ETXTBSY)
            changed++;
        else
            cr_assert(rc == -EINVAL && strstr(err.text, "is empty"), "%s",
                      err.text);
        file_free(&file);
    }
    worker_end(&worker);
    cr_assert_geq(changed, 50);
}

static void overwrite(void)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    cr_assert_eq(pwrite(fd, "x", 1, MIB / 2), 1);
    close(fd);
}

/* Its size stays as it is. */
Test(file, is_overwritten_while_it_is_read)
{
    struct worker worker;
    int rc = 0;

    make_sparse(path, MIB);
    worker_start(&worker, overwrite);
    for (unsigned n = 0; n < 5000 && rc == 0; n++) {
        struct husk_err err;
        struct file file;

        rc = file_read(&file, &kind, path, &err);
        file_free(&file);
    }
    worker_end(&worker);
    cr_assert_eq(rc, -ETXTBSY, "%d", rc);
}

static void append(void)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

    cr_assert_eq(write(fd, "x", 1), 1);
    close(fd);
}

Test(file, grows_while_it_is_read)
{
    int rc = 0;
    struct husk_err err;
    struct worker worker;

    make_sparse(path, MIB);
    worker_start(&worker, append);
    for (unsigned n = 0; n < 5000 && rc == 0; n++) {
        struct file file;

        rc = file_read(&file, &kind, path, &err);
        file_free(&file);
    }
    worker_end(&worker);
    cr_assert_eq(rc, -ETXTBSY, "%d", rc);
    cr_assert_not_null(strstr(err.text, " was written to while it was read ("),
                       "%s", err.text);
}
