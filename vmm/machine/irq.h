/*
 * An interrupt line, injected into a device so that it knows neither the
 * interrupt controller nor KVM, and so that a test can watch it. A leaf header.
 */
#ifndef HUSK_VMM_MACHINE_IRQ_H
#define HUSK_VMM_MACHINE_IRQ_H

#include <stdbool.h>

struct irq_line {
    void (*set)(void *ctx, bool level); /* any thread, never blocks */
    void *ctx;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
    line->set(line->ctx, level);
}

#endif
