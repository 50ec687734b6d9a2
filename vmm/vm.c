/*
 * A VM's making and unmaking, and what other threads have the loop do. Whatever
 * ends the run makes stop_fd readable; the loop does the rest.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define LAST_WAIT UINT64_C(1000000000) /* ns that back-ends have to end */

void vm_wake(void *ctx)
{
    struct husk_vm *vm = ctx;

    ev_async_send(vm->loop, &vm->wake);
}

void vm_log(void *ctx, enum husk_log level, const char *text)
{
    struct husk_vm *vm = ctx;

    if (vm->config.log && log_put(&vm->log, level, text))
        vm_wake(vm);
}

void vm_hand_out_log(struct husk_vm *vm)
{
    if (vm->config.log)
        log_hand_out(&vm->log, vm->config.log, vm->config.ctx);
}

/* write() to a non-blocking descriptor is all: async-signal-safe. */
void vm_signal_stop(struct husk_vm *vm)
{
    uint64_t one = 1;
    int code = errno;
    ssize_t n = write(vm->stop_fd, &one, sizeof one);

    (void)n; /* full is readable too */
    errno = code;
}

void vm_end(struct husk_vm *vm, enum husk_outcome outcome, long value,
            const char *text)
{
    end_set(&vm->end, outcome, value, text);
    atomic_store(&vm->machine.stopping, true);
    vm_signal_stop(vm);
}

static void on_stop(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;
    struct end_reason reason;

    (void)loop;
    (void)revents;
    if (end_is_stopped(&vm->end))
        vm_end(vm, HUSK_STOPPED, -1, NULL);
    if (vm->config.reset_again && vm->has_machine &&
        end_get(&vm->end, &reason) && reason.outcome == HUSK_RESET)
        vm_reboot(vm);
    else
        vm_finish(vm);
}

static void on_timeout(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;
    bool entered = vm->boots > 0;
    char text[96];

    (void)loop;
    (void)revents;
    /* before its first instruction it is no failure of the guest's */
    snprintf(text, sizeof text, "the guest did not %s within %g s",
             entered ? "end" : "start", vm->config.timeout);
    vm_end(vm, entered ? HUSK_TIMEOUT : HUSK_ERROR, -1, text);
}

static void on_wake(struct ev_loop *loop, ev_async *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;

    (void)loop;
    (void)revents;
    vm_hand_out_log(vm);
    if (vm->state == VM_RUNNING || vm->state == VM_REBOOTING) {
        vm_flush_console(vm);
        for (unsigned i = 0; i < vm->n_devices; i++)
            device_wake(vm->devices[i]);
    }
    /* probed() comes on the loop, never inside husk_vm_probe() */
    if (vm->state == VM_PROBING && !vm->boots_guest)
        vm_go_on_or_end(vm);
    if (atomic_exchange(&vm->room, false) && vm->config.console_room &&
        vm->state == VM_RUNNING)
        vm->config.console_room(vm->config.ctx);
}

static void init_watchers(struct husk_vm *vm)
{
    ev_init(&vm->on_stop, on_stop);
    ev_init(&vm->on_output, vm_on_output);
    ev_async_init(&vm->wake, on_wake);
    ev_init(&vm->timeout, on_timeout);
    ev_init(&vm->drain, vm_on_drain);
    vm->on_stop.data = vm->on_output.data = vm->wake.data = vm->timeout.data =
        vm->drain.data = vm;
}

void vm_stop_watchers(struct husk_vm *vm)
{
    ev_io_stop(vm->loop, &vm->on_stop);
    ev_io_stop(vm->loop, &vm->on_output);
    ev_timer_stop(vm->loop, &vm->timeout);
    ev_timer_stop(vm->loop, &vm->drain);
    for (unsigned i = 0; i < vm->n_devices; i++)
        device_silence(vm->devices[i]);
}

int husk_vm_create(struct husk_vm **out, struct ev_loop *loop,
                   const struct husk_config *config, struct husk_err *err)
{
    struct husk_vm *vm = calloc(1, sizeof *vm);
    int rc;

    *out = NULL;
    if (!vm)
        return fail(err, -ENOMEM, "out of memory");
    vm->times.create = sys_now();
    vm->loop = loop;
    vm->mem.fd = vm->windows.vm_fd = vm->stop_fd = vm->ack_fd = -1;
    for (unsigned i = 0; i < VM_MAX_PINS; i++)
        vm->pin_fd[i] = -1;
    console_init(&vm->console, vm_wake, vm);
    end_init(&vm->end);
    log_init(&vm->log);
    init_watchers(vm);
    rc = vm_take_config(vm, config, err);
    if (rc == 0) {
        vm->stop_fd = sys_eventfd();
        vm->ack_fd = sys_eventfd();
        if (vm->stop_fd < 0 || vm->ack_fd < 0)
            rc = fail(err, -EMFILE, "eventfd: no more descriptors");
    }
    if (rc < 0) {
        husk_vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

/* Back-ends that were started end at the same time, each by itself. */
static void destroy_devices(struct husk_vm *vm)
{
    uint64_t deadline;

    for (unsigned i = 0; i < vm->n_devices; i++)
        device_ask_to_end(vm->devices[i]);
    deadline = sys_now() + LAST_WAIT;
    for (unsigned i = 0; i < vm->n_devices; i++) {
        device_fini(vm->devices[i], deadline);
        free(vm->devices[i]);
    }
}

void husk_vm_destroy(struct husk_vm *vm)
{
    if (!vm)
        return;
    vm_stop_watchers(vm);
    if (vm->stop_fd >= 0)
        vm_signal_stop(vm); /* whoever waits for a back-end need not */
    if (vm->has_machine)
        machine_stop(&vm->machine);
    console_flush(&vm->console);
    destroy_devices(vm);
    if (vm->has_machine)
        machine_fini(&vm->machine);
    ev_async_stop(vm->loop, &vm->wake);
    vm_hand_out_log(vm);
    log_fini(&vm->log);
    windows_fini(&vm->windows);
    mem_fini(&vm->mem);
    console_fini(&vm->console);
    for (unsigned i = 0; i < VM_MAX_PINS; i++)
        sys_close(&vm->pin_fd[i]);
    sys_close(&vm->ack_fd);
    sys_close(&vm->stop_fd);
    end_fini(&vm->end);
    vm_free_images(vm);
    vm_free_config(vm);
    free(vm);
}

int husk_vm_add_device(struct husk_vm *vm, const char *spec,
                       struct husk_err *err)
{
    struct device_events events = vm_device_events;
    struct device *device;
    int rc;

    if (vm->state != VM_NEW)
        return fail(err, -EBUSY, "devices are added before the start");
    if (vm->n_devices == VM_MAX_DEVICES)
        return fail(err, -ENOSPC, "more than %u devices", VM_MAX_DEVICES);
    device = calloc(1, sizeof *device);
    if (!device)
        return fail(err, -ENOMEM, "out of memory");
    events.ctx = vm;
    rc = device_init(device, vm->loop, spec, vm->n_devices, &vm->mem,
                     vm->stop_fd, &events, err);
    if (rc < 0) {
        device_fini(device, 0);
        free(device);
        return rc;
    }
    vm->devices[vm->n_devices++] = device;
    return 0;
}

int husk_vm_set_console(struct husk_vm *vm, int fd, struct husk_err *err)
{
    int rc;

    if (vm->boots_guest || vm->state == VM_FAILED)
        return fail(err, -EBUSY, "the console is set before the start");
    rc = console_open(&vm->console, fd);
    return rc < 0 ? fail(err, rc, "console: %s", strerror(-rc)) : 0;
}

void husk_vm_stop(struct husk_vm *vm)
{
    end_stop(&vm->end);
    vm_signal_stop(vm);
}

ssize_t husk_vm_console_input(struct husk_vm *vm, const void *data, size_t size)
{
    if (vm->state != VM_RUNNING)
        return -EAGAIN;
    return (ssize_t)machine_input(&vm->machine, data, size);
}
