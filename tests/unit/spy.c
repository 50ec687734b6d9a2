/* A transport in front of a spy. See spy.h. */
#include "tests/unit/spy.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"
#include "tests/unit/ram.h"

static int answer(struct spy *spy, unsigned *count)
{
    (*count)++;
    if (spy->gate) {
        sem_post(&spy->gate->entered);
        while (sem_wait(&spy->gate->leave) < 0)
            ;
    }
    return spy->rc;
}

static int op_status(void *ctx, uint8_t status, uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    spy->status = status;
    return answer(spy, &spy->n_status);
}

static int op_features(void *ctx, uint64_t features, uint8_t status,
                       bool *accepted, uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    spy->features = features;
    spy->status = status;
    *accepted = !spy->refuses;
    return answer(spy, &spy->n_features);
}

static int op_start(void *ctx, const struct vrings *rings, uint8_t status,
                    uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    cr_assert_eq(rings->n, spy->is.vqs);
    spy->status = status;
    for (unsigned i = 0; i < rings->n; i++) {
        if (!rings->ring[i].ready)
            continue;
        cr_assert_geq(vring_kick_fd(&rings->given[i]), 0,
                      "ring %u has no kick descriptor", i);
        rings->given[i].started = true;
    }
    return answer(spy, &spy->n_start);
}

static int op_ring_start(void *ctx, const struct vrings *rings, unsigned index,
                         uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    spy->index = index;
    cr_assert_lt(index, spy->is.vqs);
    cr_assert_geq(vring_kick_fd(&rings->given[index]), 0);
    cr_assert(rings->ring[index].ready);
    rings->given[index].started = true;
    return answer(spy, &spy->n_ring_start);
}

static int op_ring_stop(void *ctx, const struct vrings *rings, unsigned index,
                        uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    spy->index = index;
    rings->given[index].started = false;
    return answer(spy, &spy->n_ring_stop);
}

static int op_reset(void *ctx, const struct vrings *rings, uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    for (unsigned i = 0; i < rings->n; i++)
        rings->given[i].started = false;
    return answer(spy, &spy->n_reset);
}

static int op_send_reset(void *ctx, const struct vrings *rings)
{
    struct spy *spy = ctx;

    for (unsigned i = 0; i < rings->n; i++)
        rings->given[i].started = false;
    return answer(spy, &spy->n_send_reset);
}

static int op_config_write(void *ctx, uint32_t offset, const void *data,
                           uint32_t size, uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    cr_assert_leq(size, 4);
    spy->offset = offset;
    spy->size = size;
    memcpy(spy->data, data, size);
    return answer(spy, &spy->n_config_write);
}

static int op_kick(void *ctx, uint32_t index, uint64_t deadline)
{
    struct spy *spy = ctx;

    (void)deadline;
    spy->index = index;
    return answer(spy, &spy->n_kick);
}

static void read_notes(void *ctx, unsigned notes)
{
    struct spy *spy = ctx;

    spy->n_read++;
    if (notes & TRANSPORT_NOTE_RESET)
        transport_late_reset(&spy->t);
}

static void wake(void *ctx)
{
    (void)ctx;
}

static const struct mailbox_ops box_ops = { read_notes, wake };

static const struct transport_ops ops = {
    .status = op_status,
    .features = op_features,
    .start = op_start,
    .ring_start = op_ring_start,
    .ring_stop = op_ring_stop,
    .reset = op_reset,
    .send_reset = op_send_reset,
    .config_write = op_config_write,
    .kick = op_kick,
};

void spy_identity(struct spy *spy)
{
    memset(spy, 0, sizeof *spy);
    spy->opened = far_open_fds();
    spy->deadline = 100;
    spy->is = (struct identity){ .id = 0x1234,
                                 .vqs = SPY_VQS,
                                 .queue_size = SPY_QUEUE,
                                 .features = UINT64_MAX,
                                 .config_size = SPY_CONFIG };
    for (unsigned i = 0; i < sizeof spy->config; i++)
        spy->config[i] = (uint8_t)(i * 3 + 0x81);
}

void spy_start(struct spy *spy)
{
    size_t size = transport_window_size(spy->is.config_size);
    struct transport_setup setup;

    ram_init(&spy->mem, SPY_LOW, SPY_GAP_END, SPY_LOW);
    spy->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cr_assert_geq(spy->call_fd, 0);
    cr_assert_eq(windows_init(&spy->all, 0xd0000000, size), 0);
    window_init(&spy->window, &spy->all, 0, size);
    mailbox_init(&spy->box, &box_ops, spy);
    setup = (struct transport_setup){ .box = &spy->box,
                                      .is = &spy->is,
                                      .config = spy->config,
                                      .shm = spy->shm,
                                      .window = spy->window,
                                      .mem = &spy->mem,
                                      .call_fd = spy->call_fd,
                                      .ack_fd = -1,
                                      .deadline = spy->deadline,
                                      .ops = &ops,
                                      .ctx = spy };
    cr_assert_eq(transport_init(&spy->t, &setup), 0);
}

void spy_init(struct spy *spy)
{
    spy_identity(spy);
    spy_start(spy);
}

void spy_fini(struct spy *spy)
{
    transport_fini(&spy->t);
    mailbox_fini(&spy->box);
    windows_fini(&spy->all);
    ram_fini(&spy->mem);
    close(spy->call_fd);
    cr_assert_eq(far_open_fds(), spy->opened, "%d descriptors left",
                 (int)(far_open_fds() - spy->opened));
}

unsigned spy_calls(const struct spy *spy)
{
    return spy->n_status + spy->n_features + spy->n_start + spy->n_ring_start +
           spy->n_ring_stop + spy->n_reset + spy->n_send_reset +
           spy->n_config_write + spy->n_kick;
}

uint32_t spy_read(struct spy *spy, uint32_t offset)
{
    uint32_t seen, exited;

    memcpy(&seen, spy->t.window.page + offset, sizeof seen);
    transport_read(&spy->t, offset, &exited, sizeof exited);
    cr_assert_eq(seen, exited, "0x%x at 0x%x, but 0x%x by an exit", seen,
                 offset, exited);
    return seen;
}

void spy_write(struct spy *spy, uint32_t offset, uint32_t value)
{
    transport_write(&spy->t, offset, &value, sizeof value);
}

uint64_t spy_interrupts(struct spy *spy)
{
    uint64_t n = 0;

    return read(spy->call_fd, &n, sizeof n) == sizeof n ? n : 0;
}

void spy_go(struct spy *spy, uint8_t status, uint64_t features)
{
    static const uint8_t steps[] = { 0x01, 0x03, 0x0b, 0x0f };

    spy_write(spy, VIRTIO_MMIO_STATUS, 0);
    for (unsigned i = 0; i < 4 && steps[i] <= status; i++) {
        if (steps[i] == 0x0b) {
            for (uint32_t k = 0; k < 2; k++) {
                spy_write(spy, VIRTIO_MMIO_DRIVER_FEAT_SEL, k);
                spy_write(spy, VIRTIO_MMIO_DRIVER_FEATURES,
                          (uint32_t)(features >> 32 * k));
            }
        }
        spy_write(spy, VIRTIO_MMIO_STATUS, steps[i]);
    }
    cr_assert_eq(spy_read(spy, VIRTIO_MMIO_STATUS), status);
}

static void write64(struct spy *spy, uint32_t offset, uint64_t value)
{
    spy_write(spy, offset, (uint32_t)value);
    spy_write(spy, offset + 4, (uint32_t)(value >> 32));
}

void spy_ring(struct spy *spy, uint32_t index, uint32_t num, gpa_t desc,
              gpa_t driver, gpa_t device)
{
    spy_write(spy, VIRTIO_MMIO_QUEUE_SEL, index);
    spy_write(spy, VIRTIO_MMIO_QUEUE_NUM, num);
    write64(spy, VIRTIO_MMIO_QUEUE_DESC, desc);
    write64(spy, VIRTIO_MMIO_QUEUE_DRIVER, driver);
    write64(spy, VIRTIO_MMIO_QUEUE_DEVICE, device);
}

void spy_ready(struct spy *spy, uint32_t index, uint32_t num)
{
    spy_ring(spy, index, num, 0x3000 * index, 0x3000 * index + 0x1000,
             0x3000 * index + 0x2000);
    spy_write(spy, VIRTIO_MMIO_QUEUE_READY, 1);
    cr_assert_eq(spy_read(spy, VIRTIO_MMIO_QUEUE_READY), 1);
}
