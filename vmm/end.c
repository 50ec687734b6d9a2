/* The reason for a run's end, and its outcome and status. See end.h. */
#include "vmm/end.h"

#include <stdio.h>
#include <string.h>

#include "vmm/machine/sys.h"

#define VALUE_SKIP  77u
#define VALUE_PANIC 110u /* the largest that is a guest's to give */

void end_init(struct end *end)
{
    memset(end, 0, sizeof *end);
    pthread_mutex_init(&end->lock, NULL);
}

void end_fini(struct end *end)
{
    pthread_mutex_destroy(&end->lock);
}

void end_stop(struct end *end)
{
    atomic_store(&end->stopped, true);
}

bool end_is_stopped(const struct end *end)
{
    return atomic_load(&end->stopped);
}

static void fill(struct end_reason *reason, enum husk_outcome outcome,
                 long value, const char *text)
{
    reason->outcome = outcome;
    reason->value = value;
    snprintf(reason->text, sizeof reason->text, "%s", text ? text : "");
}

void end_set(struct end *end, enum husk_outcome outcome, long value,
             const char *text)
{
    pthread_mutex_lock(&end->lock);
    if (!end->set) {
        end->set = true;
        if (end_is_stopped(end))
            fill(&end->reason, HUSK_STOPPED, -1, NULL);
        else
            fill(&end->reason, outcome, value, text);
        end->when = sys_now();
    }
    pthread_mutex_unlock(&end->lock);
}

bool end_get(struct end *end, struct end_reason *reason)
{
    bool set;

    pthread_mutex_lock(&end->lock);
    set = end->set;
    if (set)
        *reason = end->reason;
    pthread_mutex_unlock(&end->lock);
    return set;
}

void end_clear(struct end *end)
{
    pthread_mutex_lock(&end->lock);
    end->set = false;
    pthread_mutex_unlock(&end->lock);
}

/* The exit port: which value means what, and which are not a guest's to give.
 */
static void of_value(uint32_t value, struct end_reason *reason)
{
    if (value == 0) {
        fill(reason, HUSK_PASS, 0, NULL);
    } else if (value == VALUE_SKIP) {
        fill(reason, HUSK_SKIP, value, NULL);
    } else if (value < VALUE_PANIC) {
        fill(reason, HUSK_FAIL, value, NULL);
    } else if (value == VALUE_PANIC) {
        fill(reason, HUSK_PANIC, value, "the guest panicked");
    } else {
        fill(reason, HUSK_NO_VERDICT, (long)value, NULL);
        snprintf(reason->text, sizeof reason->text,
                 "the guest ended with %u: only 0 to 110 are a guest's to give",
                 value);
    }
}

void end_of_power(enum power_event event, uint32_t value,
                  struct end_reason *reason)
{
    switch (event) {
    case POWER_EXIT:
        of_value(value, reason);
        break;
    case POWER_OFF:
        fill(reason, HUSK_PASS, -1, NULL);
        break;
    case POWER_PANIC:
        fill(reason, HUSK_PANIC, -1, "the guest panicked");
        break;
    case POWER_RESET:
        fill(reason, HUSK_RESET, -1, "the guest asked for a reset");
        break;
    }
}

static const struct {
    const char *name;
    int status; /* -1: the guest's value */
} outcomes[] = {
    [HUSK_PASS] = { "pass", 0 },
    [HUSK_FAIL] = { "fail", -1 },
    [HUSK_SKIP] = { "skip", 77 },
    [HUSK_PANIC] = { "panic", 110 },
    [HUSK_RESET] = { "reset", 111 },
    [HUSK_NO_VERDICT] = { "no-verdict", 113 },
    [HUSK_BACKEND] = { "backend", 114 },
    [HUSK_ERROR] = { "error", 125 },
    [HUSK_STOPPED] = { "stopped", 130 },
    [HUSK_TIMEOUT] = { "timeout", 124 },
};

const char *husk_outcome_name(enum husk_outcome outcome)
{
    return (unsigned)outcome < sizeof outcomes / sizeof outcomes[0]
               ? outcomes[outcome].name
               : NULL;
}

static bool is_verdict(enum husk_outcome outcome)
{
    return outcome == HUSK_PASS || outcome == HUSK_FAIL || outcome == HUSK_SKIP;
}

void end_report(struct end_reason *reason, bool device_lost,
                struct husk_end *report)
{
    if (device_lost && !is_verdict(reason->outcome)) {
        snprintf(reason->text, sizeof reason->text,
                 "a device was lost, and the run ended without a verdict (%s)",
                 outcomes[reason->outcome].name);
        reason->outcome = HUSK_BACKEND;
    }
    *report = (struct husk_end){
        .size = sizeof *report,
        .outcome = reason->outcome,
        .status = outcomes[reason->outcome].status,
        .guest_value = reason->value,
        .text = reason->text[0] ? reason->text : NULL,
    };
    if (report->status < 0)
        report->status = (int)reason->value;
}
