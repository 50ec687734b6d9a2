/* The event loop and its signals. See loop.h. */
#include "vmm/cmd/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmd/options.h"
#include "vmm/cmd/say.h"

static void on_signal(struct ev_loop *ev, ev_signal *watcher, int revents)
{
    struct cmd_loop *loop = watcher->data;

    (void)ev;
    (void)revents;
    loop->signal = watcher->signum;
    husk_vm_stop(loop->vm);
}

/* libev itself would abort. */
static void on_failure(const char *what)
{
    cmd_say("%s: %s", what, strerror(errno));
    exit(CMD_ERROR);
}

int cmd_loop_init(struct cmd_loop *loop, struct husk_err *err)
{
    static const int signals[CMD_SIGNALS] = { SIGINT, SIGTERM, SIGHUP,
                                              SIGQUIT };

    memset(loop, 0, sizeof *loop);
    ev_set_syserr_cb(on_failure);
    loop->ev = ev_default_loop(0);
    if (!loop->ev)
        return cmd_refuse(err, -ENOMEM,
                          "no event loop: out of memory or descriptors");
    for (int i = 0; i < CMD_SIGNALS; i++) {
        ev_signal_init(&loop->watchers[i], on_signal, signals[i]);
        loop->watchers[i].data = loop;
        ev_signal_start(loop->ev, &loop->watchers[i]);
    }
    return 0;
}

void cmd_loop_default_signals(struct cmd_loop *loop)
{
    for (int i = 0; i < CMD_SIGNALS; i++)
        ev_signal_stop(loop->ev, &loop->watchers[i]);
}

void cmd_loop_fini(struct cmd_loop *loop)
{
    if (!loop->ev)
        return;
    cmd_loop_default_signals(loop);
    ev_loop_destroy(loop->ev);
    if (loop->signal) {
        signal(loop->signal, SIG_DFL);
        raise(loop->signal);
    }
}
