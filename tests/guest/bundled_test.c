/*
 * The bundled back-ends and what is behind them: the host's files, sockets and
 * peers hold to the byte what guests sent, and the other way round. None of
 * them costs a return from KVM_RUN for a request.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/guest/disk.h"
#include "tests/guest/run.h"

TestSuite(bundled, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static const char *const rings[] = {
    "",
    "packed",
    "event-idx",
    "indirect",
    "packed event-idx",
    "packed indirect",
    "event-idx indirect",
    "packed event-idx indirect",
};

#define N_RINGS (sizeof rings / sizeof rings[0])

static const char *hex(const void *bytes, size_t size)
{
    char text[4096];

    cr_assert(2 * size < sizeof text);
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)bytes)[i]);
    text[2 * size] = 0;
    return fmt("%s", text);
}

static char *contents(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    char *bytes = malloc(1 << 20);

    cr_assert(file && bytes, "%s: %s", path, strerror(errno));
    *size = fread(bytes, 1, (1 << 20) - 1, file);
    bytes[*size] = 0;
    fclose(file);
    return bytes;
}

/* block */

static const char *disk_spec(const char *disk, const char *more)
{
    return fmt("%s --file=%s %s", exec_spec("husk-block"), disk, more);
}

Test(bundled, block_with_all_rings)
{
    for (size_t i = 0; i < N_RINGS; i++) {
        const char *disk = disk_make("disk", 2 << 20);
        unsigned queues = i % 2 ? 4 : 1;
        struct run run = { 0 };

        run_husk(
            &run, "-d",
            disk_spec(disk, fmt("--queues=%u --serial=ring%zu", queues, i)),
            "-a", fmt("size=1m chunk=8k %s", rings[i]), guest("block"));
        check_quiet_end(&run, 0, "pass");
        check_out(&run, fmt("block: 4096 sectors, %u queues", queues));
        check_out(&run, fmt("block: id ring%zu\n", i));
        check_out(&run, "block: wrote 1048576 bytes, read 1048576 bytes");
        disk_check(disk, 2 << 20, 1 << 20);
        run_free(&run);
    }
}

Test(bundled, block_of_8_queues)
{
    const char *disk = disk_make("disk", 8 << 20);
    struct run run = { 0 };

    run_husk(&run, "-d", disk_spec(disk, "--queues=8"), "-a",
             "depth=32 chunk=32k", guest("block"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "block: 16384 sectors, 8 queues");
    disk_check(disk, 8 << 20, 8 << 20);
    run_free(&run);
}

static const char *block_head(unsigned type, unsigned long long sector)
{
    unsigned char head[16] = { (unsigned char)type };

    for (unsigned i = 0; i < 8; i++)
        head[8 + i] = (unsigned char)(sector >> 8 * i);
    return hex(head, sizeof head);
}

/* Discard and write zeroes: their segment follows the head. */
static const char *block_range(unsigned type, unsigned sector, unsigned sectors)
{
    unsigned char range[16] = { 0 };

    for (unsigned i = 0; i < 4; i++) {
        range[i] = (unsigned char)(sector >> 8 * i);
        range[8 + i] = (unsigned char)(sectors >> 8 * i);
    }
    return fmt("%s%s", block_head(type, 0), hex(range, sizeof range));
}

static void block_request(const char *spec, const char *request, int status)
{
    struct run run = { 0 };

    run_husk(&run, "-d", spec, "-a", fmt("judge count=1 %s", request),
             guest("flow"));
    if (status == 0)
        check_quiet_end(&run, 0, "pass");
    else
        check_out(&run, fmt("fail: a request ended with status %d\n", status));
    run_free(&run);
}

static void fill_disk(const char *disk)
{
    struct run run = { 0 };

    run_husk(&run, "-d", disk_spec(disk, ""), "-a", "size=1m", guest("block"));
    check_quiet_end(&run, 0, "pass");
    run_free(&run);
}

Test(bundled, block_read_only)
{
    const char *disk = disk_make("disk", 1 << 20), *spec;
    struct run run = { 0 };

    fill_disk(disk);
    cr_assert(chmod(disk, 0400) == 0);
    spec = disk_spec(disk, "--read-only --queues=2");
    run_husk(&run, "-d", spec, guest("block"));
    check_out(&run, "fail: virtio0: is read-only\n");
    run_free(&run);
    run_husk(&run, "-d", spec, "-a", "only-read size=1m packed",
             guest("block"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "block: read 1048576 bytes, pass\n");
    run_free(&run);
    block_request(spec, fmt("head=%s in=513", block_head(0, 7)), 0);
    block_request(spec, fmt("head=%s out=512 in=1", block_head(1, 7)), 1);
    block_request(spec, fmt("head=%s in=1", block_range(13, 0, 8)), 1);
    block_request(spec, fmt("head=%s in=1", block_range(11, 0, 8)), 1);
    disk_check(disk, 1 << 20, 1 << 20);
}

/* A request that is refused changes nothing. */
Test(bundled, block_requests_that_are_wrong)
{
    const char *disk = disk_make("disk", 1 << 20);
    const char *spec = disk_spec(disk, "");

    fill_disk(disk);
    block_request(spec, fmt("head=%s in=513", block_head(0, 2048)), 1);
    block_request(spec, fmt("head=%s in=1025", block_head(0, 2047)), 1);
    block_request(spec, fmt("head=%s out=512 in=1", block_head(1, 2048)), 1);
    block_request(spec, fmt("head=%s out=512 in=1", block_head(1, 1ull << 55)),
                  1);
    block_request(spec, fmt("head=%s out=512 in=1", block_head(1, ~0ull)), 1);
    block_request(spec, fmt("head=%s out=100 in=1", block_head(1, 0)), 1);
    block_request(spec, fmt("head=%s in=1", block_range(13, 2047, 2)), 1);
    block_request(spec, fmt("head=%s in=1", block_range(11, 0, 4096)), 1);
    block_request(spec, fmt("head=%s in=1", block_head(99, 0)), 2);
    disk_check(disk, 1 << 20, 1 << 20);
}

Test(bundled, block_write_zeroes_and_discard)
{
    const char *disk = disk_make("disk", 1 << 20);
    const char *spec = disk_spec(disk, "");

    fill_disk(disk);
    block_request(spec, fmt("head=%s in=1", block_range(13, 1024, 1024)), 0);
    disk_check(disk, 1 << 20, 512 << 10);
    block_request(spec, fmt("head=%s in=1", block_range(13, 1, 1023)), 0);
    disk_check(disk, 1 << 20, 512);
    fill_disk(disk);
    /* what is discarded may read as anything; all else stays */
    block_request(spec, fmt("head=%s in=1", block_range(11, 1024, 1024)), 0);
    cr_assert(truncate(disk, 512 << 10) == 0);
    disk_check(disk, 512 << 10, 512 << 10);
}

/* console */

Test(bundled, console_to_a_file)
{
    static const char line[] = "sixteen letters\n";

    for (size_t i = 0; i < N_RINGS; i++) {
        const char *file = place(fmt("output%zu", i));
        struct run run = { 0 };
        size_t size;
        char *bytes;

        run_husk(
            &run, "-d", fmt("%s --file=%s", exec_spec("husk-console"), file),
            "-a",
            fmt("queue=1 in=0 count=400 head=%s %s", hex(line, 16), rings[i]),
            guest("flow"));
        check_quiet_end(&run, 0, "pass");
        CHECK_EQ(device_int(&run, 0, "id"), 3);
        bytes = contents(file, &size);
        CHECK_EQ(size, 6400);
        CHECK_EQ(count_text(bytes, line), 400);
        free(bytes);
        run_free(&run);
    }
}

static int unix_socket(const char *path, bool listening)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;
    double until = now() + SOON;

    cr_assert(fd >= 0 && strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    if (listening) {
        cr_assert(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
        cr_assert(listen(fd, 1) == 0);
        return fd;
    }
    do {
        rc = connect(fd, (struct sockaddr *)&address, sizeof address);
        if (rc < 0)
            nap(0.005);
    } while (rc < 0 && now() < until);
    cr_assert(rc == 0, "%s: %s", path, strerror(errno));
    return fd;
}

/* All of it, and soon. */
static void receive(int fd, void *to, size_t size)
{
    char *at = to;

    while (size > 0) {
        struct pollfd polled = { .fd = fd, .events = POLLIN };
        ssize_t n = poll(&polled, 1, 1000 * SOON) == 1 ? read(fd, at, size) : 0;

        cr_assert(n > 0, "%zu bytes of %zu never came", size,
                  size + (size_t)(at - (char *)to));
        at += n;
        size -= (size_t)n;
    }
}

static void transmit(int fd, const void *from, size_t size)
{
    const char *at = from;

    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

        cr_assert(n > 0, "send: %s", strerror(errno));
        at += n;
        size -= (size_t)n;
    }
}

Test(bundled, console_with_a_client)
{
    const char *path = place("client");
    struct backend console;
    char bytes[4096];

    backend_start(&console, "husk-console", fmt("--unix=%s", path));
    for (size_t i = 0; i < 2; i++) {
        struct run run = { 0 };
        int client = unix_socket(path, false);

        nap(0.05); /* until it was let in: output to nobody is dropped */
        start_husk(&run, "-d", console.socket, "-a",
                   fmt("queue=1 in=0 count=200 head=%s %s",
                       hex("a line of sixteen...", 20), i ? "packed" : ""),
                   guest("flow"));
        receive(client, bytes, 4000);
        bytes[4000] = 0;
        CHECK_EQ(count_text(bytes, "a line of sixteen..."), 200);
        run_end(&run);
        check_quiet_end(&run, 0, "pass");
        run_free(&run);
        close(client);
    }
    backend_stop(&console);
    CHECK_STR(console.run.err, "");
    CHECK_EQ(console.run.status, 0);
    run_free(&console.run);
}

Test(bundled, console_input)
{
    const char *path = place("client");
    struct backend console;
    struct run run = { 0 };
    int client;

    backend_start(&console, "husk-console", fmt("--unix=%s", path),
                  "--size=80x25");
    client = unix_socket(path, false);
    transmit(client, "typed", 5);
    run_husk(&run, "-d", console.socket, guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "virtio0: id 3 at 0xd0000000 irq 5 queues 2 config 12 ");
    check_out(&run, "virtio0 config: 50001900");
    check_out(&run, "virtio0 queue 0: 5 bytes 7479706564\n");
    run_free(&run);
    close(client);
    backend_stop(&console);
    CHECK_STR(console.run.err, "");
    run_free(&console.run);
}

/* net */

#define FRAME 60u

static void make_frame(unsigned char *frame, unsigned number)
{
    memset(frame, 0xff, 6); /* to everybody */
    memcpy(frame + 6, "\x52\x55\x01\x02\x03\x04\x88\xb5", 8);
    for (unsigned i = 14; i < FRAME; i++)
        frame[i] = (unsigned char)(i * 7 + number);
}

static const char *net_spec(const char *peer)
{
    return fmt("%s --mac=52:55:00:00:00:01 --mtu=1400 --unix-connect=%s",
               exec_spec("husk-net"), peer);
}

Test(bundled, net_transmit)
{
    int listener = unix_socket(place("peer"), true);
    unsigned char frame[12 + FRAME] = { 0 };

    make_frame(frame + 12, 1);
    for (size_t i = 0; i < N_RINGS; i++) {
        struct run run = { 0 };
        int peer;

        start_husk(&run, "-d", net_spec(place("peer")), "-a",
                   fmt("queue=1 in=0 count=300 head=%s out=%u %s",
                       hex(frame, 64), (unsigned)sizeof frame - 64, rings[i]),
                   guest("flow"));
        peer = accept(listener, NULL, NULL);
        for (unsigned n = 0; n < 300; n++) {
            unsigned char got[FRAME];
            uint32_t size;

            receive(peer, &size, sizeof size);
            CHECK_EQ(ntohl(size), FRAME);
            receive(peer, got, sizeof got);
            /* the guest's head ends at byte 64, and zeros follow */
            cr_assert(memcmp(got, frame + 12, 52) == 0, "frame %u is %s", n,
                      hex(got, sizeof got));
            for (unsigned k = 52; k < FRAME; k++)
                CHECK_EQ(got[k], 0);
        }
        run_end(&run);
        check_quiet_end(&run, 0, "pass");
        CHECK_EQ(device_int(&run, 0, "id"), 1);
        run_free(&run);
        CHECK_EQ(recv(peer, frame, 1, MSG_DONTWAIT), 0); /* and no more */
        close(peer);
    }
    close(listener);
}

static void send_frame(int peer, const unsigned char *frame, uint32_t size)
{
    uint32_t prefix = htonl(size);

    transmit(peer, &prefix, sizeof prefix);
    transmit(peer, frame, size);
}

Test(bundled, net_receive)
{
    int listener = unix_socket(place("peer"), true);

    for (size_t i = 0; i < N_RINGS; i++) {
        unsigned char frame[FRAME];
        struct run run = { 0 };
        int peer;

        start_husk(&run, "-d", net_spec(place("peer")), "-a",
                   fmt("queue=0 in=1526 count=300 %s", rings[i]),
                   guest("flow"));
        peer = accept(listener, NULL, NULL);
        for (unsigned n = 0; n < 300; n++) {
            make_frame(frame, n);
            send_frame(peer, frame, FRAME);
        }
        run_end(&run);
        check_quiet_end(&run, 0, "pass");
        run_free(&run);
        close(peer);
    }
    close(listener);
}

/* A frame that has no room in the buffer is dropped, the next one is not. */
Test(bundled, net_receives_what_is_sent_to_it)
{
    static const unsigned char mac[6] = { 0x52, 0x55, 0, 0, 0, 1 };
    int listener = unix_socket(place("peer"), true), peer;
    unsigned char frame[FRAME], want[12 + 50] = { 0 };
    struct run run = { 0 };

    start_husk(&run, "-d", net_spec(place("peer")), guest("devices"));
    peer = accept(listener, NULL, NULL);
    make_frame(frame, 0);
    send_frame(peer, frame, FRAME);
    make_frame(frame, 9);
    memcpy(frame, mac, sizeof mac);
    send_frame(peer, frame, 50);
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    check_out(&run, "virtio0: id 1 at 0xd0000000 irq 5 queues 3 config 12 ");
    check_out(&run, "virtio0 config: 525500000001");
    want[10] = 1; /* num_buffers; the header is of 12 bytes */
    memcpy(want + 12, frame, 50);
    check_out(&run,
              fmt("virtio0 queue 0: 62 bytes %s\n", hex(want, sizeof want)));
    run_free(&run);
    close(peer);
    close(listener);
}

/* loop and rng */

Test(bundled, loop_of_any_request)
{
    static const char *const shapes[] = { "in=1", "in=4096 out=4096",
                                          "out=1 in=64", "head=00ff in=2",
                                          "in=0 out=64" };

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (unsigned queue = 0; queue < 3; queue++) {
            struct run run = { 0 };

            run_husk(&run, "-d", fmt("%s --queues=3", exec_spec("husk-loop")),
                     "-a",
                     fmt("queue=%u count=200 %s %s", queue, shapes[i],
                         rings[(i * 3 + queue) % N_RINGS]),
                     guest("flow"));
            check_quiet_end(&run, 0, "pass");
            run_free(&run);
        }
}

/* A request whose bytes come back as they were sent. */
Test(bundled, loop_echoes)
{
    struct run run = { 0 };

    run_husk(&run, "-d", exec_spec("husk-loop"), "-a",
             "judge head=a100 in=2 count=500 packed", guest("flow"));
    check_quiet_end(&run, 0, "pass");
    run_free(&run);
    run_husk(&run, "-d", exec_spec("husk-loop"), "-a",
             "judge head=a107 in=2 count=1", guest("flow"));
    check_out(&run, "fail: a request ended with status 7\n");
    run_free(&run);
}

Test(bundled, rng_with_all_rings)
{
    const char *before = "";

    for (size_t i = 0; i < N_RINGS; i++) {
        struct run run = { 0 };

        run_husk(&run, "-d", exec_spec("husk-rng"), "-a",
                 fmt("strict count=100 depth=7 %s", rings[i]),
                 guest("devices"));
        check_quiet_end(&run, 0, "pass");
        cr_assert(strcmp(run.out, before) != 0, "the same twice: %s", before);
        before = fmt("%s", run.out);
        run_free(&run);
    }
}

/* all of them */

#define N_KINDS 5

static void count_exits(const char *spec, const char *append, long long *exits)
{
    static const char *const kinds[N_KINDS] = { "io", "mmio_read", "mmio_write",
                                                "hlt", "other" };
    struct run run = { 0 };

    run_husk(&run, "-d", spec, "-a", append, guest("flow"));
    check_quiet_end(&run, 0, "pass");
    for (size_t i = 0; i < N_KINDS; i++)
        exits[i] = record_int(&run, "exits", kinds[i]);
    run_free(&run);
}

/* The guest says nothing, so that all its exits are those of its start. */
static void same_exits(const char *spec, const char *append)
{
    for (size_t r = 0; r < N_RINGS; r += 7) { /* none of them, and all */
        long long few[N_KINDS], many[N_KINDS];

        count_exits(spec, fmt("%s %s count=10", append, rings[r]), few);
        count_exits(spec, fmt("%s %s count=510", append, rings[r]), many);
        for (size_t i = 0; i < N_KINDS; i++)
            cr_assert(few[i] == many[i],
                      "%s %s: %lld and %lld exits of kind %zu", append,
                      rings[r], few[i], many[i], i);
        CHECK_EQ(many[1], 0);
        CHECK_EQ(many[4], 0);
    }
}

Test(bundled, no_exit_a_request_of_console)
{
    same_exits(fmt("%s --file=/dev/null", exec_spec("husk-console")),
               "queue=1 in=0 head=0a");
}

Test(bundled, no_exit_a_request_of_net)
{
    unsigned char frame[12 + FRAME] = { 0 };

    make_frame(frame + 12, 1);
    same_exits(fmt("%s --unix=%s", exec_spec("husk-net"), place("nobody")),
               fmt("queue=1 in=0 head=%s", hex(frame, 64)));
}

Test(bundled, no_exit_a_request_of_block)
{
    const char *disk = disk_make("disk", 1 << 20);

    same_exits(disk_spec(disk, "--queues=2"),
               fmt("judge queue=1 head=%s in=513", block_head(0, 5)));
}

Test(bundled, no_exit_a_request_of_rng_and_loop)
{
    same_exits(exec_spec("husk-rng"), "in=64");
    same_exits(exec_spec("husk-loop"), "in=64 out=64");
}
