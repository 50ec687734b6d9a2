/*
 * reconnect=: back-ends that are killed under load and come back, at once or
 * late, as they were or as something else, or never; while the guest waits,
 * resets them or reboots.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "tests/guest/disk.h"
#include "tests/guest/run.h"

#define SIZE (4u << 20)
#define DONE (2u << 20)

TestSuite(reconnect, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* How many back-ends wrote their process's number, and the last of them. */
static unsigned said_pids(const char *pids, pid_t *last)
{
    FILE *file = fopen(pids, "re");
    char line[160];
    unsigned n = 0;

    while (file && fgets(line, sizeof line, file) && strchr(line, '\n')) {
        *last = (pid_t)atoi(line);
        n++;
    }
    if (file)
        fclose(file);
    return n;
}

static bool descends(pid_t pid, pid_t from)
{
    for (unsigned i = 0; i < 8 && pid > 1 && pid != from; i++) {
        FILE *file = fopen(fmt("/proc/%d/stat", pid), "re");

        if (!file || fscanf(file, "%*d (%*[^)]) %*c %d", &pid) != 1)
            pid = 0;
        if (file)
            fclose(file);
    }
    return pid == from;
}

/*
 * The back-end that is connected is the one that was started last: of those
 * before it husk may have given up some, whose numbers are free for any
 * process.
 */
static void kill_last(const struct run *run, const char *pids)
{
    double until = now() + SOON;
    bool killed = false;
    pid_t pid = 0;

    while (!killed && now() < until) {
        int fd = said_pids(pids, &pid) ? pidfd_open(pid, 0) : -1;

        killed = fd >= 0 && descends(pid, run->pid) &&
                 pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0;
        if (fd >= 0)
            close(fd);
        if (!killed)
            nap(0.002);
    }
    cr_assert(killed, "no back-end of husk's is in %s", pids);
}

/* A command, run by a shell that first says who it is. */
static const char *saying(const char *pids, const char *command)
{
    return fmt("exec=sh -c 'echo $$ >>%s; exec %s' {fd}", pids, command);
}

static const char *disk_command(const char *disk)
{
    return fmt("%s --queues=2 --file=%s --fd=$0", built("husk-block"), disk);
}

#define BACK "the back-end is back after "

/*
 * Its lines are those of so many losses and returns, and how back-ends ended
 * where that was known before the next one was started. A return takes more
 * than one start if the guest changes the device meanwhile.
 */
static void check_returns(const struct run *run, unsigned losses)
{
    unsigned ends = count_text(run->err, "virtio0: sh ");

    cr_assert(count_text(run->err, "connecting again\n") == losses &&
                  count_text(run->err, BACK) == losses &&
                  count_text(run->err, "\n") == 2 * losses + ends,
              "not %u losses: '%s'", losses, run->err);
}

/* husk holds what it held before, perhaps after a moment. */
static void await_holdings(pid_t pid, struct holdings before)
{
    struct holdings h = holdings_of(pid);
    double until = now() + SOON;

    while (!same_holdings(before, h) && now() < until) {
        nap(0.005);
        h = holdings_of(pid);
    }
    cr_assert(same_holdings(before, h),
              "%u descriptors, %u threads and %u mappings became %u, %u and %u",
              before.fds, before.threads, before.maps, h.fds, h.threads,
              h.maps);
}

static void check_transfer(const struct run *run, unsigned losses)
{
    check_end(run, 0, "pass");
    check_out(run, "block: wrote 2097152 bytes, read 2097152 bytes, pass\n");
    check_returns(run, losses);
}

/*
 * husk starts it again, several times in a row; requests that were under way
 * complete once, for the guest fails if one comes that it never asked for, or
 * none that it did.
 */
static void killed_under_load(const char *append, unsigned kills)
{
    const char *disk = disk_make("disk", SIZE), *pids = place("pids");
    struct run run = { .hold_in = true };
    struct holdings before;

    unlink(pids);
    start_husk(&run, "-d",
               fmt("reconnect=on,%s", saying(pids, disk_command(disk))), "-a",
               fmt("endless size=2m chunk=16k depth=16 patience=20 %s", append),
               guest("block"));
    cr_assert(run_until(&run, "block: 8192 sectors, 2 queues"), "'%s'",
              run.err);
    before = holdings_of(run.pid);
    for (unsigned n = 1; n <= kills; n++) {
        kill_last(&run, pids);
        cr_assert(run_until_said(&run, BACK, n), "'%s'", run.err);
        nap(0.01 * n);
    }
    await_holdings(run.pid, before);
    run_type(&run, "x");
    run_end(&run);
    check_transfer(&run, kills);
    disk_check(disk, SIZE, DONE);
    run_free(&run);
}

Test(reconnect, killed_under_load)
{
    killed_under_load("", 6);
}

Test(reconnect, killed_under_load_of_event_idx)
{
    killed_under_load("event-idx", 4);
}

Test(reconnect, killed_under_load_of_indirect)
{
    killed_under_load("indirect event-idx", 4);
}

Test(reconnect, killed_under_load_of_packed)
{
    killed_under_load("packed", 4);
}

Test(reconnect, killed_under_load_of_packed_and_all)
{
    killed_under_load("packed event-idx indirect", 4);
}

/* By hand on a socket, whose file the killed one leaves behind. */
static void restarted_by_hand(double away, unsigned kills, const char *append)
{
    const char *disk = disk_make("disk", SIZE), *path = place("block");
    const char *const argv[] = { built("husk-block"),
                                 fmt("--socket-path=%s", path),
                                 fmt("--file=%s", disk), "--queues=2", NULL };
    struct run run = { .hold_in = true }, block = { 0 };
    struct holdings before;

    run_start(&block, argv);
    start_husk(&run, "-d", fmt("reconnect=on,wait=10,socket=%s", path), "-a",
               fmt("endless size=2m chunk=16k patience=30 %s", append),
               guest("block"));
    cr_assert(run_until(&run, "block: 8192 sectors, 2 queues"), "'%s'",
              run.err);
    before = holdings_of(run.pid);
    for (unsigned n = 1; n <= kills; n++) {
        kill(block.pid, SIGKILL);
        run_end(&block);
        CHECK_STR(block.err, "");
        run_free(&block);
        nap(away);
        run_start(&block, argv);
        cr_assert(run_until_said(&run, BACK, n), "'%s'", run.err);
    }
    await_holdings(run.pid, before);
    run_type(&run, "x");
    run_end(&run);
    check_transfer(&run, kills);
    CHECK_EQ(count_text(run.err, "\n"), 2 * kills);
    disk_check(disk, SIZE, DONE);
    run_free(&run);
    kill(block.pid, SIGTERM);
    run_end(&block);
    CHECK_EQ(block.status, 0);
    run_free(&block);
}

Test(reconnect, restarted_after_a_tenth_of_a_second)
{
    restarted_by_hand(0.1, 4, "");
    restarted_by_hand(0.1, 2, "packed");
}

Test(reconnect, restarted_after_five_seconds)
{
    restarted_by_hand(5, 1, "event-idx indirect");
}

/* A back-end that hangs up without dying has nothing to lose either. */
Test(reconnect, hung_up)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--cut=SET_VRING_ENABLE:3", "--faults-once",
               "--connections=2");
    run_husk(&run, "-d", fmt("reconnect=on,socket=%s", peer.socket), "-a",
             "strict patience=20 count=100", guest("devices"));
    check_end(&run, 0, "pass");
    CHECK_EQ(count_text(run.err, BACK), 1);
    run_free(&run);
    backend_end(&peer);
    cr_assert(peer.run.status == 0, "'%s'", peer.run.err);
    run_free(&peer.run);
}

/* The first time one command, ever after another. */
static const char *first_and_then(const char *first, const char *then)
{
    static unsigned marks;
    const char *mark = place(fmt("mark%u", ++marks));

    return fmt("exec=sh -c 'if [ -e %s ]; then exec %s; fi; : >%s; exec %s' "
               "{fd}",
               mark, then, mark, first);
}

static void check_refused(const char *then, const char *words)
{
    const char *peer = built("husk-peer"), *loop = exec_spec("husk-loop");
    const char *a5 = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5";
    struct run run = { 0 };

    /* it dies once its device runs, and what comes is another one */
    run_husk(&run, "-d",
             fmt("reconnect=on,%s",
                 first_and_then(
                     fmt("%s --config-size=4 --max-vqs=2 --die-at=SET_STATUS#4 "
                         "--fd=$0 2>/dev/null",
                         peer),
                     fmt("%s --fd=$0 2>/dev/null", then))),
             "-d", loop, "-a", "changes=1", guest("config"));
    CHECK_EQ(run.status, 1);
    check_out(&run, "fail: virtio0: needs reset\n");
    cr_assert(strstr(run.err, words), "no '%s' in '%s'", words, run.err);
    CHECK_EQ(count_text(run.err, "came back"), 1);
    CHECK_EQ(count_text(run.err, BACK), 0);
    run_free(&run);

    /* the other device works on */
    run_husk(&run, "-d",
             fmt("reconnect=on,%s",
                 first_and_then(
                     fmt("%s --config-size=4 --max-vqs=2 --die-at=SET_STATUS#4 "
                         "--fd=$0 2>/dev/null",
                         peer),
                     fmt("%s --fd=$0 2>/dev/null", then))),
             "-d", loop, "-a", "count=20", guest("devices"));
    check_out(&run, fmt("virtio1 queue 0: 64 bytes %s%s", a5, a5));
    check_out(&run, "pass\n");
    cr_assert(strstr(run.err, words), "no '%s' in '%s'", words, run.err);
    run_free(&run);
}

Test(reconnect, another_type_came_back)
{
    check_refused(
        fmt("%s --id=9 --config-size=4 --max-vqs=2", built("husk-peer")),
        "virtio0: another device came back: id 9, 2 queues, 4 bytes "
        "of config space; it was id 4, 2, 4\n");
}

Test(reconnect, fewer_queues_came_back)
{
    check_refused(fmt("%s --config-size=4 --max-vqs=1", built("husk-peer")),
                  "virtio0: another device came back: id 4, 1 queues, 4 bytes "
                  "of config space; it was id 4, 2, 4\n");
}

Test(reconnect, another_config_size_came_back)
{
    check_refused(fmt("%s --config-size=5 --max-vqs=2", built("husk-peer")),
                  "virtio0: another device came back: id 4, 2 queues, 5 bytes "
                  "of config space; it was id 4, 2, 4\n");
}

Test(reconnect, fewer_features_came_back)
{
    check_refused(fmt("%s --config-size=4 --max-vqs=2 --features=150000000",
                      built("husk-peer")),
                  "virtio0: the back-end came back without features that it "
                  "offered: 0x20000000\n");
}

/* reconnect=SECONDS, and nobody comes; a guest that waits is told. */
Test(reconnect, given_up)
{
    const char *path = place("loop");
    struct run run = { 0 }, loop = { 0 };
    double killed;

    run_start(&loop, ARGS(built("husk-loop"), fmt("--socket-path=%s", path),
                          "--config-size=4"));
    start_husk(&run, "-d", fmt("reconnect=0.7,wait=10,socket=%s", path), "-a",
               "changes=1", guest("config"));
    cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
    kill(loop.pid, SIGKILL);
    killed = now();
    run_end(&loop);
    run_end(&run);
    cr_assert(now() - killed > 0.6 && now() - killed < SOON, "%g s",
              now() - killed);
    check_end(&run, 1, "fail");
    check_out(&run, "fail: virtio0: needs reset\n");
    CHECK_EQ(count_text(run.err, "\n"), 2);
    cr_assert(strstr(run.err, "husk: virtio0: the back-end hung up: "
                              "connecting again\nhusk: virtio0: "),
              "'%s'", run.err);
    cr_assert(strstr(run.err, ": given up after 0.7 s (reconnect=)\n"), "'%s'",
              run.err);
    run_free(&run);
    run_free(&loop);
}

/* One that is started again and again, and always ends at once. */
Test(reconnect, given_up_on_a_command)
{
    struct run run = { 0 };

    run_husk(&run, "-d",
             fmt("reconnect=0.5,%s",
                 first_and_then(fmt("%s --config-size=4 --die-at=SET_STATUS#4 "
                                    "--fd=$0 2>/dev/null",
                                    built("husk-peer")),
                                "false")),
             "-a", "changes=1", guest("config"));
    check_end(&run, 1, "fail");
    check_out(&run, "fail: virtio0: needs reset\n");
    CHECK_EQ(count_text(run.err, "connecting again\n"), 1);
    CHECK_EQ(count_text(run.err, "given up after 0.5 s (reconnect=)\n"), 1);
    run_free(&run);
}

/* reconnect=off, which is the default: lost at once. */
Test(reconnect, off)
{
    static const char *const keys[] = { "", "reconnect=off," };

    for (unsigned i = 0; i < 2; i++) {
        const char *pids = place(fmt("pids%u", i));
        struct run run = { 0 };
        double killed;
        pid_t pid;

        start_husk(&run, "-d",
                   fmt("%s%s", keys[i],
                       saying(pids, fmt("%s --config-size=4 --fd=$0",
                                        built("husk-loop")))),
                   "-d", exec_spec("husk-rng"), "-a", "changes=1",
                   guest("config"));
        cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
        killed = now();
        kill_last(&run, pids);
        run_end(&run);
        cr_assert(now() - killed < SOON, "%g s", now() - killed);
        check_end(&run, 1, "fail");
        check_out(&run, "fail: virtio0: needs reset\n");
        CHECK_EQ(count_text(run.err, "the back-end hung up\n"), 1);
        CHECK_EQ(count_text(run.err, "connecting again"), 0);
        CHECK_EQ(said_pids(pids, &pid), 1);
        run_free(&run);
    }
}

/* The back-end is killed, the guest is let go on, and then it is back. */
static void change_while_away(struct run *run, struct run *loop,
                              const char *const *argv)
{
    kill(loop->pid, SIGKILL);
    run_end(loop);
    run_free(loop);
    cr_assert(run_until_said(run, "connecting again\n", 1));
    run_type(run, "x");
    nap(0.3);
    run_start(loop, argv);
}

/* The guest resets the device and sets it up again while nobody is there. */
Test(reconnect, reset_while_it_is_away)
{
    const char *path = place("loop");
    const char *const argv[] = { built("husk-loop"),
                                 fmt("--socket-path=%s", path), "--queues=2",
                                 NULL };
    static const char *const rings[] = { "", "packed event-idx" };

    for (unsigned i = 0; i < 2; i++) {
        struct run run = { .hold_in = true }, loop = { 0 };

        run_start(&loop, argv);
        start_husk(&run, "-d", fmt("reconnect=on,wait=10,socket=%s", path),
                   "-a", fmt("hold strict patience=20 reset=50 %s", rings[i]),
                   guest("devices"));
        cr_assert(run_until(&run, "holding\n"), "'%s'", run.err);
        change_while_away(&run, &loop, argv);
        cr_assert(run_until(&run, "virtio0: 50 resets\nholding\n"), "'%s' '%s'",
                  run.out, run.err);
        run_type(&run, "x");
        run_end(&run);
        check_end(&run, 0, "pass");
        check_returns(&run, 1);
        run_free(&run);
        kill(loop.pid, SIGTERM);
        run_end(&loop);
        run_free(&loop);
    }
}

/* In the middle of whatever the guest is about. */
Test(reconnect, killed_between_resets)
{
    const char *pids = place("pids");
    struct run run = { .hold_in = true };
    struct holdings before;

    start_husk(&run, "-d",
               fmt("reconnect=on,%s", saying(pids, fmt("%s --queues=2 --fd=$0",
                                                       built("husk-loop")))),
               "-a", "hold strict patience=20 reset=600", guest("devices"));
    cr_assert(run_until(&run, "holding\n"), "'%s'", run.err);
    before = holdings_of(run.pid);
    run_type(&run, "x");
    for (unsigned n = 1; n <= 5; n++) {
        nap(0.05);
        kill_last(&run, pids);
        cr_assert(run_until_said(&run, BACK, n), "'%s'", run.err);
    }
    cr_assert(run_until(&run, "virtio0: 600 resets\nholding\n"), "'%s' '%s'",
              run.out, run.err);
    await_holdings(run.pid, before);
    run_type(&run, "x");
    run_end(&run);
    check_end(&run, 0, "pass");
    check_returns(&run, 5);
    run_free(&run);
}

/* The guest reboots while nobody is there; a new back-end knows of no boots. */
Test(reconnect, reboot_while_it_is_away)
{
    const char *path = place("loop");
    const char *const argv[] = { built("husk-loop"),
                                 fmt("--socket-path=%s", path),
                                 "--config-size=4", NULL };
    struct run run = { .hold_in = true }, loop = { 0 };

    run_start(&loop, argv);
    start_husk(&run, "--on-reset", "again", "-d",
               fmt("reconnect=on,wait=10,socket=%s", path), "-a",
               "hold boots=4", guest("reboot"));
    cr_assert(run_until(&run, "boot 2 of 4\nholding\n"), "'%s'", run.err);
    change_while_away(&run, &loop, argv);
    cr_assert(run_until(&run, "holding\nreboot: boot 1 of 4\n"
                              "reboot: boot 2 of 4\nholding\n"),
              "'%s' '%s'", run.out, run.err);
    run_type(&run, "x");
    cr_assert(run_until(&run, "boot 3 of 4\nreboot: boot 4 of 4\nholding\n"),
              "'%s' '%s'", run.out, run.err);
    run_type(&run, "x");
    run_end(&run);
    check_end(&run, 0, "pass");
    check_returns(&run, 1);
    run_free(&run);
    kill(loop.pid, SIGTERM);
    run_end(&loop);
    run_free(&loop);
}

/* husk is told to stop meanwhile. */
Test(reconnect, stopped_while_it_is_away)
{
    const char *path = place("loop");
    struct run run = { 0 }, loop = { 0 };
    double killed;

    run_start(&loop, ARGS(built("husk-loop"), fmt("--socket-path=%s", path),
                          "--config-size=4"));
    start_husk(&run, "-d", fmt("reconnect=on,wait=10,socket=%s", path), "-a",
               "changes=1", guest("config"));
    cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
    kill(loop.pid, SIGKILL);
    run_end(&loop);
    nap(0.2);
    killed = now();
    kill(run.pid, SIGTERM);
    run_end(&run);
    CHECK_EQ(run.status, 143);
    cr_assert(now() - killed < SOON, "%g s", now() - killed);
    run_free(&run);
    run_free(&loop);
}

/* Whoever cannot do requests exactly once says so, but not each time. */
Test(reconnect, without_inflight)
{
    const char *pids = place("pids");
    struct run run = { .hold_in = true };

    start_husk(&run, "-d",
               fmt("reconnect=on,%s",
                   saying(pids, fmt("%s --reconnected --config-size=4 --fd=$0",
                                    built("husk-peer")))),
               "-a", "changes=1 load patience=30", guest("config"));
    cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
    for (unsigned n = 1; n <= 3; n++) {
        kill_last(&run, pids);
        cr_assert(run_until_said(&run, BACK, n), "'%s'", run.err);
    }
    kill(run.pid, SIGTERM);
    run_end(&run);
    CHECK_EQ(run.status, 143);
    CHECK_EQ(count_text(run.err, "the back-end has no INFLIGHT_SHMFD: requests "
                                 "that were in flight may be done twice\n"),
             1);
    CHECK_EQ(count_text(run.err, "violation"), 0);
    run_free(&run);
}
