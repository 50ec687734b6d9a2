/*
 * husk killed while it probes, runs and reconnects: nothing that it started is
 * left, nor what that started, though they heed no signal, nor the private
 * folder.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(orphan, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* The shell says who its child is, who it is, and where it is to listen. */
static const char *with_grandchild(const char *said, const char *way,
                                   const char *command)
{
    return fmt("exec=sh -c 'sleep 77 3>&- & echo $! $$ $0 >>%s; "
               "trap \"\" TERM HUP; %s' %s",
               said, command, way);
}

static bool is_alive(pid_t pid)
{
    char state;
    FILE *file = fopen(fmt("/proc/%d/stat", pid), "re");
    bool alive =
        file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state != 'Z';

    if (file)
        fclose(file);
    return alive;
}

static void check_nothing_left(const char *said, unsigned n)
{
    FILE *file = fopen(said, "re");
    char path[128];
    int pids[2];

    cr_assert(file);
    for (unsigned i = 0; i < n; i++) {
        double until = now() + SOON;

        CHECK_EQ(fscanf(file, "%d %d %127s", &pids[0], &pids[1], path), 3);
        if (path[0] == '/')
            *strrchr(path, '/') = 0; /* the folder */
        while ((is_alive(pids[0]) || is_alive(pids[1]) ||
                (path[0] == '/' && access(path, F_OK) == 0)) &&
               now() < until)
            nap(0.005);
        cr_assert(now() < until, "back-end %u: %d, %d or %s is left", i,
                  pids[0], pids[1], path);
    }
    CHECK_EQ(fscanf(file, "%d", pids), EOF);
    fclose(file);
}

/* Until that many have said who they are. */
static void await_lines(const char *said, unsigned n)
{
    double until = now() + SOON;
    unsigned lines = 0;

    while (lines < n && now() < until) {
        FILE *file = fopen(said, "re");

        lines = 0;
        for (int c; file && (c = fgetc(file)) != EOF;)
            lines += c == '\n';
        if (file)
            fclose(file);
        nap(0.002);
    }
    cr_assert(lines >= n, "%s has %u lines, not %u", said, lines, n);
}

static const char *const exec_ways[] = { "{fd}", "{listen}", "{socket}" };
static const int end_signals[] = { SIGKILL, SIGTERM };

Test(orphan, husk_is_killed_while_it_probes)
{
    for (unsigned i = 0; i < 6; i++) {
        const char *said = place(fmt("said%u", i));
        struct run run = { 0 };

        start_husk(&run, "-d",
                   fmt("deadline=300,%s",
                       with_grandchild(said, exec_ways[i % 3], "sleep 77")),
                   guest("hello"));
        await_lines(said, 1);
        kill(run.pid, end_signals[i / 3]);
        run_end(&run);
        CHECK_EQ(run.status, 128 + end_signals[i / 3]);
        check_nothing_left(said, 1);
        run_free(&run);
    }
}

Test(orphan, husk_is_killed_while_guests_run)
{
    static const char *const ways[] = { "--fd", "--fd", "--socket-path" };

    for (unsigned i = 0; i < 6; i++) {
        const char *said = place(fmt("said%u", i));
        struct run run = { 0 };

        start_husk(&run, "-d",
                   fmt("reconnect=on,%s",
                       with_grandchild(said, exec_ways[i % 3],
                                       fmt("%s --config-size=4 %s=$0",
                                           built("husk-loop"), ways[i % 3]))),
                   "-a", "changes=1 load", guest("config"));
        cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
        kill(run.pid, end_signals[i / 3]);
        run_end(&run);
        CHECK_EQ(run.status, 128 + end_signals[i / 3]);
        check_nothing_left(said, 1);
        run_free(&run);
    }
}

/* The first one has ended, the second one never says what it is. */
Test(orphan, husk_is_killed_while_it_reconnects)
{
    for (unsigned i = 0; i < 6; i++) {
        const char *said = place(fmt("said%u", i));
        const char *loop = fmt("%s --config-size=4 --%s=$0", built("husk-loop"),
                               i % 3 == 2 ? "socket-path" : "fd");
        struct run run = { 0 };
        FILE *file;
        int first;

        start_husk(
            &run, "-d",
            fmt("reconnect=on,deadline=300,%s",
                with_grandchild(said, exec_ways[i % 3],
                                fmt("[ $(wc -l <%s) -gt 1 ] && exec sleep 77; "
                                    "exec %s",
                                    said, loop))),
            "-a", "changes=1", guest("config"));
        cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
        file = fopen(said, "re");
        CHECK_EQ(fscanf(file, "%*d %d", &first), 1);
        fclose(file);
        kill(first, SIGKILL);
        await_lines(said, 2);
        kill(run.pid, end_signals[i / 3]);
        run_end(&run);
        CHECK_EQ(run.status, 128 + end_signals[i / 3]);
        check_nothing_left(said, 2);
        run_free(&run);
    }
}

/*
 * The back-end kills the husk process that is its parent, while husk probes or
 * while a guest runs: husk's own line says so, and nothing is left.
 */
Test(orphan, a_back_end_kills_its_parent)
{
    for (unsigned runs = 0; runs < 2; runs++) {
        const char *said = place(fmt("said%u", runs));
        const char *go = place(fmt("go%u", runs));
        const char *loop =
            fmt("%s --config-size=4 --fd=$0 &", built("husk-loop"));
        struct run run = { 0 };

        start_husk(&run, "-d",
                   fmt("deadline=300,%s",
                       with_grandchild(said, "{fd}",
                                       fmt("%s until [ -e %s ]; do sleep 0.1; "
                                           "done; kill -9 $PPID; sleep 77",
                                           runs ? loop : "", go))),
                   "-a", "changes=1 load", guest("config"));
        await_lines(said, 1);
        cr_assert(!runs || run_until(&run, "config ready: "), "'%s'", run.err);
        fclose(fopen(go, "we"));
        run_end(&run);
        /* a guest that sees the loss in time ends with a failure of its own */
        cr_assert(runs ? run.status == 114 || run.status == 1
                       : run.status == 125,
                  "status %d, '%s'", run.status, run.err);
        cr_assert(count_text(run.err, "sh was killed, as the husk process "
                                      "above it was killed") == 1,
                  "%u: '%s'", runs, run.err);
        check_nothing_left(said, 1);
        run_free(&run);
    }
}
