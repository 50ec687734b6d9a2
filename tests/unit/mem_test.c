/*
 * Guest memory: the translator's edges, the hole, the seals, and sizes that a
 * host cannot give.
 */
#include "vmm/machine/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"

#define PAGE  4096u
#define HOLE  0x10000u
#define ABOVE UINT64_C(0x100000000)

static struct husk_err err;

static const struct mem_layout layout = {
    .n = 2,
    .range = { { 0, HOLE }, { ABOVE, UINT64_MAX - ABOVE } },
};
static const struct mem_layout large = {
    .n = 1,
    .range = { { 0, UINT64_C(3) << 30 } },
};
static const struct mem_layout small = {
    .n = 2,
    .range = { { 0, PAGE }, { 4 * PAGE, PAGE } },
};

/* What one region holds, and what reaches over any border. */
Test(mem, one_region, .timeout = 10)
{
    struct mem mem;

    cr_assert_eq(mem_init(&mem, 4 * PAGE, &layout, &err), 0, "%s", err.text);
    cr_assert_eq(mem.n_regions, 1);
    cr_assert_eq(mem_at(&mem, 0, 1), mem.map);
    cr_assert_eq(mem_at(&mem, 0, 4 * PAGE), mem.map);
    cr_assert_eq(mem_at(&mem, 1, 4 * PAGE - 1), mem.map + 1);
    cr_assert_eq(mem_at(&mem, 4 * PAGE - 1, 1), mem.map + 4 * PAGE - 1);
    cr_assert_null(mem_at(&mem, 0, 4 * PAGE + 1));
    cr_assert_null(mem_at(&mem, 1, 4 * PAGE));
    cr_assert_null(mem_at(&mem, 4 * PAGE, 1));
    cr_assert_null(mem_at(&mem, 4 * PAGE - 1, 2));
    cr_assert_null(mem_at(&mem, 4 * PAGE + 1, 0));
    cr_assert_null(mem_at(&mem, UINT64_MAX, 1));
    cr_assert_null(mem_at(&mem, UINT64_MAX, UINT64_MAX));
    cr_assert_null(mem_at(&mem, 0, UINT64_MAX));
    cr_assert_null(mem_at(&mem, PAGE, UINT64_MAX - PAGE + 1));
    cr_assert_null(mem_at(&mem, PAGE, UINT64_MAX));
    cr_assert_null(mem_at(&mem, (gpa_t)0 - 8, 16));
    cr_assert_null(mem_at(&mem, ABOVE, 1));
    /* nothing at a place that is there, and not at one that is not */
    cr_assert_eq(mem_at(&mem, PAGE, 0), mem.map + PAGE);
    cr_assert_null(mem_at(&mem, ABOVE, 0));
    mem_fini(&mem);
}

Test(mem, two_regions, .timeout = 10)
{
    struct mem mem;

    cr_assert_eq(mem_init(&mem, HOLE + 3 * PAGE, &layout, &err), 0, "%s",
                 err.text);
    cr_assert_eq(mem.n_regions, 2);
    cr_assert_eq(mem.region[0].base, 0);
    cr_assert_eq(mem.region[0].size, HOLE);
    cr_assert_eq(mem.region[0].offset, 0);
    cr_assert_eq(mem.region[1].base, ABOVE);
    cr_assert_eq(mem.region[1].size, 3 * PAGE);
    cr_assert_eq(mem.region[1].offset, HOLE);
    cr_assert_eq(mem_at(&mem, HOLE - 1, 1), mem.map + HOLE - 1);
    cr_assert_eq(mem_at(&mem, ABOVE, 3 * PAGE), mem.map + HOLE);
    /* side by side in husk, and not to the guest */
    cr_assert_null(mem_at(&mem, HOLE - 1, 2));
    cr_assert_null(mem_at(&mem, HOLE, 1));
    cr_assert_null(mem_at(&mem, ABOVE - 1, 1));
    cr_assert_null(mem_at(&mem, ABOVE - 1, 2));
    cr_assert_null(mem_at(&mem, ABOVE, 3 * PAGE + 1));
    cr_assert_null(mem_at(&mem, ABOVE + 3 * PAGE, 1));
    cr_assert_null(mem_at(&mem, 0, HOLE + 1));
    cr_assert_null(mem_at(&mem, 0, ABOVE + PAGE));
    mem_fini(&mem);
}

/* Just at the hole's start, and a page more. */
Test(mem, up_to_the_hole, .timeout = 10)
{
    struct mem mem;

    cr_assert_eq(mem_init(&mem, HOLE, &layout, &err), 0);
    cr_assert_eq(mem.n_regions, 1);
    cr_assert_eq(mem.region[0].size, HOLE);
    mem_fini(&mem);
    cr_assert_eq(mem_init(&mem, HOLE + PAGE, &layout, &err), 0);
    cr_assert_eq(mem.n_regions, 2);
    cr_assert_eq(mem.region[1].size, PAGE);
    mem_fini(&mem);
}

/* Every address of a small machine, against what a region is. */
Test(mem, every_range, .timeout = 20)
{
    struct mem mem;

    cr_assert_eq(mem_init(&mem, 2 * PAGE, &small, &err), 0);
    for (gpa_t gpa = 0; gpa < 6 * PAGE; gpa += 61) {
        for (uint64_t len = 1; len < 3 * PAGE; len += 97) {
            uint8_t *want = NULL;

            if (gpa + len <= PAGE)
                want = mem.map + gpa;
            else if (gpa >= 4 * PAGE && gpa + len <= 5 * PAGE)
                want = mem.map + PAGE + gpa - 4 * PAGE;
            cr_assert_eq(mem_at(&mem, gpa, len), want, "%llu at 0x%llx",
                         (unsigned long long)len, (unsigned long long)gpa);
        }
    }
    mem_fini(&mem);
}

/* Whoever gets the descriptor can write to memory, but not take it away. */
Test(mem, sealed, .timeout = 10)
{
    unsigned opened = far_open_fds();
    struct stat st;
    struct mem mem;
    int other;

    cr_assert_eq(mem_init(&mem, 4 * PAGE, &layout, &err), 0);
    cr_assert_eq(fcntl(mem.fd, F_GETFD), FD_CLOEXEC);
    other = dup(mem.fd);
    cr_assert_geq(other, 0);
    for (off_t size = 0; size <= 8 * (off_t)PAGE; size += PAGE) {
        if (size == 4 * (off_t)PAGE)
            continue;
        cr_assert_eq(ftruncate(other, size), -1, "now %lld bytes",
                     (long long)size);
        cr_assert_eq(errno, EPERM);
    }
    cr_assert_eq(fcntl(other, F_ADD_SEALS, F_SEAL_WRITE), -1);
    cr_assert_eq(pwrite(other, "husk", 4, 2 * PAGE), 4);
    cr_assert_arr_eq(mem_at(&mem, 2 * PAGE, 4), "husk", 4);
    cr_assert_eq(pwrite(other, "husk", 4, 4 * PAGE), -1, "beyond its end");
    cr_assert_eq(fstat(other, &st), 0);
    cr_assert_eq(st.st_size, 4 * PAGE);
    close(other);
    mem_fini(&mem);
    cr_assert_eq(mem.fd, -1);
    mem_fini(&mem); /* safe to repeat */
    cr_assert_eq(far_open_fds(), opened);
}

/* Nothing is allocated until it is touched. */
Test(mem, not_preallocated, .timeout = 10)
{
    struct stat st;
    struct mem mem;

    cr_assert_eq(mem_init(&mem, 256u << 20, &large, &err), 0, "%s", err.text);
    cr_assert_eq(fstat(mem.fd, &st), 0);
    cr_assert_eq(st.st_blocks, 0);
    *(volatile uint8_t *)mem_at(&mem, 128u << 20, 1) = 1;
    cr_assert_eq(fstat(mem.fd, &st), 0);
    cr_assert(st.st_blocks > 0 && st.st_blocks <= 4096);
    mem_fini(&mem);
}

Test(mem, impossible_sizes, .timeout = 10)
{
    static const uint64_t odd[] = { 0, 1, PAGE - 1, PAGE + 1, 2 * PAGE + 512 };
    unsigned opened = far_open_fds();
    struct sysinfo info;
    uint64_t host;
    struct mem mem;

    for (unsigned i = 0; i < 5; i++) {
        cr_assert_eq(mem_init(&mem, odd[i], &layout, &err), -EINVAL);
        cr_assert_not_null(strstr(err.text, "whole pages"), "%s", err.text);
        mem_fini(&mem);
    }
    cr_assert_eq(sysinfo(&info), 0);
    host = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
    host = (host / PAGE + 1) * PAGE;
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq(mem_init(&mem, host << 4 * i, &layout, &err), -ENOMEM);
        cr_assert_not_null(strstr(err.text, "give the guest less"), "%s",
                           err.text);
        cr_assert_null(strstr(err.text, "-m"), "%s", err.text);
        cr_assert_eq(err.code, -ENOMEM);
        mem_fini(&mem);
    }
    cr_assert_eq(mem_init(&mem, (uint64_t)0 - PAGE, &layout, NULL), -ENOMEM);
    cr_assert_eq(far_open_fds(), opened);
}

Test(mem, planned, .timeout = 10)
{
    struct mem mem;

    mem_plan(&mem, HOLE + 3 * PAGE, &layout);
    cr_assert_eq(mem.n_regions, 2);
    cr_assert_eq(mem.fd, -1);
    cr_assert_eq(mem.region[0].size, HOLE);
    cr_assert_eq(mem.region[1].base, ABOVE);
    cr_assert_eq(mem.region[1].size, 3 * PAGE);
    cr_assert_null(mem.region[1].host);
}

/* RAM that does not begin at 0, and more of it than there are addresses. */
Test(mem, layout, .timeout = 10)
{
    static const struct mem_layout high = {
        .n = 1,
        .range = { { 0x40000000, 3 * PAGE } },
    };
    struct mem mem;

    cr_assert_eq(mem_init(&mem, 3 * PAGE, &high, &err), 0, "%s", err.text);
    cr_assert_eq(mem.n_regions, 1);
    cr_assert_eq(mem_at(&mem, 0x40000000, 3 * PAGE), mem.map);
    cr_assert_eq(mem_at(&mem, 0x40002000, PAGE), mem.map + 2 * PAGE);
    cr_assert_null(mem_at(&mem, 0, 1));
    cr_assert_null(mem_at(&mem, 0x3fffffff, 1));
    cr_assert_null(mem_at(&mem, 0x40003000, 1));
    mem_fini(&mem);
    cr_assert_eq(mem_init(&mem, 4 * PAGE, &high, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "addresses"), "%s", err.text);
    cr_assert_eq(mem_init(&mem, 3 * PAGE, &small, &err), -EINVAL);
    cr_assert_eq(mem.fd, -1);
    cr_assert_eq(mem_init(&mem, 2 * PAGE, &small, &err), 0);
    mem_fini(&mem);
}
