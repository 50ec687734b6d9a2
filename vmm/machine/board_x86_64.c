/*
 * The x86_64 board: the serial port, the exit port, power and reset on the port
 * bus, and pvpanic on the memory bus.
 */
#include <errno.h>
#include <string.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/x86_64.h"

/* ISA splits wide accesses into bytes. */
static void uart_io_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    uint8_t *bytes = data;

    for (unsigned i = 0; i < size; i++)
        bytes[i] = uart_read(ctx, (unsigned)offset + i);
}

static void uart_io_write(void *ctx, uint64_t offset, const void *data,
                          unsigned size)
{
    const uint8_t *bytes = data;

    for (unsigned i = 0; i < size; i++)
        uart_write(ctx, (unsigned)offset + i, bytes[i]);
}

static void exit_io_write(void *ctx, uint64_t offset, const void *data,
                          unsigned size)
{
    if (offset == 0)
        power_exit_write(ctx, data, size);
}

static void sleep_io_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    (void)ctx;
    (void)offset;
    memset(data, 0, size);
}

static void sleep_io_write(void *ctx, uint64_t offset, const void *data,
                           unsigned size)
{
    const uint8_t *bytes = data;

    for (unsigned i = 0; i < size; i++)
        power_sleep_write(ctx, (unsigned)offset + i, bytes[i]);
}

/* Its two ports are not neighbours: what lies between them is the PIT's. */
static void i8042_data_read(void *ctx, uint64_t offset, void *data,
                            unsigned size)
{
    (void)offset;
    memset(data, power_i8042_read(ctx, 0), size);
}

static void i8042_data_write(void *ctx, uint64_t offset, const void *data,
                             unsigned size)
{
    (void)offset;
    (void)size;
    power_i8042_write(ctx, 0, *(const uint8_t *)data);
}

static void i8042_command_read(void *ctx, uint64_t offset, void *data,
                               unsigned size)
{
    (void)offset;
    memset(data, power_i8042_read(ctx, 4), size);
}

static void i8042_command_write(void *ctx, uint64_t offset, const void *data,
                                unsigned size)
{
    (void)offset;
    (void)size;
    power_i8042_write(ctx, 4, *(const uint8_t *)data);
}

static void panic_io_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    memset(data, 0, size);
    if (offset == 0)
        *(uint8_t *)data = power_panic_read(ctx);
}

static void panic_io_write(void *ctx, uint64_t offset, const void *data,
                           unsigned size)
{
    (void)size;
    if (offset == 0)
        power_panic_write(ctx, *(const uint8_t *)data);
}

static const struct bus_ops panic_io = { panic_io_read, panic_io_write };
static const struct bus_ops uart_io = { uart_io_read, uart_io_write };
static const struct bus_ops exit_io = { NULL, exit_io_write };
static const struct bus_ops sleep_io = { sleep_io_read, sleep_io_write };
static const struct bus_ops i8042_data = { i8042_data_read, i8042_data_write };
static const struct bus_ops i8042_command = { i8042_command_read,
                                              i8042_command_write };

int board_wire(struct machine *machine, struct husk_err *err)
{
    struct arch_machine *arch = machine->arch;
    struct bus *pio = &arch->pio;
    int rc;

    if ((rc = bus_add(pio, LAYOUT_UART_PIO, LAYOUT_UART_PORTS, &uart_io,
                      &arch->uart)) < 0 ||
        (rc = bus_add(pio, LAYOUT_EXIT_PIO, LAYOUT_EXIT_PORTS, &exit_io,
                      &machine->power)) < 0 ||
        (rc = bus_add(pio, LAYOUT_POWER_PIO, LAYOUT_POWER_PORTS, &sleep_io,
                      &machine->power)) < 0 ||
        (rc = bus_add(pio, LAYOUT_I8042_PIO, 1, &i8042_data, &machine->power)) <
            0 ||
        (rc = bus_add(pio, LAYOUT_I8042_PIO + 4, 1, &i8042_command,
                      &machine->power)) < 0 ||
        (rc = bus_add(&machine->mmio, LAYOUT_PANIC, 8, &panic_io,
                      &machine->power)) < 0)
        return fail(err, rc, "wiring the board: %s", strerror(-rc));
    return 0;
}
