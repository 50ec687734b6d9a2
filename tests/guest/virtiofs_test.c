/*
 * virtiofsd as it is installed, a back-end that answers no probe and keeps no
 * config space: the guest sees the tag that the command line gives, opens a
 * FUSE session and finds the host's file under the host's inode number.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define DAEMON "/usr/lib/qemu/virtiofsd"
#define TAG    "husk's own tag, 36 bytes without end"

static const char *share;

static void init(void)
{
    harness_init_kvm();
    if (access(DAEMON, X_OK) < 0)
        cr_skip_test(DAEMON " is not installed");
    if (geteuid() != 0)
        cr_skip_test(DAEMON " wants to be root");
    share = place("share");
    cr_assert(mkdir(share, 0700) == 0);
    fclose(fopen(place("share/file"), "we"));
}

TestSuite(virtiofs, .init = init, .fini = harness_fini, .timeout = HANGS);

/* 36 bytes of tag, then a u32 of request queues. */
static const char *config(const char *tag, unsigned queues)
{
    char hex[2 * 40 + 1];
    unsigned char bytes[40] = { 0 };

    memcpy(bytes, tag, strnlen(tag, 36));
    bytes[36] = (unsigned char)queues;
    for (unsigned i = 0; i < sizeof bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    return fmt("%s", hex);
}

static void check_session(const struct run *run, const char *tag,
                          const char *name)
{
    struct stat st;

    cr_assert(stat(fmt("%s/%s", share, name), &st) == 0);
    check_end(run, 0, "pass");
    check_out(run, fmt("fs: tag %s\nfs: init 7.", tag));
    check_out(run, fmt("fs: lookup %s inode %llu\npass\n", name,
                       (unsigned long long)st.st_ino));
    CHECK_EQ(device_int(run, 0, "id"), 26);
    CHECK_EQ(device_int(run, 0, "vqs"), 2);
    CHECK_EQ(device_int(run, 0, "config_size"), 40);
    CHECK_EQ(record_int(run, "exits", "mmio_read"), 0);
}

static const char *by_exec(const char *keys)
{
    return fmt("id=26,%s,exec=" DAEMON
               " --fd={listen} -o source=%s -o log_level=warn",
               keys, share);
}

Test(virtiofs, by_exec)
{
    struct run run = { 0 };

    run_husk(&run, "-d", by_exec(fmt("vqs=2,config=%s", config(TAG, 1))), "-a",
             "lookup=file", guest("fs"));
    check_session(&run, TAG, "file");
    CHECK_STR(run.err, "");
    run_free(&run);
}

/* The same bytes from a file. */
Test(virtiofs, config_from_a_file)
{
    struct run run = { 0 };
    unsigned char bytes[40] = "fromfile";
    FILE *file = fopen(place("config"), "we");

    bytes[36] = 1;
    cr_assert(fwrite(bytes, 1, sizeof bytes, file) == sizeof bytes);
    fclose(file);
    run_husk(&run, "-d", by_exec(fmt("vqs=2,config=@%s", place("config"))),
             "-a", "lookup=file", guest("fs"));
    check_session(&run, "fromfile", "file");
    run_free(&run);
}

/* It ends with the connection that it has served. */
Test(virtiofs, by_socket)
{
    const char *socket = place("virtiofsd");
    struct run daemon = { 0 }, run = { 0 };

    run_start(&daemon, ARGS(DAEMON, fmt("--socket-path=%s", socket), "-o",
                            fmt("source=%s", share), "-o", "log_level=warn"));
    run_husk(&run, "-d",
             fmt("socket=%s,wait=10,id=26,vqs=2,config=%s", socket,
                 config("short", 1)),
             "-a", "lookup=file", guest("fs"));
    check_session(&run, "short", "file");
    run_end(&daemon);
    CHECK_EQ(daemon.status, 0);
    run_free(&run);
    run_free(&daemon);
}

Test(virtiofs, name_that_is_not_there)
{
    struct run run = { 0 };

    run_husk(&run, "-d", by_exec(fmt("vqs=2,config=%s", config("t", 1))), "-a",
             "lookup=nothing", guest("fs"));
    check_end(&run, 1, "fail");
    check_out(&run, "fail: lookup nothing: error 2\n");
    run_free(&run);
}

/* Neither its type nor its number of queues is in any answer. */
Test(virtiofs, without_values)
{
    const char *spec = by_exec("vqs=2") + strlen("id=26,");
    struct run run = { 0 };

    run_husk(&run, "-d", spec, guest("fs"));
    check_end(&run, 125, "error");
    /* its own words about the hang-up may follow */
    cr_assert(strstr(run.err, "husk: virtio0: the back-end answers no probe; "
                              "give id=N"),
              "'%s'", run.err);
    run_free(&run);
}
