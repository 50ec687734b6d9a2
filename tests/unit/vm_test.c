/*
 * The library's calls where no guest runs: what husk_vm_create() refuses, and
 * what a start that failed leaves behind. Needs no /dev/kvm.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "husk.h"

TestSuite(vm, .timeout = 20);

/* What the callbacks of one VM saw. */
struct seen {
    unsigned logged, probed, ended;
    enum husk_outcome outcome;
    char text[256];
    pthread_t thread; /* of the last message */
};

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    struct seen *seen = ctx;

    (void)level;
    seen->logged++;
    seen->thread = pthread_self();
    snprintf(seen->text, sizeof seen->text, "%s", text);
}

static void on_probed(void *ctx)
{
    ((struct seen *)ctx)->probed++;
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct seen *seen = ctx;

    seen->ended++;
    seen->outcome = end->outcome;
    snprintf(seen->text, sizeof seen->text, "%s", end->text ? end->text : "");
}

static struct husk_config config_for(struct seen *seen)
{
    return (struct husk_config){ .size = sizeof(struct husk_config),
                                 .memory = 16 << 20,
                                 .kernel = "/proc/self/exe",
                                 .ctx = seen,
                                 .log = on_log,
                                 .probed = on_probed,
                                 .ended = on_ended };
}

/* A socket that takes connections and never answers. */
static int listen_mute(char *path, size_t size)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(path, size, "/tmp/husk-vm-test.%d", getpid());
    unlink(path);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(fd, 4), 0);
    return fd;
}

static void pass(struct ev_loop *loop, double seconds)
{
    ev_tstamp until = ev_time() + seconds;

    while (ev_time() < until) {
        ev_run(loop, EVRUN_NOWAIT);
        usleep(1000);
    }
}

/* The host has not so much memory: an error at once, and nothing after it. */
Test(vm, no_callback_after_a_failed_start)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct seen seen = { 0 };
    struct husk_config config = config_for(&seen);
    struct husk_err err;
    struct husk_vm *vm;
    char path[64], spec[96];
    int mute = listen_mute(path, sizeof path);

    config.memory = UINT64_C(1) << 40;
    config.timeout = 0.05;
    cr_assert_eq(husk_vm_create(&vm, loop, &config, &err), 0, "%s", err.text);
    snprintf(spec, sizeof spec, "socket=%s,deadline=0.05", path);
    cr_assert_eq(husk_vm_add_device(vm, spec, &err), 0, "%s", err.text);
    cr_assert_eq(husk_vm_start(vm, &err), -ENOMEM);
    husk_vm_stop(vm);
    pass(loop, 0.3);
    cr_assert_eq(seen.ended, 0, "%s", seen.text);
    cr_assert_eq(seen.probed, 0);
    cr_assert_eq(husk_vm_start(vm, &err), -EBUSY);
    cr_assert_eq(husk_vm_probe(vm, &err), -EBUSY);
    husk_vm_destroy(vm);
    cr_assert_eq(seen.ended, 0);
    close(mute);
    unlink(path);
    ev_loop_destroy(loop);
}

Test(vm, initrds_that_are_not_there)
{
    struct seen seen = { 0 };
    struct husk_config config = config_for(&seen);
    const char *const one[] = { NULL };
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_err err;
    struct husk_vm *vm;

    config.n_initrds = 3;
    cr_assert_eq(husk_vm_create(&vm, loop, &config, &err), -EINVAL);
    cr_assert_null(vm);
    cr_assert_not_null(strstr(err.text, "initrds"), "%s", err.text);
    config.initrds = one;
    config.n_initrds = 1;
    cr_assert_eq(husk_vm_create(&vm, loop, &config, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "initrd 0"), "%s", err.text);
    ev_loop_destroy(loop);
}

/* It is called from signal handlers, which must leave errno as it was. */
Test(vm, stop_keeps_errno)
{
    struct seen seen = { 0 };
    struct husk_config config = config_for(&seen);
    struct ev_loop *loop = ev_loop_new(0);
    uint64_t full = UINT64_MAX - 1;
    struct husk_vm *vm;

    cr_assert_eq(husk_vm_create(&vm, loop, &config, NULL), 0);
    /* a stop that has been asked for so often that no more can be counted */
    cr_assert_eq(write(vm->stop_fd, &full, sizeof full), sizeof full);
    errno = EDOM;
    husk_vm_stop(vm);
    cr_assert_eq(errno, EDOM);
    husk_vm_destroy(vm);
    ev_loop_destroy(loop);
}

static void *log_three(void *vm)
{
    vm_log(vm, HUSK_LOG_INFO, "one");
    vm_log(vm, HUSK_LOG_INFO, "two");
    vm_log(vm, HUSK_LOG_INFO, "three");
    return NULL;
}

/* Whichever thread has a message, and whatever lock it holds: the embedder gets
 * it on the loop's thread, out of the loop, and before probed(). */
Test(vm, messages_come_on_the_loop)
{
    struct seen seen = { 0 };
    struct husk_config config = config_for(&seen);
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_vm *vm;
    pthread_t thread;

    cr_assert_eq(husk_vm_create(&vm, loop, &config, NULL), 0);
    cr_assert_eq(husk_vm_probe(vm, NULL), 0);
    vm_log(vm, HUSK_LOG_INFO, "zero");
    cr_assert_eq(pthread_create(&thread, NULL, log_three, vm), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(seen.logged, 0, "called from inside a call");
    cr_assert_eq(seen.probed, 0);
    ev_run(loop, EVRUN_ONCE);
    cr_assert_eq(seen.logged, 4);
    cr_assert_str_eq(seen.text, "three");
    cr_assert(pthread_equal(seen.thread, pthread_self()));
    cr_assert_eq(seen.probed, 1);
    vm_log(vm, HUSK_LOG_INFO, "last");
    husk_vm_destroy(vm);
    cr_assert_str_eq(seen.text, "last");
    ev_loop_destroy(loop);
}

static bool is_signalled(const struct husk_vm *vm)
{
    struct pollfd polled = { .fd = vm->stop_fd, .events = POLLIN };

    return poll(&polled, 1, 0) == 1;
}

/* A reboot takes back its own signal to stop, and none of husk_vm_stop(). The
 * device was not started, so it never settles and nothing boots. */
Test(vm, stop_during_a_reboot)
{
    for (unsigned stopped = 0; stopped < 2; stopped++) {
        struct seen seen = { 0 };
        struct husk_config config = config_for(&seen);
        struct ev_loop *loop = ev_loop_new(0);
        struct machine_config machine = { .cpus = 1 };
        struct end_reason reason;
        struct husk_err err;
        struct husk_vm *vm;

        cr_assert_eq(husk_vm_create(&vm, loop, &config, NULL), 0);
        cr_assert_eq(husk_vm_add_device(vm, "socket=/none", NULL), 0);
        machine.mem = &vm->mem;
        machine_init(&vm->machine, &machine, &err); /* fails without KVM */
        vm_end(vm, HUSK_RESET, -1, NULL);
        cr_assert(is_signalled(vm));
        if (stopped)
            husk_vm_stop(vm);
        vm_reboot(vm);
        cr_assert_eq(vm->state, VM_REBOOTING);
        cr_assert_not(end_get(&vm->end, &reason));
        cr_assert_eq(is_signalled(vm), stopped);
        husk_vm_destroy(vm);
        ev_loop_destroy(loop);
    }
}

/* A lost device explains the end of a guest that ran, and of no other. */
Test(vm, lost_device_at_the_end)
{
    for (unsigned boots = 0; boots < 2; boots++) {
        struct seen seen = { 0 };
        struct husk_config config = config_for(&seen);
        struct ev_loop *loop = ev_loop_new(0);
        struct husk_vm *vm;

        cr_assert_eq(husk_vm_create(&vm, loop, &config, NULL), 0);
        cr_assert_eq(husk_vm_probe(vm, NULL), 0);
        ev_run(loop, EVRUN_ONCE);
        cr_assert_eq(seen.probed, 1);
        vm->n_lost = 1;
        vm->boots = boots;
        vm_end(vm, HUSK_ERROR, -1, "no memory");
        while (!seen.ended)
            ev_run(loop, EVRUN_ONCE);
        cr_assert_eq(seen.outcome, boots ? HUSK_BACKEND : HUSK_ERROR);
        husk_vm_destroy(vm);
        cr_assert_eq(seen.ended, 1);
        ev_loop_destroy(loop);
    }
}

/* Output that its reader has not taken when the run ends is dropped, and
 * counted. */
Test(vm, console_that_is_not_read)
{
    struct husk_stats stats = { .size = sizeof stats };
    struct seen seen = { 0 };
    struct husk_config config = config_for(&seen);
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_vm *vm;
    char byte = 'x';
    int fd[2];

    cr_assert_eq(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(fd[1], &byte, 1) == 1)
        ;
    cr_assert_eq(husk_vm_create(&vm, loop, &config, NULL), 0);
    cr_assert_eq(husk_vm_set_console(vm, fd[1], NULL), 0);
    cr_assert_eq(husk_vm_probe(vm, NULL), 0);
    ev_run(loop, EVRUN_ONCE);
    for (unsigned i = 0; i < 3; i++)
        console_put(&vm->console, 'y');
    husk_vm_stop(vm);
    while (!seen.ended)
        ev_run(loop, EVRUN_ONCE);
    cr_assert_eq(seen.outcome, HUSK_STOPPED);
    cr_assert_eq(console_waiting(&vm->console), 0);
    cr_assert_eq(husk_vm_stats(vm, &stats), 0);
    cr_assert_eq(stats.console_dropped, 3);
    husk_vm_destroy(vm);
    close(fd[0]);
    close(fd[1]);
    ev_loop_destroy(loop);
}
