/*
 * Shared memory regions: files of a pattern that are mapped into them while the
 * device runs, taken away again, or cut short under the front-end. A reset of
 * the device ends all of it, and its next life begins anew.
 */
#include "peer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void shm_drop(struct connection *c)
{
    struct shm *s = &c->shm;

    for (unsigned i = 0; i < s->mapped; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    *s = (struct shm){ .mapped = 0 };
}

/* A file whose words hold where they are in the region. */
static int make_file(const struct options *o, const struct shm_map *map)
{
    int fd = o->shm_file ? open(o->shm_file, O_RDWR | O_CLOEXEC)
                         : memfd_create("peer-shmem", MFD_CLOEXEC);
    uint64_t words[512], written = o->shm_file ? sizeof words : map->size;

    if (fd < 0 || (!o->shm_file && ftruncate(fd, (off_t)map->size) < 0))
        return fd;
    for (uint64_t at = 0; at < written; at += sizeof words) {
        uint64_t left = written - at;

        for (unsigned i = 0; i < 512; i++)
            words[i] = SHM_PATTERN ^ (map->offset + at + 8 * i);
        if (pwrite(fd, words, left < sizeof words ? left : sizeof words,
                   (off_t)at) < 0)
            return fd;
    }
    return fd;
}

static bool send_map(struct peer *p, uint32_t request, unsigned index, int fd)
{
    const struct shm_map *map = &p->options.shm_map[index];
    struct wire_map m = {
        .shmid = map->id,
        .shm_offset = map->offset,
        .size = map->size,
        .flags = map->mode == SHM_WRITABLE,
    };

    return channel_send(p, request, &m, sizeof m, fd, map->mode == SHM_REFUSED);
}

static void map_next(struct peer *p)
{
    struct shm *s = &p->c.shm;
    int fd = make_file(&p->options, &p->options.shm_map[s->mapped]);

    if (fd < 0 || !send_map(p, WIRE_BACKEND_SHMEM_MAP, s->mapped, fd)) {
        if (fd >= 0)
            close(fd);
        return;
    }
    s->fd[s->mapped++] = fd;
    s->since = peer_now();
}

static void unmap_next(struct peer *p)
{
    const struct options *o = &p->options;
    struct shm *s = &p->c.shm;

    if (o->shm_map[s->unmapped].mode == SHM_REFUSED ||
        send_map(p, WIRE_BACKEND_SHMEM_UNMAP, s->unmapped, -1))
        s->unmapped++;
}

static void cut_short(struct peer *p)
{
    struct shm *s = &p->c.shm;

    for (unsigned i = 0; i < s->mapped; i++)
        if (ftruncate(s->fd[i], 0) < 0)
            peer_note(p, "a file of shared memory cannot be cut short");
    s->cut = true;
    peer_log(p, "c%u files of shared memory are cut short", p->c.number);
}

void shm_tick(struct peer *p, uint64_t now)
{
    const struct options *o = &p->options;
    struct shm *s = &p->c.shm;

    if (!o->n_shm_maps || !order_acked(&p->c, PF_SHMEM))
        return;
    if (!s->since)
        s->since = now;
    if (s->mapped < o->n_shm_maps) {
        if (s->mapped || now >= s->since + o->shm_delay)
            map_next(p);
        return;
    }
    if (o->shm_truncate && !s->cut && now >= s->since + o->shm_truncate)
        cut_short(p);
    if (o->shm_unmap && s->unmapped < s->mapped &&
        now >= s->since + o->shm_unmap)
        unmap_next(p);
}
