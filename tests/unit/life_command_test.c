/*
 * A device whose back-end is a command: how it ends is reported, and another
 * one starts when it is gone. Where a command stays, the test listens on its
 * {socket} in its place.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/virtio.h"
#include "tests/unit/life.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define STAYS    "exec=sh -c \"exec sleep 1000\" {socket}"

static struct life life;

/* The keeper has news. */
static void await_news(void)
{
    struct pollfd polled = { .fd = life.device.link.child.control,
                             .events = POLLIN };

    cr_assert_eq(poll(&polled, 1, 10000), 1, "no news of the command");
}

/* A command that ends, or cannot be started, however it was to be linked. */
Test(life_command, ends, .timeout = 60)
{
    static const struct {
        const char *spec, *text;
    } rows[] = {
        { "exec=false {fd}", "false ended with status 1 before it said what" },
        { "exec=sh -c \"exit 3\" {listen}", "sh ended with status 3 before" },
        { "exec=sh -c \"exit 4\" {socket}", "sh ended with status 4 before" },
        { "exec=sh -c \"kill -9 $$\" {fd}", "sh was ended by signal 9" },
        { "exec=/nonexistent/program {fd}", "starting /nonexistent/program: No "
                                            "such file" },
        { "exec=/nonexistent/program {socket}", "starting /nonexistent" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        life_init(&life, rows[i].spec);
        cr_assert_eq(device_start(&life.device, &life.err), 0, "%s",
                     life.err.text);
        await_news();
        life_run(&life);
        while (!life.n_failed)
            if (!life_wait(&life, 50)) /* as much as passes */
                life_tick(&life);
        life_expect(&life, DEVICE_LOST);
        cr_assert_eq(life.n_failed, 1);
        life_expect_failed(&life, -ECONNREFUSED, rows[i].text);
        life_fini(&life);
    }
}

/* It runs, but does not listen: for as long as the deadline. */
Test(life_command, does_not_listen, .timeout = 20)
{
    unsigned n = 0;

    life_init(&life, "deadline=1," STAYS);
    cr_assert_eq(life_start(&life), 0, "%s", life.err.text);
    while (!life.n_failed) {
        life_expect(&life, DEVICE_CONNECTING);
        life_tick(&life);
        cr_assert_lt(n++, 100);
    }
    life_expect_failed(&life, -ENOENT, "connecting to");
    life_fini(&life);
}

static void start(const char *spec)
{
    life_init(&life, spec);
    cr_assert_eq(life_start(&life), 0, "%s", life.err.text);
    life_expect(&life, DEVICE_CONNECTING);
    life_listen(&life);
    life_tick(&life);
    life_expect(&life, DEVICE_KNOWN);
    life_put(&life);
    life_go(&life, FEATURES);
}

/* Its end is reported; the connection is another thing. */
Test(life_command, asked_to_end, .timeout = 20)
{
    start(STAYS);
    device_ask_to_end(&life.device);
    while (ev_is_active(&life.device.link.control))
        cr_assert(life_wait(&life, 10000));
    cr_assert_eq(life_said(&life, "virtio7: sh was ended by signal 15"), 1);
    life_expect(&life, DEVICE_SERVING);
    life_hang_up(&life);
    life_expect(&life, DEVICE_LOST);
    life_fini(&life);
}

/* What was dropped has ended, but is not reaped. */
static void await_dropped(void)
{
    for (unsigned i = 0; i < CHILD_LEAVING; i++) {
        pid_t pid = life.device.link.child.leaving[i];
        siginfo_t info;

        if (pid > 0)
            cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    }
}

/* Another one starts when the first is gone, and not before. */
Test(life_command, starts_again, .timeout = 20)
{
    pid_t first;

    start("reconnect=on," STAYS);
    first = life.device.link.child.keeper;
    life_deafen(&life);
    life_hang_up(&life);
    life_expect(&life, DEVICE_PAUSING);
    life_tick(&life);
    await_dropped();
    life_expect(&life, DEVICE_RECONNECTING);
    if (life.device.link.phase == LINK_LEAVING)
        life_tick(&life);
    cr_assert_gt(life.device.link.child.keeper, 0);
    cr_assert_neq(life.device.link.child.keeper, first);
    life_listen(&life);
    life_tick(&life);
    life_expect(&life, DEVICE_SERVING);
    cr_assert_eq(life.model.status, 0x0f);
    life_fini(&life);
}

/* A process that cannot be killed for a while: no other one is started. */
Test(life_command, does_not_end, .timeout = 20)
{
    unsigned n = 0;
    pid_t pid;

    start("reconnect=on,deadline=1," STAYS);
    life_deafen(&life);
    life_hang_up(&life);
    pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    life.device.link.child.leaving[CHILD_LEAVING - 1] = pid;
    life_tick(&life);
    while (life.device.state == DEVICE_RECONNECTING) {
        cr_assert_eq(life.device.link.phase, LINK_LEAVING);
        cr_assert_lt(n++, 2000);
        life_tick(&life);
    }
    life_expect(&life, DEVICE_PAUSING);
    cr_assert(n > 900, "%u ticks of a millisecond", n);
    life_tick(&life); /* it had its time: this attempt waits no more */
    life_expect(&life, DEVICE_PAUSING);
    kill(pid, SIGKILL);
    await_dropped();
    life_tick(&life);
    life_expect(&life, DEVICE_RECONNECTING);
    cr_assert_eq(life.device.link.phase, LINK_TRYING);
    life_listen(&life);
    life_tick(&life);
    life_expect(&life, DEVICE_SERVING);
    life_fini(&life);
}

/* Its output is the log's, also the last of it. */
Test(life_command, output, .timeout = 20)
{
    life_init(&life,
              "exec=sh -c \"echo one; echo two >&2; printf three\" {fd}");
    cr_assert_eq(device_start(&life.device, &life.err), 0, "%s", life.err.text);
    await_news();
    while (ev_is_active(&life.device.link.relay.watcher))
        cr_assert(life_wait(&life, 10000));
    cr_assert_eq(life_said(&life, "virtio7: one"), 1);
    cr_assert_eq(life_said(&life, "virtio7: two"), 1);
    cr_assert_eq(life_said(&life, "virtio7: three"), 1);
    life_run(&life);
    life_expect(&life, DEVICE_LOST);
    life_fini(&life);
}

Test(life_command, silence, .timeout = 20)
{
    start(STAYS);
    device_silence(&life.device);
    life.silent = true;
    device_ask_to_end(&life.device);
    await_news();
    life_run(&life);
    life_fini(&life);
}
