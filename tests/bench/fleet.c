/*
 * Many virtual machines at once: 64 in one program by the library, and as many
 * husk commands side by side. Each has an entropy back-end that it started
 * itself, and all hold until the last one does.
 */
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VMS   64u
#define LIMIT 60.0
#define GOAL  1.1 /* memory of one among many, against one alone */

struct report {
    unsigned failures, before, during, after;
    double up;
    long memory_before, memory, guest;
};

/* Start the program of many.c and read its line. */
static bool together(const struct bench *bench, unsigned n,
                     struct report *report)
{
    struct proc proc;
    int fields;

    proc_start(bench, &proc,
               ARGV(text("%s/tests/bench/many", bench->build), text("%u", n),
                    text("%s/backends/husk-rng", bench->build),
                    text("%s/guests/flow.elf", bench->build)));
    proc_first_byte(&proc);
    fields = sscanf(proc.said, "%u %lf %ld %ld %ld %u %u %u", &report->failures,
                    &report->up, &report->memory_before, &report->memory,
                    &report->guest, &report->before, &report->during,
                    &report->after);
    return proc_end(&proc, LIMIT) < 2 && fields == 8;
}

static double each(const struct report *report, unsigned n)
{
    return (double)(report->memory - report->guest - report->memory_before) / n;
}

static void by_library(const struct bench *bench)
{
    struct report one, many;

    if (!together(bench, 1, &one) || !together(bench, VMS, &many)) {
        table_missing(bench->table, "one program",
                      text("it said nothing: see %s/stderr", bench->folder));
        return;
    }
    table_add(bench->table, "one program: failures",
              one.failures + many.failures, "", 0, NULL);
    table_add(bench->table, "one program: started", VMS / many.up, "/s",
              NO_GOAL, text("%.1f ms for one alone", one.up * 1e3));
    table_add(
        bench->table, "one program: memory each, against one alone",
        each(&many, VMS) / each(&one, 1), "x", GOAL,
        text("%.0f KiB against %.0f KiB", each(&many, VMS), each(&one, 1)));
    table_add(bench->table, "one program: descriptors left over",
              (double)many.after - many.before, "", 0,
              text("%u at most", many.during));
}

static void start_all(const struct bench *bench, struct proc *procs, unsigned n)
{
    const char *const *argv =
        husk_argv(bench, "flow", NULL, 0,
                  ARGV("-a", "count=8 depth=1 hold", "-d",
                       text("exec=%s/backends/husk-rng", bench->build)));

    for (unsigned i = 0; i < n; i++)
        proc_start(bench, &procs[i], argv);
}

/* n commands at once: their median memory in KiB; how many failed. */
static double side_by_side(const struct bench *bench, unsigned n, double *up,
                           unsigned *failures)
{
    struct proc procs[VMS];
    double memory[VMS], began = seconds();
    unsigned known = 0;

    start_all(bench, procs, n);
    for (unsigned i = 0; i < n; i++)
        *failures += proc_first_byte(&procs[i]) < 0;
    *up = seconds() - began;
    for (unsigned i = 0; i < n; i++) {
        struct resident resident;

        if (proc_resident(procs[i].pid, &resident))
            memory[known++] = resident.now - resident.guest;
    }
    for (unsigned i = 0; i < n; i++)
        *failures += write(procs[i].in, "\x04", 1) != 1;
    for (unsigned i = 0; i < n; i++)
        *failures += proc_end(&procs[i], LIMIT) != 0;
    return median(memory, known);
}

static void by_command(const struct bench *bench)
{
    unsigned failures = 0;
    double up, alone = side_by_side(bench, 1, &up, &failures);
    double many = side_by_side(bench, VMS, &up, &failures);

    table_add(bench->table, "64 commands: failures", failures, "", 0, NULL);
    table_add(bench->table, "64 commands: started", VMS / up, "/s", NO_GOAL,
              NULL);
    table_add(bench->table, "64 commands: memory each, against one alone",
              many / alone, "x", GOAL,
              text("%.0f KiB against %.0f KiB", many, alone));
}

void measure_many(const struct bench *bench)
{
    table_group(bench->table, "many: 64 machines at once");
    by_library(bench);
    by_command(bench);
}
