/*
 * Terminals and pseudo-terminals, for a console.
 */
#ifndef HUSK_BACKENDS_TERMINAL_H
#define HUSK_BACKENDS_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

/*
 * A descriptor of our own for what fd is, which does not block, while fd itself
 * still does for those who share it. flags: O_RDONLY or O_WRONLY. -1: errno.
 */
int terminal_own(int fd, int flags);

/*
 * Put a terminal into raw mode; *before is its mode until then. 1: done, 0: fd
 * is no terminal, -1 after complain().
 */
int terminal_raw(int fd, struct termios *before);

/* A new pseudo-terminal, whose name is printed: our side of it, or -1. */
int terminal_open_pty(void);

/* Whether somebody has the other side of a pseudo-terminal open. */
bool terminal_connected(int pty);

/* Columns and rows; false: they are not known. */
bool terminal_size(int fd, uint16_t *cols, uint16_t *rows);

/*
 * Take the escape sequences out of what was typed: Ctrl-A Ctrl-A is one Ctrl-A,
 * and Ctrl-A x sets *quit. *escaped goes from one call to the next. Returns the
 * bytes that are left.
 */
size_t terminal_unescape(bool *escaped, char *text, size_t size, bool *quit);

#endif
