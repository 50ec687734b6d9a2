/*
 * Measures what husk promises of itself, in ratios and counts of one host and
 * one run. Usage: bench BUILD-FOLDER [PART]...; without a part, all of them.
 * Status 1 if a goal is missed and BENCH_STRICT is in the environment: on a
 * busy machine a missed goal is news, not a failure.
 */
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct {
    const char *name;
    void (*measure)(const struct bench *bench);
} parts[] = {
    { "start", measure_start },   { "devices", measure_devices },
    { "memory", measure_memory }, { "path", measure_path },
    { "load", measure_load },     { "many", measure_many },
    { "size", measure_size },
};

#define N_PARTS (sizeof parts / sizeof parts[0])

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], name))
            return true;
    return argc <= 2;
}

static void describe_host(const struct bench *bench)
{
    struct utsname name;
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[4096];
    bool virt = false;

    while (file && fgets(line, sizeof line, file))
        virt |= !strncmp(line, "flags", 5) &&
                (strstr(line, " vmx") || strstr(line, " svm"));
    if (file)
        fclose(file);
    uname(&name);
    table_record(bench->table, "host",
                 json_pack("{s:s, s:s, s:i, s:b}", "kernel", name.release,
                           "machine", name.machine, "processors",
                           (int)sysconf(_SC_NPROCESSORS_ONLN),
                           "hardware_virtualization", virt));
    if (!virt)
        printf("No vmx or svm here: KVM emulates the guest's instructions. "
               "Ratios and counts\nhold, times of guests do not.\n\n");
}

int main(int argc, char **argv)
{
    struct bench bench = { .runs = 50 };
    double began = seconds();
    unsigned failed;

    if (argc < 2)
        die("usage: bench BUILD-FOLDER [PART]...");
    bench.build = realpath(argv[1], NULL);
    if (!bench.build)
        die("there is no folder %s", argv[1]);
    if (access("/dev/kvm", R_OK | W_OK) < 0)
        die("/dev/kvm is missing or not ours to use");
    bench.folder = text("%s/bench", bench.build);
    mkdir(bench.folder, 0777);
    unlink(text("%s/stderr", bench.folder));
    bench.table = table_create(text("%s/bench.json", bench.folder));
    describe_host(&bench);
    for (size_t i = 0; i < N_PARTS; i++)
        if (wanted(parts[i].name, argc, argv))
            parts[i].measure(&bench);
    table_record(bench.table, "seconds", json_real(seconds() - began));
    failed = table_finish(bench.table);
    printf("\n%s/bench.json, after %.0f s\n", bench.folder, seconds() - began);
    return failed && getenv("BENCH_STRICT") ? 1 : 0;
}
