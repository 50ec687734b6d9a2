/* Messages on standard error. See say.h. */
#include "vmm/cmd/say.h"

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cmd/text.h"

#define PATIENCE 1000 /* ms that standard error may take to be read */

/* Whether standard error takes a line without waiting. */
static bool is_writable(void)
{
    static bool stuck;
    struct pollfd polled = { .fd = STDERR_FILENO, .events = POLLOUT };

    stuck = poll(&polled, 1, stuck ? 0 : PATIENCE) <= 0;
    return !stuck;
}

void cmd_say(const char *format, ...)
{
    char text[1024], line[4096] = "husk: ";
    size_t size = strlen(line);
    va_list args;
    ssize_t n;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size += cmd_text_printable(line + size, sizeof line - size - 1, text);
    line[size++] = '\n';
    if (is_writable()) {
        n = write(STDERR_FILENO, line, size);
        (void)n; /* a message that cannot be written cannot be reported */
    }
}
