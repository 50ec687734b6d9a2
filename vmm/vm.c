/*
 * The VM: devices asked and machine built at the same time, then one boot, or
 * several. Whatever ends the run makes stop_fd readable; the loop does the
 * rest.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/arch.h"
#include "devices/doorbell.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define DEFAULT_MEMORY (UINT64_C(256) << 20)
#define MIN_MEMORY     (UINT64_C(2) << 20)
#define MAX_MEMORY     (UINT64_C(1) << 40)
#define MAX_CPUS       64u
#define PAGE           4096u
#define LAST_WAIT      UINT64_C(1000000000) /* ns that back-ends have to end */

static void vm_log(void *ctx, enum husk_log level, const char *text)
{
    struct husk_vm *vm = ctx;

    if (vm->config.log)
        vm->config.log(vm->config.ctx, level, text);
}

/* On a vCPU whose access to guest memory KVM could not carry out. */
static bool on_fault(void *ctx)
{
    struct husk_vm *vm = ctx;
    bool found = false;

    for (unsigned i = 0; i < vm->n_devices; i++)
        found |= device_faulted(vm->devices[i]);
    return found;
}

static void wake(void *ctx)
{
    struct husk_vm *vm = ctx;

    ev_async_send(vm->loop, &vm->wake);
}

static void console_byte(void *ctx, uint8_t byte)
{
    struct husk_vm *vm = ctx;

    console_put(&vm->console, byte);
}

static void console_room(void *ctx)
{
    struct husk_vm *vm = ctx;

    pthread_mutex_lock(&vm->lock);
    vm->room = true;
    pthread_mutex_unlock(&vm->lock);
    wake(vm);
}

static bool take_room(struct husk_vm *vm)
{
    bool room;

    pthread_mutex_lock(&vm->lock);
    room = vm->room;
    vm->room = false;
    pthread_mutex_unlock(&vm->lock);
    return room;
}

static void count_exits(struct husk_vm *vm)
{
    if (!vm->t_entered && vm->machine.n_cpus)
        vm->t_entered = vm->machine.cpu[0].entered;
    for (unsigned i = 0; i < vm->machine.n_cpus; i++) {
        const struct vcpu_exits *exits = &vm->machine.cpu[i].exits;

        vm->exits.io += exits->io;
        vm->exits.mmio_read += exits->mmio_read;
        vm->exits.mmio_write += exits->mmio_write;
        vm->exits.hlt += exits->hlt;
        vm->exits.other += exits->other;
    }
}

static int boot(struct husk_vm *vm, struct husk_err *err);
static int build_machine(struct husk_vm *vm, struct husk_err *err);

/* All devices are at rest: a new machine around the same memory. */
static void boot_again(struct husk_vm *vm)
{
    struct husk_err err;
    int rc = build_machine(vm, &err);

    if (rc == 0)
        rc = vm_attach_devices(vm, &err);
    if (rc == 0)
        rc = boot(vm, &err);
    if (rc < 0)
        vm_end(vm, HUSK_ERROR, -1, err.text);
}

static void device_settled(void *ctx, struct device *device)
{
    struct husk_vm *vm = ctx;

    (void)device;
    if (++vm->n_settled == vm->n_devices && vm->state == VM_REBOOTING)
        boot_again(vm);
}

/* A reset that ends nothing. */
static void reboot(struct husk_vm *vm)
{
    uint64_t count;
    ssize_t n;

    machine_stop(&vm->machine);
    count_exits(vm);
    machine_fini(&vm->machine);
    vm->has_machine = false;
    /* no other thread is left: none that waits for it, none that asks again */
    n = read(vm->stop_fd, &count, sizeof count);
    (void)n;
    vm->end.set = false;
    if (atomic_load(&vm->stop))
        vm_signal_stop(vm); /* came meanwhile */
    vm->state = VM_REBOOTING;
    vm->n_settled = 0;
    if (vm->n_devices == 0)
        boot_again(vm);
    for (unsigned i = 0; i < vm->n_devices; i++)
        device_reboot(vm->devices[i]);
}

static void finish(struct husk_vm *vm)
{
    ev_io_stop(vm->loop, &vm->on_stop);
    ev_timer_stop(vm->loop, &vm->timeout);
    if (vm->has_machine) {
        machine_stop(&vm->machine);
        count_exits(vm);
    }
    vm->state = VM_DRAINING; /* a device that settles boots nothing any more */
    for (unsigned i = 0; i < vm->n_devices; i++)
        device_wake(vm->devices[i]);
    vm->drain_left = SIZE_MAX;
    vm_drain(vm);
}

static void on_stop(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;
    bool again;

    (void)loop;
    (void)revents;
    if (atomic_load(&vm->stop))
        vm_end(vm, HUSK_STOPPED, -1, NULL);
    pthread_mutex_lock(&vm->lock);
    again = vm->config.reset_again && vm->end.outcome == HUSK_RESET &&
            vm->has_machine;
    pthread_mutex_unlock(&vm->lock);
    if (again)
        reboot(vm);
    else
        finish(vm);
}

static void on_timeout(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;
    char text[96];

    (void)loop;
    (void)revents;
    /* before its first instruction it is no failure of the guest's */
    snprintf(text, sizeof text, "the guest did not %s within %g s",
             vm->t_entry ? "end" : "start", vm->config.timeout);
    vm_end(vm, vm->t_entry ? HUSK_TIMEOUT : HUSK_ERROR, -1, text);
}

static void probe_done(struct husk_vm *vm);

static void on_wake(struct ev_loop *loop, ev_async *watcher, int revents)
{
    struct husk_vm *vm = watcher->data;

    (void)loop;
    (void)revents;
    if (vm->state == VM_RUNNING || vm->state == VM_REBOOTING) {
        vm_flush_console(vm);
        for (unsigned i = 0; i < vm->n_devices; i++)
            device_wake(vm->devices[i]);
    }
    if (vm->state == VM_PROBING && !vm->boot)
        probe_done(vm);
    if (take_room(vm) && vm->config.console_room && vm->state == VM_RUNNING)
        vm->config.console_room(vm->config.ctx);
}

static int boot(struct husk_vm *vm, struct husk_err *err)
{
    struct boot_entry entry;
    int rc = vm_load(vm, vm->boots == 0, &entry, err);

    if (rc < 0)
        return rc;
    if (vm->boots++ == 0)
        vm->t_loaded = vm->t_entry = sys_now();
    vm->state = VM_RUNNING;
    rc = machine_start(&vm->machine, &entry, err);
    if (rc == 0 && vm->machine.exits_on_read && vm->n_devices &&
        !vm->config.no_window)
        vm_log(vm, HUSK_LOG_INFO,
               "this KVM has no read-only memory slots: the "
               "guest leaves KVM_RUN for every register read");
    if (rc == 0 && vm->config.console_room)
        vm->config.console_room(vm->config.ctx);
    return rc;
}

/* The devices have answered, and the machine stands if there is to be one. */
static int all_known(struct husk_vm *vm, struct husk_err *err)
{
    int rc;

    vm->t_probed = sys_now();
    rc = vm_place_devices(vm, err);
    if (rc < 0)
        return rc;
    if (vm->boot)
        return boot(vm, err);
    vm->state = VM_PROBED;
    ev_timer_stop(vm->loop, &vm->timeout);
    if (vm->config.probed)
        vm->config.probed(vm->config.ctx);
    return 0;
}

/* Nobody boots: probed() is called on the loop, never by husk_vm_probe(). */
static void probe_done(struct husk_vm *vm)
{
    struct husk_err err;

    if (vm->n_ready == vm->n_devices && !vm->end.set && all_known(vm, &err) < 0)
        vm_end(vm, HUSK_ERROR, -1, err.text);
}

static void device_ready(void *ctx, struct device *device)
{
    struct husk_vm *vm = ctx;
    struct husk_err err;

    (void)device;
    if (++vm->n_ready < vm->n_devices || vm->state != VM_PROBING)
        return;
    if (!vm->boot)
        wake(vm);
    /* the machine may not stand yet: then start() goes on */
    else if (vm->has_machine && !vm->end.set && all_known(vm, &err) < 0)
        vm_end(vm, HUSK_ERROR, -1, err.text);
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

static int check_config(const struct husk_config *config, struct husk_err *err)
{
    if (config->size < sizeof *config)
        return fail(err, -EINVAL, "husk_config of %zu bytes, %zu are needed",
                    config->size, sizeof *config);
    if (config->memory &&
        (config->memory < MIN_MEMORY || config->memory > MAX_MEMORY ||
         config->memory % PAGE))
        return fail(err, -EINVAL,
                    "memory of %" PRIu64 " bytes: give 2M to 1T "
                    "in whole pages",
                    config->memory);
    if (config->cpus > MAX_CPUS)
        return fail(err, -EINVAL, "%u vCPUs: give 1 to %u", config->cpus,
                    MAX_CPUS);
    if (config->append && strlen(config->append) > boot_arch_max_cmdline)
        return fail(err, -EINVAL,
                    "command line of %zu bytes, at most %zu are "
                    "possible",
                    strlen(config->append), boot_arch_max_cmdline);
    if (config->n_initrds > HUSK_MAX_INITRDS)
        return fail(err, -EINVAL, "%u initrds: at most %u are possible",
                    config->n_initrds, HUSK_MAX_INITRDS);
    if (config->discovery > HUSK_DISCOVERY_CMDLINE)
        return fail(err, -EINVAL, "discovery %u is not known",
                    (unsigned)config->discovery);
    if (!(config->timeout >= 0))
        return fail(err, -EINVAL, "timeout of %g s: give 0 or more",
                    config->timeout);
    return 0;
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

int husk_vm_create(struct husk_vm **out, struct ev_loop *loop,
                   const struct husk_config *config, struct husk_err *err)
{
    struct husk_vm *vm;
    int rc = check_config(config, err);

    *out = NULL;
    if (rc < 0)
        return rc;
    vm = calloc(1, sizeof *vm);
    if (!vm)
        return fail(err, -ENOMEM, "out of memory");
    vm->t_create = sys_now();
    vm->loop = loop;
    vm->config = *config;
    if (!vm->config.memory)
        vm->config.memory = DEFAULT_MEMORY;
    if (!vm->config.cpus)
        vm->config.cpus = 1;
    vm->mem.fd = vm->windows.vm_fd = vm->stop_fd = vm->ack_fd = -1;
    for (unsigned i = 0; i < VM_MAX_PINS; i++)
        vm->pin_fd[i] = -1;
    pthread_mutex_init(&vm->lock, NULL);
    console_init(&vm->console, wake, vm);
    init_watchers(vm);
    vm->kernel = config->kernel ? strdup(config->kernel) : NULL;
    vm->append = strdup(config->append ? config->append : "");
    for (; vm->n_initrds < config->n_initrds; vm->n_initrds++) {
        char *path = strdup(config->initrds[vm->n_initrds]);

        if (!path)
            rc = fail(err, -ENOMEM, "out of memory");
        vm->initrds[vm->n_initrds] = path;
    }
    vm->stop_fd = sys_eventfd();
    vm->ack_fd = sys_eventfd();
    if (!vm->append || (config->kernel && !vm->kernel))
        rc = fail(err, -ENOMEM, "out of memory");
    else if (vm->stop_fd < 0 || vm->ack_fd < 0)
        rc = fail(err, -EMFILE, "eventfd: no more descriptors");
    if (rc < 0) {
        husk_vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

void husk_vm_destroy(struct husk_vm *vm)
{
    uint64_t deadline;

    if (!vm)
        return;
    ev_io_stop(vm->loop, &vm->on_stop);
    ev_io_stop(vm->loop, &vm->on_output);
    ev_timer_stop(vm->loop, &vm->timeout);
    ev_timer_stop(vm->loop, &vm->drain);
    if (vm->stop_fd >= 0)
        vm_signal_stop(vm); /* whoever waits for a back-end need not */
    if (vm->has_machine)
        machine_stop(&vm->machine);
    console_flush(&vm->console);
    for (unsigned i = 0; i < vm->n_devices; i++)
        child_ask(&vm->devices[i]->child); /* all at once */
    deadline = sys_now() + LAST_WAIT;
    for (unsigned i = 0; i < vm->n_devices; i++) {
        device_fini(vm->devices[i], deadline);
        free(vm->devices[i]);
    }
    if (vm->has_machine)
        machine_fini(&vm->machine);
    ev_async_stop(vm->loop, &vm->wake);
    windows_fini(&vm->windows);
    mem_fini(&vm->mem);
    console_fini(&vm->console);
    for (unsigned i = 0; i < VM_MAX_PINS; i++)
        sys_close(&vm->pin_fd[i]);
    sys_close(&vm->ack_fd);
    sys_close(&vm->stop_fd);
    pthread_mutex_destroy(&vm->lock);
    vm_free_images(vm);
    for (unsigned i = 0; i < vm->n_initrds; i++)
        free(vm->initrds[i]);
    free(vm->kernel);
    free(vm->append);
    free(vm);
}

int husk_vm_add_device(struct husk_vm *vm, const char *spec,
                       struct husk_err *err)
{
    static const struct device_events events = {
        .ready = device_ready,
        .failed = device_failed,
        .lost = device_lost,
        .settled = device_settled,
        .log = vm_log,
        .wake = wake,
    };
    struct device_events mine = events;
    struct device *device;
    int rc;

    if (vm->state != VM_NEW)
        return fail(err, -EBUSY, "devices are added before the start");
    if (vm->n_devices == VM_MAX_DEVICES)
        return fail(err, -ENOSPC, "more than %u devices", VM_MAX_DEVICES);
    device = calloc(1, sizeof *device);
    if (!device)
        return fail(err, -ENOMEM, "out of memory");
    mine.ctx = vm;
    rc = device_init(device, vm->loop, spec, vm->n_devices, &vm->mem,
                     vm->stop_fd, &mine, err);
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

    if (vm->boot)
        return fail(err, -EBUSY, "the console is set before the start");
    rc = console_open(&vm->console, fd);
    return rc < 0 ? fail(err, rc, "console: %s", strerror(-rc)) : 0;
}

static void begin_time(struct husk_vm *vm)
{
    vm->t_start = sys_now();
    if (vm->config.timeout > 0) {
        ev_now_update(vm->loop);
        ev_timer_stop(vm->loop, &vm->timeout);
        ev_timer_set(&vm->timeout, vm->config.timeout, 0);
        ev_timer_start(vm->loop, &vm->timeout);
    }
}

/* What both ways to start have in common: everybody is asked. */
static int begin(struct husk_vm *vm, struct husk_err *err)
{
    int rc;

    vm->state = VM_PROBING;
    begin_time(vm);
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

int husk_vm_probe(struct husk_vm *vm, struct husk_err *err)
{
    int rc;

    if (vm->state != VM_NEW)
        return fail(err, -EBUSY, "the VM was probed or started before");
    rc = begin(vm, err);
    if (rc == 0 && vm->n_devices == 0)
        wake(vm);
    return rc;
}

static int build_machine(struct husk_vm *vm, struct husk_err *err)
{
    struct machine_config config = {
        .mem = &vm->mem,
        .windows = vm->n_devices ? &vm->windows : NULL,
        .no_window = vm->config.no_window,
        .cpus = vm->config.cpus,
        .console = { console_byte, console_room, vm },
        .events = { vm_on_power, vm_on_crash, vm_on_failure, on_fault, vm },
    };
    int rc;

    if (!vm->mem.map) {
        rc = mem_init(&vm->mem, vm->config.memory, arch_hole_start,
                      arch_hole_end, err);
        if (rc < 0)
            return rc;
        vm->t_memory = sys_now();
    }
    vm->has_machine = true;
    rc = machine_init(&vm->machine, &config, err);
    if (vm->boots == 0)
        vm->t_machine = vm->machine.times;
    return rc;
}

/* The machine for devices that have had their places since husk_vm_probe(). */
static int boot_probed(struct husk_vm *vm, struct husk_err *err)
{
    int rc = vm_place_shm(vm, err);

    for (unsigned i = 0; i < vm->n_devices && rc == 0; i++)
        if (frontend_check_slots(&vm->devices[i]->fe, &vm->mem) < 0 ||
            vm->devices[i]->fe.lost)
            rc = fail(err, vm->devices[i]->fe.err.code, "%s",
                      vm->devices[i]->fe.err.text);
    if (rc == 0)
        rc = vm_attach_devices(vm, err);
    return rc < 0 ? rc : boot(vm, err);
}

int husk_vm_start(struct husk_vm *vm, struct husk_err *err)
{
    bool probed = vm->state == VM_PROBED;
    int rc = 0;

    if (vm->boot || (!probed && vm->state != VM_NEW && vm->state != VM_PROBING))
        return fail(err, -EBUSY, "the VM was started before");
    if (!vm->kernel)
        return fail(err, -ENOENT, "no kernel was given");
    if ((rc = vm_read_images(vm, err)) < 0)
        return rc;
    vm->boot = true;
    if (vm->state == VM_NEW)
        rc = begin(vm, err);
    else
        begin_time(vm);
    /* the back-ends answer while the machine is built */
    if (rc < 0 || (rc = build_machine(vm, err)) < 0)
        return rc;
    vm->t_setup = sys_now();
    if (probed)
        rc = boot_probed(vm, err);
    else if (vm->n_ready == vm->n_devices && !vm->end.set)
        rc = all_known(vm, err);
    return rc;
}

void husk_vm_stop(struct husk_vm *vm)
{
    atomic_store(&vm->stop, true);
    vm_signal_stop(vm);
}

size_t husk_vm_console_input(struct husk_vm *vm, const void *data, size_t size)
{
    return vm->state == VM_RUNNING ? uart_input(&vm->machine.uart, data, size)
                                   : 0;
}
