/*
 * Guests that reset their devices over and over, and guests that reboot:
 * descriptors, threads and mappings of husk and of its back-ends are as many
 * at the end as after the first time.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(reset, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static void check_same(const char *whose, struct holdings before,
                       struct holdings after)
{
    cr_assert(same_holdings(before, after),
              "%s: %u descriptors, %u threads and %u mappings became %u, %u "
              "and %u",
              whose, before.fds, before.threads, before.maps, after.fds,
              after.threads, after.maps);
}

/* While the guest, having said text, waits to be let go on. */
static struct holdings held(struct run *run, const char *text, pid_t pid)
{
    cr_assert(run_until(run, fmt("%s\nholding\n", text)),
              "no '%s' in '%s'; '%s'", text, run->out, run->err);
    nap(0.02); /* what a reset left for the loop */
    return holdings_of(pid);
}

/* How many seconds it took. */
static double many_lives(const char *append, unsigned resets)
{
    const char *first = "virtio0 queue 1: 64 bytes", *last;
    struct backend loop;
    struct run run = { .hold_in = true };
    struct holdings before, behind;
    double seconds;

    for (unsigned i = 0; i < 64; i++)
        first = fmt("%s%s", first, i ? "a5" : " a5");
    last = fmt("virtio0: %u resets", resets);
    backend_start(&loop, "husk-loop", "--queues=2", "--config-size=8");
    start_husk(&run, "-d", loop.socket, "-a",
               fmt("hold strict reset=%u %s", resets, append),
               guest("devices"));
    before = held(&run, first, run.pid);
    behind = holdings_of(loop.run.pid);
    run_type(&run, "x");
    check_same("husk", before, held(&run, last, run.pid));
    check_same("the back-end", behind, holdings_of(loop.run.pid));
    run_type(&run, "x");
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    seconds = run.seconds;
    run_free(&run);
    backend_stop(&loop);
    CHECK_STR(loop.run.err, "");
    run_free(&loop.run);
    return seconds;
}

/* The long form: as many as there is time for, up to most. */
static void many_more_lives(const char *append, unsigned resets, unsigned most)
{
    double fit = resets / many_lives(append, resets) * 30;

    if (long_form() && fit > resets)
        many_lives(append, fit < most ? (unsigned)fit : most);
}

Test(reset, thousands_of_resets)
{
    many_more_lives("", 400, 10000);
}

Test(reset, resets_of_packed_rings)
{
    many_more_lives("packed event-idx indirect", 200, 1000);
}

/* husk and a back-end that it started itself, through many boots. */
static void boot_often(const char *with, const char *append)
{
    struct run run = { .hold_in = true };
    unsigned boots = long_form() ? 100 : 40;
    struct holdings before;

    start_husk(&run, with, "--on-reset", "again", "-d",
               fmt("%s --config-size=4", exec_spec("husk-loop")), "-d",
               exec_spec("husk-rng"), "-a",
               fmt("hold boots=%u %s", boots, append), guest("reboot"));
    before = held(&run, fmt("reboot: boot 2 of %u", boots), run.pid);
    run_type(&run, "x");
    check_same("husk", before,
               held(&run, fmt("reboot: boot %u of %u", boots, boots), run.pid));
    run_type(&run, "x");
    run_end(&run);
    check_end(&run, 0, "pass");
    CHECK_EQ(count_text(run.out, "reboot: boot "), boots);
    CHECK_EQ(record_int(&run, NULL, "boots"), boots);
    run_free(&run);
}

Test(reset, many_boots)
{
    boot_often("-v", "");
}

Test(reset, many_boots_without_a_window)
{
    boot_often("--no-window", "packed by=triple");
}
