/*
 * The command line. Options are rows of a table, from which both the parsing
 * and the help are made. Strings point into argv.
 */
#ifndef HUSK_VMM_CMD_OPTIONS_H
#define HUSK_VMM_CMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "husk.h"

#define CMD_ERROR 125 /* exit status of husk's own failures */

/* The files that husk writes, in the order in which they are opened. */
enum cmd_output {
    CMD_OUTPUT_JSON,
    CMD_OUTPUT_DTB,
    CMD_OUTPUT_CONSOLE,
    CMD_OUTPUTS,
};

struct cmd_options {
    int argc;
    char **argv;         /* as given: the record holds it */
    const char *operand; /* KERNEL or SPEC, or NULL */
    const char *append;
    const char *output[CMD_OUTPUTS]; /* a path, "-" or NULL */
    const char **initrds;
    unsigned n_initrds;
    const char **devices;
    unsigned n_devices;
    enum husk_discovery discovery;
    uint64_t memory;
    unsigned cpus;
    double timeout;
    bool verbose;
    bool reset_again;
    bool no_window;
    bool timeline;
    bool as_json;       /* of probe */
    bool help, version; /* asked for, and nothing else is done */
};

struct cmd_option {
    const char *name;
    char letter;          /* or 0 */
    const char *argument; /* its name in the help, or NULL: none */
    const char *help;
    int (*take)(struct cmd_options *options, const char *value,
                struct husk_err *err);
};

/* A command and its options; the last row's name is NULL. */
struct cmd_syntax {
    const char *command;
    const char *operand; /* its name in the help */
    const struct cmd_option *rows;
};

extern const struct cmd_syntax cmd_run_syntax, cmd_probe_syntax;

/*
 * Parse argv from argv[2] on; argv[1] is the command. After an error the
 * outputs' names are still taken, so that a record can be written. Call
 * cmd_options_fini() in any case. -EINVAL  err says which argument is wrong,
 * and what to give -ENOMEM  out of memory
 */
int cmd_options_parse(struct cmd_options *options,
                      const struct cmd_syntax *syntax, int argc, char **argv,
                      struct husk_err *err);
void cmd_options_fini(struct cmd_options *options);

/* Fill err, and return code. */
int cmd_refuse(struct husk_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
