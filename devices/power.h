/*
 * The ways in which a guest ends its run: the exit port, the sleep-control
 * register that the FADT names, and the keyboard controller's reset. All of
 * them are I/O ports, and so synchronous: a verdict cannot be lost.
 */
#ifndef HUSK_DEVICES_POWER_H
#define HUSK_DEVICES_POWER_H

#include <stdint.h>

enum power_event {
    POWER_EXIT, /* with the value that the guest wrote */
    POWER_OFF,
    POWER_RESET,
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

#endif
