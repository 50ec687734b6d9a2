/*
 * The guests over a back-end that judges each message of husk's: its order,
 * form and time. A violation ends it with a status of its own, and here a case
 * fails with its words.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define ALL_RINGS "--features=10570000000"

TestSuite(strict, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* It saw one front-end that did nothing wrong. */
static void check_content(struct backend *peer)
{
    backend_end(peer);
    cr_assert(peer->run.status == 0, "the back-end ended with %d: %s",
              peer->run.status, peer->run.err);
    cr_assert_null(strstr(peer->run.err, "violation"), "%s", peer->run.err);
    run_free(&peer->run);
}

static const char *const dialects[] = { "specs", "messages" };

/* Waits before the guest starts: 3, one for config, one for the dialect. */
static unsigned round_trips(unsigned dialect, unsigned config)
{
    return 3 + dialect + (config > 0);
}

Test(strict, config_sizes_in_both_dialects)
{
    static const unsigned sizes[] = { 0,    1,    2,    3,    4,    7,
                                      8,    255,  256,  257,  512,  1023,
                                      1024, 3839, 3840, 3841, 4095, 4096 };

    for (unsigned d = 0; d < 2; d++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct backend peer;
            struct run run = { 0 };

            peer_start(&peer, "--connections=1", ALL_RINGS,
                       fmt("--dialect=%s", dialects[d]),
                       fmt("--config-size=%u", sizes[i]));
            run_husk(&run, "-d", peer.socket, "-a",
                     i % 2 ? "strict packed reset=1" : "strict reset=1",
                     guest("devices"));
            check_quiet_end(&run, 0, "pass");
            check_content(&peer);
            check_out(&run, fmt(" config %u features ", sizes[i]));
            CHECK_EQ(device_int(&run, 0, "config_size"), sizes[i]);
            CHECK_EQ(device_int(&run, 0, "round_trips"),
                     round_trips(d, sizes[i]));
            CHECK_STR(json_string_value(
                          json_object_get(record_device(&run, 0), "probe")),
                      dialects[d]);
            run_free(&run);
        }
    }
}

Test(strict, queues_and_kinds_of_rings)
{
    for (unsigned kind = 0; kind < 16; kind++) {
        unsigned queues = 1 + kind % 8;
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1", ALL_RINGS,
                   fmt("--dialect=%s", dialects[kind / 2 % 2]),
                   fmt("--max-vqs=%u", queues));
        run_husk(&run, kind % 3 ? "-v" : "--no-window", "-d", peer.socket, "-a",
                 fmt("strict count=20 depth=3 reset=5%s%s%s%s",
                     kind & 1 ? " packed" : "", kind & 2 ? " event-idx" : "",
                     kind & 4 ? " indirect" : "",
                     kind & 8 ? " ring-reset" : ""),
                 guest("devices"));
        check_end(&run, 0, "pass");
        check_content(&peer);
        check_out(&run, fmt(" queues %u ", queues));
        CHECK_EQ(count_text(run.out, " 64 bytes a5a5"),
                 queues * (kind & 8 ? 2 : 1));
        run_free(&run);
    }
}

/* Fewer than there are: only rings that the driver made ready are set up. */
Test(strict, fewer_queues_than_there_are)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--connections=1", "--max-vqs=8", "--min-vqs=2");
    run_husk(&run, "-d", fmt("socket=%s,vqs=5", peer.socket), "-a",
             "strict reset=2", guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_content(&peer);
    CHECK_EQ(device_int(&run, 0, "vqs"), 5);
    CHECK_EQ(device_int(&run, 0, "min_vqs"), 2);
    CHECK_EQ(device_int(&run, 0, "max_vqs"), 8);
    run_free(&run);
}

static const struct {
    const char *kind;
    unsigned connections;
} at_41[] = {
    { "hangup", 2 }, { "ignore", 1 }, { "silence", 2 },
    { "zero", 1 },   { "u64", 1 },    { "short", 1 },
};

/* Bit 18 means something else there: husk goes on without a probe, or says
 * which values it needs. */
Test(strict, what_41_may_come_to)
{
    for (size_t i = 0; i < sizeof at_41 / sizeof at_41[0]; i++) {
        for (unsigned given = 0; given < 2; given++) {
            struct backend peer;
            struct run run = { 0 };

            peer_start(&peer, fmt("--at-41=%s", at_41[i].kind),
                       fmt("--connections=%u", at_41[i].connections));
            run_husk(&run, "-d",
                     fmt("socket=%s,deadline=1%s", peer.socket,
                         given ? ",id=44,vqs=1,config-size=0" : ""),
                     "-a", "strict reset=2", guest("devices"));
            if (given) {
                check_quiet_end(&run, 0, "pass");
                check_out(&run, "virtio0: id 44 ");
                CHECK_EQ(device_int(&run, 0, "id"), 44);
                CHECK_EQ(device_int(&run, 0, "max_vqs"), 0);
                cr_assert(json_is_false(
                    json_object_get(record_device(&run, 0), "standalone")));
            } else {
                check_end(&run, 125, "error");
                check_line(&run, "virtio0", "bit 18", "id=N");
            }
            cr_assert(run.seconds < SOON, "%g s", run.seconds);
            check_content(&peer);
            run_free(&run);
        }
    }
}

/* Without the probe asked for, and with one that is not there. */
Test(strict, dialects_without_a_probe)
{
    static const char *const kinds[] = { "none", "shared-object", "ignore" };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, fmt("--dialect=%s", kinds[i]),
                   fmt("--connections=%u", i == 1 ? 2 : 1), "--config-size=6");
        run_husk(&run, "-d",
                 fmt("socket=%s,id=3,vqs=1,config-size=6", peer.socket), "-a",
                 "strict", guest("devices"));
        check_end(&run, 0, "pass");
        check_out(&run, "virtio0: id 3 ");
        check_out(&run, "virtio0 config: 010203040506\n");
        run_free(&run);
        backend_stop(&peer);
        cr_assert_null(strstr(peer.run.err, "violation"), "%s", peer.run.err);
        run_free(&peer.run);
    }
    for (unsigned on = 0; on < 2; on++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1",
                   on ? "--dialect=messages" : "--forbid-probe");
        run_husk(&run, "-d",
                 fmt("socket=%s,id=4,vqs=1,config-size=0,probe=%s", peer.socket,
                     on ? "messages" : "off"),
                 "-a", "strict", guest("devices"));
        check_quiet_end(&run, 0, "pass");
        check_content(&peer);
        run_free(&run);
    }
}

/* Bits that the transport owns are hidden, all others shown, known or not;
 * of the protocol's, none is acknowledged that husk does not speak. */
Test(strict, all_feature_bits)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--connections=1", "--features=ffffffffffffffff",
               "--protocol=ffffffffffffffff", "--config-size=12");
    run_husk(&run, "-d", peer.socket, "-a",
             "strict packed event-idx indirect ring-reset count=9 reset=3",
             guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_content(&peer);
    check_out(&run, " features 0xfffffd1dbbffffff\n");
    run_free(&run);
}

/* Each alone beside VERSION_1, so that none leans on another. */
Test(strict, one_feature_bit_at_a_time)
{
    for (unsigned bit = 0; bit < 64; bit += 5) {
        uint64_t bits =
            UINT64_C(1) << 32 | UINT64_C(1) << 30 | UINT64_C(1) << bit;
        uint64_t hidden = UINT64_C(0x2e244000000);
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1",
                   fmt("--features=%llx", (unsigned long long)bits));
        run_husk(&run, "-d", peer.socket, "-a", "strict", guest("devices"));
        check_quiet_end(&run, 0, "pass");
        check_content(&peer);
        check_out(&run, fmt(" features %#llx\n",
                            (unsigned long long)(bits & ~hidden)));
        run_free(&run);
    }
}

/* Without each protocol feature in turn that husk can use. */
Test(strict, without_protocol_features)
{
    static const unsigned bits[] = { 0, 3, 5, 9, 13, 15, 16 };
    const unsigned all = 0x1a229;

    for (size_t i = 0; i <= sizeof bits / sizeof bits[0]; i++) {
        bool last = i == sizeof bits / sizeof bits[0];
        unsigned some = last ? 0 : all & ~(1u << bits[i]);
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1", ALL_RINGS,
                   fmt("--protocol=%x", some));
        run_husk(&run, "-d", peer.socket, "-a",
                 "strict count=5 reset=4 ring-reset", guest("devices"));
        check_quiet_end(&run, 0, "pass");
        check_content(&peer);
        /* alone it stands with STATUS; CONFIG is not needed for no bytes */
        CHECK_EQ(
            json_is_true(json_object_get(record_device(&run, 0), "standalone")),
            (some >> 16) & 1);
        run_free(&run);
    }
}

/* Descriptors of husk's own do not grow with lives; kicks that went by while
 * the ring was stopped do not fire in the next. */
Test(strict, hundreds_of_lives)
{
    struct backend peer;
    unsigned lives = long_form() ? 1000 : 200;
    struct run run = { .hold_in = true };
    struct holdings first, last;

    peer_start(&peer, "--connections=1", ALL_RINGS, "--max-vqs=2");
    start_husk(&run, "-d", peer.socket, "-a",
               fmt("hold strict reset=%u packed event-idx", lives),
               guest("devices"));
    cr_assert(run_until(&run, "holding\n"), "stderr '%s'", run.err);
    first = holdings_of(run.pid);
    run_type(&run, "x");
    cr_assert(run_until(&run, fmt("virtio0: %u resets\nholding\n", lives)),
              "stderr '%s'", run.err);
    last = holdings_of(run.pid);
    cr_assert(same_holdings(first, last),
              "%u descriptors, %u threads and %u mappings became %u, %u and %u",
              first.fds, first.threads, first.maps, last.fds, last.threads,
              last.maps);
    run_type(&run, "x");
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    check_content(&peer);
    run_free(&run);
}

Test(strict, kicks_before_enable_are_repeated)
{
    static const char *const how[] = { "--ignore-kick-until-enabled",
                                       "--ignore-kick-until-enabled=hard" };

    for (unsigned i = 0; i < 2; i++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1", how[i], "--max-vqs=3");
        run_husk(&run, "-d", peer.socket, "-a", "strict count=5 reset=20",
                 guest("devices"));
        check_quiet_end(&run, 0, "pass");
        check_content(&peer);
        run_free(&run);
    }
}

Test(strict, spurious_signals)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--connections=1", "--spurious-call=1", ALL_RINGS);
    run_husk(&run, "-d", peer.socket, "-a", "strict count=200 reset=5 packed",
             guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_content(&peer);
    run_free(&run);
}

/* Every rule of the transport that a guest can break, and nothing of it may
 * reach the back-end. */
static void hostile(const char *option, const char *feature)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--connections=1", ALL_RINGS, "--config-size=40",
               "--max-vqs=3", feature);
    run_husk(&run, option, "-d", peer.socket, guest("hostile"));
    check_end(&run, 0, "pass");
    check_content(&peer);
    CHECK_EQ(count_text(run.out, ": ok\n"), 14);
    check_out(&run, "\npass\n");
    run_free(&run);
}

Test(strict, hostile_guest)
{
    hostile("-v", "--dialect=specs");
    hostile("-v", "--dialect=messages");
}

Test(strict, hostile_guest_without_a_window)
{
    hostile("--no-window", "--dialect=specs");
}

/* The same back-end serves on over the guest's reboots. */
Test(strict, reboots)
{
    static const char *const how[] = { "boots=6", "boots=6 by=triple",
                                       "boots=6 packed event-idx" };

    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1", ALL_RINGS, "--config=00000000");
        run_husk(&run, "--on-reset=again", "-d", peer.socket, "-a", how[i],
                 guest("reboot"));
        check_end(&run, 0, "pass");
        check_content(&peer);
        CHECK_EQ(count_text(run.out, "reboot: boot "), 6);
        check_out(&run, "reboot: boot 6 of 6\npass\n");
        run_free(&run);
    }
}

/* The guest takes as many changes as it wants while requests are under way;
 * all bytes are equal in each that it accepts. */
static void config_changes(const char *option, unsigned size, unsigned every,
                           const char *append)
{
    char *zeros = calloc(1, 2 * size + 1);
    struct backend peer;
    struct run run = { 0 };

    memset(zeros, '0', 2 * size);
    peer_start(&peer, "--connections=1", ALL_RINGS,
               fmt("--config-change=%u", every), fmt("--config=%s", zeros));
    run_husk(&run, option, "-d", peer.socket, "-a",
             fmt("uniform quiet %s", append), guest("config"));
    check_end(&run, 0, "pass");
    check_content(&peer);
    check_out(&run, " changes, ");
    check_out(&run, "\npass\n");
    cr_assert_null(strstr(run.out, "torn"), "%s", run.out);
    run_free(&run);
    free(zeros);
}

Test(strict, config_changes_under_load)
{
    config_changes("-v", 64, 1, "changes=400 load poll");
    config_changes("-v", 4, 1, "changes=400 load");
    /* as many bytes as a slow guest takes ten milliseconds to read */
    config_changes("-v", 4096, 100, "changes=15 load poll packed");
}

Test(strict, config_changes_without_a_window)
{
    config_changes("--no-window", 16, 4, "changes=50 load poll");
}

/* Writes of each width, into the first and past the 256 bytes of a message. */
Test(strict, config_writes)
{
    static const char *const writes[] = {
        "write=0:5a",
        "write=3:01020304",
        "write=4:01020304 width=4",
        "write=2:aabbccdd width=2",
        "write=254:11223344",
        "write=252:1122334455667788 width=4",
        "write=299:77",
    };

    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1", "--config-size=300");
        run_husk(&run, "-d", peer.socket, "-a", writes[i], guest("config"));
        check_quiet_end(&run, 0, "pass");
        check_content(&peer);
        check_out(&run, "config written: generation ");
        run_free(&run);
    }
}

/* 32 of them, each 50 ms away; returns when all were ready. */
static double probe_slow_ones(void)
{
    const char *args[2 * 32 + 2] = { NULL };
    static struct backend peer[32];
    struct run run = { 0 };
    unsigned n = 0;
    double probe;

    for (unsigned i = 0; i < 32; i++) {
        peer_start(&peer[i], "--connections=1", "--latency=200",
                   fmt("--dialect=%s", dialects[i % 2]),
                   fmt("--config-size=%u", i / 2 % 2 * 8));
        args[n++] = "-d";
        args[n++] = fmt("deadline=100,socket=%s", peer[i].socket);
    }
    args[n++] = guest("hello");
    run_husk_argv(&run, args);
    check_quiet_end(&run, 0, "pass");
    probe = record_ms(&run, "probe");
    for (unsigned i = 0; i < 32; i++)
        CHECK_EQ(device_int(&run, i, "round_trips"),
                 round_trips(i % 2, i / 2 % 2));
    for (unsigned i = 0; i < 32; i++)
        check_content(&peer[i]);
    run_free(&run);
    return probe;
}

/* All are asked at once. The slowest takes five waits, which is a second; one
 * after the other they would take 26. */
Test(strict, thirty_two_slow_ones)
{
    double probe = probe_slow_ones();

    cr_assert(probe >= 1000 && probe < 16000, "%g ms", probe);
}

/* Its own requests: refused, and nothing comes of them; guest memory cannot
 * be cut short under husk. */
Test(strict, requests_of_the_back_end)
{
    static const char *const requests[] = {
        "1", "3", "6", "7", "9", "10", "99"
    };

    for (size_t i = 0; i <= sizeof requests / sizeof requests[0]; i++) {
        bool last = i == sizeof requests / sizeof requests[0];
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--connections=1",
                   last ? "--truncate-memory"
                        : fmt("--backend-request=%s", requests[i]));
        run_husk(&run, "-d", peer.socket, "-a", "strict count=50 reset=3",
                 guest("devices"));
        check_end(&run, 0, "pass");
        check_content(&peer);
        run_free(&run);
    }
}
