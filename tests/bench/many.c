/*
 * Many virtual machines in one program on one loop, each with an entropy
 * back-end of its own. All of them hold after their work until the last one
 * does, so that they are there at once. Usage: many N HUSK-RNG KERNEL; prints
 * one line: failures, seconds until all hold, memory in KiB and descriptors
 * before, while they hold, and after, and their guests' share of the memory.
 */
#include <dirent.h>
#include <ev.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "husk.h"

#define MAX_VMS 256u
#define LIMIT   60.0 /* seconds for all */

struct fleet;

struct one {
    struct fleet *fleet;
    struct husk_vm *vm;
    int console[2];
    ev_io output;
    bool holds;
};

struct fleet {
    struct ev_loop *loop;
    unsigned n, holding, ended, failures;
    struct one one[MAX_VMS];
    double began, up;
    long memory, guest;
    unsigned descriptors;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Resident KiB of this program, all of it and the guests' memory alone. */
static void look(long *all, long *guest)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[1024];
    bool of_guest = false;

    *all = *guest = 0;
    while (file && fgets(line, sizeof line, file)) {
        const char *dash = strchr(line, '-');
        long size;

        if (dash && dash < strchr(line, ' '))
            of_guest = strstr(line, "memfd:husk-memory") != NULL;
        if (sscanf(line, "Rss: %ld", &size) == 1) {
            *all += size;
            if (of_guest)
                *guest += size;
        }
    }
    if (file)
        fclose(file);
}

static unsigned count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned n = 0;

    while (folder && readdir(folder))
        n++;
    if (folder)
        closedir(folder);
    return n;
}

/* All are there: note what they take, and let them go. */
static void release(struct fleet *fleet)
{
    fleet->up = now() - fleet->began;
    look(&fleet->memory, &fleet->guest);
    fleet->descriptors = count_descriptors();
    for (unsigned i = 0; i < fleet->n; i++)
        if (husk_vm_console_input(fleet->one[i].vm, "\x04", 1) != 1)
            fleet->failures++;
}

static void on_output(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct one *one = watcher->data;
    char bytes[256];

    (void)revents;
    if (read(one->console[0], bytes, sizeof bytes) <= 0)
        ev_io_stop(loop, watcher);
    else if (!one->holds) {
        one->holds = true;
        if (++one->fleet->holding == one->fleet->n)
            release(one->fleet);
    }
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct one *one = ctx;
    struct fleet *fleet = one->fleet;

    if (end->status != 0 || !one->holds) {
        fprintf(stderr, "many: a machine ended with %d: %s\n", end->status,
                end->text ? end->text : "");
        fleet->failures++;
        ev_break(fleet->loop, EVBREAK_ALL);
    }
    if (++fleet->ended == fleet->n)
        ev_break(fleet->loop, EVBREAK_ALL);
}

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    (void)ctx;
    if (level == HUSK_LOG_WARNING)
        fprintf(stderr, "many: %s\n", text);
}

static void on_limit(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    (void)watcher;
    (void)revents;
    fprintf(stderr, "many: not at their end in time\n");
    ev_break(loop, EVBREAK_ALL);
}

static bool start(struct one *one, const char *spec, const char *kernel)
{
    struct husk_config config = {
        .size = sizeof config,
        .kernel = kernel,
        .append = "count=8 depth=1 hold",
        .ctx = one,
        .ended = on_ended,
        .log = on_log,
    };
    struct husk_err err = { 0 };

    if (pipe(one->console) < 0)
        return false;
    ev_io_init(&one->output, on_output, one->console[0], EV_READ);
    one->output.data = one;
    ev_io_start(one->fleet->loop, &one->output);
    if (husk_vm_create(&one->vm, one->fleet->loop, &config, &err) < 0 ||
        husk_vm_add_device(one->vm, spec, &err) < 0 ||
        husk_vm_set_console(one->vm, one->console[1], &err) < 0 ||
        husk_vm_start(one->vm, &err) < 0) {
        fprintf(stderr, "many: %s\n", err.text);
        return false;
    }
    return true;
}

static void stop(struct one *one)
{
    husk_vm_destroy(one->vm);
    ev_io_stop(one->fleet->loop, &one->output);
    if (one->console[1]) {
        close(one->console[0]);
        close(one->console[1]);
    }
}

int main(int argc, char **argv)
{
    static struct fleet fleet;
    unsigned before, after;
    char spec[4200];
    long memory, guest;
    ev_timer limit;

    if (argc != 4)
        return 2;
    fleet.n = (unsigned)atoi(argv[1]);
    if (fleet.n < 1 || fleet.n > MAX_VMS)
        return 2;
    snprintf(spec, sizeof spec, "exec=%s", argv[2]);
    fleet.loop = ev_default_loop(0);
    ev_timer_init(&limit, on_limit, LIMIT, 0);
    ev_timer_start(fleet.loop, &limit);
    ev_run(fleet.loop, EVRUN_NOWAIT); /* what a loop opens, it has now */
    look(&memory, &guest);
    before = count_descriptors();
    fleet.began = now();
    for (unsigned i = 0; i < fleet.n; i++) {
        fleet.one[i].fleet = &fleet;
        if (!start(&fleet.one[i], spec, argv[3]))
            fleet.failures++;
    }
    if (fleet.failures == 0)
        ev_run(fleet.loop, 0);
    fleet.failures += fleet.n - fleet.ended;
    for (unsigned i = 0; i < fleet.n; i++)
        stop(&fleet.one[i]);
    ev_timer_stop(fleet.loop, &limit);
    after = count_descriptors();
    printf("%u %.6f %ld %ld %ld %u %u %u\n", fleet.failures, fleet.up, memory,
           fleet.memory, fleet.guest, before, fleet.descriptors, after);
    return fleet.failures ? 1 : 0;
}
