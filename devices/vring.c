/*
 * A device's rings and status on the wire, in the one order that back-ends
 * rely on: memory once a connection and before the first ring; for each ring
 * NUM, ADDR, BASE, ERR, CALL, KICK, ENABLE; then the status; then a kick each,
 * since one that came before the ring was enabled may have been thrown away.
 */
#include "devices/vring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/doorbell.h"
#include "devices/frontend.h"
#include "devices/helper.h"
#include "devices/virtio.h"

/* Where a packed ring starts: index 0 and wrap counter 1, both sides. */
#define PACKED_BASE 0x80008000u

int vrings_init(struct vrings *rings, unsigned n)
{
    *rings = (struct vrings){ 0 };
    rings->ring = calloc(n, sizeof *rings->ring);
    rings->given = calloc(n, sizeof *rings->given);
    if (!rings->ring || !rings->given) {
        vrings_fini(rings);
        return -ENOMEM;
    }
    rings->n = n;
    for (unsigned i = 0; i < n; i++) {
        rings->given[i].spare = -1;
        atomic_init(&rings->given[i].kick, -1);
    }
    return 0;
}

int vrings_make_kicks(struct vrings *rings)
{
    for (unsigned i = 0; i < rings->n; i++) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (fd < 0)
            return -errno;
        rings->given[i].spare = fd;
    }
    return 0;
}

void vrings_fini(struct vrings *rings)
{
    for (unsigned i = 0; i < rings->n; i++) {
        int fd = vring_kick_fd(&rings->given[i]);

        if (fd >= 0)
            helper_retire(rings->helper, fd);
        if (rings->given[i].spare >= 0)
            close(rings->given[i].spare);
    }
    free(rings->ring);
    free(rings->given);
    *rings = (struct vrings){ 0 };
}

static int base_done(struct frontend *fe,
                     const struct frontend_pending *pending,
                     const uint8_t *payload, size_t size)
{
    struct vu_vring_state state;

    (void)size;
    memcpy(&state, payload, sizeof state);
    if (state.index != pending->arg)
        return frontend_lose(fe, -EPROTO,
                             "GET_VRING_BASE of ring %u was "
                             "answered for ring %u",
                             pending->arg, state.index);
    pending->ring->base = state.num;
    pending->ring->has_base = true;
    return 0;
}

static int status_done(struct frontend *fe,
                       const struct frontend_pending *pending,
                       const uint8_t *payload, size_t size)
{
    uint64_t status;

    (void)pending;
    (void)size;
    memcpy(&status, payload, sizeof status);
    if (status > 0xff)
        return frontend_lose(fe, -EPROTO,
                             "GET_STATUS was answered with 0x%llx,"
                             " a status has eight bits",
                             (unsigned long long)status);
    fe->device_status = (uint8_t)status;
    return 0;
}

static int fence_done(struct frontend *fe,
                      const struct frontend_pending *pending,
                      const uint8_t *payload, size_t size)
{
    (void)fe;
    (void)pending;
    (void)payload;
    (void)size;
    return 0;
}

static int get_status(struct frontend *fe)
{
    int rc = frontend_send(fe, VU_GET_STATUS, NULL, 0, NULL, 0);

    if (rc < 0)
        return rc;
    return frontend_expect(fe,
                           (struct frontend_pending){ .request = VU_GET_STATUS,
                                                      .min = 8,
                                                      .max = 8,
                                                      .done = status_done });
}

static int set_status(struct frontend *fe, uint8_t status)
{
    uint64_t payload = status;

    if (!(fe->acked & VU_PF_STATUS))
        return 0;
    return frontend_send(fe, VU_SET_STATUS, &payload, sizeof payload, NULL, 0);
}

/* An answer that comes only when all that was sent before it is done. */
static int fence(struct frontend *fe)
{
    int rc;

    if (fe->acked & VU_PF_STATUS)
        return get_status(fe);
    if (fe->acked & VU_PF_REPLY_ACK)
        return 0; /* the set-up's own answers */
    rc = frontend_send(fe, VU_GET_FEATURES, NULL, 0, NULL, 0);
    if (rc < 0)
        return rc;
    return frontend_expect(
        fe, (struct frontend_pending){ .request = VU_GET_FEATURES,
                                       .min = 8,
                                       .max = 8,
                                       .done = fence_done });
}

static struct vu_mem_region wire_region(const struct mem_region *region)
{
    return (struct vu_mem_region){
        .guest_addr = region->base,
        .size = region->size,
        .user_addr = (uintptr_t)region->host,
        .mmap_offset = region->offset,
    };
}

int frontend_check_slots(struct frontend *fe, const struct mem *mem)
{
    if (!(fe->acked & VU_PF_CONFIGURE_MEM_SLOTS) ||
        fe->max_slots >= mem->n_regions)
        return 0;
    return frontend_lose(fe, -EPROTO,
                         "the back-end takes %llu memory slots, %u "
                         "are needed",
                         (unsigned long long)fe->max_slots, mem->n_regions);
}

static int send_memory(struct frontend *fe)
{
    const struct mem *mem = fe->mem;
    struct vu_mem_table table = { .n_regions = mem->n_regions };
    int fds[MEM_MAX_REGIONS], rc = 0;

    if (fe->memory_sent)
        return 0;
    fe->memory_sent = true;
    rc = frontend_check_slots(fe, mem); /* of one that came back */
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < mem->n_regions; i++) {
        table.region[i] = wire_region(&mem->region[i]);
        fds[i] = mem->fd;
    }
    if (!(fe->acked & VU_PF_CONFIGURE_MEM_SLOTS))
        return frontend_setup(fe, VU_SET_MEM_TABLE, &table,
                              8 + mem->n_regions * sizeof table.region[0], fds,
                              mem->n_regions, mem->n_regions);
    for (unsigned i = 0; i < mem->n_regions && rc == 0; i++) {
        struct vu_mem_reg one = { .region = table.region[i] };

        rc = frontend_setup(fe, VU_ADD_MEM_REG, &one, sizeof one, fds, 1, i);
    }
    return rc;
}

/* Where a guest address is in husk: the addresses of the memory table. */
static uint64_t user_addr(const struct frontend *fe, gpa_t gpa)
{
    return (uintptr_t)mem_at(fe->mem, gpa, 1);
}

static int set_state(struct frontend *fe, uint32_t request, uint32_t index,
                     uint32_t num)
{
    struct vu_vring_state state = { index, num };

    return frontend_setup(fe, request, &state, sizeof state, NULL, 0, num);
}

static int set_fd(struct frontend *fe, uint32_t request, uint64_t index, int fd)
{
    return frontend_setup(fe, request, &index, sizeof index, &fd, 1,
                          (uint32_t)index);
}

static bool is_inband(const struct frontend *fe)
{
    return fe->acked & VU_PF_INBAND_NOTIFICATIONS;
}

/*
 * Where a ring begins, or goes on after its back-end came back: a split ring's
 * used index is in guest memory. A packed ring's place is known to the inflight
 * area alone.
 */
static uint32_t ring_base(const struct frontend *fe, const struct vrings *rings,
                          uint32_t index, bool resume)
{
    const uint8_t *used = mem_at(fe->mem, rings->ring[index].device, 4);

    if (rings->driver_features & VIRTIO_F_RING_PACKED)
        return PACKED_BASE;
    return resume ? (uint32_t)(used[2] | used[3] << 8) : 0;
}

static int send_ring(struct frontend *fe, const struct vrings *rings,
                     uint32_t index, bool resume)
{
    const struct vring *ring = &rings->ring[index];
    struct vring_given *given = &rings->given[index];
    int kick_fd = vring_kick_fd(given);
    struct vu_vring_addr addr = {
        .index = index,
        .desc = user_addr(fe, ring->desc),
        .avail = user_addr(fe, ring->driver),
        .used = user_addr(fe, ring->device),
    };
    int rc;

    if (kick_fd < 0)
        return frontend_lose(fe, -EMFILE,
                             "no descriptor is left for the kicks "
                             "of ring %u",
                             index);
    doorbell_take(kick_fd); /* one from before a reset is not for this ring */
    given->started = true;
    given->has_base = false;
    if ((rc = set_state(fe, VU_SET_VRING_NUM, index, ring->num)) < 0 ||
        (rc = frontend_setup(fe, VU_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0,
                             index)) < 0 ||
        (rc = set_state(fe, VU_SET_VRING_BASE, index,
                        ring_base(fe, rings, index, resume))) < 0)
        return rc;
    /* in-band, calls and errors come by the channel, and kicks go by message */
    if (!is_inband(fe) &&
        ((rc = set_fd(fe, VU_SET_VRING_ERR, index, fe->err_fd)) < 0 ||
         (rc = set_fd(fe, VU_SET_VRING_CALL, index, fe->call_fd)) < 0 ||
         (rc = set_fd(fe, VU_SET_VRING_KICK, index, kick_fd)) < 0))
        return rc;
    if (!(fe->is->features & VHOST_F_PROTOCOL_FEATURES))
        return 0; /* without bit 30 a ring starts enabled */
    return set_state(fe, VU_SET_VRING_ENABLE, index, 1);
}

int frontend_kick(struct frontend *fe, uint32_t index)
{
    struct vu_vring_state state = { index, 0 };

    return frontend_send(fe, VU_VRING_KICK, &state, sizeof state, NULL, 0);
}

static int kick(struct frontend *fe, const struct vrings *rings, uint32_t index)
{
    if (is_inband(fe))
        return frontend_kick(fe, index);
    helper_ring(rings->helper, vring_kick_fd(&rings->given[index]));
    return 0;
}

int frontend_status(struct frontend *fe, uint8_t status, uint64_t deadline)
{
    int rc = fe->lost ? -ENOTCONN : set_status(fe, status);

    return rc < 0 ? rc : frontend_wait(fe, deadline);
}

int frontend_features(struct frontend *fe, uint64_t features, uint8_t status,
                      bool *accepted, uint64_t deadline)
{
    uint64_t all = features | (fe->is->features & VHOST_F_PROTOCOL_FEATURES);
    int rc;

    *accepted = true;
    if ((rc = frontend_send(fe, VU_SET_FEATURES, &all, sizeof all, NULL, 0)) <
            0 ||
        (rc = set_status(fe, status)) < 0)
        return rc;
    if (fe->acked & VU_PF_STATUS && (rc = get_status(fe)) < 0)
        return rc;
    rc = frontend_wait(fe, deadline);
    if (rc == 0 && fe->acked & VU_PF_STATUS)
        *accepted = fe->device_status & VIRTIO_STATUS_FEATURES_OK;
    return rc;
}

static int inflight_done(struct frontend *fe,
                         const struct frontend_pending *pending,
                         const uint8_t *payload, size_t size)
{
    struct vu_inflight answer = { 0 };

    (void)pending;
    memcpy(&answer, payload, size);
    if (fe->inflight.num_queues == 0)
        return 0; /* a reset came between */
    if (answer.mmap_size == 0 || answer.num_queues != fe->inflight.num_queues ||
        answer.queue_size != fe->inflight.queue_size)
        return frontend_lose(fe, -EPROTO,
                             "GET_INFLIGHT_FD for %u queues of %u "
                             "was answered with %llu bytes for %u of %u",
                             fe->inflight.num_queues, fe->inflight.queue_size,
                             (unsigned long long)answer.mmap_size,
                             answer.num_queues, answer.queue_size);
    fe->inflight = answer;
    fe->inflight_fd = wire_take_fd(&fe->wire, 0);
    return 0;
}

int frontend_get_inflight(struct frontend *fe, const struct vrings *rings)
{
    struct vu_inflight area = { .num_queues = (uint16_t)rings->n };
    int rc;

    if (!(fe->acked & VU_PF_INFLIGHT_SHMFD) || fe->inflight_fd >= 0)
        return 0;
    for (unsigned i = 0; i < rings->n; i++)
        if (rings->ring[i].ready && rings->ring[i].num > area.queue_size)
            area.queue_size = (uint16_t)rings->ring[i].num;
    if (area.queue_size == 0)
        return 0;
    fe->inflight = area;
    rc = frontend_send(fe, VU_GET_INFLIGHT_FD, &area, sizeof area, NULL, 0);
    if (rc < 0)
        return rc;
    return frontend_expect(
        fe, (struct frontend_pending){ .request = VU_GET_INFLIGHT_FD,
                                       .min = 20,
                                       .max = sizeof area,
                                       .n_fds = 1,
                                       .done = inflight_done });
}

void frontend_drop_inflight(struct frontend *fe)
{
    if (fe->inflight_fd >= 0)
        helper_close(fe->helper, fe->inflight_fd);
    fe->inflight_fd = -1;
    fe->inflight = (struct vu_inflight){ 0 };
}

/* The wire gets a descriptor of its own: a reset may drop the area's before it
 * is sent. */
static int send_inflight(struct frontend *fe)
{
    int rc, fd;

    if (fe->inflight_fd < 0)
        return 0;
    fd = fcntl(fe->inflight_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return frontend_lose(fe, -errno,
                             "no descriptor is left for the "
                             "inflight area: %s",
                             strerror(errno));
    rc = frontend_setup(fe, VU_SET_INFLIGHT_FD, &fe->inflight,
                        sizeof fe->inflight, &fd, 1, fe->inflight.num_queues);
    if (rc < 0)
        helper_close(fe->helper, fd); /* nothing more is sent */
    else
        wire_own(&fe->wire);
    return rc;
}

static int send_rings(struct frontend *fe, const struct vrings *rings,
                      uint8_t status, bool resume)
{
    int rc = send_inflight(fe);

    for (unsigned i = 0; i < rings->n && rc == 0; i++)
        if (rings->ring[i].ready && !rings->given[i].started)
            rc = send_ring(fe, rings, i, resume);
    if (rc == 0)
        rc = set_status(fe, status);
    return rc < 0 ? rc : fence(fe);
}

int frontend_kick_all(struct frontend *fe, const struct vrings *rings)
{
    int rc = 0;

    for (unsigned i = 0; i < rings->n && rc == 0; i++)
        if (rings->given[i].started)
            rc = kick(fe, rings, i);
    return rc;
}

int frontend_start(struct frontend *fe, const struct vrings *rings,
                   uint8_t status, uint64_t deadline)
{
    int rc = fe->lost ? -ENOTCONN : send_memory(fe);

    if (rc < 0 || (rc = frontend_get_inflight(fe, rings)) < 0 ||
        (fe->inflight_fd < 0 && fe->acked & VU_PF_INFLIGHT_SHMFD &&
         (rc = frontend_wait(fe, deadline)) < 0) ||
        (rc = send_rings(fe, rings, status, false)) < 0 ||
        (rc = frontend_wait(fe, deadline)) < 0 ||
        (rc = frontend_kick_all(fe, rings)) < 0)
        return rc;
    return frontend_wait(fe, deadline); /* sends kicks that go in-band */
}

int frontend_send_statuses(struct frontend *fe, const uint8_t *statuses,
                           unsigned n, uint64_t features)
{
    uint64_t all = features | (fe->is->features & VHOST_F_PROTOCOL_FEATURES);
    int rc = 0;

    for (unsigned i = 0; i < n && rc == 0; i++) {
        if (statuses[i] & VIRTIO_STATUS_DRIVER_OK)
            break;
        if (!(statuses[i] & VIRTIO_STATUS_FEATURES_OK)) {
            rc = set_status(fe, statuses[i]);
            continue;
        }
        if ((rc = frontend_send(fe, VU_SET_FEATURES, &all, sizeof all, NULL,
                                0)) == 0 &&
            (rc = set_status(fe, statuses[i])) == 0 && fe->acked & VU_PF_STATUS)
            rc = get_status(fe);
    }
    return rc;
}

int frontend_send_rings(struct frontend *fe, const struct vrings *rings,
                        uint8_t status)
{
    int rc = send_memory(fe);

    return rc < 0 ? rc : send_rings(fe, rings, status, true);
}

int frontend_ring_start(struct frontend *fe, const struct vrings *rings,
                        unsigned index, uint64_t deadline)
{
    int rc = fe->lost ? -ENOTCONN : send_memory(fe);

    if (rc < 0 || (rc = send_ring(fe, rings, index, false)) < 0 ||
        (rc = fence(fe)) < 0 || (rc = frontend_wait(fe, deadline)) < 0)
        return rc;
    rc = kick(fe, rings, index);
    return rc < 0 ? rc : frontend_wait(fe, deadline);
}

static int send_stop(struct frontend *fe, const struct vrings *rings,
                     uint32_t index)
{
    struct vring_given *ring = &rings->given[index];
    struct vu_vring_state state = { index, 0 };
    int rc = 0;

    ring->started = false;
    if (fe->is->features & VHOST_F_PROTOCOL_FEATURES)
        rc = set_state(fe, VU_SET_VRING_ENABLE, index, 0);
    if (rc == 0)
        rc =
            frontend_send(fe, VU_GET_VRING_BASE, &state, sizeof state, NULL, 0);
    if (rc < 0)
        return rc;
    return frontend_expect(
        fe, (struct frontend_pending){ .request = VU_GET_VRING_BASE,
                                       .arg = index,
                                       .ring = ring,
                                       .min = 8,
                                       .max = 8,
                                       .done = base_done });
}

int frontend_ring_stop(struct frontend *fe, const struct vrings *rings,
                       unsigned index, uint64_t deadline)
{
    int rc = fe->lost ? -ENOTCONN : 0;

    if (rc == 0 && rings->given[index].started)
        rc = send_stop(fe, rings, index);
    return rc < 0 ? rc : frontend_wait(fe, deadline);
}

int frontend_send_reset(struct frontend *fe, const struct vrings *rings)
{
    int rc = fe->lost ? -ENOTCONN : 0;

    fe->device_status = 0;
    frontend_drop_inflight(fe);
    for (unsigned i = 0; i < rings->n; i++) {
        if (rings->given[i].started && rc == 0)
            rc = send_stop(fe, rings, i);
        rings->given[i].started = false;
    }
    if (rc == 0)
        rc = set_status(fe, 0);
    if (rc == 0 && fe->acked & VU_PF_RESET_DEVICE)
        rc = frontend_setup(fe, VU_RESET_DEVICE, NULL, 0, NULL, 0, 0);
    return rc;
}

int frontend_reset(struct frontend *fe, const struct vrings *rings,
                   uint64_t deadline)
{
    int rc = frontend_send_reset(fe, rings);

    return rc < 0 ? rc : frontend_wait(fe, deadline);
}
