/*
 * The ACPI tables: sums and pointers followed by hand, everything else by what
 * iasl, ACPICA's disassembler, reads out of them.
 */
#include "boot/acpi_x86_64.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "boot/aml.h"
#include "boot/bytes.h"
#include "tests/unit/ram.h"
#include "vmm/machine/layout_x86_64.h"

#define DEVICES 20u

static struct boot_virtio devices[DEVICES];
static struct mem mem;

static struct boot_board board = {
    .mem = &mem,
    .cpus = 3,
    .cmdline = "",
    .virtio = devices,
    .n_virtio = DEVICES,
    .panic = 0xd00ff000,
    .uart2 = true,
};

static void setup(void)
{
    ram_init(&mem, 0x100000, 0, 0);
    memset(mem.region[0].host, 0xee, 0x100000);
    for (unsigned i = 0; i < DEVICES; i++)
        devices[i] = (struct boot_virtio){
            .base = 0xd0000000 + i * 0x1000,
            .size = 0x1000,
            .irq = 5 + i % 15,
        };
}

static void teardown(void)
{
    ram_fini(&mem);
}

static uint8_t sum(const uint8_t *data, size_t size)
{
    uint8_t total = 0;

    for (size_t i = 0; i < size; i++)
        total = (uint8_t)(total + data[i]);
    return total;
}

/* The table at gpa, with its signature and sum checked. */
static const uint8_t *table(gpa_t gpa, const char *signature)
{
    const uint8_t *header = mem_at(&mem, gpa, 36);
    const uint8_t *whole;

    cr_assert_not_null(header);
    whole = mem_at(&mem, gpa, get32(header + 4));
    cr_assert_not_null(whole);
    cr_assert_eq(gpa % 16, 0, "%s: alignment", signature);
    cr_assert_arr_eq(whole, signature, 4);
    cr_assert_eq(sum(whole, get32(whole + 4)), 0, "%s: sum", signature);
    cr_assert_leq(gpa + get32(whole + 4), LAYOUT_MPTABLE);
    return whole;
}

static const uint8_t *write_all(void)
{
    struct husk_err err;
    const uint8_t *p;
    gpa_t rsdp = 0;

    cr_assert_eq(acpi_write(&board, &rsdp, &err), 0, "%s", err.text);
    cr_assert_eq(rsdp % 16, 0);
    p = mem_at(&mem, rsdp, 36);
    cr_assert_arr_eq(p, "RSD PTR ", 8);
    cr_assert_eq(p[15], 2);
    cr_assert_eq(get32(p + 20), 36);
    cr_assert_eq(sum(p, 20), 0);
    cr_assert_eq(sum(p, 36), 0);
    return table(get64(p + 24), "XSDT");
}

/*
 * What iasl makes of a table, blanks squeezed, in memory the caller frees. It
 * fails the test if iasl is not happy.
 */
static char *disassemble(const uint8_t *data)
{
    char dir[] = "/tmp/husk-acpi-XXXXXX", command[256], path[64];
    char *text = calloc(1, 1 << 20), *out = text;
    FILE *file;
    int c;

    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/table.dat", dir);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(data, 1, get32(data + 4), file), get32(data + 4));
    fclose(file);
    snprintf(command, sizeof command,
             "cd %s && iasl -d table.dat >log 2>&1 && ! grep -i -E "
             "'error|warning|invalid' log >&2 && cat table.dsl",
             dir);
    file = popen(command, "r");
    cr_assert_not_null(file);
    while ((c = getc(file)) != EOF && out < text + (1 << 20) - 1)
        if (c > ' ')
            *out++ = (char)c;
    cr_assert_eq(pclose(file), 0, "iasl failed");
    snprintf(command, sizeof command, "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
    return text;
}

static void check(const char *text, const char *want)
{
    cr_assert_not_null(strstr(text, want), "iasl did not say %s", want);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    while ((text = strstr(text, what)) != NULL) {
        text += strlen(what);
        n++;
    }
    return n;
}

Test(acpi, fadt, .init = setup, .fini = teardown, .timeout = 30)
{
    const uint8_t *xsdt = write_all();
    const uint8_t *fadt = table(get64(xsdt + 36), "FACP");
    char *text = disassemble(fadt);

    cr_assert_eq(get32(xsdt + 4), 36 + 2 * 8);
    cr_assert_eq(get32(fadt + 40), get64(fadt + 140), "two DSDT addresses");
    check(text, "HardwareReduced(V5):1");
    check(text, "ResetRegisterSupported(V2):1");
    check(text, "CMOSRTCNotPresent(V5):1");
    check(text, "VGANotPresent(V4):1");
    check(text, "8042Presentonports60/64(V2):0");
    check(text, "Valuetocausereset:FE");
    check(text, "Address:0000000000000064");
    check(text, "SleepControlRegister:[GenericAddressStructure]"
                "[0F4h02441]SpaceID:01[SystemIO]");
    check(text, "Address:0000000000000600");
    check(text, "Address:0000000000000601");
    free(text);
}

Test(acpi, madt, .init = setup, .fini = teardown, .timeout = 30)
{
    const uint8_t *xsdt = write_all();
    char *text = disassemble(table(get64(xsdt + 44), "APIC"));

    check(text, "LocalApicAddress:FEE00000");
    check(text, "PC-ATCompatibility:0");
    cr_assert_eq(count(text, "[ProcessorLocalAPIC]"), 3);
    cr_assert_eq(count(text, "ProcessorEnabled:1"), 3);
    check(text, "LocalApicID:02");
    check(text, "Address:FEC00000");
    check(text, "[LocalAPICNMI]");
    check(text, "ProcessorID:FF");
    check(text, "InterruptInputLINT:01");
    free(text);
}

Test(acpi, madt_past_255, .init = setup, .fini = teardown, .timeout = 30)
{
    const uint8_t *xsdt;
    char *text;

    board.cpus = 300;
    xsdt = write_all();
    text = disassemble(table(get64(xsdt + 44), "APIC"));
    cr_assert_eq(count(text, "[ProcessorLocalAPIC]"), 255);
    cr_assert_eq(count(text, "[ProcessorLocalx2APIC]"), 45);
    cr_assert_eq(count(text, "ProcessorEnabled:1"), 300);
    check(text, "Processorx2ApicID:000000FF");
    check(text, "Processorx2ApicID:0000012B");
    check(text, "ProcessorUID:0000012B");
    free(text);
}

Test(acpi, dsdt, .init = setup, .fini = teardown, .timeout = 30)
{
    const uint8_t *xsdt = write_all();
    const uint8_t *fadt = table(get64(xsdt + 36), "FACP");
    const uint8_t *dsdt = table(get64(fadt + 140), "DSDT");
    char *text = disassemble(dsdt);

    cr_assert_eq(dsdt[8], 2, "revision 2: integers of 64 bits");
    check(text, "Device(COM1){Name(_HID,EisaId(\"PNP0501\")");
    check(text, "IO(Decode16,0x03F8,");
    check(text, "IO(Decode16,0x02F8,");
    check(text, "Interrupt(ResourceConsumer,Edge,ActiveHigh,Exclusive,,,)"
                "{0x00000004,}");
    cr_assert_eq(count(text, "Name(_HID,\"LNRO0005\")"), DEVICES);
    cr_assert_eq(count(text, "Name(_CCA,One)"), DEVICES);
    check(text, "Device(V013){Name(_HID,\"LNRO0005\")//_HID:HardwareID"
                "Name(_UID,0x13)");
    check(text, "Memory32Fixed(ReadWrite,0xD0013000,//AddressBase0x00001000,");
    /* devices 0 and 15 share a pin, device 7 has one of its own */
    check(text, "Shared,,,){0x00000005,}");
    check(text, "Exclusive,,,){0x0000000C,}");
    check(text, "Name(_HID,\"QEMU0001\")");
    check(text, "0xD00FF000");
    check(text, "Name(\\_S5,Package(0x04)//_S5_:S5SystemState"
                "{0x05,Zero,Zero,Zero})");
    free(text);
}

Test(acpi, dsdt_without_devices, .init = setup, .fini = teardown, .timeout = 30)
{
    const uint8_t *xsdt, *fadt;
    char *text;

    board.n_virtio = 0;
    board.panic = 0;
    board.uart2 = false;
    xsdt = write_all();
    fadt = table(get64(xsdt + 36), "FACP");
    text = disassemble(table(get64(fadt + 140), "DSDT"));
    check(text, "Device(COM1)");
    cr_assert_eq(count(text, "Device("), 1);
    free(text);
}

Test(acpi, refuses_what_does_not_fit, .init = setup, .fini = teardown)
{
    struct husk_err err;
    struct mem small;
    gpa_t rsdp;

    board.cpus = 5000;
    cr_assert_eq(acpi_write(&board, &rsdp, &err), -E2BIG);
    cr_assert_not_null(strstr(err.text, "5000 processors and 20 devices"));
    for (gpa_t at = LAYOUT_MPTABLE; at < 0x100000; at++)
        cr_assert_eq(mem.region[0].host[at], 0xee);

    ram_init(&small, LAYOUT_MPTABLE - 1, 0, 0);
    board.mem = &small;
    cr_assert_eq(acpi_write(&board, &rsdp, &err), -ENOMEM);
    ram_fini(&small);
}

/* Tables are whole, or there are none: nothing is written past their room. */
Test(acpi, fits_or_is_refused, .init = setup, .fini = teardown)
{
    struct husk_err err;
    unsigned fits = 0, too_large = 0;

    for (unsigned cpus = 3500; cpus < 4200; cpus++) {
        gpa_t rsdp, root;
        int rc;

        board.cpus = cpus;
        rc = acpi_write(&board, &rsdp, &err);
        cr_assert_eq(mem.region[0].host[LAYOUT_MPTABLE], 0xee);
        if (rc < 0) {
            cr_assert_eq(rc, -E2BIG);
            too_large++;
            continue;
        }
        cr_assert_eq(too_large, 0, "%u processors fit", cpus);
        root = get64((uint8_t *)mem_at(&mem, rsdp, 36) + 24);
        table(get64(table(root, "XSDT") + 44), "APIC");
        fits++;
    }
    cr_assert(fits > 0 && too_large > 0, "%u fit", fits);
}

/* A package length takes one byte, two or three. */
Test(acpi, aml_package_lengths)
{
    uint8_t data[5000];

    for (unsigned n = 0; n < 300; n++) {
        struct aml aml = { .data = data, .room = sizeof data };
        size_t mark = aml_begin_scope(&aml, "\\_SB_"), length, content;

        for (unsigned i = 0; i < n; i++)
            aml_name_integer(&aml, "ABCD", i % 2); /* six bytes */
        aml_end(&aml, mark);
        cr_assert(aml_fits(&aml));
        content = 5 + 6 * n;
        length = content + (content + 1 < 64 ? 1 : content + 2 < 4096 ? 2 : 3);
        cr_assert_eq(aml.used, 1 + length);
        if (data[1] >> 6 == 0)
            cr_assert_eq(data[1], length);
        else if (data[1] >> 6 == 1)
            cr_assert_eq((data[1] & 0xf) | data[2] << 4, length);
        cr_assert_arr_eq(data + 1 + length - content, "\\_SB_", 5);
    }
}

Test(acpi, aml_remembers_overflow)
{
    uint8_t data[65];

    for (size_t room = 0; room < 64; room++) {
        struct aml aml = { .data = data, .room = room };
        size_t mark;

        memset(data, 0xaa, sizeof data);
        mark = aml_begin_device(&aml, "ABCD");
        aml_name_string(&aml, "_HID", "LNRO0005");
        aml_name_integer(&aml, "_UID", 0x12345678);
        aml_end(&aml, mark);
        cr_assert_eq(aml_fits(&aml), room >= aml.used, "room %zu", room);
        for (size_t i = room; i < sizeof data; i++)
            cr_assert_eq(data[i], 0xaa, "room %zu, byte %zu", room, i);
    }
}

/* Each value takes the shortest form that holds it; an exact fit is one. */
Test(acpi, aml_integers)
{
    static const struct {
        uint32_t value;
        size_t size;
        const char *bytes;
    } cases[] = {
        { 0, 1, "\x00" },
        { 1, 1, "\x01" },
        { 2, 2, "\x0a\x02" },
        { 0xff, 2, "\x0a\xff" },
        { 0x100, 3, "\x0b\x00\x01" },
        { 0xffff, 3, "\x0b\xff\xff" },
        { 0x10000, 5, "\x0c\x00\x00\x01\x00" },
        { 0xffffffff, 5, "\x0c\xff\xff\xff\xff" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t data[16] = { 0 };
        struct aml aml = { .data = data, .room = 5 + cases[i].size };

        memset(data, 0xaa, sizeof data);
        aml_name_integer(&aml, "ABCD", cases[i].value);
        cr_assert(aml_fits(&aml));
        cr_assert_eq(aml.used, 5 + cases[i].size);
        cr_assert_arr_eq(data,
                         "\x08"
                         "ABCD",
                         5);
        cr_assert_arr_eq(data + 5, cases[i].bytes, cases[i].size);
    }
}
