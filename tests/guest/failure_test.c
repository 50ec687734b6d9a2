/*
 * Whatever fails before the guest's first instruction: status 125, one line
 * that names the thing, in time, and a record that says the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(failure, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static void check_failed(const struct run *run, const char *const *words)
{
    cr_assert(run->status == 125, "status %d; stderr '%s'; stdout '%s'",
              run->status, run->err, run->out);
    check_line_argv(run, words);
    CHECK_STR(run->out, "");
    cr_assert(run->seconds < SOON, "%g s", run->seconds);
}

/* Failures of which the record tells: all that come after the options. */
static void fails_argv(const char *const *words, const char *const *args)
{
    struct run run = { 0 };

    run_husk_argv(&run, args);
    check_failed(&run, words);
    check_end(&run, 125, "error");
    CHECK_STR(fmt("husk: %s\n", record_text(&run, "message")), run.err);
    CHECK_EQ(record_int(&run, "exits", "io"), 0);
    cr_assert_null(json_object_get(run.record, "guest_value"));
    run_free(&run);
}

#define SAYING(...)        ARGS(__VA_ARGS__)
#define fails(saying, ...) fails_argv(saying, ARGS(__VA_ARGS__))

/* Those of the command line itself. */
static void misused_argv(const char *const *words, const char *const *args)
{
    struct run run = { 0 };

    run_husk_argv(&run, args);
    check_failed(&run, words);
    run_free(&run);
}

#define misused(saying, ...) misused_argv(saying, ARGS(__VA_ARGS__))

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "we");

    cr_assert(file && fwrite(bytes, 1, size, file) == size);
    fclose(file);
}

Test(failure, kernel_that_is_not_there)
{
    fails(SAYING("kernel", place("none"), "No such file"), place("none"));
    fails(SAYING("kernel", place("none/deep"), "No such file"),
          place("none/deep"));
    fails(SAYING("kernel /tmp", "not a regular file"), "/tmp");
}

Test(failure, kernel_that_is_none)
{
    write_bytes(place("empty"), "", 0);
    write_bytes(place("text"), "#!/bin/sh\necho hello\n", 21);
    fails(SAYING(place("empty")), place("empty"));
    fails(SAYING(place("text")), place("text"));
    fails(SAYING("/dev/null"), "/dev/null");
    fails(SAYING("/proc/self/mem"), "/proc/self/mem");
}

/* At every length the line says that, and of which file. */
Test(failure, truncated_kernel)
{
    FILE *file = fopen(guest("hello"), "re");
    static char bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    const size_t lengths[] = { 1,   3,   4,    5,    15,       16,      17,
                               40,  63,  64,   65,   100,      119,     120,
                               200, 512, 4095, 4096, size / 2, size - 1 };

    fclose(file);
    cr_assert(size > 8192 && size < sizeof bytes);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const char *path = place("cut");
        struct run run = { 0 };

        write_bytes(path, bytes, lengths[i]);
        run_husk(&run, path);
        /* what lies past the last segment is not needed to boot */
        if (run.status == 0 && lengths[i] > 4096) {
            check_quiet_end(&run, 0, "pass");
        } else {
            check_failed(&run, SAYING(path));
            check_end(&run, 125, "error");
        }
        run_free(&run);
    }
}

Test(failure, kernel_larger_than_memory)
{
    static unsigned char bytes[8192];
    FILE *file = fopen(guest("hello"), "re");

    cr_assert(fread(bytes, 1, sizeof bytes, file) == sizeof bytes);
    fclose(file);
    memset(bytes + 64 + 40, 0x7f, 7); /* p_memsz */
    write_bytes(place("large"), bytes, sizeof bytes);
    fails(SAYING(place("large")), place("large"));
}

Test(failure, socket_without_a_back_end)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, place("dead"));
    cr_assert(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    write_bytes(place("file"), "", 0);
    fails(SAYING("virtio0", place("dead"), "refused", "wait="), "-d",
          place("dead"), guest("hello"));
    fails(SAYING("virtio0", place("none"), "No such file", "wait="), "-d",
          place("none"), guest("hello"));
    fails(SAYING("virtio0", place("file"), "refused"), "-d", place("file"),
          guest("hello"));
    fails(SAYING("lost", place("none")), "-d",
          fmt("name=lost,socket=%s,wait=0.3", place("none")), guest("hello"));
    close(fd);
}

/* With wait= it may come late. */
Test(failure, socket_that_appears_late)
{
    const char *path = place("late");
    struct backend helper;
    struct run run = { 0 };

    start_husk(&run, "-d", fmt("socket=%s,wait=20", path), "-a", "strict",
               guest("devices"));
    nap(0.3);
    backend_start(&helper, "husk-rng", NULL);
    cr_assert(rename(helper.socket, path) == 0);
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    run_free(&run);
    backend_stop(&helper);
    run_free(&helper.run);
}

static int listener(const char *path, int backlog)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, path);
    cr_assert(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
              listen(fd, backlog) == 0);
    return fd;
}

Test(failure, socket_that_nobody_serves)
{
    int fd = listener(place("mute"), 8);

    fails(SAYING("virtio0", "no answer", "GET_FEATURES", "0.3 s"), "-d",
          fmt("socket=%s,deadline=0.3", place("mute")), guest("hello"));
    close(fd);
}

Test(failure, socket_whose_queue_is_full)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = listener(place("full"), 0), busy[8];

    strcpy(address.sun_path, place("full"));
    for (unsigned i = 0; i < 8; i++) {
        busy[i] =
            socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(busy[i], (struct sockaddr *)&address, sizeof address) < 0)
            break;
    }
    fails(SAYING("virtio0", place("full")), "-d",
          fmt("socket=%s,deadline=0.4", place("full")), guest("hello"));
    close(fd);
}

/* Its own words come first, then the verdict: all of it names the device. */
Test(failure, command_that_ends_at_once)
{
    struct run run = { 0 };

    write_bytes(place("file"), "", 0);
    fails(SAYING("virtio0", "true ended with status 0"), "-d", "exec=true",
          guest("hello"));
    fails(SAYING("virtio0", "false ended with status 1"), "-d", "exec=false",
          guest("hello"));
    fails(SAYING("x9", "starting /no/such", "No such file"), "-d",
          "name=x9,exec=/no/such", guest("hello"));
    fails(SAYING("virtio0", "Permission denied"), "-d",
          fmt("exec=%s", place("file")), guest("hello"));
    fails(SAYING("virtio0", "sh was ended by signal 9"), "-d",
          "exec=sh -c 'kill -9 $$'", guest("hello"));
    fails(SAYING("virtio0", "0.3 s"), "-d",
          "deadline=0.3,exec=sh -c 'exec sleep 33' {fd}", guest("hello"));
    fails(SAYING("virtio0", "true ended with status 0"), "-d",
          "exec=true {listen}", guest("hello"));
    fails(SAYING("virtio0", "true ended with status 0"), "-d",
          "exec=true {socket}", guest("hello"));

    run_husk(&run, "-d", "exec=sh -c 'echo my disk is gone >&2; exit 3'",
             guest("hello"));
    check_end(&run, 125, "error");
    CHECK_STR(run.err, "husk: virtio0: my disk is gone\n"
                       "husk: virtio0: sh ended with status 3 before it said "
                       "what it is\n");
    run_free(&run);
}

/* Both sides are printed. */
Test(failure, pinned_wrong)
{
    const char *rng = exec_spec("husk-rng");
    const char *loop =
        fmt("%s --queues=3 --config-size=8", exec_spec("husk-loop"));

    fails(SAYING("virtio0", "id=2 was given", "4"), "-d", fmt("id=2,%s", rng),
          guest("hello"));
    fails(SAYING("virtio0", "config-size=4 was given", "0"), "-d",
          fmt("config-size=4,%s", rng), guest("hello"));
    fails(SAYING("virtio0", "config-size=9 was given", "8"), "-d",
          fmt("config-size=9,%s", loop), guest("hello"));
    fails(SAYING("virtio0", "vqs=4 was given", "1 to 3"), "-d",
          fmt("vqs=4,%s", loop), guest("hello"));
    fails(SAYING("virtio0", "config= was given"), "-d",
          fmt("config=00112233,%s", loop), guest("hello"));
    fails(SAYING("virtio0", "probe=messages"), "-d",
          fmt("probe=messages,%s", rng), guest("hello"));
    fails(SAYING("virtio0", "id=N"), "-d", fmt("probe=off,vqs=1,%s", rng),
          guest("hello"));
}

Test(failure, second_device_of_two)
{
    fails(SAYING("virtio1", "id=2 was given"), "-d", exec_spec("husk-rng"),
          "-d", fmt("id=2,%s", exec_spec("husk-rng")), guest("hello"));
    fails(SAYING("device 1", "unknown key 'sokcet'"), "-d",
          exec_spec("husk-rng"), "-d", "sokcet=/tmp/x", guest("hello"));
}

Test(failure, memory)
{
    fails(SAYING("memory", "1048576"), "-m", "1M", guest("hello"));
    fails(SAYING("memory", "2M to 1T"), "-m", "2T", guest("hello"));
    fails(SAYING("memory"), "-m", "1P", guest("hello"));
    fails(SAYING("memory"), "-m", "1T", guest("hello"));
    misused(SAYING("-m 0"), "-m", "0", guest("hello"));
    misused(SAYING("-m x"), "-m", "x", guest("hello"));
    misused(SAYING("-m 1Z"), "-m", "1Z", guest("hello"));
    misused(SAYING("-m -5"), "-m", "-5", guest("hello"));
    misused(SAYING("-m 99999999999999999999"), "-m", "99999999999999999999",
            guest("hello"));
    misused(SAYING("-m 99999999999T"), "-m", "99999999999T", guest("hello"));
}

Test(failure, cpus)
{
    fails(SAYING("65 vCPUs", "1 to 64"), "-c", "65", guest("hello"));
    misused(SAYING("-c 0"), "-c", "0", guest("hello"));
    misused(SAYING("-c -1"), "-c", "-1", guest("hello"));
    misused(SAYING("-c two"), "--cpus=two", guest("hello"));
}

Test(failure, options)
{
    misused(SAYING("unknown option --frob"), "--frob", guest("hello"));
    misused(SAYING("unknown option -z"), "-z", guest("hello"));
    misused(SAYING("unknown option -z"), "-vz", guest("hello"));
    misused(SAYING("no KERNEL"), "-m", "64M");
    misused(SAYING("needs a value"), guest("hello"), "-m");
    misused(SAYING("needs a value"), guest("hello"), "--timeout");
    misused(SAYING("one argument too many"), guest("hello"), guest("pvh"));
    misused(SAYING("--timeout 0"), "--timeout", "0", guest("hello"));
    misused(SAYING("--timeout -1"), "--timeout=-1", guest("hello"));
    misused(SAYING("--timeout soon"), "--timeout=soon", guest("hello"));
}

Test(failure, commands)
{
    static const char *const words[][2] = {
        { "walk", "'walk' is not a command" },
        { "", "give a command" },
        { "probe", "no SPEC was given" },
    };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct run run = { 0 };

        run_any(&run, built("husk"), words[i][0]);
        check_failed(&run, SAYING(words[i][1]));
        run_free(&run);
    }
}

Test(failure, specs)
{
    const char *deep = place("x");
    char longer[300];

    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    static const char *const wrong[][2] = {
        { "sokcet=/x", "unknown key 'sokcet'" },
        { "socket=", "socket= needs a path" },
        { "", "socket= needs a path" },
        { "id=4", "give socket=PATH or exec=COMMAND" },
        { "socket=/x,id=0", "id=0" },
        { "socket=/x,id=x", "id=x" },
        { "socket=/x,id=4294967296", "id=4294967296" },
        { "socket=/x,vqs=0", "vqs=0" },
        { "socket=/x,vqs=257", "vqs=257" },
        { "socket=/x,config-size=4097", "config-size=4097" },
        { "socket=/x,config=1", "config=" },
        { "socket=/x,config=0g", "0g" },
        { "socket=/x,config=@/no/such", "/no/such" },
        { "socket=/x,queue-size=3", "power of two" },
        { "socket=/x,queue-size=65536", "queue-size=65536" },
        { "socket=/x,probe=maybe", "probe=maybe" },
        { "socket=/x,deadline=0", "deadline=0" },
        { "socket=/x,wait=-1", "wait=-1" },
        { "socket=/x,name=a b", "name=a b" },
        { "socket=/x,novalue", "'novalue' is no key=value pair" },
        { "socket=/x,exec=true", "not both" },
        { "exec=", "exec= needs a command" },
        { "exec=a {fd} {listen}", "{fd} and {listen}" },
        { "exec='a", "'" },
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        fails(SAYING("device 0: ", wrong[i][1]), "-d", wrong[i][0],
              guest("hello"));
    fails(SAYING("device 0: ", "socket path", "at most 107"), "-d",
          fmt("%s/%s", deep, longer), guest("hello"));
}

Test(failure, more_devices_than_there_can_be)
{
    const char *args[2 * 33 + 2] = { 0 };

    for (unsigned i = 0; i < 33; i++) {
        args[2 * i] = "-d";
        args[2 * i + 1] = exec_spec("husk-rng");
    }
    args[66] = guest("hello");
    fails_argv(SAYING("32 devices"), args);
}

Test(failure, command_line_too_long)
{
    static char longer[5000];

    memset(longer, 'a', sizeof longer - 1);
    fails(SAYING("command line of 4999 bytes"), "-a", longer, guest("hello"));
}

/* Refused before the guest starts; a full disk is found at the end only. */
Test(failure, output_files)
{
    static const char *const options[] = { "--json", "--console" };
    const char *fifo = place("fifo");
    struct run run = { 0 };

    cr_assert(mkfifo(fifo, 0600) == 0);
    for (unsigned i = 0; i < 2; i++) {
        run_any(&run, built("husk"), "run", options[i], "/no/such/file",
                guest("hello"));
        check_failed(&run, SAYING(options[i], "/no/such/file", "No such file"));
        run_free(&run);
        run_any(&run, built("husk"), "run", options[i], fifo, guest("hello"));
        check_failed(&run, SAYING(options[i], fifo, "FIFO"));
        run_free(&run);
    }
    run_any(&run, built("husk"), "run", "--json", "/dev/full", guest("hello"));
    CHECK_EQ(run.status, 125);
    check_line(&run, "--json", "/dev/full", "No space");
    run_free(&run);
    run_any(&run, built("husk"), "run", "--dump-dtb", "/no/such/tree");
    check_failed(&run, SAYING("/no/such/tree", "No such file"));
    run_free(&run);
}

/* The record holds the message whatever bytes are in it. */
Test(failure, names_that_are_not_utf8)
{
    const char *path = place("k\xff\x9b");
    struct run run = { 0 };

    run_husk(&run, path);
    check_failed(&run, SAYING("kernel", "k\\xff\\x9b", "No such file"));
    check_end(&run, 125, "error");
    CHECK_STR(fmt("husk: %s\n", record_text(&run, "message")), run.err);
    run_free(&run);
}

/*
 * Descriptors run out at each number in turn: always one line that says so, or
 * the run went well; never a crash, never a wait.
 */
Test(failure, too_few_descriptors)
{
    unsigned failed = 0;

    for (unsigned limit = sanitized() ? 5 : 4; limit < 40; limit++) {
        struct run run = { 0 };

        run_any(&run, "sh", "-c",
                /* a search for leaks needs descriptors of its own */
                fmt("export ASAN_OPTIONS=detect_leaks=0; ulimit -n %u; "
                    "exec %s run -a 'strict' -d '%s' %s",
                    limit, built("husk"), exec_spec("husk-loop"),
                    guest("devices")));
        if (run.status == 125) {
            failed++;
            check_failed(&run, SAYING(""));
        } else {
            CHECK_EQ(run.status, 0);
            check_out(&run, "pass\n");
        }
        run_free(&run);
    }
    cr_assert(failed > 5, "%u", failed);
}
