/*
 * What the data path costs husk: nothing. More requests bring no more returns
 * from KVM_RUN of any kind, and no system call of any of husk's threads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(exits, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static const char *const kinds[] = { "io", "mmio_read", "mmio_write", "hlt",
                                     "other" };

#define N_KINDS (sizeof kinds / sizeof kinds[0])

static void count(const char *device, const char *kernel, const char *append,
                  long long *exits)
{
    struct run run = { 0 };

    run_husk(&run, "-d", device, "-a", append, guest(kernel));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "pass\n");
    for (size_t i = 0; i < N_KINDS; i++)
        exits[i] = record_int(&run, "exits", kinds[i]);
    run_free(&run);
}

static const char *const features[] = { "", "packed", "event-idx",
                                        "packed event-idx" };

/* The same run with few requests and with many. */
static void same_exits(const char *device, const char *kernel, const char *few,
                       const char *many)
{
    for (size_t f = 0; f < sizeof features / sizeof features[0]; f++) {
        long long a[N_KINDS], b[N_KINDS];

        count(device, kernel, fmt("strict %s %s", features[f], few), a);
        count(device, kernel, fmt("strict %s %s", features[f], many), b);
        for (size_t i = 0; i < N_KINDS; i++)
            cr_assert(a[i] == b[i],
                      "%s, '%s': %lld exits of kind %s with %s, "
                      "%lld with %s",
                      device, features[f], a[i], kinds[i], few, b[i], many);
        CHECK_EQ(a[1], 0); /* registers are read without an exit */
        CHECK_EQ(a[3], 0);
        CHECK_EQ(a[4], 0);
    }
}

Test(exits, none_a_request_of_entropy)
{
    same_exits(exec_spec("husk-rng"), "devices", "count=10", "count=1010");
}

Test(exits, none_a_request_of_loop)
{
    const char *device = fmt("%s --queues=2", exec_spec("husk-loop"));

    same_exits(device, "devices", "count=10 depth=4", "count=1010 depth=4");
}

Test(exits, none_a_request_with_ring_resets)
{
    same_exits(exec_spec("husk-loop"), "devices", "count=10 ring-reset",
               "count=510 ring-reset");
}

/* Sizes of as many digits, since they are printed: a byte is an exit. */
Test(exits, none_a_request_of_block)
{
    const char *disk = place("disk");

    fclose(fopen(disk, "we"));
    cr_assert(truncate(disk, 4 << 20) == 0);
    same_exits(fmt("%s --queues=2 --file=%s", exec_spec("husk-block"), disk),
               "block", "chunk=4096 size=131072", "chunk=4096 size=917504");
}

/* Without the window registers are read by exits, but data still is not. */
Test(exits, none_a_request_without_a_window)
{
    static const char *const counts[] = { "count=10", "count=510" };
    long long exits[2][N_KINDS];

    for (unsigned n = 0; n < 2; n++) {
        struct run run = { 0 };

        run_husk(&run, "--no-window", "-d", exec_spec("husk-rng"), "-a",
                 counts[n], guest("devices"));
        check_quiet_end(&run, 0, "pass");
        for (size_t i = 0; i < N_KINDS; i++)
            exits[n][i] = record_int(&run, "exits", kinds[i]);
        run_free(&run);
    }
    CHECK_EQ(exits[0][0], exits[1][0]);
    CHECK_EQ(exits[0][2], exits[1][2]);
    /* the guest reads InterruptStatus once an interrupt */
    cr_assert(exits[1][1] > exits[0][1] && exits[1][1] <= exits[0][1] + 500,
              "%lld and %lld reads", exits[0][1], exits[1][1]);
}

/* What strace saw of husk, all its threads together. */
struct trace {
    unsigned entries;  /* KVM_RUN */
    unsigned messages; /* sent to the back-end */
    unsigned calls;    /* all */
};

static void read_trace(struct trace *t, const char *path)
{
    FILE *file = fopen(path, "re");
    char line[4096];

    cr_assert(file);
    memset(t, 0, sizeof *t);
    while (fgets(line, sizeof line, file)) {
        const char *call = strchr(line, ' ');

        call += call ? strspn(call, " ") : 0;
        if (!call || strncmp(call, "<...", 4) == 0 || call[0] == '+' ||
            call[0] == '-')
            continue;
        t->calls++;
        t->entries += strstr(call, "KVM_RUN") != NULL;
        t->messages += strncmp(call, "sendmsg(", 8) == 0;
    }
    fclose(file);
}

static void trace(struct trace *t, const char *append)
{
    const char *path = place("trace");
    struct backend loop;
    struct run run = { 0 };

    backend_start(&loop, "husk-loop", NULL);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* not under ptrace */
    run_any(&run, "strace", "-f", "-o", path, built("husk"), "run", "-d",
            loop.socket, "-a", append, guest("devices"));
    if (run.status == 127 || strstr(run.err, "ptrace"))
        cr_skip_test("strace: %s", run.err);
    CHECK_STR(run.err, "");
    CHECK_EQ(run.status, 0);
    check_out(&run, "pass\n");
    run_free(&run);
    backend_stop(&loop);
    run_free(&loop.run);
    read_trace(t, path);
}

Test(exits, no_system_call_a_request)
{
    static const char *const with[] = { "", "packed event-idx" };

    for (unsigned i = 0; i < 2; i++) {
        struct trace few, many;

        trace(&few, fmt("%s count=10", with[i]));
        trace(&many, fmt("%s count=310", with[i]));
        CHECK_EQ(many.entries, few.entries);
        CHECK_EQ(many.messages, few.messages);
        cr_assert(few.entries > 10 && few.messages > 10);
        /* the loop has timers, and the guest runs for longer */
        cr_assert(many.calls < few.calls + 30, "%u system calls became %u",
                  few.calls, many.calls);
    }
}
