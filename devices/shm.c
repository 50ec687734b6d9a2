/* Shared memory regions. See shm.h. */
#include "devices/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/foreign.h"
#include "vmm/machine/fail.h"

#define PAGE  4096u
#define LARGE (UINT64_C(1) << 21)
#define HUGE  (UINT64_C(1) << 30) /* the largest page of this architecture */

/* Neither a dump's business nor that of whatever this program forks. */
static void keep_to_ourselves(void *map, size_t size)
{
    madvise(map, size, MADV_DONTDUMP);
    madvise(map, size, MADV_DONTFORK);
}

static int make_anonymous(const struct shm_region *region, uint64_t offset,
                          uint64_t size)
{
    void *map =
        mmap(region->map + offset, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    if (map == MAP_FAILED)
        return -errno;
    keep_to_ourselves(map, size);
    return 0;
}

/*
 * Addresses for a region, as aligned as a file of huge pages needs them, and
 * as many before and behind it as the largest page has: an error here or in the
 * kernel about a page's size must not reach other memory.
 */
static int reserve(struct shm_region *region, struct husk_err *err)
{
    uint64_t align = region->size < HUGE ? LARGE : HUGE;
    void *map = MAP_FAILED;

    errno = ENOMEM;
    if (region->size < INT64_MAX - 3 * HUGE) {
        region->reserved = region->size + align + 2 * HUGE;
        map = mmap(NULL, region->reserved, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    if (map == MAP_FAILED)
        return fail(err, -ENOMEM,
                    "shared memory region %u of %" PRIu64 " bytes: %s",
                    region->id, region->size, strerror(errno));
    region->reservation = map;
    region->map = region->reservation + HUGE;
    region->map += -(uintptr_t)region->map & (align - 1);
    if (make_anonymous(region, 0, region->size) < 0)
        return fail(err, -ENOMEM,
                    "shared memory region %u of %" PRIu64 " bytes: %s",
                    region->id, region->size, strerror(errno));
    return 0;
}

int shm_init(struct shm *shm, const struct vu_shm_config *config,
             struct husk_err *err)
{
    unsigned n = 0;
    int rc = 0;

    memset(shm, 0, sizeof *shm);
    for (unsigned id = 0; id < VU_MAX_SHM; id++) {
        if (config->size[id] % PAGE)
            return fail(err, -EPROTO,
                        "shared memory region %u has %" PRIu64
                        " bytes, not whole pages",
                        id, config->size[id]);
        n += config->size[id] != 0;
    }
    if (n != config->n_regions)
        return fail(err, -EPROTO,
                    "GET_SHMEM_CONFIG says %u regions and gives "
                    "%u sizes",
                    config->n_regions, n);
    if (n == 0)
        return 0;
    shm->regions = calloc(n, sizeof *shm->regions);
    if (!shm->regions)
        return fail(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&shm->lock, NULL);
    for (unsigned id = 0; id < VU_MAX_SHM && rc == 0; id++) {
        struct shm_region *region = &shm->regions[shm->n];

        if (!config->size[id])
            continue;
        shm->n++;
        region->id = (uint8_t)id;
        region->size = config->size[id];
        rc = reserve(region, err);
    }
    return rc;
}

static void forget(struct shm *shm, struct shm_region *region)
{
    shm->n_mappings -= region->n_mappings;
    for (unsigned i = 0; i < region->n_mappings; i++)
        close(region->mappings[i].fd);
    free(region->mappings);
    region->mappings = NULL;
    region->n_mappings = 0;
}

void shm_fini(struct shm *shm)
{
    for (unsigned i = 0; i < shm->n; i++) {
        forget(shm, &shm->regions[i]);
        if (shm->regions[i].reservation)
            munmap(shm->regions[i].reservation, shm->regions[i].reserved);
    }
    if (shm->regions)
        pthread_mutex_destroy(&shm->lock);
    free(shm->regions);
    memset(shm, 0, sizeof *shm);
}

static struct shm_region *find(const struct shm *shm, uint32_t id)
{
    for (unsigned i = 0; i < shm->n; i++)
        if (shm->regions[i].id == id)
            return &shm->regions[i];
    return NULL;
}

const struct shm_region *shm_find(const struct shm *shm, uint32_t id)
{
    return find(shm, id);
}

/* The region of a request that keeps within it. */
static struct shm_region *judge(const struct shm *shm, const struct vu_map *map)
{
    struct shm_region *region = find(shm, map->shmid);

    if (!region || map->size == 0 || map->size % PAGE ||
        map->shm_offset % PAGE || map->shm_offset > region->size ||
        map->size > region->size - map->shm_offset)
        return NULL;
    return region;
}

static int check_free(const struct shm *shm, const struct shm_region *region,
                      const struct vu_map *map)
{
    for (unsigned i = 0; i < region->n_mappings; i++) {
        const struct shm_mapping *other = &region->mappings[i];

        if (map->shm_offset < other->offset + other->size &&
            other->offset < map->shm_offset + map->size)
            return -EEXIST;
    }
    return shm->n_mappings < SHM_MAX_MAPPINGS ? 0 : -ENOSPC;
}

static int map_locked(struct shm *shm, struct shm_region *region,
                      const struct vu_map *map, int fd)
{
    /* Where the guest may not write, it writes to a copy of the page: an access
     * that failed would leave KVM_RUN with nothing to say whose it was. */
    int how =
        map->flags & VU_MAP_WRITABLE ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
    struct shm_mapping *grown;
    int rc = check_free(shm, region, map), own;

    if (rc < 0)
        return rc;
    grown = realloc(region->mappings, (region->n_mappings + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    region->mappings = grown;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return -errno;
    if (mmap(region->map + map->shm_offset, map->size, PROT_READ | PROT_WRITE,
             how | MAP_FIXED, fd, (off_t)map->fd_offset) == MAP_FAILED) {
        rc = -errno;
        close(own);
        /* what was there may be gone: a hole would fail the guest's access */
        make_anonymous(region, map->shm_offset, map->size);
        return rc;
    }
    keep_to_ourselves(region->map + map->shm_offset, map->size);
    shm->n_mappings++;
    grown[region->n_mappings++] =
        (struct shm_mapping){ .offset = map->shm_offset,
                              .size = map->size,
                              .file_end = map->fd_offset + map->size,
                              .fd = own };
    return 0;
}

int shm_map(struct shm *shm, const struct vu_map *map, int fd)
{
    struct shm_region *region = judge(shm, map);
    struct foreign_file file;
    int rc;

    if (!region || map->flags & ~VU_MAP_WRITABLE || map->fd_offset % PAGE ||
        map->fd_offset > INT64_MAX - map->size)
        return -EINVAL;
    rc = foreign_file(fd, &file);
    if (rc < 0)
        return rc;
    /* mmap() would round the size up, over what lies behind the mapping */
    if ((map->size | map->shm_offset | map->fd_offset) & (file.block - 1))
        return -EINVAL;
    if (file.size < map->fd_offset + map->size)
        return -EINVAL; /* its pages would fault */
    pthread_mutex_lock(&shm->lock);
    rc = map_locked(shm, region, map, fd);
    pthread_mutex_unlock(&shm->lock);
    return rc;
}

int shm_unmap(struct shm *shm, const struct vu_map *map)
{
    struct shm_region *region = judge(shm, map);
    int rc = -EINVAL;

    if (!region)
        return rc;
    pthread_mutex_lock(&shm->lock);
    for (unsigned i = 0; i < region->n_mappings; i++) {
        struct shm_mapping *mapping = &region->mappings[i];

        if (mapping->offset != map->shm_offset || mapping->size != map->size)
            continue;
        rc = make_anonymous(region, mapping->offset, mapping->size);
        if (rc == 0) {
            close(mapping->fd);
            *mapping = region->mappings[--region->n_mappings];
            shm->n_mappings--;
        }
        break;
    }
    pthread_mutex_unlock(&shm->lock);
    return rc;
}

void shm_clear(struct shm *shm)
{
    if (!shm->n)
        return;
    pthread_mutex_lock(&shm->lock);
    for (unsigned i = 0; i < shm->n; i++) {
        struct shm_region *region = &shm->regions[i];

        for (unsigned k = 0; k < region->n_mappings; k++)
            make_anonymous(region, region->mappings[k].offset,
                           region->mappings[k].size);
        forget(shm, region);
    }
    pthread_mutex_unlock(&shm->lock);
}

static bool is_broken(const struct shm_mapping *mapping)
{
    uint64_t size;

    return foreign_size(mapping->fd, &size) < 0 || size < mapping->file_end;
}

unsigned shm_mappings(struct shm *shm)
{
    unsigned n = 0;

    if (!shm->n)
        return n;
    pthread_mutex_lock(&shm->lock);
    n = shm->n_mappings;
    pthread_mutex_unlock(&shm->lock);
    return n;
}

bool shm_is_broken(struct shm *shm)
{
    bool broken = false;

    if (!shm->n)
        return false;
    pthread_mutex_lock(&shm->lock);
    for (unsigned i = 0; i < shm->n; i++)
        for (unsigned k = 0; k < shm->regions[i].n_mappings; k++)
            broken |= is_broken(&shm->regions[i].mappings[k]);
    pthread_mutex_unlock(&shm->lock);
    return broken;
}
