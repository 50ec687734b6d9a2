/*
 * How a run ends: the first reason counts, from whichever thread; then whoever
 * reads the console gets what is left of it, as long as he reads; and then the
 * embedder is told.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/machine/sys.h"
#include "vmm/vm.h"

#define DRAIN_PAUSE 1.0  /* seconds in which a reader must take something */
#define STOP_PAUSE  0.25 /* the same where the run was stopped */

/* Async-signal-safe. */
void vm_signal_stop(struct husk_vm *vm)
{
    uint64_t one = 1;
    ssize_t n = write(vm->stop_fd, &one, sizeof one);

    (void)n; /* full is readable too */
}

void vm_end(struct husk_vm *vm, enum husk_outcome outcome, long value,
            const char *text)
{
    pthread_mutex_lock(&vm->lock);
    /* A stop cuts requests short: what the guest makes of that is no verdict.
     */
    if (atomic_load(&vm->stop)) {
        outcome = HUSK_STOPPED;
        value = -1;
        text = NULL;
    }
    if (!vm->end.set) {
        vm->end.set = true;
        vm->end.outcome = outcome;
        vm->end.value = value;
        snprintf(vm->end.text, sizeof vm->end.text, "%s", text ? text : "");
        vm->t_end = sys_now();
    }
    pthread_mutex_unlock(&vm->lock);
    atomic_store(&vm->machine.stopping, true);
    vm_signal_stop(vm);
}

/* The exit port's value: who may give which. */
static void end_by_value(struct husk_vm *vm, uint32_t value)
{
    char text[96];

    if (value == 0) {
        vm_end(vm, HUSK_PASS, 0, NULL);
    } else if (value == 77) {
        vm_end(vm, HUSK_SKIP, value, NULL);
    } else if (value < 110) {
        vm_end(vm, HUSK_FAIL, value, NULL);
    } else if (value == 110) {
        vm_end(vm, HUSK_PANIC, value, "the guest panicked");
    } else {
        snprintf(text, sizeof text,
                 "the guest ended with %u: only 0 to 110 "
                 "are a guest's to give",
                 value);
        vm_end(vm, HUSK_NO_VERDICT, (long)value, text);
    }
}

void vm_on_power(void *ctx, enum power_event event, uint32_t value)
{
    switch (event) {
    case POWER_EXIT:
        end_by_value(ctx, value);
        break;
    case POWER_OFF:
        vm_end(ctx, HUSK_PASS, -1, NULL);
        break;
    case POWER_PANIC:
        vm_end(ctx, HUSK_PANIC, -1, "the guest panicked");
        break;
    case POWER_RESET:
        vm_end(ctx, HUSK_RESET, -1, "the guest asked for a reset");
        break;
    }
}

void vm_on_crash(void *ctx, const char *where)
{
    char text[256];

    snprintf(text, sizeof text, "the guest crashed: triple fault at %s", where);
    vm_end(ctx, HUSK_RESET, -1, text);
}

void vm_on_failure(void *ctx, const char *text)
{
    vm_end(ctx, HUSK_ERROR, -1, text);
}

void vm_flush_console(struct husk_vm *vm)
{
    if (console_flush(&vm->console) == -EAGAIN) {
        if (!ev_is_active(&vm->on_output)) {
            ev_io_set(&vm->on_output, vm->console.fd, EV_WRITE);
            ev_io_start(vm->loop, &vm->on_output);
        }
    } else {
        ev_io_stop(vm->loop, &vm->on_output);
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
    return outcomes[outcome].name;
}

/* No vCPU runs and nothing more can be written: the last callback. */
static void report_end(struct husk_vm *vm)
{
    struct husk_end end = { .outcome = vm->end.outcome,
                            .guest_value = vm->end.value };
    char text[320];

    vm->state = VM_ENDED;
    ev_io_stop(vm->loop, &vm->on_output);
    ev_timer_stop(vm->loop, &vm->drain);
    for (unsigned i = 0; i < vm->n_devices; i++) { /* nothing more is said */
        device_stop_watchers(vm->devices[i]);
        device_stop_child(vm->devices[i]);
    }
    snprintf(text, sizeof text, "%s", vm->end.text);
    if (vm->n_lost && vm->t_entry && end.outcome != HUSK_PASS &&
        end.outcome != HUSK_FAIL && end.outcome != HUSK_SKIP) {
        snprintf(text, sizeof text,
                 "a device was lost, and the run ended "
                 "without a verdict (%s)",
                 outcomes[end.outcome].name);
        end.outcome = HUSK_BACKEND;
    }
    end.status = outcomes[end.outcome].status;
    if (end.status < 0)
        end.status = (int)end.guest_value;
    end.text = text[0] ? text : NULL;
    if (vm->config.ended)
        vm->config.ended(vm->config.ctx, &end);
}

/* Whoever reads the output gets what is buffered, as long as he reads. */
void vm_drain(struct husk_vm *vm)
{
    bool stopped = vm->end.outcome == HUSK_STOPPED;
    int rc = console_flush(&vm->console);

    if (rc == 0) {
        report_end(vm);
        return;
    }
    if (vm->console.count != vm->drain_left) {
        vm->drain_left = vm->console.count;
        vm->drain.repeat = stopped ? STOP_PAUSE : DRAIN_PAUSE;
        ev_timer_again(vm->loop, &vm->drain);
    }
    ev_io_stop(vm->loop, &vm->on_output);
    ev_io_set(&vm->on_output, vm->console.fd, EV_WRITE);
    ev_io_start(vm->loop, &vm->on_output);
}

void vm_on_drain(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;

    (void)loop;
    (void)revents;
    pthread_mutex_lock(&vm->console.lock);
    vm->console.dropped += vm->console.count;
    vm->console.count = 0;
    pthread_mutex_unlock(&vm->console.lock);
    report_end(vm);
}

void vm_on_output(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;

    (void)loop;
    (void)revents;
    if (vm->state == VM_DRAINING)
        vm_drain(vm);
    else
        vm_flush_console(vm);
}
