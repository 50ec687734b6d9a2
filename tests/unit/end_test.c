/* Why a run ends: the first reason counts, whoever gives it, and each outcome
 * has the status that the README promises. */
#include "vmm/end.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

TestSuite(end, .timeout = 60);

Test(end, the_first_reason_counts)
{
    struct end_reason reason;
    struct end end;
    uint64_t when;

    end_init(&end);
    cr_assert(!end_get(&end, &reason));
    end_set(&end, HUSK_FAIL, 3, "first");
    when = end.when;
    end_set(&end, HUSK_PASS, 0, "second");
    end_set(&end, HUSK_ERROR, -1, NULL);
    cr_assert(end_get(&end, &reason));
    cr_assert_eq(reason.outcome, HUSK_FAIL);
    cr_assert_eq(reason.value, 3);
    cr_assert_str_eq(reason.text, "first");
    cr_assert_eq(end.when, when);
    end_clear(&end);
    cr_assert(!end_get(&end, &reason));
    end_set(&end, HUSK_PASS, -1, NULL);
    cr_assert(end_get(&end, &reason));
    cr_assert_eq(reason.outcome, HUSK_PASS);
    cr_assert_str_eq(reason.text, "");
    end_fini(&end);
}

/* A requested stop outranks a reason that comes later, not one that came. */
Test(end, a_stop)
{
    struct end_reason reason;
    struct end end;

    end_init(&end);
    cr_assert(!end_is_stopped(&end));
    end_stop(&end);
    cr_assert(end_is_stopped(&end));
    cr_assert(!end_get(&end, &reason));
    end_set(&end, HUSK_FAIL, 3, "cut short");
    cr_assert(end_get(&end, &reason));
    cr_assert_eq(reason.outcome, HUSK_STOPPED);
    cr_assert_eq(reason.value, -1);
    cr_assert_str_eq(reason.text, "");
    end_clear(&end);
    cr_assert(end_is_stopped(&end), "a reboot forgot the stop");
    end_fini(&end);

    end_init(&end);
    end_set(&end, HUSK_FAIL, 3, "earlier");
    end_stop(&end);
    end_set(&end, HUSK_STOPPED, -1, NULL);
    cr_assert(end_get(&end, &reason));
    cr_assert_eq(reason.outcome, HUSK_FAIL);
    cr_assert_eq(reason.value, 3);
    end_fini(&end);
}

#define THREADS 4u
#define ROUNDS  4000u

/* Threads that give a reason each, all at the same moment, round after round.
 */
struct crowd {
    pthread_barrier_t begin, over;
    struct end end;
};

struct member {
    struct crowd *crowd;
    unsigned index;
    struct end_reason saw;
};

static void *give_reason(void *arg)
{
    struct member *member = arg;
    struct crowd *crowd = member->crowd;
    char text[256];

    memset(text, (int)('a' + member->index), sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&crowd->begin);
        end_set(&crowd->end, HUSK_FAIL, (long)member->index + 1, text);
        end_get(&crowd->end, &member->saw);
        pthread_barrier_wait(&crowd->over);
    }
    return NULL;
}

/* Whoever looks after giving one sees the one that counts, whole. */
Test(end, several_threads)
{
    struct member member[THREADS];
    pthread_t thread[THREADS];
    struct crowd crowd;

    end_init(&crowd.end);
    pthread_barrier_init(&crowd.begin, NULL, THREADS + 1);
    pthread_barrier_init(&crowd.over, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        member[i] = (struct member){ .crowd = &crowd, .index = i };
        cr_assert_eq(pthread_create(&thread[i], NULL, give_reason, &member[i]),
                     0);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&crowd.begin);
        pthread_barrier_wait(&crowd.over);
        for (unsigned i = 0; i < THREADS; i++) {
            const struct end_reason *saw = &member[i].saw;
            size_t same =
                strspn(saw->text, (char[]){ (char)('a' + saw->value - 1), 0 });

            cr_assert_eq(same, sizeof saw->text - 1, "round %u: '%s' for %ld",
                         round, saw->text, saw->value);
            cr_assert_eq(saw->value, member[0].saw.value,
                         "round %u: %ld and %ld both counted", round,
                         saw->value, member[0].saw.value);
        }
        end_clear(&crowd.end);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    end_fini(&crowd.end);
}

/* A call from another thread, and whether it has come back. */
struct call {
    struct end *end;
    unsigned kind;
    atomic_bool begun, over;
};

static void *make_call(void *arg)
{
    struct call *call = arg;
    struct end_reason reason;

    atomic_store(&call->begun, true);
    switch (call->kind) {
    case 0:
        end_set(call->end, HUSK_PASS, 0, NULL);
        break;
    case 1:
        end_get(call->end, &reason);
        break;
    default:
        end_clear(call->end);
        break;
    }
    atomic_store(&call->over, true);
    return NULL;
}

/* Nobody reads or changes the reason while another thread holds the lock. */
Test(end, every_call_takes_the_lock)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        struct end end;
        struct call call = { .end = &end, .kind = kind };
        pthread_t thread;

        end_init(&end);
        pthread_mutex_lock(&end.lock);
        cr_assert_eq(pthread_create(&thread, NULL, make_call, &call), 0);
        while (!atomic_load(&call.begun))
            usleep(100);
        usleep(50000);
        cr_assert(!atomic_load(&call.over), "call %u went on", kind);
        pthread_mutex_unlock(&end.lock);
        pthread_join(thread, NULL);
        end_fini(&end);
    }
}

static void expect_power(enum power_event event, uint32_t value,
                         enum husk_outcome outcome, long guest, int status)
{
    struct end_reason reason;
    struct husk_end end;

    end_of_power(event, value, &reason);
    cr_assert_eq(reason.outcome, outcome, "value %u: outcome %u", value,
                 (unsigned)reason.outcome);
    cr_assert_eq(reason.value, guest);
    end_report(&reason, false, &end);
    cr_assert_eq(end.outcome, outcome);
    cr_assert_eq(end.status, status, "value %u: status %d", value, end.status);
    cr_assert_eq(end.guest_value, guest);
}

/* Every value of the exit port up to 300, the largest ones, and the rest. */
Test(end, what_a_guest_does)
{
    for (uint32_t v = 0; v < 300; v++)
        expect_power(POWER_EXIT, v,
                     v == 0     ? HUSK_PASS
                     : v == 77  ? HUSK_SKIP
                     : v < 110  ? HUSK_FAIL
                     : v == 110 ? HUSK_PANIC
                                : HUSK_NO_VERDICT,
                     v, v <= 110 ? (int)v : 113);
    expect_power(POWER_EXIT, 0x7fffffff, HUSK_NO_VERDICT, 0x7fffffff, 113);
    expect_power(POWER_EXIT, 0xffffffff, HUSK_NO_VERDICT, 0xffffffff, 113);
    expect_power(POWER_OFF, 0, HUSK_PASS, -1, 0);
    expect_power(POWER_RESET, 0, HUSK_RESET, -1, 111);
    expect_power(POWER_PANIC, 0, HUSK_PANIC, -1, 110);
}

/* With a lost device only what the guest itself said still counts. */
Test(end, lost_device)
{
    static const struct {
        enum husk_outcome outcome;
        const char *name;
        int status;
        bool counts;
    } table[] = {
        { HUSK_PASS, "pass", 0, true },
        { HUSK_FAIL, "fail", 5, true },
        { HUSK_SKIP, "skip", 77, true },
        { HUSK_PANIC, "panic", 110, false },
        { HUSK_RESET, "reset", 111, false },
        { HUSK_NO_VERDICT, "no-verdict", 113, false },
        { HUSK_ERROR, "error", 125, false },
        { HUSK_STOPPED, "stopped", 130, false },
        { HUSK_TIMEOUT, "timeout", 124, false },
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        for (unsigned lost = 0; lost < 2; lost++) {
            struct end_reason reason = { table[i].outcome, 5, "why" };
            bool kept = !lost || table[i].counts;
            struct husk_end end;

            end_report(&reason, lost, &end);
            cr_assert_eq(end.outcome, kept ? table[i].outcome : HUSK_BACKEND);
            cr_assert_eq(end.status, kept ? table[i].status : 114, "%s: %d",
                         table[i].name, end.status);
            cr_assert_eq(end.guest_value, 5);
            if (kept)
                cr_assert_str_eq(end.text, "why");
            else
                cr_assert_not_null(strstr(end.text, table[i].name), "%s",
                                   end.text);
        }
        cr_assert_str_eq(husk_outcome_name(table[i].outcome), table[i].name);
    }
    cr_assert_str_eq(husk_outcome_name(HUSK_BACKEND), "backend");
    cr_assert_null(husk_outcome_name((enum husk_outcome)99));
}
