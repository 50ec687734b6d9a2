/*
 * The ways in which a guest ends its run: the exit port, the sleep-control
 * register that the FADT names, the keyboard controller's reset, and pvpanic.
 * All of them are synchronous exits: a verdict cannot be lost.
 */
#ifndef HUSK_DEVICES_POWER_H
#define HUSK_DEVICES_POWER_H

#include <stdint.h>

enum power_event {
    POWER_EXIT, /* with the value that the guest wrote */
    POWER_OFF,
    POWER_RESET,
    POWER_PANIC,
};

struct power {
    /* On the vCPU's thread that asked. */
    void (*ended)(void *ctx, enum power_event event, uint32_t value);
    void *ctx;
};

/* The exit port: any width. */
void power_exit_write(struct power *power, const void *data, unsigned size);

/* ACPI 6.4, 4.8.3.7: sleep control at 0, status at 1. */
void power_sleep_write(struct power *power, unsigned reg, uint8_t value);

/* The keyboard controller's ports: data at 0, command and status at 4. */
uint8_t power_i8042_read(struct power *power, unsigned reg);
void power_i8042_write(struct power *power, unsigned reg, uint8_t value);

/* pvpanic: the events that it takes, and one that the guest reports. */
uint8_t power_panic_read(const struct power *power);
void power_panic_write(struct power *power, uint8_t events);

#endif
