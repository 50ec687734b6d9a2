/*
 * qemu-storage-daemon as it is installed: its vhost-user-blk export, which
 * answers no probe, behind a guest that writes and reads over two queues. What
 * the guest wrote is in the host's file.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/disk.h"
#include "tests/guest/run.h"

#define DAEMON "qemu-storage-daemon"
#define SIZE   (16u << 20)
#define DONE   (8u << 20)

static void init(void)
{
    struct run run = { 0 };

    harness_init_kvm();
    run_any(&run, DAEMON, "--version");
    if (run.status == 127)
        cr_skip_test(DAEMON " is not installed");
    run_free(&run);
}

TestSuite(qsd, .init = init, .fini = harness_fini, .timeout = HANGS);

static const char *blockdev(const char *disk)
{
    return fmt("driver=file,filename=%s,node-name=d", disk);
}

static const char *export(const char *address, unsigned queues)
{
    return fmt("type=vhost-user-blk,id=e,node-name=d,writable=on,"
               "num-queues=%u,%s",
               queues, address);
}

static const char *by_exec(const char *keys, const char *disk)
{
    return fmt("id=2,%s,exec=" DAEMON " --blockdev %s --export %s", keys,
               blockdev(disk), export("addr.type=fd,addr.str={listen}", 2));
}

static void check_transfer(const struct run *run, unsigned queues)
{
    check_quiet_end(run, 0, "pass");
    check_out(run, fmt("block: 32768 sectors, %u queues, ", queues));
    check_out(run, "block: id vhost_user_blk\n");
    check_out(run, "block: wrote 8388608 bytes, read 8388608 bytes, pass\n");
}

Test(qsd, by_exec)
{
    const char *disk = disk_make("disk", SIZE);
    struct run run = { 0 };

    run_husk(&run, "-d", by_exec("config-size=60", disk), guest("block"));
    check_transfer(&run, 2);
    CHECK_EQ(device_int(&run, 0, "id"), 2);
    CHECK_EQ(device_int(&run, 0, "vqs"), 2);
    CHECK_EQ(device_int(&run, 0, "config_size"), 60);
    CHECK_EQ(device_int(&run, 0, "round_trips"), 3);
    CHECK_STR(
        json_string_value(json_object_get(record_device(&run, 0), "probe")),
        "none");
    cr_assert(
        json_is_false(json_object_get(record_device(&run, 0), "standalone")));
    CHECK_EQ(record_int(&run, "exits", "mmio_read"), 0);
    disk_check(disk, SIZE, DONE);
    run_free(&run);
}

/* The daemon outlives its guests, and serves one after the other. */
Test(qsd, by_socket)
{
    const char *disk = disk_make("disk", SIZE), *socket = place("qsd");
    static const char *const rings[] = { "", "event-idx indirect" };
    struct run daemon = { 0 };

    run_start(&daemon,
              ARGS(DAEMON, "--blockdev", blockdev(disk), "--export",
                   export(fmt("addr.type=unix,addr.path=%s", socket), 2)));
    for (unsigned i = 0; i < 2; i++) {
        struct run run = { 0 };

        run_husk(&run, "-d",
                 fmt("socket=%s,wait=10,id=2,config-size=60", socket), "-a",
                 rings[i], guest("block"));
        check_transfer(&run, 2);
        run_free(&run);
    }
    disk_check(disk, SIZE, DONE);
    kill(daemon.pid, SIGTERM);
    run_end(&daemon);
    CHECK_EQ(daemon.status, 0);
    CHECK_STR(daemon.err, "");
    run_free(&daemon);
}

/* vqs= is needed by nobody who answers GET_QUEUE_NUM, but may be given. */
Test(qsd, fewer_queues)
{
    const char *disk = disk_make("disk", SIZE);
    struct run run = { 0 };

    run_husk(&run, "-d", by_exec("config-size=60,vqs=1", disk), guest("block"));
    check_transfer(&run, 1);
    disk_check(disk, SIZE, DONE);
    run_free(&run);
}

Test(qsd, without_its_type)
{
    const char *disk = disk_make("disk", SIZE);
    const char *spec = by_exec("config-size=60", disk) + strlen("id=2,");
    struct run run = { 0 };

    run_husk(&run, "-d", spec, guest("block"));
    check_end(&run, 125, "error");
    check_line(&run, "virtio0", "id=");
    run_free(&run);
}

/* Nothing told husk of a config space, so the guest sees none, and is told. */
Test(qsd, without_its_config_size)
{
    const char *disk = disk_make("disk", SIZE);
    struct run run = { 0 };

    run_husk(&run, "-d", by_exec("vqs=2", disk), guest("hello"));
    check_end(&run, 0, "pass");
    check_line(&run, "virtio0", "without config-size=");
    CHECK_EQ(device_int(&run, 0, "config_size"), 0);
    run_free(&run);
}
