/*
 * The tables of Intel's MultiProcessor Specification 1.4, chapter 4. An entry
 * for each of the 16 ISA interrupts and for each pin above them that a device
 * uses, all on the ISA bus and edge-triggered: Linux takes the source number of
 * such an entry as the interrupt's number, and so it stays the pin's.
 */
#include "boot/mptable_x86_64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "boot/bytes.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

#define POINTER_SIZE 16u
#define HEADER_SIZE  44u
#define MAX_CPUS     254u /* id 255 is everyone, and the IOAPIC needs one */
#define PINS         24u  /* of KVM's IOAPIC */
#define ISA_PINS     16u
#define ROOM         0x2000u

#define APIC_VERSION   0x14u
#define IOAPIC_VERSION 0x11u
#define CPU_ENABLED    1u
#define CPU_BOOT       2u
#define CPU_FEATURES   0x201u /* FPU and APIC, as CPUID says */
#define EDGE_HIGH      0x5u   /* trigger and polarity, each told */
#define ISA_BUS        0u
#define EVERY_APIC     0xffu

enum { PROCESSOR = 0, BUS = 1, IOAPIC = 2, INTERRUPT = 3, LOCAL_INTERRUPT = 4 };
enum { TYPE_INT = 0, TYPE_NMI = 1, TYPE_EXTINT = 3 };

_Static_assert(POINTER_SIZE + HEADER_SIZE + MAX_CPUS * 20 + 8 + 8 + PINS * 8 +
                       2 * 8 <=
                   ROOM,
               "the table can outgrow its room");
_Static_assert(LAYOUT_MPTABLE >= 0xf0000 &&
                   LAYOUT_MPTABLE + ROOM <= LAYOUT_RESET,
               "kernels search from 0xf0000 to 1 MiB");

/* The configuration table as it grows. */
struct config {
    uint8_t *base;
    size_t used;
    uint16_t entries;
};

static uint8_t *add(struct config *config, uint8_t type, size_t size)
{
    uint8_t *entry = config->base + config->used;

    memset(entry, 0, size);
    entry[0] = type;
    config->used += size;
    config->entries++;
    return entry;
}

static void add_interrupt(struct config *config, uint8_t entry_type,
                          uint8_t type, uint8_t source, uint8_t apic,
                          uint8_t pin)
{
    uint8_t *e = add(config, entry_type, 8);

    e[1] = type;
    put16(e + 2, entry_type == INTERRUPT ? EDGE_HIGH : 0);
    e[4] = ISA_BUS;
    e[5] = source;
    e[6] = apic;
    e[7] = pin;
}

static void add_processors(struct config *config, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++) {
        uint8_t *e = add(config, PROCESSOR, 20);

        e[1] = (uint8_t)i;
        e[2] = APIC_VERSION;
        e[3] = (uint8_t)(CPU_ENABLED | (i == 0 ? CPU_BOOT : 0));
        put32(e + 4, 0x600); /* a signature: family 6 */
        put32(e + 8, CPU_FEATURES);
    }
}

static void add_chips(struct config *config, uint8_t ioapic_id)
{
    uint8_t *e = add(config, BUS, 8);

    e[1] = ISA_BUS;
    memcpy(e + 2, "ISA   ", 6);
    e = add(config, IOAPIC, 8);
    e[1] = ioapic_id;
    e[2] = IOAPIC_VERSION;
    e[3] = 1; /* usable */
    put32(e + 4, LAYOUT_IOAPIC);
}

static void add_pins(struct config *config, const struct boot_board *board,
                     uint8_t ioapic_id)
{
    uint32_t used = (1u << ISA_PINS) - 1;

    for (unsigned i = 0; i < board->n_virtio; i++)
        used |= 1u << board->virtio[i].irq;
    for (uint8_t pin = 0; pin < PINS; pin++)
        if (used >> pin & 1)
            add_interrupt(config, INTERRUPT, TYPE_INT, pin, ioapic_id, pin);
}

static uint8_t checksum(const uint8_t *data, size_t size)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + data[i]);
    return (uint8_t)-sum;
}

static void put_header(const struct config *config)
{
    uint8_t *h = config->base;

    memset(h, 0, HEADER_SIZE);
    memcpy(h, "PCMP", 4);
    put16(h + 4, (uint16_t)config->used);
    h[6] = 4; /* version 1.4 */
    memcpy(h + 8, "HUSK    ", 8);
    memcpy(h + 16, "HUSKVM      ", 12);
    put16(h + 34, config->entries);
    put32(h + 36, LAYOUT_LAPIC);
    h[7] = checksum(h, config->used);
}

static void put_pointer(uint8_t *p)
{
    memset(p, 0, POINTER_SIZE);
    memcpy(p, "_MP_", 4);
    put32(p + 4, LAYOUT_MPTABLE + POINTER_SIZE);
    p[8] = 1; /* paragraphs of 16 bytes */
    p[9] = 4; /* version 1.4 */
    p[10] = checksum(p, POINTER_SIZE);
}

int mptable_write(const struct boot_board *board, struct husk_err *err)
{
    uint8_t *base = mem_at(board->mem, LAYOUT_MPTABLE, ROOM);
    uint8_t ioapic_id = (uint8_t)board->cpus;
    struct config config;

    if (board->cpus > MAX_CPUS)
        return fail(err, -E2BIG,
                    "an MP table holds %u processors at most, there are %u",
                    MAX_CPUS, board->cpus);
    for (unsigned i = 0; i < board->n_virtio; i++)
        if (board->virtio[i].irq >= PINS)
            return fail(err, -EINVAL,
                        "device %u: interrupt %" PRIu32
                        " is none of the IOAPIC's %u pins",
                        i, board->virtio[i].irq, PINS);
    if (base == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for the "
                    "MP table at %#x",
                    board->mem->size, LAYOUT_MPTABLE);
    config =
        (struct config){ .base = base + POINTER_SIZE, .used = HEADER_SIZE };
    add_processors(&config, board->cpus);
    add_chips(&config, ioapic_id);
    add_pins(&config, board, ioapic_id);
    add_interrupt(&config, LOCAL_INTERRUPT, TYPE_EXTINT, 0, EVERY_APIC, 0);
    add_interrupt(&config, LOCAL_INTERRUPT, TYPE_NMI, 0, EVERY_APIC, 1);
    put_header(&config);
    put_pointer(base);
    return 0;
}

int mptable_cmdline(const struct boot_board *board, char *line, size_t size,
                    struct husk_err *err)
{
    size_t used = strlen(board->cmdline);

    if (used < size)
        memcpy(line, board->cmdline, used + 1);
    for (unsigned i = 0; i < board->n_virtio; i++) {
        const struct boot_virtio *virtio = &board->virtio[i];
        bool room = used < size;

        used += (size_t)snprintf(
            room ? line + used : NULL, room ? size - used : 0,
            "%svirtio_mmio.device=%" PRIu64 "K@%#" PRIx64 ":%" PRIu32,
            used > 0 ? " " : "", virtio->size / 1024, virtio->base,
            virtio->irq);
    }
    if (used >= size)
        return fail(err, -E2BIG,
                    "the command line with %u devices is %zu bytes long, "
                    "at most %zu are taken",
                    board->n_virtio, used, size - 1);
    return 0;
}
