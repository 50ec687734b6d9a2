/*
 * A lock that vCPUs may hold for seconds, and a loop that must never wait for
 * it. Who cannot have the lock leaves a note; whoever holds it reads the notes
 * before letting go. Who holds it and needs the loop makes a call; a call that
 * is outstanding wakes the loop once.
 *
 * | what  | written by             | read by                               |
 * |-------|------------------------|---------------------------------------|
 * | notes | any thread, no lock    | the holder of the lock, in read()     |
 * | calls | the holder of the lock | the loop, which also ends them        |
 */
#ifndef HUSK_DEVICES_MAILBOX_H
#define HUSK_DEVICES_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Notes are the owner's bits, but for this one: the loop wants the lock. */
#define MAILBOX_TURN (1u << 31)

struct mailbox_ops {
    /* Before each release of the lock, under it, on the holder's thread. notes
     * are those since the last time, or 0. Must not wait. */
    void (*read)(void *ctx, unsigned notes);
    /* The loop is to take a turn. Any thread; the lock may be held. */
    void (*wake)(void *ctx);
};

struct mailbox {
    pthread_mutex_t lock;
    /*
     * Both are written and read with sequential consistency: a note is written
     * before its writer tries the lock, and read again after the lock was let
     * go of, so that one of the two sees what the other one did.
     */
    atomic_uint notes;
    atomic_uint calls;
    const struct mailbox_ops *ops;
    void *ctx;
};

void mailbox_init(struct mailbox *box, const struct mailbox_ops *ops,
                  void *ctx);
void mailbox_fini(struct mailbox *box);

/* Wait for the lock: only where its holder cannot be waiting for a back-end. */
void mailbox_lock(struct mailbox *box);
bool mailbox_trylock(struct mailbox *box);
/* False once the deadline (CLOCK_MONOTONIC, ns) has passed. */
bool mailbox_lock_until(struct mailbox *box, uint64_t deadline);
/* Lets go of the lock; no note that was left meanwhile stays unread. */
void mailbox_unlock(struct mailbox *box);

/* The loop's way to the lock: it has it, or wake() follows when its holder lets
 * go of it. */
bool mailbox_turn(struct mailbox *box);

/* Leave notes. They are read by the holder of the lock, or at once. Any thread
 * that does not hold the lock; never waits. */
void mailbox_post(struct mailbox *box, unsigned notes);
/* Drop notes that were not read yet. Under the lock. */
void mailbox_discard(struct mailbox *box, unsigned notes);

/* Under the lock: wake the loop, unless these calls are outstanding. */
void mailbox_call(struct mailbox *box, unsigned calls);
/* The loop: these count as outstanding, since it sees to them already. */
void mailbox_claim(struct mailbox *box, unsigned calls);
/* The loop: the next call of these wakes it again. */
void mailbox_release(struct mailbox *box, unsigned calls);

#endif
