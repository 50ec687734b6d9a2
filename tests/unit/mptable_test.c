/*
 * The MP table, walked as a kernel would, and the words of the command line.
 */
#include "boot/mptable_x86_64.h"

#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "boot/bytes.h"
#include "tests/unit/ram.h"
#include "vmm/machine/layout_x86_64.h"

static struct boot_virtio devices[] = {
    { .base = 0xd0000000, .size = 0x1000, .irq = 5, .id = 4 },
    { .base = 0xd0001000, .size = 0x2000, .irq = 23, .id = 1 },
    { .base = 0xd0003000, .size = 0x1000, .irq = 16, .id = 2 },
};

static struct mem mem;

static struct boot_board board = {
    .mem = &mem,
    .cpus = 3,
    .cmdline = "quiet",
    .virtio = devices,
    .n_virtio = 3,
};

static void setup(void)
{
    ram_init(&mem, 0x100000, 0, 0);
    memset(mem.region[0].host, 0xee, 0x100000);
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

/* What a walk over the entries found. */
struct found {
    unsigned cpus, buses, ioapics, locals, boot_cpus;
    uint32_t pins;
};

static struct found walk(void)
{
    const uint8_t *p = mem_at(&mem, LAYOUT_MPTABLE, 16), *h, *e;
    struct found found = { 0 };

    cr_assert_arr_eq(p, "_MP_", 4);
    cr_assert_eq(p[8], 1);
    cr_assert_eq(p[9], 4);
    cr_assert_eq(sum(p, 16), 0);
    h = mem_at(&mem, get32(p + 4), 44);
    cr_assert_arr_eq(h, "PCMP", 4);
    cr_assert_eq(sum(h, get16(h + 4)), 0);
    cr_assert_eq(get32(h + 36), 0xfee00000);
    e = h + 44;
    for (unsigned i = 0; i < get16(h + 34); i++, e += *e == 0 ? 20 : 8) {
        switch (e[0]) {
        case 0:
            cr_assert_eq(e[1], found.cpus);
            cr_assert_eq(e[3] & 1, 1);
            found.boot_cpus += e[3] >> 1 & 1;
            found.cpus++;
            break;
        case 1:
            cr_assert_arr_eq(e + 2, "ISA   ", 6);
            found.buses++;
            break;
        case 2:
            cr_assert_eq(e[1], board.cpus, "an id of its own");
            cr_assert_eq(get32(e + 4), 0xfec00000);
            found.ioapics++;
            break;
        case 3:
            cr_assert_eq(e[1], 0);
            cr_assert_eq(get16(e + 2), 5, "edge, active high");
            cr_assert_eq(e[5], e[7], "the source has the pin's number");
            cr_assert_eq(found.pins >> e[7] & 1, 0, "pin %u twice", e[7]);
            found.pins |= 1u << e[7];
            break;
        case 4:
            found.locals++;
            break;
        default:
            cr_assert_fail("entry of type %u", e[0]);
        }
    }
    cr_assert_eq(e, h + get16(h + 4), "the length is the entries'");
    return found;
}

Test(mptable, tells_of_chips_and_pins, .init = setup, .fini = teardown)
{
    struct husk_err err;
    struct found found;

    cr_assert_eq(mptable_write(&board, &err), 0, "%s", err.text);
    found = walk();
    cr_assert_eq(found.cpus, 3);
    cr_assert_eq(found.boot_cpus, 1);
    cr_assert_eq(found.buses, 1);
    cr_assert_eq(found.ioapics, 1);
    cr_assert_eq(found.locals, 2);
    cr_assert_eq(found.pins, 0x81ffff, "%#x", found.pins);
}

Test(mptable, limits, .init = setup, .fini = teardown)
{
    struct husk_err err;
    struct mem small;

    board.cpus = 254;
    cr_assert_eq(mptable_write(&board, &err), 0, "%s", err.text);
    cr_assert_eq(walk().cpus, 254);
    board.cpus = 255;
    cr_assert_eq(mptable_write(&board, &err), -E2BIG);
    board.cpus = 1;
    devices[1].irq = 24;
    cr_assert_eq(mptable_write(&board, &err), -EINVAL);
    cr_assert_str_eq(err.text, "device 1: interrupt 24 is none of the IOAPIC's "
                               "24 pins");
    devices[1].irq = 23;
    ram_init(&small, 0xf0000, 0, 0);
    board.mem = &small;
    cr_assert_eq(mptable_write(&board, &err), -ENOMEM);
    ram_fini(&small);
}

Test(mptable, command_line)
{
    static const char want[] = "quiet virtio_mmio.device=4K@0xd0000000:5 "
                               "virtio_mmio.device=8K@0xd0001000:23 "
                               "virtio_mmio.device=4K@0xd0003000:16";
    char line[256];
    struct husk_err err;

    cr_assert_eq(mptable_cmdline(&board, line, sizeof line, &err), 0);
    cr_assert_str_eq(line, want);
    for (size_t room = 1; room < sizeof want; room++) {
        memset(line, '#', sizeof line);
        cr_assert_eq(mptable_cmdline(&board, line, room, &err), -E2BIG);
        cr_assert_eq(line[room], '#');
    }
    cr_assert_str_eq(err.text, "the command line with 3 devices is 112 bytes "
                               "long, at most 111 are taken");
    cr_assert_eq(mptable_cmdline(&board, line, sizeof want, &err), 0);
    board.cmdline = "";
    cr_assert_eq(mptable_cmdline(&board, line, sizeof line, &err), 0);
    cr_assert_str_eq(line, want + 6);
    devices[1].size = 0x40000; /* kilobytes of 1024 */
    cr_assert_eq(mptable_cmdline(&board, line, sizeof line, &err), 0);
    cr_assert_not_null(strstr(line, "=256K@0xd0001000:23"), "%s", line);
}
