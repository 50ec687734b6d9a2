/*
 * The shared guest memory of one connection. Sizes are compared with the file
 * behind each region, so that touching a region cannot fault as long as the
 * front-end does not shrink the file afterwards (husk seals it against that).
 * vhost-user: "Memory region description".
 */
#include "devices/backends/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

static bool fits(uint64_t start, uint64_t size)
{
    return size && start <= UINT64_MAX - (size - 1);
}

int memory_add(struct memory *mem, const struct vu_mem_region *wire, int fd)
{
    if (mem->n_regions == MEMORY_MAX_REGIONS)
        return -ENOSPC;
    if (!fits(wire->guest_addr, wire->size) ||
        !fits(wire->user_addr, wire->size) ||
        !fits(wire->mmap_offset, wire->size))
        return -EINVAL;
    for (unsigned i = 0; i < mem->n_regions; i++) {
        const struct memory_region *r = &mem->region[i];

        if (overlap(r->guest, r->size, wire->guest_addr, wire->size) ||
            overlap(r->user, r->size, wire->user_addr, wire->size))
            return -EINVAL;
    }

    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) &&
        wire->mmap_offset + (wire->size - 1) >= (uint64_t)st.st_size)
        return -EINVAL;

    /* huge pages tell their size here; both ends of a mapping must fit it */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if ((uint64_t)st.st_blksize > page &&
        !((uint64_t)st.st_blksize & ((uint64_t)st.st_blksize - 1)))
        page = (uint64_t)st.st_blksize;

    uint64_t lead = wire->mmap_offset & (page - 1);

    if (wire->size > UINT64_MAX / 2)
        return -EINVAL;

    uint64_t map_size = (lead + wire->size + page - 1) & ~(page - 1);
    void *map =
        mmap(NULL, map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
             fd, (off_t)(wire->mmap_offset - lead));

    if (map == MAP_FAILED)
        return -errno;
    madvise(map, map_size, MADV_DONTDUMP);
    mem->region[mem->n_regions++] = (struct memory_region){
        .guest = wire->guest_addr,
        .user = wire->user_addr,
        .size = wire->size,
        .host = (uint8_t *)map + lead,
        .map = map,
        .map_size = map_size,
    };
    return 0;
}

int memory_remove(struct memory *mem, const struct vu_mem_region *wire)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        struct memory_region *r = &mem->region[i];

        if (r->guest != wire->guest_addr || r->user != wire->user_addr ||
            r->size != wire->size)
            continue;
        munmap(r->map, r->map_size);
        *r = mem->region[--mem->n_regions];
        return 0;
    }
    return -ENOENT;
}

void memory_clear(struct memory *mem)
{
    for (unsigned i = 0; i < mem->n_regions; i++)
        munmap(mem->region[i].map, mem->region[i].map_size);
    mem->n_regions = 0;
}

void *memory_at(const struct memory *mem, gaddr_t addr, uint64_t len)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        const struct memory_region *r = &mem->region[i];
        uint64_t off = addr - r->guest; /* below the region: huge */

        if (off < r->size && len <= r->size - off)
            return r->host + off;
    }
    return NULL;
}

void *memory_at_user(const struct memory *mem, uint64_t user, uint64_t len)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        const struct memory_region *r = &mem->region[i];
        uint64_t off = user - r->user;

        if (off < r->size && len <= r->size - off)
            return r->host + off;
    }
    return NULL;
}

/* The longest piece of the len bytes at addr that lies in one region. */
static struct iovec piece(const struct memory *mem, gaddr_t addr, uint64_t len)
{
    for (unsigned i = 0; i < mem->n_regions; i++) {
        const struct memory_region *r = &mem->region[i];
        uint64_t off = addr - r->guest;

        if (off < r->size)
            return (struct iovec){
                .iov_base = r->host + off,
                .iov_len = len < r->size - off ? len : r->size - off,
            };
    }
    return (struct iovec){ 0 };
}

int memory_read(const struct memory *mem, gaddr_t addr, void *to, size_t len)
{
    uint8_t *at = to;

    while (len) {
        struct iovec part = piece(mem, addr, len);

        if (!part.iov_len)
            return -EFAULT;
        memcpy(at, part.iov_base, part.iov_len);
        at += part.iov_len;
        addr += part.iov_len;
        len -= part.iov_len;
    }
    return 0;
}

int memory_iov(const struct memory *mem, gaddr_t addr, uint64_t len,
               struct iovec *iov, unsigned max)
{
    unsigned n = 0;

    while (len) {
        struct iovec part = piece(mem, addr, len);

        if (!part.iov_len)
            return -EFAULT;
        if (n == max)
            return -E2BIG;
        iov[n++] = part;
        addr += part.iov_len;
        len -= part.iov_len;
    }
    return (int)n;
}
