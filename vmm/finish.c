/*
 * The last part of a run: the vCPUs stop, the reader of the console gets what
 * is buffered for as long as it reads, and then ended() is called.
 */
#include <errno.h>
#include <stdint.h>

#include "vmm/vm.h"

#define DRAIN_PAUSE 1.0  /* seconds in which a reader must take something */
#define STOP_PAUSE  0.25 /* the same where the run was stopped */

static void watch_output(struct husk_vm *vm)
{
    ev_io_stop(vm->loop, &vm->on_output);
    ev_io_set(&vm->on_output, console_descriptor(&vm->console), EV_WRITE);
    ev_io_start(vm->loop, &vm->on_output);
}

void vm_flush_console(struct husk_vm *vm)
{
    if (console_flush(&vm->console) != -EAGAIN)
        ev_io_stop(vm->loop, &vm->on_output);
    else if (!ev_is_active(&vm->on_output))
        watch_output(vm);
}

/* No vCPU runs and nothing more can be written: the last callback. */
static void report_end(struct husk_vm *vm)
{
    struct end_reason reason;
    struct husk_end end;

    vm->state = VM_ENDED;
    vm_stop_watchers(vm);
    vm_hand_out_log(vm);
    end_get(&vm->end, &reason);
    end_report(&reason, vm->n_lost && vm->boots, &end);
    if (vm->config.ended)
        vm->config.ended(vm->config.ctx, &end);
}

/* Write what is buffered; ended() follows, now or later. */
static void drain(struct husk_vm *vm)
{
    struct end_reason reason;
    size_t left;

    if (console_flush(&vm->console) == 0) {
        report_end(vm);
        return;
    }
    left = console_waiting(&vm->console);
    end_get(&vm->end, &reason);
    if (left != vm->drain_left) { /* the reader took something */
        vm->drain_left = left;
        vm->drain.repeat =
            reason.outcome == HUSK_STOPPED ? STOP_PAUSE : DRAIN_PAUSE;
        ev_timer_again(vm->loop, &vm->drain);
    }
    watch_output(vm);
}

void vm_on_drain(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;

    (void)loop;
    (void)revents;
    console_drop(&vm->console);
    report_end(vm);
}

void vm_on_output(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;

    (void)loop;
    (void)revents;
    if (vm->state == VM_DRAINING)
        drain(vm);
    else
        vm_flush_console(vm);
}

void vm_finish(struct husk_vm *vm)
{
    ev_io_stop(vm->loop, &vm->on_stop);
    ev_timer_stop(vm->loop, &vm->timeout);
    if (vm->has_machine)
        vm_stop_machine(vm);
    vm->state = VM_DRAINING; /* a device that settles boots nothing any more */
    for (unsigned i = 0; i < vm->n_devices; i++)
        device_wake(vm->devices[i]);
    vm->drain_left = SIZE_MAX;
    drain(vm);
}
