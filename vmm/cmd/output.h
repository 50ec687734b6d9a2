/*
 * The files that husk writes. They are opened before anything is started, so
 * that one that cannot be written is refused at once. Neither opening nor
 * writing waits for another process: a FIFO needs a reader, and what a reader
 * does not take in time is given up.
 */
#ifndef HUSK_VMM_CMD_OUTPUT_H
#define HUSK_VMM_CMD_OUTPUT_H

#include "vmm/cmd/options.h"

struct cmd_outputs {
    int fds[CMD_OUTPUTS]; /* -1: not asked for */
};

/*
 * Open the outputs of options. "-" is standard output, which at most one may
 * have; the guest's console has it unless it goes elsewhere or nothing boots.
 * On an error only the record's file may be open.
 *   -errno  err says which file, what is wrong, and what to do
 */
int cmd_outputs_open(struct cmd_outputs *outputs,
                     const struct cmd_options *options, struct husk_err *err);
/* The record's alone, after arguments that were refused. Standard output stays
 * empty here too, unless the record has it. */
int cmd_outputs_open_json(struct cmd_outputs *outputs,
                          const struct cmd_options *options,
                          struct husk_err *err);
void cmd_outputs_close(struct cmd_outputs *outputs);

/*
 * Write all of data.
 *   -errno  err says "writing --json FILE: ..."
 */
int cmd_output_write(const struct cmd_outputs *outputs,
                     const struct cmd_options *options, enum cmd_output output,
                     const void *data, size_t size, struct husk_err *err);

#endif
