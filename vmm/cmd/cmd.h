/*
 * The husk command: what its files share. Built on husk.h alone, as any other
 * embedder would be.
 */
#ifndef HUSK_VMM_CMD_H
#define HUSK_VMM_CMD_H

#include <stdbool.h>
#include <stdint.h>

#include "husk.h"

#define CMD_ERROR 125 /* exit status of husk's own failures */

/* When the process began, and what the library cannot know; ns. */
struct cmd_clock {
    uint64_t process, main, arguments;
};

/* The options of run. Strings point into argv. */
struct cmd_options {
    int argc;
    char **argv;
    const char *kernel;
    const char *append;
    const char *dump_dtb;
    const char *json;
    const char **initrds;
    unsigned n_initrds;
    enum husk_discovery discovery;
    const char **devices;
    unsigned n_devices;
    uint64_t memory;
    unsigned cpus;
    double timeout;
    bool verbose;
    bool reset_again;
    bool no_window;
    bool timeline;
    struct cmd_clock clock;
};

int cmd_run(const struct cmd_options *options);
int cmd_probe(const char *spec, bool json);

/* The loop, or NULL after a line that says why not. */
struct ev_loop *cmd_loop(void);

/* "husk: text" on stderr. */
void cmd_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Write the run's record to options->json. vm may be NULL: it never came to be.
 *   -errno  it could not be written
 */
int cmd_write_record(const struct cmd_options *options,
                     const struct husk_vm *vm, const char *outcome, int status,
                     long guest_value, const char *text);

/* At main()'s begin, and when the arguments are understood. */
void cmd_clock_main(struct cmd_clock *clock);
void cmd_clock_arguments(struct cmd_clock *clock);

/* Every moment of a run, in order; device is NULL for the VM's own. vm may be
 * NULL. */
void cmd_timeline(const struct cmd_clock *clock, const struct husk_vm *vm,
                  void (*moment)(void *ctx, double ms, const char *name,
                                 const char *device),
                  void *ctx);
/* The same on stderr. */
void cmd_print_timeline(const struct cmd_clock *clock,
                        const struct husk_vm *vm);

/* Print one device's part of the record, from a VM that was probed. */
int cmd_print_device(const struct husk_vm *vm, unsigned index);

/*
 * Standard input, to the guest: raw if it is a terminal, until restored. The
 * restoring is safe in a signal handler and safe to repeat.
 */
struct cmd_input;
struct cmd_input *cmd_input_start(struct husk_vm *vm, struct ev_loop *loop);
void cmd_input_room(struct cmd_input *input);
void cmd_input_stop(struct cmd_input *input);

#endif
