/*
 * Back-ends that are stopped (SIGSTOP): they neither answer nor hang up. What
 * the guest does with such a device takes a deadline at most, other devices
 * work on, husk ends at once when told to, and a back-end that is let go on
 * serves on if nothing was due meanwhile.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/disk.h"
#include "tests/guest/run.h"

TestSuite(fault, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static void stop(pid_t pid)
{
    siginfo_t info;

    kill(pid, SIGSTOP);
    /* of a child of ours: until it has stopped */
    waitid(P_PID, (id_t)pid, &info, WSTOPPED);
}

/* A device of a back-end that is stopped, and one that is in order. */
struct pair {
    struct backend bad, good;
    struct run run;
};

static void begin(struct pair *p, const char *keys, const char *options,
                  const char *kernel)
{
    memset(p, 0, sizeof *p);
    backend_start(&p->bad, "husk-loop", "--config-size=4");
    backend_start(&p->good, "husk-loop", "--config-size=4");
    p->run.hold_in = true;
    start_husk(&p->run, "--on-reset", "again", "-d",
               fmt("%s,socket=%s", keys, p->bad.socket), "-d", p->good.socket,
               "-a", options, guest(kernel));
}

static void end(struct pair *p)
{
    kill(p->bad.run.pid, SIGCONT);
    backend_stop(&p->bad);
    backend_stop(&p->good);
    CHECK_STR(p->good.run.err, "");
    CHECK_EQ(p->bad.run.status, 0);
    CHECK_EQ(p->good.run.status, 0);
    run_free(&p->bad.run);
    run_free(&p->good.run);
    run_free(&p->run);
}

/* The guest goes on, and says the next text, but not before least seconds. */
static void soon(struct pair *p, const char *text, double least)
{
    double began = now();

    run_type(&p->run, "x");
    cr_assert(run_until(&p->run, text), "no '%s' in '%s'; '%s'", text,
              p->run.out, p->run.err);
    cr_assert(now() - began > least && now() - began < SOON,
              "%g s and not %g to %d", now() - began, least, SOON);
}

/* One access waits for the deadline; those behind it wait for nothing. */
Test(fault, reset_of_a_stopped_device)
{
    struct pair p;

    begin(&p, "deadline=1", "hold reset=100", "devices");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    stop(p.bad.run.pid);
    soon(&p, "virtio0: FEATURES_OK refused\nholding\n", 0.9);
    soon(&p, "virtio1 queue 0: 64 bytes ", 0);
    soon(&p, "virtio1: 100 resets\nholding\n", 0);
    run_type(&p.run, "x");
    run_end(&p.run);
    check_end(&p.run, 0, "pass");
    check_line(&p.run, "virtio0", "1 s");
    end(&p);
}

/* Told to stop while a vCPU waits for an answer, or nobody waits for any. */
Test(fault, husk_is_told_to_stop)
{
    for (unsigned waits = 0; waits < 2; waits++) {
        struct pair p;
        double asked;

        begin(&p, "deadline=60", "hold reset=100", "devices");
        cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
        stop(p.bad.run.pid);
        if (waits)
            run_type(&p.run, "x");
        nap(0.2);
        asked = now();
        kill(p.run.pid, SIGTERM);
        run_end(&p.run);
        check_end(&p.run, 143, "stopped");
        CHECK_STR(p.run.err, "");
        cr_assert(now() - asked < SOON, "%g s", now() - asked);
        end(&p);
    }
}

/* One that husk started itself gets to hear that it is to end. */
Test(fault, husk_is_told_to_stop_with_a_child)
{
    const char *said = place("pid");
    struct run run = { 0 };
    double asked;
    FILE *file;
    int pid;

    start_husk(&run, "-d",
               fmt("deadline=60,exec=sh -c 'echo $$ >%s; exec %s "
                   "--config-size=4 --fd=$0' {fd}",
                   said, built("husk-loop")),
               "-a", "changes=1", guest("config"));
    cr_assert(run_until(&run, "config ready: "), "'%s'", run.err);
    file = fopen(said, "re");
    CHECK_EQ(fscanf(file, "%d", &pid), 1);
    fclose(file);
    kill(pid, SIGSTOP);
    nap(0.1);
    asked = now();
    kill(run.pid, SIGTERM);
    run_end(&run);
    check_end(&run, 143, "stopped");
    cr_assert(now() - asked < SOON, "%g s", now() - asked);
    cr_assert(kill(pid, 0) < 0, "process %d is left", pid);
    run_free(&run);
}

/* A reboot resets the device, and the guest finds it lost. */
Test(fault, reboot_with_a_stopped_device)
{
    struct pair p;

    begin(&p, "deadline=1", "hold boots=9", "reboot");
    cr_assert(run_until(&p.run, "boot 2 of 9\nholding\n"), "'%s'", p.run.err);
    stop(p.bad.run.pid);
    soon(&p, "fail: virtio0: FEATURES_OK refused\n", 0.9);
    run_end(&p.run);
    check_end(&p.run, 1, "fail");
    check_line(&p.run, "virtio0", "1 s");
    end(&p);
}

/* Nothing was due, so nothing was late: it serves on where it was. */
Test(fault, stopped_and_let_go_on)
{
    const char *disk = disk_make("disk", 8 << 20);
    struct backend block;
    struct run run = { .hold_in = true };

    backend_start(&block, "husk-block", fmt("--file=%s", disk), "--queues=2");
    start_husk(&run, "-d", fmt("deadline=1,socket=%s", block.socket), "-a",
               "endless size=2m chunk=16k patience=30", guest("block"));
    cr_assert(run_until(&run, "block: 16384 sectors"), "'%s'", run.err);
    for (unsigned i = 0; i < 3; i++) {
        stop(block.run.pid);
        nap(i ? 0.1 : 1.5);
        kill(block.run.pid, SIGCONT);
        nap(0.05);
    }
    run_type(&run, "x");
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    disk_check(disk, 8 << 20, 2 << 20);
    run_free(&run);
    backend_stop(&block);
    CHECK_STR(block.run.err, "");
    CHECK_EQ(block.run.status, 0);
    run_free(&block.run);
}

/* Something was due, but reconnect= waits for as long as it takes. */
Test(fault, stopped_and_let_go_on_late)
{
    struct pair p;

    begin(&p, "reconnect=on,deadline=1", "hold strict patience=20 reset=20",
          "devices");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    stop(p.bad.run.pid);
    run_type(&p.run, "x");
    cr_assert(run_until_said(&p.run, "connecting again\n", 1), "'%s'",
              p.run.out);
    nap(0.2);
    kill(p.bad.run.pid, SIGCONT);
    cr_assert(run_until(&p.run, "virtio0: 20 resets\nholding\n"), "'%s' '%s'",
              p.run.out, p.run.err);
    CHECK_EQ(count_text(p.run.err, "the back-end is back after "), 1);
    soon(&p, "virtio1 queue 0: 64 bytes ", 0);
    kill(p.run.pid, SIGTERM);
    run_end(&p.run);
    CHECK_EQ(p.run.status, 143);
    end(&p);
}

/* Stopped before it was asked anything. */
Test(fault, stopped_before_the_guest_starts)
{
    struct backend loop;
    struct run run = { 0 };

    backend_start(&loop, "husk-loop", NULL);
    stop(loop.run.pid);
    run_husk(&run, "-d", fmt("deadline=0.4,socket=%s", loop.socket),
             guest("hello"));
    check_end(&run, 125, "error");
    check_line(&run, "virtio0", "GET_FEATURES", "0.4 s");
    cr_assert(run.seconds < SOON, "%g s", run.seconds);
    run_free(&run);
    kill(loop.run.pid, SIGCONT);
    backend_stop(&loop);
    run_free(&loop.run);
}
