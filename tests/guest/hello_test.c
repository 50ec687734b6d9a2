/*
 * A guest without devices: every way in which a run can end, what husk then
 * says, and what the record holds.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(hello, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

Test(hello, says_hello)
{
    struct run run = { 0 };

    run_husk(&run, guest("hello"));
    check_quiet_end(&run, 0, "pass");
    CHECK_STR(run.out, "hello from x86_64\n");
    CHECK_EQ(record_int(&run, NULL, "guest_value"), 0);
    CHECK_EQ(record_int(&run, NULL, "console_dropped"), 0);
    CHECK_EQ(record_int(&run, "exits", "mmio_read"), 0);
    CHECK_EQ(record_int(&run, "exits", "mmio_write"), 0);
    CHECK_EQ(record_int(&run, "exits", "hlt"), 0);
    cr_assert(record_int(&run, "exits", "io") >= 18);
    CHECK_EQ(json_array_size(json_object_get(run.record, "devices")), 0);
    cr_assert_null(json_object_get(run.record, "message"));
    run_free(&run);
}

Test(hello, times_and_command_are_in_the_record)
{
    struct run run = { 0 };
    json_t *command;
    static const char *const want[] = { NULL, "run",      "--json", NULL,
                                        "-a", "status=3", "-m64M",  NULL };

    run_husk(&run, "-a", "status=3", "-m64M", guest("hello"));
    check_quiet_end(&run, 3, "fail");
    command = json_object_get(run.record, "command");
    CHECK_EQ(json_array_size(command), 8);
    for (unsigned i = 0; i < 8; i++)
        if (want[i])
            CHECK_STR(json_string_value(json_array_get(command, i)), want[i]);
    CHECK_STR(json_string_value(json_array_get(command, 0)), built("husk"));
    CHECK_STR(json_string_value(json_array_get(command, 7)), guest("hello"));
    cr_assert(record_ms(&run, "setup") > 0);
    cr_assert(record_ms(&run, "probe") > 0);
    cr_assert(record_ms(&run, "first_entry") >= record_ms(&run, "setup"));
    cr_assert(record_ms(&run, "total") > record_ms(&run, "first_entry"));
    cr_assert(record_ms(&run, "total") < 1000 * run.seconds);
    run_free(&run);
}

static const struct {
    unsigned value;
    int status;
    const char *outcome, *line;
} values[] = {
    { 0, 0, "pass", "" },
    { 1, 1, "fail", "" },
    { 76, 76, "fail", "" },
    { 77, 77, "skip", "" },
    { 78, 78, "fail", "" },
    { 109, 109, "fail", "" },
    { 110, 110, "panic", "husk: the guest panicked\n" },
    { 111, 113, "no-verdict",
      "husk: the guest ended with 111: only 0 to 110 are a guest's to give\n" },
    { 113, 113, "no-verdict",
      "husk: the guest ended with 113: only 0 to 110 are a guest's to give\n" },
    { 125, 113, "no-verdict",
      "husk: the guest ended with 125: only 0 to 110 are a guest's to give\n" },
    { 255, 113, "no-verdict",
      "husk: the guest ended with 255: only 0 to 110 are a guest's to give\n" },
};

Test(hello, every_value_has_its_status)
{
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct run run = { 0 };

        run_husk(&run, "-a", fmt("status=%u", values[i].value), guest("hello"));
        check_end(&run, values[i].status, values[i].outcome);
        CHECK_EQ(record_int(&run, NULL, "guest_value"), values[i].value);
        CHECK_STR(run.err, values[i].line);
        CHECK_STR(run.out, "hello from x86_64\n");
        run_free(&run);
    }
}

Test(hello, panic)
{
    struct run run = { 0 };

    run_husk(&run, "-a", "panic", guest("hello"));
    check_end(&run, 110, "panic");
    CHECK_STR(run.err, "husk: the guest panicked\n");
    CHECK_STR(record_text(&run, "message"), "the guest panicked");
    CHECK_STR(run.out, "hello from x86_64\npanic: asked to\n");
    CHECK_EQ(record_int(&run, NULL, "guest_value"), 110);
    run_free(&run);
}

Test(hello, reset)
{
    struct run run = { 0 };

    run_husk(&run, "-a", "reset", guest("hello"));
    check_end(&run, 111, "reset");
    CHECK_STR(run.err, "husk: the guest asked for a reset\n");
    cr_assert_null(json_object_get(run.record, "guest_value"));
    run_free(&run);
}

#define UNKNOWN_RIP "triple fault at an unknown rip: KVM has reset the vCPU\n"

/*
 * The line says where: an address in the image, and the bytes that lie there.
 * AMD's processors do not keep the address, and KVM resets the vCPU.
 */
Test(hello, triple_fault)
{
    struct run run = { 0 };
    unsigned long rip;
    unsigned byte[8];

    run_husk(&run, "-a", "triple", guest("hello"));
    check_end(&run, 111, "reset");
    check_line(&run, "the guest crashed: triple fault at ");
    if (strstr(run.err, UNKNOWN_RIP)) {
        run_free(&run);
        return;
    }
    CHECK_EQ(sscanf(run.err,
                    "husk: the guest crashed: triple fault at rip 0x%lx, "
                    "bytes %2x %2x %2x %2x %2x %2x %2x %2x\n",
                    &rip, byte, byte + 1, byte + 2, byte + 3, byte + 4,
                    byte + 5, byte + 6, byte + 7),
             9);
    cr_assert(rip >= 0x100000 && rip < 0x200000, "rip %#lx", rip);
    CHECK_EQ(byte[0], 0x8b); /* the load from nowhere */
    run_free(&run);
}

Test(hello, power_off)
{
    struct run run = { 0 };

    run_husk(&run, "-a", "poweroff", guest("hello"));
    check_quiet_end(&run, 0, "pass");
    cr_assert_null(json_object_get(run.record, "guest_value"));
    run_free(&run);
}

Test(hello, timeout)
{
    struct run run = { 0 };

    run_husk(&run, "--timeout", "0.5", "-a", "spin", guest("hello"));
    check_end(&run, 124, "timeout");
    CHECK_STR(run.err, "husk: the guest did not end within 0.5 s\n");
    CHECK_STR(run.out, "hello from x86_64\n");
    cr_assert(record_ms(&run, "total") >= 500);
    cr_assert(run.seconds < SOON, "%g s", run.seconds);
    run_free(&run);
}

Test(hello, timeout_that_is_not_reached)
{
    struct run run = { 0 };

    run_husk(&run, "--timeout=60", guest("hello"));
    check_quiet_end(&run, 0, "pass");
    cr_assert(run.seconds < 60);
    run_free(&run);
}

/* Both die of the signal itself, so that a shell sees it as one. */
Test(hello, signals)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct run run = { 0 };

        start_husk(&run, "-a", "spin", guest("hello"));
        cr_assert(run_until(&run, "hello"), "stderr '%s'", run.err);
        kill(run.pid, numbers[i]);
        run_end(&run);
        check_quiet_end(&run, 128 + numbers[i], "stopped");
        cr_assert(run.signalled);
        cr_assert(run.seconds < SOON);
        run_free(&run);
    }
}

Test(hello, several_vcpus)
{
    struct run run = { 0 };

    run_husk(&run, "-c", "4", "-a", "status=5", guest("hello"));
    check_quiet_end(&run, 5, "fail");
    CHECK_STR(run.out, "hello from x86_64\n");
    run_free(&run);
    run_husk(&run, "-c", "64", "-a", "spin", "--timeout", "1", guest("hello"));
    check_end(&run, 124, "timeout");
    run_free(&run);
}

Test(hello, pvh)
{
    struct run run = { 0 };

    run_husk(&run, "-a", "status=9 and more", "-m", "64M", guest("pvh"));
    check_quiet_end(&run, 9, "fail");
    check_out(&run, "pvh entry: cmdline status=9 and more\n");
    check_out(&run, "pvh memory: 0x100000-0x4000000 1\n");
    check_out(&run, "pass\n");
    run_free(&run);
}

/* The hole below 4 GiB splits a large memory; nothing of it is allocated. */
Test(hello, memory_sizes)
{
    struct run run = { 0 };

    run_husk(&run, "-m", "2M", guest("hello"));
    check_quiet_end(&run, 0, "pass");
    run_free(&run);
    run_husk(&run, "-m", "4G", guest("pvh"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "-0xc0000000 1\n");
    check_out(&run, "pvh memory: 0x100000000-0x140000000 1\n");
    run_free(&run);
    run_husk(&run, "-m", "3072", guest("pvh"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "-0xc0000000 1\n");
    cr_assert_null(strstr(run.out, "0x100000000"));
    run_free(&run);
}

Test(hello, no_record_unless_asked_for)
{
    struct run run = { 0 };

    run_any(&run, built("husk"), "run", guest("hello"));
    CHECK_EQ(run.status, 0);
    CHECK_STR(run.out, "hello from x86_64\n");
    CHECK_STR(run.err, "");
    run_free(&run);
}

/* Standard output is free for the record then, and holds nothing else. */
Test(hello, console_in_a_file_and_record_on_stdout)
{
    const char *path = place("console");
    struct run run = { 0 };
    FILE *file = fopen(path, "we");
    char text[64] = "";
    json_t *record;

    fputs("what an earlier and longer run has left here", file);
    fclose(file);
    run_any(&run, built("husk"), "run", "--console", path, "--json", "-",
            guest("hello"));
    CHECK_EQ(run.status, 0);
    CHECK_STR(run.err, "");
    file = fopen(path, "re");
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    CHECK_STR(text, "hello from x86_64\n");
    record = json_loads(run.out, 0, NULL);
    cr_assert(record, "'%s'", run.out);
    CHECK_STR(json_string_value(json_object_get(record, "outcome")), "pass");
    json_decref(record);
    run_free(&run);
}

/* A FIFO is written to like a pipe; a device that takes nothing costs the
 * output, not the run. */
Test(hello, console_in_a_fifo_or_device)
{
    const char *path = place("fifo");
    struct run run = { 0 };
    char text[64] = "";
    int fd;

    cr_assert(mkfifo(path, 0600) == 0);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    run_husk(&run, "--console", path, guest("hello"));
    check_quiet_end(&run, 0, "pass");
    CHECK_STR(run.out, "");
    cr_assert(read(fd, text, sizeof text - 1) > 0);
    CHECK_STR(text, "hello from x86_64\n");
    close(fd);
    run_free(&run);
    run_husk(&run, "--console", "/dev/full", guest("hello"));
    check_end(&run, 0, "pass");
    CHECK_STR(run.out, "");
    CHECK_EQ(record_int(&run, NULL, "console_dropped"), 18);
    check_line(&run, "18 bytes of console output were dropped: /dev/full did");
    run_free(&run);
}

Test(hello, record_in_a_fifo)
{
    const char *path = place("fifo");
    struct run run = { 0 };
    char text[65536] = "";
    json_t *record;
    int fd;

    cr_assert(mkfifo(path, 0600) == 0);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    run_any(&run, built("husk"), "run", "--json", path, guest("hello"));
    CHECK_EQ(run.status, 0);
    cr_assert(read(fd, text, sizeof text - 1) > 0);
    record = json_loads(text, 0, NULL);
    cr_assert(record, "'%s'", text);
    json_decref(record);
    close(fd);
    run_free(&run);
}
