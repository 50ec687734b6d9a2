/*
 * Shared memory regions of a device (VIRTIO 1.2, 2.10): addresses that the
 * guest sees at a fixed place, at which the back-end maps files and takes them
 * away again. Only what is mapped is memory. What is not reads as zero and
 * ignores writes, and costs nothing. The front-end never touches what is
 * mapped: a page that cannot be had must not fault here.
 *
 * A region's view is what KVM has of it:
 *
 *   CLOSED  no memory slot: every access leaves KVM_RUN, and shm_access()
 *           carries it out
 *   WHOLE   one slot over all of it: mapping and unmapping cost KVM nothing,
 * but where nothing is mapped KVM_RUN fails, and shm_fault() is called EXACT
 * one slot a mapping, SHM_EXACT_SLOTS at most: what lies between them leaves
 * KVM_RUN
 *
 *   CLOSED -> WHOLE   with the first mapping, once there is a machine
 *   WHOLE  -> EXACT   the guest touched what nothing is mapped at,
 *   WHOLE  -> CLOSED  the same while there is no mapping at all
 *   EXACT  -> CLOSED  the last mapping is gone
 *   any    -> CLOSED  a machine is attached
 */
#ifndef HUSK_DEVICES_SHM_H
#define HUSK_DEVICES_SHM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vhost_user.h"
#include "vmm/machine/mem.h"

#define SHM_MAX_MAPPINGS 512u /* of one device at a time */
#define SHM_EXACT_SLOTS  64u  /* of a region */
/* Slots' numbers that a region needs. */
#define SHM_SLOTS        (1 + SHM_EXACT_SLOTS)

enum shm_view { SHM_CLOSED, SHM_WHOLE, SHM_EXACT };

/* Why the guest cannot have what is mapped. */
enum shm_loss {
    SHM_KEPT,
    SHM_CUT,       /* a file is shorter than what is mapped of it */
    SHM_NO_PAGE,   /* a page cannot be had: no space, an error of the disk */
    SHM_SCATTERED, /* EXACT would need more slots than there are */
};

/* The machine's memory slots. Any thread. size 0 takes one away. 0 or -errno.
 */
struct shm_slots {
    int (*set)(void *ctx, uint32_t slot, gpa_t base, uint64_t size, void *host);
    void *ctx;
};

struct shm_mapping {
    uint64_t offset, size; /* in the region */
    uint64_t file_end;     /* the last byte's successor in the file */
    int fd;        /* to see whether it still reaches that far; -1: it must */
    uint32_t slot; /* EXACT: its number, from the region's first */
};

struct shm_region {
    uint8_t id;
    uint64_t size;
    uint8_t *map;
    uint8_t *reservation; /* addresses around map that nothing else gets */
    uint64_t reserved;
    gpa_t base;          /* set by whoever places it */
    void *ctx;           /* the same */
    enum shm_view view;  /* lock */
    uint32_t first_slot; /* of SHM_SLOTS numbers */
    struct shm_mapping *mappings;
    unsigned n_mappings;
};

struct shm {
    pthread_mutex_t lock;    /* of mappings and views; the rest is fixed */
    unsigned n_mappings;     /* in all regions */
    unsigned n_fds, max_fds; /* that these hold, and may hold */
    int scratch;             /* for shm_access() */
    struct shm_slots slots;  /* set is NULL while there is no machine */
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

/* There is a machine, whose slots these are, first_slot on: SHM_SLOTS a region.
 * No vCPU runs.
 *   other  what slots->set() said */
int shm_attach(struct shm *shm, const struct shm_slots *slots,
               uint32_t first_slot);

/*
 * Map a file; where it is mapped read-only the guest's writes stay its own, in
 * copies of the pages, until the mapping ends. The file stays the caller's to
 * close. Or unmap what was mapped. Any thread.
 *   -EINVAL      no such region, outside it, not whole pages of the file's,
 *                unknown flags, past the file's end, or not what was mapped
 *   -EOPNOTSUPP  not a file that may be mapped: see foreign.h
 *   -EEXIST      something is mapped there
 *   -ENOSPC      as many mappings, descriptors or slots as there may be
 *   other        what mmap said
 */
int shm_map(struct shm *shm, const struct vu_map *map, int fd);
int shm_unmap(struct shm *shm, const struct vu_map *map);

/* Nothing is mapped any more. Any thread. */
void shm_clear(struct shm *shm);

/*
 * An access of the guest's that left KVM_RUN. False if something is mapped
 * there that cannot be read or written. A vCPU's thread.
 */
bool shm_access(struct shm *shm, struct shm_region *region, uint64_t offset,
                void *data, unsigned size, bool write);

/*
 * KVM_RUN failed for want of a page, at gpa or at SHM_ANYWHERE. True if that
 * may have been a region's doing: try again, unless *loss says that the device
 * is lost. again: the vCPU has tried again in vain. A vCPU's thread.
 */
#define SHM_ANYWHERE UINT64_MAX
bool shm_fault(struct shm *shm, gpa_t gpa, bool again, enum shm_loss *loss);

/* How many there are. Any thread. */
unsigned shm_mappings(struct shm *shm);

/* The sum of all sizes, UINT64_MAX if it is more. */
uint64_t shm_total(const struct vu_shm_config *config);

/* Whether a mapped file has pages that its file system has no room for. KVM may
 * try for ever to get one for a vCPU. Any thread. */
bool shm_is_starved(struct shm *shm);

/* Whether a mapping reaches past the end that its file has now. Any thread. */
bool shm_is_broken(struct shm *shm);

#endif
