/*
 * Shared memory regions: sizes that a back-end may give, and requests to map
 * and unmap that it may not make. What is not mapped is no memory, to KVM
 * either, and no descriptor outlives its mapping.
 */
#include "devices/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"
#include "tests/unit/fuse.h"

#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))
#define PAGE       UINT64_C(4096)
#define LARGE      (UINT64_C(1) << 21)
#define PAGES      64u /* of region 3; region 7 has one */
#define FILE_PAGES 16u

struct rig {
    struct shm shm;
    int fd; /* a file each page of which begins with its number and "page" */
    unsigned opened;
};

static struct husk_err err;

static void rig_init(struct rig *rig)
{
    static struct vu_shm_config config;

    rig->opened = far_open_fds();
    memset(&config, 0, sizeof config);
    config.n_regions = 2;
    config.size[3] = PAGES * PAGE;
    config.size[7] = PAGE;
    cr_assert_eq(shm_init(&rig->shm, &config, &err), 0, "%s", err.text);
    rig->fd = memfd_create("file", MFD_CLOEXEC);
    cr_assert_geq(rig->fd, 0);
    cr_assert_eq(ftruncate(rig->fd, FILE_PAGES * PAGE), 0);
    for (unsigned i = 0; i < FILE_PAGES; i++) {
        char text[5] = { (char)i, 'p', 'a', 'g', 'e' };

        cr_assert_eq(pwrite(rig->fd, text, 5, (off_t)(i * PAGE)), 5);
    }
}

static void rig_fini(struct rig *rig)
{
    shm_fini(&rig->shm);
    shm_fini(&rig->shm);
    close(rig->fd);
    cr_assert_eq(far_open_fds(), rig->opened, "%d descriptors left",
                 (int)(far_open_fds() - rig->opened));
}

static struct vu_map request(uint64_t at, uint64_t size, uint64_t from)
{
    return (struct vu_map){ .shmid = 3,
                            .shm_offset = at * PAGE,
                            .size = size * PAGE,
                            .fd_offset = from * PAGE,
                            .flags = VU_MAP_WRITABLE };
}

static int map(struct rig *rig, uint64_t at, uint64_t size, uint64_t from)
{
    struct vu_map what = request(at, size, from);

    return shm_map(&rig->shm, &what, rig->fd);
}

static int unmap(struct rig *rig, uint64_t at, uint64_t size)
{
    struct vu_map what = request(at, size, 0);

    return shm_unmap(&rig->shm, &what);
}

/* Nothing is there that could be read or written. */
static bool is_guarded(const void *address)
{
    int ends[2];
    ssize_t n;

    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    n = write(ends[1], address, 1);
    close(ends[0]);
    close(ends[1]);
    return n < 0 && errno == EFAULT;
}

/* The number of the file's page that page at of region 3 shows, -1: none. */
static int page_at(struct rig *rig, uint64_t at)
{
    const uint8_t *page = shm_find(&rig->shm, 3)->map + at * PAGE;

    if (is_guarded(page))
        return -1;
    cr_assert_eq(memcmp(page + 1, "page", 4), 0);
    return page[0];
}

Test(shm, regions, .timeout = 10)
{
    struct rig rig;

    rig_init(&rig);
    cr_assert_eq(rig.shm.n, 2);
    cr_assert_eq(shm_find(&rig.shm, 3)->size, PAGES * PAGE);
    cr_assert_eq(shm_find(&rig.shm, 7)->size, PAGE);
    for (uint32_t id = 0; id < 600; id++)
        cr_assert_eq(shm_find(&rig.shm, id) != NULL, id == 3 || id == 7);
    cr_assert_null(shm_find(&rig.shm, 0x10003));
    cr_assert_null(shm_find(&rig.shm, 0xffffffff));
    for (uint64_t i = 0; i < PAGES; i++)
        cr_assert_eq(page_at(&rig, i), -1);
    rig_fini(&rig);
}

/* Answers to GET_SHMEM_CONFIG that make no sense. */
Test(shm, impossible_regions, .timeout = 10)
{
    static struct vu_shm_config config;
    static const struct {
        uint32_t n;
        uint64_t size[2]; /* of 0 and 255 */
        int rc;
    } rows[] = {
        { 0, { 0, 0 }, 0 },
        { 1, { 0, 0 }, -EPROTO },
        { 0, { 4096, 0 }, -EPROTO },
        { 2, { 4096, 0 }, -EPROTO },
        { 1, { 4096, 4096 }, -EPROTO },
        { 0xffffffff, { 4096, 4096 }, -EPROTO },
        { 2, { 4096, 4096 }, 0 },
        { 1, { 1, 0 }, -EPROTO },
        { 1, { 4095, 0 }, -EPROTO },
        { 1, { 0, 4097 }, -EPROTO },
        { 1, { UINT64_MAX, 0 }, -EPROTO },
        { 1, { UINT64_MAX - 4095, 0 }, -ENOMEM },
        { 1, { UINT64_C(1) << 63, 0 }, -ENOMEM },
        { 2, { 4096, UINT64_C(1) << 62 }, -ENOMEM },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct shm shm;

        memset(&config, 0, sizeof config);
        config.n_regions = rows[i].n;
        config.size[0] = rows[i].size[0];
        config.size[255] = rows[i].size[1];
        err.text[0] = 0;
        cr_assert_eq(shm_init(&shm, &config, &err), rows[i].rc, "row %u: %s", i,
                     err.text);
        if (rows[i].rc)
            cr_assert_gt(strlen(err.text), 10u);
        shm_fini(&shm);
    }
    {
        struct shm none = { 0 };
        struct vu_map what = request(0, 1, 0);

        cr_assert_eq(shm_map(&none, &what, 0), -EINVAL);
        cr_assert_eq(shm_unmap(&none, &what), -EINVAL);
        cr_assert_not(shm_is_broken(&none));
        shm_clear(&none);
        shm_fini(&none);
    }
}

Test(shm, map_and_unmap, .timeout = 10)
{
    struct rig rig;
    uint8_t byte;

    rig_init(&rig);
    cr_assert_eq(map(&rig, 4, 3, 5), 0);
    for (uint64_t i = 0; i < PAGES; i++)
        cr_assert_eq(page_at(&rig, i), i >= 4 && i < 7 ? (int)i + 1 : -1);
    /* a write goes to the file */
    shm_find(&rig.shm, 3)->map[4 * PAGE + 9] = 0x5a;
    cr_assert_eq(pread(rig.fd, &byte, 1, (off_t)(5 * PAGE + 9)), 1);
    cr_assert_eq(byte, 0x5a);
    /* side by side, at both ends, the same page twice */
    cr_assert_eq(map(&rig, 3, 1, 0), 0);
    cr_assert_eq(map(&rig, 7, 1, 0), 0);
    cr_assert_eq(map(&rig, 0, 1, 0), 0);
    cr_assert_eq(map(&rig, PAGES - 1, 1, FILE_PAGES - 1), 0);
    cr_assert_eq(page_at(&rig, PAGES - 1), FILE_PAGES - 1);
    cr_assert_eq(unmap(&rig, 4, 3), 0);
    for (uint64_t i = 4; i < 7; i++)
        cr_assert_eq(page_at(&rig, i), -1);
    cr_assert_eq(page_at(&rig, 3), 0);
    cr_assert_eq(page_at(&rig, 7), 0);
    cr_assert_eq(map(&rig, 4, 3, 5), 0);
    shm_clear(&rig.shm);
    for (uint64_t i = 0; i < PAGES; i++)
        cr_assert_eq(page_at(&rig, i), -1);
    /* the file and the scratch file */
    cr_assert_eq(far_open_fds(), rig.opened + 2, "a descriptor is left");
    cr_assert_eq(map(&rig, 0, PAGES / 4, 0), 0);
    rig_fini(&rig);
}

/* Requests that no back-end may make: nothing changes. */
Test(shm, refused, .timeout = 10)
{
    static const struct {
        struct vu_map map;
        int rc;
    } rows[] = {
        { { .shmid = 2, .size = 4096 }, -EINVAL },
        { { .shmid = 255, .size = 4096 }, -EINVAL },
        { { .shmid = 3, .size = 0 }, -EINVAL },
        { { .shmid = 3, .size = 1 }, -EINVAL },
        { { .shmid = 3, .size = 4095 }, -EINVAL },
        { { .shmid = 3, .size = 4097 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .shm_offset = 1 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .fd_offset = 512 }, -EINVAL },
        { { .shmid = 3, .size = 65 * 4096 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .shm_offset = 64 * 4096 }, -EINVAL },
        { { .shmid = 3, .size = 8192, .shm_offset = 63 * 4096 }, -EINVAL },
        { { .shmid = 7, .size = 8192 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .shm_offset = 0ull - 4096 }, -EINVAL },
        { { .shmid = 3, .size = 8192, .shm_offset = 0ull - 4096 }, -EINVAL },
        { { .shmid = 3, .size = 0ull - 4096, .shm_offset = 4096 }, -EINVAL },
        { { .shmid = 3, .size = 0ull - 4096, .shm_offset = 8192 }, -EINVAL },
        { { .shmid = 3, .size = 1ull << 63 }, -EINVAL },
        /* past the file's end, and wrapping */
        { { .shmid = 3, .size = 4096, .fd_offset = 16 * 4096 }, -EINVAL },
        { { .shmid = 3, .size = 8192, .fd_offset = 15 * 4096 }, -EINVAL },
        { { .shmid = 3, .size = 17 * 4096 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .fd_offset = 0ull - 4096 }, -EINVAL },
        { { .shmid = 3, .size = 8192, .fd_offset = 0ull - 4096 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .fd_offset = 1ull << 63 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .fd_offset = (1ull << 63) - 4096 },
          -EINVAL },
        /* flags that nobody knows */
        { { .shmid = 3, .size = 4096, .flags = 2 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .flags = 3 }, -EINVAL },
        { { .shmid = 3, .size = 4096, .flags = 1ull << 63 }, -EINVAL },
        /* something is there */
        { { .shmid = 3, .size = 4096, .shm_offset = 8 * 4096 }, -EEXIST },
        { { .shmid = 3, .size = 4096, .shm_offset = 10 * 4096 }, -EEXIST },
        { { .shmid = 3, .size = 8192, .shm_offset = 7 * 4096 }, -EEXIST },
        { { .shmid = 3, .size = 8192, .shm_offset = 10 * 4096 }, -EEXIST },
        { { .shmid = 3, .size = 16 * 4096 }, -EEXIST },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct rig rig;

        rig_init(&rig);
        cr_assert_eq(map(&rig, 8, 3, 2), 0);
        cr_assert_eq(shm_map(&rig.shm, &rows[i].map, rig.fd), rows[i].rc,
                     "row %u", i);
        for (uint64_t k = 0; k < PAGES; k++)
            cr_assert_eq(page_at(&rig, k), k >= 8 && k < 11 ? (int)k - 6 : -1,
                         "row %u", i);
        rig_fini(&rig);
    }
}

/* Only what was mapped, as it was mapped, can be unmapped. */
Test(shm, unmap_refused, .timeout = 10)
{
    struct vu_map what;
    struct rig rig;

    rig_init(&rig);
    cr_assert_eq(map(&rig, 8, 3, 2), 0);
    cr_assert_eq(unmap(&rig, 0, 1), -EINVAL);
    cr_assert_eq(unmap(&rig, 8, 1), -EINVAL);
    cr_assert_eq(unmap(&rig, 8, 4), -EINVAL);
    cr_assert_eq(unmap(&rig, 9, 2), -EINVAL);
    cr_assert_eq(unmap(&rig, 8, 0), -EINVAL);
    cr_assert_eq(unmap(&rig, PAGES, 1), -EINVAL);
    what = request(8, 3, 2);
    what.shmid = 7;
    cr_assert_eq(shm_unmap(&rig.shm, &what), -EINVAL);
    cr_assert_eq(page_at(&rig, 8), 2);
    cr_assert_eq(unmap(&rig, 8, 3), 0);
    cr_assert_eq(unmap(&rig, 8, 3), -EINVAL);
    rig_fini(&rig);
}

/* Descriptors that cannot be mapped, or not so. */
Test(shm, other_descriptors, .timeout = 10)
{
    struct vu_map what = request(2, 1, 0);
    struct rig rig;
    char path[40];
    int ends[2], fd;

    rig_init(&rig);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_lt(shm_map(&rig.shm, &what, ends[0]), 0);
    cr_assert_lt(shm_map(&rig.shm, &what, 9999), 0);
    fd = open("/tmp", O_RDONLY | O_CLOEXEC);
    cr_assert_lt(shm_map(&rig.shm, &what, fd), 0);
    close(fd);
    /* read-only: for reading, but not for writing */
    snprintf(path, sizeof path, "/proc/self/fd/%d", rig.fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(shm_map(&rig.shm, &what, fd), -EACCES);
    cr_assert_eq(page_at(&rig, 2), -1);
    what.flags = 0;
    cr_assert_eq(shm_map(&rig.shm, &what, fd), 0);
    cr_assert_eq(page_at(&rig, 2), 0);
    close(fd);
    close(ends[0]);
    close(ends[1]);
    rig_fini(&rig);
}

/* Of kinds whose pages somebody else could hold back, and one that is served
 * by this process and dead: refused, and without waiting. */
Test(shm, files_of_others, .timeout = 10)
{
    static const char *const paths[] = {
        "/proc/self/maps", "/proc/kallsyms", "/sys/kernel/uevent_seqnum",
        "/dev/zero",       "/dev/null",      "/dev/ptmx"
    };
    struct vu_map what = request(2, 1, 0);
    struct fuse fuse;
    struct rig rig;
    const char *why;
    int fd;

    rig_init(&rig);
    what.flags = 0;
    for (unsigned i = 0; i < COUNT(paths); i++) {
        fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        cr_assert_eq(shm_map(&rig.shm, &what, fd), -EOPNOTSUPP, "%s", paths[i]);
        close(fd);
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(shm_map(&rig.shm, &what, fd), -EOPNOTSUPP);
    close(fd);
    fd = eventfd(0, EFD_CLOEXEC);
    cr_assert_lt(shm_map(&rig.shm, &what, fd), 0);
    close(fd);
    if (!fuse_begin(&fuse, &why)) {
        rig_fini(&rig);
        cr_skip_test("%s", why);
    }
    cr_assert_eq(shm_map(&rig.shm, &what, fuse.file), -EOPNOTSUPP);
    fuse_die(&fuse);
    cr_assert_eq(shm_map(&rig.shm, &what, fuse.file), -EOPNOTSUPP);
    cr_assert_eq(fuse.unanswered, 0, "the file system was asked");
    fuse_end(&fuse);
    close(fuse.file);
    rig_fini(&rig);
}

/* A file of an overlay that was opened before it was copied up shows the upper
 * layer's size and device, and maps the lower layer's file. */
Test(shm, overlay, .timeout = 10)
{
    struct vu_map what = request(2, 1, 0);
    char folder[] = "/tmp/husk-shm-XXXXXX", options[160], path[40];
    struct rig rig;
    int fd, up = -1;

    rig_init(&rig);
    what.flags = 0;
    cr_assert_neq(mkdtemp(folder), NULL);
    snprintf(options, sizeof options,
             "lowerdir=%s/l,upperdir=%s/u,workdir=%s/w", folder, folder,
             folder);
    cr_assert_eq(chdir(folder), 0);
    cr_assert(!mkdir("l", 0700) && !mkdir("u", 0700) && !mkdir("w", 0700) &&
              !mkdir("o", 0700));
    fd = open("l/file", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    cr_assert_eq(ftruncate(fd, PAGE), 0);
    /* in itself it may be mapped, wherever tests run */
    cr_assert_eq(shm_map(&rig.shm, &what, fd), 0);
    close(fd);
    fd = -1;
    if (unshare(CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("o", "o", "overlay", 0, options) == 0) {
        fd = open("o/file", O_RDONLY | O_CLOEXEC);
        up = open("o/file", O_RDWR | O_CLOEXEC);
        what.shm_offset = 0;
        cr_assert_eq(shm_map(&rig.shm, &what, up), -EOPNOTSUPP);
        cr_assert_eq(shm_map(&rig.shm, &what, fd), -EOPNOTSUPP);
        close(fd);
        close(up);
        umount2("o", MNT_DETACH);
    }
    snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_assert_eq(system(path), 0);
    rig_fini(&rig);
    if (fd < 0)
        cr_skip_test("this user may not mount a file system");
}

/* Where this says so a memory file seems to be of huge pages. */
static bool pretend_huge;

int fstatfs(int fd, struct statfs *fs)
{
    int rc = (int)syscall(SYS_fstatfs, fd, fs);

    if (pretend_huge && rc == 0) {
        fs->f_type = HUGETLBFS_MAGIC;
        fs->f_bsize = (long)LARGE;
    }
    return rc;
}

/* A file of n huge pages. Where the host gives none, one that seems to be. */
static int huge_file(unsigned n)
{
    int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
    void *map = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, (off_t)(n * LARGE)) == 0)
        map = mmap(NULL, n * LARGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        cr_log_warn("no huge pages here: a file that seems to have them");
        close(fd);
        pretend_huge = true;
        fd = memfd_create("small", MFD_CLOEXEC);
        cr_assert_eq(ftruncate(fd, (off_t)(n * LARGE)), 0);
        map = mmap(NULL, n * LARGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    cr_assert_neq(map, MAP_FAILED);
    for (unsigned i = 0; i < n; i++)
        memset((char *)map + i * LARGE, 'a' + (int)i, LARGE);
    munmap(map, n * LARGE);
    return fd;
}

/* Root may have some. */
static long huge_pages(long wanted)
{
    FILE *file = fopen("/proc/sys/vm/nr_hugepages", "r+e");
    long n = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%ld", &n) == 1 && wanted >= 0) {
        rewind(file);
        fprintf(file, "%ld", wanted);
    }
    fclose(file);
    return n;
}

/*
 * mmap() rounds a length up to the file's huge page, MAP_FIXED included: a page
 * of such a file would replace 2 MiB of whatever lies behind it.
 */
Test(shm, huge_pages, .timeout = 30)
{
    static struct vu_shm_config config;
    long had = huge_pages(-1);
    struct vu_map what;
    struct shm_region *small, *big;
    struct rig rig;
    int fd;

    huge_pages(had + 3);
    rig_init(&rig);
    shm_fini(&rig.shm);
    config.n_regions = 2;
    config.size[3] = PAGES * PAGE;
    config.size[4] = 3 * LARGE;
    cr_assert_eq(shm_init(&rig.shm, &config, &err), 0);
    fd = huge_file(3);
    small = &rig.shm.regions[0];
    big = &rig.shm.regions[1];
    for (uint64_t at = 0; at < PAGES; at++)
        for (uint64_t size = 1; size <= PAGES - at; size += 7) {
            what = request(at, size, 0);
            cr_assert_eq(shm_map(&rig.shm, &what, fd), -EINVAL);
        }
    for (uint64_t at = 0; at <= 3 * LARGE; at += LARGE / 2)
        for (uint64_t size = PAGE; size < LARGE; size *= 2) {
            const uint64_t rows[][3] = {
                { at, size, 0 },         { at - size, size, 0 },
                { at, LARGE + size, 0 }, { at + size, LARGE, 0 },
                { at, LARGE, size },     { at - size, LARGE, 0 },
                { at, LARGE - size, 0 },
            };

            for (unsigned i = 0; i < COUNT(rows); i++) {
                what = (struct vu_map){ .shmid = 4,
                                        .shm_offset = rows[i][0],
                                        .size = rows[i][1],
                                        .fd_offset = rows[i][2],
                                        .flags = VU_MAP_WRITABLE };
                if ((rows[i][0] | rows[i][1] | rows[i][2]) % LARGE)
                    cr_assert_eq(shm_map(&rig.shm, &what, fd), -EINVAL);
            }
        }
    for (uint64_t at = 0; at < small->size; at += PAGE)
        cr_assert(is_guarded(small->map + at));
    for (uint64_t at = 0; at < big->size; at += PAGE)
        cr_assert(is_guarded(big->map + at));
    /* as the file has them they can be had, up to both ends */
    for (unsigned i = 0; i < 3; i++) {
        what = (struct vu_map){ .shmid = 4,
                                .shm_offset = i * LARGE,
                                .size = LARGE,
                                .fd_offset = (2 - i) * LARGE,
                                .flags = VU_MAP_WRITABLE };
        cr_assert_eq(shm_map(&rig.shm, &what, fd), 0);
        cr_assert_eq(big->map[i * LARGE], 'c' - (int)i);
        cr_assert_eq(big->map[(i + 1) * LARGE - 1], 'c' - (int)i);
    }
    cr_assert(is_guarded(big->map - 1));
    cr_assert(is_guarded(big->map + 3 * LARGE));
    what.shm_offset = LARGE;
    cr_assert_eq(shm_unmap(&rig.shm, &what), 0);
    cr_assert_eq(big->map[0], 'c');
    cr_assert(is_guarded(big->map + LARGE));
    cr_assert_eq(big->map[2 * LARGE], 'a');
    shm_clear(&rig.shm);
    cr_assert(is_guarded(big->map));
    close(fd);
    rig_fini(&rig);
    huge_pages(had);
}

/* Reservations of other memory lie this far from a region. */
Test(shm, guarded, .timeout = 10)
{
    struct rig rig;

    rig_init(&rig);
    for (unsigned i = 0; i < rig.shm.n; i++) {
        const struct shm_region *region = &rig.shm.regions[i];

        cr_assert_eq((uintptr_t)region->map % LARGE, 0);
        for (uint64_t far = 1; far <= UINT64_C(1) << 30; far *= 2) {
            cr_assert(is_guarded(region->map - far));
            cr_assert(is_guarded(region->map + region->size + far - 1));
        }
    }
    rig_fini(&rig);
}

/* The file is cut short under a mapping: seen, without touching it. */
Test(shm, truncated_later, .timeout = 10)
{
    struct rig rig;

    rig_init(&rig);
    cr_assert_not(shm_is_broken(&rig.shm));
    cr_assert_eq(map(&rig, 0, 4, 2), 0);
    cr_assert_not(shm_is_broken(&rig.shm));
    cr_assert_eq(ftruncate(rig.fd, 6 * PAGE), 0);
    cr_assert_not(shm_is_broken(&rig.shm));
    cr_assert_eq(ftruncate(rig.fd, 6 * PAGE - 1), 0);
    cr_assert(shm_is_broken(&rig.shm));
    cr_assert_eq(ftruncate(rig.fd, 0), 0);
    cr_assert(shm_is_broken(&rig.shm));
    cr_assert_eq(unmap(&rig, 0, 4), 0);
    cr_assert_not(shm_is_broken(&rig.shm));
    rig_fini(&rig);
}

/* As many mappings as a device may have: of files that could be cut short a
 * share of this process's descriptors, of others SHM_MAX_MAPPINGS. */
Test(shm, full, .timeout = 20)
{
    static struct vu_shm_config config;
    static const struct {
        rlim_t fds;
        bool sealed;
        unsigned want;
    } rows[] = {
        { 256, false, 16 },
        { 2048, false, 32 },
        { 2048, true, SHM_MAX_MAPPINGS },
        { 20000, false, 312 },
    };

    config.n_regions = 2;
    config.size[3] = config.size[4] = SHM_MAX_MAPPINGS * PAGE;
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct rlimit limit;
        struct vu_map what = { .shmid = 3, .size = PAGE };
        struct rig rig;
        unsigned n = 0;
        int rc;

        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = rows[i].fds;
        if (limit.rlim_cur > limit.rlim_max)
            continue;
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        rig_init(&rig);
        shm_fini(&rig.shm);
        cr_assert_eq(shm_init(&rig.shm, &config, &err), 0);
        if (rows[i].sealed) {
            close(rig.fd);
            rig.fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
            cr_assert_eq(ftruncate(rig.fd, PAGE), 0);
            cr_assert_eq(fcntl(rig.fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
        }
        do { /* in turn: the regions share the limit */
            what.shmid = 3 + n % 2;
            what.shm_offset = n / 2 * PAGE;
            rc = shm_map(&rig.shm, &what, rig.fd);
            n += rc == 0;
        } while (rc == 0);
        cr_assert_eq(rc, -ENOSPC, "%d", rc);
        cr_assert_eq(n, rows[i].want, "row %u: %u", i, n);
        what.shmid = 3;
        what.shm_offset = 0;
        cr_assert_eq(shm_unmap(&rig.shm, &what), 0);
        cr_assert_eq(shm_map(&rig.shm, &what, rig.fd), 0);
        shm_clear(&rig.shm);
        cr_assert_eq(shm_map(&rig.shm, &what, rig.fd), 0);
        rig_fini(&rig);
    }
}

/* The guest writes to what is mapped read-only: to a copy of its own. */
Test(shm, read_only_is_copied, .timeout = 10)
{
    struct vu_map what = request(2, 1, 0);
    struct rig rig;
    uint8_t *map;
    char first;

    rig_init(&rig);
    what.flags = 0;
    cr_assert_eq(shm_map(&rig.shm, &what, rig.fd), 0);
    map = shm_find(&rig.shm, 3)->map + 2 * PAGE;
    cr_assert_eq(map[1], 'p');
    map[1] = 'q';
    cr_assert_eq(map[1], 'q');
    cr_assert_eq(pread(rig.fd, &first, 1, 1), 1);
    cr_assert_eq(first, 'p', "the file holds '%c'", first);
    cr_assert_eq(shm_unmap(&rig.shm, &what), 0);
    cr_assert(is_guarded(map));
    cr_assert_eq(shm_map(&rig.shm, &what, rig.fd), 0);
    cr_assert_eq(map[1], 'p');
    rig_fini(&rig);
}

/* The machine's memory slots, as far as they are in use. */
struct slots {
    struct {
        gpa_t base;
        uint64_t size;
        uint8_t *host;
    } slot[2 * SHM_SLOTS];
    unsigned calls;
    int rc; /* of each call that adds one */
};

#define FIRST 100u /* number of the first slot */

static int set_slot(void *ctx, uint32_t number, gpa_t base, uint64_t size,
                    void *host)
{
    struct slots *slots = ctx;

    cr_assert(number >= FIRST && number < FIRST + 2 * SHM_SLOTS);
    number -= FIRST;
    slots->calls++;
    cr_assert(!size || !slots->slot[number].size, "slot %u is in use", number);
    if (size && slots->rc < 0)
        return slots->rc;
    slots->slot[number].base = base;
    slots->slot[number].size = size;
    slots->slot[number].host = host;
    return 0;
}

#define BASE UINT64_C(0x100000000) /* of region 3 */

static void attach(struct rig *rig, struct slots *slots)
{
    struct shm_slots ops = { set_slot, slots };

    memset(slots, 0, sizeof *slots);
    rig->shm.regions[0].base = BASE;
    rig->shm.regions[1].base = BASE + LARGE;
    cr_assert_eq(shm_attach(&rig->shm, &ops, FIRST), 0);
}

/* The slots that there are, in pages of region 3: "0+64", "8+3 40+1". */
static const char *seen(struct slots *slots)
{
    static char text[4096];
    size_t n = 0;

    text[0] = 0;
    for (uint64_t at = 0; at < PAGES; at++)
        for (unsigned i = 0; i < 2 * SHM_SLOTS; i++)
            if (slots->slot[i].size && slots->slot[i].base == BASE + at * PAGE)
                n += (size_t)snprintf(text + n, sizeof text - n, "%s%u+%u",
                                      n ? " " : "", (unsigned)at,
                                      (unsigned)(slots->slot[i].size / PAGE));
    return text;
}

static void check_seen(struct slots *slots, const char *wanted)
{
    cr_assert_str_eq(seen(slots), wanted);
}

static bool faults(struct rig *rig, gpa_t gpa, bool again, enum shm_loss wanted)
{
    enum shm_loss loss;
    bool found = shm_fault(&rig->shm, gpa, again, &loss);

    cr_assert_eq(loss, wanted, "loss %d, not %d", (int)loss, (int)wanted);
    return found;
}

/* What KVM has of a region: nothing, all of it, or no more than is mapped once
 * the guest has touched what is not. */
Test(shm, views, .timeout = 10)
{
    struct slots slots;
    struct rig rig;

    rig_init(&rig);
    attach(&rig, &slots);
    check_seen(&slots, "");
    cr_assert_not(faults(&rig, SHM_ANYWHERE, false, SHM_KEPT));
    cr_assert_eq(map(&rig, 8, 3, 0), 0);
    check_seen(&slots, "0+64");
    cr_assert_eq(slots.slot[0].host, shm_find(&rig.shm, 3)->map);
    cr_assert_eq(map(&rig, 40, 1, 0), 0);
    cr_assert_eq(unmap(&rig, 40, 1), 0);
    cr_assert_eq(map(&rig, 40, 1, 0), 0);
    cr_assert_eq(slots.calls, 1);
    /* it touched a hole */
    cr_assert(faults(&rig, SHM_ANYWHERE, false, SHM_KEPT));
    check_seen(&slots, "8+3 40+1");
    cr_assert_eq(slots.slot[1].host, shm_find(&rig.shm, 3)->map + 8 * PAGE);
    cr_assert_eq(map(&rig, 0, 1, 0), 0);
    cr_assert_eq(unmap(&rig, 8, 3), 0);
    check_seen(&slots, "0+1 40+1");
    cr_assert_not(faults(&rig, SHM_ANYWHERE, false, SHM_KEPT));
    cr_assert_eq(unmap(&rig, 0, 1), 0);
    cr_assert_eq(unmap(&rig, 40, 1), 0);
    check_seen(&slots, "");
    /* anew */
    cr_assert_eq(map(&rig, 63, 1, 0), 0);
    check_seen(&slots, "0+64");
    cr_assert_eq(unmap(&rig, 63, 1), 0);
    cr_assert(faults(&rig, BASE, false, SHM_KEPT));
    check_seen(&slots, "");
    cr_assert_eq(map(&rig, 1, 1, 0), 0);
    cr_assert(faults(&rig, BASE, false, SHM_KEPT));
    check_seen(&slots, "1+1");
    shm_clear(&rig.shm);
    check_seen(&slots, "");
    /* of another region, or of none */
    cr_assert_eq(map(&rig, 1, 1, 0), 0);
    cr_assert_not(faults(&rig, BASE + LARGE, true, SHM_KEPT));
    cr_assert_not(faults(&rig, BASE - 1, true, SHM_KEPT));
    cr_assert_not(faults(&rig, BASE + PAGES * PAGE, true, SHM_KEPT));
    check_seen(&slots, "0+64");
    /* a reset costs KVM nothing, another machine begins anew */
    shm_clear(&rig.shm);
    check_seen(&slots, "0+64");
    attach(&rig, &slots);
    check_seen(&slots, "");
    cr_assert_eq(map(&rig, 1, 1, 0), 0);
    check_seen(&slots, "0+64");
    attach(&rig, &slots);
    check_seen(&slots, "0+64");
    rig_fini(&rig);
}

/* A page of what is mapped cannot be had. */
Test(shm, faults, .timeout = 10)
{
    struct slots slots;
    struct rig rig;

    rig_init(&rig);
    attach(&rig, &slots);
    cr_assert_eq(map(&rig, 8, 3, 0), 0);
    /* KVM says where */
    cr_assert(faults(&rig, BASE + 9 * PAGE, false, SHM_NO_PAGE));
    /* or does not: holes come first, another vCPU may have met one at the same
     * time, and then it is no hole */
    cr_assert(faults(&rig, SHM_ANYWHERE, false, SHM_KEPT));
    cr_assert_not(faults(&rig, SHM_ANYWHERE, false, SHM_KEPT));
    cr_assert(faults(&rig, SHM_ANYWHERE, true, SHM_NO_PAGE));
    cr_assert_eq(ftruncate(rig.fd, PAGE), 0);
    cr_assert(faults(&rig, SHM_ANYWHERE, false, SHM_CUT));
    shm_clear(&rig.shm);
    cr_assert_not(faults(&rig, SHM_ANYWHERE, true, SHM_KEPT));
    rig_fini(&rig);
}

/* More mappings than a region has slots: mapped they may be, but not met by a
 * guest that touches what lies between them. */
Test(shm, scattered, .timeout = 10)
{
    static struct vu_shm_config config;
    struct slots slots;
    struct rig rig;

    rig_init(&rig);
    shm_fini(&rig.shm);
    memset(&config, 0, sizeof config);
    config.n_regions = 2;
    config.size[3] = 2 * (SHM_EXACT_SLOTS + 1) * PAGE;
    config.size[7] = PAGE;
    for (unsigned more = 0; more < 2; more++) {
        cr_assert_eq(shm_init(&rig.shm, &config, &err), 0);
        rig.shm.max_fds = SHM_MAX_MAPPINGS;
        attach(&rig, &slots);
        for (unsigned i = 0; i < SHM_EXACT_SLOTS + more; i++)
            cr_assert_eq(map(&rig, 2 * i, 1, 0), 0);
        cr_assert(
            faults(&rig, SHM_ANYWHERE, false, more ? SHM_SCATTERED : SHM_KEPT));
        if (!more)
            cr_assert_eq(map(&rig, 1, 1, 0), -ENOSPC);
        shm_clear(&rig.shm);
        for (unsigned i = 0; i < 2 * SHM_SLOTS; i++)
            cr_assert_eq(slots.slot[i].size, 0);
        shm_fini(&rig.shm);
    }
    rig_fini(&rig);
}

/* KVM has no slot for it: it is not mapped. */
Test(shm, no_slot, .timeout = 10)
{
    struct slots slots;
    struct rig rig;

    rig_init(&rig);
    attach(&rig, &slots);
    slots.rc = -ENOMEM;
    cr_assert_eq(map(&rig, 8, 3, 0), -ENOMEM);
    cr_assert_eq(page_at(&rig, 8), -1);
    cr_assert_eq(shm_mappings(&rig.shm), 0);
    slots.rc = 0;
    cr_assert_eq(map(&rig, 8, 3, 0), 0);
    rig_fini(&rig);
}

static bool reads(struct rig *rig, uint64_t offset, void *data, unsigned size)
{
    return shm_access(&rig->shm, &rig->shm.regions[0], offset, data, size,
                      false);
}

static bool writes(struct rig *rig, uint64_t offset, uint64_t value)
{
    return shm_access(&rig->shm, &rig->shm.regions[0], offset, &value,
                      sizeof value, true);
}

/* What leaves KVM_RUN: zeros where nothing is mapped, at the borders too. */
Test(shm, accesses, .timeout = 10)
{
    uint64_t value = 1;
    struct rig rig;

    rig_init(&rig);
    cr_assert_eq(map(&rig, 8, 3, 2), 0);
    cr_assert(reads(&rig, 0, &value, 8));
    cr_assert_eq(value, 0);
    cr_assert(writes(&rig, 0, 5));
    cr_assert(writes(&rig, 7 * PAGE + 4, 5));
    cr_assert(writes(&rig, 11 * PAGE - 4, 5));
    cr_assert(writes(&rig, PAGES * PAGE - 8, 5));
    cr_assert_eq(page_at(&rig, 0), -1);
    value = 1;
    cr_assert(reads(&rig, 7 * PAGE + 4092, &value, 8));
    cr_assert_eq(value, 0);
    cr_assert(reads(&rig, 8 * PAGE, &value, 5));
    cr_assert_eq(memcmp(&value, "\2page", 5), 0);
    cr_assert(writes(&rig, 10 * PAGE + 4088, 0x1234));
    cr_assert_eq(pread(rig.fd, &value, 8, 4 * (off_t)PAGE + 4088), 8);
    cr_assert_eq(value, 0x1234);
    /* behind the file's end */
    cr_assert_eq(ftruncate(rig.fd, 4 * (off_t)PAGE), 0);
    cr_assert(reads(&rig, 9 * PAGE, &value, 8));
    cr_assert_not(reads(&rig, 10 * PAGE, &value, 8));
    cr_assert_eq(value, 0);
    cr_assert_not(writes(&rig, 10 * PAGE, 5));
    rig_fini(&rig);
}

/* The file is long enough, but its file system is full. */
Test(shm, full_file_system, .timeout = 10)
{
    struct vu_map what = request(2, 16, 0);
    char folder[] = "/tmp/husk-shm-XXXXXX";
    uint64_t value = 7;
    struct rig rig;
    int fd = -1;

    rig_init(&rig);
    cr_assert_neq(mkdtemp(folder), NULL);
    if (unshare(CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("t", folder, "tmpfs", 0, "size=16k") == 0) {
        cr_assert_eq(chdir(folder), 0);
        fd = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        cr_assert_eq(ftruncate(fd, 16 * PAGE), 0);
        cr_assert_eq(shm_map(&rig.shm, &what, fd), 0);
        for (unsigned i = 0; i < 4; i++) {
            cr_assert_not(shm_is_starved(&rig.shm));
            cr_assert(writes(&rig, (2 + i) * PAGE, 5));
        }
        cr_assert(shm_is_starved(&rig.shm));
        cr_assert_not(writes(&rig, 6 * PAGE, 5));
        cr_assert_not(reads(&rig, 6 * PAGE, &value, 8));
        cr_assert_eq(value, 0);
        cr_assert_not(shm_is_broken(&rig.shm));
        close(fd);
        cr_assert_eq(chdir("/"), 0);
        umount2(folder, MNT_DETACH);
    }
    rmdir(folder);
    rig_fini(&rig);
    if (fd < 0)
        cr_skip_test("this user may not mount a file system");
}

Test(shm, total, .timeout = 10)
{
    static struct vu_shm_config config;

    cr_assert_eq(shm_total(&config), 0);
    config.size[0] = PAGE;
    config.size[255] = 1ull << 63;
    cr_assert_eq(shm_total(&config), (1ull << 63) + PAGE);
    config.size[1] = 1ull << 63;
    cr_assert_eq(shm_total(&config), UINT64_MAX);
}
