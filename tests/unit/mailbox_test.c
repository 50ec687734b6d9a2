/*
 * The device's lock with its notes and calls: no note stays unread, whoever has
 * the lock and whenever the note comes; the loop is woken once a call.
 */
#include <pthread.h>
#include <stdatomic.h>

#include <criterion/criterion.h>

#include "devices/deadline.h"
#include "devices/mailbox.h"

struct reader {
    struct mailbox box;
    unsigned reads; /* lock */
    unsigned seen;  /* lock: the notes of the last time */
    unsigned all;   /* lock: of all times */
    atomic_uint wakes;
    bool held;        /* whether the lock is held while read() runs */
    unsigned post_at; /* leave a note in that read() */
    unsigned note;
};

static void on_read(void *ctx, unsigned notes)
{
    struct reader *reader = ctx;

    reader->reads++;
    reader->seen = notes;
    reader->all |= notes;
    reader->held = !mailbox_trylock(&reader->box);
    if (reader->reads == reader->post_at)
        mailbox_post(&reader->box, reader->note);
}

static void on_wake(void *ctx)
{
    struct reader *reader = ctx;

    atomic_fetch_add(&reader->wakes, 1);
}

static const struct mailbox_ops ops = { on_read, on_wake };

static void begin(struct reader *reader)
{
    *reader = (struct reader){ .post_at = 0 };
    mailbox_init(&reader->box, &ops, reader);
}

Test(mailbox, each_unlock_reads, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    mailbox_lock(&reader.box);
    cr_assert_eq(reader.reads, 0);
    mailbox_unlock(&reader.box);
    cr_assert_eq(reader.reads, 1);
    cr_assert_eq(reader.seen, 0);
    cr_assert(reader.held, "read without the lock");
    cr_assert(mailbox_trylock(&reader.box), "not let go of");
    mailbox_unlock(&reader.box);
    cr_assert_eq(reader.reads, 2);
    cr_assert_eq(atomic_load(&reader.wakes), 0);
    mailbox_fini(&reader.box);
}

Test(mailbox, note_at_a_free_lock, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    mailbox_post(&reader.box, 5);
    cr_assert_eq(reader.reads, 1);
    cr_assert_eq(reader.seen, 5);
    mailbox_post(&reader.box, 2);
    cr_assert_eq(reader.reads, 2);
    cr_assert_eq(reader.seen, 2, "a note was read twice");
    mailbox_fini(&reader.box);
}

Test(mailbox, note_for_the_holder, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    mailbox_lock(&reader.box);
    mailbox_post(&reader.box, 1);
    mailbox_post(&reader.box, 4);
    mailbox_post(&reader.box, 1);
    cr_assert_eq(reader.reads, 0, "read without the lock");
    mailbox_unlock(&reader.box);
    cr_assert_eq(reader.reads, 1);
    cr_assert_eq(reader.seen, 5);
    mailbox_fini(&reader.box);
}

/* It comes when the holder has read its notes, and still has the lock. */
Test(mailbox, note_at_the_last_moment, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    reader.post_at = 1;
    reader.note = 8;
    mailbox_post(&reader.box, 1);
    cr_assert_eq(reader.reads, 2);
    cr_assert_eq(reader.seen, 8);
    cr_assert(mailbox_trylock(&reader.box));
    mailbox_unlock(&reader.box);
    mailbox_fini(&reader.box);
}

Test(mailbox, discarded_notes, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    mailbox_lock(&reader.box);
    mailbox_post(&reader.box, 7);
    mailbox_discard(&reader.box, 6);
    mailbox_unlock(&reader.box);
    cr_assert_eq(reader.seen, 1);
    mailbox_fini(&reader.box);
}

/* The loop takes the lock, or is woken when it is free. */
Test(mailbox, turn, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    cr_assert(mailbox_turn(&reader.box));
    cr_assert_eq(reader.reads, 0);
    cr_assert_not(mailbox_turn(&reader.box));
    cr_assert_eq(atomic_load(&reader.wakes), 0, "woken while it is held");
    mailbox_unlock(&reader.box);
    cr_assert_eq(atomic_load(&reader.wakes), 1);
    cr_assert_eq(reader.seen, 0, "the owner sees a note that is not its own");
    cr_assert(mailbox_turn(&reader.box));
    mailbox_unlock(&reader.box);
    cr_assert_eq(atomic_load(&reader.wakes), 1);
    mailbox_fini(&reader.box);
}

Test(mailbox, calls, .timeout = 10)
{
    struct reader reader;

    begin(&reader);
    mailbox_lock(&reader.box);
    mailbox_call(&reader.box, 1);
    cr_assert_eq(atomic_load(&reader.wakes), 1);
    mailbox_call(&reader.box, 1);
    cr_assert_eq(atomic_load(&reader.wakes), 1, "woken twice for one call");
    mailbox_call(&reader.box, 3);
    cr_assert_eq(atomic_load(&reader.wakes), 2, "not woken for another call");
    mailbox_release(&reader.box, 1);
    mailbox_call(&reader.box, 2);
    cr_assert_eq(atomic_load(&reader.wakes), 2);
    mailbox_call(&reader.box, 1);
    cr_assert_eq(atomic_load(&reader.wakes), 3);
    /* what the loop sees to already */
    mailbox_claim(&reader.box, 4);
    mailbox_call(&reader.box, 4);
    cr_assert_eq(atomic_load(&reader.wakes), 3);
    mailbox_release(&reader.box, 4);
    mailbox_call(&reader.box, 4);
    cr_assert_eq(atomic_load(&reader.wakes), 4);
    mailbox_unlock(&reader.box);
    mailbox_fini(&reader.box);
}

static void *lock_in_vain(void *ctx)
{
    struct reader *reader = ctx;

    return mailbox_lock_until(&reader->box, deadline_now()) ? reader : NULL;
}

Test(mailbox, deadline, .timeout = 10)
{
    struct reader reader;
    pthread_t thread;
    void *result;

    begin(&reader);
    cr_assert(mailbox_lock_until(&reader.box, 0), "it is free");
    cr_assert_eq(pthread_create(&thread, NULL, lock_in_vain, &reader), 0);
    pthread_join(thread, &result);
    cr_assert_null(result);
    mailbox_unlock(&reader.box);
    cr_assert_eq(reader.reads, 1);
    mailbox_fini(&reader.box);
}

#define THREADS 4
#define ROUNDS  20000

struct worker {
    struct reader *reader;
    unsigned bit;
    unsigned *counter;
    pthread_t thread;
};

static void *work(void *ctx)
{
    struct worker *worker = ctx;
    struct mailbox *box = &worker->reader->box;

    for (unsigned n = 0; n < ROUNDS; n++) {
        if (n % 3 == 0) {
            mailbox_post(box, worker->bit);
        } else if (n % 3 == 1) {
            mailbox_lock(box);
            (*worker->counter)++;
            mailbox_unlock(box);
        } else if (mailbox_turn(box)) {
            (*worker->counter)++;
            mailbox_unlock(box);
        }
    }
    return NULL;
}

/* From all sides: what was left at last was read at last. */
Test(mailbox, storm, .timeout = 60)
{
    struct worker workers[THREADS];
    struct reader reader;
    unsigned counter = 0;

    begin(&reader);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ &reader, 1u << i, &counter, 0 };
        cr_assert_eq(
            pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    cr_assert_eq(atomic_load(&reader.box.notes), 0, "a note stays unread");
    cr_assert_eq(reader.all, (1u << THREADS) - 1);
    cr_assert(mailbox_trylock(&reader.box));
    cr_assert_geq(counter, THREADS * (ROUNDS / 3));
    mailbox_unlock(&reader.box);
    mailbox_fini(&reader.box);
}
