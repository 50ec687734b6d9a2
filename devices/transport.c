/*
 * Registers of virtio-mmio, VIRTIO 1.2, section 4.2.2. Every number from the
 * guest is judged here, at the door: ring addresses, sizes and selectors that
 * do not fit never reach the back-end. Writes of another width than the
 * specification's, and those that come at the wrong time, change nothing.
 */
#include "devices/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/deadline.h"
#include "devices/doorbell.h"
#include "devices/virtio.h"

#define PAGE   4096u
#define VENDOR 0x6b737568u /* "husk" */

/* vhost's own bits, and those whose mechanism this transport does not have. */
#define HIDDEN                                                                 \
    (VHOST_F_LOG_ALL | VHOST_F_PROTOCOL_FEATURES | VIRTIO_F_ACCESS_PLATFORM |  \
     VIRTIO_F_SR_IOV | VIRTIO_F_NOTIFICATION_DATA |                            \
     VIRTIO_F_NOTIF_CONFIG_DATA | VIRTIO_F_ADMIN_VQ)

#define STATUS_WRITABLE                                                        \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |                        \
     VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK |                     \
     VIRTIO_STATUS_FAILED)

size_t transport_window_size(uint32_t config_size)
{
    return (VIRTIO_MMIO_CONFIG + (size_t)config_size + PAGE - 1) / PAGE * PAGE;
}

uint64_t transport_shown(uint64_t features)
{
    return features & ~HIDDEN;
}

/* A register as the guest reads it. The guest may be reading right now. */
static void show(struct transport *t, uint32_t offset, uint32_t value)
{
    __atomic_store_n((uint32_t *)(void *)(t->window.page + offset), value,
                     __ATOMIC_RELEASE);
}

static uint32_t shown(const struct transport *t, uint32_t offset)
{
    return __atomic_load_n((uint32_t *)(void *)(t->window.page + offset),
                           __ATOMIC_RELAXED);
}

static void interrupt(struct transport *t)
{
    doorbell_ring(t->call_fd);
}

static struct vring *selected(struct transport *t)
{
    return t->queue_sel < t->is.vqs ? &t->rings[t->queue_sel] : NULL;
}

static void show_selected(struct transport *t)
{
    const struct vring *ring = selected(t);

    show(t, VIRTIO_MMIO_QUEUE_NUM_MAX, ring ? t->is.queue_size : 0);
    show(t, VIRTIO_MMIO_QUEUE_READY, ring ? ring->ready : 0);
    show(t, VIRTIO_MMIO_QUEUE_RESET, 0);
}

static void show_features(struct transport *t)
{
    uint64_t words = t->feature_sel > 1 ? 0 : t->shown >> 32 * t->feature_sel;

    show(t, VIRTIO_MMIO_DEVICE_FEATURES, (uint32_t)words);
}

static void show_status(struct transport *t)
{
    show(t, VIRTIO_MMIO_STATUS, t->status);
}

/* 4.2.2: all ones where there is no such region. Linux takes 0 for one. */
static void show_shm(struct transport *t)
{
    const struct shm_region *region =
        t->is.shm ? shm_find(t->is.shm, t->shm_sel) : NULL;
    uint64_t size = region ? region->size : UINT64_MAX;
    uint64_t base = region ? region->base : UINT64_MAX;

    show(t, VIRTIO_MMIO_SHM_LEN, (uint32_t)size);
    show(t, VIRTIO_MMIO_SHM_LEN + 4, (uint32_t)(size >> 32));
    show(t, VIRTIO_MMIO_SHM_BASE, (uint32_t)base);
    show(t, VIRTIO_MMIO_SHM_BASE + 4, (uint32_t)(base >> 32));
}

/* All registers as they are at start and after a reset. */
static void show_reset(struct transport *t)
{
    t->status = 0;
    t->feature_sel = t->driver_sel = t->queue_sel = t->shm_sel = 0;
    t->driver_features = 0;
    t->driver_beyond = false;
    t->n_history = 0;
    t->epoch++;
    for (unsigned i = 0; i < t->is.vqs; i++) {
        struct vring *ring = &t->rings[i];

        *ring = (struct vring){ .kick = ring->kick, .direct = ring->direct };
    }
    show(t, VIRTIO_MMIO_INTERRUPT_STATUS, 0);
    show_features(t);
    show_selected(t);
    show_shm(t);
    show_status(t);
}

int transport_init(struct transport *t, const struct window *window,
                   const struct mem *mem,
                   const struct transport_identity *identity, int call_fd,
                   int ack_fd, const struct transport_ops *ops, void *ctx)
{
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->window = *window;
    t->mem = mem;
    t->is = *identity;
    t->shown = transport_shown(identity->features);
    t->call_fd = call_fd;
    t->ack_fd = ack_fd;
    t->ops = ops;
    t->ctx = ctx;
    t->rings = calloc(identity->vqs, sizeof *t->rings);
    if (!t->rings)
        return -ENOMEM;
    for (unsigned i = 0; i < identity->vqs; i++)
        t->rings[i].kick = -1;
    show(t, VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_MAGIC_VALUE);
    show(t, VIRTIO_MMIO_VERSION, 2);
    show(t, VIRTIO_MMIO_DEVICE_ID, identity->id);
    show(t, VIRTIO_MMIO_VENDOR_ID, VENDOR);
    if (identity->config_size)
        memcpy(t->window.page + VIRTIO_MMIO_CONFIG, identity->config,
               identity->config_size);
    show_reset(t);
    return 0;
}

void transport_fini(struct transport *t)
{
    for (unsigned i = 0; t->rings && i < t->is.vqs; i++)
        if (t->rings[i].kick >= 0)
            close(t->rings[i].kick);
    free(t->rings);
    t->rings = NULL;
    pthread_mutex_destroy(&t->lock);
}

void transport_lock(struct transport *t)
{
    pthread_mutex_lock(&t->lock);
}

bool transport_trylock(struct transport *t)
{
    return pthread_mutex_trylock(&t->lock) == 0;
}

void transport_needs_reset(struct transport *t, bool lost)
{
    if (lost)
        t->lost = true;
    if (t->status == 0 || t->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    t->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (t->status & VIRTIO_STATUS_DRIVER_OK) {
        show(t, VIRTIO_MMIO_INTERRUPT_STATUS,
             shown(t, VIRTIO_MMIO_INTERRUPT_STATUS) | VIRTIO_MMIO_INT_CONFIG);
        show_status(t);
        interrupt(t);
    } else {
        show_status(t);
    }
}

/* What a call behind the registers returned. */
static bool went_well(struct transport *t, int rc)
{
    if (rc < 0 && rc != -ECANCELED)
        transport_needs_reset(t, true);
    return rc == 0;
}

/* What the back-end has to answer is due afterwards. */
static void reset_without_waiting(struct transport *t)
{
    if (!t->lost)
        went_well(t, t->ops->send_reset(t->ctx, t->rings, t->is.vqs));
    show_reset(t);
}

void transport_unlock(struct transport *t)
{
    do {
        atomic_store(&t->work, false);
        if (atomic_exchange(&t->reset, false))
            reset_without_waiting(t);
        t->ops->leave(t->ctx);
        pthread_mutex_unlock(&t->lock);
        /* work that was asked for after leave() and before the unlock */
    } while (atomic_load(&t->work) && transport_trylock(t));
}

void transport_work(struct transport *t)
{
    atomic_store(&t->work, true);
    if (transport_trylock(t))
        transport_unlock(t);
}

static bool lock_until(struct transport *t, uint64_t deadline)
{
    struct timespec until = { .tv_sec = (time_t)(deadline / 1000000000u),
                              .tv_nsec = (long)(deadline % 1000000000u) };

    return pthread_mutex_clocklock(&t->lock, CLOCK_MONOTONIC, &until) == 0;
}

void transport_config(struct transport *t, const uint8_t *config, bool notify)
{
    bool changed = memcmp(t->window.page + VIRTIO_MMIO_CONFIG, config,
                          t->is.config_size) != 0;
    uint8_t *copy;
    uint32_t word;

    notify = notify && t->status & VIRTIO_STATUS_DRIVER_OK;
    if (!changed && !notify)
        return;
    copy = malloc(t->window.size);
    if (!copy)
        return; /* the guest goes on with what it has */
    memcpy(copy, t->window.page, t->window.size);
    memcpy(copy + VIRTIO_MMIO_CONFIG, config, t->is.config_size);
    word = shown(t, VIRTIO_MMIO_CONFIG_GEN) + changed;
    memcpy(copy + VIRTIO_MMIO_CONFIG_GEN, &word, sizeof word);
    word = shown(t, VIRTIO_MMIO_INTERRUPT_STATUS) |
           (notify ? VIRTIO_MMIO_INT_CONFIG : 0);
    memcpy(copy + VIRTIO_MMIO_INTERRUPT_STATUS, &word, sizeof word);
    if (window_replace(&t->window, copy) == 0 && notify)
        interrupt(t);
    free(copy);
}

/* 2.7 and 2.8: where the three parts of a ring may lie, and how long they are
 */
static bool ring_fits(const struct transport *t, const struct vring *ring)
{
    uint64_t n = ring->num;
    bool packed = t->driver_features & VIRTIO_F_RING_PACKED;
    uint64_t driver = packed ? 4 : 6 + 2 * n, device = packed ? 4 : 6 + 8 * n;

    if (n == 0 || n > t->is.queue_size || (!packed && n & (n - 1)))
        return false;
    if (ring->desc % 16 || ring->driver % (packed ? 4 : 2) || ring->device % 4)
        return false;
    return mem_at(t->mem, ring->desc, 16 * n) &&
           mem_at(t->mem, ring->driver, driver) &&
           mem_at(t->mem, ring->device, device);
}

/*
 * The kick descriptor of a ring, made when it is first used, and taken by KVM
 * where there is room: never taken away again, which would cost a grace period.
 */
static void prepare_kick(struct transport *t, unsigned index)
{
    struct vring *ring = &t->rings[index];

    if (ring->kick < 0) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (fd < 0)
            return; /* which loses the device, with a line, at its start */
        __atomic_store_n(&ring->kick, fd, __ATOMIC_RELEASE);
    }
    if (!ring->direct && !t->is.inband) {
        int rc = window_notify(&t->window, VIRTIO_MMIO_QUEUE_NOTIFY, index,
                               ring->kick);

        ring->direct = rc == 0;
        if (rc < 0 && rc != -ENODEV)
            t->kicks_refused++;
    }
}

static void prepare_ack(struct transport *t)
{
    if (!t->ack_direct && t->ack_fd >= 0)
        t->ack_direct = window_notify(&t->window, VIRTIO_MMIO_INTERRUPT_ACK,
                                      VIRTIO_MMIO_INT_VRING, t->ack_fd) == 0;
}

static bool accept_features(struct transport *t, uint8_t status,
                            uint64_t deadline)
{
    bool accepted = false;
    int rc;

    if (t->lost || t->driver_beyond || t->driver_features & ~t->shown ||
        !(t->driver_features & VIRTIO_F_VERSION_1))
        return false;
    rc = t->ops->features(t->ctx, t->driver_features, status, &accepted,
                          deadline);
    return went_well(t, rc) && accepted;
}

static void start(struct transport *t, uint8_t status, uint64_t deadline)
{
    for (unsigned i = 0; i < t->is.vqs; i++) {
        struct vring *ring = &t->rings[i];

        /* the features may have changed since it was made ready */
        if (ring->ready && !ring_fits(t, ring))
            ring->ready = false;
        if (ring->ready)
            prepare_kick(t, i);
    }
    show_selected(t);
    prepare_ack(t);
    t->status = status;
    show(t, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_INT_VRING);
    if (!t->lost)
        went_well(t, t->ops->start(t->ctx, t->rings, t->is.vqs,
                                   status & STATUS_WRITABLE, deadline));
}

/* The driver's steps, for a back-end that comes back. */
static void remember(struct transport *t, uint8_t status)
{
    t->epoch++;
    if (t->n_history < TRANSPORT_STATUSES)
        t->history[t->n_history++] = status;
}

static void reset(struct transport *t, uint64_t deadline)
{
    if (!t->lost)
        went_well(t, t->ops->reset(t->ctx, t->rings, t->is.vqs, deadline));
    show_reset(t);
}

/*
 * 2.1 and 3.1.1: bits are set in order and never cleared one by one; a write
 * that tries is ignored. FAILED ends everything but a reset.
 */
static void write_status(struct transport *t, uint32_t value, uint64_t deadline)
{
    uint8_t old = t->status & STATUS_WRITABLE;
    uint8_t want = value & STATUS_WRITABLE;
    bool ordered =
        (!(want & VIRTIO_STATUS_DRIVER) || want & VIRTIO_STATUS_ACKNOWLEDGE) &&
        (!(want & VIRTIO_STATUS_FEATURES_OK) || want & VIRTIO_STATUS_DRIVER) &&
        (!(want & VIRTIO_STATUS_DRIVER_OK) || want & VIRTIO_STATUS_FEATURES_OK);
    uint8_t added = want & ~old, keep = t->status & VIRTIO_STATUS_NEEDS_RESET;

    if (value == 0) {
        reset(t, deadline);
        return;
    }
    if (old & ~want || !ordered || old & VIRTIO_STATUS_FAILED || !added)
        return;
    if (added & VIRTIO_STATUS_FEATURES_OK) /* a loss meanwhile is shown in it */
        t->status |=
            want & ~(VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
    if (added & VIRTIO_STATUS_FEATURES_OK &&
        !accept_features(t, want & ~VIRTIO_STATUS_DRIVER_OK, deadline)) {
        want &= ~(VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
        added = want & ~old;
        /* what remains of the write, or the status without the bit again */
        t->status = want | keep | (t->status & VIRTIO_STATUS_NEEDS_RESET);
    } else {
        t->status = (want & ~(added & VIRTIO_STATUS_DRIVER_OK)) | keep;
    }
    if (added & ~VIRTIO_STATUS_DRIVER_OK)
        remember(t, want & ~(added & VIRTIO_STATUS_DRIVER_OK));
    if (added & VIRTIO_STATUS_DRIVER_OK)
        remember(t, want);
    if (added & VIRTIO_STATUS_DRIVER_OK)
        start(t, want | keep, deadline);
    else if (added && !(added & VIRTIO_STATUS_FEATURES_OK) && !t->lost)
        went_well(t, t->ops->status(t->ctx, want, deadline));
    show_status(t);
}

static bool running(const struct transport *t)
{
    return t->status & VIRTIO_STATUS_DRIVER_OK;
}

/* Whether the selected ring's registers may be written now. */
static bool writable(const struct transport *t, const struct vring *ring)
{
    return !ring->ready && (!running(t) || ring->stopped);
}

static void write_ready(struct transport *t, struct vring *ring, uint32_t value,
                        uint64_t deadline)
{
    if (value == 0 && ring->ready && !running(t)) {
        ring->ready = false;
    } else if (value == 1 && writable(t, ring) && ring_fits(t, ring)) {
        ring->ready = true;
        if (running(t)) {
            unsigned index = (unsigned)(ring - t->rings);

            ring->stopped = false;
            t->epoch++;
            prepare_kick(t, index);
            if (!t->lost)
                went_well(
                    t, t->ops->ring_start(t->ctx, t->rings, index, deadline));
        }
    }
    show(t, VIRTIO_MMIO_QUEUE_READY, ring->ready);
}

/* 2.6.1, 4.2.2: the ring is the driver's again when this returns. */
static void write_reset(struct transport *t, struct vring *ring, uint32_t value,
                        uint64_t deadline)
{
    if (value != 1 || !running(t) || !ring->ready ||
        !(t->driver_features & VIRTIO_F_RING_RESET))
        return;
    show(t, VIRTIO_MMIO_QUEUE_RESET, 1);
    t->epoch++;
    if (!t->lost && ring->started)
        went_well(t, t->ops->ring_stop(t->ctx, t->rings,
                                       (unsigned)(ring - t->rings), deadline));
    *ring = (struct vring){ .kick = ring->kick,
                            .direct = ring->direct,
                            .stopped = true };
    show_selected(t);
}

static void low(gpa_t *address, uint32_t value)
{
    *address = (*address & ~(gpa_t)UINT32_MAX) | value;
}

static void high(gpa_t *address, uint32_t value)
{
    *address = (*address & UINT32_MAX) | (gpa_t)value << 32;
}

static void write_ring(struct transport *t, uint32_t offset, uint32_t value,
                       uint64_t deadline)
{
    struct vring *ring = selected(t);

    if (!ring)
        return;
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
        write_ready(t, ring, value, deadline);
        return;
    }
    if (offset == VIRTIO_MMIO_QUEUE_RESET) {
        write_reset(t, ring, value, deadline);
        return;
    }
    if (!writable(t, ring))
        return;
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

static void write_driver_features(struct transport *t, uint32_t value)
{
    unsigned shift = 32 * t->driver_sel;

    if (t->status & VIRTIO_STATUS_FEATURES_OK)
        return;
    if (t->driver_sel > 1) {
        t->driver_beyond |= value != 0;
        return;
    }
    t->driver_features &= ~((uint64_t)UINT32_MAX << shift);
    t->driver_features |= (uint64_t)value << shift;
}

/* Acknowledging the used-buffer bit changes nothing, see transport.h. */
static void write_ack(struct transport *t, uint32_t value)
{
    uint32_t pending = shown(t, VIRTIO_MMIO_INTERRUPT_STATUS);

    show(t, VIRTIO_MMIO_INTERRUPT_STATUS,
         pending & ~(value & VIRTIO_MMIO_INT_CONFIG));
}

static void write_register(struct transport *t, uint32_t offset, uint32_t value,
                           uint64_t deadline)
{
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEAT_SEL:
        t->feature_sel = value;
        show_features(t);
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        write_driver_features(t, value);
        break;
    case VIRTIO_MMIO_DRIVER_FEAT_SEL:
        t->driver_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        t->queue_sel = value;
        show_selected(t);
        break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        write_ack(t, value);
        break;
    case VIRTIO_MMIO_STATUS:
        write_status(t, value, deadline);
        break;
    case VIRTIO_MMIO_SHM_SEL:
        t->shm_sel = value;
        show_shm(t);
        break;
    default:
        write_ring(t, offset, value, deadline);
        break;
    }
}

/* A kick that KVM did not take. Needs no lock: a kick descriptor stays, and
 * only one that goes by message needs the connection. */
static void notify(struct transport *t, uint32_t index, uint64_t deadline)
{
    int fd;

    if (index >= t->is.vqs)
        return;
    if (t->is.inband) {
        if (lock_until(t, deadline)) {
            if (t->rings[index].started && !t->lost)
                went_well(t, t->ops->kick(t->ctx, index, deadline));
            transport_unlock(t);
        }
        return;
    }
    fd = __atomic_load_n(&t->rings[index].kick, __ATOMIC_ACQUIRE);
    if (fd >= 0)
        doorbell_ring(fd);
}

static void write_config(struct transport *t, uint64_t offset, const void *data,
                         unsigned size, uint64_t deadline)
{
    if (t->lost || offset > t->is.config_size ||
        size > t->is.config_size - offset)
        return;
    went_well(t, t->ops->config_write(t->ctx, (uint32_t)offset, data, size,
                                      deadline));
}

void transport_write(struct transport *t, uint64_t offset, const void *data,
                     unsigned size)
{
    uint64_t deadline;
    uint32_t value = 0;

    if (size == 0 || size > 4 || size == 3 || offset % size ||
        (offset < VIRTIO_MMIO_CONFIG && size != 4))
        return;
    memcpy(&value, data, size);
    deadline = deadline_now() + (uint64_t)(t->is.deadline * 1e9);
    if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
        notify(t, value, deadline);
        return;
    }
    if (!lock_until(t, deadline)) {
        /* whoever holds it is about to lose the device; 0 is 0 all the same */
        if (offset == VIRTIO_MMIO_STATUS && value == 0) {
            atomic_store(&t->reset, true);
            transport_work(t);
        }
        return;
    }
    if (offset < VIRTIO_MMIO_CONFIG)
        write_register(t, (uint32_t)offset, value, deadline);
    else
        write_config(t, offset - VIRTIO_MMIO_CONFIG, data, size, deadline);
    transport_unlock(t);
}

void transport_read(struct transport *t, uint64_t offset, void *data,
                    unsigned size)
{
    memset(data, 0, size);
    if (offset < t->window.size && size <= t->window.size - offset)
        memcpy(data, t->window.page + offset, size);
}

void transport_reboot(struct transport *t)
{
    reset_without_waiting(t);
    t->ack_direct = false;
    for (unsigned i = 0; i < t->is.vqs; i++)
        t->rings[i].direct = false;
}
