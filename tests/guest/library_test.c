/*
 * libhusk as a program embeds it: several VMs at once, ends at any moment and
 * in any state, and nothing left behind: no descriptor, thread or mapping.
 */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "husk.h"
#include "tests/guest/run.h"

/* Present where the sanitizers are: reports what is lost so far. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static void library_fini(void)
{
    if (__lsan_do_recoverable_leak_check)
        CHECK_EQ(__lsan_do_recoverable_leak_check(), 0);
    harness_fini();
}

TestSuite(library, .init = harness_init_kvm, .fini = library_fini,
          .timeout = 120);

/* What the callbacks of one VM saw. */
struct seen {
    struct ev_loop *loop;
    struct husk_vm *vm;
    unsigned probed, ended, lines;
    bool leave; /* the loop, when it has ended */
    enum husk_outcome outcome;
    int status;
    long value;
    char text[512];
    pthread_t thread; /* of the last callback */
};

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    struct seen *seen = ctx;

    (void)level;
    (void)text;
    seen->lines++;
    seen->thread = pthread_self();
}

static void on_probed(void *ctx)
{
    struct seen *seen = ctx;

    seen->probed++;
    seen->thread = pthread_self();
    ev_break(seen->loop, EVBREAK_ALL);
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct seen *seen = ctx;

    seen->ended++;
    seen->outcome = end->outcome;
    seen->status = end->status;
    seen->value = end->guest_value;
    snprintf(seen->text, sizeof seen->text, "%s", end->text ? end->text : "");
    seen->thread = pthread_self();
    if (seen->leave)
        ev_break(seen->loop, EVBREAK_ALL);
}

static void make(struct seen *seen, struct ev_loop *loop, const char *kernel,
                 const char *append, unsigned cpus)
{
    struct husk_config config = {
        .size = sizeof config,
        .memory = 16 << 20,
        .cpus = cpus,
        .kernel = kernel,
        .append = append,
        .ctx = seen,
        .log = on_log,
        .probed = on_probed,
        .ended = on_ended,
    };
    struct husk_err err = { 0 };

    memset(seen, 0, sizeof *seen);
    seen->loop = loop;
    seen->leave = true;
    cr_assert(husk_vm_create(&seen->vm, loop, &config, &err) == 0, "%s",
              err.text);
}

static void add(struct seen *seen, const char *spec)
{
    struct husk_err err;

    cr_assert(husk_vm_add_device(seen->vm, spec, &err) == 0, "%s", err.text);
}

static void start(struct seen *seen)
{
    struct husk_err err;

    cr_assert(husk_vm_start(seen->vm, &err) == 0, "%s", err.text);
}

static void on_limit(struct ev_loop *loop, ev_timer *timer, int revents)
{
    (void)revents;
    *(bool *)timer->data = true;
    ev_break(loop, EVBREAK_ALL);
}

/* Until somebody breaks out of the loop; never for ever. */
static void run_loop(struct ev_loop *loop, double limit)
{
    bool late = false;
    ev_timer timer;

    ev_now_update(loop);
    ev_timer_init(&timer, on_limit, limit, 0);
    timer.data = &late;
    ev_timer_start(loop, &timer);
    ev_run(loop, 0);
    ev_timer_stop(loop, &timer);
    cr_assert(!late, "nothing came within %g s", limit);
}

#define STACKS 8u /* mappings that the C library keeps for further threads */

/* The kernel ends a thread and takes a mapping back a moment after the join. */
static void check_holdings(const struct holdings *before)
{
    double until = now() + 5;
    struct holdings h;

    do {
        h = holdings_of(0);
        if (h.fds == before->fds && h.threads == before->threads &&
            (h.maps <= before->maps + STACKS || sanitized()))
            return;
        nap(0.01);
    } while (now() < until);
    cr_assert_fail("descriptors %u, were %u; threads %u, were %u; mappings "
                   "%u, were %u",
                   h.fds, before->fds, h.threads, before->threads, h.maps,
                   before->maps);
}

static void one_run(struct ev_loop *loop, const char *append, int status)
{
    struct seen seen;

    make(&seen, loop, guest("hello"), append, 1);
    start(&seen);
    run_loop(loop, 20);
    CHECK_EQ(seen.ended, 1);
    CHECK_EQ(seen.status, status);
    cr_assert(pthread_equal(seen.thread, pthread_self()));
    husk_vm_destroy(seen.vm);
}

Test(library, nothing_is_left_of_a_run)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct holdings before;

    one_run(loop, "status=3", 3); /* what is made once is there now */
    before = holdings_of(0);
    for (unsigned i = 0; i < 50; i++)
        one_run(loop, "status=4", 4);
    check_holdings(&before);
    ev_loop_destroy(loop);
}

static void device_run(struct ev_loop *loop, bool no_window)
{
    struct husk_config config = {
        .size = sizeof config,
        .memory = 16 << 20,
        .kernel = guest("devices"),
        .append = "strict reset=3",
        .no_window = no_window,
        .ended = on_ended,
    };
    struct seen seen = { .loop = loop, .leave = true };
    struct husk_device info;
    struct husk_stats stats;

    config.ctx = &seen;
    cr_assert(husk_vm_create(&seen.vm, loop, &config, NULL) == 0);
    add(&seen, exec_spec("husk-rng"));
    add(&seen, fmt("%s --queues=3 --config-size=9", exec_spec("husk-loop")));
    start(&seen);
    run_loop(loop, 20);
    CHECK_EQ(seen.outcome, HUSK_PASS);
    CHECK_EQ(husk_vm_device(seen.vm, 1, &info), 0);
    CHECK_EQ(info.id, 63);
    CHECK_EQ(info.config_size, 9);
    CHECK_EQ(info.config[8], 8);
    CHECK_EQ(info.vqs, 3);
    CHECK_EQ(husk_vm_device(seen.vm, 2, &info), -ENOENT);
    husk_vm_stats(seen.vm, &stats);
    CHECK_EQ(stats.exits_mmio_read > 0, no_window);
    husk_vm_destroy(seen.vm);
}

Test(library, nothing_is_left_of_devices)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct holdings before;

    device_run(loop, false);
    before = holdings_of(0);
    for (unsigned i = 0; i < 10; i++)
        device_run(loop, i % 2);
    check_holdings(&before);
    ev_loop_destroy(loop);
}

/* Each with devices, output and an end of its own, on one loop. */
Test(library, two_at_once)
{
    struct ev_loop *loop = ev_loop_new(0);
    const char *append[] = { "strict count=40 reset=10",
                             "strict count=40 reset=10 packed" };
    struct seen seen[2];
    int out[2][2];

    for (unsigned i = 0; i < 2; i++) {
        make(&seen[i], loop, guest("devices"), append[i], 1);
        seen[i].leave = false;
        add(&seen[i], fmt("%s --config=%02x", exec_spec("husk-loop"), i));
        cr_assert(pipe2(out[i], O_CLOEXEC) == 0);
        cr_assert(husk_vm_set_console(seen[i].vm, out[i][1], NULL) == 0);
        close(out[i][1]);
    }
    for (unsigned i = 0; i < 2; i++)
        start(&seen[i]);
    for (double until = now() + 30; !seen[0].ended || !seen[1].ended;) {
        cr_assert(now() < until);
        ev_run(loop, EVRUN_ONCE);
    }
    for (unsigned i = 0; i < 2; i++) {
        char text[2048] = "";
        ssize_t n;

        CHECK_EQ(seen[i].outcome, HUSK_PASS);
        CHECK_STR(seen[i].text, "");
        husk_vm_destroy(seen[i].vm);
        n = read(out[i][0], text, sizeof text - 1);
        cr_assert(n > 0);
        cr_assert(strstr(text, fmt("virtio0 config: %02x\n", i)), "'%s'", text);
        CHECK_STR(text + n - 5, "pass\n");
        close(out[i][0]);
    }
    ev_loop_destroy(loop);
}

/* Returns its argument, or NULL if a run did not end as it should. */
static void *run_thread(void *arg)
{
    struct ev_loop *loop = ev_loop_new(0);

    for (unsigned i = 0; i < 20; i++) {
        struct husk_config config = { .size = sizeof config,
                                      .memory = 16 << 20,
                                      .kernel = arg,
                                      .append = "status=6",
                                      .ended = on_ended };
        struct seen seen = { .loop = loop, .leave = true };

        config.ctx = &seen;
        if (husk_vm_create(&seen.vm, loop, &config, NULL) < 0 ||
            husk_vm_start(seen.vm, NULL) < 0)
            return NULL;
        ev_run(loop, 0);
        husk_vm_destroy(seen.vm);
        if (seen.status != 6)
            return NULL;
    }
    ev_loop_destroy(loop);
    return arg;
}

/* Loops of their own on threads of their own. */
Test(library, two_threads)
{
    char kernel[256];
    pthread_t thread[2];
    void *result;

    snprintf(kernel, sizeof kernel, "%s", guest("hello"));
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, run_thread, kernel), 0);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(thread[i], &result);
        cr_assert(result == kernel, "thread %u", i);
    }
}

/* Another thread that stops a VM after a while of its choice. */
struct stopper {
    struct husk_vm *vm;
    unsigned microseconds;
};

static void *stop_thread(void *arg)
{
    struct stopper *stopper = arg;

    usleep(stopper->microseconds);
    husk_vm_stop(stopper->vm);
    return NULL;
}

static unsigned long random_number(unsigned long *state)
{
    *state = *state * 6364136223846793005ul + 1442695040888963407ul;
    return *state >> 33;
}

/* The stop may come before the start, in the middle, or after the end. */
static void stop_at_random(struct ev_loop *loop, const char *kernel,
                           const char *append, unsigned cpus,
                           const char *device, unsigned most,
                           unsigned long *state)
{
    struct stopper stopper;
    struct seen seen;
    pthread_t thread;
    double asked;

    make(&seen, loop, kernel, append, cpus);
    if (device)
        add(&seen, device);
    stopper.vm = seen.vm;
    stopper.microseconds = (unsigned)(random_number(state) % most);
    CHECK_EQ(pthread_create(&thread, NULL, stop_thread, &stopper), 0);
    asked = now();
    start(&seen);
    run_loop(loop, 20);
    cr_assert(seen.outcome == HUSK_STOPPED || seen.outcome == HUSK_PASS,
              "outcome %s: %s", husk_outcome_name(seen.outcome), seen.text);
    if (seen.outcome == HUSK_STOPPED)
        CHECK_EQ(seen.status, 130);
    cr_assert(now() - asked < 10, "%g s", now() - asked);
    pthread_join(thread, NULL);
    husk_vm_destroy(seen.vm);
    CHECK_EQ(seen.ended, 1);
}

/* As many as there is time for: the kernel needs 20 ms for a VM on some. */
Test(library, stop_races)
{
    struct ev_loop *loop = ev_loop_new(0);
    char kernel[256];
    unsigned long state = 1;
    unsigned n = 0;
    struct holdings before;

    snprintf(kernel, sizeof kernel, "%s", guest("hello"));
    stop_at_random(loop, kernel, "", 1, NULL, 1, &state);
    before = holdings_of(0);
    for (double until = now() + 12; now() < until && n < 20000; n++)
        stop_at_random(loop, kernel, "", 1 + n % 3, NULL, n % 2 ? 12000 : 1500,
                       &state);
    check_holdings(&before);
    cr_log_info("%u starts and stops", n);
    cr_assert(n > 50, "only %u", n);
    ev_loop_destroy(loop);
}

Test(library, stop_races_with_a_device)
{
    struct ev_loop *loop = ev_loop_new(0);
    char kernel[256], device[256];
    unsigned long state = 2;
    struct holdings before;
    unsigned n = 0;

    snprintf(kernel, sizeof kernel, "%s", guest("devices"));
    snprintf(device, sizeof device, "%s", exec_spec("husk-rng"));
    stop_at_random(loop, kernel, "strict", 1, device, 1, &state);
    before = holdings_of(0);
    for (double until = now() + 8; now() < until && n < 10000; n++)
        stop_at_random(loop, kernel, "strict count=20 reset=5", 1, device,
                       30000, &state);
    check_holdings(&before);
    cr_log_info("%u starts and stops", n);
    cr_assert(n > 20, "only %u", n);
    ev_loop_destroy(loop);
}

/* Registers of a device, of none, ports, and sleep: no vCPU holds a stop up. */
Test(library, stop_while_all_vcpus_storm)
{
    static const char *const storms[] = { "cpus=4", "cpus=4 port", "cpus=4 hlt",
                                          "cpus=4 at=0xd0100000" };
    struct ev_loop *loop = ev_loop_new(0);
    unsigned long state = 3;

    for (unsigned n = 0; n < 40; n++) {
        struct seen seen;
        struct stopper stopper;
        pthread_t thread;
        struct husk_stats stats;
        double before;

        make(&seen, loop, guest("storm"), storms[n % 4], 4);
        add(&seen, exec_spec("husk-rng"));
        start(&seen);
        stopper.vm = seen.vm;
        stopper.microseconds =
            60000 + (unsigned)(random_number(&state) % 20000);
        CHECK_EQ(pthread_create(&thread, NULL, stop_thread, &stopper), 0);
        before = now();
        run_loop(loop, 20);
        pthread_join(thread, NULL);
        cr_assert(now() - before < 3, "%g s", now() - before);
        CHECK_EQ(seen.outcome, HUSK_STOPPED);
        husk_vm_stats(seen.vm, &stats);
        cr_assert(n % 4 == 2 || stats.exits_mmio_write + stats.exits_io > 100);
        husk_vm_destroy(seen.vm);
    }
    ev_loop_destroy(loop);
}

/* Each state in turn, with a back-end and without. */
Test(library, destroy_in_every_state)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct backend mute;
    struct holdings before;
    struct seen seen;
    double began;

    husk_vm_destroy(NULL);
    one_run(loop, "", 0);
    /* a back-end that never says what it is */
    peer_start(&mute, "--hang-at=GET_FEATURES");
    before = holdings_of(0);
    for (unsigned turn = 0; turn < 3; turn++) {
        make(&seen, loop, guest("hello"), "", 1); /* new */
        husk_vm_destroy(seen.vm);

        make(&seen, loop, guest("hello"), "", 1); /* new, with a device */
        add(&seen, exec_spec("husk-rng"));
        husk_vm_destroy(seen.vm);

        make(&seen, loop, NULL, "", 1); /* probing */
        add(&seen, fmt("socket=%s,deadline=30", mute.socket));
        CHECK_EQ(husk_vm_probe(seen.vm, NULL), 0);
        began = now();
        ev_run(loop, EVRUN_NOWAIT);
        husk_vm_destroy(seen.vm);
        cr_assert(now() - began < 3, "%g s", now() - began);

        make(&seen, loop, guest("hello"), "", 1); /* starting */
        add(&seen, fmt("socket=%s,deadline=30", mute.socket));
        start(&seen);
        husk_vm_destroy(seen.vm);

        make(&seen, loop, NULL, "", 1); /* probed */
        add(&seen, exec_spec("husk-rng"));
        CHECK_EQ(husk_vm_probe(seen.vm, NULL), 0);
        CHECK_EQ(seen.probed, 0); /* on the loop, never before */
        run_loop(loop, 10);
        CHECK_EQ(seen.probed, 1);
        CHECK_EQ(seen.ended, 0);
        husk_vm_destroy(seen.vm);

        make(&seen, loop, guest("storm"), "cpus=3", 3); /* running */
        add(&seen, exec_spec("husk-loop"));
        start(&seen);
        for (double until = now() + 0.1; now() < until;)
            ev_run(loop, EVRUN_NOWAIT);
        husk_vm_destroy(seen.vm);
        CHECK_EQ(seen.ended, 0);

        make(&seen, loop, guest("hello"), "", 1); /* stopped, not yet told */
        start(&seen);
        husk_vm_stop(seen.vm);
        husk_vm_destroy(seen.vm);
        CHECK_EQ(seen.ended, 0);

        make(&seen, loop, "/no/kernel", "", 1); /* failed to start */
        add(&seen, exec_spec("husk-rng"));
        CHECK_EQ(husk_vm_start(seen.vm, NULL), -ENOENT);
        husk_vm_destroy(seen.vm);

        make(&seen, loop, guest("hello"), "", 1); /* failed half way */
        add(&seen, "exec=/no/such/program");
        start(&seen);
        run_loop(loop, 10);
        CHECK_EQ(seen.outcome, HUSK_ERROR);
        CHECK_EQ(seen.status, 125);
        husk_vm_destroy(seen.vm);
    }
    /* what the loop still has queued is harmless */
    ev_run(loop, EVRUN_NOWAIT);
    check_holdings(&before);
    backend_stop(&mute);
    run_free(&mute.run);
    ev_loop_destroy(loop);
}

/* A device that is lost in the middle of the probe, beside one that is not. */
Test(library, loop_is_left_as_it_was)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct seen seen;

    for (unsigned i = 0; i < 3; i++) {
        make(&seen, loop, guest("hello"), i ? "spin" : "", 1);
        add(&seen, exec_spec("husk-rng"));
        start(&seen);
        if (i)
            husk_vm_stop(seen.vm);
        run_loop(loop, 10);
        husk_vm_destroy(seen.vm);
        /* nothing is watched any more: the loop has nothing to wait for */
        cr_assert(!ev_run(loop, EVRUN_NOWAIT), "a watcher is left");
        CHECK_EQ(ev_pending_count(loop), 0);
    }
    ev_loop_destroy(loop);
}

static int create(const struct husk_config *config, struct husk_err *err)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_vm *vm = (struct husk_vm *)(void *)loop;
    int rc = husk_vm_create(&vm, loop, config, err);

    if (rc < 0)
        cr_assert_null(vm);
    husk_vm_destroy(vm);
    ev_loop_destroy(loop);
    return rc;
}

#define CREATE(err, ...)                                                       \
    create(&(struct husk_config){ .size = sizeof(struct husk_config),          \
                                  __VA_ARGS__ },                               \
           err)

static void check_err(const struct husk_err *err, int code, const char *word)
{
    CHECK_EQ(err->code, code);
    cr_assert(strstr(err->text, word), "no '%s' in '%s'", word, err->text);
    cr_assert_null(strchr(err->text, '\n'));
}

Test(library, errors_of_create)
{
    static char longer[5000];
    struct husk_config small = { .size = 8 };
    struct husk_err err;

    memset(longer, 'x', sizeof longer - 1);
    CHECK_EQ(create(&small, &err), -EINVAL);
    check_err(&err, -EINVAL, "8 bytes");
    CHECK_EQ(CREATE(&err, .memory = 4096), -EINVAL);
    check_err(&err, -EINVAL, "4096 bytes");
    CHECK_EQ(CREATE(&err, .memory = (16 << 20) + 1), -EINVAL);
    check_err(&err, -EINVAL, "whole pages");
    CHECK_EQ(CREATE(&err, .memory = UINT64_C(1) << 50), -EINVAL);
    check_err(&err, -EINVAL, "memory");
    CHECK_EQ(CREATE(&err, .cpus = 65), -EINVAL);
    check_err(&err, -EINVAL, "65 vCPUs");
    CHECK_EQ(CREATE(&err, .append = longer), -EINVAL);
    check_err(&err, -EINVAL, "4999");
    CHECK_EQ(CREATE(&err, .timeout = -1), -EINVAL);
    check_err(&err, -EINVAL, "-1");
    CHECK_EQ(CREATE(NULL, .cpus = 65), -EINVAL);
    CHECK_EQ(CREATE(NULL, .cpus = 64), 0);
}

Test(library, errors_of_the_other_calls)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_device info;
    struct husk_err err;
    struct seen seen;
    size_t size;
    void *blob;

    make(&seen, loop, NULL, "", 1);
    CHECK_EQ(husk_vm_start(seen.vm, &err), -ENOENT);
    check_err(&err, -ENOENT, "kernel");
    husk_vm_destroy(seen.vm);

    make(&seen, loop, guest("hello"), "spin", 1);
    CHECK_EQ(husk_vm_add_device(seen.vm, "socket=", &err), -EINVAL);
    check_err(&err, -EINVAL, "device 0");
    CHECK_EQ(husk_vm_device_tree(seen.vm, &blob, &size, &err), -EAGAIN);
    check_err(&err, -EAGAIN, "not known");
    CHECK_EQ(husk_vm_device(seen.vm, 0, &info), -ENOENT);
    cr_assert(husk_vm_set_console(seen.vm, 9999, &err) < 0);
    check_err(&err, -EBADF, "console");
    CHECK_EQ(husk_vm_console_input(seen.vm, "x", 1), 0);
    for (unsigned i = 0; i < 32; i++)
        CHECK_EQ(husk_vm_add_device(seen.vm, exec_spec("husk-rng"), &err), 0);
    CHECK_EQ(husk_vm_add_device(seen.vm, "/x", &err), -ENOSPC);
    check_err(&err, -ENOSPC, "32");
    CHECK_EQ(husk_vm_device(seen.vm, 31, &info), 0);
    CHECK_STR(info.name, "virtio31");
    cr_assert(!info.known);
    CHECK_EQ(husk_vm_device(seen.vm, 32, &info), -ENOENT);
    husk_vm_destroy(seen.vm);

    make(&seen, loop, guest("hello"), "spin", 1);
    start(&seen);
    CHECK_EQ(husk_vm_start(seen.vm, &err), -EBUSY);
    CHECK_EQ(husk_vm_probe(seen.vm, &err), -EBUSY);
    CHECK_EQ(husk_vm_add_device(seen.vm, "/x", &err), -EBUSY);
    check_err(&err, -EBUSY, "before the start");
    CHECK_EQ(husk_vm_start(seen.vm, NULL), -EBUSY);
    husk_vm_stop(seen.vm);
    husk_vm_stop(seen.vm);
    run_loop(loop, 10);
    CHECK_EQ(seen.ended, 1);
    CHECK_EQ(husk_vm_start(seen.vm, NULL), -EBUSY);
    CHECK_EQ(husk_vm_console_input(seen.vm, "x", 1), 0);
    CHECK_EQ(husk_vm_device_tree(seen.vm, &blob, &size, &err), 0);
    cr_assert(size > 100);
    free(blob);
    husk_vm_destroy(seen.vm);
    ev_loop_destroy(loop);
}

/* The program's descriptors stay its own, in number and in flags. */
Test(library, console_is_borrowed)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct seen seen;
    int out[2], flags;
    char text[64] = "";

    cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) == 0);
    flags = fcntl(out[1], F_GETFL);
    make(&seen, loop, guest("hello"), "", 1);
    cr_assert(husk_vm_set_console(seen.vm, out[1], NULL) == 0);
    start(&seen);
    run_loop(loop, 10);
    husk_vm_destroy(seen.vm);
    CHECK_EQ(fcntl(out[1], F_GETFL), flags);
    CHECK_EQ(read(out[0], text, sizeof text - 1), 18);
    CHECK_STR(text, "hello from x86_64\n");
    close(out[0]);
    close(out[1]);
    ev_loop_destroy(loop);
}

/* No handler, mask, limit or working directory is changed. */
Test(library, manners)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct sigaction before[NSIG], after;
    sigset_t mask, then;

    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &before[i]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    device_run(loop, false);
    for (int i = 1; i < NSIG; i++) {
        if (sigaction(i, NULL, &after) == 0)
            cr_assert(after.sa_handler == before[i].sa_handler, "signal %d", i);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &then);
    cr_assert(memcmp(&mask, &then, sizeof mask) == 0);
    ev_loop_destroy(loop);
}
