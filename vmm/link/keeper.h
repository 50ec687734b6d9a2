/*
 * The processes between husk and a back-end that it starts, drawn as parents
 * and children:
 *
 *     husk -- keeper -- holder -- back-end -- whatever the back-end starts
 *
 * The keeper is the subreaper of all that is below it: what loses its parent
 * becomes the keeper's child. The holder is the back-end's parent, and does
 * nothing but wait for it.
 *
 *   what happens               what ends the rest
 *   husk ends, or asks for it  the keeper, which sees its control socket close,
 *                              kills all that is below it
 *   the holder is killed       the kernel kills the back-end; the keeper kills
 *                              what is left
 *   the keeper is killed       the kernel kills the holder, then the back-end;
 *                              what else the back-end started goes on
 */
#ifndef HUSK_VMM_LINK_KEEPER_H
#define HUSK_VMM_LINK_KEEPER_H

#include <stddef.h>

/* The descriptor number of the back-end's socket. */
#define KEEPER_PASSED      3
/* Entries of a back-end's environment besides those of keeper_plan.env. */
#define KEEPER_ENVIRONMENT 64

enum child_news {
    CHILD_NOTHING,
    CHILD_NOT_STARTED, /* value: errno of exec */
    CHILD_NO_FOLDER,   /* value: errno of chdir */
    CHILD_ENDED,       /* value: as of waitpid() */
    CHILD_UNKEPT,      /* the keeper or the holder was killed */
    CHILD_GONE,        /* it, and all that it started */
};

/* A message of the control socket. */
struct keeper_news {
    int kind, value;
};

/* All that the keeper needs, prepared before the fork. */
struct keeper_plan {
    char *const *argv;
    char *const *env; /* NAME or NAME=VALUE each, or NULL */
    char *
        *environment; /* room for KEEPER_ENVIRONMENT, those of env, and NULL */
    const char *dir;  /* the working folder, or NULL */
    int passed;       /* descriptor for KEEPER_PASSED, or -1 */
    int output, null, control;
    int folder_fd;      /* or -1 */
    const char *folder; /* private, removed at the end; "": none */
};

/*
 * The keeper's life, in the process that was forked for it, with all signals
 * blocked. Only async-signal-safe calls are made.
 */
_Noreturn void keeper_run(const struct keeper_plan *plan);

#endif
