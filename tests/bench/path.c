/*
 * What a completed request costs husk: returns from KVM_RUN, and system calls
 * of all its threads. Both are the difference of two runs that differ in the
 * number of requests alone, so that all else goes away.
 */
#include "tests/bench/bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FEW     100u
#define MANY    1100u
#define LIMIT   60.0 /* seconds for a run */
/* At most, of counts that seem to grow: the wakeups of a loop differ by a few,
 * so that the ranges of both counts meet. A true cost keeps them apart. */
#define REPEATS 8u

struct kind {
    const char *name, *program, *args[3], *append;
};

static const char *const rings[] = { "", "packed", "event-idx",
                                     "packed event-idx" };

static const char *kind_append(const struct kind *kind, const char *ring,
                               unsigned count)
{
    return text("%s %s count=%u", kind->append, ring, count);
}

/* All returns from KVM_RUN in a run's record; negative: there is none. */
static double exits_in(const char *path)
{
    json_t *record = json_load_file(path, 0, NULL), *value;
    double sum = 0;
    const char *key;
    bool found = false;

    json_object_foreach(json_object_get(record, "exits"), key, value)
    {
        sum += (double)json_integer_value(value);
        found = true;
    }
    json_decref(record);
    return found ? sum : -1;
}

static double count_exits(const struct bench *bench, const struct kind *kind,
                          const struct backends *all, const char *ring,
                          unsigned count)
{
    const char *path = text("%s/record.json", bench->folder);

    unlink(path);
    if (proc_run(bench,
                 husk_argv(bench, "flow", all, 1,
                           ARGV("-a", kind_append(kind, ring, count), "--json",
                                path)),
                 LIMIT) != 0)
        return -1;
    nap(0.005);
    return exits_in(path);
}

/* The calls in strace's summary; its last line is the sum. */
static double calls_in(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[256];
    double calls = -1;

    while (file && fgets(line, sizeof line, file))
        if (strstr(line, " total"))
            sscanf(line, "%*s %*s %*s %lf", &calls);
    if (file)
        fclose(file);
    return calls;
}

static double count_calls(const struct bench *bench, const struct kind *kind,
                          const struct backends *all, const char *ring,
                          unsigned count)
{
    const char *path = text("%s/calls", bench->folder);
    const char *const *husk = husk_argv(
        bench, "flow", all, 1, ARGV("-a", kind_append(kind, ring, count)));
    const char *argv[32] = { "strace", "-f", "-c", "-o", path };

    for (unsigned n = 0; husk[n] && n < 26; n++)
        argv[5 + n] = husk[n];
    unlink(path);
    if (proc_run(bench, argv, LIMIT) != 0)
        return -1;
    nap(0.005);
    return calls_in(path);
}

typedef double counter(const struct bench *bench, const struct kind *kind,
                       const struct backends *all, const char *ring,
                       unsigned count);

/* The worst ring of a device kind. */
static void compare(const struct bench *bench, const struct kind *kind,
                    const struct backends *all, counter *count,
                    const char *what, const char *const *with, unsigned n)
{
    double worst = 0;
    json_t *record = json_object();
    bool whole = true;

    for (unsigned i = 0; i < n; i++) {
        double few = count(bench, kind, all, with[i], FEW);
        double many = count(bench, kind, all, with[i], MANY), each;

        whole = whole && few >= 0 && many >= 0;
        for (unsigned r = 0; whole && many > few && r < REPEATS; r++) {
            double again = count(bench, kind, all, with[i], MANY);
            double once_more = count(bench, kind, all, with[i], FEW);

            whole = again >= 0 && once_more >= 0;
            if (again < many)
                many = again;
            if (once_more > few)
                few = once_more;
        }
        each = (many - few) / (MANY - FEW);
        if (each > worst)
            worst = each;
        json_object_set_new(record, *with[i] ? with[i] : "split",
                            json_pack("{s:f, s:f}", "few", few, "many", many));
    }
    table_record(bench->table, text("%s %s", what, kind->name), record);
    if (whole)
        table_add(bench->table, text("%s, %s", what, kind->name), worst, "", 0,
                  text("worst of %u kinds of rings", n));
    else
        table_missing(bench->table, text("%s, %s", what, kind->name),
                      text("a run failed: see %s/stderr", bench->folder));
}

static void make_disk(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
        die("%s cannot be made", path);
    close(fd);
}

void measure_path(const struct bench *bench)
{
    const char *disk = text("%s/disk", bench->folder);
    const struct kind kinds[] = {
        { "entropy", "husk-rng", { NULL }, "" },
        { "block",
          "husk-block",
          { text("--file=%s", disk) },
          "head=00000000000000000000000000000000 in=513 judge" },
        { "network",
          "husk-net",
          { text("--unix=%s/net", bench->folder) },
          "queue=1 out=72 in=0" },
        { "console",
          "husk-console",
          { "--file=/dev/null" },
          "queue=1 out=64 in=0" },
        { "loop", "husk-loop", { NULL }, "" },
    };
    const unsigned n = sizeof kinds / sizeof kinds[0];

    make_disk(disk);
    table_group(bench->table, "data path: husk's part in a completed request");
    for (unsigned i = 0; i < n; i++) {
        struct backends all;

        backends_start(bench, &all, 1, kinds[i].program, kinds[i].args);
        compare(bench, &kinds[i], &all, count_exits, "KVM_RUN returns", rings,
                4);
        compare(bench, &kinds[i], &all, count_calls, "system calls", rings, 4);
        backends_stop(&all);
    }
    unlink(disk);
}
