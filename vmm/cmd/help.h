/* What husk help prints. */
#ifndef HUSK_VMM_CMD_HELP_H
#define HUSK_VMM_CMD_HELP_H

/* Print to standard output the help of a command, or of husk as a whole where
 * command is NULL. Returns the exit status; an unknown command is refused. */
int cmd_help(const char *command);

int cmd_version(void);

/* 0, or 125 and a message where standard output could not be written. */
int cmd_printed(void);

#endif
