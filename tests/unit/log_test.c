/* Messages from many threads: all of them, in order, under no lock. */
#include "vmm/log.h"

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

TestSuite(log, .timeout = 20);

#define THREADS 4u
#define EACH    20000u

struct got {
    struct log *log;
    unsigned n, of_thread[THREADS], left_out;
    char text[64];
    enum husk_log level;
    unsigned again; /* lines to put from inside the handler */
};

static void take(void *ctx, enum husk_log level, const char *text)
{
    struct got *got = ctx;

    got->n++;
    got->level = level;
    snprintf(got->text, sizeof got->text, "%s", text);
    if (got->again) {
        got->again--;
        log_put(got->log, HUSK_LOG_INFO, "again");
    }
}

Test(log, order_and_levels)
{
    struct got got = { .n = 0 };
    struct log log;

    log_init(&log);
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, 0);
    cr_assert(log_put(&log, HUSK_LOG_DEBUG, "one"), "the first must wake");
    cr_assert(!log_put(&log, HUSK_LOG_INFO, "two"));
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, 2);
    cr_assert_str_eq(got.text, "two");
    cr_assert_eq(got.level, HUSK_LOG_INFO);
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, 2);
    cr_assert(log_put(&log, HUSK_LOG_WARNING, ""), "empty again");
    log_fini(&log); /* with a line in it */
}

/* A handler that logs is called again the next time, not for ever. */
Test(log, handler_that_logs)
{
    struct log log;
    struct got got = { .log = &log, .again = 2 };

    log_init(&log);
    log_put(&log, HUSK_LOG_INFO, "first");
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, 1);
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, 2);
    cr_assert_str_eq(got.text, "again");
    log_hand_out(&log, take, &got);
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, 3);
    log_fini(&log);
}

Test(log, is_bounded)
{
    struct got got = { .n = 0 };
    struct log log;
    char text[32];

    log_init(&log);
    for (unsigned i = 0; i < LOG_LINES + 7; i++) {
        snprintf(text, sizeof text, "%u", i);
        cr_assert_eq(log_put(&log, HUSK_LOG_INFO, text), i == 0);
    }
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, LOG_LINES + 1);
    cr_assert_str_eq(got.text, "7 messages were left out");
    cr_assert_eq(got.level, HUSK_LOG_WARNING);
    cr_assert(log_put(&log, HUSK_LOG_INFO, "there is room again"));
    log_hand_out(&log, take, &got);
    cr_assert_eq(got.n, LOG_LINES + 2);
    log_fini(&log);
}

/* Each thread's lines are numbered: none is swapped, and none is lost without
 * being counted. */
static void count(void *ctx, enum husk_log level, const char *text)
{
    struct got *got = ctx;
    unsigned thread, number;

    (void)level;
    if (sscanf(text, "%u:%u", &thread, &number) == 2) {
        cr_assert_geq(number, got->of_thread[thread]);
        got->of_thread[thread] = number + 1;
        got->n++;
    } else {
        cr_assert_eq(sscanf(text, "%u messages", &number), 1);
        got->left_out += number;
    }
}

struct writer {
    struct log *log;
    unsigned thread;
};

static void *write_lines(void *arg)
{
    struct writer *writer = arg;
    char text[32];

    for (unsigned i = 0; i < EACH; i++) {
        snprintf(text, sizeof text, "%u:%u", writer->thread, i);
        log_put(writer->log, HUSK_LOG_INFO, text);
    }
    return NULL;
}

Test(log, many_threads)
{
    struct writer writer[THREADS];
    pthread_t thread[THREADS];
    struct got got = { .n = 0 };
    struct log log;

    log_init(&log);
    for (unsigned i = 0; i < THREADS; i++) {
        writer[i] = (struct writer){ &log, i };
        cr_assert_eq(pthread_create(&thread[i], NULL, write_lines, &writer[i]),
                     0);
    }
    while (got.n + got.left_out < THREADS * EACH)
        log_hand_out(&log, count, &got);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    log_hand_out(&log, count, &got);
    cr_assert_eq(got.n + got.left_out, THREADS * EACH);
    log_fini(&log);
}
