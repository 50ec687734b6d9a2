/*
 * The console's output: to pipes, sockets, files and terminals, whose readers
 * are slow, stopped or gone. Nothing waits, memory stays what it is, and every
 * byte is either written, in order, or counted as dropped.
 */
#include "vmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/deadline.h"
#include "tests/unit/far.h"

#define SECONDS UINT64_C(1000000000)

static unsigned wakes;

static void on_wake(void *ctx)
{
    (void)ctx;
    wakes++;
}

static void put(struct console *console, const char *text)
{
    for (; *text; text++)
        console_put(console, (uint8_t)*text);
}

/* A terminal passes on what is written in its own time, and in pieces. */
static void expect_text(int fd, const char *want)
{
    size_t size = strlen(want), got = 0;
    char text[256] = "";

    while (got < size) {
        ssize_t n = read(fd, text + got, size - got);

        cr_assert_gt(n, 0, "%zu bytes of '%s'", got, want);
        got += (size_t)n;
    }
    cr_assert_str_eq(text, want);
}

/* Two ends of each kind; the console gets the second. */
static void ends(unsigned kind, int fd[2])
{
    cr_assert_eq(kind ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd)
                      : pipe2(fd, O_CLOEXEC),
                 0);
}

/* Read and flush until nothing is left on either side. */
static void drain(int fd, struct console *console)
{
    static uint8_t bytes[65536];

    while (console_flush(console) == -EAGAIN)
        cr_assert_gt(read(fd, bytes, sizeof bytes), 0);
    while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) > 0)
        cr_assert_gt(read(fd, bytes, sizeof bytes), 0);
}

Test(console, writes, .timeout = 60)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        unsigned opened = far_open_fds();
        struct console console;
        int fd[2];

        ends(kind, fd);
        wakes = 0;
        console_init(&console, on_wake, NULL);
        cr_assert_eq(console_open(&console, fd[1]), 0);
        /* what can be written at once is, and nobody is woken for it */
        put(&console, "hello\n");
        expect_text(fd[0], "hello\n");
        cr_assert_eq(wakes, 0, "woken %u times", wakes);
        cr_assert_eq(console_flush(&console), 0);
        /* what is left asks for a flush, once */
        for (unsigned i = 0; i < CONSOLE_BUFFER; i++)
            console_put(&console, 'x');
        while (console.count < 100)
            console_put(&console, 'x');
        cr_assert_eq(wakes, 1, "woken %u times", wakes);
        drain(fd[0], &console);
        put(&console, "again");
        expect_text(fd[0], "again");
        cr_assert_eq(wakes, 1, "woken %u times", wakes);
        cr_assert_eq(console.dropped, 0);
        /* what was given is still its owner's, and as it was */
        cr_assert_eq(fcntl(fd[1], F_GETFL) & O_NONBLOCK, 0);
        console_fini(&console);
        cr_assert_eq(fcntl(fd[1], F_GETFL) & O_NONBLOCK, 0);
        cr_assert_eq(write(fd[1], "x", 1), 1);
        close(fd[0]);
        close(fd[1]);
        cr_assert_eq(far_open_fds(), opened);
    }
}

Test(console, to_a_file, .timeout = 60)
{
    char path[] = "/tmp/husk-console-XXXXXX", text[8] = "";
    struct console console;
    int fd = mkstemp(path);

    cr_assert_geq(fd, 0);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(write(fd, "old ", 4), 4);
    cr_assert_eq(console_open(&console, fd), 0);
    wakes = 0;
    put(&console, "new");
    cr_assert_eq(wakes, 1, "the loop is not told");
    cr_assert_eq(pread(fd, text, 7, 0), 4, "written by a vCPU");
    cr_assert_eq(console_flush(&console), 0);
    cr_assert_eq(pread(fd, text, 7, 0), 7);
    cr_assert_str_eq(text, "old new", "not where the file stood");
    cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    console_fini(&console);
    close(fd);
    unlink(path);
}

/* No descriptor: nothing is kept, and nothing counts. */
Test(console, nowhere, .timeout = 60)
{
    struct console console;

    wakes = 0;
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, -1), 0);
    put(&console, "hello");
    cr_assert_eq(console_flush(&console), 0);
    cr_assert(console.first_byte);
    cr_assert_eq(console.dropped, 0);
    cr_assert_null(console.buffer);
    cr_assert_eq(wakes, 0);
    cr_assert_eq(console_open(&console, 9999), -EBADF);
    console_fini(&console);
}

static long resident(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    long size, pages;

    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%ld %ld", &size, &pages), 2);
    fclose(file);
    return pages;
}

/* A reader that has stopped: all of it comes and goes, and no memory is used
 * for it. */
Test(console, reader_stopped, .timeout = 120)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        const uint64_t total = UINT64_C(100) << 20 >> 2 * kind;
        struct console console;
        uint64_t got = 0;
        long before = 0;
        int fd[2];

        ends(kind, fd);
        console_init(&console, on_wake, NULL);
        cr_assert_eq(console_open(&console, fd[1]), 0);
        for (uint64_t i = 0; i < total; i++) {
            if (i == 4 * CONSOLE_BUFFER)
                before = resident();
            console_put(&console, (uint8_t)(i % 251));
        }
        cr_assert_leq(resident() - before, 64, "%ld pages more",
                      resident() - before);
        cr_assert_eq(console.count, CONSOLE_BUFFER);
        cr_assert_eq(console_flush(&console), -EAGAIN);
        /* it reads again: what was kept is what came first */
        cr_assert_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
        for (;;) {
            uint8_t bytes[4096];
            ssize_t n = read(fd[0], bytes, sizeof bytes);

            if (n <= 0) {
                if (console_flush(&console) == 0 && console.count == 0 &&
                    recv(fd[0], bytes, 1, MSG_DONTWAIT | MSG_PEEK) <= 0 &&
                    poll(&(struct pollfd){ .fd = fd[0], .events = POLLIN }, 1,
                         0) == 0)
                    break;
                continue;
            }
            for (ssize_t i = 0; i < n; i++, got++)
                cr_assert_eq(bytes[i], got % 251, "byte %llu",
                             (unsigned long long)got);
        }
        cr_assert_geq(got, CONSOLE_BUFFER);
        cr_assert_eq(got + console.dropped, total);
        /* and it goes on */
        put(&console, "on");
        cr_assert_eq(console_flush(&console), 0);
        expect_text(fd[0], "on");
        console_fini(&console);
        close(fd[0]);
        close(fd[1]);
    }
}

/* The buffer is full and the loop does not come round: the guest's own bytes
 * find out that the reader reads again. */
Test(console, reader_goes_on, .timeout = 60)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        struct console console;
        uint8_t bytes[4096];
        unsigned n = 0;
        int fd[2];

        ends(kind, fd);
        console_init(&console, on_wake, NULL);
        cr_assert_eq(console_open(&console, fd[1]), 0);
        while (console.dropped < 10)
            console_put(&console, 'x');
        cr_assert_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
        while (read(fd[0], bytes, sizeof bytes) > 0)
            ;
        while (console.count == CONSOLE_BUFFER) {
            console_put(&console, 'y');
            cr_assert_lt(n++, 4096, "no byte tries to write");
        }
        console_fini(&console);
        close(fd[0]);
        close(fd[1]);
    }
}

/* Bursts and a reader that takes a little: all of it, in order, as long as
 * there is room. */
Test(console, slow_reader, .timeout = 60)
{
    uint64_t put_n = 0, got = 0, seed = 7;
    struct console console;
    int fd[2];

    ends(0, fd);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, fd[1]), 0);
    cr_assert_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
    while (got < 4u << 20) {
        uint8_t bytes[9000];
        ssize_t n;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        for (unsigned i = 0;
             i < (seed >> 40) % 8000 && console.count < CONSOLE_BUFFER; i++)
            console_put(&console, (uint8_t)(put_n++ % 253));
        if (seed >> 33 & 1)
            console_flush(&console);
        n = read(fd[0], bytes, (seed >> 50) % sizeof bytes + 1);
        for (ssize_t i = 0; i < n; i++, got++)
            cr_assert_eq(bytes[i], got % 253);
    }
    cr_assert_eq(console.dropped, 0);
    cr_assert_leq(got, put_n);
    console_fini(&console);
    close(fd[0]);
    close(fd[1]);
}

struct burst {
    struct console *console;
    const char *text; /* over and over */
    size_t size;
};

static void *burst_thread(void *ctx)
{
    const struct burst *burst = ctx;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    for (size_t i = 0; i < burst->size; i++)
        console_put(burst->console,
                    (uint8_t)burst->text[i % strlen(burst->text)]);
    return NULL;
}

/* Put as a vCPU does: from a thread of its own, which takes no signals. */
static void vcpu_put(struct console *console, const char *text, size_t size)
{
    struct burst burst = { console, text, size };
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, burst_thread, &burst), 0);
    pthread_join(thread, NULL);
}

static void expect_no_pipe_signal(void)
{
    sigset_t pending, mask;

    cr_assert_eq(sigpending(&pending), 0);
    cr_assert_not(sigismember(&pending, SIGPIPE));
    cr_assert_eq(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    cr_assert_not(sigismember(&mask, SIGPIPE), "it stays blocked");
}

/* The reader has gone when the guest writes, or goes before the loop does: no
 * SIGPIPE, not even a pending one, and nothing is kept. */
Test(console, reader_gone, .timeout = 20)
{
    cr_assert_eq((size_t)signal(SIGPIPE, SIG_DFL), (size_t)SIG_DFL);
    for (unsigned way = 0; way < 4; way++) {
        struct console console;
        uint64_t dropped;
        int fd[2];

        ends(way & 1, fd);
        console_init(&console, on_wake, NULL);
        cr_assert_eq(console_open(&console, fd[1]), 0);
        if (way & 2)
            vcpu_put(&console, "x", 3 * CONSOLE_BUFFER);
        dropped = console.dropped + console.count;
        close(fd[0]);
        if (way & 2)
            cr_assert_eq(console_flush(&console), 0);
        vcpu_put(&console, "lost", 4);
        cr_assert_eq(console_flush(&console), 0);
        cr_assert_eq(console.dropped, dropped + 4);
        cr_assert_eq(console.count, 0);
        vcpu_put(&console, "lost too", 8);
        cr_assert_eq(console_flush(&console), 0);
        cr_assert_eq(console.dropped, dropped + 12);
        expect_no_pipe_signal();
        console_fini(&console);
        close(fd[1]);
    }
}

/* Whoever blocks SIGPIPE and waits for one of its own still gets it. */
Test(console, a_pipe_signal_that_is_not_its_own, .timeout = 60)
{
    struct console console;
    sigset_t set, pending;
    int fd[2];

    ends(0, fd);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, fd[1]), 0);
    vcpu_put(&console, "x", 2 * CONSOLE_BUFFER);
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    cr_assert_eq(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    cr_assert_eq(pthread_kill(pthread_self(), SIGPIPE), 0);
    close(fd[0]);
    cr_assert_eq(console_flush(&console), 0);
    cr_assert_eq(console.count, 0);
    cr_assert_eq(sigpending(&pending), 0);
    cr_assert(sigismember(&pending, SIGPIPE));
    console_fini(&console);
    close(fd[1]);
}

/* A descriptor with whom others share its description is left blocking. */
Test(console, terminal, .timeout = 60)
{
    struct termios raw;
    struct console console;
    int main_fd, fd;

    cr_assert_eq(openpty(&main_fd, &fd, NULL, NULL, NULL), 0);
    cr_assert_eq(tcgetattr(fd, &raw), 0);
    cfmakeraw(&raw);
    cr_assert_eq(tcsetattr(fd, TCSANOW, &raw), 0);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, fd), 0);
    put(&console, "hello");
    cr_assert_eq(console_flush(&console), 0);
    expect_text(main_fd, "hello");
    cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    /* nobody reads: it does not block */
    for (unsigned i = 0; i < 2 * CONSOLE_BUFFER; i++)
        console_put(&console, 'x');
    cr_assert_eq(console_flush(&console), -EAGAIN);
    console_fini(&console);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
    close(main_fd);
}

/* The other end of one cannot be opened anew; it is made non-blocking while it
 * is used, and then given back. */
Test(console, terminal_main_end, .timeout = 60)
{
    struct console console;
    int main_fd, fd;

    cr_assert_eq(openpty(&main_fd, &fd, NULL, NULL, NULL), 0);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, main_fd), 0);
    put(&console, "hello\n");
    cr_assert_eq(console_flush(&console), 0);
    expect_text(fd, "hello\n");
    for (unsigned i = 0; i < 2 * CONSOLE_BUFFER; i++)
        console_put(&console, 'x');
    console_fini(&console);
    cr_assert_eq(fcntl(main_fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
    close(main_fd);
}

/* From one descriptor to another. */
Test(console, opened_again, .timeout = 60)
{
    struct console console;
    int first[2], second[2];

    ends(0, first);
    ends(1, second);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, first[1]), 0);
    put(&console, "one");
    cr_assert_eq(console_flush(&console), 0);
    cr_assert_eq(console_open(&console, second[1]), 0);
    put(&console, "two");
    cr_assert_eq(console_flush(&console), 0);
    expect_text(first[0], "one");
    expect_text(second[0], "two");
    /* after one whose reader went */
    close(second[0]);
    vcpu_put(&console, "x", 1);
    cr_assert_eq(console_flush(&console), 0);
    cr_assert_eq(console_open(&console, first[1]), 0);
    put(&console, "three");
    cr_assert_eq(console_flush(&console), 0);
    expect_text(first[0], "three");
    console_fini(&console);
    for (unsigned i = 0; i < 2; i++)
        close(first[i]);
    close(second[1]);
}

static void *put_thread(void *ctx)
{
    for (unsigned i = 0; i < 200000; i++)
        console_put(ctx, 'x');
    return NULL;
}

/* vCPUs put while the loop flushes and the reader sleeps now and then: no byte
 * is counted twice or not at all. */
Test(console, threads, .timeout = 60)
{
    struct console console;
    pthread_t thread[2];
    uint64_t got = 0;
    int fd[2];

    ends(0, fd);
    console_init(&console, on_wake, NULL);
    cr_assert_eq(console_open(&console, fd[1]), 0);
    cr_assert_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, put_thread, &console), 0);
    for (unsigned n = 0; n < 100; n++) {
        static uint8_t bytes[65536];
        ssize_t size;

        console_flush(&console);
        if (n % 3 == 0)
            usleep(1000);
        size = read(fd[0], bytes, sizeof bytes);
        got += size > 0 ? (uint64_t)size : 0;
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (;;) {
        static uint8_t bytes[65536];
        int rc = console_flush(&console);
        ssize_t size = read(fd[0], bytes, sizeof bytes);

        got += size > 0 ? (uint64_t)size : 0;
        if (rc == 0 && size <= 0)
            break;
    }
    cr_assert_eq(got + console.dropped, 400000);
    console_fini(&console);
    close(fd[0]);
    close(fd[1]);
}
