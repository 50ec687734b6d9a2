/* The 16550A: registers, interrupts as a spy sees them, loopback, and input
 * that comes faster than the guest reads. */
#include "devices/uart.h"

#include <pthread.h>
#include <string.h>

#include <criterion/criterion.h>

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR, THR = RBR };

struct port {
    struct uart uart;
    bool level;
    unsigned edges; /* changes of the line */
    unsigned rooms;
    uint8_t out[4096];
    size_t n_out;
};

static void set_level(void *ctx, bool level)
{
    struct port *port = ctx;

    cr_assert_neq(level, port->level, "set to what it was");
    port->level = level;
    port->edges++;
}

static void put(void *ctx, uint8_t byte)
{
    struct port *port = ctx;

    cr_assert_lt(port->n_out, sizeof port->out);
    port->out[port->n_out++] = byte;
}

static void room(void *ctx)
{
    struct port *port = ctx;

    port->rooms++;
}

static struct port *open_port(void)
{
    static struct port port;

    memset(&port, 0, sizeof port);
    uart_init(&port.uart, (struct irq_line){ set_level, &port },
              (struct uart_sink){ put, room, &port });
    return &port;
}

static uint8_t in(struct port *port, unsigned reg)
{
    return uart_read(&port->uart, reg);
}

static void out(struct port *port, unsigned reg, uint8_t value)
{
    uart_write(&port->uart, reg, value);
}

static size_t type(struct port *port, const char *text)
{
    return uart_input(&port->uart, (const uint8_t *)text, strlen(text));
}

Test(uart, after_reset, .timeout = 10)
{
    struct port *port = open_port();

    for (unsigned turn = 0; turn < 2; turn++) {
        cr_assert_eq(in(port, IER), 0);
        cr_assert_eq(in(port, IIR), 0x01);
        cr_assert_eq(in(port, LCR), 0);
        cr_assert_eq(in(port, LSR), 0x60);
        cr_assert_eq(in(port, SCR), 0);
        cr_assert_eq(in(port, RBR), 0);
        cr_assert_not(port->level);
        /* all of it is different, and then it is not */
        type(port, "x");
        out(port, IER, 0x0f);
        out(port, FCR, 0x01);
        out(port, SCR, 0x55);
        out(port, LCR, 0x83);
        out(port, IER, 0x12);
        out(port, MCR, 0x1f);
        cr_assert_eq(in(port, IIR) & 0xc0, 0xc0);
        uart_reset(&port->uart);
        cr_assert_not(port->level, "a line that stays up for ever");
        /* typed ahead: it outlives a reset */
        cr_assert_eq(in(port, LSR), 0x61);
        cr_assert_eq(in(port, RBR), 'x');
    }
    uart_fini(&port->uart);
}

Test(uart, output, .timeout = 10)
{
    struct port *port = open_port();

    for (unsigned i = 0; i < 256; i++) {
        cr_assert_eq(in(port, LSR) & 0x60, 0x60, "the transmitter is busy");
        out(port, THR, (uint8_t)i);
    }
    cr_assert_eq(port->n_out, 256);
    for (unsigned i = 0; i < 256; i++)
        cr_assert_eq(port->out[i], i);
    cr_assert_eq(port->edges, 0, "an interrupt that nobody asked for");
    uart_fini(&port->uart);
}

/* The divisor is behind the data and interrupt registers. */
Test(uart, divisor, .timeout = 10)
{
    struct port *port = open_port();

    type(port, "x");
    out(port, LCR, 0x80);
    out(port, 0, 0x34);
    out(port, 1, 0x12);
    cr_assert_eq(in(port, 0), 0x34);
    cr_assert_eq(in(port, 1), 0x12);
    cr_assert_eq(port->n_out, 0);
    out(port, LCR, 0x03);
    cr_assert_eq(in(port, IER), 0);
    cr_assert_eq(in(port, RBR), 'x');
    out(port, LCR, 0x83);
    cr_assert_eq(in(port, 0), 0x34);
    cr_assert_eq(in(port, LCR), 0x83);
    uart_fini(&port->uart);
}

Test(uart, received_interrupt, .timeout = 10)
{
    struct port *port = open_port();

    out(port, IER, 0x01);
    cr_assert_not(port->level);
    cr_assert_eq(type(port, "ab"), 2);
    cr_assert(port->level);
    cr_assert_eq(in(port, IIR) & 0x0f, 0x04);
    cr_assert_eq(in(port, IIR) & 0x0f, 0x04, "reading it must not clear it");
    cr_assert(port->level);
    cr_assert_eq(in(port, LSR), 0x61);
    cr_assert_eq(in(port, RBR), 'a');
    cr_assert(port->level);
    cr_assert_eq(in(port, RBR), 'b');
    cr_assert_not(port->level);
    cr_assert_eq(in(port, IIR) & 0x0f, 0x01);
    cr_assert_eq(in(port, LSR), 0x60);
    cr_assert_eq(in(port, RBR), 0);
    cr_assert_eq(port->edges, 2);
    /* masked, and enabled with input there */
    out(port, IER, 0);
    type(port, "c");
    cr_assert_not(port->level);
    out(port, IER, 0x01);
    cr_assert(port->level);
    out(port, IER, 0);
    cr_assert_not(port->level);
    uart_fini(&port->uart);
}

Test(uart, empty_interrupt, .timeout = 10)
{
    struct port *port = open_port();

    /* enabling it asks for one at once: drivers probe for that */
    out(port, IER, 0x02);
    cr_assert(port->level);
    cr_assert_eq(in(port, IIR) & 0x0f, 0x02);
    cr_assert_not(port->level, "reading IIR acknowledges it");
    cr_assert_eq(in(port, IIR) & 0x0f, 0x01);
    /* and each byte asks for another */
    for (unsigned i = 0; i < 3; i++) {
        out(port, THR, 'x');
        cr_assert(port->level);
        cr_assert_eq(in(port, IIR) & 0x0f, 0x02);
        cr_assert_not(port->level);
    }
    /* off and on again */
    out(port, IER, 0);
    out(port, THR, 'y');
    cr_assert_not(port->level);
    out(port, IER, 0x02);
    cr_assert(port->level);
    out(port, IER, 0);
    cr_assert_not(port->level);
    uart_fini(&port->uart);
}

/* Input goes first, and reading of it does not acknowledge the other. */
Test(uart, both_interrupts, .timeout = 10)
{
    struct port *port = open_port();

    out(port, IER, 0x03);
    type(port, "a");
    cr_assert_eq(in(port, IIR) & 0x0f, 0x04);
    cr_assert_eq(in(port, RBR), 'a');
    cr_assert(port->level);
    cr_assert_eq(in(port, IIR) & 0x0f, 0x02);
    cr_assert_not(port->level);
    uart_fini(&port->uart);
}

Test(uart, fifo_and_scratch, .timeout = 10)
{
    struct port *port = open_port();

    cr_assert_eq(in(port, IIR) & 0xc0, 0);
    out(port, FCR, 0x01);
    cr_assert_eq(in(port, IIR) & 0xc0, 0xc0);
    out(port, FCR, 0xc7);
    cr_assert_eq(in(port, IIR) & 0xc0, 0xc0);
    out(port, FCR, 0x00);
    cr_assert_eq(in(port, IIR) & 0xc0, 0);
    for (unsigned i = 0; i < 256; i++) {
        out(port, SCR, (uint8_t)i);
        cr_assert_eq(in(port, SCR), i);
        out(port, IER, (uint8_t)i);
        cr_assert_eq(in(port, IER), i & 0x0f);
        out(port, MCR, (uint8_t)i);
        cr_assert_eq(in(port, MCR), i & 0x1f);
    }
    uart_fini(&port->uart);
}

/* What drivers probe with. */
Test(uart, loopback, .timeout = 10)
{
    struct port *port = open_port();

    cr_assert_eq(in(port, MSR) & 0xf0, 0xb0, "nobody is there");
    out(port, MCR, 0x10);
    cr_assert_eq(in(port, MSR) & 0xf0, 0x00);
    out(port, MCR, 0x11);
    cr_assert_eq(in(port, MSR) & 0xf0, 0x20);
    out(port, MCR, 0x12);
    cr_assert_eq(in(port, MSR) & 0xf0, 0x10);
    out(port, MCR, 0x14);
    cr_assert_eq(in(port, MSR) & 0xf0, 0x40);
    out(port, MCR, 0x18);
    cr_assert_eq(in(port, MSR) & 0xf0, 0x80);
    out(port, MCR, 0x1a);
    cr_assert_eq(in(port, MSR) & 0xf0, 0x90);
    out(port, THR, 0xae);
    cr_assert_eq(in(port, LSR) & 0x01, 0x01);
    cr_assert_eq(in(port, RBR), 0xae);
    cr_assert_eq(in(port, LSR) & 0x01, 0);
    cr_assert_eq(port->n_out, 0, "it went out all the same");
    out(port, MCR, 0x0b);
    out(port, THR, 'x');
    cr_assert_eq(port->n_out, 1);
    uart_fini(&port->uart);
}

/* A driver's probing and what was typed ahead: neither disturbs the other. */
Test(uart, loopback_and_typed_ahead, .timeout = 10)
{
    struct port *port = open_port();

    cr_assert_eq(type(port, "typed"), 5);
    out(port, FCR, 0xc7);
    out(port, MCR, 0x1e);
    cr_assert_eq(in(port, LSR) & 0x01, 0, "it has not sent anything yet");
    out(port, THR, 0xae);
    cr_assert_eq(in(port, RBR), 0xae);
    out(port, IER, 0x01);
    cr_assert_not(port->level);
    out(port, THR, 0xaf);
    cr_assert(port->level);
    out(port, FCR, 0x07);
    cr_assert_not(port->level);
    cr_assert_eq(in(port, LSR) & 0x01, 0);
    /* more than a FIFO holds is lost, as it is in hardware */
    for (unsigned i = 0; i < 2000; i++)
        out(port, THR, (uint8_t)i);
    for (unsigned i = 0; i < 16; i++)
        cr_assert_eq(in(port, RBR), i);
    cr_assert_eq(in(port, LSR) & 0x01, 0);
    out(port, THR, 'x');
    out(port, MCR, 0x0b);
    cr_assert(port->level);
    for (const char *c = "typed"; *c; c++)
        cr_assert_eq(in(port, RBR), (uint8_t)*c);
    cr_assert_not(port->level);
    cr_assert_eq(in(port, LSR) & 0x01, 0);
    uart_fini(&port->uart);
}

Test(uart, no_such_register, .timeout = 10)
{
    struct port *port = open_port();

    for (unsigned reg = 8; reg < 300; reg++) {
        out(port, reg, 0x55);
        cr_assert_eq(in(port, reg), 0xff);
    }
    cr_assert_eq(in(port, 0xffffffff), 0xff);
    cr_assert_eq(port->n_out, 0);
    /* some can only be read */
    out(port, LSR, 0);
    cr_assert_eq(in(port, LSR), 0x60);
    out(port, MSR, 0);
    cr_assert_eq(in(port, MSR) & 0xf0, 0xb0);
    uart_fini(&port->uart);
}

/* More input than there is room for: what is not taken is asked for again, once
 * and when it is worth it, and nothing is lost. */
Test(uart, back_pressure, .timeout = 10)
{
    struct port *port = open_port();
    uint8_t data[3000];
    size_t given = 0, read = 0;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    given = uart_input(&port->uart, data, sizeof data);
    cr_assert_eq(given, UART_INPUT);
    cr_assert_eq(uart_input(&port->uart, data + given, 1), 0);
    cr_assert_eq(port->rooms, 0);
    while (read < sizeof data) {
        unsigned rooms = port->rooms;

        cr_assert_eq(in(port, LSR) & 0x01, 0x01, "nothing after %zu", read);
        cr_assert_eq(in(port, RBR), data[read]);
        read++;
        if (port->rooms == rooms)
            continue;
        cr_assert_eq(port->rooms, rooms + 1);
        cr_assert_geq(given - read, UART_INPUT / 4);
        cr_assert_leq(given - read, UART_INPUT / 2);
        given += uart_input(&port->uart, data + given, sizeof data - given);
    }
    cr_assert_eq(given, sizeof data);
    cr_assert_eq(in(port, LSR) & 0x01, 0);
    cr_assert(port->rooms >= 2 && port->rooms <= 8, "%u times", port->rooms);
    /* nobody waits any more */
    data[0] = 1;
    for (unsigned i = 0; i < 3 * UART_INPUT; i++) {
        unsigned rooms = port->rooms;

        cr_assert_eq(uart_input(&port->uart, data, 1), 1);
        in(port, RBR);
        cr_assert_eq(port->rooms, rooms);
    }
    uart_fini(&port->uart);
}

/* Nothing that a guest does to an overfull port makes it deaf. */
Test(uart, starved_and_probed, .timeout = 10)
{
    static const uint8_t data[2 * UART_INPUT] = { 1 };

    for (unsigned way = 0; way < 4; way++) {
        struct port *port = open_port();
        size_t rest = sizeof data;

        rest -= uart_input(&port->uart, data, sizeof data);
        cr_assert_gt(rest, 0);
        if (way == 1)
            uart_reset(&port->uart);
        if (way >= 2) {
            out(port, MCR, 0x10);
            out(port, FCR, 0x07);
            if (way == 3) {
                out(port, THR, 'x');
                in(port, RBR);
            }
            out(port, FCR, 0x07);
            out(port, MCR, 0x0b);
        }
        for (unsigned i = 0; i < 4 * UART_INPUT && !port->rooms; i++)
            in(port, RBR);
        cr_assert_eq(port->rooms, 1, "way %u", way);
        cr_assert_gt(uart_input(&port->uart, data, rest), 0);
        uart_fini(&port->uart);
    }
}

static void *type_thread(void *ctx)
{
    struct port *port = ctx;
    uint8_t byte = 0;

    for (unsigned i = 0; i < 20000; i++) {
        byte = (uint8_t)i;
        while (uart_input(&port->uart, &byte, 1) == 0)
            sched_yield();
    }
    return NULL;
}

/* Input from another thread, a byte at a time, arrives in order. */
Test(uart, two_threads, .timeout = 30)
{
    struct port *port = open_port();
    pthread_t thread;

    out(port, IER, 0x01);
    cr_assert_eq(pthread_create(&thread, NULL, type_thread, port), 0);
    for (unsigned i = 0; i < 20000;) {
        if (!(in(port, LSR) & 0x01)) {
            sched_yield();
            continue;
        }
        cr_assert_eq(in(port, RBR), (uint8_t)i, "byte %u", i);
        i++;
    }
    pthread_join(thread, NULL);
    cr_assert_not(port->level);
    cr_assert_gt(port->edges, 1);
    uart_fini(&port->uart);
}
