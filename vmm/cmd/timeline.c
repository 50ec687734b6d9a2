/*
 * See timeline.h. The kernel gives a process's start in hundredths of a second
 * only. So it is computed back from main(): the processor time that was used
 * by then is that of fork, execve and the libraries.
 */
#include "vmm/cmd/timeline.h"

#include <stddef.h>
#include <time.h>

#include "vmm/cmd/say.h"

#define MAX_MOMENTS 96

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void cmd_clock_main(struct cmd_clock *clock)
{
    clock->main = read_clock(CLOCK_MONOTONIC);
    clock->process = clock->main - read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void cmd_clock_arguments(struct cmd_clock *clock)
{
    clock->arguments = read_clock(CLOCK_MONOTONIC);
}

void cmd_timeline(const struct cmd_clock *clock, const struct husk_vm *vm,
                  void (*moment)(void *ctx, double ms, const char *name,
                                 const char *device),
                  void *ctx)
{
    struct husk_moment moments[MAX_MOMENTS];
    ssize_t n =
        vm ? husk_vm_timeline(vm, moments, sizeof moments[0], MAX_MOMENTS) : 0;
    struct husk_device device = { .size = sizeof device };

    moment(ctx, (double)(clock->main - clock->process) / 1e6, "main", NULL);
    moment(ctx, (double)(clock->arguments - clock->process) / 1e6, "arguments",
           NULL);
    for (ssize_t i = 0; i < n && i < MAX_MOMENTS; i++) {
        const char *name = NULL;

        if (moments[i].device >= 0 &&
            husk_vm_device(vm, (unsigned)moments[i].device, &device) == 0)
            name = device.name;
        moment(ctx, (double)(moments[i].ns - clock->process) / 1e6,
               moments[i].name, name);
    }
}

static void print(void *ctx, double ms, const char *name, const char *device)
{
    (void)ctx;
    cmd_say("%9.3f ms  %s%s%s", ms, name, device ? " " : "",
            device ? device : "");
}

void cmd_timeline_print(const struct cmd_clock *clock, const struct husk_vm *vm)
{
    cmd_say("    0.000 ms  process start, computed from the processor time "
            "until main");
    cmd_timeline(clock, vm, print, NULL);
}
