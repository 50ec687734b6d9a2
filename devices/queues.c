/*
 * The registers of the selected queue, VIRTIO 1.2, section 4.2.2, and
 * QueueNotify. Addresses and sizes are judged when a ring is made ready: one
 * that does not fit into guest memory never reaches the back-end.
 */
#include <errno.h>

#include "devices/helper.h"
#include "devices/registers.h"

static bool is_selected(const struct transport *t)
{
    return t->queue_sel < t->rings.n;
}

void queues_show_selected(struct transport *t)
{
    bool there = is_selected(t);

    registers_show(t, VIRTIO_MMIO_QUEUE_NUM_MAX, there ? t->is->queue_size : 0);
    registers_show(t, VIRTIO_MMIO_QUEUE_READY,
                   there ? t->rings.ring[t->queue_sel].ready : 0);
    registers_show(t, VIRTIO_MMIO_QUEUE_RESET, 0);
}

/* What the driver programmed is gone; the kick descriptor stays, and so does
 * where the back-end stopped. */
static void forget(struct transport *t, unsigned index)
{
    t->rings.ring[index] = (struct vring){ 0 };
    t->rings.given[index].started = false;
}

void queues_reset(struct transport *t)
{
    t->queue_sel = 0;
    for (unsigned i = 0; i < t->rings.n; i++)
        forget(t, i);
}

/* 2.7 and 2.8: where the three parts of a ring may lie, and how long they are
 */
static bool fits(const struct transport *t, const struct vring *ring)
{
    uint64_t n = ring->num;
    bool packed = t->rings.driver_features & VIRTIO_F_RING_PACKED;
    uint64_t driver = packed ? 4 : 6 + 2 * n, device = packed ? 4 : 6 + 8 * n;

    if (n == 0 || n > t->is->queue_size || (!packed && n & (n - 1)))
        return false;
    if (ring->desc % 16 || ring->driver % (packed ? 4 : 2) || ring->device % 4)
        return false;
    return mem_at(t->mem, ring->desc, 16 * n) &&
           mem_at(t->mem, ring->driver, driver) &&
           mem_at(t->mem, ring->device, device);
}

/*
 * The kick descriptor of a ring, from when it is first used, and taken by KVM
 * where there is room: never taken away again, which would cost a grace period.
 */
static void prepare_kick(struct transport *t, unsigned index)
{
    struct vring_given *given = &t->rings.given[index];
    int rc, fd = vring_kick_fd(given);

    if (fd < 0) {
        fd = given->spare;
        if (fd < 0)
            return; /* vrings_make_kicks() was not called */
        given->spare = -1;
        atomic_store_explicit(&given->kick, fd, memory_order_release);
    }
    if (given->direct || t->is->inband)
        return;
    rc = window_notify(&t->window, VIRTIO_MMIO_QUEUE_NOTIFY, index, fd);
    given->direct = rc == 0;
    if (rc < 0 && rc != -ENODEV)
        t->kicks_refused++;
}

void queues_prepare(struct transport *t)
{
    for (unsigned i = 0; i < t->rings.n; i++) {
        struct vring *ring = &t->rings.ring[i];

        /* the features may have changed since it was made ready */
        if (ring->ready && !fits(t, ring))
            ring->ready = false;
        if (ring->ready)
            prepare_kick(t, i);
    }
    queues_show_selected(t);
}

/* Whether the queue's registers may be written now. */
static bool is_writable(const struct transport *t, const struct vring *ring)
{
    return !ring->ready && (!registers_running(t) || ring->stopped);
}

static void start_one(struct transport *t, unsigned index, uint64_t deadline)
{
    t->rings.ring[index].stopped = false;
    t->epoch++;
    prepare_kick(t, index);
    if (!t->lost)
        registers_went_well(
            t, t->ops->ring_start(t->ctx, &t->rings, index, deadline));
}

static void write_ready(struct transport *t, unsigned index, uint32_t value,
                        uint64_t deadline)
{
    struct vring *ring = &t->rings.ring[index];

    if (value == 0 && ring->ready && !registers_running(t)) {
        ring->ready = false;
    } else if (value == 1 && is_writable(t, ring) && fits(t, ring)) {
        ring->ready = true;
        if (registers_running(t))
            start_one(t, index, deadline);
    }
    registers_show(t, VIRTIO_MMIO_QUEUE_READY, ring->ready);
}

/* 2.6.1, 4.2.2: the ring is the driver's again when this returns. */
static void write_reset(struct transport *t, unsigned index, uint32_t value,
                        uint64_t deadline)
{
    if (value != 1 || !registers_running(t) || !t->rings.ring[index].ready ||
        !(t->rings.driver_features & VIRTIO_F_RING_RESET))
        return;
    registers_show(t, VIRTIO_MMIO_QUEUE_RESET, 1);
    t->epoch++;
    if (!t->lost)
        registers_went_well(
            t, t->ops->ring_stop(t->ctx, &t->rings, index, deadline));
    forget(t, index);
    t->rings.ring[index].stopped = true;
    queues_show_selected(t);
}

static void low(gpa_t *address, uint32_t value)
{
    *address = (*address & ~(gpa_t)UINT32_MAX) | value;
}

static void high(gpa_t *address, uint32_t value)
{
    *address = (*address & UINT32_MAX) | (gpa_t)value << 32;
}

static void write_layout(struct vring *ring, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        ring->num = value;
        break;
    case VIRTIO_MMIO_QUEUE_DESC:
        low(&ring->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC + 4:
        high(&ring->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_DRIVER:
        low(&ring->driver, value);
        break;
    case VIRTIO_MMIO_QUEUE_DRIVER + 4:
        high(&ring->driver, value);
        break;
    case VIRTIO_MMIO_QUEUE_DEVICE:
        low(&ring->device, value);
        break;
    case VIRTIO_MMIO_QUEUE_DEVICE + 4:
        high(&ring->device, value);
        break;
    }
}

void queues_write(struct transport *t, uint32_t offset, uint32_t value,
                  uint64_t deadline)
{
    if (!is_selected(t))
        return;
    if (offset == VIRTIO_MMIO_QUEUE_READY)
        write_ready(t, t->queue_sel, value, deadline);
    else if (offset == VIRTIO_MMIO_QUEUE_RESET)
        write_reset(t, t->queue_sel, value, deadline);
    else if (is_writable(t, &t->rings.ring[t->queue_sel]))
        write_layout(&t->rings.ring[t->queue_sel], offset, value);
}

static void notify_inband(struct transport *t, unsigned index,
                          uint64_t deadline)
{
    if (!mailbox_lock_until(t->box, deadline))
        return;
    if (t->rings.given[index].started && !t->lost)
        registers_went_well(t, t->ops->kick(t->ctx, index, deadline));
    mailbox_unlock(t->box);
}

/* A kick that KVM did not take. It needs no lock where the ring has a kick
 * descriptor; a kick by message needs the connection, and so the lock. */
void queues_notify(struct transport *t, uint32_t index, uint64_t deadline)
{
    int fd;

    if (index >= t->rings.n)
        return;
    if (t->is->inband) {
        notify_inband(t, index, deadline);
        return;
    }
    fd = vring_kick_fd(&t->rings.given[index]);
    if (fd >= 0)
        helper_ring(t->rings.helper, fd);
}
