/*
 * What a back-end can send that never closes, and doorbells that it keeps full:
 * whoever asks the helper is never held up, and nothing is left behind in the
 * end.
 */
#include "devices/helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/wire.h"
#include "tests/unit/far.h"
#include "tests/unit/fuse.h"

#define SOON                                                                   \
    1.0 /* seconds; far less than what these descriptors would take            \
         */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static unsigned entries(const char *path)
{
    DIR *folder = opendir(path);
    unsigned n = 0;

    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static unsigned threads(void)
{
    return entries("/proc/self/task");
}

/* Until as many descriptors are open as there were. */
static void await_fds(unsigned n)
{
    for (double end = now() + 10; far_open_fds() != n && now() < end;)
        nap();
    cr_assert_eq(far_open_fds(), n, "%u descriptors, not %u", far_open_fds(),
                 n);
}

/* A TCP socket whose close() waits for a minute: *reader does not read. */
static int lingering(int *reader)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    struct linger linger = { .l_onoff = 1, .l_linger = 60 };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
    static char bytes[65536];

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&address, &size);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, size), 0);
    *reader = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(*reader, 0);
    close(listener);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    return fd;
}

/* A byte with that descriptor attached. */
static void send_fd(int socket, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr align;
    } control = { .bytes = "" };
    struct iovec iov = { (char[1]){ 0 }, 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
    cr_assert_eq(sendmsg(socket, &msg, MSG_NOSIGNAL), 1);
}

/* close() of it would wait; the helper's owner does not, at the end either. */
Test(helper, socket_that_lingers, .timeout = 20)
{
    for (unsigned freed = 0; freed < 2; freed++) {
        unsigned opened = far_open_fds();
        struct helper *helper;
        double begun;
        int reader, fd = lingering(&reader);

        cr_assert_eq(helper_new(&helper), 0);
        begun = now();
        helper_close(helper, fd);
        if (freed)
            helper_free(helper);
        cr_assert_lt(now() - begun, SOON);
        close(reader); /* resets the connection: it can be closed */
        await_fds(opened);
        if (!freed)
            helper_free(helper);
        cr_assert_lt(now() - begun, 10 * SOON);
    }
}

/* It was never received: it is closed with the socket that holds it. */
Test(helper, socket_that_lingers_unread, .timeout = 20)
{
    unsigned opened = far_open_fds();
    struct helper *helper;
    struct wire wire;
    double begun;
    int reader, fd = lingering(&reader), far;

    cr_assert_eq(helper_new(&helper), 0);
    wire_init(&wire, far_open(&far));
    wire.helper = helper;
    send_fd(far, fd);
    close(fd);
    begun = now();
    wire_fini(&wire);
    helper_free(helper);
    cr_assert_lt(now() - begun, SOON);
    cr_assert_lt(send(far, "", 1, MSG_NOSIGNAL), 0, "more can be sent to it");
    close(reader);
    close(far);
    await_fds(opened);
}

/* Whoever serves the file leaves its close() unanswered. */
Test(helper, file_of_a_dead_file_system, .timeout = 20)
{
    unsigned opened = far_open_fds();
    struct helper *helper;
    const char *why;
    struct fuse fuse;
    struct wire wire;
    double begun;
    int far;

    if (!fuse_begin(&fuse, &why))
        cr_skip_test("%s", why);
    cr_assert_eq(helper_new(&helper), 0);
    fuse_die(&fuse);
    wire_init(&wire, far_open(&far));
    wire.helper = helper;
    send_fd(far, fuse.file);
    begun = now();
    helper_close(helper, dup(fuse.file));
    wire_fini(&wire);
    while (!fuse.unanswered && now() - begun < SOON)
        nap();
    cr_assert_gt(fuse.unanswered, 0, "close() asks nobody: this shows nothing");
    begun = now();
    helper_free(helper);
    cr_assert_lt(now() - begun, SOON);
    fuse_end(&fuse);
    close(fuse.file);
    close(far);
    await_fds(opened);
}

/* What cannot wait is closed at once, and needs no thread. */
Test(helper, plain_files, .timeout = 10)
{
    struct helper *helper;
    unsigned before = threads(), opened = far_open_fds();
    int far, near = far_open(&far), fd = memfd_create("plain", MFD_CLOEXEC);

    cr_assert_eq(helper_new(&helper), 0);
    helper_close(helper, fd);
    helper_hang_up(helper, near);
    close(far);
    cr_assert_eq(far_open_fds(), opened);
    cr_assert_eq(threads(), before);
    helper_free(helper);
}

/* A back-end that sends more of them than can be closed is cut off. */
Test(helper, too_many, .timeout = 30)
{
    unsigned opened = far_open_fds(), n = 0, running = threads();
    struct wire_message message;
    struct helper *helper;
    struct husk_err err;
    struct wire wire;
    int reader, fd = lingering(&reader), far, rc;

    cr_assert_eq(helper_new(&helper), 0);
    wire_init(&wire, far_open(&far));
    wire.helper = helper;
    helper_close(helper, fd);
    fd = eventfd(0, EFD_CLOEXEC);
    do {
        const struct vu_header header = { 1, VU_VERSION, 0 };

        send_fd(far, fd);
        cr_assert_eq(send(far, (const char *)&header + 1, sizeof header - 1, 0),
                     sizeof header - 1);
        rc = wire_pull(&wire, &message, &err);
    } while (rc != -EMFILE && ++n < 1000);
    cr_assert_eq(rc, -EMFILE, "%d after %u descriptors", rc, n);
    cr_assert_leq(far_open_fds(), opened + 512);
    cr_assert_leq(threads(), running + 1);
    close(reader);
    for (double end = now() + 10; helper_is_stuck(helper) && now() < end;)
        nap();
    wire_fini(&wire);
    helper_free(helper);
    close(far);
    close(fd);
    await_fds(opened);
}

struct attack {
    int fd;
    atomic_bool over;
};

/* Keeps the description blocking; the counter is full. */
static void *keep_blocking(void *arg)
{
    struct attack *attack = arg;

    while (!atomic_load(&attack->over))
        fcntl(attack->fd, F_SETFL, 0);
    return NULL;
}

/* A write() that fcntl() comes before blocks within milliseconds of this. */
Test(helper, doorbell_that_is_kept_full, .timeout = 30)
{
    struct attack attack = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    unsigned opened = far_open_fds(), rings = 0;
    struct helper *helper;
    uint64_t most = UINT64_MAX - 1;
    double longest = 0;
    pthread_t thread;

    cr_assert_eq(helper_new(&helper), 0);
    cr_assert_eq(write(attack.fd, &most, sizeof most), 8);
    pthread_create(&thread, NULL, keep_blocking, &attack);
    for (double end = now() + 2; now() < end; rings++) {
        double begun = now();

        helper_ring(helper, attack.fd);
        if (now() - begun > longest)
            longest = now() - begun;
    }
    cr_assert_lt(longest, SOON, "%u rings, one of them %g s", rings, longest);
    atomic_store(&attack.over, true);
    pthread_join(thread, NULL);
    fcntl(attack.fd, F_SETFL, 0);
    helper_ring(helper, attack.fd);
    helper_retire(helper, dup(attack.fd));
    helper_free(helper);
    for (uint64_t count; far_open_fds() != opened;) { /* it can go on */
        ssize_t n = read(attack.fd, &count, sizeof count);

        (void)n;
    }
    close(attack.fd);
}

/* Every ring arrives, though many may be one. */
Test(helper, rings_arrive, .timeout = 30)
{
    int bell[8];
    struct helper *helper;
    unsigned opened, running = threads();
    uint64_t count;

    cr_assert_eq(helper_new(&helper), 0);
    for (unsigned i = 0; i < 8; i++)
        bell[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned turn = 0; turn < 500; turn++) {
        for (unsigned i = 0; i < 8; i++)
            helper_ring(helper, bell[i]);
        for (unsigned i = 0; i < 8; i++) {
            double end = now() + 5;

            while (read(bell[i], &count, sizeof count) < 0 && now() < end)
                sched_yield();
            cr_assert_lt(now(), end, "turn %u, eventfd %u", turn, i);
        }
    }
    cr_assert_leq(threads(), running + 1);
    /* it ends when there is nothing to do, and begins again */
    for (double end = now() + 5; threads() != running && now() < end;)
        nap();
    cr_assert_eq(threads(), running);
    helper_ring(helper, bell[0]);
    fcntl(bell[0], F_SETFL, 0);
    cr_assert_eq(read(bell[0], &count, sizeof count), 8);
    opened = far_open_fds();
    for (unsigned i = 0; i < 8; i++)
        helper_retire(helper, bell[i]);
    helper_free(helper);
    await_fds(opened - 8);
}

/* A number that was retired may be another descriptor's: it is not rung. */
Test(helper, retired_numbers, .timeout = 30)
{
    unsigned opened = far_open_fds();
    struct helper *helper;

    cr_assert_eq(helper_new(&helper), 0);
    for (unsigned turn = 0; turn < 3000; turn++) {
        int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), other;
        uint64_t count;

        helper_ring(helper, bell);
        if (turn % 3)
            sched_yield();
        helper_retire(helper, bell);
        other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (turn % 2)
            sched_yield();
        cr_assert_lt(read(other, &count, sizeof count), 0, "turn %u", turn);
        close(other);
    }
    helper_free(helper);
    await_fds(opened);
}
