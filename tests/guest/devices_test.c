/*
 * The guest that takes every virtio device as it comes, over the bundled
 * back-ends: what it prints is known to the byte, whatever the rings.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define FEATURES 0x10530000000u /* INDIRECT, EVENT_IDX, VERSION_1, PACKED, */
                                /* RING_RESET */
#define WINDOW   0xd0000000u

TestSuite(devices, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static const unsigned pins[] = { 5,  6,  7,  10, 11, 14, 15, 16,
                                 17, 18, 19, 20, 21, 22, 23 };

/* 64 bytes as husk-loop fills them. */
static const char *filled(void)
{
    static char hex[129];

    for (unsigned i = 0; i < 64; i++)
        memcpy(hex + 2 * i, "a5", 3);
    return hex;
}

static const char *config_line(unsigned device, unsigned size)
{
    static char hex[2 * 4096 + 1];

    if (size == 0)
        return "";
    for (unsigned i = 0; i < size; i++)
        snprintf(hex + 2 * i, 3, "%02x", i & 0xff);
    return fmt("virtio%u config: %s\n", device, hex);
}

/* What the guest says of a husk-loop; rounds is 2 with ring resets. */
static const char *loop_text(unsigned device, const char *base, unsigned queues,
                             unsigned config, unsigned rounds, unsigned resets)
{
    const char *text =
        fmt("%svirtio%u: id 63 at %#x irq %u queues %u config %u "
            "features %#llx\n%s",
            base, device, WINDOW + 0x1000 * device, pins[device % 15], queues,
            config, (unsigned long long)FEATURES, config_line(device, config));

    for (unsigned i = 0; i < rounds * queues; i++)
        text = fmt("%svirtio%u queue %u: 64 bytes %s\n", text, device,
                   i % queues, filled());
    if (resets > 0)
        text = fmt("%svirtio%u: %u resets\n", text, device, resets);
    return text;
}

static void check_rng(const struct run *run)
{
    unsigned digits = 0;
    const char *hex;

    check_quiet_end(run, 0, "pass");
    check_out(run, "virtio0: id 4 at 0xd0000000 irq 5 queues 1 config 0 "
                   "features 0x10530000000\n");
    check_out(run, "virtio0 queue 0: 64 bytes ");
    hex = strstr(run->out, "64 bytes ") + 9;
    digits = (unsigned)strspn(hex, "0123456789abcdef");
    CHECK_EQ(digits, 128);
    cr_assert(strspn(hex, "0") < 64, "not random: %s", hex);
    CHECK_STR(hex + digits, "\npass\n");
    CHECK_EQ(device_int(run, 0, "id"), 4);
    CHECK_EQ(device_int(run, 0, "config_size"), 0);
    CHECK_EQ(device_int(run, 0, "min_vqs"), 1);
    CHECK_EQ(device_int(run, 0, "max_vqs"), 1);
    CHECK_EQ(device_int(run, 0, "vqs"), 1);
    CHECK_EQ(device_int(run, 0, "address"), WINDOW);
    CHECK_EQ(device_int(run, 0, "irq"), 5);
    CHECK_EQ(device_int(run, 0, "round_trips"), 3);
    CHECK_EQ(record_int(run, "exits", "mmio_read"), 0);
    CHECK_STR(
        json_string_value(json_object_get(record_device(run, 0), "probe")),
        "specs");
    cr_assert(
        json_is_true(json_object_get(record_device(run, 0), "standalone")));
}

Test(devices, rng_by_exec)
{
    struct run run = { 0 };

    run_husk(&run, "-d", exec_spec("husk-rng"), "-a", "strict",
             guest("devices"));
    check_rng(&run);
    run_free(&run);
}

/* One after the other on the same back-end, which serves on. */
Test(devices, rng_by_socket)
{
    struct backend rng;

    backend_start(&rng, "husk-rng", NULL);
    for (unsigned i = 0; i < 3; i++) {
        struct run run = { 0 };

        run_husk(&run, "-d", i ? fmt("socket=%s", rng.socket) : rng.socket,
                 "-a", "strict reset=3", guest("devices"));
        check_end(&run, 0, "pass");
        check_out(&run, "virtio0: 3 resets\npass\n");
        run_free(&run);
    }
    backend_stop(&rng);
    CHECK_STR(rng.run.err, "");
    CHECK_EQ(rng.run.status, 0);
    run_free(&rng.run);
}

Test(devices, exec_with_a_listening_socket_or_a_path)
{
    static const char *const ways[] = { "--fd={fd}", "--fd={listen}",
                                        "--socket-path={socket}" };

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct run run = { 0 };

        run_husk(&run, "-d", fmt("%s %s", exec_spec("husk-rng"), ways[i]), "-a",
                 "strict", guest("devices"));
        check_rng(&run);
        run_free(&run);
    }
}

Test(devices, several_kinds)
{
    struct run run = { 0 };
    const char *loop =
        fmt("%s --config-size=5 --queues=2", exec_spec("husk-loop"));

    run_husk(&run, "-d", loop, "-d",
             fmt("name=random,%s", exec_spec("husk-rng")), "-d", loop, "-a",
             "strict reset=2", guest("devices"));
    check_quiet_end(&run, 0, "pass");
    cr_assert(strncmp(run.out, loop_text(0, "", 2, 5, 1, 2),
                      strlen(loop_text(0, "", 2, 5, 1, 2))) == 0,
              "'%s'", run.out);
    check_out(&run, "virtio1: id 4 at 0xd0001000 irq 6 queues 1 config 0 ");
    check_out(&run, loop_text(2, "", 2, 5, 1, 2));
    CHECK_STR(
        json_string_value(json_object_get(record_device(&run, 1), "name")),
        "random");
    CHECK_STR(
        json_string_value(json_object_get(record_device(&run, 2), "name")),
        "virtio2");
    run_free(&run);
}

/* Every kind of ring over 1 to 8 queues, with and without the window. */
static void all_rings(unsigned queues, bool window)
{
    for (unsigned kind = 0; kind < 16; kind++) {
        unsigned rounds = kind & 8 ? 2 : 1, config = 7 * kind;
        struct run run = { 0 };

        run_husk(&run, window ? "-v" : "--no-window", "-d",
                 fmt("%s --queues=%u --config-size=%u", exec_spec("husk-loop"),
                     queues, config),
                 "-a",
                 fmt("strict count=30 depth=%u reset=4%s%s%s%s", 1 + kind % 6,
                     kind & 1 ? " packed" : "", kind & 2 ? " event-idx" : "",
                     kind & 4 ? " indirect" : "",
                     kind & 8 ? " ring-reset" : ""),
                 guest("devices"));
        check_end(&run, 0, "pass");
        CHECK_STR(run.out,
                  fmt("%spass\n", loop_text(0, "", queues, config, rounds, 4)));
        if (window)
            CHECK_EQ(record_int(&run, "exits", "mmio_read"), 0);
        else
            cr_assert(record_int(&run, "exits", "mmio_read") > 20);
        CHECK_EQ(device_int(&run, 0, "round_trips"), config ? 4 : 3);
        run_free(&run);
    }
}

Test(devices, rings_of_1_queue)
{
    all_rings(1, true);
}

Test(devices, rings_of_3_queues)
{
    all_rings(3, true);
}

Test(devices, rings_of_8_queues)
{
    all_rings(8, true);
}

Test(devices, rings_without_a_window)
{
    all_rings(2, false);
}

Test(devices, every_number_of_queues)
{
    for (unsigned queues = 1; queues <= 8; queues++) {
        struct run run = { 0 };

        run_husk(&run, "-d",
                 fmt("%s --queues=%u", exec_spec("husk-loop"), queues), "-a",
                 "strict count=3 packed", guest("devices"));
        check_quiet_end(&run, 0, "pass");
        CHECK_STR(run.out, fmt("%spass\n", loop_text(0, "", queues, 0, 1, 0)));
        run_free(&run);
    }
}

/* vqs= within min..max is the number that the guest sees. */
Test(devices, fewer_queues_than_there_are)
{
    struct run run = { 0 };

    run_husk(&run, "-d", fmt("vqs=3,%s --queues=8", exec_spec("husk-loop")),
             "-a", "strict", guest("devices"));
    check_quiet_end(&run, 0, "pass");
    CHECK_STR(run.out, fmt("%spass\n", loop_text(0, "", 3, 0, 1, 0)));
    CHECK_EQ(device_int(&run, 0, "vqs"), 3);
    CHECK_EQ(device_int(&run, 0, "max_vqs"), 8);
    run_free(&run);
}

Test(devices, a_hundred_lives)
{
    struct run run = { 0 };

    run_husk(&run, "-d", fmt("%s --queues=2", exec_spec("husk-loop")), "-a",
             "strict reset=100 packed event-idx", guest("devices"));
    check_quiet_end(&run, 0, "pass");
    CHECK_STR(run.out, fmt("%spass\n", loop_text(0, "", 2, 0, 1, 100)));
    run_free(&run);
}

Test(devices, large_rings_and_small)
{
    static const struct {
        const char *append, *size;
    } cases[] = {
        { "ring=1 count=5", "256" },
        { "ring=256 depth=200 count=400", "256" },
        { "ring=1024 depth=600 count=1200 packed", "1024" },
        { "ring=4 depth=4 count=64 packed event-idx", "4" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run run = { 0 };

        run_husk(&run, "-d",
                 fmt("queue-size=%s,%s", cases[i].size, exec_spec("husk-loop")),
                 "-a", fmt("strict %s", cases[i].append), guest("devices"));
        check_quiet_end(&run, 0, "pass");
        CHECK_STR(run.out, fmt("%spass\n", loop_text(0, "", 1, 0, 1, 0)));
        run_free(&run);
    }
}

/* A config space past the first page moves the next device on. */
Test(devices, config_spaces_of_all_sizes)
{
    static const unsigned sizes[] = { 1, 2, 3, 4, 255, 256, 257, 3839, 3840 };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct run run = { 0 };

        run_husk(&run, "-d",
                 fmt("%s --config-size=%u", exec_spec("husk-loop"), sizes[i]),
                 "-a", "strict", guest("devices"));
        check_quiet_end(&run, 0, "pass");
        CHECK_STR(run.out,
                  fmt("%spass\n", loop_text(0, "", 1, sizes[i], 1, 0)));
        CHECK_EQ(device_int(&run, 0, "config_size"), sizes[i]);
        run_free(&run);
    }
}

Test(devices, config_space_of_two_pages)
{
    struct run run = { 0 };

    run_husk(&run, "-d", fmt("%s --config-size=3841", exec_spec("husk-loop")),
             "-d", exec_spec("husk-loop"), "-a", "strict", guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, loop_text(0, "", 1, 3841, 1, 0));
    check_out(&run, "virtio1: id 63 at 0xd0002000 irq 6 ");
    CHECK_EQ(device_int(&run, 1, "address"), 0xd0002000);
    run_free(&run);
}

/* As many as there may be: pins are shared from the sixteenth on. */
Test(devices, thirty_two)
{
    const char *args[3 + 2 * 32 + 1] = { "-a", "strict count=2 reset=1" };
    const char *want = "";
    struct run run = { 0 };
    unsigned n = 2;

    for (unsigned i = 0; i < 32; i++) {
        args[n++] = "-d";
        args[n++] = fmt("deadline=100,%s", exec_spec("husk-loop"));
        want = loop_text(i, want, 1, 0, 1, 1);
    }
    args[n++] = guest("devices");
    run_husk_argv(&run, args);
    check_quiet_end(&run, 0, "pass");
    CHECK_STR(run.out, fmt("%spass\n", want));
    for (unsigned i = 0; i < 32; i++) {
        CHECK_EQ(device_int(&run, i, "irq"), pins[i % 15]);
        CHECK_EQ(device_int(&run, i, "address"), WINDOW + 0x1000 * i);
    }
    run_free(&run);
}

Test(devices, back_end_that_never_signals)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--no-call", "--connections=1");
    run_husk(&run, "-d", peer.socket, guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "virtio0 queue 0: no answer\n");
    run_free(&run);
    backend_end(&peer);
    CHECK_STR(peer.run.err, "");
    CHECK_EQ(peer.run.status, 0);
    run_free(&peer.run);
}

/* Through all of it nothing is left behind: no process and no folder. */
Test(devices, back_ends_end_with_husk)
{
    const char *pids = place("pids");
    struct run run = { 0 };
    char line[32];
    FILE *file;

    for (unsigned kill9 = 0; kill9 < 2; kill9++) {
        start_husk(&run, "-d",
                   fmt("exec=sh -c 'echo $$ >>%s; sleep 77 & echo $! >>%s; "
                       "exec %s --fd=$0' {fd}",
                       pids, pids, built("husk-rng")),
                   "-a", "spin", guest("hello"));
        cr_assert(run_until(&run, "hello"), "stderr '%s'", run.err);
        kill(run.pid, kill9 ? SIGKILL : SIGTERM);
        run_end(&run);
        CHECK_EQ(run.status, kill9 ? 137 : 143);
        run_free(&run);
    }
    file = fopen(pids, "re");
    for (unsigned n = 0; n < 4; n++) {
        double until = now() + SOON;

        cr_assert(fgets(line, sizeof line, file));
        line[strlen(line) - 1] = 0;
        while (access(fmt("/proc/%s", line), F_OK) == 0 && now() < until)
            nap(0.01);
        cr_assert(now() < until, "process %s is still there", line);
    }
    fclose(file);
}
