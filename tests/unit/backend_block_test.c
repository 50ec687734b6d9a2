/*
 * husk-block against a model: random requests over every kind of ring, several
 * in flight, and the file compared; each request that must be refused; the
 * configuration, its change, and what is on the file after.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/blk.h"

static const uint64_t kinds[] = {
    0,
    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

/* One request, alone: its status. */
static unsigned request(struct vu_client *c, uint32_t type, uint64_t sector,
                        uint32_t len, uint32_t *written)
{
    uint32_t ignored;
    int id = blk_add(c, 0, 0, type, sector, len, 4096);

    cr_assert_geq(id, 0);
    vu_kick(c, 0);
    cr_assert_eq(vu_wait(c, 0, written ? written : &ignored), id);
    return blk_status(c, 0);
}

/* What one of several requests in flight has to come out as. */
struct expected {
    bool used;
    uint32_t type, len;
    uint64_t sector;
};

static void check_read(const struct vu_client *c, unsigned slot,
                       const struct expected *e, const uint8_t *model)
{
    cr_assert_eq(memcmp(vu_at(c, place_of(slot).data),
                        model + e->sector * SECTOR, e->len),
                 0, "sector %u, %u bytes", (unsigned)e->sector, e->len);
}

/*
 * Random reads and writes, eight in flight, each on its own eighth of the disk
 * so that their order does not matter.
 */
static void random_of(uint64_t features)
{
    struct disk d;
    struct vu_client c;
    uint8_t *model = calloc(SECTORS, SECTOR);
    int slot_of[128];

    disk_init(&d);

    const char *args[] = { d.arg, "--queues=2", NULL };

    vu_spawn(&c, "husk-block", args);
    vu_start(&c, features | F_FLUSH | F_MQ, 2, 128);
    cr_assert_eq(c.specs.max_vqs, 2);
    srandom(7);
    for (unsigned turn = 0; turn < 300; turn++) {
        struct expected e[8] = { 0 };
        unsigned q = turn % 2;

        for (unsigned slot = 0; slot < 8; slot++) {
            uint32_t sectors = 1 + (unsigned)random() % 200;
            uint32_t piece = 16u << random() % 12;

            e[slot] = (struct expected){
                .used = true,
                .type = random() % 3 ? random() % 2 : FLUSH,
                .sector = slot * (SECTORS / 8) +
                          (unsigned)random() % (SECTORS / 8 - sectors),
            };
            e[slot].len = e[slot].type == FLUSH ? 0 : sectors * SECTOR;
            if (e[slot].len / piece > 50)
                piece = 4096;

            uint8_t *data = vu_at(&c, place_of(slot).data);

            for (uint32_t i = 0; i < e[slot].len; i++)
                data[i] = (uint8_t)random();

            int id = blk_add(&c, q, slot, e[slot].type, e[slot].sector,
                             e[slot].len, piece);

            if (id < 0) { /* no room: fewer this time */
                e[slot].used = false;
                continue;
            }
            slot_of[id] = (int)slot;
            if (e[slot].type == OUT)
                memcpy(model + e[slot].sector * SECTOR, data, e[slot].len);
        }
        vu_kick(&c, q);
        for (unsigned slot = 0, n = 8; slot < n; slot++) {
            if (!e[slot].used)
                continue;

            uint32_t len;
            unsigned done = (unsigned)slot_of[vu_wait(&c, q, &len)];

            cr_assert_eq(blk_status(&c, done), OK);
            cr_assert_eq(len, e[done].type == IN ? e[done].len + 1 : 1);
            if (e[done].type == IN)
                check_read(&c, done, &e[done], model);
        }
    }

    uint8_t *file =
        mmap(NULL, SECTORS * SECTOR, PROT_READ, MAP_SHARED, d.fd, 0);

    cr_assert_neq(file, MAP_FAILED);
    cr_assert_eq(memcmp(file, model, SECTORS * SECTOR), 0);
    munmap(file, SECTORS * SECTOR);
    free(model);
    vu_end(&c, 0);
    disk_fini(&d);
}

Test(backend_block, random, .timeout = 120)
{
    for (unsigned i = 0; i < N_KINDS; i++)
        random_of(kinds[i]);
}

/* More requests at once than are served at once. */
Test(backend_block, deep, .timeout = 60)
{
    struct disk d;
    struct vu_client c;

    disk_init(&d);

    const char *args[] = { d.arg, "--queues=4", NULL };

    vu_spawn(&c, "husk-block", args);
    vu_start(&c, VIRTIO_F_INDIRECT_DESC, 4, 128);
    for (unsigned turn = 0; turn < 20; turn++) {
        for (unsigned q = 0; q < 4; q++) {
            for (unsigned i = 0; i < 128; i++)
                cr_assert_geq(blk_add(&c, q, q, i % 4 ? IN : FLUSH, i,
                                      i % 4 ? 4096 : 0, 4096),
                              0);
        }
        for (unsigned q = 0; q < 4; q++)
            vu_kick(&c, q);
        for (unsigned q = 0; q < 4; q++) {
            for (unsigned i = 0; i < 128; i++) {
                uint32_t len;

                vu_wait(&c, q, &len);
                cr_assert(len == 1 || len == 4097);
            }
        }
    }
    /* stopped with work in flight: all of it is done when the answer comes */
    for (unsigned i = 0; i < 128; i++)
        cr_assert_geq(blk_add(&c, 0, 0, IN, i, 4096, 4096), 0);
    vu_kick(&c, 0);

    uint32_t base = vu_queue_stop(&c, 0), len;
    unsigned done = 0;

    while (driver_get(&c.queue[0].driver, &len) >= 0)
        done++;
    cr_assert_eq((uint16_t)(base - 20 * 128), done);
    vu_queue_resume(&c, 0, base);
    for (; done < 128; done++)
        vu_wait(&c, 0, &len);
    vu_end(&c, 0);
    disk_fini(&d);
}

static unsigned segment(struct vu_client *c, uint32_t type, uint64_t sector,
                        uint32_t sectors, uint32_t flags)
{
    blk_put_segment(c, 0, 0, sector, sectors, flags);
    return request(c, type, 0, 16, NULL);
}

static void expect_bytes(const struct disk *d, uint64_t sector,
                         uint32_t sectors, uint8_t value)
{
    for (uint32_t i = 0; i < sectors; i++) {
        uint8_t bytes[SECTOR];

        cr_assert_eq(pread(d->fd, bytes, SECTOR, (off_t)(sector + i) * SECTOR),
                     (ssize_t)SECTOR);
        for (unsigned j = 0; j < SECTOR; j++)
            cr_assert_eq(bytes[j], value, "sector %u", (unsigned)(sector + i));
    }
}

static void fill_disk(const struct disk *d, uint8_t value)
{
    uint8_t bytes[SECTOR];

    memset(bytes, value, sizeof bytes);
    for (unsigned i = 0; i < SECTORS; i++)
        cr_assert_eq(pwrite(d->fd, bytes, SECTOR, (off_t)i * SECTOR),
                     (ssize_t)SECTOR);
}

Test(backend_block, discard_and_zeroes, .timeout = 60)
{
    struct disk d;
    struct vu_client c;

    disk_init(&d);
    fill_disk(&d, 0x11);

    const char *args[] = { d.arg, NULL };

    vu_spawn(&c, "husk-block", args);
    vu_start(&c, 0, 1, 128);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 8, 16, 0), OK);
    expect_bytes(&d, 7, 1, 0x11);
    expect_bytes(&d, 8, 16, 0);
    expect_bytes(&d, 24, 1, 0x11);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 33, 3, 1), OK);
    expect_bytes(&d, 32, 1, 0x11);
    expect_bytes(&d, 33, 3, 0);
    expect_bytes(&d, 36, 1, 0x11);
    cr_assert_eq(segment(&c, DISCARD, 1024, 1024, 0), OK);
    expect_bytes(&d, 1023, 1, 0x11);
    expect_bytes(&d, 2048, 1, 0x11);

    struct stat st;

    cr_assert_eq(fstat(d.fd, &st), 0);
    cr_assert_eq(st.st_size, SECTORS * SECTOR);
    /* several in one request, an empty one among them */
    blk_put_segment(&c, 0, 0, 100, 2, 0);
    blk_put_segment(&c, 0, 1, 200, 0, 0);
    blk_put_segment(&c, 0, 2, 300, 200, 1);
    cr_assert_eq(request(&c, WRITE_ZEROES, 0, 48, NULL), OK);
    expect_bytes(&d, 99, 1, 0x11);
    expect_bytes(&d, 100, 2, 0);
    expect_bytes(&d, 102, 198, 0x11);
    expect_bytes(&d, 300, 200, 0);
    expect_bytes(&d, 500, 1, 0x11);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 0, 0, 0), OK);

    /* refused, and nothing is done, also by the good segments beside it */
    fill_disk(&d, 0x22);
    cr_assert_eq(segment(&c, WRITE_ZEROES, SECTORS, 1, 0), IOERR);
    cr_assert_eq(segment(&c, WRITE_ZEROES, SECTORS - 1, 2, 0), IOERR);
    cr_assert_eq(segment(&c, WRITE_ZEROES, UINT64_MAX, 2, 0), IOERR);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 0, UINT32_MAX, 0), IOERR);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 0, 1, 2), UNSUPP);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 0, 1, 0x80000000u), UNSUPP);
    cr_assert_eq(segment(&c, DISCARD, 0, 8, 1), UNSUPP);
    cr_assert_eq(segment(&c, DISCARD, 0, 8, 2), UNSUPP);
    cr_assert_eq(segment(&c, DISCARD, SECTORS, 8, 0), IOERR);
    blk_put_segment(&c, 0, 0, 0, 8, 0);
    blk_put_segment(&c, 0, 1, SECTORS, 8, 0);
    cr_assert_eq(request(&c, WRITE_ZEROES, 0, 32, NULL), IOERR);
    cr_assert_eq(request(&c, WRITE_ZEROES, 0, 0, NULL), IOERR);
    cr_assert_eq(request(&c, WRITE_ZEROES, 0, 8, NULL), IOERR);
    cr_assert_eq(request(&c, WRITE_ZEROES, 0, 17 * 16, NULL), IOERR);
    expect_bytes(&d, 0, SECTORS, 0x22);
    vu_end(&c, 0);
    disk_fini(&d);
}

/* Every request that cannot be done, with its status. */
Test(backend_block, refused, .timeout = 60)
{
    struct disk d;
    struct vu_client c;
    uint32_t written;

    disk_init(&d);
    fill_disk(&d, 0x33);

    const char *args[] = { d.arg, "--serial=01234567890123456789", NULL };

    vu_spawn(&c, "husk-block", args);
    vu_start(&c, 0, 1, 128);
    memset(vu_at(&c, place_of(0).data), 0x44, 8192);
    cr_assert_eq(request(&c, OUT, SECTORS, SECTOR, NULL), IOERR);
    cr_assert_eq(request(&c, OUT, SECTORS - 1, 2 * SECTOR, NULL), IOERR);
    cr_assert_eq(request(&c, OUT, UINT64_MAX, SECTOR, NULL), IOERR);
    cr_assert_eq(request(&c, OUT, UINT64_MAX / SECTOR, SECTOR, NULL), IOERR);
    cr_assert_eq(request(&c, OUT, UINT64_MAX / SECTOR + 1, SECTOR, NULL),
                 IOERR);
    cr_assert_eq(request(&c, OUT, 0, SECTOR - 1, NULL), IOERR);
    cr_assert_eq(request(&c, OUT, 0, SECTOR + 1, NULL), IOERR);
    cr_assert_eq(request(&c, IN, SECTORS, SECTOR, &written), IOERR);
    cr_assert_eq(written, 1);
    cr_assert_eq(request(&c, IN, SECTORS - 1, 2 * SECTOR, NULL), IOERR);
    cr_assert_eq(request(&c, IN, 0, 1, NULL), IOERR);
    expect_bytes(&d, 0, SECTORS, 0x33);
    cr_assert_eq(request(&c, IN, SECTORS - 1, SECTOR, &written), OK);
    cr_assert_eq(written, SECTOR + 1);
    cr_assert_eq(request(&c, IN, SECTORS, 0, NULL), OK);
    cr_assert_eq(request(&c, OUT, 0, 0, NULL), OK);
    cr_assert_eq(request(&c, FLUSH, 0, 0, NULL), OK);
    for (uint32_t type = 2; type < 40; type++) {
        if (type != FLUSH && type != GET_ID && type != DISCARD &&
            type != WRITE_ZEROES)
            cr_assert_eq(request(&c, type, 0, SECTOR, NULL), UNSUPP);
    }
    cr_assert_eq(request(&c, UINT32_MAX, 0, 0, NULL), UNSUPP);
    cr_assert_eq(request(&c, GET_ID, 0, 20, &written), OK);
    cr_assert_eq(written, 21);
    cr_assert_arr_eq(vu_at(&c, place_of(0).data), "01234567890123456789", 20);
    cr_assert_eq(request(&c, GET_ID, 0, 7, &written), OK);
    cr_assert_eq(written, 8);

    /* without header or status the queue stops; a reset heals it */
    struct buffer none = { VU_DATA, 8, false };
    struct buffer no_status = { VU_DATA, 16, false };

    cr_assert_geq(driver_add(&c.queue[0].driver, &none, 1), 0);
    vu_kick(&c, 0);
    vu_says(&c, "queue 0 stopped: a request without header or status");
    cr_assert(vu_readable(c.queue[0].err, 5000));
    vu_queue_stop(&c, 0);
    vu_queue_start(&c, 0, 128);
    cr_assert_eq(request(&c, FLUSH, 0, 0, NULL), OK);
    cr_assert_geq(driver_add(&c.queue[0].driver, &no_status, 1), 0);
    vu_kick(&c, 0);
    cr_assert(vu_readable(c.queue[0].err, 5000));
    vu_end(&c, 0);
    disk_fini(&d);
}

static uint64_t number(const uint8_t *config, unsigned at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, config + at, size);
    return value;
}

Test(backend_block, config, .timeout = 60)
{
    struct disk d;
    struct vu_client c;
    uint8_t config[72], message[13] = { 32, 0, 0, 0, 1 };

    disk_init(&d);

    const char *args[] = { d.arg, "--queues=3", NULL };

    vu_spawn(&c, "husk-block", args);
    vu_start(&c, F_FLUSH | F_CONFIG_WCE | F_MQ, 3, 16);
    cr_assert_eq(c.specs.id, 2);
    cr_assert_eq(c.specs.config_size, 72);
    cr_assert_eq(c.offers & 0xffffff, 1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 |
                                          1 << 11 | 1 << 12 | 1 << 13 |
                                          1 << 14);
    vu_config(&c, 0, config, 72);
    cr_assert_eq(number(config, 0, 8), SECTORS);
    cr_assert_eq(number(config, 12, 4), 126);
    cr_assert_eq(number(config, 20, 4), SECTOR);
    cr_assert_eq(config[32], 1);
    cr_assert_eq(number(config, 34, 2), 3);
    cr_assert_eq(number(config, 36, 4), number(config, 48, 4));
    cr_assert_eq(number(config, 40, 4), 16);
    cr_assert_eq(number(config, 52, 4), 16);
    cr_assert_eq(config[56], 1);

    /* write-through and back; nothing else can be written */
    cr_assert_eq(vu_set(&c, VU_SET_CONFIG, message, 13, -1), 0);
    vu_config(&c, 32, config, 1);
    cr_assert_eq(config[0], 0);
    cr_assert_eq(request(&c, OUT, 0, SECTOR, NULL), OK);
    message[12] = 2;
    cr_assert_neq(vu_set(&c, VU_SET_CONFIG, message, 13, -1), 0);
    message[0] = 0;
    cr_assert_neq(vu_set(&c, VU_SET_CONFIG, message, 13, -1), 0);
    cr_assert_eq(vu_set_u64(&c, VU_SET_STATUS, 0), 0);
    vu_config(&c, 32, config, 1);
    cr_assert_eq(config[0], 1);

    /* grown, and shrunk: told, and in effect */
    vu_features(&c, 0);
    vu_queue_start(&c, 0, 16);
    vu_driver_ok(&c);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t sectors = i ? SECTORS / 2 : SECTORS * 2;
        struct vu_header h,
            answer = { VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION | VU_REPLY, 8 };
        uint64_t zero = 0;

        cr_assert_eq(ftruncate(d.fd, (off_t)sectors * SECTOR), 0);
        kill(c.pid, SIGHUP);
        cr_assert(vu_readable(c.uplink, 5000));
        cr_assert_eq(read(c.uplink, &h, sizeof h), (ssize_t)sizeof h);
        cr_assert_eq(h.request, VU_BACKEND_CONFIG_CHANGE_MSG);
        vu_config(&c, 0, config, 8);
        cr_assert_eq(number(config, 0, 8), sectors);
        cr_assert_eq(request(&c, IN, sectors - 1, SECTOR, NULL), OK);
        cr_assert_eq(request(&c, IN, sectors, SECTOR, NULL), IOERR);
        cr_assert_eq(write(c.uplink, &answer, sizeof answer),
                     (ssize_t)sizeof answer);
        cr_assert_eq(write(c.uplink, &zero, 8), 8);
    }
    /* the file is cut and nobody says so: an error, not a hang */
    cr_assert_eq(ftruncate(d.fd, SECTOR), 0);
    cr_assert_eq(request(&c, IN, 8, SECTOR, NULL), IOERR);
    vu_end(&c, 0);
    disk_fini(&d);
}

Test(backend_block, read_only, .timeout = 60)
{
    struct disk d;
    struct vu_client c;

    disk_init(&d);
    fill_disk(&d, 0x55);
    chmod(d.path, 0400);

    const char *args[] = { d.arg, "--read-only", NULL };

    vu_spawn(&c, "husk-block", args);
    vu_start(&c, 0, 1, 16);
    cr_assert_eq(c.offers & 0xffffff,
                 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10);
    cr_assert_eq(request(&c, OUT, 0, SECTOR, NULL), IOERR);
    cr_assert_eq(segment(&c, DISCARD, 0, 8, 0), IOERR);
    cr_assert_eq(segment(&c, WRITE_ZEROES, 0, 8, 0), IOERR);
    cr_assert_eq(request(&c, IN, 0, SECTOR, NULL), OK);
    cr_assert_eq(request(&c, FLUSH, 0, 0, NULL), OK);
    cr_assert_eq(*(uint8_t *)vu_at(&c, place_of(0).data), 0x55);
    expect_bytes(&d, 0, SECTORS, 0x55);
    vu_end(&c, 0);
    disk_fini(&d);
}

/* Disks that cannot be, each with one line that says what to do. */
Test(backend_block, options, .timeout = 30)
{
    char dir[] = "/tmp/husk-fifo-XXXXXX", fifo[64], arg[96];

    cr_assert_not_null(mkdtemp(dir));
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    snprintf(arg, sizeof arg, "--file=%s", fifo);

    const struct {
        const char *args[4];
        const char *says;
    } rows[] = {
        { { "--fd=0" }, "which disk? Give --file=PATH" },
        { { "--fd=0", "--file=/nowhere" }, "--file=/nowhere: No such file" },
        { { "--fd=0", "--file=/tmp" }, "--file=/tmp: Is a directory" },
        { { "--fd=0", "--file=/tmp", "--read-only" }, "give a regular file" },
        { { "--fd=0", arg }, "give a regular file or a block device" },
        { { "--fd=0", arg, "--read-only" }, "give a regular file" },
        { { "--fd=0", "--file=/dev/null" },
          "--file=/dev/null: give a regular" },
        { { "--fd=0", "--serial=012345678901234567890" }, "at most 20 bytes" },
        { { "--fd=0", "--queues=0" }, "--queues=0: give a number from 1 to" },
        { { "--fd=0", "--queues=257" }, "give a number from 1 to 256" },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int err = memfd_create("stderr", MFD_CLOEXEC), status;
        pid_t pid = vu_exec("husk-block", rows[i].args, -1, err);
        char all[512];

        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "row %u", i);
        vu_says(&(struct vu_client){ .stderr_fd = err }, rows[i].says);

        ssize_t n = pread(err, all, sizeof all, 0);

        cr_assert_eq(memchr(all, '\n', (size_t)n), all + n - 1, "row %u", i);
        close(err);
    }
    unlink(fifo);
    rmdir(dir);
}
