/*
 * Shared memory regions of a device (VIRTIO 1.2, 2.10): each one span of
 * anonymous memory that the guest sees at a fixed place, over which the
 * back-end maps files and takes them away again. The front-end never touches
 * what is mapped: a file that is cut short must not fault here.
 */
#ifndef HUSK_DEVICES_SHM_H
#define HUSK_DEVICES_SHM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"
#include "vmm/machine/mem.h"

/* Of one device at a time; each holds a descriptor. */
#define SHM_MAX_MAPPINGS 1024u

struct shm_mapping {
    uint64_t offset, size; /* in the region */
    uint64_t file_end;     /* the last byte's successor in the file */
    int fd;                /* to see whether it still reaches that far */
};

struct shm_region {
    uint8_t id;
    uint64_t size;
    uint8_t *map;
    uint8_t *reservation; /* addresses around map that nothing else gets */
    uint64_t reserved;
    gpa_t base; /* set by whoever places it */
    struct shm_mapping *mappings;
    unsigned n_mappings;
};

struct shm {
    pthread_mutex_t lock; /* of the mappings; the rest is fixed */
    unsigned n_mappings;  /* in all regions */
    unsigned n;
    struct shm_region *regions;
};

/*
 * Reserve memory for the regions of an answer to GET_SHMEM_CONFIG.
 *   -EPROTO  a size is not whole pages, or the count is not that of the sizes
 *   -ENOMEM  there is not so much address space; err says how much
 */
int shm_init(struct shm *shm, const struct vu_shm_config *config,
             struct husk_err *err);
/* Safe on one that is all zero. */
void shm_fini(struct shm *shm);

/* The region, or NULL. */
const struct shm_region *shm_find(const struct shm *shm, uint32_t id);

/*
 * Map a file; where it is mapped read-only the guest's writes stay its own, in
 * copies of the pages, until the mapping ends. The file stays the caller's to
 * close. Or unmap what was mapped. Any thread.
 *   -EINVAL      no such region, not whole pages of the file's own size,
 * outside the region, unknown flags, the file is too short, or it is not what
 * was mapped -EOPNOTSUPP  not a file that may be mapped: see foreign.h -EEXIST
 * something is mapped there -ENOSPC      SHM_MAX_MAPPINGS other        what
 * mmap said
 */
int shm_map(struct shm *shm, const struct vu_map *map, int fd);
int shm_unmap(struct shm *shm, const struct vu_map *map);

/* All regions are anonymous memory again. Any thread. */
void shm_clear(struct shm *shm);

/* How many there are. Any thread. */
unsigned shm_mappings(struct shm *shm);

/* Whether a mapping reaches past the end that its file has now. Any thread. */
bool shm_is_broken(struct shm *shm);

#endif
