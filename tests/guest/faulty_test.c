/*
 * Back-ends that die, hang, stammer or answer wrongly, at every request. Before
 * the guest runs that is one line and status 125; after that it costs the guest
 * this one device. Never a crash, and never more time than the deadline.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define DEADLINE  "4"
#define AT_ONCE   10u /* trials: most of their time is waiting */
#define ALL_RINGS "--features=10570000000"

TestSuite(faulty, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* One guest with a faulty device and, behind it, a good one. */
struct trial {
    const char *fault;
    struct backend peer;
    struct run run;
};

static void begin(struct trial *t, const char *fault, const char *more)
{
    memset(t, 0, sizeof *t);
    t->fault = fault;
    peer_start(&t->peer, ALL_RINGS, "--config-size=8", "--lenient", fault,
               more);
    start_husk(&t->run, "-d",
               fmt("socket=%s,deadline=" DEADLINE, t->peer.socket), "-d",
               exec_spec("husk-loop"), "-a", "reset=1 ring-reset",
               guest("devices"));
}

static void finish(struct trial *t)
{
    run_free(&t->run);
    backend_stop(&t->peer);
    run_free(&t->peer.run);
}

static void check_before(struct trial *t)
{
    run_end(&t->run);
    cr_assert(t->run.status == 125, "%s: status %d; '%s'; '%s'", t->fault,
              t->run.status, t->run.err, t->run.out);
    check_end(&t->run, 125, "error");
    CHECK_STR(t->run.out, "");
    check_line(&t->run, "husk: virtio0: ");
    cr_assert(t->run.seconds < SOON, "%s: %g s", t->fault, t->run.seconds);
    finish(t);
}

static void check_after(struct trial *t)
{
    run_end(&t->run);
    cr_assert(t->run.status == 0, "%s: status %d; '%s'; '%s'", t->fault,
              t->run.status, t->run.err, t->run.out);
    check_end(&t->run, 0, "pass");
    cr_assert(t->run.err[0], "%s: nothing was said", t->fault);
    check_line(&t->run, "husk: virtio0: ");
    cr_assert(strstr(t->run.out, "virtio1 queue 0: 64 bytes a5a5"), "%s: '%s'",
              t->fault, t->run.out);
    check_out(&t->run, "virtio1: 1 resets\npass\n");
    /* the guest itself waits a second for an answer, in each life */
    cr_assert(t->run.seconds < SOON, "%s: %g s", t->fault, t->run.seconds);
    finish(t);
}

/* Every fault that format makes of a request and of a value. */
static void all_of(const char *const *requests, const char *const *formats,
                   const char *more, void (*check)(struct trial *t))
{
    static struct trial trials[AT_ONCE];
    unsigned n = 0;

    for (; *requests; requests++) {
        for (const char *const *f = formats; *f; f++) {
            char fault[64];

            snprintf(fault, sizeof fault, "%.*s%s%s",
                     (int)(strchr(*f, '@') - *f), *f, *requests,
                     strchr(*f, '@') + 1);
            begin(&trials[n++], fmt("%s", fault), more);
            while (n == AT_ONCE)
                for (; n > 0; n--)
                    check(&trials[n - 1]);
        }
    }
    for (; n > 0; n--)
        check(&trials[n - 1]);
}

/* Answered before the guest's first instruction, in either dialect. */
static const char *const early[] = { "GET_FEATURES",  "GET_PROTOCOL_FEATURES",
                                     "GET_QUEUE_NUM", "GET_MAX_MEM_SLOTS",
                                     "GET_CONFIG",    NULL };
static const char *const early_more[] = { "GET_CONFIG_SIZE", "GET_MIN_VQ",
                                          NULL };
/* Not answered at all. */
static const char *const early_mute[] = { "SET_OWNER", "SET_PROTOCOL_FEATURES",
                                          "SET_BACKEND_REQ_FD", NULL };
/* Answered while the guest runs. */
static const char *const late[] = {
    "GET_STATUS",       "ADD_MEM_REG",    "SET_VRING_NUM",  "SET_VRING_ADDR",
    "SET_VRING_BASE",   "SET_VRING_ERR",  "SET_VRING_CALL", "SET_VRING_KICK",
    "SET_VRING_ENABLE", "GET_VRING_BASE", "RESET_DEVICE",   NULL
};
static const char *const late_mute[] = { "SET_STATUS", "SET_FEATURES", NULL };

static const char *const ends[] = { "--die-at=@", "--hang-at=@", NULL };
static const char *const cuts[] = { "--cut=@:0",  "--cut=@:1",  "--cut=@:11",
                                    "--cut=@:12", "--cut=@:15", NULL };
static const char *const headers[] = {
    "--mutate=@:request=77", "--mutate=@:flags=1",    "--mutate=@:flags=6",
    "--mutate=@:flags=4",    "--mutate=@:size=0",     "--mutate=@:size=3",
    "--mutate=@:size=4097",  "--mutate=@:size=65536", NULL
};
static const char *const descriptors[] = { "--attach-fds=@:1",
                                           "--attach-fds=@:8",
                                           "--attach-fds=@:253", NULL };

Test(faulty, early_ends)
{
    all_of(early, ends, NULL, check_before);
    all_of(early_mute, ends, NULL, check_before);
    all_of(early_more, ends, "--dialect=messages", check_before);
}

Test(faulty, early_cuts)
{
    all_of(early, cuts, NULL, check_before);
    all_of(early_more, cuts, "--dialect=messages", check_before);
}

Test(faulty, early_headers)
{
    all_of(early, headers, NULL, check_before);
    all_of(early_more, headers, "--dialect=messages", check_before);
}

Test(faulty, early_descriptors)
{
    all_of(early, descriptors, NULL, check_before);
    all_of(early_more, descriptors, "--dialect=messages", check_before);
}

/* Numbers that are wrong, or that become wrong when they are narrowed. */
Test(faulty, early_numbers)
{
    static const char *const counts[] = {
        "--mutate=@:q0=0",           "--mutate=@:q0=257",
        "--mutate=@:q0=65537",       "--mutate=@:q0=0xffffffff",
        "--mutate=@:q0=0x100000001", NULL
    };
    static const char *const slots[] = { "--mutate=@:q0=0", NULL };
    static const char *const specs[] = { "--mutate=@:w0=0",
                                         "--mutate=@:w4=4097",
                                         "--mutate=@:w4=65536",
                                         "--mutate=@:w4=0xffffffff",
                                         "--mutate=@:w8=2",
                                         "--mutate=@:w8=0xffffffff",
                                         "--mutate=@:w12=0",
                                         "--mutate=@:w12=257",
                                         "--mutate=@:w12=65537",
                                         "--mutate=@:w12=0xffffffff",
                                         NULL };
    static const char *const config[] = {
        "--mutate=@:w0=4",    "--mutate=@:w4=4",     "--mutate=@:w4=0",
        "--mutate=@:w4=9",    "--mutate=@:size=12",  "--mutate=@:size=19",
        "--mutate=@:size=21", "--mutate=@:size=268", NULL
    };
    static const char *const sizes[] = { "--mutate=@:w0=4097",
                                         "--mutate=@:w0=0xffffffff", NULL };
    static const char *const least[] = { "--mutate=@:w0=2",
                                         "--mutate=@:w0=0x10001", NULL };

    all_of((const char *const[]){ "GET_QUEUE_NUM", NULL }, counts, NULL,
           check_before);
    all_of((const char *const[]){ "GET_MAX_MEM_SLOTS", NULL }, slots, NULL,
           check_before);
    all_of((const char *const[]){ "GET_BACKEND_SPECS", NULL }, specs, NULL,
           check_before);
    all_of((const char *const[]){ "GET_CONFIG", NULL }, config, NULL,
           check_before);
    all_of((const char *const[]){ "GET_CONFIG_SIZE", NULL }, sizes,
           "--dialect=messages", check_before);
    all_of((const char *const[]){ "GET_MIN_VQ", NULL }, least,
           "--dialect=messages", check_before);
}

Test(faulty, late_ends)
{
    all_of(late, ends, NULL, check_after);
    all_of(late_mute, (const char *const[]){ "--die-at=@", NULL }, NULL,
           check_after);
}

Test(faulty, late_cuts)
{
    all_of(late, (const char *const[]){ "--cut=@:0", "--cut=@:13", NULL }, NULL,
           check_after);
}

Test(faulty, late_headers)
{
    all_of(late,
           (const char *const[]){ "--mutate=@:request=1", "--mutate=@:flags=1",
                                  "--mutate=@:size=0", "--mutate=@:size=5000",
                                  NULL },
           NULL, check_after);
}

Test(faulty, late_descriptors_and_refusals)
{
    static const char *const refusable[] = {
        "ADD_MEM_REG",      "SET_VRING_NUM",
        "SET_VRING_ADDR",   "SET_VRING_BASE",
        "SET_VRING_CALL",   "SET_VRING_KICK",
        "SET_VRING_ENABLE", NULL
    };

    all_of(late, (const char *const[]){ "--attach-fds=@:8", NULL }, NULL,
           check_after);
    all_of(refusable, (const char *const[]){ "--mutate=@:q0=1", NULL }, NULL,
           check_after);
}

/* Without CONFIGURE_MEM_SLOTS it is the whole table, in one message. */
Test(faulty, memory_table)
{
    static const char *const table[] = { "SET_MEM_TABLE", NULL };

    all_of(table, ends, "--protocol=12229", check_after);
    all_of(table, (const char *const[]){ "--mutate=@:q0=1", NULL },
           "--protocol=12229", check_after);
}

/* FEATURES_OK and ring sizes that it will not have. */
Test(faulty, refusals)
{
    struct trial t;

    begin(&t, "--refuse-features", NULL);
    run_end(&t.run);
    check_quiet_end(&t.run, 0, "pass");
    check_out(&t.run, "virtio0: FEATURES_OK refused\n");
    check_out(&t.run, "virtio1 queue 0: 64 bytes a5a5");
    finish(&t);

    begin(&t, "--refuse-num=4", NULL);
    run_end(&t.run);
    check_end(&t.run, 0, "pass");
    check_line(&t.run, "virtio0", "8 entries", "queue-size=");
    check_out(&t.run, "virtio1 queue 0: 64 bytes a5a5");
    finish(&t);
}

/* A byte at a time: the first answer is too slow for one deadline, and all are
 * quick enough for another. */
Test(faulty, drip)
{
    for (unsigned patient = 0; patient < 2; patient++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--drip=2", "--config-size=8");
        run_husk(
            &run, "-d",
            fmt("socket=%s,deadline=%s", peer.socket, patient ? "10" : "0.01"),
            "-a", "strict reset=2", guest("devices"));
        if (patient) {
            check_quiet_end(&run, 0, "pass");
        } else {
            check_end(&run, 125, "error");
            check_line(&run, "virtio0", "within 0.01 s");
        }
        run_free(&run);
        backend_stop(&peer);
        run_free(&peer.run);
    }
}

/* Config space, at run time: the device is lost to a guest that waits for it.
 */
Test(faulty, config_writes)
{
    static const char *const faults[] = { "--die-at=SET_CONFIG",
                                          "--hang-at=SET_CONFIG",
                                          "--cut=GET_CONFIG#2:4",
                                          "--mutate=GET_CONFIG#2:w4=9" };

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--config-size=8", faults[i]);
        run_husk(&run, "-d", fmt("socket=%s,deadline=" DEADLINE, peer.socket),
                 "-a", "write=0:77 changes=1 patience=5", guest("config"));
        check_end(&run, 1, "fail");
        check_line(&run, "husk: virtio0: ");
        cr_assert(run.seconds < SOON, "%s: %g s", faults[i], run.seconds);
        run_free(&run);
        backend_stop(&peer);
        run_free(&peer.run);
    }
}

/* Its ring's error descriptor: the guest is told, and the connection stays. */
Test(faulty, ring_errors)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--vring-err-after=3");
    run_husk(&run, "-d", peer.socket, "-a", "count=9", guest("devices"));
    check_end(&run, 0, "pass");
    check_line(&run, "virtio0", "signals an error on a ring");
    check_out(&run, "virtio0 queue 0: no answer\nvirtio0: needs reset\n");
    run_free(&run);
    backend_stop(&peer);
    run_free(&peer.run);
}

/* Gone while the guest is busy with it, at any moment, and not noticed by the
 * other device. */
Test(faulty, killed_at_any_moment)
{
    static struct trial trials[AT_ONCE];

    for (unsigned i = 0; i < 3 * AT_ONCE; i++) {
        struct trial *t = &trials[i % AT_ONCE];

        memset(t, 0, sizeof *t);
        t->fault = "SIGKILL";
        peer_start(&t->peer, ALL_RINGS, "--max-vqs=2");
        start_husk(&t->run, "-d", t->peer.socket, "-d", exec_spec("husk-loop"),
                   "-a", "reset=100 packed event-idx", guest("devices"));
        cr_assert(run_until(&t->run, "virtio0: id 4"), "'%s'", t->run.err);
        nap(0.003 * i);
        kill(t->peer.run.pid, SIGKILL);
        for (unsigned k = 0; i % AT_ONCE == AT_ONCE - 1 && k < AT_ONCE; k++) {
            t = &trials[k];
            run_end(&t->run);
            check_end(&t->run, 0, "pass");
            check_line(&t->run, "virtio0", "hung up");
            check_out(&t->run, "virtio1 queue 0: 64 bytes a5a5");
            check_out(&t->run, "virtio1: 100 resets\npass\n");
            finish(t);
        }
    }
}

/* 114 where the guest has no verdict of its own: time ran out, or a crash. */
Test(faulty, lost_and_no_verdict)
{
    struct backend rng;
    struct run run = { 0 };

    backend_start(&rng, "husk-rng", NULL);
    start_husk(&run, "-d", rng.socket, "-c", "2", "-a", "cpus=2", "--timeout",
               "1", guest("storm"));
    cr_assert(run_until(&run, "storm: "), "stderr '%s'", run.err);
    kill(rng.run.pid, SIGKILL);
    run_end(&run);
    check_end(&run, 114, "backend");
    cr_assert(strstr(run.err, "husk: virtio0: the back-end hung up\n"), "'%s'",
              run.err);
    cr_assert(strstr(run.err, "a device was lost, and the run ended without a "
                              "verdict (timeout)"),
              "'%s'", run.err);
    run_free(&run);
    backend_end(&rng);
    run_free(&rng.run);
}

/* All vCPUs hang in a device that does not answer: none for longer than the
 * deadline, and a stop does not wait for it. */
Test(faulty, stop_while_a_request_hangs)
{
    for (unsigned i = 0; i < 4; i++) {
        struct backend peer;
        struct run run = { 0 };
        double asked;

        peer_start(&peer, i % 2 ? "--hang-at=GET_STATUS"
                                : "--hang-at=SET_VRING_ENABLE");
        start_husk(&run, "-d", fmt("socket=%s,deadline=60", peer.socket),
                   guest("devices"));
        cr_assert(run_until(&run, "virtio0: id 4"), "stderr '%s'", run.err);
        nap(0.3);
        asked = now();
        kill(run.pid, SIGTERM);
        run_end(&run);
        check_quiet_end(&run, 143, "stopped");
        cr_assert(now() - asked < SOON, "%g s", now() - asked);
        run_free(&run);
        backend_stop(&peer);
        run_free(&peer.run);
    }
}

/* Time that runs out before the guest's first instruction is no failure of the
 * guest's. */
Test(faulty, timeout_before_the_start)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--hang-at=GET_FEATURES");
    run_husk(&run, "--timeout", "0.3", "-d",
             fmt("socket=%s,deadline=60", peer.socket), guest("devices"));
    check_end(&run, 125, "error");
    check_line(&run, "the guest did not start within 0.3 s");
    run_free(&run);
    backend_stop(&peer);
    run_free(&peer.run);
}

/* What a back-end says is for reading: a terminal's controls are not. */
Test(faulty, words_without_controls)
{
    struct run run = { 0 };

    run_husk(&run, "-d",
             "exec=sh -c 'printf \"\\033[31mred\\tand\\aloud\\r\\n\"; exit 3'",
             guest("devices"));
    cr_assert(strstr(run.err, "husk: virtio0: ?[31mred\tand?loud\n"), "'%s'",
              run.err);
    run_free(&run);
}

/* A back-end whose lines never end, and a reader who takes none of husk's. */
Test(faulty, words_without_end)
{
    struct run run = { 0 };

    run_husk(&run, "-d",
             fmt("exec=sh -c 'yes word | head -n 5000 >&2; exec %s --fd=$0' "
                 "{fd}",
                 built("backends/husk-rng")),
             guest("devices"));
    check_end(&run, 0, "pass");
    cr_assert(count_text(run.err, "virtio0: word\n") >= 200 &&
                  count_text(run.err, "virtio0: word\n") < 5000 &&
                  count_text(run.err, " lines of the back-end's were left out"),
              "%u lines", count_text(run.err, "virtio0: word\n"));
    run_free(&run);
}

Test(faulty, words_that_nobody_reads)
{
    struct run run = { 0 };

    run_any(
        &run, "sh", "-c",
        fmt("mkfifo %s; exec 9<>%s; exec timeout -k 1 100 %s run --timeout 6 "
            "-a spin -d 'exec=sh -c \"(while :; do yes %0140u | head -n 150; "
            "sleep 0.9; done) >&2 & exec %s --fd=\\$0\" {fd}' %s 2>%s",
            place("fifo"), place("fifo"), built("husk"), 0u,
            built("backends/husk-rng"), guest("hello"), place("fifo")));
    cr_assert_eq(run.status, 124, "%d", run.status);
    run_free(&run);
}
