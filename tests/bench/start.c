/*
 * From a program's execve() to the first byte that its guest sends to the UART:
 * husk beside the floor under it and beside QEMU's microvm, and how it grows
 * with devices. The runs take turns, so that a busy moment hits all of them,
 * and where it is allowed all of them go before what else the machine does.
 */
#include "tests/bench/bench.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_RUNS    500u
#define MAX_CASES   8u
#define LIMIT       10.0 /* seconds for an end */
#define PAUSE       0.01 /* so that back-ends listen again */
#define HELLO_SAYS  'h'
#define PVH_SAYS    'p'
#define SMOOTH_RUNS 25u

struct start {
    const char *name;
    const char *const *argv;
    char first;   /* the byte that must come */
    bool endless; /* it has to be stopped after that */
    unsigned failed;
    double times[MAX_RUNS];
    unsigned n;
};

static void one(const struct bench *bench, struct start *start)
{
    struct proc proc;
    double time;

    proc_start(bench, &proc, start->argv);
    time = proc_first_byte(&proc);
    if (start->endless)
        proc_stop(&proc, SIGKILL);
    else if (proc_end(&proc, LIMIT) != 0)
        start->failed++;
    if (time < 0 || proc.said[0] != start->first)
        start->failed++;
    else
        start->times[start->n++] = time * 1e3;
    nap(PAUSE);
}

static void take_turns(const struct bench *bench, struct start *starts,
                       unsigned n, unsigned runs)
{
    unsigned order[MAX_CASES], random = 1;

    for (unsigned i = 0; i < n; i++)
        order[i] = i;
    for (unsigned run = 0; run < runs && run < MAX_RUNS; run++) {
        /* what one leaves behind is not always the same one's to bear */
        for (unsigned i = n - 1; i > 0; i--) {
            unsigned other, swap = order[i];

            random = random * 1103515245u + 12345u;
            other = (random >> 16) % (i + 1);
            order[i] = order[other];
            order[other] = swap;
        }
        for (unsigned i = 0; i < n; i++)
            one(bench, &starts[order[i]]);
    }
}

/* The median in ms, or NAN after saying what is wrong. */
static double judge(const struct bench *bench, struct start *start)
{
    table_record(bench->table, text("start_ms %s", start->name),
                 values_json(start->times, start->n));
    if (start->failed || start->n == 0) {
        table_missing(bench->table, start->name,
                      text("%u starts failed: see %s/stderr", start->failed,
                           bench->folder));
        return NAN;
    }
    return median(start->times, start->n);
}

/* The medians' ratio beside its goal; that of the undisturbed runs in a note.
 */
static void report(const struct bench *bench, const char *what,
                   struct start *start, struct start *base, double goal)
{
    double time = judge(bench, start), floor = judge(bench, base);

    if (isnan(time) || isnan(floor))
        return;
    table_add(bench->table, what, time / floor, "x", goal,
              text("%.2f ms / %.2f ms; lower quartiles %.2fx", time, floor,
                   lower_quartile(start->times, start->n) /
                       lower_quartile(base->times, base->n)));
}

/* QEMU's microvm with as little in it as it takes, with KVM or without. */
static const char *const *qemu_argv(const struct bench *bench,
                                    const char *accel)
{
    const char **argv = calloc(32, sizeof *argv);
    const char *const words[] = {
        "qemu-system-x86_64",
        "-M",
        "microvm,isa-serial=on,pic=off,rtc=off",
        "-accel",
        accel,
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
        "-kernel",
        text("%s/guests/pvh.elf", bench->build),
    };

    if (!argv)
        die("out of memory");
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
        argv[i] = words[i];
    return argv;
}

static void against_qemu(const struct bench *bench)
{
    static struct start starts[2];
    const char *accel = "kvm";

    starts[0] = (struct start){ .name = "qemu microvm",
                                .first = PVH_SAYS,
                                .endless = true,
                                .argv = qemu_argv(bench, accel) };
    one(bench, &starts[0]);
    if (starts[0].failed) {
        accel = "tcg";
        starts[0].argv = qemu_argv(bench, accel);
    }
    starts[0].failed = starts[0].n = 0;
    starts[1] =
        (struct start){ .name = "husk, PVH guest",
                        .first = PVH_SAYS,
                        .argv = husk_argv(bench, "pvh", NULL, 0, NULL) };
    take_turns(bench, starts, 2, bench->runs / 2 + 1);
    report(bench, text("husk against QEMU microvm (%s)", accel), &starts[1],
           &starts[0], 0.125);
}

void measure_start(const struct bench *bench)
{
    static struct start starts[5];
    static const unsigned devices[] = { 0, 1, 16 };
    static const double goals[] = { 1.5, 2.5, 6 };
    struct backends all;
    bool urgent = proc_urgent(true);

    table_group(bench->table, "start: execve() to the guest's first byte");
    backends_start(bench, &all, 16, "husk-rng", NULL);
    starts[0] = (struct start){
        .name = "floor",
        .first = HELLO_SAYS,
        .argv = ARGV(text("%s/tests/bench/floor", bench->build),
                     text("%s/guests/hello.elf", bench->build)),
    };
    for (unsigned i = 0; i < 3; i++)
        starts[1 + i] = (struct start){
            .name = text("husk, %u devices", devices[i]),
            .first = HELLO_SAYS,
            .argv = husk_argv(bench, "hello", &all, devices[i], NULL),
        };
    starts[4] = (struct start){
        .name = "husk --version",
        .first = HELLO_SAYS,
        .argv = ARGV(text("%s/husk", bench->build), "--version"),
    };
    take_turns(bench, starts, 5, 3); /* warm */
    for (unsigned i = 0; i < 5; i++)
        starts[i].n = starts[i].failed = 0;
    take_turns(bench, starts, 5, bench->runs);
    backends_stop(&all);
    for (unsigned i = 0; i < 3; i++)
        report(bench, text("%s, against the floor", starts[1 + i].name),
               &starts[1 + i], &starts[0], goals[i]);
    report(bench, "husk --version, which is exec and C library", &starts[4],
           &starts[0], NO_GOAL);
    table_add(bench->table, "one CPUID; a start takes about 140", host_cpuid(),
              "us", NO_GOAL, "next to nothing on bare metal");
    against_qemu(bench);
    table_record(bench->table, "start_at_real_time_priority",
                 json_boolean(urgent));
    proc_urgent(false);
}

/* Peak and present memory of a guest that holds still after its work; the
 * guest's own pages are told apart. */
static bool hold(const struct bench *bench, const struct backends *all,
                 unsigned n, struct resident *out)
{
    const char *const *argv =
        husk_argv(bench, n ? "flow" : "hello", all, n,
                  ARGV("-m", "256M", "-a", n ? "count=100 hold" : "echo"));
    struct proc proc;
    bool ok;

    proc_start(bench, &proc, argv);
    ok = proc_first_byte(&proc) >= 0;
    nap(0.01);
    ok = ok && proc_resident(proc.pid, out);
    ok = write(proc.in, "\x04", 1) == 1 && ok;
    return proc_end(&proc, LIMIT) == 0 && ok;
}

static void plot(const struct bench *bench, const double *x, const double *ms,
                 const double *kib, unsigned n)
{
    const char *path = text("%s/devices.gnuplot", bench->folder);
    FILE *file = fopen(path, "we");

    if (!file)
        die("%s cannot be written", path);
    fprintf(file, "$data << EOD\n");
    for (unsigned i = 0; i < n; i++)
        fprintf(file, "%g %g %g\n", x[i], ms[i], kib[i]);
    fprintf(file,
            "EOD\n"
            "set terminal svg size 640,400\n"
            "set output '%s/devices.svg'\n"
            "set xlabel 'devices'\n"
            "set ylabel 'start, ms'\n"
            "set y2label 'memory without the guest, KiB'\n"
            "set ytics nomirror\nset y2tics\n"
            "set xrange [0:*]\nset yrange [0:*]\nset y2range [0:*]\n"
            "set key left top\n"
            "plot $data using 1:2 with linespoints title 'start', "
            "$data using 1:3 axes x1y2 with linespoints title 'memory'\n",
            bench->folder);
    fclose(file);
    if (proc_run(bench, ARGV("gnuplot", path), 30) != 0)
        table_missing(bench->table, "plot", "gnuplot failed");
}

void measure_devices(const struct bench *bench)
{
    enum { N = 5 };
    static const unsigned counts[N] = { 0, 1, 4, 16, 32 };
    static struct start starts[N];
    struct backends all;
    double x[N], ms[N], kib[N];
    struct line time, memory;
    bool whole = true;

    table_group(bench->table, "devices: 0, 1, 4, 16 and 32 of them");
    proc_urgent(true);
    backends_start(bench, &all, 32, "husk-rng", NULL);
    for (unsigned i = 0; i < N; i++)
        starts[i] = (struct start){
            .name = text("curve, %u devices", counts[i]),
            .first = HELLO_SAYS,
            .argv = husk_argv(bench, "hello", &all, counts[i], NULL),
        };
    take_turns(bench, starts, N, SMOOTH_RUNS);
    proc_urgent(false);
    for (unsigned i = 0; i < N; i++) {
        struct resident resident = { 0 };

        x[i] = counts[i];
        ms[i] = judge(bench, &starts[i]);
        if (!isnan(ms[i])) /* a curve is to show devices, not disturbances */
            ms[i] = lower_quartile(starts[i].times, starts[i].n);
        whole =
            whole && !isnan(ms[i]) && hold(bench, &all, counts[i], &resident);
        kib[i] = resident.now - resident.guest;
        table_record(
            bench->table, text("curve %u", counts[i]),
            json_pack("{s:f, s:f}", "ms", whole ? ms[i] : 0, "kib", kib[i]));
    }
    backends_stop(&all);
    if (!whole) {
        table_missing(bench->table, "curve", "a run failed");
        return;
    }
    time = fit_line(x, ms, N);
    memory = fit_line(x + 1, kib + 1, N - 1); /* 0 runs another guest */
    table_add(bench->table, "start, a further device", time.slope * 1e3, "us",
              NO_GOAL, text("%.2f ms at none", time.start));
    table_add(bench->table, "start, distance from a line, 1 - r2", 1 - time.fit,
              "", 0.05, NULL);
    table_add(bench->table, "memory, a further device", memory.slope, "KiB",
              NO_GOAL, text("%.0f KiB at none", memory.start));
    table_add(bench->table, "memory, distance from a line, 1 - r2",
              1 - memory.fit, "", 0.05, NULL);
    plot(bench, x, ms, kib, N);
}

void measure_memory(const struct bench *bench)
{
    enum { RUNS = 7 };
    double peak[RUNS], now[RUNS], more[RUNS];
    struct backends all;

    table_group(bench->table,
                "memory: husk without its guest's pages, guest of 256 MiB");
    backends_start(bench, &all, 16, "husk-rng", NULL);
    for (unsigned i = 0; i < RUNS; i++) {
        struct resident few, many;

        if (!hold(bench, &all, 1, &few) || !hold(bench, &all, 16, &many)) {
            table_missing(bench->table, "memory", "a run failed");
            backends_stop(&all);
            return;
        }
        peak[i] = (few.peak - few.guest) / 1024;
        now[i] = (few.now - few.guest) / 1024;
        more[i] = (many.now - many.guest - few.now + few.guest) / 15;
    }
    backends_stop(&all);
    table_record(bench->table, "memory_peak_mib", values_json(peak, RUNS));
    table_add(bench->table, "one device, at most", median(peak, RUNS), "MiB",
              2.5, text("%.2f MiB once it runs", median(now, RUNS)));
    table_add(bench->table, "a further device", median(more, RUNS), "KiB", 64,
              NULL);
}
