/*
 * A block back-end under load, by a guest and by a driver without a machine:
 * what is lost between the two is the guest's, since husk itself is out of the
 * way. Both keep 32 reads of 4 KiB under way and sleep until they are called.
 */
#include "tests/bench/bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bare.h"

#define FEW       500u
#define MANY      4500u
#define BARE      40000u
#define DEPTH     32u
#define BLOCK     4096u
#define HEAD      16u
#define RUNS      5u
#define DISK      "/dev/shm/husk-bench-disk" /* a tmpfs everywhere */
#define DISK_SIZE (1 << 20)

#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_PACKED    (UINT64_C(1) << 34)

struct ring {
    const char *name, *append;
    uint64_t features;
};

/* Seconds from start to holding, and whose processor they were. */
struct cost {
    double wall, vcpu, husk, backend;
};

static bool run_guest(const struct bench *bench, const struct backends *all,
                      const char *append, unsigned count, struct cost *cost)
{
    const char *const *argv = husk_argv(
        bench, "flow", all, 1,
        ARGV("-a", text("head=00000000000000000000000000000000 in=%u judge "
                        "hold depth=%u count=%u %s",
                        BLOCK + 1, DEPTH, count, append)));
    double before = proc_cpu(all->proc[0].pid, NULL), all_of_husk;
    struct proc proc;
    bool ok;

    proc_start(bench, &proc, argv);
    cost->wall = proc_first_byte(&proc);
    cost->vcpu = proc_cpu(proc.pid, "vcpu0");
    all_of_husk = proc_cpu(proc.pid, NULL);
    cost->husk = all_of_husk - cost->vcpu;
    cost->backend = proc_cpu(all->proc[0].pid, NULL) - before;
    ok = cost->wall >= 0 && cost->vcpu >= 0 && before >= 0;
    ok = write(proc.in, "\x04", 1) == 1 && ok;
    ok = proc_end(&proc, 10) == 0 && ok;
    nap(0.01);
    return ok;
}

/* Per request, by the difference of two runs; in microseconds. */
static bool guest_cost(const struct bench *bench, const struct backends *all,
                       const char *append, struct cost *cost)
{
    const double n = (MANY - FEW) / 1e6;
    struct cost few, many;

    if (!run_guest(bench, all, append, FEW, &few) ||
        !run_guest(bench, all, append, MANY, &many))
        return false;
    *cost =
        (struct cost){ (many.wall - few.wall) / n, (many.vcpu - few.vcpu) / n,
                       (many.husk - few.husk) / n,
                       (many.backend - few.backend) / n };
    return true;
}

static bool bare_cost(const struct backends *all, uint64_t features,
                      struct cost *cost)
{
    static const uint8_t head[HEAD];
    double before = proc_cpu(all->proc[0].pid, NULL);
    struct bare bare;
    int rc = bare_open(&bare, all->socket[0], features);

    *cost = (struct cost){ 0 };
    if (rc == 0)
        cost->wall =
            bare_flow(&bare, BARE, DEPTH, head, HEAD, BLOCK + 1) / BARE * 1e6;
    cost->backend = (proc_cpu(all->proc[0].pid, NULL) - before) / BARE * 1e6;
    bare_close(&bare);
    nap(0.01);
    return rc == 0 && cost->wall > 0;
}

static double of(const struct cost *costs, size_t field)
{
    double values[RUNS];

    for (unsigned i = 0; i < RUNS; i++)
        memcpy(&values[i], (const char *)&costs[i] + field, sizeof values[i]);
    return median(values, RUNS);
}

static void report(const struct bench *bench, const struct ring *ring,
                   const struct cost *guest, const struct cost *bare)
{
    double wall = of(guest, offsetof(struct cost, wall));
    double alone = of(bare, offsetof(struct cost, wall));
    struct table *table = bench->table;

    table_add(table, text("%s: a guest", ring->name), 1e6 / wall, "/s", NO_GOAL,
              NULL);
    table_add(table, text("%s: no guest, bare driver", ring->name), 1e6 / alone,
              "/s", NO_GOAL, NULL);
    table_add(table, text("%s: a request, guest's processor", ring->name),
              of(guest, offsetof(struct cost, vcpu)), "us", NO_GOAL,
              text("of %.1f us between two answers", wall));
    table_add(table, text("%s: a request, rest of husk", ring->name),
              of(guest, offsetof(struct cost, husk)), "us", NO_GOAL, NULL);
    table_add(table, text("%s: a request, back-end", ring->name),
              of(guest, offsetof(struct cost, backend)), "us", NO_GOAL,
              text("%.1f us under the bare driver",
                   of(bare, offsetof(struct cost, backend))));
}

void measure_load(const struct bench *bench)
{
    static const struct ring rings[] = {
        { "split", "", F_VERSION_1 },
        { "packed, event-idx", "packed event-idx",
          F_VERSION_1 | F_PACKED | F_EVENT_IDX },
    };
    struct backends all;
    int fd = open(DISK, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    table_group(bench->table,
                "load: block back-end on tmpfs, 32 reads of 4 KiB under way");
    if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0) {
        table_missing(bench->table, "load", DISK " cannot be made");
        return;
    }
    close(fd);
    backends_start(bench, &all, 1, "husk-block", ARGV("--file=" DISK));
    for (unsigned r = 0; r < sizeof rings / sizeof rings[0]; r++) {
        struct cost guest[RUNS], bare[RUNS];
        bool whole = true;

        for (unsigned i = 0; i < RUNS && whole; i++)
            whole = guest_cost(bench, &all, rings[r].append, &guest[i]) &&
                    bare_cost(&all, rings[r].features, &bare[i]);
        if (whole)
            report(bench, &rings[r], guest, bare);
        else
            table_missing(bench->table, rings[r].name,
                          text("a run failed: see %s/stderr", bench->folder));
    }
    backends_stop(&all);
    unlink(DISK);
}
