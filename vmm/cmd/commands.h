/* The commands that do something. Each returns the process's exit status. */
#ifndef HUSK_VMM_CMD_COMMANDS_H
#define HUSK_VMM_CMD_COMMANDS_H

#include "vmm/cmd/timeline.h"

int cmd_run(int argc, char **argv, struct cmd_clock *clock);
int cmd_probe(int argc, char **argv);

#endif
