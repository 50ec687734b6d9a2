/* A lock with notes and calls beside it. See mailbox.h. */
#include "devices/mailbox.h"

#include <time.h>
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

void mailbox_init(struct mailbox *box, const struct mailbox_ops *ops, void *ctx)
{
    pthread_mutex_init(&box->lock, NULL);
    atomic_init(&box->notes, 0);
    atomic_init(&box->calls, 0);
    box->ops = ops;
    box->ctx = ctx;
}

void mailbox_fini(struct mailbox *box)
{
    pthread_mutex_destroy(&box->lock);
}

void mailbox_lock(struct mailbox *box)
{
    pthread_mutex_lock(&box->lock);
}

bool mailbox_trylock(struct mailbox *box)
{
    return pthread_mutex_trylock(&box->lock) == 0;
}

/* ThreadSanitizer does not know pthread_mutex_clocklock() by itself. */
#ifdef __SANITIZE_THREAD__
static void before_lock(pthread_mutex_t *lock)
{
    __tsan_mutex_pre_lock(lock, __tsan_mutex_try_lock);
}

static void after_lock(pthread_mutex_t *lock, bool locked)
{
    __tsan_mutex_post_lock(
        lock,
        __tsan_mutex_try_lock | (locked ? 0 : __tsan_mutex_try_lock_failed), 0);
}
#else
static void before_lock(pthread_mutex_t *lock)
{
    (void)lock;
}

static void after_lock(pthread_mutex_t *lock, bool locked)
{
    (void)lock;
    (void)locked;
}
#endif

bool mailbox_lock_until(struct mailbox *box, uint64_t deadline)
{
    struct timespec until = { .tv_sec = (time_t)(deadline / 1000000000u),
                              .tv_nsec = (long)(deadline % 1000000000u) };
    bool locked;

    before_lock(&box->lock);
    locked = pthread_mutex_clocklock(&box->lock, CLOCK_MONOTONIC, &until) == 0;
    after_lock(&box->lock, locked);
    return locked;
}

static void read_notes(struct mailbox *box)
{
    unsigned notes = atomic_exchange(&box->notes, 0);

    box->ops->read(box->ctx, notes & ~MAILBOX_TURN);
    if (notes & MAILBOX_TURN)
        box->ops->wake(box->ctx);
}

void mailbox_unlock(struct mailbox *box)
{
    do {
        read_notes(box);
        pthread_mutex_unlock(&box->lock);
        /* what was left after they were read, and before the unlock */
    } while (atomic_load(&box->notes) && mailbox_trylock(box));
}

void mailbox_post(struct mailbox *box, unsigned notes)
{
    atomic_fetch_or(&box->notes, notes);
    if (mailbox_trylock(box))
        mailbox_unlock(box);
}

bool mailbox_turn(struct mailbox *box)
{
    if (mailbox_trylock(box))
        return true;
    mailbox_post(box, MAILBOX_TURN);
    return false;
}

void mailbox_discard(struct mailbox *box, unsigned notes)
{
    atomic_fetch_and(&box->notes, ~notes);
}

void mailbox_call(struct mailbox *box, unsigned calls)
{
    if (calls & ~atomic_fetch_or(&box->calls, calls))
        box->ops->wake(box->ctx);
}

void mailbox_claim(struct mailbox *box, unsigned calls)
{
    atomic_fetch_or(&box->calls, calls);
}

void mailbox_release(struct mailbox *box, unsigned calls)
{
    atomic_fetch_and(&box->calls, ~calls);
}
