/* husk's own messages. */
#ifndef HUSK_VMM_CMD_SAY_H
#define HUSK_VMM_CMD_SAY_H

/*
 * "husk: text" on standard error, one line. Text that a terminal would obey is
 * replaced. If standard error is not read, wait at most 1 s, then drop messages
 * until it is read again.
 */
void cmd_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
