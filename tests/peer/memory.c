/*
 * The memory table: checked against the rules of the specification, mapped,
 * and used to translate user addresses (rings) and guest addresses (buffers).
 */
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

static int judge_region(struct peer *p, const struct wire_region *r, int fd)
{
    const struct connection *c = &p->c;
    struct stat st;

    if (!r->size || r->guest + r->size - 1 < r->guest ||
        r->user + r->size - 1 < r->user)
        return peer_violation(p,
                              "memory region: guest 0x%" PRIx64
                              ", user 0x%" PRIx64 ", size 0x%" PRIx64
                              " is empty or wraps",
                              r->guest, r->user, r->size);
    if (fstat(fd, &st) < 0 || r->offset > (uint64_t)st.st_size ||
        r->size > (uint64_t)st.st_size - r->offset)
        return peer_violation(p,
                              "memory region: offset 0x%" PRIx64 " and size "
                              "0x%" PRIx64 " are beyond its file",
                              r->offset, r->size);
    for (unsigned i = 0; i < c->n_regions; i++) {
        const struct wire_region *o = &c->region[i].wire;

        if (overlap(r->guest, r->size, o->guest, o->size) ||
            overlap(r->user, r->size, o->user, o->size))
            return peer_violation(p,
                                  "memory region at guest 0x%" PRIx64
                                  " overlaps or repeats that at 0x%" PRIx64,
                                  r->guest, o->guest);
    }
    return 0;
}

static int try_truncate(struct peer *p, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return 0;
    const off_t sizes[] = { st.st_size / 2, st.st_size + 65536 };

    for (unsigned i = 0; i < 2; i++) {
        if (ftruncate(fd, sizes[i]) < 0) {
            peer_note(p, "truncate: to %jd of %jd bytes refused: %s",
                      (intmax_t)sizes[i], (intmax_t)st.st_size,
                      strerror(errno));
            continue;
        }
        peer_note(p, "truncate: to %jd of %jd bytes succeeded",
                  (intmax_t)sizes[i], (intmax_t)st.st_size);
        if (ftruncate(fd, st.st_size) < 0)
            peer_note(p, "truncate: not undone: %s", strerror(errno));
        return peer_violation(p, "guest memory can be truncated");
    }
    return 0;
}

static int add(struct peer *p, const struct wire_region *r, int fd)
{
    struct connection *c = &p->c;
    struct region *out = &c->region[c->n_regions];

    if (judge_region(p, r, fd) < 0)
        return -1;
    if (p->options.truncate_memory && try_truncate(p, fd) < 0)
        return -1;
    if (c->n_regions == MAX_REGIONS || !r->size)
        return -1;
    uint64_t whole = r->offset + r->size;
    void *map = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (map == MAP_FAILED)
        return peer_violation(
            p, "memory region of 0x%" PRIx64 " bytes does not map: %s", r->size,
            strerror(errno));
    *out = (struct region){ .wire = *r,
                            .map = map,
                            .map_size = whole,
                            .host = (uint8_t *)map + r->offset };
    c->n_regions++;
    return 0;
}

int memory_table(struct peer *p, const struct message *m)
{
    uint32_t n;

    memcpy(&n, m->payload, sizeof n);
    for (uint32_t i = 0; i < n && i < m->n_fds && i < WIRE_TABLE_MAX; i++) {
        struct wire_region r;

        memcpy(&r, m->payload + 8 + i * sizeof r, sizeof r);
        if (add(p, &r, m->fd[i]) < 0)
            return -1;
    }
    return 0;
}

int memory_add(struct peer *p, const struct message *m)
{
    struct wire_region r;

    memcpy(&r, m->payload + 8, sizeof r);
    if (p->c.n_regions >= p->options.mem_slots &&
        peer_violation(p, "ADD_MEM_REG number %u, with %" PRIu32 " slots",
                       p->c.n_regions + 1, p->options.mem_slots) < 0)
        return -1;
    return add(p, &r, m->fd[0]);
}

static uint8_t *find(const struct connection *c, uint64_t address,
                     uint64_t size, bool user)
{
    for (unsigned i = 0; i < c->n_regions; i++) {
        const struct region *r = &c->region[i];
        uint64_t off = address - (user ? r->wire.user : r->wire.guest);

        if (off < r->wire.size && size <= r->wire.size - off)
            return r->host + off;
    }
    return NULL;
}

uint8_t *memory_user(const struct connection *c, uint64_t user, uint64_t size)
{
    return find(c, user, size, true);
}

uint8_t *memory_guest(const struct connection *c, uint64_t guest, uint64_t size)
{
    return find(c, guest, size, false);
}

void memory_drop(struct connection *c)
{
    for (unsigned i = 0; i < c->n_regions; i++)
        munmap(c->region[i].map, c->region[i].map_size);
    c->n_regions = 0;
}
