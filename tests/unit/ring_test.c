/*
 * The device's side of virtqueues against a driver of the tests' own: split
 * and packed, chains and tables, around the ring many times, interrupt and
 * kick suppression, and drivers that break every rule.
 */
#include "devices/backends/ring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "devices/backends/gather.h"
#include "devices/virtio.h"
#include "tests/unit/driver.h"

#define GUEST UINT64_C(0x40000000)
#define USER  UINT64_C(0x7f0000000000)
#define SIZE  (1u << 17)
#define RINGS GUEST
#define DATA  (GUEST + SIZE / 2)

/* Both sides of one ring on memory of their own. */
struct bench {
    struct memory mem;
    struct ring ring;
    struct driver driver;
};

static void bench_init(struct bench *b, unsigned size, uint64_t features,
                       uint32_t base)
{
    uint8_t *ram = aligned_alloc(4096, SIZE);

    cr_assert_not_null(ram);
    memset(ram, 0, SIZE);
    *b = (struct bench){ .mem.n_regions = 1 };
    b->mem.region[0] = (struct memory_region){
        .guest = GUEST, .user = USER, .size = SIZE, .host = ram
    };
    driver_init(&b->driver, ram, GUEST, RINGS, size, features);
    b->ring.size = size;
    b->ring.desc = b->driver.desc - GUEST + USER;
    b->ring.avail = b->driver.avail - GUEST + USER;
    b->ring.used = b->driver.used - GUEST + USER;
    b->ring.base = base;
}

static void bench_start(struct bench *b, unsigned size, uint64_t features)
{
    bench_init(b, size, features,
               features & VIRTIO_F_RING_PACKED ? 0x80008000u : 0);
    cr_assert_eq(ring_start(&b->ring, &b->mem, features), 0, "%s",
                 b->ring.error);
}

static void bench_end(struct bench *b)
{
    free(b->mem.region[0].host);
}

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

/* Chains of changing shape, some held back, far past 65536 positions. */
static void echo_of(uint64_t features)
{
    struct bench b;
    unsigned size = features & VIRTIO_F_RING_PACKED ? 13 : 16;
    uint32_t sum = 0;

    bench_start(&b, size, features);
    for (unsigned turn = 0; turn < 40000; turn++) {
        struct buffer buf[4];
        unsigned n = 1 + turn % 4, n_in_flight = 0;
        int id[3];

        for (; n_in_flight < 3; n_in_flight++) {
            for (unsigned i = 0; i < n; i++) {
                buf[i] = (struct buffer){
                    .addr = DATA + n_in_flight * 256 + i * 64,
                    .len = 1 + (turn + i) % 64,
                    .writable = i >= n / 2,
                };
                memset(driver_at(&b.driver, buf[i].addr), (int)turn, 64);
            }
            id[n_in_flight] = driver_add(&b.driver, buf, n);
            cr_assert_geq(id[n_in_flight], 0);
        }

        struct chain *chain[3];

        for (unsigned i = 0; i < 3; i++) {
            uint8_t bytes[256];

            chain[i] = ring_take(&b.ring);
            cr_assert_not_null(chain[i], "turn %u: %s", turn, b.ring.error);
            cr_assert_eq(chain[i]->n_readable, n / 2);
            cr_assert_eq(chain[i]->n_writable, n - n / 2);

            size_t got = chain_read(chain[i], 0, bytes, sizeof bytes);

            cr_assert_eq(got, chain[i]->readable_size);
            for (size_t j = 0; j < got; j++)
                cr_assert_eq(bytes[j], (uint8_t)turn);
            sum += (uint32_t)got;
        }
        cr_assert_null(ring_take(&b.ring));
        cr_assert_not(b.ring.broken, "%s", b.ring.error);
        /* given back in another order than taken */
        for (unsigned i = 0; i < 3; i++) {
            unsigned which = (i + turn) % 3;

            ring_give(&b.ring, chain[which], 1000 + which);
        }
        for (unsigned i = 0; i < 3; i++) {
            unsigned which = (i + turn) % 3;
            uint32_t len;

            cr_assert_eq(driver_get(&b.driver, &len), id[which]);
            cr_assert_eq(len, 1000 + which);
        }

        uint32_t len;

        cr_assert_eq(driver_get(&b.driver, &len), -1);
        cr_assert_eq(b.ring.in_flight, 0);
    }
    cr_assert_gt(sum, 0);
    bench_end(&b);
}

Test(ring, echo, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        echo_of(kinds[i]);
}

/* Bytes land where they should, at any offset into a chain of pieces. */
Test(ring, copies)
{
    struct bench b;
    struct buffer buf[] = {
        { DATA, 5, false },
        { DATA + 100, 7, false },
        { DATA + 200, 3, true },
        { DATA + 300, 11, true },
    };

    bench_start(&b, 8, 0);
    memcpy(driver_at(&b.driver, DATA), "01234", 5);
    memcpy(driver_at(&b.driver, DATA + 100), "56789ab", 7);
    cr_assert_geq(driver_add(&b.driver, buf, 4), 0);

    struct chain *chain = ring_take(&b.ring);
    char got[16] = { 0 };
    struct iovec iov[4];

    cr_assert_not_null(chain);
    cr_assert_eq(chain->readable_size, 12);
    cr_assert_eq(chain->writable_size, 14);
    cr_assert_eq(chain_read(chain, 3, got, 5), 5);
    cr_assert_str_eq(got, "34567");
    cr_assert_eq(chain_read(chain, 12, got, 5), 0);
    cr_assert_eq(chain_read(chain, 11, got, 5), 1);
    cr_assert_eq(chain_write(chain, 1, "ABCDE", 5), 5);
    cr_assert_eq(chain_write(chain, 13, "xyz", 3), 1);
    cr_assert_arr_eq(driver_at(&b.driver, DATA + 200), "\0AB", 3);
    cr_assert_arr_eq(driver_at(&b.driver, DATA + 300), "CDE\0", 4);
    cr_assert_arr_eq(driver_at(&b.driver, DATA + 310), "x\0", 2);
    cr_assert_eq(iov_slice(iov, 4, chain->readable, 2, 4, 3), 2);
    cr_assert_eq(iov[0].iov_len, 1);
    cr_assert_eq(iov[1].iov_len, 2);
    cr_assert_eq(iov_slice(iov, 1, chain->readable, 2, 4, 3), 1);
    cr_assert_eq(iov_slice(iov, 4, chain->readable, 2, 12, 3), 0);
    ring_give(&b.ring, chain, 0);
    bench_end(&b);
}

/* A chain that was returned is taken again, and the position is as before. */
static void returned_of(uint64_t features)
{
    struct bench b;
    struct buffer buf[] = { { DATA, 5, false }, { DATA + 64, 5, true } };

    bench_start(&b, 4, features);
    for (unsigned turn = 0; turn < 50; turn++) {
        uint32_t before = ring_base(&b.ring), len;
        int id = driver_add(&b.driver, buf, 1 + turn % 2);
        struct chain *chain = ring_take(&b.ring);

        cr_assert_not_null(chain);
        ring_return(&b.ring, chain);
        cr_assert_eq(ring_base(&b.ring), before);
        cr_assert_eq(b.ring.in_flight, 0);
        chain = ring_take(&b.ring);
        cr_assert_not_null(chain);
        ring_give(&b.ring, chain, 0);
        cr_assert_eq(driver_get(&b.driver, &len), id);
    }
    bench_end(&b);
}

Test(ring, returned)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        returned_of(kinds[i]);
}

/* Stopped and started anew where it stood, in the middle of the ring. */
static void base_of(uint64_t features)
{
    struct bench b;
    struct buffer buf[] = { { DATA, 5, false }, { DATA + 64, 5, true } };

    bench_start(&b, 4, features);
    for (unsigned turn = 0; turn < 50; turn++) {
        uint32_t len;
        int id = driver_add(&b.driver, buf, 1 + turn % 2);
        struct chain *chain = ring_take(&b.ring);

        cr_assert_not_null(chain, "%s", b.ring.error);
        ring_give(&b.ring, chain, 0);
        cr_assert_eq(driver_get(&b.driver, &len), id);
        b.ring.base = ring_base(&b.ring);
        cr_assert_eq(ring_start(&b.ring, &b.mem, features), 0);
    }
    bench_end(&b);
}

Test(ring, base)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        base_of(kinds[i]);
}

static void serve_all(struct ring *ring)
{
    struct chain *chain;

    while ((chain = ring_take(ring)))
        ring_give(ring, chain, 0);
    cr_assert_not(ring->broken, "%s", ring->error);
}

static unsigned get_all(struct driver *d)
{
    unsigned n = 0;
    uint32_t len;

    while (driver_get(d, &len) >= 0)
        n++;
    return n;
}

/* Interrupts: off, on, and with EVENT_IDX only at the chain asked for. */
static void interrupts_of(uint64_t features)
{
    struct bench b;
    struct buffer one = { DATA, 5, true };

    bench_start(&b, 8, features);
    cr_assert_not(ring_must_notify(&b.ring));
    for (unsigned turn = 0; turn < 100; turn++) {
        cr_assert_not(driver_listen(&b.driver, 0));
        cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        serve_all(&b.ring);
        cr_assert_not(ring_must_notify(&b.ring), "turn %u", turn);

        cr_assert(driver_listen(&b.driver, 1));
        cr_assert_eq(get_all(&b.driver), 1);
        cr_assert_not(driver_listen(&b.driver, 1));
        cr_assert_not(ring_must_notify(&b.ring));
        cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        serve_all(&b.ring);
        cr_assert(ring_must_notify(&b.ring), "turn %u", turn);
        cr_assert_not(ring_must_notify(&b.ring));
        cr_assert_eq(get_all(&b.driver), 1);

        /* at the third only */
        cr_assert_not(driver_listen(&b.driver, 3));
        for (unsigned i = 0; i < 4; i++) {
            bool now = features & VIRTIO_F_EVENT_IDX ? i == 2 : true;

            cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
            serve_all(&b.ring);
            cr_assert_eq(ring_must_notify(&b.ring), now, "turn %u, %u", turn,
                         i);
        }
        cr_assert_eq(get_all(&b.driver), 4);

        /* at the third, within one batch that goes past it */
        cr_assert_not(driver_listen(&b.driver, 3));
        for (unsigned i = 0; i < 5; i++)
            cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        serve_all(&b.ring);
        cr_assert(ring_must_notify(&b.ring));
        cr_assert_eq(get_all(&b.driver), 5);

        /* a batch of the whole ring */
        cr_assert_not(driver_listen(&b.driver, 8));
        for (unsigned i = 0; i < 8; i++)
            cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        serve_all(&b.ring);
        cr_assert(ring_must_notify(&b.ring));
        cr_assert_eq(get_all(&b.driver), 8);
    }
    bench_end(&b);
}

Test(ring, interrupts)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        interrupts_of(kinds[i]);
}

/* Kicks: none wanted while quiet, one for the next chain after listening. */
static void kicks_of(uint64_t features)
{
    struct bench b;
    struct buffer one = { DATA, 5, true };

    bench_start(&b, 8, features);
    for (unsigned turn = 0; turn < 100; turn++) {
        ring_disable_kicks(&b.ring);
        cr_assert_not(ring_enable_kicks(&b.ring));
        cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        cr_assert(driver_must_kick(&b.driver), "turn %u", turn);
        ring_disable_kicks(&b.ring);
        cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        cr_assert_not(driver_must_kick(&b.driver), "turn %u", turn);
        /* the chains that came while quiet are not lost */
        cr_assert(ring_enable_kicks(&b.ring));
        serve_all(&b.ring);
        cr_assert_not(ring_enable_kicks(&b.ring));
        cr_assert_eq(get_all(&b.driver), 2);
    }
    bench_end(&b);
}

Test(ring, kicks)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        kicks_of(kinds[i]);
}

/* Driver and device in two threads that sleep unless they are told. */
struct side {
    struct bench *bench;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned kicks, interrupts;
};

#define CHAINS 30000u

static void bell(struct side *s, unsigned *count)
{
    pthread_mutex_lock(&s->lock);
    ++*count;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static void sleep_for(struct side *s, unsigned *count)
{
    pthread_mutex_lock(&s->lock);
    while (!*count)
        pthread_cond_wait(&s->cond, &s->lock);
    *count = 0;
    pthread_mutex_unlock(&s->lock);
}

static void *device_side(void *arg)
{
    struct side *s = arg;
    struct ring *ring = &s->bench->ring;

    for (unsigned served = 0; served < CHAINS;) {
        struct chain *chain;

        ring_disable_kicks(ring);
        while ((chain = ring_take(ring))) {
            ring_give(ring, chain, 0);
            served++;
        }
        if (ring->broken)
            break;
        if (ring_must_notify(ring))
            bell(s, &s->interrupts);
        if (served < CHAINS && !ring_enable_kicks(ring))
            sleep_for(s, &s->kicks);
    }
    return NULL;
}

static void threads_of(uint64_t features)
{
    struct bench b;
    struct side s = { .bench = &b,
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .cond = PTHREAD_COND_INITIALIZER };
    struct buffer buf[] = { { DATA, 5, false }, { DATA + 64, 5, true } };
    unsigned added = 0, done = 0;
    pthread_t thread;

    bench_start(&b, 8, features);
    cr_assert_eq(pthread_create(&thread, NULL, device_side, &s), 0);
    while (done < CHAINS) {
        unsigned before = added;

        while (added < CHAINS && driver_add(&b.driver, buf, 1 + added % 2) >= 0)
            added++;
        if (added != before && driver_must_kick(&b.driver))
            bell(&s, &s.kicks);

        unsigned got = get_all(&b.driver);

        done += got;
        if (!got && done < CHAINS && !driver_listen(&b.driver, 1))
            sleep_for(&s, &s.interrupts);
    }
    pthread_join(thread, NULL);
    cr_assert_not(b.ring.broken, "%s", b.ring.error);
    cr_assert_eq(done, CHAINS);
    bench_end(&b);
}

Test(ring, threads, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        threads_of(kinds[i]);
}

/* A ring that cannot be started, by each of its fields. */
Test(ring, refused)
{
    static const struct {
        uint64_t features;
        unsigned size;
        int64_t desc, avail, used; /* moved by */
        uint32_t base;
        int rc;
    } rows[] = {
        { 0, 8, 0, 0, 0, 0, 0 },
        { 0, 0, 0, 0, 0, 0, -1 },
        { 0, 3, 0, 0, 0, 0, -1 },
        { 0, 65536, 0, 0, 0, 0, -1 },
        { 0, 8, 8, 0, 0, 0, -1 },
        { 0, 8, 0, 1, 0, 0, -1 },
        { 0, 8, 0, 2, 0, 0, 0 },
        { 0, 8, 0, 0, 2, 0, -1 },
        { 0, 8, 0, 0, 4, 0, 0 },
        { 0, 8, -16, 0, 0, 0, -1 },
        { 0, 8, SIZE, 0, 0, 0, -1 },
        { 0, 8, 0, SIZE, 0, 0, -1 },
        { 0, 8, 0, 0, SIZE, 0, -1 },
        { 0, 8, 0, 0, 0, 0xffff, 0 },
        { VIRTIO_F_RING_PACKED, 5, 0, 0, 0, 0x80008000, 0 },
        { VIRTIO_F_RING_PACKED, 0, 0, 0, 0, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 32769, 0, 0, 0, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 4, 0, 0, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, 2, 0, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, 0, 2, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, 0, 0, 0x80008005, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, 0, 0, 0x80058000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, 0, 0, 0x00048004, 0 },
        { VIRTIO_F_RING_PACKED, 5, SIZE, 0, 0, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, SIZE, 0, 0x80008000, -1 },
        { VIRTIO_F_RING_PACKED, 5, 0, 0, SIZE, 0x80008000, -1 },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench b;

        bench_init(&b, 8, rows[i].features, rows[i].base);
        b.ring.size = rows[i].size;
        b.ring.desc += (uint64_t)rows[i].desc;
        b.ring.avail += (uint64_t)rows[i].avail;
        b.ring.used += (uint64_t)rows[i].used;

        int rc = ring_start(&b.ring, &b.mem, rows[i].features);

        cr_assert_eq(rc < 0 ? -1 : 0, rows[i].rc, "row %u: %s", i,
                     b.ring.error);
        cr_assert_eq(b.ring.broken, rc < 0);
        if (rc < 0) {
            cr_assert_null(ring_take(&b.ring));
            cr_assert_not(ring_enable_kicks(&b.ring));
            ring_disable_kicks(&b.ring);
        }
        bench_end(&b);
    }
}

/* At the very end of memory: the event fields count only where negotiated. */
Test(ring, last_bytes)
{
    static const uint64_t features[] = { 0, VIRTIO_F_EVENT_IDX };

    for (unsigned i = 0; i < 2; i++) {
        struct bench b;

        bench_init(&b, 8, features[i], 0);
        b.ring.avail = USER + SIZE - (4 + 8 * 2);
        cr_assert_eq(ring_start(&b.ring, &b.mem, features[i]) < 0, i == 1);
        bench_end(&b);
        bench_init(&b, 8, features[i], 0);
        b.ring.used = USER + SIZE - (4 + 8 * 8);
        cr_assert_eq(ring_start(&b.ring, &b.mem, features[i]) < 0, i == 1);
        bench_end(&b);
    }
}

static void put16(const struct bench *b, uint64_t addr, unsigned value)
{
    uint16_t word = (uint16_t)value;

    memcpy(driver_at(&b->driver, addr), &word, 2);
}

static void put32(const struct bench *b, uint64_t addr, uint32_t value)
{
    memcpy(driver_at(&b->driver, addr), &value, 4);
}

static void put64(const struct bench *b, uint64_t addr, uint64_t value)
{
    memcpy(driver_at(&b->driver, addr), &value, 8);
}

/* What a driver does to a ring that holds one chain of two (or one table). */
struct crime {
    const char *says;
    uint64_t features;
    void (*commit)(const struct bench *b);
};

static void avail_jump(const struct bench *b)
{
    put16(b, b->driver.avail + 2, 9);
}

static void head_too_high(const struct bench *b)
{
    put16(b, b->driver.avail + 4, 8);
}

static void next_too_high(const struct bench *b)
{
    put16(b, b->driver.desc + 14, 8);
}

static void next_loop(const struct bench *b)
{
    put16(b, b->driver.desc + 14, 0);
}

static void addr_outside(const struct bench *b)
{
    put64(b, b->driver.desc, GUEST + SIZE);
}

static void addr_below(const struct bench *b)
{
    put64(b, b->driver.desc, GUEST - 1);
}

static void addr_wraps(const struct bench *b)
{
    put64(b, b->driver.desc, UINT64_MAX - 1);
}

static void len_over_end(const struct bench *b)
{
    put64(b, b->driver.desc, GUEST + SIZE - 4);
}

static void len_huge(const struct bench *b)
{
    put32(b, b->driver.desc + 8, UINT32_MAX);
}

static void readable_last(const struct bench *b)
{
    put16(b, b->driver.desc + 12, 3);
    put16(b, b->driver.desc + 16 + 12, 0);
}

static void table_unasked(const struct bench *b)
{
    put16(b, b->driver.desc + 12, 4);
}

static void table_odd(const struct bench *b)
{
    put32(b, b->driver.desc + 8, 17);
}

static void table_empty(const struct bench *b)
{
    put32(b, b->driver.desc + 8, 0);
}

static void table_long(const struct bench *b)
{
    put32(b, b->driver.desc + 8, 16 * (RING_MAX_CHAIN + 1));
}

static void table_outside(const struct bench *b)
{
    put64(b, b->driver.desc, GUEST + SIZE - 16);
}

static void table_and_next(const struct bench *b)
{
    put16(b, b->driver.desc + 12, 5);
}

static void table_nested(const struct bench *b)
{
    put16(b, b->driver.table + 12, 4);
}

static void table_next_high(const struct bench *b)
{
    put16(b, b->driver.table + 14, 2);
}

static void table_loop(const struct bench *b)
{
    put16(b, b->driver.table + 14, 0);
}

static void packed_readable_last(const struct bench *b)
{
    put16(b, b->driver.desc + 14, 0x80 | 3);
    put16(b, b->driver.desc + 16 + 14, 0x80);
}

static void packed_no_end(const struct bench *b)
{
    put16(b, b->driver.desc + 16 + 14, 0x80 | 1 | 2);
}

static void packed_all_next(const struct bench *b)
{
    for (unsigned i = 0; i < 8; i++) {
        put64(b, b->driver.desc + i * 16, DATA);
        put16(b, b->driver.desc + i * 16 + 14, 0x80 | 1);
    }
}

static void packed_table_unasked(const struct bench *b)
{
    put16(b, b->driver.desc + 14, 0x80 | 4);
}

static void packed_table_and_next(const struct bench *b)
{
    put16(b, b->driver.desc + 14, 0x80 | 5);
}

static void packed_table_nested(const struct bench *b)
{
    put16(b, b->driver.table + 14, 4);
}

#define TABLES VIRTIO_F_INDIRECT_DESC
#define PACKED VIRTIO_F_RING_PACKED

static const struct crime crimes[] = {
    { "9 chains available in a ring of 8", 0, avail_jump },
    { "head 8 in a ring of 8", 0, head_too_high },
    { "descriptor 8 of 8", 0, next_too_high },
    { "a loop of descriptors from 0", 0, next_loop },
    { "not in memory", 0, addr_outside },
    { "not in memory", 0, addr_below },
    { "not in memory", 0, addr_wraps },
    { "not in memory", 0, len_over_end },
    { "not in memory", 0, len_huge },
    { "a readable buffer after a writable one", 0, readable_last },
    { "an indirect table was not negotiated", 0, table_unasked },
    { "an indirect table of 17 bytes", TABLES, table_odd },
    { "an indirect table of 0 bytes", TABLES, table_empty },
    { "an indirect table of 16400 bytes", TABLES, table_long },
    { "not in memory", TABLES, table_outside },
    { "a descriptor is indirect and has a next", TABLES, table_and_next },
    { "an indirect table in another", TABLES, table_nested },
    { "descriptor 2 of 2", TABLES, table_next_high },
    { "a loop of descriptors", TABLES, table_loop },
    { "not in memory", PACKED, addr_outside },
    { "not in memory", PACKED, addr_wraps },
    { "not in memory", PACKED, len_over_end },
    { "a readable buffer after", PACKED, packed_readable_last },
    { "a chain goes on in a descriptor not available", PACKED, packed_no_end },
    { "goes on in a descriptor not available", PACKED, packed_all_next },
    { "an indirect table was not", PACKED, packed_table_unasked },
    { "an indirect table of 17 bytes", PACKED | TABLES, table_odd },
    { "an indirect table of 0 bytes", PACKED | TABLES, table_empty },
    { "an indirect table of 16400 bytes", PACKED | TABLES, table_long },
    { "not in memory", PACKED | TABLES, table_outside },
    { "indirect and has a next", PACKED | TABLES, packed_table_and_next },
    { "an indirect table in another", PACKED | TABLES, packed_table_nested },
};

Test(ring, crimes)
{
    struct buffer buf[] = { { DATA, 16, false }, { DATA + 64, 16, true } };

    for (unsigned i = 0; i < sizeof crimes / sizeof crimes[0]; i++) {
        struct bench b;

        bench_start(&b, 8, crimes[i].features);
        cr_assert_geq(driver_add(&b.driver, buf, 2), 0);
        crimes[i].commit(&b);
        cr_assert_null(ring_take(&b.ring), "crime %u", i);
        cr_assert(b.ring.broken, "crime %u", i);
        cr_assert_not_null(strstr(b.ring.error, crimes[i].says),
                           "crime %u: \"%s\", not \"%s\"", i, b.ring.error,
                           crimes[i].says);
        /* and it stays broken */
        cr_assert_null(ring_take(&b.ring));
        cr_assert_not(ring_enable_kicks(&b.ring));
        bench_end(&b);
    }
}

/* More chains in flight than there are entries: the same one again. */
Test(ring, twice)
{
    struct bench b;
    struct buffer one = { DATA, 5, true };
    struct chain *chain[8];

    bench_start(&b, 8, 0);
    cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
    for (unsigned i = 0; i < 8; i++) {
        put16(&b, b.driver.avail + 2, i + 1);
        chain[i] = ring_take(&b.ring);
        cr_assert_not_null(chain[i]);
    }
    put16(&b, b.driver.avail + 2, 9);
    cr_assert_null(ring_take(&b.ring));
    cr_assert(b.ring.broken);
    /* what was taken may still come back, and writes nothing */
    for (unsigned i = 0; i < 8; i++)
        ring_give(&b.ring, chain[i], 0);
    cr_assert_eq(b.ring.in_flight, 0);
    cr_assert_eq(get_all(&b.driver), 0);
    bench_end(&b);
}

/* The same for packed rings: an entry that is still in flight, made anew. */
Test(ring, overrun)
{
    struct bench b;
    struct buffer one = { DATA, 5, true };
    struct chain *chain[8];

    bench_start(&b, 8, VIRTIO_F_RING_PACKED);
    for (unsigned i = 0; i < 8; i++) {
        cr_assert_geq(driver_add(&b.driver, &one, 1), 0);
        chain[i] = ring_take(&b.ring);
        cr_assert_not_null(chain[i]);
    }
    put16(&b, b.driver.desc + 14, 0x8000);
    cr_assert_null(ring_take(&b.ring));
    cr_assert_str_eq(b.ring.error, "more descriptors than the 8 of the ring");
    for (unsigned i = 0; i < 8; i++)
        ring_give(&b.ring, chain[i], 0);
    bench_end(&b);
}

/* Memory of noise: whatever happens, nothing outside it is touched. */
static void noise_of(uint64_t features)
{
    unsigned taken = 0;

    srandom(1);
    for (unsigned turn = 0; turn < 3000; turn++) {
        struct bench b;
        struct chain *chain;

        bench_start(&b, 8, features);
        /* mostly zeros and small numbers, so that chains get somewhere */
        for (uint64_t at = 0; at < driver_footprint(8); at += 2) {
            unsigned r = (unsigned)random();

            put16(&b, GUEST + at,
                  r % 4   ? 0
                  : r % 5 ? r >> 8 & 15
                          : r >> 8 & 0xffff);
        }
        for (unsigned i = 0; i < 8; i++) { /* addresses that are there */
            put64(&b, b.driver.desc + i * 16, DATA + (random() & 0xfff));
            put32(&b, b.driver.desc + i * 16 + 8, random() & 0xff);
            if (b.driver.packed)
                put16(&b, b.driver.desc + i * 16 + 14, 0x80 | (random() & 7));
        }
        while ((chain = ring_take(&b.ring))) {
            for (unsigned i = 0; i < chain->n_readable; i++)
                cr_assert_leq(chain->readable[i].iov_len, SIZE);
            chain_write(chain, 0, "noise", 5);
            ring_give(&b.ring, chain, 5);
            if (++taken % 7 == 0)
                break;
        }
        ring_must_notify(&b.ring);
        bench_end(&b);
    }
    cr_assert_gt(taken, 0);
}

Test(ring, noise, .timeout = 60)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        noise_of(kinds[i]);
}
