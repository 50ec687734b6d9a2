/*
 * Accesses that no driver makes: every width at every offset, past the end of
 * config space, across pages, to addresses and ports where nothing is. Those
 * that would count as a register write (32 bits, aligned) are left out, so
 * nothing may have changed afterwards.
 */
#include "hostile.h"

static uint64_t read_width(uint64_t at, unsigned width)
{
    switch (width) {
    case 1:
        return *(const volatile uint8_t *)at;
    case 2:
        return *(const volatile uint16_t *)at;
    case 4:
        return *(const volatile uint32_t *)at;
    default:
        return *(const volatile uint64_t *)at;
    }
}

static void write_width(uint64_t at, unsigned width, uint64_t value)
{
    switch (width) {
    case 1:
        *(volatile uint8_t *)at = (uint8_t)value;
        break;
    case 2:
        *(volatile uint16_t *)at = (uint16_t)value;
        break;
    case 4:
        *(volatile uint32_t *)at = (uint32_t)value;
        break;
    default:
        *(volatile uint64_t *)at = value;
    }
}

static void odd_writes(const struct virtio *dev, uint64_t value)
{
    for (unsigned offset = 0; offset < REG_CONFIG; offset++)
        for (unsigned width = 1; width <= 8; width *= 2) {
            /* one that reaches into config space may change it */
            if (offset + width > REG_CONFIG && dev->config_size > 0)
                continue;
            if (width != 4 || offset % 4 != 0)
                write_width(dev->base + offset, width, value);
        }
}

static void odd_reads(const struct virtio *dev)
{
    for (unsigned offset = 0; offset < REG_CONFIG; offset++)
        for (unsigned width = 1; width <= 8; width *= 2)
            read_width(dev->base + offset, width);
    /* over the end of the device's last page */
    for (unsigned before = 1; before < 8; before++)
        read_width(dev->base + dev->size - before, 8);
}

static void check_status(const struct virtio *dev, uint32_t wanted)
{
    uint32_t status = virtio_read(dev, REG_STATUS);

    if (status != wanted)
        exit_fail("status is %#x after odd writes, was %#x", status, wanted);
}

void hostile_widths(struct target *t)
{
    const char *error;

    target_negotiate(t);
    odd_reads(&t->dev);
    odd_writes(&t->dev, UINT64_MAX);
    check_status(&t->dev, 0x0b);
    odd_writes(&t->dev, 0);
    check_status(&t->dev, 0x0b);
    error = queue_init(&t->queue, &t->dev, 0, 8);
    if (error != NULL)
        exit_fail("%s", error);
    virtio_start(&t->dev);
    target_request(t, "after odd writes");
}

void hostile_live_widths(struct target *t)
{
    target_start(t);
    odd_reads(&t->dev);
    odd_writes(&t->dev, 0);
    check_status(&t->dev, 0x0f);
    odd_writes(&t->dev, UINT64_MAX);
    check_status(&t->dev, 0x0f);
    target_request(t, "after odd writes to a live device");
}

void hostile_config_range(struct target *t)
{
    const struct virtio *dev = &t->dev;
    uint64_t config = dev->base + REG_CONFIG;
    uint64_t end = dev->base + dev->size;

    target_start(t);
    for (uint64_t at = config + dev->config_size; at < end; at++)
        if (read_width(at, 1) != 0)
            exit_fail("config byte %lu of %u is not 0", at - config,
                      dev->config_size);
    for (unsigned width = 2; width <= 8; width *= 2) {
        uint64_t at = config + dev->config_size;

        /* across the end of config space, then past it, then off the page */
        for (unsigned before = 1; before < width; before++)
            read_width(at - before, width);
        for (; at + width <= end && at < config + dev->config_size + 64; at++)
            write_width(at, width, UINT64_MAX);
        for (unsigned before = width; before > 0; before--)
            write_width(end - before, width, UINT64_MAX);
    }
    for (uint64_t at = config + dev->config_size; at < end; at++)
        if (read_width(at, 1) != 0)
            exit_fail("config byte %lu of %u took a write", at - config,
                      dev->config_size);
    target_request(t, "after writes past config space");
}

void hostile_unassigned(struct target *t)
{
    static const uint64_t addresses[] = {
        0xc0000000, 0xcffffff8, 0xd8000000, 0xe0000000,
        0xfec01000, 0xfed00000, 0xffc00000,
    };
    static const uint16_t ports[] = {
        0x70, 0x71, 0x80, 0x92, 0x2f0, 0x402, 0x510, 0xcf8, 0xcfc, 0xfff8,
    };

    target_start(t);
    for (unsigned i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        for (unsigned width = 1; width <= 8; width *= 2) {
            read_width(addresses[i], width);
            read_width(addresses[i] + 3, width);
            write_width(addresses[i], width, UINT64_MAX);
            write_width(addresses[i] + 3, width, UINT64_MAX);
        }
    for (unsigned i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        uint32_t value;

        /* bit 0 of port 0x92 would be a reset */
        out8(ports[i], 0);
        in8(ports[i]);
        __asm__ volatile("outw %w0, %1" : : "a"(0), "d"(ports[i]));
        __asm__ volatile("outl %0, %1" : : "a"(0), "d"(ports[i]));
        __asm__ volatile("inw %1, %w0" : "=a"(value) : "d"(ports[i]));
        __asm__ volatile("inl %1, %0" : "=a"(value) : "d"(ports[i]));
    }
    target_request(t, "after accesses to nothing");
}

/* Every register with every bit, wide accesses, more output than fits. */
void hostile_uart(struct target *t)
{
    static const char line[] =
        "................................................................\n";
    uint32_t value;

    target_start(t);
    for (uint16_t port = PORT_UART + 1; port < PORT_UART + 8; port++)
        for (unsigned bit = 0; bit < 8; bit++) {
            in8(port);
            out8(port, (uint8_t)(1u << bit));
        }
    for (uint16_t port = PORT_UART; port < PORT_UART + 8; port++) {
        __asm__ volatile("inw %1, %w0" : "=a"(value) : "d"(port));
        __asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port));
    }
    uart_init();
    for (unsigned n = 0; n < 64; n++)
        uart_write(line, sizeof line - 1);
    target_request(t, "after a flood of output");
}
