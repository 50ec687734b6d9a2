/*
 * What a back-end needs so that another one can go on in its place: the
 * inflight area, and a driver's steps and rings told again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/doorbell.h"
#include "devices/virtio.h"
#include "tests/unit/far.h"
#include "tests/unit/rig.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PROTOCOL (VU_PF_STATUS | VU_PF_INFLIGHT_SHMFD)

static void payload_of(const struct rig *rig, uint32_t request, void *to,
                       size_t size)
{
    const struct model_entry *entry = model_last(&rig->model, request);

    cr_assert_not_null(entry, "no message %u", request);
    cr_assert_geq(entry->size, size);
    memcpy(to, entry->payload, size);
}

/* Asked for once the rings are known, and given back before them. */
Test(resume, inflight_area, .timeout = 20)
{
    static const uint32_t order[] = { VU_SET_MEM_TABLE, VU_GET_INFLIGHT_FD,
                                      VU_SET_INFLIGHT_FD, VU_SET_VRING_NUM };
    struct vu_inflight area;
    struct rig rig;

    for (unsigned last = 0; last < 2; last++) {
        rig_init(&rig, PROTOCOL);
        rig.rings.ring[2].ready = last;
        cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
        rig_pause(&rig);
        for (unsigned i = 0; i < COUNT(order); i++)
            cr_assert_eq(rig.model.log[i].request, order[i]);
        payload_of(&rig, VU_GET_INFLIGHT_FD, &area, 20);
        cr_assert_eq(area.num_queues, RINGS);
        cr_assert_eq(area.queue_size, last ? 32 : 16);
        payload_of(&rig, VU_SET_INFLIGHT_FD, &area, 20);
        cr_assert_eq(area.mmap_size, 4096);
        cr_assert_eq(area.mmap_offset, 512);
        cr_assert_eq(area.num_queues, RINGS);
        cr_assert_eq(model_last(&rig.model, VU_SET_INFLIGHT_FD)->n_fds, 1);
        cr_assert_eq(model_last(&rig.model, VU_GET_INFLIGHT_FD)->n_fds, 0);
        /* a reset ends what was under way: the next start asks anew */
        rig_go_on(&rig);
        cr_assert_eq(rig_reset(&rig), 0);
        cr_assert_eq(rig.fe.inflight_fd, -1);
        rig.rings.ring[2].ready = true;
        cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
        rig_pause(&rig);
        cr_assert_eq(model_count(&rig.model, VU_GET_INFLIGHT_FD), 1);
        payload_of(&rig, VU_GET_INFLIGHT_FD, &area, 20);
        cr_assert_eq(area.queue_size, 32);
        rig_fini(&rig);
    }
    rig_init(&rig, VU_PF_STATUS);
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    cr_assert_eq(model_count(&rig.model, VU_GET_INFLIGHT_FD), 0);
    rig_fini(&rig);
    /* no ring at all */
    rig_init(&rig, PROTOCOL);
    for (unsigned i = 0; i < RINGS; i++)
        rig.rings.ring[i].ready = false;
    cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
    rig_pause(&rig);
    cr_assert_eq(model_count(&rig.model, VU_SET_INFLIGHT_FD), 0);
    rig_fini(&rig);
}

struct wrong {
    uint64_t mmap_size;
    uint16_t num_queues, queue_size;
    size_t size;
    unsigned n_fds;
    int rc;
};

static const struct wrong wrongs[] = {
    { 4096, 3, 32, 24, 1, 0 },
    { 4096, 3, 32, 20, 1, 0 }, /* without the padding */
    { 1, 3, 32, 24, 1, 0 },
    { 0, 3, 32, 24, 1, -EPROTO },
    { 4096, 0, 32, 24, 1, -EPROTO },
    { 4096, 2, 32, 24, 1, -EPROTO },
    { 4096, 4, 32, 24, 1, -EPROTO },
    { 4096, 0xffff, 32, 24, 1, -EPROTO },
    { 4096, 3, 0, 24, 1, -EPROTO },
    { 4096, 3, 31, 24, 1, -EPROTO },
    { 4096, 3, 256, 24, 1, -EPROTO },
    { 4096, 3, 32, 0, 1, -EPROTO },
    { 4096, 3, 32, 16, 1, -EPROTO },
    { 4096, 3, 32, 19, 1, -EPROTO },
    { 4096, 3, 32, 25, 1, -EPROTO },
    { 4096, 3, 32, 4096, 1, -EPROTO },
    { 4096, 3, 32, 24, 0, -EPROTO },
    { 4096, 3, 32, 24, 2, -EPROTO },
    { 4096, 3, 32, 24, 8, -EPROTO },
    { 4096, 3, 32, 24, 9, -EPROTO },
    { 4096, 3, 32, 24, 253, -EPROTO },
};

static void bend_area(struct model *m, struct model_reply *reply)
{
    const struct wrong *wrong = &wrongs[m->arg];
    struct vu_inflight area = { .mmap_size = wrong->mmap_size,
                                .num_queues = wrong->num_queues,
                                .queue_size = wrong->queue_size };

    memcpy(reply->payload, &area, sizeof area);
    reply->size = wrong->size;
    reply->header.size = (uint32_t)wrong->size;
    reply->n_fds = wrong->n_fds;
}

/* Each field of the answer, and each number of descriptors: none is left. */
Test(resume, wrong_areas, .timeout = 20)
{
    for (unsigned i = 0; i < COUNT(wrongs); i++) {
        struct rig rig;

        rig_init(&rig, PROTOCOL);
        rig.model.bend_request = VU_GET_INFLIGHT_FD;
        rig.model.bend = bend_area;
        rig.model.arg = i;
        cr_assert_eq(rig_start(&rig), wrongs[i].rc, "row %u: %s", i,
                     rig.fe.err.text);
        cr_assert_eq(rig.fe.inflight_fd >= 0, wrongs[i].rc == 0);
        if (wrongs[i].rc) {
            cr_assert_not_null(strstr(rig.fe.err.text, "GET_INFLIGHT_FD"), "%s",
                               rig.fe.err.text);
            for (unsigned k = 0; k < RINGS; k++)
                cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[k])),
                             0);
        }
        rig_fini(&rig);
    }
}

/* The driver's steps up to FEATURES_OK, in their order; no waiting. */
Test(resume, statuses, .timeout = 20)
{
    static const uint8_t steps[] = { 0x01, 0x03, 0x0b, 0x0f };
    static const uint32_t order[] = { VU_SET_STATUS, VU_SET_STATUS,
                                      VU_SET_FEATURES, VU_SET_STATUS,
                                      VU_GET_STATUS };
    static const unsigned messages[] = { 0, 1, 2, 5, 5 };
    uint64_t features = VIRTIO_F_VERSION_1 | 1;

    for (unsigned n = 0; n <= COUNT(steps); n++) {
        struct rig rig;

        rig_init(&rig, PROTOCOL);
        cr_assert_eq(frontend_send_statuses(&rig.fe, steps, n, features), 0);
        cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0);
        rig_pause(&rig);
        rig_expect(&rig, order, messages[n]);
        if (n >= 3) {
            cr_assert_eq(rig.model.accepted,
                         features | VHOST_F_PROTOCOL_FEATURES);
            cr_assert_eq(rig.fe.device_status, 0x0b);
        }
        cr_assert_eq(rig.model.status, n ? steps[n < 3 ? n - 1 : 2] : 0);
        rig_fini(&rig);
    }
}

static void set_used_index(struct rig *rig, unsigned ring, uint16_t index)
{
    uint8_t *used = mem_at(&rig->mem, rig->rings.ring[ring].device, 4);

    used[2] = (uint8_t)index;
    used[3] = (uint8_t)(index >> 8);
}

/* Rings go on where they stood, with the area of those that were under way; and
 * are kicked last. */
Test(resume, rings, .timeout = 20)
{
    static const uint16_t used[RINGS] = { 0, 0x1234, 0xffff };

    for (unsigned packed = 0; packed < 2; packed++) {
        for (unsigned keeps = 0; keeps < 2; keeps++) {
            unsigned found = 0;
            struct rig rig;

            rig_init(&rig, PROTOCOL);
            if (packed)
                rig.rings.driver_features = VIRTIO_F_RING_PACKED;
            cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
            for (unsigned i = 0; i < RINGS; i++) {
                cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])),
                             1);
                set_used_index(&rig, i, used[i]);
            }
            rig_pause(&rig);
            rig_again(&rig, keeps ? PROTOCOL : VU_PF_STATUS);
            cr_assert_geq(rig.fe.inflight_fd, 0, "it outlives a connection");
            rig.rings.driver_features = packed ? VIRTIO_F_RING_PACKED : 0;
            if (!keeps)
                frontend_drop_inflight(&rig.fe);
            cr_assert_eq(frontend_send_rings(&rig.fe, &rig.rings, 0x0f), 0);
            cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0, "%s",
                         rig.fe.err.text);
            for (unsigned i = 0; i < RINGS; i++)
                cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])),
                             0);
            cr_assert_eq(frontend_kick_all(&rig.fe, &rig.rings), 0);
            rig_pause(&rig);
            cr_assert_eq(rig.model.log[0].request, VU_SET_MEM_TABLE);
            cr_assert_eq(model_count(&rig.model, VU_SET_INFLIGHT_FD), keeps);
            cr_assert_eq(model_count(&rig.model, VU_GET_INFLIGHT_FD), 0);
            if (keeps)
                cr_assert_eq(rig.model.log[1].request, VU_SET_INFLIGHT_FD);
            cr_assert_eq(rig.fe.inflight_fd >= 0, keeps);
            for (unsigned i = 0; i < rig.model.n_log; i++) {
                const struct model_entry *entry = &rig.model.log[i];
                struct vu_vring_state state;

                cr_assert_not(entry->kicked);
                if (entry->request != VU_SET_VRING_BASE)
                    continue;
                memcpy(&state, entry->payload, sizeof state);
                cr_assert_eq(state.index, found);
                cr_assert_eq(state.num, packed ? 0x80008000 : used[found],
                             "ring %u goes on at 0x%x", found, state.num);
                found++;
            }
            cr_assert_eq(found, RINGS);
            cr_assert_eq(rig.model.status, 0x0f);
            for (unsigned i = 0; i < RINGS; i++)
                cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])),
                             1);
            rig_fini(&rig);
        }
    }
}

/* A back-end that keeps no area for others is asked for one of its own. */
Test(resume, area_of_another, .timeout = 20)
{
    struct vu_inflight area;
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS);
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    rig_again(&rig, PROTOCOL);
    cr_assert_eq(frontend_get_inflight(&rig.fe, &rig.rings), 0);
    cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0);
    cr_assert_geq(rig.fe.inflight_fd, 0);
    /* there is one: not again */
    cr_assert_eq(frontend_get_inflight(&rig.fe, &rig.rings), 0);
    cr_assert_eq(frontend_events(&rig.fe), 0);
    cr_assert_eq(frontend_send_rings(&rig.fe, &rig.rings, 0x0f), 0);
    cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0);
    rig_pause(&rig);
    cr_assert_eq(rig.model.log[0].request, VU_GET_INFLIGHT_FD);
    payload_of(&rig, VU_SET_INFLIGHT_FD, &area, 20);
    cr_assert_eq(area.queue_size, 32);
    rig_fini(&rig);
}

/* An eventfd that its other holder made blocking, full or empty: nobody waits
 * at it. */
Test(resume, doorbells, .timeout = 10)
{
    for (unsigned blocking = 0; blocking < 2; blocking++) {
        int fd = eventfd(0, EFD_CLOEXEC | (blocking ? 0 : EFD_NONBLOCK));
        uint64_t most = UINT64_MAX - 1;

        cr_assert_geq(fd, 0);
        cr_assert_not(doorbell_take(fd));
        doorbell_ring(fd);
        cr_assert_eq(fcntl(fd, F_SETFL, blocking ? 0 : O_NONBLOCK), 0);
        cr_assert(doorbell_take(fd));
        cr_assert_not(doorbell_take(fd));
        cr_assert_eq(write(fd, &most, sizeof most), 8);
        doorbell_ring(fd);
        doorbell_ring(fd);
        cr_assert(doorbell_take(fd));
        close(fd);
    }
}

/* Again and again: no descriptor more. */
Test(resume, many, .timeout = 60)
{
    unsigned before = 0;
    struct rig rig;

    rig_init(&rig, PROTOCOL);
    cr_assert_eq(rig_start(&rig), 0);
    for (unsigned n = 0; n < 300; n++) {
        rig_pause(&rig);
        rig_again(&rig, PROTOCOL);
        if (n % 3 == 2) {
            cr_assert_eq(rig_reset(&rig), 0);
            for (unsigned i = 0; i < RINGS; i++)
                rig.rings.ring[i].ready = true;
            cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
        } else {
            cr_assert_eq(frontend_send_rings(&rig.fe, &rig.rings, 0x0f), 0);
            cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0);
        }
        rig_pause(&rig);
        if (n == 2)
            before = far_open_fds();
        if (n > 2)
            cr_assert_eq(far_open_fds(), before, "turn %u", n);
        rig_go_on(&rig);
    }
    rig_fini(&rig);
}

/* It goes once more, at each message of the second handshake. */
static void bend_hang_up(struct model *m, struct model_reply *reply)
{
    if (m->n_log != m->arg)
        return;
    reply->never = false;
    reply->cut = 0;
}

Test(resume, gone_once_more, .timeout = 30)
{
    static const uint8_t steps[] = { 0x01, 0x03, 0x0b, 0x0f };

    for (unsigned at = 1; at < 30; at++) {
        struct rig rig;
        int rc;

        rig_init(&rig, PROTOCOL | VU_PF_REPLY_ACK);
        cr_assert_eq(rig_start(&rig), 0);
        rig_pause(&rig);
        rig.model.bend_any = true;
        rig.model.bend = bend_hang_up;
        rig.model.arg = at;
        rig_again(&rig, PROTOCOL | VU_PF_REPLY_ACK);
        rc = frontend_send_statuses(&rig.fe, steps, COUNT(steps),
                                    VIRTIO_F_VERSION_1);
        if (rc == 0)
            rc = frontend_wait(&rig.fe, rig_soon());
        if (rc == 0)
            rc = frontend_send_rings(&rig.fe, &rig.rings, 0x0f);
        if (rc == 0)
            rc = frontend_wait(&rig.fe, rig_soon());
        cr_assert_eq(rc, -EPIPE, "message %u: %d", at, rc);
        cr_assert_geq(rig.fe.inflight_fd, 0, "the area is lost");
        rig_fini(&rig);
    }
}
