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

#include "devices/deadline.h"
#include "devices/helper.h"
#include "devices/registers.h"

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

static void interrupt(struct transport *t)
{
    helper_ring(t->rings.helper, t->call_fd);
}

static void show_features(struct transport *t)
{
    uint64_t words = t->feature_sel > 1 ? 0 : t->shown >> 32 * t->feature_sel;

    registers_show(t, VIRTIO_MMIO_DEVICE_FEATURES, (uint32_t)words);
}

static void show_status(struct transport *t)
{
    registers_show(t, VIRTIO_MMIO_STATUS, t->status);
}

/* 4.2.2: all ones where there is no such region. Linux takes 0 for one. */
static void show_shm(struct transport *t)
{
    const struct shm_region *region =
        t->shm ? shm_find(t->shm, t->shm_sel) : NULL;
    uint64_t size = region ? region->size : UINT64_MAX;
    uint64_t base = region ? region->base : UINT64_MAX;

    registers_show(t, VIRTIO_MMIO_SHM_LEN, (uint32_t)size);
    registers_show(t, VIRTIO_MMIO_SHM_LEN + 4, (uint32_t)(size >> 32));
    registers_show(t, VIRTIO_MMIO_SHM_BASE, (uint32_t)base);
    registers_show(t, VIRTIO_MMIO_SHM_BASE + 4, (uint32_t)(base >> 32));
}

/* All registers as they are at start and after a reset. */
static void show_reset(struct transport *t)
{
    t->status = 0;
    t->feature_sel = t->driver_sel = t->shm_sel = 0;
    t->rings.driver_features = 0;
    t->driver_beyond = false;
    t->n_history = 0;
    t->epoch++;
    queues_reset(t);
    registers_show(t, VIRTIO_MMIO_INTERRUPT_STATUS, 0);
    show_features(t);
    queues_show_selected(t);
    show_shm(t);
    show_status(t);
}

int transport_init(struct transport *t, const struct transport_setup *setup)
{
    const struct identity *is = setup->is;
    int rc;

    memset(t, 0, sizeof *t);
    t->box = setup->box;
    t->is = is;
    t->window = setup->window;
    t->mem = setup->mem;
    t->shm = setup->shm;
    t->shown = transport_shown(is->features);
    t->call_fd = setup->call_fd;
    t->ack_fd = setup->ack_fd;
    t->deadline = setup->deadline;
    t->ops = setup->ops;
    t->ctx = setup->ctx;
    if (vrings_init(&t->rings, is->vqs) < 0)
        return -ENOMEM;
    t->rings.helper = setup->helper;
    if ((rc = vrings_make_kicks(&t->rings)) < 0) {
        transport_fini(t);
        return rc;
    }
    registers_show(t, VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_MAGIC_VALUE);
    registers_show(t, VIRTIO_MMIO_VERSION, 2);
    registers_show(t, VIRTIO_MMIO_DEVICE_ID, is->id);
    registers_show(t, VIRTIO_MMIO_VENDOR_ID, VENDOR);
    if (is->config_size)
        memcpy(t->window.page + VIRTIO_MMIO_CONFIG, setup->config,
               is->config_size);
    window_publish(&t->window, VIRTIO_MMIO_CONFIG, is->config_size);
    show_reset(t);
    return 0;
}

void transport_fini(struct transport *t)
{
    vrings_fini(&t->rings);
}

void transport_needs_reset(struct transport *t, bool lost)
{
    if (lost)
        t->lost = true;
    if (t->status == 0 || t->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    t->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (t->status & VIRTIO_STATUS_DRIVER_OK) {
        registers_show(t, VIRTIO_MMIO_INTERRUPT_STATUS,
                       registers_shown(t, VIRTIO_MMIO_INTERRUPT_STATUS) |
                           VIRTIO_MMIO_INT_CONFIG);
        show_status(t);
        interrupt(t);
    } else {
        show_status(t);
    }
}

/* What a call behind the registers returned. */
bool registers_went_well(struct transport *t, int rc)
{
    if (rc < 0 && rc != -ECANCELED)
        transport_needs_reset(t, true);
    return rc == 0;
}

/* What the back-end has to answer is pending afterwards. */
void transport_late_reset(struct transport *t)
{
    if (!t->lost)
        registers_went_well(t, t->ops->send_reset(t->ctx, &t->rings));
    show_reset(t);
}

void transport_config(struct transport *t, const uint8_t *config, bool notify)
{
    bool changed = memcmp(t->window.page + VIRTIO_MMIO_CONFIG, config,
                          t->is->config_size) != 0;
    uint8_t *copy;
    uint32_t word;

    notify = notify && t->status & VIRTIO_STATUS_DRIVER_OK;
    if (!changed && !notify)
        return;
    copy = malloc(t->window.size);
    if (!copy)
        return; /* the guest goes on with what it has */
    memcpy(copy, t->window.page, t->window.size);
    memcpy(copy + VIRTIO_MMIO_CONFIG, config, t->is->config_size);
    word = registers_shown(t, VIRTIO_MMIO_CONFIG_GEN) + changed;
    memcpy(copy + VIRTIO_MMIO_CONFIG_GEN, &word, sizeof word);
    word = registers_shown(t, VIRTIO_MMIO_INTERRUPT_STATUS) |
           (notify ? VIRTIO_MMIO_INT_CONFIG : 0);
    memcpy(copy + VIRTIO_MMIO_INTERRUPT_STATUS, &word, sizeof word);
    if (window_replace(&t->window, copy) == 0 && notify)
        interrupt(t);
    free(copy);
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

    if (t->lost || t->driver_beyond || t->rings.driver_features & ~t->shown ||
        !(t->rings.driver_features & VIRTIO_F_VERSION_1))
        return false;
    rc = t->ops->features(t->ctx, t->rings.driver_features, status, &accepted,
                          deadline);
    return registers_went_well(t, rc) && accepted;
}

static void start(struct transport *t, uint8_t status, uint64_t deadline)
{
    queues_prepare(t);
    prepare_ack(t);
    t->status = status;
    registers_show(t, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_INT_VRING);
    if (!t->lost)
        registers_went_well(t,
                            t->ops->start(t->ctx, &t->rings,
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
        registers_went_well(t, t->ops->reset(t->ctx, &t->rings, deadline));
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
        registers_went_well(t, t->ops->status(t->ctx, want, deadline));
    show_status(t);
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
    t->rings.driver_features &= ~((uint64_t)UINT32_MAX << shift);
    t->rings.driver_features |= (uint64_t)value << shift;
}

/* Acknowledging the used-buffer bit changes nothing, see transport.h. */
static void write_ack(struct transport *t, uint32_t value)
{
    uint32_t pending = registers_shown(t, VIRTIO_MMIO_INTERRUPT_STATUS);

    registers_show(t, VIRTIO_MMIO_INTERRUPT_STATUS,
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
        queues_show_selected(t);
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
        queues_write(t, offset, value, deadline);
        break;
    }
}

static void write_config(struct transport *t, uint64_t offset, const void *data,
                         unsigned size, uint64_t deadline)
{
    if (t->lost || offset > t->is->config_size ||
        size > t->is->config_size - offset)
        return;
    registers_went_well(t, t->ops->config_write(t->ctx, (uint32_t)offset, data,
                                                size, deadline));
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
    deadline = deadline_now() + (uint64_t)(t->deadline * 1e9);
    if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
        queues_notify(t, value, deadline);
        return;
    }
    if (!mailbox_lock_until(t->box, deadline)) {
        /* its holder is about to lose the device; a reset is one all the same
         */
        if (offset == VIRTIO_MMIO_STATUS && value == 0)
            mailbox_post(t->box, TRANSPORT_NOTE_RESET);
        return;
    }
    if (offset < VIRTIO_MMIO_CONFIG)
        write_register(t, (uint32_t)offset, value, deadline);
    else
        write_config(t, offset - VIRTIO_MMIO_CONFIG, data, size, deadline);
    mailbox_unlock(t->box);
}

/*
 * As the guest's own read of the page: without the lock, each byte or aligned
 * word whole. Acquire order, the counterpart of registers_show().
 */
void transport_read(struct transport *t, uint64_t offset, void *data,
                    unsigned size)
{
    uint8_t *bytes = data;

    memset(data, 0, size);
    if (offset >= t->window.size || size > t->window.size - offset)
        return;
    if (size == 4 && offset % 4 == 0) {
        uint32_t word = atomic_load_explicit(
            (_Atomic uint32_t *)(void *)(t->window.page + offset),
            memory_order_acquire);

        memcpy(data, &word, sizeof word);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        bytes[i] = atomic_load_explicit(
            (_Atomic uint8_t *)(t->window.page + offset + i),
            memory_order_acquire);
}

void transport_reboot(struct transport *t)
{
    transport_late_reset(t);
    t->ack_direct = false;
    for (unsigned i = 0; i < t->rings.n; i++)
        t->rings.given[i].direct = false;
}
