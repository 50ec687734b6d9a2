/*
 * husk-net with a peer on a socket, and on a tap device where there may be one:
 * frames both ways over every kind of ring, a guest without buffers, the
 * control queue and its filter, and peers and guests that send nonsense.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/vu_client.h"

#define DATA   VU_DATA
#define HEADER 12u

enum { RX, TX, CTRL };

#define F_CTRL (UINT64_C(0x160000)) /* CTRL_VQ, CTRL_RX, CTRL_RX_EXTRA */
#define F_ADDR (UINT64_C(1) << 23)

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

/* A card that listens, and its peer. */
struct net {
    struct vu_client c;
    char dir[32], path[64], arg[96];
    int peer;
};

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

static void net_init(struct net *n)
{
    const char *args[] = { n->arg, "--mac=52:54:00:12:34:56", "--mtu=1400",
                           NULL };

    strcpy(n->dir, "/tmp/husk-test-XXXXXX");
    cr_assert_not_null(mkdtemp(n->dir));
    snprintf(n->path, sizeof n->path, "%s/sock", n->dir);
    snprintf(n->arg, sizeof n->arg, "--unix=%s", n->path);
    vu_spawn(&n->c, "husk-net", args);
    n->peer = connect_to(n->path);
}

static void net_fini(struct net *n)
{
    vu_end(&n->c, 0);
    close(n->peer);
    rmdir(n->dir);
}

static void fill(uint8_t *frame, uint32_t size, unsigned seed)
{
    memcpy(frame, "\x52\x54\x00\x12\x34\x56", 6);
    for (uint32_t i = 6; i < size; i++)
        frame[i] = (uint8_t)(i * 11 + seed);
}

static void peer_sends(int fd, const uint8_t *frame, uint32_t size)
{
    uint32_t prefix = htonl(size);

    cr_assert_eq(write(fd, &prefix, 4), 4);
    cr_assert_eq(write(fd, frame, size), (ssize_t)size);
}

static void read_all(int fd, void *to, size_t size)
{
    uint8_t *at = to;

    while (size) {
        cr_assert(vu_readable(fd, 5000));

        ssize_t n = read(fd, at, size);

        cr_assert_gt(n, 0);
        at += n;
        size -= (size_t)n;
    }
}

static void peer_gets(int fd, const uint8_t *frame, uint32_t size)
{
    static uint8_t got[70000];
    uint32_t prefix;

    read_all(fd, &prefix, 4);
    cr_assert_eq(ntohl(prefix), size);
    read_all(fd, got, size);
    cr_assert_eq(memcmp(got, frame, size), 0);
}

/* The guest sends a frame in pieces. */
static void guest_sends(struct vu_client *c, const uint8_t *frame,
                        uint32_t size, uint32_t piece)
{
    struct buffer b[32] = { { DATA, HEADER, false } };
    unsigned n = 1;

    memset(vu_at(c, DATA), 0xff, HEADER); /* nonsense that must not matter */
    memcpy(vu_at(c, DATA + 64), frame, size);
    for (uint32_t at = 0; at < size; at += piece, n++)
        b[n] = (struct buffer){ DATA + 64 + at,
                                size - at < piece ? size - at : piece, false };
    cr_assert_eq(vu_do(c, TX, b, n), 0);
}

/* The guest has a buffer of size bytes, in two pieces; gets a frame. */
static void guest_offers(struct vu_client *c, unsigned slot, uint32_t size)
{
    uint64_t at = DATA + 0x100000 + slot * 0x11000;
    struct buffer b[] = { { at, HEADER, true },
                          { at + HEADER, size - HEADER, true } };

    cr_assert_geq(driver_add(&c->queue[RX].driver, b, 2), 0);
    vu_kick(c, RX);
}

static void guest_gets(struct vu_client *c, unsigned slot, const uint8_t *frame,
                       uint32_t size)
{
    uint8_t *at = vu_at(c, DATA + 0x100000 + slot * 0x11000);
    uint32_t len;

    vu_wait(c, RX, &len);
    cr_assert_eq(len, HEADER + size);
    cr_assert_arr_eq(at, "\0\0\0\0\0\0\0\0\0\0\1\0", HEADER);
    cr_assert_eq(memcmp(at + HEADER, frame, size), 0);
}

static void both_ways_of(uint64_t features)
{
    static const uint32_t sizes[] = { 14, 15, 60, 1514, 9000, 65550 };
    static uint8_t frame[65550];
    struct net n;

    net_init(&n);
    vu_start(&n.c, features, 3, 32);
    cr_assert_eq(n.c.specs.id, 1);
    cr_assert_eq(n.c.specs.config_size, 12);
    cr_assert_eq(n.c.specs.max_vqs, 3);
    for (unsigned turn = 0; turn < 60; turn++) {
        uint32_t size = sizes[turn % 6];

        fill(frame, size, turn);
        guest_sends(&n.c, frame, size, size < 100 ? 7 : 4096);
        peer_gets(n.peer, frame, size);
        fill(frame, size, turn + 1);
        guest_offers(&n.c, 0, 70000 - 64);
        peer_sends(n.peer, frame, size);
        guest_gets(&n.c, 0, frame, size);
    }
    net_fini(&n);
}

Test(backend_net, both_ways, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        both_ways_of(kinds[i]);
}

/* No buffers: frames wait, in order, none is lost, and the loop sleeps. */
Test(backend_net, no_buffers, .timeout = 60)
{
    uint8_t frame[1514];
    struct net n;

    net_init(&n);
    /* before the guest is there at all */
    fill(frame, 100, 0);
    peer_sends(n.peer, frame, 100);
    vu_start(&n.c, VIRTIO_F_EVENT_IDX, 3, 32);
    for (unsigned i = 1; i < 50; i++) {
        fill(frame, 100 + i, i);
        peer_sends(n.peer, frame, 100 + i);
    }

    char path[64];
    unsigned long ticks[2];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)n.c.pid);
    for (unsigned i = 0; i < 2; i++) {
        FILE *file = fopen(path, "r");

        cr_assert_not_null(file);
        cr_assert_eq(fscanf(file,
                            "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u "
                            "%*u %lu",
                            &ticks[i]),
                     1);
        fclose(file);
        usleep(i ? 0 : 300000);
    }
    cr_assert_leq(ticks[1] - ticks[0], 2); /* of 30 */
    for (unsigned i = 0; i < 50; i++) {
        fill(frame, 100 + i, i);
        guest_offers(&n.c, i % 4, 1600);
        guest_gets(&n.c, i % 4, frame, 100 + i);
    }
    /* a frame too long for the buffer is dropped, the next one is not */
    guest_offers(&n.c, 0, HEADER + 200);
    fill(frame, 1000, 1);
    peer_sends(n.peer, frame, 1000);
    fill(frame, 200, 2);
    peer_sends(n.peer, frame, 200);
    guest_gets(&n.c, 0, frame, 200);
    net_fini(&n);
}

/* A peer that does not read: the guest's frames wait and all arrive. */
Test(backend_net, slow_peer, .timeout = 60)
{
    uint8_t frame[1514];
    struct net n;
    unsigned sent = 0, got = 0;

    net_init(&n);
    vu_start(&n.c, 0, 3, 32);
    while (got < 3000) {
        struct driver *d = &n.c.queue[TX].driver;
        uint32_t len;

        while (sent < 3000) {
            uint64_t at = DATA + 4096u * (sent % 32);
            struct buffer b = { at, HEADER + 1000, false };

            if (d->free < 2)
                break;
            fill(vu_at(&n.c, at + HEADER), 1000, sent);
            cr_assert_geq(driver_add(d, &b, 1), 0);
            sent++;
        }
        vu_kick(&n.c, TX);
        if (got == 0)
            usleep(50000); /* let it fill up */
        for (unsigned i = 0; i < 100 && got < 3000 && got < sent; i++) {
            if (!vu_readable(n.peer, 20))
                break;
            fill(frame, 1000, got++);
            peer_gets(n.peer, frame, 1000);
        }
        while (driver_get(d, &len) >= 0)
            ;
    }
    net_fini(&n);
}

static unsigned command(struct vu_client *c, const void *bytes, uint32_t size)
{
    struct buffer b[] = { { DATA, 2, false },
                          { DATA + 2, size - 2, false },
                          { DATA + 8192, 1, true } };

    memcpy(vu_at(c, DATA), bytes, size);
    *(uint8_t *)vu_at(c, DATA + 8192) = 0xee;
    cr_assert_eq(vu_do(c, CTRL, b, 3), 1);
    return *(uint8_t *)vu_at(c, DATA + 8192);
}

/* Whether a frame to that address passes; the one after it always does. */
static bool passes(struct net *n, const char *mac)
{
    uint8_t frame[64] = { 0 };
    uint8_t *at = (uint8_t *)vu_at(&n->c, DATA + 0x100000) + HEADER;
    uint32_t len;

    memcpy(frame, mac, 6);
    frame[20] = 1;
    peer_sends(n->peer, frame, 64);
    memcpy(frame, "\x52\x54\x00\x12\x34\x56", 6);
    frame[20] = 2;
    peer_sends(n->peer, frame, 64);
    guest_offers(&n->c, 0, 200);
    vu_wait(&n->c, RX, &len);
    if (at[20] == 2)
        return false;
    guest_offers(&n->c, 0, 200);
    vu_wait(&n->c, RX, &len);
    cr_assert_eq(at[20], 2);
    return true;
}

#define OTHER     "\x52\x54\x00\x99\x99\x99"
#define MULTICAST "\x01\x00\x5e\x00\x00\x01"
#define BROADCAST "\xff\xff\xff\xff\xff\xff"

Test(backend_net, control, .timeout = 60)
{
    struct net n;
    uint8_t table[2 + 8 + 12], big[2 + 8 + 65 * 6] = { 1, 0, 65 };
    uint8_t config[12];

    net_init(&n);
    vu_start(&n.c, F_CTRL | F_ADDR, 3, 32);
    /* as after a reset: all of them */
    cr_assert(passes(&n, OTHER));
    cr_assert(passes(&n, MULTICAST));
    cr_assert(passes(&n, BROADCAST));
    /* the peer has been let in by now: the link is up */
    vu_config(&n.c, 0, config, 12);
    cr_assert_arr_eq(config, "\x52\x54\x00\x12\x34\x56\1\0\1\0\x78\x05", 12);
    cr_assert_eq(command(&n.c, "\0\0\0", 3), 0);
    cr_assert_not(passes(&n, OTHER));
    cr_assert_not(passes(&n, MULTICAST));
    cr_assert(passes(&n, BROADCAST));
    cr_assert_eq(command(&n.c, "\0\1\1", 3), 0);
    cr_assert(passes(&n, MULTICAST));
    cr_assert_eq(command(&n.c, "\0\1\0", 3), 0);
    cr_assert_eq(command(&n.c, "\0\2\1", 3), 0);
    cr_assert(passes(&n, OTHER));
    cr_assert_eq(command(&n.c, "\0\2\0", 3), 0);
    cr_assert_eq(command(&n.c, "\0\5\1", 3), 0);
    cr_assert_not(passes(&n, BROADCAST));
    cr_assert_eq(command(&n.c, "\0\5\0", 3), 0);

    memcpy(table, "\1\0\1\0\0\0" OTHER "\1\0\0\0" MULTICAST, 22);
    cr_assert_eq(command(&n.c, table, 22), 0);
    cr_assert(passes(&n, OTHER));
    cr_assert(passes(&n, MULTICAST));
    cr_assert_not(passes(&n, "\x01\x00\x5e\x00\x00\x02"));
    /* malformed ones change nothing */
    cr_assert_eq(command(&n.c, table, 21), 1);
    table[2] = 2;
    cr_assert_eq(command(&n.c, table, 22), 1);
    memset(table + 2, 0xff, 4);
    cr_assert_eq(command(&n.c, table, 22), 1);
    cr_assert(passes(&n, OTHER));
    cr_assert_not(passes(&n, "\x52\x54\x00\x99\x99\x98"));
    /* more than are kept: all of that kind */
    cr_assert_eq(command(&n.c, big, sizeof big), 0);
    cr_assert(passes(&n, OTHER));
    cr_assert_not(passes(&n, MULTICAST));

    cr_assert_eq(command(&n.c, "\1\1\x52\x54\x00\x12\x34\x57", 8), 0);
    vu_config(&n.c, 0, config, 6);
    cr_assert_eq(config[5], 0x57);
    cr_assert_eq(command(&n.c, "\1\1\x53\x54\x00\x12\x34\x57", 8), 1);
    cr_assert_eq(command(&n.c, "\1\1\x52\x54\x00\x12\x34", 7), 1);

    /* what is not known */
    cr_assert_eq(command(&n.c, "\0\0\2", 3), 1);
    cr_assert_eq(command(&n.c, "\0\0\0\0", 4), 1);
    cr_assert_eq(command(&n.c, "\0\6\1", 3), 1);
    cr_assert_eq(command(&n.c, "\1\2\0", 3), 1);
    cr_assert_eq(command(&n.c, "\2\0\0", 3), 1);
    cr_assert_eq(command(&n.c, "\xff\xff\0", 3), 1);

    /* a reset undoes it all */
    cr_assert_eq(vu_set_u64(&n.c, VU_SET_STATUS, 0), 0);
    vu_config(&n.c, 0, config, 6);
    cr_assert_eq(config[5], 0x56);
    vu_features(&n.c, F_CTRL & ~(UINT64_C(1) << 20));
    for (unsigned i = 0; i < 3; i++)
        vu_queue_start(&n.c, i, 32);
    vu_driver_ok(&n.c);
    cr_assert(passes(&n, OTHER));
    /* without its feature a command is none */
    cr_assert_eq(command(&n.c, "\0\2\1", 3), 1);
    cr_assert_eq(command(&n.c, "\1\1\x52\x54\x00\x12\x34\x57", 8), 1);
    cr_assert_eq(command(&n.c, "\0\0\0", 3), 0);

    struct buffer no_answer = { DATA, 3, false };

    cr_assert_geq(driver_add(&n.c.queue[CTRL].driver, &no_answer, 1), 0);
    vu_kick(&n.c, CTRL);
    vu_says(&n.c, "queue 2 stopped: a command without a place for its answer");
    cr_assert_not(passes(&n, OTHER)); /* the others go on */
    net_fini(&n);
}

/* Frames of wrong sizes from the guest, and nonsense from the peer. */
Test(backend_net, nonsense, .timeout = 60)
{
    static uint8_t frame[66000];
    struct net n;
    struct buffer b[] = { { DATA, 5, false },
                          { DATA, 70000, false },
                          { DATA, HEADER, false },
                          { DATA, 25, false },
                          { DATA, 64, true } };

    net_init(&n);
    vu_start(&n.c, 0, 3, 32);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(vu_do(&n.c, TX, &b[i], 1), 0);
    fill(frame, 60, 1);
    guest_sends(&n.c, frame, 60, 60);
    peer_gets(n.peer, frame, 60); /* and nothing before it */
    /* empty frames, by thousands, and a real one behind them */
    for (unsigned i = 0; i < 3000; i++)
        peer_sends(n.peer, frame, i % 14);
    guest_offers(&n.c, 0, 200);
    peer_sends(n.peer, frame, 60);
    guest_gets(&n.c, 0, frame, 60);
    /* a length that cannot be: that peer is left, the next one is served */
    uint8_t config[12];

    cr_assert_eq(write(n.peer, "\xff\xff\xff\xff", 4), 4);
    vu_says(&n.c, "peer: a frame that is too long");
    close(n.peer);
    for (int i = 0; i < 500; i++) {
        vu_config(&n.c, 0, config, 12);
        if (!config[6])
            break;
        usleep(10000);
    }
    cr_assert_eq(config[6], 0);
    guest_sends(&n.c, frame, 60, 60);         /* to nobody */
    cr_assert(vu_readable(n.c.uplink, 5000)); /* and the guest was told */
    n.peer = connect_to(n.path);
    guest_offers(&n.c, 0, 200);
    peer_sends(n.peer, frame, 60);
    guest_gets(&n.c, 0, frame, 60);
    vu_config(&n.c, 0, config, 12);
    cr_assert_eq(config[6], 1);
    net_fini(&n);
}

/* The card connects, in bytes: a prefix may come in pieces. */
Test(backend_net, connects, .timeout = 60)
{
    char path[] = "/tmp/husk-test-XXXXXX", arg[128];
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
    const char *args[] = { arg, NULL };
    uint8_t frame[64], config[6], again[6];
    struct vu_client c;

    cr_assert_not_null(mkdtemp(path));
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/s", path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    cr_assert_eq(listen(fd, 2), 0);
    snprintf(arg, sizeof arg, "--unix-connect=%s", addr.sun_path);
    for (unsigned turn = 0; turn < 2; turn++) {
        vu_spawn(&c, "husk-net", args);
        peer = accept(fd, NULL, NULL);
        cr_assert_geq(peer, 0);
        vu_start(&c, 0, 3, 8);
        /* its address is its own, and the same each time */
        vu_config(&c, 0, turn ? again : config, 6);
        cr_assert_eq(config[0] & 3, 2);
        fill(frame, 64, turn);
        guest_offers(&c, 0, 200);
        cr_assert_eq(write(peer, "\0", 1), 1);
        usleep(5000);
        cr_assert_eq(write(peer, "\0\0", 2), 2);
        usleep(5000);
        cr_assert_eq(write(peer, "\x40", 1), 1);
        usleep(5000);
        cr_assert_eq(write(peer, frame, 30), 30);
        usleep(5000);
        cr_assert_eq(write(peer, frame + 30, 34), 34);
        guest_gets(&c, 0, frame, 64);
        close(peer);
        vu_says(&c, "peer: hung up");
        vu_end(&c, 0);
    }
    cr_assert_arr_eq(config, again, 6);
    close(fd);
    unlink(addr.sun_path);
    /* nobody there */
    vu_spawn(&c, "husk-net", args);
    vu_says(&c, "No such file or directory");
    vu_end(&c, 1);
    rmdir(path);
}

/* A tap device, where this test may have one, in a network of its own. */
Test(backend_net, tap, .timeout = 60)
{
    static const char *const args[] = { "--tap=husktest0", NULL };
    uint8_t frame[1514], got[2048];
    struct vu_client c;
    struct ifreq ifr = { .ifr_name = "husktest0" };

    if (access("/dev/net/tun", R_OK | W_OK) < 0 || unshare(CLONE_NEWNET) < 0)
        cr_skip_test("no tap devices here");
    vu_spawn(&c, "husk-net", args);
    vu_handshake(&c);

    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(3));

    cr_assert_geq(fd, 0);
    cr_assert_eq(ioctl(fd, SIOCGIFINDEX, &ifr), 0, "%s", strerror(errno));

    struct sockaddr_ll at = { .sll_family = AF_PACKET,
                              .sll_protocol = htons(3),
                              .sll_ifindex = ifr.ifr_ifindex };

    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    vu_features(&c, 0);
    for (unsigned i = 0; i < 3; i++)
        vu_queue_start(&c, i, 8);
    vu_driver_ok(&c);
    fill(frame, 1514, 3);
    guest_sends(&c, frame, 1514, 400); /* down: dropped, and no harm done */
    ioctl(fd, SIOCGIFFLAGS, &ifr);
    ifr.ifr_flags |= IFF_UP;
    cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
    for (unsigned turn = 0; turn < 10; turn++) {
        ssize_t n;

        fill(frame, 1514, turn);
        frame[12] = 0x88;
        frame[13] = 0xb5;
        guest_sends(&c, frame, 1514, 400);
        do { /* the kernel says things of its own on a new interface */
            cr_assert(vu_readable(fd, 5000));
            n = read(fd, got, sizeof got);
        } while (n != 1514 || memcmp(got, frame, 1514) != 0);

        fill(frame, 1000, turn + 100);
        cr_assert_eq(write(fd, frame, 1000), 1000);
        for (uint32_t len = 0; len != HEADER + 1000;) {
            guest_offers(&c, 0, 1600);
            vu_wait(&c, RX, &len);
        }
        cr_assert_eq(memcmp(vu_at(&c, DATA + 0x100000 + HEADER), frame, 1000),
                     0);
    }
    vu_end(&c, 0);
    close(fd);
}

Test(backend_net, options, .timeout = 30)
{
    static const struct {
        const char *args[3];
        const char *says;
    } rows[] = {
        { { NULL }, "one of --tap, --unix and --unix-connect" },
        { { "--tap=x", "--unix=y" }, "only one of --tap" },
        { { "--tap=" }, "1 to 15 bytes" },
        { { "--tap=0123456789012345" }, "1 to 15 bytes" },
        { { "--mac=52:54:00:12:34" }, "give the address of one station" },
        { { "--mac=53:54:00:12:34:56" }, "give the address of one station" },
        { { "--mac=52:54:00:12:34:5g" }, "give the address of one station" },
        { { "--mtu=67" }, "--mtu=67: give a number from 68 to 65535" },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct vu_client c;

        vu_spawn(&c, "husk-net", rows[i].args);
        vu_says(&c, rows[i].says);
        vu_end(&c, 1);
    }
}
