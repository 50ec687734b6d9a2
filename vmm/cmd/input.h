/*
 * Standard input, to the guest's console. A terminal is raw from start to stop;
 * it is given back on every way out of the process, a crash included.
 */
#ifndef HUSK_VMM_CMD_INPUT_H
#define HUSK_VMM_CMD_INPUT_H

#include "husk.h"

struct cmd_input;

/* NULL if memory runs out. */
struct cmd_input *cmd_input_start(struct husk_vm *vm, struct ev_loop *loop);

/* The console takes input again. NULL is allowed. */
void cmd_input_room(struct cmd_input *input);

/* NULL is allowed. */
void cmd_input_stop(struct cmd_input *input);

#endif
