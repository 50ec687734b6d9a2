/* The moments of a run, from the process's begin on. */
#ifndef HUSK_VMM_CMD_TIMELINE_H
#define HUSK_VMM_CMD_TIMELINE_H

#include <stdint.h>

#include "husk.h"

/* When the process began, and what the library cannot know; ns. */
struct cmd_clock {
    uint64_t process, main, arguments;
};

/* At main()'s begin, and when the arguments were parsed. */
void cmd_clock_main(struct cmd_clock *clock);
void cmd_clock_arguments(struct cmd_clock *clock);

/* Call moment() for every moment of a run, in order; device is NULL for the
 * VM's own. vm may be NULL. */
void cmd_timeline(const struct cmd_clock *clock, const struct husk_vm *vm,
                  void (*moment)(void *ctx, double ms, const char *name,
                                 const char *device),
                  void *ctx);
/* Print them on standard error. */
void cmd_timeline_print(const struct cmd_clock *clock,
                        const struct husk_vm *vm);

#endif
