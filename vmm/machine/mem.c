/*
 * Guest memory as one sealed memfd. Nothing is preallocated: a size that the
 * host could never back is refused here, before it can turn into SIGBUS or the
 * OOM killer in the middle of a run.
 */
#include "vmm/machine/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define MIB (UINT64_C(1) << 20)

/* The number that a one-line file holds; UINT64_MAX for "max" or no file. */
static uint64_t read_number(const char *path)
{
    char text[32];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return UINT64_MAX;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return UINT64_MAX;
    text[n] = 0;
    if (text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    return strtoull(text, NULL, 10);
}

/* The tightest limit on the way from this cgroup up to the root. */
static uint64_t cgroup_walk(const char *root, char *path, const char *file)
{
    uint64_t limit = UINT64_MAX;

    for (;;) {
        char name[640];
        uint64_t here;
        char *slash;

        snprintf(name, sizeof name, "%s%s/%s", root, path, file);
        here = read_number(name);
        if (here < limit)
            limit = here;
        slash = strrchr(path, '/');
        if (!slash)
            return limit;
        *slash = 0;
    }
}

/* The memory limit of this process's cgroup, version 2 or 1. */
static uint64_t cgroup_limit(void)
{
    uint64_t limit = UINT64_MAX;
    char line[512];
    FILE *file = fopen("/proc/self/cgroup", "re");

    if (!file)
        return limit;
    while (fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        uint64_t here = UINT64_MAX;

        if (!path)
            continue;
        *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        if (controllers[1] == 0)
            here = cgroup_walk("/sys/fs/cgroup", path, "memory.max");
        else if (strstr(controllers + 1, "memory"))
            here = cgroup_walk("/sys/fs/cgroup/memory", path,
                               "memory.limit_in_bytes");
        if (here < limit)
            limit = here;
    }
    fclose(file);
    return limit;
}

static int check_size(uint64_t size, struct husk_err *err)
{
    uint64_t page = sys_page_size();
    struct sysinfo info;
    uint64_t host, limit;

    if (!size || size % page)
        return fail(err, -EINVAL,
                    "memory of %" PRIu64 " bytes: give whole "
                    "pages, at least one",
                    size);
    if (sysinfo(&info) < 0)
        return fail(err, -errno, "sysinfo: %s", strerror(errno));
    host = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
    if (size > host)
        return fail(err, -ENOMEM,
                    "memory of %" PRIu64 " MiB is more than the "
                    "host's %" PRIu64 " MiB of memory and swap: give the "
                    "guest less",
                    size / MIB, host / MIB);
    limit = cgroup_limit();
    if (size > limit)
        return fail(err, -ENOMEM,
                    "memory of %" PRIu64 " MiB is more than this "
                    "memory cgroup's limit of %" PRIu64 " MiB: give the guest "
                    "less, or raise the limit",
                    size / MIB, limit / MIB);
    return 0;
}

static void add_region(struct mem *mem, gpa_t base, uint64_t offset,
                       uint64_t size)
{
    mem->region[mem->n_regions++] =
        (struct mem_region){ .base = base,
                             .size = size,
                             .offset = offset,
                             .host = mem->map ? mem->map + offset : NULL };
}

/* As much as there is room for; what is left. */
static uint64_t add_regions(struct mem *mem, const struct mem_layout *layout)
{
    uint64_t left = mem->size;

    for (unsigned i = 0; i < layout->n && left; i++) {
        uint64_t room = layout->range[i].size;
        uint64_t size = left < room ? left : room;

        add_region(mem, layout->range[i].base, mem->size - left, size);
        left -= size;
    }
    return left;
}

void mem_plan(struct mem *mem, uint64_t size, const struct mem_layout *layout)
{
    *mem = (struct mem){ .fd = -1, .size = size };
    add_regions(mem, layout);
}

int mem_init(struct mem *mem, uint64_t size, const struct mem_layout *layout,
             struct husk_err *err)
{
    int rc;

    memset(mem, 0, sizeof *mem);
    mem->fd = -1;
    rc = check_size(size, err);
    if (rc < 0)
        return rc;
    mem->size = size;
    mem->fd = memfd_create("husk-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (mem->fd < 0)
        return fail(err, -errno, "memfd_create: %s", strerror(errno));
    if (ftruncate(mem->fd, (off_t)size) < 0 ||
        fcntl(mem->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
            0) {
        rc = fail(err, -errno, "guest memory: %s", strerror(errno));
        goto failed;
    }
    mem->map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, mem->fd, 0);
    if (mem->map == MAP_FAILED) {
        mem->map = NULL;
        rc = fail(err, -errno, "mapping %" PRIu64 " MiB of guest memory: %s",
                  size / MIB, strerror(errno));
        goto failed;
    }
    madvise(mem->map, size, MADV_DONTDUMP);
    madvise(mem->map, size, MADV_DONTFORK); /* not a keeper's business */
    if (add_regions(mem, layout) == 0)
        return 0;
    rc = fail(err, -EINVAL,
              "memory of %" PRIu64 " MiB is more than the board has addresses "
              "for",
              size / MIB);
failed:
    mem_fini(mem);
    return rc;
}

void mem_fini(struct mem *mem)
{
    if (mem->map)
        munmap(mem->map, mem->size);
    if (mem->fd >= 0)
        close(mem->fd);
    memset(mem, 0, sizeof *mem);
    mem->fd = -1;
}

void *mem_at(const struct mem *mem, gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        const struct mem_region *region = &mem->region[i];
        uint64_t off = gpa - region->base; /* below the base wraps to huge */

        if (off <= region->size && len <= region->size - off)
            return region->host + off;
    }
    return NULL;
}
