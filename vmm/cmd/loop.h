/* The event loop, and the signals that end a command. */
#ifndef HUSK_VMM_CMD_LOOP_H
#define HUSK_VMM_CMD_LOOP_H

#include <ev.h>

#include "husk.h"

#define CMD_SIGNALS 4

struct cmd_loop {
    struct ev_loop *ev;
    struct husk_vm *vm; /* stopped by a signal; NULL: not made yet */
    int signal;         /* the one that came, or 0 */
    ev_signal watchers[CMD_SIGNALS];
};

/*
 * Make the loop. SIGINT, SIGTERM, SIGHUP and SIGQUIT stop loop->vm.
 *   -ENOMEM  err says so
 */
int cmd_loop_init(struct cmd_loop *loop, struct husk_err *err);

/* From here on the signals act as they did before. */
void cmd_loop_default_signals(struct cmd_loop *loop);

/* Take the loop apart; end the process by the signal, if one came. */
void cmd_loop_fini(struct cmd_loop *loop);

#endif
