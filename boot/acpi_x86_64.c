/*
 * ACPI tables after the specification 6.4 (chapter 5; offsets are its own), in
 * the hardware-reduced form of 4.1: the sleep registers are two ports, and the
 * reset register is the keyboard controller's. IAPC_BOOT_ARCH tells kernels
 * that there is no keyboard controller to drive, no VGA and no CMOS clock, each
 * of which they would else wait for.
 */
#include "boot/acpi_x86_64.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "boot/aml.h"
#include "boot/bytes.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"

#define ROOM (LAYOUT_MPTABLE - LAYOUT_ACPI)

#define HEADER_SIZE 36u /* 5.2.6 */
#define RSDP_SIZE   36u /* 5.2.5.3 */
#define FADT_SIZE   276u

#define LAST_APIC_ID 254u /* of a local APIC; above it the x2APIC's entry */

/* 5.2.9, the FADT */
#define FADT_DSDT          40u
#define FADT_BOOT_ARCH     109u
#define FADT_FLAGS         112u
#define FADT_RESET_REG     116u
#define FADT_RESET_VALUE   128u
#define FADT_X_DSDT        140u
#define FADT_SLEEP_CONTROL 244u
#define FADT_SLEEP_STATUS  256u

#define ARCH_NO_VGA (1u << 2)
#define ARCH_NO_MSI (1u << 3)
#define ARCH_NO_RTC (1u << 5)

#define FLAG_WBINVD     (1u << 0)
#define FLAG_PROC_C1    (1u << 2)
#define FLAG_NO_PWR_BTN (1u << 4) /* no fixed one */
#define FLAG_NO_SLP_BTN (1u << 5)
#define FLAG_NO_FIX_RTC (1u << 6)
#define FLAG_RESET_REG  (1u << 10)
#define FLAG_HEADLESS   (1u << 12)
#define FLAG_REDUCED    (1u << 20)

#define I8042_COMMAND (LAYOUT_I8042_PIO + 4)
#define I8042_RESET   0xfeu

/* 5.2.12, the MADT */
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_LAPIC_NMI = 4, MADT_X2APIC = 9 };

/* The tables as they grow; used runs on past ROOM if they do not fit. */
struct tables {
    uint8_t *base; /* of LAYOUT_ACPI */
    size_t used;
};

/* Zeroed bytes, or NULL where there is no room. */
static uint8_t *take(struct tables *t, size_t size)
{
    size_t at = t->used;

    t->used += size;
    if (t->used > ROOM)
        return NULL;
    memset(t->base + at, 0, size);
    return t->base + at;
}

static void set_checksum(uint8_t *data, size_t size, uint8_t *sum)
{
    uint8_t total = 0;

    *sum = 0;
    for (size_t i = 0; i < size; i++)
        total = (uint8_t)(total + data[i]);
    *sum = (uint8_t)-total;
}

/* Returns the offset of the table, whose header end_table() writes. */
static size_t begin_table(struct tables *t)
{
    size_t at;

    t->used = (t->used + 15) & ~(size_t)15;
    at = t->used;
    take(t, HEADER_SIZE);
    return at;
}

static void end_table(struct tables *t, size_t at, const char *signature,
                      uint8_t revision)
{
    uint8_t *h = t->base + at;

    if (t->used > ROOM)
        return;
    memcpy(h, signature, 4);
    put32(h + 4, (uint32_t)(t->used - at));
    h[8] = revision;
    memcpy(h + 10, "HUSK  ", 6);
    memcpy(h + 16, "HUSKVM  ", 8);
    put32(h + 24, 1);
    memcpy(h + 28, "HUSK", 4);
    put32(h + 32, 1);
    set_checksum(h, t->used - at, h + 9);
}

static void put_uart(struct aml *aml, const char *name, uint32_t uid,
                     uint16_t port, uint32_t gsi)
{
    struct aml_resources res = { 0 };
    size_t mark = aml_begin_device(aml, name);

    aml_name_eisaid(aml, "_HID", "PNP0501");
    aml_name_integer(aml, "_UID", uid);
    aml_io(&res, port, LAYOUT_UART_PORTS);
    aml_interrupt(&res, gsi, false);
    aml_name_resources(aml, &res);
    aml_end(aml, mark);
}

static bool is_shared(const struct boot_board *board, unsigned index)
{
    for (unsigned i = 0; i < board->n_virtio; i++)
        if (i != index && board->virtio[i].irq == board->virtio[index].irq)
            return true;
    return false;
}

static void put_virtio(struct aml *aml, const struct boot_board *board,
                       unsigned index)
{
    const struct boot_virtio *virtio = &board->virtio[index];
    struct aml_resources res = { 0 };
    char name[16];
    size_t mark;

    assert(index <= 0xfff && virtio->base + virtio->size <= LAYOUT_HOLE_END);
    snprintf(name, sizeof name, "V%03X", index);
    mark = aml_begin_device(aml, name);
    aml_name_string(aml, "_HID", "LNRO0005");
    aml_name_integer(aml, "_UID", index);
    aml_name_integer(aml, "_CCA", 1);
    aml_memory(&res, (uint32_t)virtio->base, (uint32_t)virtio->size);
    aml_interrupt(&res, virtio->irq, is_shared(board, index));
    aml_name_resources(aml, &res);
    aml_end(aml, mark);
}

static void put_panic(struct aml *aml, gpa_t base)
{
    struct aml_resources res = { 0 };
    size_t mark = aml_begin_device(aml, "PVPN");

    assert(base < LAYOUT_HOLE_END);
    aml_name_string(aml, "_HID", "QEMU0001");
    aml_memory(&res, (uint32_t)base, 2);
    aml_name_resources(aml, &res);
    aml_end(aml, mark);
}

static size_t put_dsdt(struct tables *t, const struct boot_board *board)
{
    static const uint32_t s5[] = { 5, 0, 0, 0 };
    size_t at = begin_table(t);
    size_t room = t->used < ROOM ? ROOM - t->used : 0;
    struct aml aml = { .data = t->base + t->used, .room = room };
    size_t mark = aml_begin_scope(&aml, "\\_SB_");

    put_uart(&aml, "COM1", 1, LAYOUT_UART_PIO, LAYOUT_UART_GSI);
    if (board->uart2)
        put_uart(&aml, "COM2", 2, LAYOUT_UART2_PIO, LAYOUT_UART2_GSI);
    for (unsigned i = 0; i < board->n_virtio; i++)
        put_virtio(&aml, board, i);
    if (board->panic != 0)
        put_panic(&aml, board->panic);
    aml_end(&aml, mark);
    aml_name_package(&aml, "\\_S5_", s5, 4);
    t->used += aml.used;
    end_table(t, at, "DSDT", 2); /* 2: integers of 64 bits */
    return at;
}

/* 5.2.3.2, a generic address: one byte-wide port */
static void put_port(uint8_t *gas, uint16_t port)
{
    gas[0] = 1; /* system I/O */
    gas[1] = 8; /* bits */
    gas[3] = 1; /* byte access */
    put64(gas + 4, port);
}

static size_t put_fadt(struct tables *t, size_t dsdt)
{
    size_t at = begin_table(t);
    uint8_t *f;

    if (take(t, FADT_SIZE - HEADER_SIZE) == NULL)
        return at;
    f = t->base + at;
    put32(f + FADT_DSDT, (uint32_t)(LAYOUT_ACPI + dsdt));
    put64(f + FADT_X_DSDT, LAYOUT_ACPI + dsdt);
    put16(f + FADT_BOOT_ARCH, ARCH_NO_VGA | ARCH_NO_MSI | ARCH_NO_RTC);
    put32(f + FADT_FLAGS, FLAG_WBINVD | FLAG_PROC_C1 | FLAG_NO_PWR_BTN |
                              FLAG_NO_SLP_BTN | FLAG_NO_FIX_RTC |
                              FLAG_RESET_REG | FLAG_HEADLESS | FLAG_REDUCED);
    put_port(f + FADT_RESET_REG, I8042_COMMAND);
    f[FADT_RESET_VALUE] = I8042_RESET;
    put_port(f + FADT_SLEEP_CONTROL, LAYOUT_POWER_PIO);
    put_port(f + FADT_SLEEP_STATUS, LAYOUT_POWER_PIO + 1);
    end_table(t, at, "FACP", 6);
    return at;
}

static void put_processor(struct tables *t, uint32_t id)
{
    uint8_t *p = take(t, id <= LAST_APIC_ID ? 8 : 16);

    if (p == NULL)
        return;
    if (id <= LAST_APIC_ID) {
        p[0] = MADT_LAPIC;
        p[1] = 8;
        p[2] = (uint8_t)id; /* ACPI's */
        p[3] = (uint8_t)id; /* the APIC's */
        put32(p + 4, 1);    /* enabled */
    } else {
        p[0] = MADT_X2APIC;
        p[1] = 16;
        put32(p + 4, id);
        put32(p + 8, 1);
        put32(p + 12, id);
    }
}

static size_t put_madt(struct tables *t, unsigned cpus)
{
    size_t at = begin_table(t);
    uint8_t *p = take(t, 8);

    if (p != NULL)
        put32(p, LAYOUT_LAPIC); /* flags 0: no PIC to be masked */
    for (unsigned i = 0; i < cpus; i++)
        put_processor(t, i);
    if ((p = take(t, 12)) != NULL) {
        p[0] = MADT_IOAPIC;
        p[1] = 12;
        put32(p + 4, LAYOUT_IOAPIC); /* id 0, and its pins begin at GSI 0 */
    }
    if ((p = take(t, 6)) != NULL) {
        p[0] = MADT_LAPIC_NMI;
        p[1] = 6;
        p[2] = 0xff; /* of every processor */
        p[5] = 1;    /* LINT1 */
    }
    end_table(t, at, "APIC", 5);
    return at;
}

static size_t put_xsdt(struct tables *t, size_t fadt, size_t madt)
{
    size_t at = begin_table(t);
    uint8_t *p = take(t, 16);

    if (p != NULL) {
        put64(p, LAYOUT_ACPI + fadt);
        put64(p + 8, LAYOUT_ACPI + madt);
    }
    end_table(t, at, "XSDT", 1);
    return at;
}

static void put_rsdp(uint8_t *p, size_t xsdt)
{
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, "HUSK  ", 6);
    p[15] = 2; /* since ACPI 2.0: with the XSDT */
    put32(p + 20, RSDP_SIZE);
    put64(p + 24, LAYOUT_ACPI + xsdt);
    set_checksum(p, 20, p + 8);
    set_checksum(p, RSDP_SIZE, p + 32);
}

int acpi_write(const struct boot_board *board, gpa_t *rsdp,
               struct husk_err *err)
{
    struct tables t = { .base = mem_at(board->mem, LAYOUT_ACPI, ROOM) };
    size_t dsdt, fadt, madt, xsdt;

    if (t.base == NULL)
        return fail(err, -ENOMEM,
                    "guest memory of %" PRIu64 " bytes has no place for the "
                    "ACPI tables at %#x",
                    board->mem->size, LAYOUT_ACPI);
    take(&t, RSDP_SIZE);
    dsdt = put_dsdt(&t, board);
    fadt = put_fadt(&t, dsdt);
    madt = put_madt(&t, board->cpus);
    xsdt = put_xsdt(&t, fadt, madt);
    if (t.used > ROOM)
        return fail(err, -E2BIG,
                    "ACPI tables of %u processors and %u devices take %zu "
                    "bytes, there are %u",
                    board->cpus, board->n_virtio, t.used, ROOM);
    put_rsdp(t.base, xsdt);
    *rsdp = LAYOUT_ACPI;
    return 0;
}
