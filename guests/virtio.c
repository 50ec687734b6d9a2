/*
 * The virtio-mmio transport, version 2 (VIRTIO 1.2, 4.2), from the driver's
 * side and in the order of 3.1.1. Interrupts are edges: the device's used rings
 * say whether one meant something.
 */
#include "virtio.h"

#define MAGIC    0x74726976u
#define VERSION  2u
#define ATTEMPTS 10000u
#define PATIENCE 1000u /* milliseconds for a register to change */

uint32_t virtio_read(const struct virtio *dev, unsigned reg)
{
    return get32(dev->base + reg);
}

void virtio_write(const struct virtio *dev, unsigned reg, uint32_t value)
{
    put32(dev->base + reg, value);
}

static unsigned count_queues(const struct virtio *dev)
{
    unsigned n = 0;

    for (; n < QUEUES_MAX; n++) {
        virtio_write(dev, REG_QUEUE_SEL, n);
        if (virtio_read(dev, REG_QUEUE_NUM_MAX) == 0)
            break;
    }
    return n;
}

const char *virtio_open(struct virtio *dev)
{
    if (virtio_read(dev, REG_MAGIC) != MAGIC)
        return "wrong magic";
    if (virtio_read(dev, REG_VERSION) != VERSION)
        return "wrong version";
    dev->id = virtio_read(dev, REG_DEVICE_ID);
    if (dev->tree_id != 0 && dev->tree_id != dev->id)
        return "the tree gives it another id";
    dev->n_queues = count_queues(dev);
    virtio_write(dev, REG_DEVICE_FEAT_SEL, 1);
    dev->offered = (uint64_t)virtio_read(dev, REG_DEVICE_FEATURES) << 32;
    virtio_write(dev, REG_DEVICE_FEAT_SEL, 0);
    dev->offered |= virtio_read(dev, REG_DEVICE_FEATURES);
    return NULL;
}

/* The register must come to hold value, at once or in a while. */
static bool becomes(const struct virtio *dev, unsigned reg, uint32_t value)
{
    uint64_t deadline;

    if (virtio_read(dev, reg) == value)
        return true;
    deadline = time_after(PATIENCE);
    while (virtio_read(dev, reg) != value) {
        if (time_now() >= deadline)
            return false;
        __asm__ volatile("pause");
    }
    return true;
}

uint64_t virtio_wanted(void)
{
    static const struct {
        const char *option;
        uint64_t feature;
    } known[] = {
        { "packed", FEATURE_PACKED },
        { "event-idx", FEATURE_EVENT_IDX },
        { "indirect", FEATURE_INDIRECT },
        { "ring-reset", FEATURE_RING_RESET },
    };
    uint64_t wanted = FEATURE_VERSION_1;

    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        if (option_flag(known[i].option))
            wanted |= known[i].feature;
    return wanted;
}

const char *virtio_reset(struct virtio *dev)
{
    virtio_write(dev, REG_STATUS, 0);
    return becomes(dev, REG_STATUS, 0) ? NULL : "status stays after a reset";
}

const char *virtio_negotiate(struct virtio *dev, uint64_t accept)
{
    const char *error = virtio_reset(dev);
    uint32_t status = STATUS_ACKNOWLEDGE;

    if (error != NULL)
        return error;
    if ((dev->offered & FEATURE_VERSION_1) == 0)
        return "does not offer VERSION_1";
    virtio_write(dev, REG_STATUS, status);
    status |= STATUS_DRIVER;
    virtio_write(dev, REG_STATUS, status);
    dev->accepted = dev->offered & accept;
    virtio_write(dev, REG_DRIVER_FEAT_SEL, 1);
    virtio_write(dev, REG_DRIVER_FEATURES, (uint32_t)(dev->accepted >> 32));
    virtio_write(dev, REG_DRIVER_FEAT_SEL, 0);
    virtio_write(dev, REG_DRIVER_FEATURES, (uint32_t)dev->accepted);
    status |= STATUS_FEATURES_OK;
    virtio_write(dev, REG_STATUS, status);
    if ((virtio_read(dev, REG_STATUS) & STATUS_FEATURES_OK) == 0) {
        virtio_write(dev, REG_STATUS, STATUS_FAILED);
        return "FEATURES_OK refused";
    }
    interrupts_enable(dev->pin, dev->sense);
    dev->interrupts = interrupts_count(dev->pin);
    return NULL;
}

void virtio_start(struct virtio *dev)
{
    virtio_write(dev, REG_STATUS,
                 STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
                     STATUS_DRIVER_OK);
}

bool virtio_needs_reset(const struct virtio *dev)
{
    return (virtio_read(dev, REG_STATUS) & STATUS_NEEDS_RESET) != 0;
}

bool virtio_wait(struct virtio *dev, uint64_t deadline)
{
    uint32_t pending;

    if (!interrupts_wait(dev->pin, &dev->interrupts, deadline))
        return false;
    pending = virtio_read(dev, REG_INTERRUPT_STATUS);
    if ((pending & INT_VRING) != 0)
        virtio_write(dev, REG_INTERRUPT_ACK, INT_VRING);
    if ((pending & INT_CONFIG) != 0) {
        virtio_write(dev, REG_INTERRUPT_ACK, INT_CONFIG);
        dev->config_changes++;
    }
    return true;
}

void virtio_config_read(const struct virtio *dev, unsigned offset, void *out,
                        size_t size)
{
    uint8_t *to = out;
    uint64_t at = dev->base + REG_CONFIG + offset;

    for (; at % 4 == 0 && size >= 4; at += 4, to += 4, size -= 4) {
        uint32_t value = get32(at);

        memcpy(to, &value, sizeof value);
    }
    for (; size > 0; size--)
        *to++ = *(const volatile uint8_t *)at++;
}

uint32_t virtio_config_snapshot(const struct virtio *dev, void *out)
{
    for (unsigned n = 0; n < ATTEMPTS; n++) {
        uint32_t before = virtio_read(dev, REG_CONFIG_GEN);

        virtio_config_read(dev, 0, out, dev->config_size);
        if (virtio_read(dev, REG_CONFIG_GEN) == before)
            return before;
    }
    exit_fail("virtio%u: the config generation never stands still",
              dev->number);
}

void virtio_config_write(const struct virtio *dev, unsigned offset,
                         const void *bytes, size_t size, unsigned width)
{
    const uint8_t *from = bytes;
    uint64_t at = dev->base + REG_CONFIG + offset;

    for (; size >= width; size -= width, from += width, at += width) {
        if (width == 1) {
            *(volatile uint8_t *)at = *from;
        } else if (width == 2) {
            *(volatile uint16_t *)at = (uint16_t)(from[0] | from[1] << 8);
        } else {
            uint32_t value;

            memcpy(&value, from, sizeof value);
            put32(at, value);
        }
    }
}
