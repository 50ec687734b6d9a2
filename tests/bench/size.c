/* How large what is shipped is, and how long what it is made of. */
#include "tests/bench/bench.h"

#include <stdio.h>
#include <sys/stat.h>

static void one(const struct bench *bench, const char *what, const char *path,
                double goal)
{
    const char *stripped = text("%s/stripped", bench->folder);
    struct stat st;

    if (proc_run(bench, ARGV("strip", "-o", stripped, path), 30) != 0 ||
        stat(stripped, &st) < 0)
        table_missing(bench->table, what,
                      text("%s could not be stripped", path));
    else
        table_add(bench->table, what, (double)st.st_size / 1024, "KiB", goal,
                  NULL);
}

/* The number that a command prints. */
static double lines(const char *command)
{
    FILE *pipe = popen(command, "re");
    double n = 0;

    if (pipe && fscanf(pipe, "%lf", &n) != 1)
        n = 0;
    if (pipe)
        pclose(pipe);
    return n;
}

void measure_size(const struct bench *bench)
{
    static const char *const folders[] = { "vmm", "devices", "devices/backends",
                                           "boot" };

    table_group(bench->table, "size");
    one(bench, "the library linked whole, stripped",
        text("%s/tests/bench/whole", bench->build), 160);
    one(bench, "husk, static, stripped", text("%s/husk", bench->build),
        1.2 * 1024);
    for (unsigned i = 0; i < sizeof folders / sizeof folders[0]; i++)
        table_add(bench->table, text("%s/*.[ch]", folders[i]),
                  lines(text("cat %s/*.[ch] | wc -l", folders[i])), "lines",
                  NO_GOAL, NULL);
}
