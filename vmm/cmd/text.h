/* Text from elsewhere (paths, a back-end's output), made fit to be shown. */
#ifndef HUSK_VMM_CMD_TEXT_H
#define HUSK_VMM_CMD_TEXT_H

#include <stddef.h>

/*
 * Copy text to out, at most size bytes with the 0 at the end, as a terminal can
 * show it: control characters (C0, DEL, and C1 as U+0080 to U+009F) become '?',
 * a byte that is not part of UTF-8 becomes \xNN. A tab stays, a carriage return
 * is left out. Nothing is cut within a character. Returns the length.
 */
size_t cmd_text_printable(char *out, size_t size, const char *text);

/* A copy of text on the heap that is UTF-8: a byte that is not becomes \xNN.
 * NULL if memory runs out. */
char *cmd_text_utf8(const char *text);

#endif
