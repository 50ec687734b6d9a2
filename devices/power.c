/*
 * Exit port, power-off and reset. There is no keyboard and no sleep: of both
 * controllers only what ends a run is here.
 */
#include "devices/power.h"

#include <string.h>

#define SLEEP_ENABLE  0x20
#define I8042_COMMAND 4
#define PANICKED      0x01 /* pvpanic: the guest, and nothing is done of it */
#define I8042_RESET   0xfe /* pulse the reset line */

void power_exit_write(struct power *power, const void *data, unsigned size)
{
    uint32_t value = 0;

    memcpy(&value, data, size > sizeof value ? sizeof value : size);
    power->ended(power->ctx, POWER_EXIT, value);
}

void power_sleep_write(struct power *power, unsigned reg, uint8_t value)
{
    /* S5 is the only sleeping state that the tables offer. */
    if (reg == 0 && value & SLEEP_ENABLE)
        power->ended(power->ctx, POWER_OFF, 0);
}

uint8_t power_i8042_read(struct power *power, unsigned reg)
{
    (void)power;
    (void)reg;
    return 0; /* both buffers empty: a reset may be sent */
}

void power_i8042_write(struct power *power, unsigned reg, uint8_t value)
{
    if (reg == I8042_COMMAND && value == I8042_RESET)
        power->ended(power->ctx, POWER_RESET, 0);
}

uint8_t power_panic_read(const struct power *power)
{
    (void)power;
    return PANICKED;
}

void power_panic_write(struct power *power, uint8_t events)
{
    if (events & PANICKED)
        power->ended(power->ctx, POWER_PANIC, 0);
}
