/*
 * A 16550A UART: FIFOs, interrupts, loopback. Output goes to a sink that never
 * blocks; input is queued as far as there is room. Knows no bus: callers give
 * register numbers.
 */
#ifndef HUSK_DEVICES_UART_H
#define HUSK_DEVICES_UART_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/irq.h"

#define UART_INPUT 1024 /* bytes of input kept for the guest */
#define UART_FIFO  16   /* bytes that it can send to itself */

/* Where the UART's bytes go. Called with the UART's lock held, on any thread;
 * neither may block or call back. */
struct uart_sink {
    void (*put)(void *ctx, uint8_t byte); /* the guest wrote a byte */
    void (*room)(void *ctx);              /* there is room for input again */
    void *ctx;
};

struct uart {
    pthread_mutex_t lock;
    struct irq_line irq;   /* fixed at init */
    struct uart_sink sink; /* fixed at init */
    /* the rest: lock */
    uint8_t ier, lcr, mcr, scr, dll, dlm;
    bool fifo, level;
    bool empty_pending; /* the transmitter's interrupt has not been seen */
    bool starved;       /* somebody waits for room */
    uint8_t input[UART_INPUT];
    size_t first, count;
    uint8_t looped[UART_FIFO]; /* instead of input, in loopback */
    size_t n_looped;
};

void uart_init(struct uart *u, struct irq_line irq, struct uart_sink sink);
void uart_fini(struct uart *u);

/* As after power-on; queued input stays. */
void uart_reset(struct uart *u);

/* Registers 0 to 7, one byte each. Any thread. */
uint8_t uart_read(struct uart *u, unsigned reg);
void uart_write(struct uart *u, unsigned reg, uint8_t value);

/* Queue input; returns how many bytes were taken. When fewer, room() follows.
 * Any thread. */
size_t uart_input(struct uart *u, const uint8_t *data, size_t size);

#endif
