/*
 * The guest's serial port on husk's standard input and output: pipes, readers
 * that are slow, stopped or gone, and a terminal.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define HELLO      "hello from x86_64\n"
#define HELLO_SIZE (sizeof HELLO - 1)
#define LINE       64u
#define CTRL_A     "\001"
#define CTRL_D     "\004"

TestSuite(console, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* Every line of the flood, in order, and nothing else. */
static void check_flood(const struct run *run, unsigned kilobytes)
{
    const char *at = run->out + HELLO_SIZE;

    CHECK_EQ(run->out_size, HELLO_SIZE + 1024 * kilobytes);
    for (unsigned n = 0; n < 16 * kilobytes; n++, at += LINE) {
        const char *want = fmt("%08x the quick brown fox jumps over the lazy "
                               "dog and again.\n",
                               n);

        cr_assert(memcmp(at, want, LINE) == 0, "line %u is '%.64s'", n, at);
    }
}

/* How much this host gets through a guest's serial port in so many seconds. */
static size_t bytes_in(double seconds, size_t least, size_t most)
{
    struct run run = { 0 };
    double bytes;

    run_husk(&run, "-a", "flood=4", guest("hello"));
    bytes = seconds * 4096 / (record_ms(&run, "total") / 1000);
    run_free(&run);
    return bytes < (double)least  ? least
           : bytes > (double)most ? most
                                  : (size_t)bytes;
}

/* 1 MB where exits are quick; always more than husk and the UART hold. */
Test(console, echo)
{
    size_t size = bytes_in(1, 4096, 1 << 20);
    char *bytes = malloc(size + 1);
    struct run run = { .in = bytes, .in_size = size + 1 };

    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)(i * 31 + i / 251);
        if (bytes[i] == CTRL_D[0])
            bytes[i] = 'x';
    }
    bytes[size] = CTRL_D[0];
    run_husk(&run, "-a", "echo", guest("hello"));
    check_quiet_end(&run, 0, "pass");
    CHECK_EQ(run.out_size, HELLO_SIZE + size);
    cr_assert(memcmp(run.out, HELLO, HELLO_SIZE) == 0);
    cr_assert(memcmp(run.out + HELLO_SIZE, bytes, size) == 0);
    CHECK_EQ(record_int(&run, NULL, "console_dropped"), 0);
    run_free(&run);
    free(bytes);
}

Test(console, input_from_a_file)
{
    const char *path = place("input");
    struct run run = { 0 };
    FILE *file = fopen(path, "we");

    fputs("from a file" CTRL_D, file);
    fclose(file);
    run_any(&run, "sh", "-c",
            fmt("%s run -a echo %s <%s", built("husk"), guest("hello"), path));
    CHECK_EQ(run.status, 0);
    CHECK_STR(run.out, HELLO "from a file");
    CHECK_STR(run.err, "");
    run_free(&run);
}

/* Input that is there before the guest listens is not lost. */
Test(console, the_end_of_input_ends_nothing)
{
    struct run run = { .in = "abc", .in_size = 3 };

    run_husk(&run, "-a", "echo", "--timeout", "1", guest("hello"));
    check_end(&run, 124, "timeout");
    CHECK_STR(run.out, HELLO "abc");
    run_free(&run);
}

/* A closed descriptor's number must not come to be one of husk's own. */
Test(console, closed_standard_descriptors)
{
    static const char *const closed[] = { "<&-", ">&-", "2>&-",
                                          "<&- >&- 2>&-" };

    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        struct run run = { 0 };

        run_any(&run, "sh", "-c",
                fmt("%s run -d %s %s %s", built("husk"), exec_spec("husk-rng"),
                    guest("devices"), closed[i]));
        CHECK_EQ(run.status, 0);
        CHECK_EQ(count_text(run.out, "pass\n"),
                 !strchr(closed[i], '>') || closed[i][0] == '2');
        CHECK_STR(run.err, "");
        run_free(&run);
    }
}

Test(console, flood_with_a_reader)
{
    struct run run = { 0 };

    run_husk(&run, "-a", "flood=4", guest("hello"));
    check_quiet_end(&run, 0, "pass");
    check_flood(&run, 4);
    CHECK_EQ(record_int(&run, NULL, "console_dropped"), 0);
    run_free(&run);
    run_husk(&run, "-a", "pour=16", guest("hello"));
    check_quiet_end(&run, 0, "pass");
    check_flood(&run, 16);
    CHECK_EQ(record_int(&run, NULL, "console_dropped"), 0);
    run_free(&run);
}

/* The guest is through long before the reader begins; the rest waits. */
Test(console, flood_with_a_late_reader)
{
    struct run run = { .keep_out = true };

    start_husk(&run, "-a", "pour=12", guest("hello"));
    fcntl(run.out_fd, F_SETPIPE_SZ, 4096);
    nap(0.5);
    run.keep_out = false;
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    check_flood(&run, 12);
    run_free(&run);
}

/*
 * More than the pipe holds, in the long form more than husk's buffer too, and
 * nobody reads: the vCPU goes on to the guest's end, husk ends, and what was
 * lost is counted to the byte.
 */
Test(console, flood_without_a_reader)
{
    struct run run = { .keep_out = true };
    unsigned kilobytes = long_form() ? 272 : 16;
    size_t total = HELLO_SIZE + 1024 * kilobytes;
    long long dropped;

    start_husk(&run, "-a", fmt("pour=%u", kilobytes), guest("hello"));
    fcntl(run.out_fd, F_SETPIPE_SZ, 4096);
    run_end(&run);
    check_end(&run, 0, "pass");
    dropped = record_int(&run, NULL, "console_dropped");
    CHECK_EQ(dropped + (long long)run.out_size, total);
    cr_assert(run.out_size <= 65536, "%zu", run.out_size);
    CHECK_STR(run.err, fmt("husk: %lld bytes of console output were dropped: "
                           "standard output did not take them\n",
                           dropped));
    /* husk waits for a reader after the guest's end, but not for ever */
    cr_assert(run.seconds - record_ms(&run, "total") / 1000 < SOON);
    run_free(&run);
}

/* The pipe takes no more, and the guest goes on. */
static void await_full(int fd)
{
    double until = now() + SOON;
    int held = 0;

    while (held < 4096 && now() < until) {
        cr_assert(ioctl(fd, FIONREAD, &held) == 0);
        nap(0.2);
    }
    cr_assert(held >= 4096, "%d bytes in the pipe", held);
}

Test(console, stop_without_a_reader)
{
    struct run run = { .keep_out = true };
    double asked;

    start_husk(&run, "-a", "pour=9999", guest("hello"));
    fcntl(run.out_fd, F_SETPIPE_SZ, 4096);
    await_full(run.out_fd);
    asked = now();
    kill(run.pid, SIGTERM);
    run_end(&run);
    cr_assert(now() - asked < SOON, "%g s", now() - asked);
    check_end(&run, 143, "stopped");
    cr_assert(record_int(&run, NULL, "console_dropped") > 0);
    run_free(&run);
}

/* The reader is gone: no SIGPIPE, and the guest's verdict counts. */
Test(console, reader_that_is_gone)
{
    struct run run = { 0 };

    start_husk(&run, "-a", "flood=8 status=4", guest("hello"));
    close(run.out_fd);
    run.out_fd = -1;
    run_end(&run);
    check_end(&run, 4, "fail");
    check_line(&run, "bytes of console output were dropped: standard output");
    run_free(&run);
}

static void check_raw(int fd, bool raw)
{
    struct termios now_is;
    double until = now() + SOON;

    do {
        cr_assert(tcgetattr(fd, &now_is) == 0);
        if (!(now_is.c_lflag & (ICANON | ECHO | ISIG)) == raw)
            return;
        nap(0.005);
    } while (now() < until);
    cr_assert_fail("the terminal is %sraw", raw ? "not " : "");
}

static void check_same(const struct termios *a, const struct termios *b)
{
    CHECK_EQ(a->c_iflag, b->c_iflag);
    CHECK_EQ(a->c_oflag, b->c_oflag);
    CHECK_EQ(a->c_cflag, b->c_cflag);
    CHECK_EQ(a->c_lflag, b->c_lflag);
    cr_assert(memcmp(a->c_cc, b->c_cc, sizeof a->c_cc) == 0);
}

/* A run on a terminal, which has to be as before when it has ended. */
struct session {
    struct run run;
    struct termios before;
    int keep; /* the far end, so that the terminal outlives husk */
};

static void begin_session(struct session *s, const char *append)
{
    s->run.pty = true;
    start_husk(&s->run, "-a", append, guest("hello"));
    s->keep = open(ptsname(s->run.out_fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(run_until(&s->run, "hello"), "stderr '%s'", s->run.err);
    /* a new terminal has the defaults of all others */
    int fresh = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    cr_assert(grantpt(fresh) == 0 && unlockpt(fresh) == 0);
    cr_assert(tcgetattr(fresh, &s->before) == 0);
    close(fresh);
}

static void end_session(struct session *s)
{
    struct termios after;
    int status;

    while (waitpid(s->run.pid, &status, WNOHANG) == 0) {
        cr_assert(now() - s->run.began < SOON, "husk does not end");
        nap(0.005);
    }
    cr_assert(tcgetattr(s->keep, &after) == 0);
    check_same(&after, &s->before);
    s->run.status =
        WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    s->run.record = json_load_file(s->run.record_path, 0, NULL);
    close(s->keep);
}

Test(console, terminal_is_raw_and_given_back)
{
    struct session s = { 0 };

    begin_session(&s, "echo");
    check_raw(s.keep, true);
    run_type(&s.run, "a\003b\032c" CTRL_A "ad");
    cr_assert(run_until(&s.run, "a\003b\032c\001d"), "'%s'", s.run.out);
    check_raw(s.keep, true);
    run_type(&s.run, CTRL_A "x");
    end_session(&s);
    CHECK_EQ(s.run.status, 130);
    CHECK_STR(record_text(&s.run, "outcome"), "stopped");
    CHECK_EQ(record_int(&s.run, NULL, "status"), 130);
    run_free(&s.run);
}

/* The two keys come apart, and with other input between the runs of them. */
Test(console, escape_in_pieces)
{
    struct session s = { 0 };

    begin_session(&s, "echo");
    run_type(&s.run, "1" CTRL_A);
    cr_assert(run_until(&s.run, "1"));
    nap(0.05);
    run_type(&s.run, "z2");
    cr_assert(run_until(&s.run, "z2"), "'%s'", s.run.out);
    run_type(&s.run, CTRL_A);
    nap(0.05);
    run_type(&s.run, "x");
    end_session(&s);
    CHECK_EQ(s.run.status, 130);
    run_free(&s.run);
}

Test(console, leaving_a_guest_that_does_not_listen)
{
    struct session s = { 0 };

    begin_session(&s, "spin");
    check_raw(s.keep, true);
    for (unsigned i = 0; i < 20; i++)
        run_type(&s.run, "the guest never reads what is typed here. ");
    run_type(&s.run, CTRL_A "x");
    end_session(&s);
    CHECK_EQ(s.run.status, 130);
    run_free(&s.run);
}

Test(console, terminal_after_a_signal)
{
    static const int numbers[] = { SIGTERM, SIGHUP, SIGSEGV, SIGABRT };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct session s = { 0 };

        begin_session(&s, "spin");
        check_raw(s.keep, true);
        kill(s.run.pid, numbers[i]);
        end_session(&s);
        /* a sanitizer may make an exit of a crash */
        if (i < 2 || !sanitized())
            CHECK_EQ(s.run.status, 128 + numbers[i]);
        run_free(&s.run);
    }
}

Test(console, terminal_after_the_guests_end)
{
    static const struct {
        const char *append;
        int status;
    } ends[] = { { "status=0", 0 }, { "panic", 110 }, { "triple", 111 } };

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct session s = { 0 };

        begin_session(&s, ends[i].append);
        end_session(&s);
        CHECK_EQ(s.run.status, ends[i].status);
        run_free(&s.run);
    }
}

Test(console, terminal_after_an_error)
{
    struct run run = { .pty = true };
    struct termios before, after;
    int keep;

    start_husk(&run, place("no-kernel"));
    tcgetattr(run.out_fd, &before);
    keep = open(ptsname(run.out_fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
    while (waitpid(run.pid, NULL, WNOHANG) == 0)
        nap(0.005);
    tcgetattr(keep, &after);
    check_same(&after, &before);
    cr_assert(after.c_lflag & ICANON);
    close(keep);
    run_free(&run);
}

/* Job control: the shell gets a sane terminal, the guest its raw one again. */
Test(console, stopped_and_continued)
{
    struct session s = { 0 };
    int status;

    begin_session(&s, "echo");
    check_raw(s.keep, true);
    kill(s.run.pid, SIGTSTP);
    CHECK_EQ(waitpid(s.run.pid, &status, WUNTRACED), s.run.pid);
    cr_assert(WIFSTOPPED(status));
    check_raw(s.keep, false);
    kill(s.run.pid, SIGCONT);
    check_raw(s.keep, true);
    run_type(&s.run, "on");
    cr_assert(run_until(&s.run, "on"));
    run_type(&s.run, CTRL_D);
    end_session(&s);
    CHECK_EQ(s.run.status, 0);
    run_free(&s.run);
}
