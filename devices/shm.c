/* Shared memory regions. See shm.h. */
#include "devices/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
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

/* Nothing is there. */
static int make_hole(const struct shm_region *region, uint64_t offset,
                     uint64_t size)
{
    void *map =
        mmap(region->map + offset, size, PROT_NONE,
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
    keep_to_ourselves(map, region->reserved);
    return 0;
}

uint64_t shm_total(const struct vu_shm_config *config)
{
    uint64_t total = 0;

    for (unsigned id = 0; id < VU_MAX_SHM; id++) {
        if (config->size[id] > UINT64_MAX - total)
            return UINT64_MAX;
        total += config->size[id];
    }
    return total;
}

/* This device's share of what this process may have open: others need theirs,
 * for connections and for what their back-ends send. */
static unsigned share_of_fds(void)
{
    struct rlimit limit;
    rlim_t share = 0;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        share = limit.rlim_cur / 64;
    return share < 16                 ? 16
           : share > SHM_MAX_MAPPINGS ? SHM_MAX_MAPPINGS
                                      : (unsigned)share;
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
    shm->max_fds = share_of_fds();
    shm->scratch = memfd_create("husk-scratch", MFD_CLOEXEC);
    if (shm->scratch < 0)
        rc = fail(err, -errno, "memfd_create: %s", strerror(errno));
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

static void let_go(struct shm *shm, struct shm_mapping *mapping)
{
    shm->n_mappings--;
    if (mapping->fd < 0)
        return;
    close(mapping->fd); /* which does not wait: see foreign.h */
    shm->n_fds--;
}

static void forget(struct shm *shm, struct shm_region *region)
{
    for (unsigned i = 0; i < region->n_mappings; i++)
        let_go(shm, &region->mappings[i]);
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
    if (shm->regions) {
        pthread_mutex_destroy(&shm->lock);
        if (shm->scratch >= 0)
            close(shm->scratch);
    }
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

static int set_slot(const struct shm *shm, const struct shm_region *region,
                    uint32_t slot, uint64_t offset, uint64_t size)
{
    if (!shm->slots.set)
        return 0;
    return shm->slots.set(shm->slots.ctx, region->first_slot + slot,
                          region->base + offset, size, region->map + offset);
}

static bool is_taken(const struct shm_region *region, uint32_t slot)
{
    for (unsigned i = 0; i < region->n_mappings; i++)
        if (region->mappings[i].slot == slot)
            return true;
    return false;
}

/* A slot of its own for a mapping. */
static int show_exactly(const struct shm *shm, struct shm_region *region,
                        struct shm_mapping *mapping)
{
    for (uint32_t slot = 1; slot < SHM_SLOTS; slot++) {
        int rc;

        if (is_taken(region, slot))
            continue;
        rc = set_slot(shm, region, slot, mapping->offset, mapping->size);
        if (rc == 0)
            mapping->slot = slot;
        return rc;
    }
    return -ENOSPC;
}

static void hide(const struct shm *shm, struct shm_region *region,
                 struct shm_mapping *mapping)
{
    if (mapping->slot)
        set_slot(shm, region, mapping->slot, mapping->offset, 0);
    mapping->slot = 0;
}

static void close_view(const struct shm *shm, struct shm_region *region)
{
    if (region->view == SHM_WHOLE)
        set_slot(shm, region, 0, 0, 0);
    for (unsigned i = 0; i < region->n_mappings; i++)
        hide(shm, region, &region->mappings[i]);
    region->view = SHM_CLOSED;
}

/* The guest sees a mapping that is the region's last. */
static int show(const struct shm *shm, struct shm_region *region)
{
    int rc;

    if (!shm->slots.set || region->view == SHM_WHOLE)
        return 0;
    if (region->view == SHM_EXACT)
        return show_exactly(shm, region,
                            &region->mappings[region->n_mappings - 1]);
    rc = set_slot(shm, region, 0, 0, region->size);
    if (rc == 0)
        region->view = SHM_WHOLE;
    return rc;
}

int shm_attach(struct shm *shm, const struct shm_slots *slots,
               uint32_t first_slot)
{
    int rc = 0;

    if (!shm->n)
        return rc;
    pthread_mutex_lock(&shm->lock);
    shm->slots = *slots;
    for (unsigned i = 0; i < shm->n && rc == 0; i++) {
        struct shm_region *region = &shm->regions[i];

        region->first_slot = first_slot + i * SHM_SLOTS;
        region->view = SHM_CLOSED; /* it is another machine than before */
        for (unsigned k = 0; k < region->n_mappings; k++)
            region->mappings[k].slot = 0;
        if (region->n_mappings)
            rc = show(shm, region);
    }
    pthread_mutex_unlock(&shm->lock);
    return rc;
}

/* Whether the file can get shorter: a descriptor is kept to see that. */
static bool can_shrink(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return seals < 0 || !(seals & F_SEAL_SHRINK);
}

static int add_mapping(struct shm *shm, struct shm_region *region,
                       const struct vu_map *map, int fd)
{
    struct shm_mapping *grown =
        realloc(region->mappings, (region->n_mappings + 1) * sizeof *grown);
    int own = -1;

    if (!grown)
        return -ENOMEM;
    region->mappings = grown;
    if (can_shrink(fd)) {
        if (shm->n_fds == shm->max_fds)
            return -ENOSPC;
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (own < 0)
            return -errno;
        shm->n_fds++;
    }
    shm->n_mappings++;
    grown[region->n_mappings++] =
        (struct shm_mapping){ .offset = map->shm_offset,
                              .size = map->size,
                              .file_end = map->fd_offset + map->size,
                              .fd = own };
    return 0;
}

static void drop_mapping(struct shm *shm, struct shm_region *region,
                         unsigned index)
{
    let_go(shm, &region->mappings[index]);
    region->mappings[index] = region->mappings[--region->n_mappings];
}

static int map_locked(struct shm *shm, struct shm_region *region,
                      const struct vu_map *map, int fd)
{
    /* Where the guest may not write, it writes to a copy of the page: an access
     * that failed would leave KVM_RUN with nothing to say whose it was. */
    int how =
        map->flags & VU_MAP_WRITABLE ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
    uint8_t *at = region->map + map->shm_offset;
    int rc = check_free(shm, region, map);
    void *got;

    if (rc < 0 || (rc = add_mapping(shm, region, map, fd)) < 0)
        return rc;
    got = mmap(at, map->size, PROT_READ | PROT_WRITE, how | MAP_FIXED, fd,
               (off_t)map->fd_offset);
    if (got == MAP_FAILED)
        rc = -errno;
    else
        keep_to_ourselves(at, map->size);
    if (rc == 0)
        rc = show(shm, region);
    if (rc < 0) { /* what was there before mmap() may be gone */
        make_hole(region, map->shm_offset, map->size);
        drop_mapping(shm, region, region->n_mappings - 1);
    }
    return rc;
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
        hide(shm, region, mapping);
        rc = make_hole(region, mapping->offset, mapping->size);
        if (rc == 0)
            drop_mapping(shm, region, i);
        if (region->view == SHM_EXACT && !region->n_mappings)
            region->view = SHM_CLOSED;
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

        if (!region->n_mappings)
            continue;
        if (region->view == SHM_EXACT)
            close_view(shm, region);
        make_hole(region, 0, region->size);
        forget(shm, region);
    }
    pthread_mutex_unlock(&shm->lock);
}

/* What is mapped at all of these bytes, or NULL. */
static const struct shm_mapping *mapping_at(const struct shm_region *region,
                                            uint64_t offset, uint64_t size)
{
    for (unsigned i = 0; i < region->n_mappings; i++) {
        const struct shm_mapping *mapping = &region->mappings[i];

        if (offset >= mapping->offset && size <= mapping->size &&
            offset - mapping->offset <= mapping->size - size)
            return mapping;
    }
    return NULL;
}

/* Through a file: where a page cannot be had the call fails, and no signal
 * comes. Both are memory of this process. */
static bool copy(const struct shm *shm, void *to, const void *from, size_t size)
{
    return pwrite(shm->scratch, from, size, 0) == (ssize_t)size &&
           pread(shm->scratch, to, size, 0) == (ssize_t)size;
}

bool shm_access(struct shm *shm, struct shm_region *region, uint64_t offset,
                void *data, unsigned size, bool write)
{
    uint8_t *mapped = region->map + offset;
    bool fine = true;

    pthread_mutex_lock(&shm->lock);
    if (!mapping_at(region, offset, size)) {
        if (!write)
            memset(data, 0, size);
    } else if (write) {
        fine = copy(shm, mapped, data, size);
    } else {
        fine = copy(shm, data, mapped, size);
        if (!fine)
            memset(data, 0, size);
    }
    pthread_mutex_unlock(&shm->lock);
    return fine;
}

/* KVM must not meet what nothing is mapped at again. */
static enum shm_loss narrow(const struct shm *shm, struct shm_region *region)
{
    close_view(shm, region);
    if (!region->n_mappings)
        return SHM_KEPT;
    region->view = SHM_EXACT;
    for (unsigned i = 0; i < region->n_mappings; i++)
        if (show_exactly(shm, region, &region->mappings[i]) < 0)
            return SHM_SCATTERED;
    return SHM_KEPT;
}

static bool fault_in(const struct shm *shm, struct shm_region *region,
                     gpa_t gpa, enum shm_loss *loss)
{
    if (gpa != SHM_ANYWHERE && mapping_at(region, gpa - region->base, 1)) {
        *loss = SHM_NO_PAGE;
        return true;
    }
    if (region->view != SHM_WHOLE)
        return false;
    *loss = narrow(shm, region);
    return true;
}

bool shm_fault(struct shm *shm, gpa_t gpa, bool again, enum shm_loss *loss)
{
    bool found = false;

    *loss = SHM_KEPT;
    if (!shm->n)
        return false;
    if (shm_is_broken(shm)) {
        *loss = SHM_CUT;
        return true;
    }
    pthread_mutex_lock(&shm->lock);
    for (unsigned i = 0; i < shm->n && *loss == SHM_KEPT; i++) {
        struct shm_region *region = &shm->regions[i];

        if (gpa == SHM_ANYWHERE || gpa - region->base < region->size)
            found |= fault_in(shm, region, gpa, loss);
    }
    /* no view has a hole any more: it is one of what is mapped */
    if (!found && again && gpa == SHM_ANYWHERE && shm->n_mappings) {
        *loss = SHM_NO_PAGE;
        found = true;
    }
    pthread_mutex_unlock(&shm->lock);
    return found;
}

static bool is_broken(const struct shm_mapping *mapping)
{
    uint64_t size;

    return mapping->fd >= 0 &&
           (foreign_size(mapping->fd, &size) < 0 || size < mapping->file_end);
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

static bool is_starved(const struct shm_mapping *mapping)
{
    return mapping->fd >= 0 && foreign_is_starved(mapping->fd);
}

/* Whether that is so of any mapping. */
static bool any(struct shm *shm, bool (*is)(const struct shm_mapping *mapping))
{
    bool found = false;

    if (!shm->n)
        return false;
    pthread_mutex_lock(&shm->lock);
    for (unsigned i = 0; i < shm->n; i++)
        for (unsigned k = 0; k < shm->regions[i].n_mappings; k++)
            found |= is(&shm->regions[i].mappings[k]);
    pthread_mutex_unlock(&shm->lock);
    return found;
}

bool shm_is_broken(struct shm *shm)
{
    return any(shm, is_broken);
}

bool shm_is_starved(struct shm *shm)
{
    return any(shm, is_starved);
}
