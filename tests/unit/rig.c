/* What a front-end stands between. See rig.h. */
#include "tests/unit/rig.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/deadline.h"
#include "tests/unit/far.h"

#define SECONDS UINT64_C(1000000000)

static void count_arrived(void *ctx)
{
    struct rig *rig = ctx;

    rig->arrived++;
}

void rig_connected(struct rig *rig, uint64_t protocol)
{
    rig->is.features = rig->model.features;
    rig->is.protocol = rig->fe.acked = protocol;
    rig->fe.max_slots = rig->model.max_slots;
}

void rig_init(struct rig *rig, uint64_t protocol)
{
    static const struct mem_layout layout = {
        .n = 2,
        .range = { { 0, 32 << 10 }, { 1 << 20, 32 << 10 } },
    };
    struct husk_err err;

    memset(rig, 0, sizeof *rig);
    rig->opened = far_open_fds();
    cr_assert_eq(mem_init(&rig->mem, 64 << 10, &layout, &err), 0, "%s",
                 err.text);
    rig->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rig->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rig->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cr_assert_eq(vrings_init(&rig->rings, RINGS), 0);
    for (unsigned i = 0; i < RINGS; i++) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        cr_assert_geq(fd, 0);
        atomic_store(&rig->rings.given[i].kick, fd);
        rig->rings.ring[i] = (struct vring){
            .desc = 0x1000 * i,
            .driver = 0x100000 + 0x1000 * i,
            .device = 0x100800 + 0x1000 * i,
            .num = 8u << i,
            .ready = true,
        };
    }
    rig->fe.name = "virtio7";
    rig->fe.is = &rig->is;
    rig->fe.mem = &rig->mem;
    rig->fe.stop_fd = rig->stop_fd;
    rig->fe.call_fd = rig->call_fd;
    rig->fe.err_fd = rig->err_fd;
    rig->fe.inflight_fd = -1;
    rig->fe.deadline = 5;
    rig->fe.config_arrived = count_arrived;
    rig->fe.ctx = rig;
    frontend_init(&rig->fe, model_init(&rig->model));
    rig_connected(rig, protocol);
    model_start(&rig->model);
}

void rig_pause(struct rig *rig)
{
    model_stop(&rig->model);
}

void rig_go_on(struct rig *rig)
{
    rig->model.n_log = 0;
    model_start(&rig->model);
}

void rig_fini(struct rig *rig)
{
    frontend_fini(&rig->fe);
    model_fini(&rig->model);
    mem_fini(&rig->mem);
    close(rig->call_fd);
    close(rig->err_fd);
    close(rig->stop_fd);
    vrings_fini(&rig->rings);
    cr_assert_eq(far_open_fds(), rig->opened, "%d descriptors left",
                 (int)(far_open_fds() - rig->opened));
}

uint64_t rig_soon(void)
{
    return deadline_now() + 100 * SECONDS;
}

void rig_expect(const struct rig *rig, const uint32_t *requests, unsigned n)
{
    for (unsigned i = 0; i < n && i < rig->model.n_log; i++)
        cr_assert_eq(rig->model.log[i].request, requests[i],
                     "message %u is %u, not %u", i, rig->model.log[i].request,
                     requests[i]);
    cr_assert_eq(rig->model.n_log, n, "%u messages, not %u", rig->model.n_log,
                 n);
}

uint64_t rig_signals(int fd)
{
    uint64_t n = 0;

    return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

int rig_start(struct rig *rig)
{
    return frontend_start(&rig->fe, &rig->rings, 0x0f, rig_soon());
}

int rig_reset(struct rig *rig)
{
    return frontend_reset(&rig->fe, &rig->rings, rig_soon());
}

void rig_again(struct rig *rig, uint64_t protocol)
{
    wire_fini(&rig->fe.wire);
    frontend_init(&rig->fe, model_again(&rig->model));
    rig_connected(rig, protocol);
    for (unsigned i = 0; i < RINGS; i++)
        rig->rings.given[i].started = false;
    rig_go_on(rig);
}
