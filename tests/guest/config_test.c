/*
 * Changes of config space on the host's side, seen by a running guest: each
 * brings an interrupt, a new generation and the new bytes, and no read that the
 * generation vouches for is a mixture, with the window and without.
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

#include "tests/guest/disk.h"
#include "tests/guest/run.h"

TestSuite(config, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* With and without the window; -v stands where the other has a word. */
static const char *const ways[] = { "-v", "--no-window" };

static const char *repeat(unsigned byte, unsigned size)
{
    static char hex[2 * 4096 + 1];

    for (unsigned i = 0; i < size; i++)
        snprintf(hex + 2 * i, 3, "%02x", byte & 0xff);
    return hex;
}

/* The lines of the guest: so many changes, each of a generation of its own. */
static void check_generations(const struct run *run, unsigned changes)
{
    const char *at = strstr(run->out, "config ready: generation ");
    unsigned before, generation;

    cr_assert(at && sscanf(at, "config ready: generation %u", &before) == 1,
              "'%s'", run->out);
    for (unsigned n = 0; n < changes; n++) {
        at = strstr(at + 1, "config change: generation ");
        cr_assert(at, "%u changes in '%s'", n, run->out);
        cr_assert(sscanf(at, "config change: generation %u", &generation) == 1);
        cr_assert(generation != before, "generation %u again", generation);
        before = generation;
    }
    cr_assert(!strstr(at + 1, "config change: "), "more than %u changes",
              changes);
}

/* One after the other, each of them waited for. */
static void one_by_one(const char *way, const char *append)
{
    struct backend loop;
    struct run run = { 0 };

    backend_start(&loop, "husk-loop", fmt("--config=%s", repeat(0, 12)));
    start_husk(&run, way, "-d", loop.socket, "-a",
               fmt("changes=100 %s", append), guest("config"));
    run_until(&run, fmt("bytes %s\n", repeat(0, 12)));
    for (unsigned n = 1; n <= 100; n++) {
        kill(loop.run.pid, SIGHUP);
        cr_assert(run_until(&run, fmt("bytes %s\n", repeat(n, 12))),
                  "'%s' without change %u; '%s'", run.out, n, run.err);
    }
    run_end(&run);
    check_end(&run, 0, "pass");
    check_generations(&run, 100);
    check_out(&run, "config: 100 changes, 101 reads, ");
    CHECK_EQ(record_int(&run, "exits", "mmio_read") > 0, way == ways[1]);
    run_free(&run);
    backend_stop(&loop);
    CHECK_STR(loop.run.err, "");
    CHECK_EQ(loop.run.status, 0);
    run_free(&loop.run);
}

Test(config, one_by_one)
{
    one_by_one(ways[0], "uniform");
}

Test(config, one_by_one_without_a_window)
{
    one_by_one(ways[1], "uniform");
}

Test(config, one_by_one_under_load)
{
    one_by_one(ways[0], "uniform load");
}

Test(config, one_by_one_under_load_of_packed_rings)
{
    one_by_one(ways[0], "uniform load packed event-idx");
}

static unsigned long long number_after(const struct run *run, const char *text)
{
    const char *at = strstr(run->out, text);

    cr_assert(at, "no '%s' in '%s'", text, run->out);
    return strtoull(at + strlen(text), NULL, 10);
}

static bool has_ended(const struct run *run)
{
    siginfo_t info = { .si_pid = 0 };

    waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG | WNOWAIT);
    return info.si_pid != 0;
}

/*
 * Faster than the guest takes them, while it reads all the time, or keeps
 * requests under way, or both. Changes may share an interrupt; those that had
 * one are counted.
 */
static void storm(const char *way, const char *append, unsigned changes)
{
    struct backend loop;
    struct run run = { 0 };

    backend_start(&loop, "husk-loop", fmt("--config=%s", repeat(7, 16)));
    start_husk(&run, way, "-d", loop.socket, "-a",
               fmt("uniform quiet changes=%u %s", changes, append),
               guest("config"));
    run_until(&run, "config ready: ");
    while (!has_ended(&run) && now() - run.began < LIMIT) {
        kill(loop.run.pid, SIGHUP);
        nap(0.002);
    }
    run_end(&run);
    check_end(&run, 0, "pass");
    check_out(&run, fmt("config: %u changes, ", changes));
    cr_assert(number_after(&run, "changes, ") > changes);
    if (strstr(append, "load"))
        cr_assert(number_after(&run, "reads, ") > changes);
    run_free(&run);
    backend_stop(&loop);
    CHECK_STR(loop.run.err, "");
    CHECK_EQ(loop.run.status, 0);
    run_free(&loop.run);
}

Test(config, storm)
{
    storm(ways[0], "poll load", long_form() ? 1000 : 150);
}

Test(config, storm_with_packed_rings)
{
    storm(ways[0], "load packed event-idx", long_form() ? 300 : 80);
}

Test(config, storm_without_a_window)
{
    storm(ways[1], "poll load", long_form() ? 1000 : 150);
}

/* The same of a back-end that awaits each answer, and judges it. */
static void peer_changes(const char *way, const char *append)
{
    unsigned changes = long_form() ? 300 : 80;
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, fmt("--config=%s", repeat(1, 24)), "--config-change=1",
               "--config-changes=0", "--connections=1");
    run_husk(&run, way, "-d", peer.socket, "-a",
             fmt("uniform quiet changes=%u %s", changes, append),
             guest("config"));
    check_end(&run, 0, "pass");
    check_out(&run, fmt("config: %u changes, ", changes));
    run_free(&run);
    backend_end(&peer);
    cr_assert(peer.run.status == 0, "status %d: '%s'", peer.run.status,
              peer.run.err);
    run_free(&peer.run);
}

Test(config, back_end_that_awaits_answers)
{
    peer_changes(ways[0], "poll");
    peer_changes(ways[0], "load");
}

Test(config, back_end_that_awaits_answers_without_a_window)
{
    peer_changes(ways[1], "load poll");
}

/* What changed between two guests, the second one begins with. */
Test(config, changes_between_guests)
{
    struct backend loop;

    backend_start(&loop, "husk-loop", fmt("--config=%s", repeat(9, 4)));
    for (unsigned n = 0; n < 3; n++) {
        struct run run = { 0 };

        if (n > 0)
            kill(loop.run.pid, SIGHUP);
        nap(0.02);
        run_husk(&run, "-d", loop.socket, guest("config"));
        check_quiet_end(&run, 0, "pass");
        check_out(&run, fmt("config ready: generation 0 bytes %s\n",
                            repeat(9 + n, 4)));
        run_free(&run);
    }
    backend_stop(&loop);
    run_free(&loop.run);
}

static const char *capacity_of(unsigned long long bytes)
{
    char hex[17];

    for (unsigned i = 0; i < 8; i++)
        snprintf(hex + 2 * i, 3, "%02llx", bytes / 512 >> 8 * i & 0xff);
    return fmt(" bytes %s", hex);
}

Test(config, disk_that_grows_and_shrinks)
{
    static const unsigned sizes[] = { 3 << 20, 1 << 20, 5 << 20, 512, 1 << 30 };
    const char *disk = disk_make("disk", 2 << 20);

    for (unsigned way = 0; way < 2; way++) {
        struct backend block;
        struct run run = { 0 };

        cr_assert(truncate(disk, 2 << 20) == 0);
        backend_start(&block, "husk-block", fmt("--file=%s", disk));
        start_husk(&run, ways[way], "-d", block.socket, "-a", "changes=5",
                   guest("config"));
        run_until(&run, capacity_of(2 << 20));
        for (unsigned i = 0; i < 5; i++) {
            cr_assert(truncate(disk, sizes[i]) == 0);
            kill(block.run.pid, SIGHUP);
            cr_assert(run_until(&run, capacity_of(sizes[i])),
                      "no capacity of %u bytes in '%s'; '%s'", sizes[i],
                      run.out, run.err);
        }
        run_end(&run);
        check_end(&run, 0, "pass");
        check_generations(&run, 5);
        run_free(&run);
        backend_stop(&block);
        CHECK_STR(block.run.err, "");
        CHECK_EQ(block.run.status, 0);
        run_free(&block.run);
    }
}

Test(config, console_that_is_resized)
{
    struct backend console;
    struct run run = { 0 };
    int fd;

    backend_start(&console, "husk-console", "--pty");
    cr_assert(run_until(&console.run, "\n"), "'%s'", console.run.err);
    *strchr(console.run.out, '\n') = 0;
    fd = open(console.run.out, O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(fd >= 0, "'%s'", console.run.out);
    start_husk(&run, "-d", console.socket, "-a", "changes=4", guest("config"));
    run_until(&run, "config ready: ");
    for (unsigned i = 1; i <= 4; i++) {
        struct winsize size = { .ws_col = (unsigned short)(80 + i),
                                .ws_row = (unsigned short)(25 + i) };

        cr_assert(ioctl(fd, TIOCSWINSZ, &size) == 0);
        cr_assert(run_until(&run, fmt(" bytes %02x00%02x00", 80 + i, 25 + i)),
                  "'%s'; '%s'", run.out, run.err);
    }
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    check_generations(&run, 4);
    run_free(&run);
    close(fd);
    backend_stop(&console);
    CHECK_EQ(console.run.status, 0);
    run_free(&console.run);
}
