/*
 * husk-console on each kind of peer: every byte arrives once and in order,
 * however slow the peer and whenever the queue is stopped; peers come and go.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/vu_client.h"

#define DATA VU_DATA

enum { RX, TX };

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

static void say(struct vu_client *c, const char *text)
{
    struct buffer b = { DATA, (uint32_t)strlen(text), false };

    memcpy(vu_at(c, DATA), text, b.len);
    cr_assert_eq(vu_do(c, TX, &b, 1), 0);
}

/* Hear exactly text, by way of buffers of 7 bytes. */
static void hear(struct vu_client *c, const char *text)
{
    struct buffer b = { DATA + 4096, 7, true };

    while (*text) {
        uint32_t n = vu_do(c, RX, &b, 1);

        cr_assert(n > 0 && n <= 7);
        cr_assert_arr_eq(vu_at(c, DATA + 4096), text, n);
        text += n;
    }
}

static void expect_read(int fd, const char *text)
{
    size_t size = strlen(text), done = 0;
    char got[256];

    while (done < size) {
        cr_assert(vu_readable(fd, 5000), "after \"%.*s\"", (int)done, got);

        ssize_t n = read(fd, got + done, size - done);

        cr_assert_gt(n, 0);
        done += (size_t)n;
    }
    cr_assert_arr_eq(got, text, size);
}

static void expect_write(int fd, const char *text)
{
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

Test(backend_console, file, .timeout = 30)
{
    char path[] = "/tmp/husk-console-XXXXXX", arg[64];
    const char *args[] = { arg, "--size=132x43", NULL };
    int fd = mkstemp(path);
    struct vu_client c;
    uint8_t config[12];

    expect_write(fd, "before ");
    snprintf(arg, sizeof arg, "--file=%s", path);
    vu_spawn(&c, "husk-console", args);
    vu_start(&c, 0, 2, 8);
    cr_assert_eq(c.specs.id, 3);
    cr_assert_eq(c.specs.config_size, 12);
    cr_assert_eq(c.specs.min_vqs, 2);
    cr_assert_eq(c.offers & 7, 5);
    vu_config(&c, 0, config, 12);
    cr_assert_arr_eq(config, "\x84\0\x2b\0\1\0\0\0\0\0\0\0", 12);
    say(&c, "one ");
    say(&c, "");
    say(&c, "two");

    /* a character through config space */
    uint8_t message[16] = { 8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, '!' };

    cr_assert_eq(vu_set(&c, VU_SET_CONFIG, message, 16, -1), 0);
    message[0] = 0;
    cr_assert_neq(vu_set(&c, VU_SET_CONFIG, message, 16, -1), 0);
    vu_end(&c, 0);
    lseek(fd, 0, SEEK_SET);
    expect_read(fd, "before one two!");
    close(fd);
    unlink(path);
}

static void pipes_of(uint64_t features)
{
    static const char *const args[] = { "--stdio", NULL };
    struct vu_client c;
    int in[2], out[2];

    cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
    vu_spawn_io(&c, "husk-console", args, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    /* what was typed before the guest was there is not lost */
    expect_write(in[1], "early, ");
    vu_start(&c, features, 2, 8);
    cr_assert_eq(c.offers & 7, 4);
    for (unsigned turn = 0; turn < 50; turn++) {
        say(&c, "hello there\n");
        expect_read(out[0], "hello there\n");
        expect_write(in[1], "and back again");
        hear(&c, turn ? "and back again" : "early, and back again");
    }
    /* buffers first, input later */
    for (unsigned i = 0; i < 3; i++) {
        struct buffer b = { DATA + 4096, 64, true };
        uint32_t len;

        cr_assert_geq(driver_add(&c.queue[RX].driver, &b, 1), 0);
        vu_kick(&c, RX);
        usleep(10000);
        cr_assert_eq(driver_get(&c.queue[RX].driver, &len), -1);
        expect_write(in[1], "later");
        vu_wait(&c, RX, &len);
        cr_assert_eq(len, 5);
    }
    /* the end of input ends nothing */
    close(in[1]);
    usleep(10000);
    say(&c, "still here");
    expect_read(out[0], "still here");
    /* nor does the end of output, but it is said */
    close(out[0]);
    say(&c, "into the void");
    say(&c, "again");
    vu_says(&c, "output: Broken pipe; all further output is dropped");
    vu_end(&c, 0);
}

Test(backend_console, pipes, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        pipes_of(kinds[i]);
}

/*
 * Two megabytes to a reader that is slower, with the queue stopped and set up
 * anew in the middle of chains: each byte once.
 */
static void slow_of(uint64_t features)
{
    static const char *const args[] = { "--stdio", NULL };
    enum { TOTAL = 2 << 20, CHUNK = 50000 };
    struct vu_client c;
    int out[2];
    uint32_t sent = 0, got = 0, len;
    unsigned in_flight = 0;

    cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
    vu_spawn_io(&c, "husk-console", args, -1, out[1]);
    close(out[1]);
    vu_start(&c, features, 2, 8);
    for (unsigned turn = 0; got < TOTAL; turn++) {
        while (sent < TOTAL && in_flight < 3) {
            uint64_t at = DATA + 0x10000u * (sent / CHUNK % 4);
            uint32_t n = TOTAL - sent < CHUNK ? TOTAL - sent : CHUNK;
            struct buffer b[] = { { at, n / 2, false },
                                  { at + n / 2, n - n / 2, false } };

            for (uint32_t i = 0; i < n; i++)
                *(uint8_t *)vu_at(&c, at + i) = (uint8_t)((sent + i) % 251);
            if (driver_add(&c.queue[TX].driver, b, 2) < 0)
                break;
            sent += n;
            in_flight++;
        }
        vu_kick(&c, TX);
        if (turn % 100 == 50) {
            uint32_t base = vu_queue_stop(&c, TX);

            vu_queue_resume(&c, TX, base);
        }

        uint8_t bytes[8192];
        ssize_t n = vu_readable(out[0], 5000)
                        ? read(out[0], bytes, 1 + (turn * 997) % sizeof bytes)
                        : 0;

        cr_assert_gt(n, 0, "%u sent, %u read", sent, got);
        for (ssize_t i = 0; i < n; i++, got++)
            cr_assert_eq(bytes[i], got % 251, "byte %u", got);
        while (driver_get(&c.queue[TX].driver, &len) >= 0)
            in_flight--;
    }
    while (in_flight) {
        vu_wait(&c, TX, &len);
        in_flight--;
    }
    cr_assert_not(vu_readable(out[0], 50));
    vu_end(&c, 0);
    close(out[0]);
}

Test(backend_console, slow_reader, .timeout = 120)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        slow_of(kinds[i]);
}

static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    strcpy(addr.sun_path, path);
    for (int i = 0; i < 500; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (!connect(fd, (struct sockaddr *)&addr, sizeof addr))
            return fd;
        close(fd);
        usleep(10000);
    }
    cr_assert_fail("nobody listens at %s", path);
    return -1;
}

Test(backend_console, socket, .timeout = 60)
{
    char dir[] = "/tmp/husk-test-XXXXXX", path[64], arg[96];
    const char *args[] = { arg, NULL };
    struct vu_client c;

    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/sock", dir);
    snprintf(arg, sizeof arg, "--unix=%s", path);
    vu_spawn(&c, "husk-console", args);
    vu_start(&c, 0, 2, 8);
    say(&c, "nobody hears this");
    for (unsigned turn = 0; turn < 3; turn++) {
        int fd = connect_to(path), next = -1;

        expect_write(fd, "hi");
        hear(&c, "hi"); /* and so it was let in */
        say(&c, "welcome");
        expect_read(fd, "welcome");
        /* the next one is let in when this one has gone */
        next = connect_to(path);
        expect_write(next, "me too");
        say(&c, "not to you");
        expect_read(fd, "not to you");
        cr_assert_not(vu_readable(next, 20));
        if (turn == 1) { /* it goes without reading a lot that is for it */
            struct buffer b = { DATA, 1 << 20, false };

            cr_assert_geq(driver_add(&c.queue[TX].driver, &b, 1), 0);
            vu_kick(&c, TX);
            usleep(20000);
            close(fd);

            uint32_t len;

            vu_wait(&c, TX, &len);
        } else {
            close(fd);
        }
        hear(&c, "me too");
        say(&c, "your turn");
        expect_read(next, "your turn");
        close(next);
    }
    vu_end(&c, 0);
    cr_assert_neq(access(path, F_OK), 0);
    rmdir(dir);
}

static void expect_size(struct vu_client *c, unsigned cols, unsigned rows)
{
    struct vu_header h,
        answer = { VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION | VU_REPLY, 8 };
    uint16_t config[2];
    uint64_t zero = 0;

    cr_assert(vu_readable(c->uplink, 5000), "no CONFIG_CHANGE");
    cr_assert_eq(read(c->uplink, &h, sizeof h), (ssize_t)sizeof h);
    cr_assert_eq(h.request, VU_BACKEND_CONFIG_CHANGE_MSG);
    cr_assert_eq(write(c->uplink, &answer, sizeof answer),
                 (ssize_t)sizeof answer);
    cr_assert_eq(write(c->uplink, &zero, 8), 8);
    vu_config(c, 0, config, 4);
    cr_assert_eq(config[0], cols);
    cr_assert_eq(config[1], rows);
}

Test(backend_console, pty, .timeout = 60)
{
    static const char *const args[] = { "--pty", NULL };
    struct winsize size = { .ws_col = 100, .ws_row = 50 };
    struct vu_client c;
    char name[64] = { 0 };
    uint16_t config[2];
    int out[2];

    cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
    vu_spawn_io(&c, "husk-console", args, -1, out[1]);
    close(out[1]);
    vu_start(&c, 0, 2, 8);
    cr_assert_eq(c.offers & 7, 5);
    vu_config(&c, 0, config, 4);
    cr_assert_eq(config[0], 80);
    cr_assert_eq(config[1], 24);
    cr_assert(vu_readable(out[0], 5000));
    cr_assert_gt(read(out[0], name, sizeof name - 1), 1);
    *strchr(name, '\n') = 0;
    say(&c, "nobody hears this");
    for (unsigned turn = 0; turn < 2; turn++) {
        int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);

        cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
        expect_write(fd, "typed\r");
        hear(&c, "typed\r"); /* no echo, no line discipline */
        say(&c, "line\n");
        expect_read(fd, "line\n");
        size.ws_col++;
        cr_assert_eq(ioctl(fd, TIOCSWINSZ, &size), 0);
        expect_size(&c, size.ws_col, 50);
        close(fd);
        usleep(300000); /* seen to be gone */
        say(&c, "nobody again");
    }
    vu_end(&c, 0);
    close(out[0]);
}

/* A terminal: raw while the program runs, as it was afterwards; sizes. */
Test(backend_console, terminal, .timeout = 60)
{
    static const char *const args[] = { "--stdio", NULL };
    struct winsize size = { .ws_col = 90, .ws_row = 30 };
    struct termios before, during, after;
    struct vu_client c;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int slave;

    cr_assert_geq(master, 0);
    grantpt(master);
    unlockpt(master);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert_geq(slave, 0);
    cr_assert_eq(ioctl(slave, TIOCSWINSZ, &size), 0);
    tcgetattr(slave, &before);
    vu_spawn_io(&c, "husk-console", args, slave, slave);
    vu_start(&c, 0, 2, 8);
    cr_assert_eq(c.offers & 7, 5);
    tcgetattr(slave, &during);
    cr_assert_not(during.c_lflag & (ICANON | ECHO | ISIG));

    uint16_t config[2];

    vu_config(&c, 0, config, 4);
    cr_assert_eq(config[0], 90);
    expect_write(master, "\003");
    hear(&c, "\003");
    expect_write(master, "a\001\001b");
    hear(&c, "a\001b");
    say(&c, "x\n");
    expect_read(master, "x\n");
    size.ws_row = 31;
    cr_assert_eq(ioctl(slave, TIOCSWINSZ, &size), 0);
    kill(c.pid, SIGWINCH);
    expect_size(&c, 90, 31);
    /* others who have that terminal open do not find it non-blocking */
    cr_assert_not(fcntl(slave, F_GETFL) & O_NONBLOCK);
    expect_write(master, "\001x");
    vu_end(&c, 0);
    tcgetattr(slave, &after);
    cr_assert_eq(before.c_lflag, after.c_lflag);
    cr_assert_eq(before.c_iflag, after.c_iflag);
    cr_assert_eq(before.c_oflag, after.c_oflag);
    close(slave);
    close(master);
}

Test(backend_console, options, .timeout = 30)
{
    static const struct {
        const char *args[3];
        const char *says;
    } rows[] = {
        { { NULL }, "one of --file, --stdio, --pty and --unix" },
        { { "--pty", "--stdio" }, "only one of --file" },
        { { "--stdio", "--size=80" }, "--size=80: give COLUMNSxROWS" },
        { { "--stdio", "--size=80x24x" }, "give COLUMNSxROWS" },
        { { "--stdio", "--size=70000x24" }, "give COLUMNSxROWS" },
        { { "--file=/nowhere/x" }, "/nowhere/x: No such file" },
        { { "--unix=/nowhere/x" }, "/nowhere/x: No such file" },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct vu_client c;

        vu_spawn(&c, "husk-console", rows[i].args);
        vu_says(&c, rows[i].says);
        vu_end(&c, 1);
    }
}
