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
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/guest/embed.h"

TestSuite(library, .init = harness_init_kvm, .fini = embed_fini,
          .timeout = HANGS);

static void one_run(struct ev_loop *loop, const char *append, int status)
{
    struct seen seen;

    embed_make(&seen, loop, guest("hello"), append, 1);
    embed_start(&seen);
    embed_run(loop);
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
    embed_check_holdings(&before);
    ev_loop_destroy(loop);
}

Test(library, nothing_is_left_of_devices)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct holdings before;

    embed_device_run(loop, false);
    before = holdings_of(0);
    for (unsigned i = 0; i < 10; i++)
        embed_device_run(loop, i % 2);
    embed_check_holdings(&before);
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
        embed_make(&seen[i], loop, guest("devices"), append[i], 1);
        seen[i].leave = false;
        embed_add(&seen[i], fmt("%s --config=%02x", exec_spec("husk-loop"), i));
        cr_assert(pipe2(out[i], O_CLOEXEC) == 0);
        cr_assert(husk_vm_set_console(seen[i].vm, out[i][1], NULL) == 0);
        close(out[i][1]);
    }
    for (unsigned i = 0; i < 2; i++)
        embed_start(&seen[i]);
    for (double until = now() + LIMIT; !seen[0].ended || !seen[1].ended;) {
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
                                      .ended = embed_ended };
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
    int after; /* a console that says something first, or 0 */
    double asked;
};

static void *stop_thread(void *arg)
{
    struct stopper *stopper = arg;
    char line[64];

    if (stopper->after && read(stopper->after, line, sizeof line) <= 0)
        return NULL;
    usleep(stopper->microseconds);
    stopper->asked = now();
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
    struct stopper stopper = { 0 };
    struct seen seen;
    pthread_t thread;
    double asked;

    embed_make(&seen, loop, kernel, append, cpus);
    if (device)
        embed_add(&seen, device);
    stopper.vm = seen.vm;
    stopper.microseconds = (unsigned)(random_number(state) % most);
    CHECK_EQ(pthread_create(&thread, NULL, stop_thread, &stopper), 0);
    asked = now();
    embed_start(&seen);
    embed_run(loop);
    cr_assert(seen.outcome == HUSK_STOPPED || seen.outcome == HUSK_PASS,
              "outcome %s: %s", husk_outcome_name(seen.outcome), seen.text);
    if (seen.outcome == HUSK_STOPPED)
        CHECK_EQ(seen.status, 130);
    cr_assert(now() - asked < SOON, "%g s", now() - asked);
    pthread_join(thread, NULL);
    husk_vm_destroy(seen.vm);
    CHECK_EQ(seen.ended, 1);
}

/* The long form takes as many as there is time for. */
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
    for (double until = now() + (long_form() ? 12 : 0);
         n < 60 || (now() < until && n < 20000); n++)
        stop_at_random(loop, kernel, "", 1 + n % 3, NULL, n % 2 ? 12000 : 1500,
                       &state);
    embed_check_holdings(&before);
    cr_log_info("%u starts and stops", n);
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
    for (double until = now() + (long_form() ? 8 : 0);
         n < 30 || (now() < until && n < 10000); n++)
        stop_at_random(loop, kernel, "strict count=20 reset=5", 1, device,
                       30000, &state);
    embed_check_holdings(&before);
    cr_log_info("%u starts and stops", n);
    ev_loop_destroy(loop);
}

/* Registers of a device, of none, ports, and sleep: no vCPU holds a stop up. */
Test(library, stop_while_all_vcpus_storm)
{
    static const char *const storms[] = { "cpus=4", "cpus=4 port", "cpus=4 hlt",
                                          "cpus=4 at=0xd0100000" };
    struct ev_loop *loop = ev_loop_new(0);
    unsigned long state = 3;

    for (unsigned n = 0; n < (long_form() ? 40 : 16); n++) {
        struct seen seen;
        struct stopper stopper = { 0 };
        pthread_t thread;
        struct husk_stats stats = { .size = sizeof stats };
        int out[2];

        cr_assert(pipe2(out, O_CLOEXEC) == 0);
        embed_make(&seen, loop, guest("storm"), storms[n % 4], 4);
        embed_add(&seen, exec_spec("husk-rng"));
        CHECK_EQ(husk_vm_set_console(seen.vm, out[1], NULL), 0);
        embed_start(&seen);
        stopper.vm = seen.vm;
        stopper.after = out[0];
        stopper.microseconds =
            100000 + (unsigned)(random_number(&state) % 100000);
        CHECK_EQ(pthread_create(&thread, NULL, stop_thread, &stopper), 0);
        embed_run(loop);
        pthread_join(thread, NULL);
        cr_assert(now() - stopper.asked < SOON, "%g s", now() - stopper.asked);
        CHECK_EQ(seen.outcome, HUSK_STOPPED);
        husk_vm_stats(seen.vm, &stats);
        cr_assert(n % 4 == 2 || stats.exits_mmio_write + stats.exits_io > 8);
        husk_vm_destroy(seen.vm);
        close(out[0]);
        close(out[1]);
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
        embed_make(&seen, loop, guest("hello"), "", 1); /* new */
        husk_vm_destroy(seen.vm);

        embed_make(&seen, loop, guest("hello"), "", 1); /* new, with a device */
        embed_add(&seen, exec_spec("husk-rng"));
        husk_vm_destroy(seen.vm);

        embed_make(&seen, loop, NULL, "", 1); /* probing */
        embed_add(&seen, fmt("socket=%s,deadline=300", mute.socket));
        CHECK_EQ(husk_vm_probe(seen.vm, NULL), 0);
        began = now();
        ev_run(loop, EVRUN_NOWAIT);
        husk_vm_destroy(seen.vm);
        cr_assert(now() - began < SOON, "%g s", now() - began);

        embed_make(&seen, loop, guest("hello"), "", 1); /* starting */
        embed_add(&seen, fmt("socket=%s,deadline=300", mute.socket));
        embed_start(&seen);
        husk_vm_destroy(seen.vm);

        embed_make(&seen, loop, NULL, "", 1); /* probed */
        embed_add(&seen, exec_spec("husk-rng"));
        CHECK_EQ(husk_vm_probe(seen.vm, NULL), 0);
        CHECK_EQ(seen.probed, 0); /* on the loop, never before */
        embed_run(loop);
        CHECK_EQ(seen.probed, 1);
        CHECK_EQ(seen.ended, 0);
        husk_vm_destroy(seen.vm);

        embed_make(&seen, loop, guest("storm"), "cpus=3", 3); /* running */
        embed_add(&seen, exec_spec("husk-loop"));
        embed_start(&seen);
        for (double until = now() + 0.1; now() < until;)
            ev_run(loop, EVRUN_NOWAIT);
        husk_vm_destroy(seen.vm);
        CHECK_EQ(seen.ended, 0);

        embed_make(&seen, loop, guest("hello"), "",
                   1); /* stopped, not yet told */
        embed_start(&seen);
        husk_vm_stop(seen.vm);
        husk_vm_destroy(seen.vm);
        CHECK_EQ(seen.ended, 0);

        embed_make(&seen, loop, "/no/kernel", "", 1); /* failed to start */
        embed_add(&seen, exec_spec("husk-rng"));
        CHECK_EQ(husk_vm_start(seen.vm, NULL), -ENOENT);
        husk_vm_destroy(seen.vm);

        embed_make(&seen, loop, guest("hello"), "", 1); /* failed half way */
        embed_add(&seen, "exec=/no/such/program");
        embed_start(&seen);
        embed_run(loop);
        CHECK_EQ(seen.outcome, HUSK_ERROR);
        CHECK_EQ(seen.status, 125);
        husk_vm_destroy(seen.vm);
    }
    /* what the loop still has queued is harmless */
    ev_run(loop, EVRUN_NOWAIT);
    embed_check_holdings(&before);
    backend_stop(&mute);
    run_free(&mute.run);
    ev_loop_destroy(loop);
}

/* The soft limit of descriptors; the number that the next one would have. */
static unsigned next_descriptor(void)
{
    int fd = dup(0);

    cr_assert(fd >= 0);
    close(fd);
    return (unsigned)fd;
}

static void limit_descriptors(rlim_t n)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = n;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/*
 * No descriptor is left for the last of four vCPUs: the start fails. The
 * back-end answers after that, and must not boot what there is of a machine.
 */
Test(library, failed_start_stays_failed)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct rlimit before;
    struct husk_err err;
    struct backend loop_end;
    bool reached = false;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned more = 4; more < 40 && !reached; more++) {
        struct seen seen;
        int rc;

        backend_start(&loop_end, "husk-loop", "--queues=1");
        embed_make(&seen, loop, guest("hello"), "", 4);
        embed_add(&seen, fmt("socket=%s", loop_end.socket));
        limit_descriptors(next_descriptor() + more);
        rc = husk_vm_start(seen.vm, &err);
        limit_descriptors(before.rlim_cur);
        cr_assert(rc < 0, "%u descriptors are enough", more);
        reached = strstr(err.text, "KVM_CREATE_VCPU 3") != NULL;
        for (double until = now() + 0.5; reached && now() < until;)
            ev_run(loop, EVRUN_NOWAIT);
        CHECK_EQ(seen.ended, 0);
        CHECK_EQ(seen.probed, 0);
        husk_vm_destroy(seen.vm);
        backend_stop(&loop_end);
        run_free(&loop_end.run);
    }
    cr_assert(reached, "the last error was: %s", err.text);
    ev_loop_destroy(loop);
}

/* A device that is lost in the middle of the probe, beside one that is not. */
Test(library, loop_is_left_as_it_was)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct seen seen;

    for (unsigned i = 0; i < 3; i++) {
        embed_make(&seen, loop, guest("hello"), i ? "spin" : "", 1);
        embed_add(&seen, exec_spec("husk-rng"));
        embed_start(&seen);
        if (i)
            husk_vm_stop(seen.vm);
        embed_run(loop);
        husk_vm_destroy(seen.vm);
        /* nothing is watched any more: the loop has nothing to wait for */
        cr_assert(!ev_run(loop, EVRUN_NOWAIT), "a watcher is left");
        CHECK_EQ(ev_pending_count(loop), 0);
    }
    ev_loop_destroy(loop);
}

/* Descriptors that come with an answer are nobody's: closed, and the back-end
 * given up. As many as fit, on each kind of answer. */
Test(library, descriptors_that_were_not_asked_for)
{
    static const char *const on[] = {
        "GET_FEATURES:1",    "GET_FEATURES:8",      "GET_FEATURES:253",
        "GET_QUEUE_NUM:253", "GET_BACKEND_SPECS:2", "GET_CONFIG:1",
        "GET_STATUS:253",    "SET_VRING_NUM:9"
    };
    struct ev_loop *loop = ev_loop_new(0);
    struct holdings before;

    embed_device_run(loop, false);
    before = holdings_of(0);
    for (size_t i = 0; i < sizeof on / sizeof on[0]; i++) {
        bool early = i < 6;
        struct seen seen;

        embed_make(&seen, loop, guest("devices"), "", 1);
        embed_add(&seen, fmt("%s --config-size=4 --attach-fds=%s",
                             exec_spec("husk-peer"), on[i]));
        embed_start(&seen);
        embed_run(loop);
        CHECK_EQ(seen.outcome, early ? HUSK_ERROR : HUSK_PASS);
        husk_vm_destroy(seen.vm);
    }
    embed_check_holdings(&before);
    ev_loop_destroy(loop);
}
