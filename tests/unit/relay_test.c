/* A back-end's output, line by line, and the lines that a device keeps. */
#include "vmm/link/relay.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define SECOND UINT64_C(1000000000)

static uint64_t now = 5 * SECOND;
static unsigned n_lines;
static char last[400];

static uint64_t test_clock(void)
{
    return now;
}

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    (void)ctx;
    cr_assert_eq(level, HUSK_LOG_WARNING);
    snprintf(last, sizeof last, "%s", text);
    n_lines++;
}

static struct lines lines = { .name = "virtio7", .log = on_log };

struct rig {
    struct relay relay;
    struct ev_loop *loop;
    int in, out;
};

static void rig_init(struct rig *rig)
{
    int ends[2];

    n_lines = 0;
    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    rig->out = ends[0];
    rig->in = ends[1];
    rig->loop = ev_loop_new(EVFLAG_NOENV);
    relay_init(&rig->relay, rig->loop, &lines, test_clock);
    relay_start(&rig->relay, rig->out);
}

static void rig_fini(struct rig *rig)
{
    relay_stop(&rig->relay);
    relay_stop(&rig->relay);
    cr_assert_not(ev_is_active(&rig->relay.watcher));
    close(rig->out);
    if (rig->in >= 0)
        close(rig->in);
    ev_loop_destroy(rig->loop);
}

static void say(struct rig *rig, const char *text)
{
    cr_assert_eq(write(rig->in, text, strlen(text)), (ssize_t)strlen(text));
    ev_invoke(rig->loop, &rig->relay.watcher, EV_READ);
}

Test(relay, lines, .timeout = 10)
{
    struct rig rig;

    rig_init(&rig);
    say(&rig, "one\ntw");
    cr_assert_eq(n_lines, 1);
    cr_assert_str_eq(last, "virtio7: one");
    say(&rig, "o\n");
    cr_assert_eq(n_lines, 2);
    cr_assert_str_eq(last, "virtio7: two");
    say(&rig, "the last one");
    cr_assert_eq(n_lines, 2);
    close(rig.in);
    rig.in = -1;
    relay_read(&rig.relay);
    cr_assert_eq(n_lines, 3);
    cr_assert_str_eq(last, "virtio7: the last one");
    cr_assert_not(ev_is_active(&rig.relay.watcher), "its end is watched");
    rig_fini(&rig);
    cr_assert_eq(n_lines, 3);
}

/* A long line is several. */
Test(relay, long_line, .timeout = 10)
{
    char text[2 * RELAY_LINE + 1];
    struct rig rig;

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    rig_init(&rig);
    say(&rig, text);
    cr_assert_eq(n_lines, 2);
    cr_assert_eq(strlen(last), strlen("virtio7: ") + RELAY_LINE - 1);
    say(&rig, "\n");
    cr_assert_eq(n_lines, 3);
    cr_assert_str_eq(last, "virtio7: xx");
    rig_fini(&rig);
}

static void say_many(struct rig *rig, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        say(rig, "line\n");
}

/* What is too much for a second is counted, and the count reported. */
Test(relay, limit, .timeout = 10)
{
    struct rig rig;

    rig_init(&rig);
    say_many(&rig, RELAY_LINES + 7);
    cr_assert_eq(n_lines, RELAY_LINES);
    now += SECOND - 1;
    say_many(&rig, 1);
    cr_assert_eq(n_lines, RELAY_LINES);
    now += 1;
    say_many(&rig, 1);
    cr_assert_eq(n_lines, RELAY_LINES + 2, "the count, and the line");
    cr_assert_str_eq(last, "virtio7: line");
    say_many(&rig, RELAY_LINES + 2);
    rig_fini(&rig);
    cr_assert_eq(n_lines, 2 * RELAY_LINES + 2);
    cr_assert_str_eq(last, "virtio7: 3 lines of the back-end's were left out");
}

/* A flood is read in pieces, so that it holds up nothing else. */
Test(relay, flood, .timeout = 10)
{
    struct rig rig;
    char text[512];

    memset(text, '\n', sizeof text);
    rig_init(&rig);
    fcntl(rig.in, F_SETPIPE_SZ, 1 << 16);
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(write(rig.in, text, sizeof text), (ssize_t)sizeof text);
    relay_read(&rig.relay);
    cr_assert_eq(rig.relay.n, 16 * sizeof text);
    relay_read(&rig.relay);
    cr_assert_eq(rig.relay.n, 20 * sizeof text);
    rig_fini(&rig);
}

/* Lines that come up under a lock are kept, a few of them. */
Test(relay, kept_lines, .timeout = 10)
{
    n_lines = 0;
    for (unsigned i = 0; i < LINES_KEPT + 3; i++)
        lines_keep(&lines, HUSK_LOG_WARNING, "line %u", i);
    cr_assert_eq(n_lines, 0);
    lines_flush(&lines);
    cr_assert_eq(n_lines, LINES_KEPT + 1);
    cr_assert_str_eq(last, "virtio7: 3 lines were dropped");
    lines_flush(&lines);
    cr_assert_eq(n_lines, LINES_KEPT + 1);
}
