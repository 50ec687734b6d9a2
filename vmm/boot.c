/*
 * The way to a boot, the first one and every other: the back-ends are probed
 * (or reset) while the machine is built; whichever is ready last goes on with
 * vm_go_on(), and there is no other way.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"
#include "vmm/vm.h"

/* The machine's events, on vCPUs' threads. */

static void on_power(void *ctx, enum power_event event, uint32_t value)
{
    struct end_reason reason;

    end_of_power(event, value, &reason);
    vm_end(ctx, reason.outcome, reason.value, reason.text);
}

static void on_crash(void *ctx, const char *where)
{
    char text[256];

    snprintf(text, sizeof text, "the guest crashed: triple fault at %s", where);
    vm_end(ctx, HUSK_RESET, -1, text);
}

static void on_failure(void *ctx, const char *text)
{
    vm_end(ctx, HUSK_ERROR, -1, text);
}

/* KVM could not carry out a vCPU's access to guest memory. */
static bool on_fault(void *ctx, gpa_t gpa, bool again)
{
    struct husk_vm *vm = ctx;
    bool found = false;

    for (unsigned i = 0; i < vm->n_devices; i++)
        found |= device_faulted(vm->devices[i], gpa, again);
    return found;
}

static void console_byte(void *ctx, uint8_t byte)
{
    struct husk_vm *vm = ctx;

    console_put(&vm->console, byte);
}

/* Under the UART's lock. */
static void console_room(void *ctx)
{
    struct husk_vm *vm = ctx;

    atomic_store(&vm->room, true);
    vm_wake(vm);
}

/* The devices' events, on the loop. */

static void device_ready(void *ctx, struct device *device)
{
    struct husk_vm *vm = ctx;

    (void)device;
    if (++vm->n_ready < vm->n_devices)
        return;
    vm->waits &= ~VM_WAITS_DEVICES;
    if (vm->boots_guest)
        vm_go_on_or_end(vm);
    else
        vm_wake(vm);
}

static void device_failed(void *ctx, const struct husk_err *err)
{
    vm_end(ctx, HUSK_ERROR, -1, err->text);
}

static void device_lost(void *ctx, struct device *device)
{
    struct husk_vm *vm = ctx;

    (void)device;
    vm->n_lost++;
}

static void device_settled(void *ctx, struct device *device)
{
    struct husk_vm *vm = ctx;

    (void)device;
    if (++vm->n_settled < vm->n_devices || vm->state != VM_REBOOTING)
        return;
    vm->waits &= ~VM_WAITS_DEVICES;
    vm_go_on_or_end(vm);
}

const struct device_events vm_device_events = {
    .ready = device_ready,
    .failed = device_failed,
    .lost = device_lost,
    .settled = device_settled,
    .log = vm_log,
    .wake = vm_wake,
};

static int build_machine(struct husk_vm *vm, struct husk_err *err)
{
    struct machine_config config = {
        .mem = &vm->mem,
        .windows = vm->n_devices ? &vm->windows : NULL,
        .exits_on_read = vm->config.exits_on_read,
        .cpus = vm->config.cpus,
        .console = { console_byte, console_room, vm },
        .events = { on_power, on_crash, on_failure, on_fault, vm },
    };
    int rc;

    if (!vm->mem.map) {
        rc = mem_init(&vm->mem, vm->config.memory, &arch_ram, err);
        if (rc < 0)
            return rc;
        vm->times.memory = sys_now();
    }
    rc = machine_init(&vm->machine, &config, err);
    if (vm->boots == 0) {
        vm->times.machine = vm->machine.times;
        vm->times.setup = sys_now();
    }
    if (rc < 0)
        machine_fini(&vm->machine);
    vm->has_machine = rc == 0;
    if (vm->has_machine)
        vm->waits &= ~VM_WAITS_MACHINE;
    return rc;
}

/* Everything is there: load the kernel and run the vCPUs. */
static int enter(struct husk_vm *vm, struct husk_err *err)
{
    struct boot_entry entry;
    bool first = vm->boots == 0;
    int rc = board_attach(vm, err);

    if (rc == 0)
        rc = vm_load(vm, first, &entry, err);
    if (rc < 0)
        return rc;
    if (first)
        vm->times.loaded = vm->times.entry = sys_now();
    vm->boots++;
    vm->state = VM_RUNNING;
    rc = machine_start(&vm->machine, &entry, err);
    if (rc < 0)
        return rc;
    if (vm->machine.exits_on_read && vm->n_devices && !vm->config.exits_on_read)
        vm_log(vm, HUSK_LOG_INFO,
               "this KVM has no read-only memory slots: the "
               "guest leaves KVM_RUN for every register read");
    if (vm->config.console_room)
        vm->config.console_room(vm->config.ctx);
    return 0;
}

/* husk_vm_probe() has its answers, and no boot was asked for. */
static void report_probed(struct husk_vm *vm)
{
    vm->state = VM_PROBED;
    ev_timer_stop(vm->loop, &vm->timeout);
    vm_hand_out_log(vm);
    if (vm->config.probed)
        vm->config.probed(vm->config.ctx);
}

int vm_go_on(struct husk_vm *vm, struct husk_err *err)
{
    struct end_reason reason;
    int rc = 0;

    if (vm->waits || end_get(&vm->end, &reason))
        return 0;
    if (vm->state == VM_PROBING) {
        vm->times.probed = sys_now();
        rc = board_place(vm, err);
        if (rc < 0)
            return rc;
        vm->known = true;
        if (!vm->boots_guest) {
            report_probed(vm);
            return 0;
        }
    } else if (vm->state == VM_REBOOTING) {
        rc = build_machine(vm, err);
    } else if (vm->state != VM_PROBED) {
        return 0;
    }
    return rc < 0 ? rc : enter(vm, err);
}

void vm_go_on_or_end(struct husk_vm *vm)
{
    struct husk_err err;

    if (vm_go_on(vm, &err) < 0)
        vm_end(vm, HUSK_ERROR, -1, err.text);
}

void vm_stop_machine(struct husk_vm *vm)
{
    machine_stop(&vm->machine);
    if (vm->boots == 1)
        vm->times.entered = vm->machine.cpu[0].entered;
    for (unsigned i = 0; i < vm->machine.n_cpus; i++) {
        const struct vcpu_exits *exits = &vm->machine.cpu[i].exits;

        vm->exits.io += exits->io;
        vm->exits.mmio_read += exits->mmio_read;
        vm->exits.mmio_write += exits->mmio_write;
        vm->exits.hlt += exits->hlt;
        vm->exits.other += exits->other;
    }
}

void vm_reboot(struct husk_vm *vm)
{
    uint64_t count;
    ssize_t n;

    vm_stop_machine(vm);
    machine_fini(&vm->machine);
    vm->has_machine = false;
    /* no other thread is left that waits for it or signals it */
    n = read(vm->stop_fd, &count, sizeof count);
    (void)n;
    end_clear(&vm->end);
    if (end_is_stopped(&vm->end))
        vm_signal_stop(vm); /* it came meanwhile */
    vm->state = VM_REBOOTING;
    vm->n_settled = 0;
    vm->waits = vm->n_devices ? VM_WAITS_DEVICES : 0;
    for (unsigned i = 0; i < vm->n_devices; i++)
        device_reboot(vm->devices[i]);
    if (vm->n_devices == 0)
        vm_go_on_or_end(vm);
}

static void begin_time(struct husk_vm *vm)
{
    vm->times.start = sys_now();
    if (vm->config.timeout > 0) {
        ev_now_update(vm->loop);
        ev_timer_stop(vm->loop, &vm->timeout);
        ev_timer_set(&vm->timeout, vm->config.timeout, 0);
        ev_timer_start(vm->loop, &vm->timeout);
    }
}

/* Connect or start all back-ends at once. */
static int begin_probe(struct husk_vm *vm, struct husk_err *err)
{
    int rc;

    vm->state = VM_PROBING;
    if (vm->n_devices)
        vm->waits |= VM_WAITS_DEVICES;
    ev_io_set(&vm->on_stop, vm->stop_fd, EV_READ);
    ev_io_start(vm->loop, &vm->on_stop);
    ev_async_start(vm->loop, &vm->wake);
    if (vm->n_devices) {
        rc = windows_init(&vm->windows, arch_virtio_base,
                          vm->n_devices *
                              transport_window_size(FRONTEND_MAX_CONFIG));
        if (rc < 0)
            return fail(err, rc, "out of memory for device registers");
    }
    for (unsigned i = 0; i < vm->n_devices; i++) {
        rc = device_start(vm->devices[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The caller gets an error: nothing more happens until the VM is destroyed. */
static int failed(struct husk_vm *vm, int rc)
{
    vm->state = VM_FAILED;
    vm_stop_watchers(vm);
    if (vm->has_machine)
        machine_stop(&vm->machine); /* some vCPUs may have started */
    ev_async_stop(vm->loop, &vm->wake);
    vm_hand_out_log(vm);
    return rc;
}

int husk_vm_probe(struct husk_vm *vm, struct husk_err *err)
{
    int rc;

    if (vm->state != VM_NEW)
        return fail(err, -EBUSY, "the VM was probed or started before");
    begin_time(vm);
    rc = begin_probe(vm, err);
    if (rc < 0)
        return failed(vm, rc);
    if (vm->n_devices == 0)
        vm_wake(vm);
    return 0;
}

int husk_vm_start(struct husk_vm *vm, struct husk_err *err)
{
    int rc;

    if (vm->boots_guest || (vm->state != VM_NEW && vm->state != VM_PROBING &&
                            vm->state != VM_PROBED))
        return fail(err, -EBUSY, "the VM was started before");
    if (!vm->kernel)
        return failed(vm, fail(err, -ENOENT, "no kernel was given"));
    rc = vm_read_images(vm, err);
    if (rc < 0)
        return failed(vm, rc);
    vm->boots_guest = true;
    vm->waits |= VM_WAITS_MACHINE;
    begin_time(vm);
    if (vm->state == VM_NEW)
        rc = begin_probe(vm, err);
    /* the back-ends answer while the machine is built */
    if (rc == 0)
        rc = build_machine(vm, err);
    if (rc == 0)
        rc = vm_go_on(vm, err);
    return rc < 0 ? failed(vm, rc) : 0;
}
