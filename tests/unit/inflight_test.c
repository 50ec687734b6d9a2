/*
 * What survives a back-end: rings whose device side is dropped with chains in
 * flight, or in the middle of giving one back, and taken up by another; and a
 * program that is killed under load again and again.
 */
#include "devices/backends/inflight.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/backends/packed.h"
#include "devices/backends/ring.h"
#include "devices/backends/split.h"
#include "tests/unit/vu_client.h"

#define GUEST UINT64_C(0x40000000)
#define USER  UINT64_C(0x7f0000000000)
#define SIZE  (1u << 17)
#define DATA  (GUEST + SIZE / 2)

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

struct bench {
    uint64_t features;
    struct memory mem;
    struct ring ring;
    struct driver driver;
    struct inflight buffer;
    struct inflight_queue record;
};

static void bench_start(struct bench *b, unsigned size, uint64_t features)
{
    uint8_t *ram = aligned_alloc(4096, SIZE);
    struct vu_inflight wire = { .num_queues = 2, .queue_size = 16 };
    int fd;

    cr_assert_not_null(ram);
    memset(ram, 0, SIZE);
    *b = (struct bench){ .features = features, .mem.n_regions = 1 };
    b->mem.region[0] = (struct memory_region){
        .guest = GUEST, .user = USER, .size = SIZE, .host = ram
    };
    driver_init(&b->driver, ram, GUEST, GUEST, size, features);
    b->ring.size = size;
    b->ring.desc = b->driver.desc - GUEST + USER;
    b->ring.avail = b->driver.avail - GUEST + USER;
    b->ring.used = b->driver.used - GUEST + USER;
    b->ring.base = features & VIRTIO_F_RING_PACKED ? 0x80008000u : 0;
    cr_assert_eq(inflight_create(&b->buffer, &wire, &fd), 0);
    cr_assert_geq(wire.mmap_size, 2 * 16 * 16);
    close(fd);
    inflight_attach(&b->record, &b->buffer, 1);
    b->ring.inflight = &b->record;
    cr_assert_eq(ring_start(&b->ring, &b->mem, features), 0, "%s",
                 b->ring.error);
}

/* The device side dies; another takes up the same ring and buffer. */
static void crash(struct bench *b)
{
    struct ring next = { .size = b->ring.size,
                         .desc = b->ring.desc,
                         .avail = b->ring.avail,
                         .used = b->ring.used,
                         .base = b->ring.packed ? 0x80008000u : 0,
                         .inflight = &b->record };

    b->ring = next;
    inflight_attach(&b->record, &b->buffer, 1);
    cr_assert_eq(ring_start(&b->ring, &b->mem, b->features), 0, "%s",
                 b->ring.error);
}

static void bench_end(struct bench *b)
{
    inflight_detach(&b->record);
    inflight_unmap(&b->buffer);
    free(b->mem.region[0].host);
}

/* Chain number n: as many buffers as n says, the first holding n. */
static int add(struct bench *b, unsigned n)
{
    struct buffer buf[3] = { { DATA + n % 64 * 256, 4, false },
                             { DATA + n % 64 * 256 + 64, 8, true },
                             { DATA + n % 64 * 256 + 128, 8, true } };

    memcpy(driver_at(&b->driver, buf[0].addr), &n, 4);
    return driver_add(&b->driver, buf, 1 + n % 3);
}

static unsigned number_of(const struct chain *chain)
{
    unsigned n;

    cr_assert_eq(chain_read(chain, 0, &n, 4), 4);
    cr_assert_eq(chain->n_readable, 1);
    cr_assert_eq(chain->n_writable, n % 3);
    return n;
}

/*
 * Chains are added, taken, some are given back in any order, then the device
 * dies: it has to see again those that it had, as it had them first, and then
 * the new ones. The driver must get each once.
 */
static void crashes_of(uint64_t features)
{
    struct bench b;
    struct chain *held[16];
    unsigned order[16]; /* the numbers of those held */
    unsigned n_held = 0, added = 0, gone = 0;
    bool done[4096] = { false };
    int number[16];

    bench_start(&b, 13 + !(features & VIRTIO_F_RING_PACKED) * 3, features);
    srandom(3);
    for (unsigned turn = 0; turn < 2000 && added < 4000; turn++) {
        for (int id; random() % 3 && (id = add(&b, added)) >= 0; added++)
            number[id] = (int)added;
        while (random() % 3 && n_held < 16) {
            struct chain *chain = ring_take(&b.ring);

            if (!chain)
                break;
            order[n_held] = number_of(chain);
            held[n_held++] = chain;
        }
        if (random() % 5 == 0) { /* one is taken and put back */
            struct chain *chain = ring_take(&b.ring);

            if (chain)
                ring_return(&b.ring, chain);
        }
        cr_assert_not(b.ring.broken, "%s", b.ring.error);
        while (n_held && random() % 3) {
            unsigned which = (unsigned)random() % n_held;

            ring_give(&b.ring, held[which], order[which]);
            memmove(held + which, held + which + 1,
                    (--n_held - which) * sizeof held[0]);
            memmove(order + which, order + which + 1,
                    (n_held - which) * sizeof order[0]);
        }
        for (uint32_t len; random() % 4;) {
            int id = driver_get(&b.driver, &len);

            if (id < 0)
                break;
            cr_assert_eq((int)len, number[id]);
            cr_assert_not(done[len], "%u came twice", len);
            done[len] = true;
            gone++;
        }
        if (random() % 4 == 0) {
            for (unsigned i = 0; i < n_held; i++)
                free(held[i]);
            crash(&b);
            for (unsigned i = 0; i < n_held; i++) {
                held[i] = ring_take(&b.ring);
                cr_assert_not_null(held[i], "turn %u: %s", turn, b.ring.error);
                cr_assert_eq(number_of(held[i]), order[i]);
                cr_assert(held[i]->resubmitted);
            }
        }
    }
    for (unsigned i = 0; i < n_held; i++)
        ring_give(&b.ring, held[i], order[i]);
    for (struct chain *chain; (chain = ring_take(&b.ring));)
        ring_give(&b.ring, chain, number_of(chain));
    for (uint32_t len; driver_get(&b.driver, &len) >= 0; gone++) {
        cr_assert_not(done[len]);
        done[len] = true;
    }
    cr_assert_gt(added, 1000);
    cr_assert_eq(gone, added);
    bench_end(&b);
}

Test(inflight, crashes, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        crashes_of(kinds[i]);
}

/* How many chains wait to be done again. */
static unsigned pending(const struct bench *b)
{
    return b->record.n_pending - b->record.next_pending;
}

enum death {
    UNPUBLISHED, /* the record says that a chain is being given back */
    PUBLISHED,   /* and the driver sees it, but the record not that it did */
    REUSED,      /* and has put a new one in its place */
    UNRECORDED,  /* a chain was read, but is not on the record yet */
    N_DEATHS,
};

/* Three chains taken, and death while victim is given back. */
static void torn_of(uint64_t features, enum death death, unsigned victim)
{
    struct bench b;
    struct chain *held[3];
    unsigned expect = death == UNPUBLISHED ? 3 : 2, seen = 0;
    bool again[4] = { false };
    uint8_t before[4096];
    uint32_t len;

    bench_start(&b, features & VIRTIO_F_RING_PACKED ? 6 : 8, features);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_geq(add(&b, i), 0);
        if (i == 2 && death == UNRECORDED)
            memcpy(before, b.buffer.map, b.buffer.map_size);
        held[i] = ring_take(&b.ring);
        cr_assert_not_null(held[i]);
    }
    cr_assert_leq(b.buffer.map_size, sizeof before);
    if (death == UNRECORDED) {
        memcpy(b.buffer.map, before, b.buffer.map_size);
    } else {
        inflight_giving(&b.ring, held[victim]);
        if (death != UNPUBLISHED && b.ring.packed)
            packed_give(&b.ring, held[victim], 0);
        else if (death != UNPUBLISHED)
            split_give(&b.ring, held[victim], 0);
    }
    cr_assert_eq(driver_get(&b.driver, &len) >= 0,
                 death == PUBLISHED || death == REUSED);
    if (death == REUSED)
        cr_assert_geq(add(&b, 3), 0);
    for (unsigned i = 0; i < 3; i++)
        free(held[i]);
    crash(&b);
    cr_assert_eq(pending(&b), expect, "%u again, not %u", pending(&b), expect);
    for (struct chain *chain; (chain = ring_take(&b.ring)); seen++) {
        unsigned n = number_of(chain);

        cr_assert_lt(n, 4);
        cr_assert_not(again[n], "%u twice", n);
        again[n] = true;
        cr_assert_eq(chain->resubmitted,
                     n < 3 && !(death == UNRECORDED && n == 2));
        ring_give(&b.ring, chain, 0);
    }
    cr_assert_not(b.ring.broken, "%s", b.ring.error);
    cr_assert_eq(seen, death == PUBLISHED ? 2 : 3);
    if (death == PUBLISHED || death == REUSED)
        cr_assert_not(again[victim]);
    for (; seen; seen--)
        cr_assert_geq(driver_get(&b.driver, &len), 0);
    cr_assert_eq(driver_get(&b.driver, &len), -1);
    /* and the ring goes on */
    for (unsigned i = 0; i < 50; i++) {
        struct chain *chain;

        cr_assert_geq(add(&b, i), 0);
        chain = ring_take(&b.ring);
        cr_assert_not_null(chain);
        cr_assert_eq(number_of(chain), i);
        ring_give(&b.ring, chain, 0);
        cr_assert_geq(driver_get(&b.driver, &len), 0);
    }
    bench_end(&b);
}

Test(inflight, torn, .timeout = 30)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        for (enum death death = UNPUBLISHED; death < N_DEATHS; death++) {
            for (unsigned victim = 0; victim < 3; victim++)
                torn_of(kinds[i], death, victim);
        }
    }
}

/* A buffer of noise: it is refused or followed, and nothing breaks but rings.
 */
Test(inflight, noise, .timeout = 60)
{
    unsigned refused = 0;

    srandom(5);
    for (unsigned turn = 0; turn < 4000; turn++) {
        struct bench b;
        uint64_t features = kinds[turn % N_KINDS];

        bench_start(&b, 8, features);
        for (unsigned i = 0; i < 4; i++) {
            struct chain *chain;

            add(&b, i);
            chain = ring_take(&b.ring);
            cr_assert_not_null(chain);
            free(chain);
        }
        for (unsigned i = 0; i < 1 + turn % 5; i++) {
            size_t half = b.buffer.map_size / 2;
            /* mostly near the front, where it matters */
            size_t at = (size_t)random() % (random() % 2 ? 32 : half);

            b.buffer.map[half + at] = (uint8_t)random();
        }
        b.ring = (struct ring){ .size = 8,
                                .desc = b.ring.desc,
                                .avail = b.ring.avail,
                                .used = b.ring.used,
                                .base = b.ring.packed ? 0x80008000u : 0,
                                .inflight = &b.record };
        inflight_attach(&b.record, &b.buffer, 1);
        if (ring_start(&b.ring, &b.mem, features) < 0)
            refused++;
        for (unsigned i = 0; i < 40; i++) {
            struct chain *chain = ring_take(&b.ring);

            if (!chain)
                break;
            ring_give(&b.ring, chain, 0);
        }
        bench_end(&b);
    }
    cr_assert_gt(refused, 100);
}

/* Buffers that cannot be. */
Test(inflight, refused)
{
    struct inflight buffer = { 0 };
    struct vu_inflight wire = { .num_queues = 2, .queue_size = 16 }, w;
    int fd, other = memfd_create("short", MFD_CLOEXEC);

    cr_assert_eq(inflight_create(&buffer, &wire, &fd), 0);
    cr_assert_eq(inflight_map(&buffer, &wire, fd), 0);
    w = wire;
    w.num_queues = 0;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    cr_assert_lt(inflight_create(&buffer, &w, &other), 0);
    w.num_queues = 257;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    w = wire;
    w.queue_size = 0;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    w.queue_size = 32769;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    w = wire;
    w.mmap_size--;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    w = wire;
    w.mmap_size++;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    w = wire;
    w.mmap_offset = 4096;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    w.mmap_offset = UINT64_MAX;
    cr_assert_lt(inflight_map(&buffer, &w, fd), 0);
    other = memfd_create("short", MFD_CLOEXEC);
    cr_assert_lt(inflight_map(&buffer, &wire, other), 0);
    /* the first one is still there */
    cr_assert_not_null(buffer.map);
    inflight_unmap(&buffer);
    close(fd);
    close(other);
}

#define DISK_SIZE (1u << 20)
#define REQUESTS  3000u
#define DEPTH     24u

/* A new husk-block on the rings of c, with the buffer of the one before it. */
static void take_up(struct vu_client *c, const char *const *args,
                    const struct vu_inflight *wire, int buffer)
{
    int pair[2];
    int user = c->memfd;
    struct vu_mem_reg reg = { .region = { VU_GUEST, VU_MEM_SIZE,
                                          (uintptr_t)c->mem, 0 } };

    close(c->fd);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);

    int theirs = dup(pair[1]);

    close(pair[1]);
    c->fd = pair[0];
    c->pid = vu_exec("husk-block", args, theirs, c->stderr_fd);
    close(theirs);
    vu_send(c, VU_SET_PROTOCOL_FEATURES, 0, &c->protocol, 8, -1);
    cr_assert_eq(vu_set(c, VU_ADD_MEM_REG, &reg, sizeof reg, user), 0);
    cr_assert_eq(vu_set(c, VU_SET_INFLIGHT_FD, wire, sizeof *wire, buffer), 0);
    cr_assert_eq(vu_set_u64(c, VU_SET_FEATURES, c->features), 0);
    /* what an old front-end knows: not where a packed ring stands */
    vu_queue_resume(c, 0, 0);
    vu_driver_ok(c);
}

/* Killed in the middle of work: the driver gets each request back once. */
static void killed_of(uint64_t features)
{
    char path[] = "/tmp/husk-disk-XXXXXX", arg[64];
    const char *args[] = { arg, NULL };
    int disk = mkstemp(path), buffer;
    struct vu_client c;
    struct vu_inflight wire = { .num_queues = 1, .queue_size = 128 };
    bool busy[128] = { false };
    unsigned added = 0, done = 0, kills = 0;

    cr_assert_eq(ftruncate(disk, DISK_SIZE), 0);
    snprintf(arg, sizeof arg, "--file=%s", path);
    vu_spawn(&c, "husk-block", args);
    vu_handshake(&c);
    cr_assert(c.protocol_offers & VU_PF_INFLIGHT_SHMFD);
    vu_send(&c, VU_GET_INFLIGHT_FD, 0, &wire, sizeof wire, -1);
    cr_assert_eq(vu_answer(&c, VU_GET_INFLIGHT_FD, &wire, sizeof wire, &buffer),
                 sizeof wire);
    cr_assert_geq(buffer, 0);
    vu_features(&c, features);
    vu_queue_start(&c, 0, 128);
    vu_driver_ok(&c);
    srandom(11);
    while (done < REQUESTS) {
        while (added < REQUESTS && added - done < DEPTH) {
            struct {
                uint32_t type, reserved;
                uint64_t sector;
            } header = { added % 2, 0, added * 8 % (DISK_SIZE / 512) };
            uint64_t at = VU_DATA + added % 256 * 0x4000;
            struct buffer b[] = { { at, 16, false },
                                  { at + 4096, 4096, !(added % 2) },
                                  { at + 64, 1, true } };

            memcpy(vu_at(&c, at), &header, sizeof header);

            int id = driver_add(&c.queue[0].driver, b, 3);

            if (id < 0)
                break;
            cr_assert_not(busy[id]);
            busy[id] = true;
            added++;
        }
        vu_kick(&c, 0);
        if (kills < 60 && added < REQUESTS && random() % 4 == 0) {
            usleep((useconds_t)(random() % 300));
            kill(c.pid, SIGKILL);
            waitpid(c.pid, NULL, 0);
            kills++;
            take_up(&c, args, &wire, buffer);
        }

        uint32_t len;
        int id = vu_wait(&c, 0, &len);

        do {
            cr_assert(busy[id], "%d came twice", id);
            busy[id] = false;
            done++;
        } while ((id = driver_get(&c.queue[0].driver, &len)) >= 0);
    }
    cr_assert_gt(kills, 20);
    vu_end(&c, 0);
    close(buffer);
    close(disk);
    unlink(path);
}

Test(inflight, killed, .timeout = 240)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        killed_of(kinds[i]);
}

/* The program's own messages: when there may be a buffer, and a reset. */
Test(inflight, messages, .timeout = 30)
{
    struct vu_client c;
    struct vu_inflight wire = { .num_queues = 1, .queue_size = 8 };
    struct buffer one = { VU_DATA, 64, true };
    int buffer;

    vu_spawn(&c, "husk-rng", NULL);
    vu_handshake(&c);
    cr_assert_neq(vu_set(&c, VU_SET_INFLIGHT_FD, &wire, sizeof wire, -1), 0);
    cr_assert_neq(vu_set(&c, VU_SET_INFLIGHT_FD, &wire, sizeof wire, c.memfd),
                  0);
    vu_send(&c, VU_GET_INFLIGHT_FD, 0, &wire, sizeof wire, -1);
    vu_answer(&c, VU_GET_INFLIGHT_FD, &wire, sizeof wire, &buffer);
    for (unsigned turn = 0; turn < 4; turn++) {
        vu_features(&c, turn % 2 ? VIRTIO_F_RING_PACKED : 0);
        vu_queue_start(&c, 0, 8);
        vu_driver_ok(&c);
        for (unsigned i = 0; i < 13; i++)
            cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
        cr_assert_neq(
            vu_set(&c, VU_SET_INFLIGHT_FD, &wire, sizeof wire, buffer), 0);
        /* stopped and gone on with; then reset: the buffer starts anew */
        uint32_t base = vu_queue_stop(&c, 0);

        vu_queue_resume(&c, 0, base);
        cr_assert_eq(vu_do(&c, 0, &one, 1), 64);
        cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0), 0);
    }
    /* a ring that is larger than its record */
    vu_features(&c, 0);

    struct driver *d = &c.queue[0].driver;
    struct vu_vring_state num = { 0, 16 };
    uint64_t user = (uintptr_t)c.mem - VU_GUEST, index = 0;
    struct vu_vring_addr addr = { .desc = d->desc + user,
                                  .avail = d->avail + user,
                                  .used = d->used + user };

    cr_assert_eq(vu_set(&c, VU_SET_VRING_NUM, &num, sizeof num, -1), 0);
    cr_assert_eq(vu_set(&c, VU_SET_VRING_ADDR, &addr, sizeof addr, -1), 0);
    cr_assert_neq(vu_set(&c, VU_SET_VRING_KICK, &index, 8, c.queue[0].kick), 0);
    vu_says(&c, "an inflight buffer for rings of 8, not 16");
    close(buffer);
    vu_end(&c, 0);
}
