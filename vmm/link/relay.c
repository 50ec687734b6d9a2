/* The relay of a back-end's output. See relay.h. */
#include "vmm/link/relay.h"

#include <string.h>
#include <unistd.h>

#define BATCH  16 /* reads, so that a flood holds up nothing else */
#define SECOND UINT64_C(1000000000)

static void on_output(struct ev_loop *loop, ev_io *watcher, int revents)
{
    (void)loop;
    (void)revents;
    relay_read(watcher->data);
}

void relay_init(struct relay *relay, struct ev_loop *loop, struct lines *lines,
                uint64_t (*clock)(void))
{
    memset(relay, 0, sizeof *relay);
    relay->loop = loop;
    relay->lines = lines;
    relay->clock = clock;
    relay->fd = -1;
    ev_init(&relay->watcher, on_output);
    relay->watcher.data = relay;
}

static void report_dropped(struct relay *relay)
{
    if (relay->dropped)
        lines_say(relay->lines, HUSK_LOG_WARNING,
                  "%llu lines of the back-end's were left out",
                  (unsigned long long)relay->dropped);
    relay->dropped = 0;
}

static void pass_line(struct relay *relay)
{
    uint64_t now = relay->clock();

    if (now - relay->since >= SECOND) {
        report_dropped(relay);
        relay->since = now;
        relay->n = 0;
    }
    if (relay->n++ < RELAY_LINES)
        lines_say(relay->lines, HUSK_LOG_WARNING, "%.*s", (int)relay->size,
                  relay->line);
    else
        relay->dropped++;
    relay->size = 0;
}

static void take_byte(struct relay *relay, char byte)
{
    if (byte == '\n' || relay->size == sizeof relay->line - 1)
        pass_line(relay);
    if (byte != '\n')
        relay->line[relay->size++] = byte;
}

void relay_read(struct relay *relay)
{
    char bytes[512];
    ssize_t n = -1;

    for (int i = 0; i < BATCH && relay->fd >= 0 &&
                    (n = read(relay->fd, bytes, sizeof bytes)) > 0;
         i++)
        for (ssize_t k = 0; k < n; k++)
            take_byte(relay, bytes[k]);
    if (n == 0) {
        ev_io_stop(relay->loop, &relay->watcher);
        if (relay->size) /* a last line that does not end */
            pass_line(relay);
    }
}

void relay_start(struct relay *relay, int fd)
{
    relay->fd = fd;
    ev_io_set(&relay->watcher, fd, EV_READ);
    ev_io_start(relay->loop, &relay->watcher);
}

void relay_stop(struct relay *relay)
{
    ev_io_stop(relay->loop, &relay->watcher);
    relay->fd = -1;
    relay->size = 0;
    report_dropped(relay);
}
