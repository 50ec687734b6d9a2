/*
 * 16550A without modem lines (but for loopback, which drivers probe) and
 * without DMA. Characters are sent in no time, so the transmitter is always
 * empty. After National Semiconductor's PC16550D data sheet.
 */
#include "devices/uart.h"

#include <string.h>

enum { RBR = 0, IER = 1, IIR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

#define IER_RECEIVED 0x01
#define IER_EMPTY    0x02
#define IIR_NONE     0x01
#define IIR_EMPTY    0x02
#define IIR_RECEIVED 0x04
#define IIR_FIFO     0xc0
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define LCR_DLAB     0x80
#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define LSR_READY    0x01
#define LSR_EMPTY    0x60 /* holding register and transmitter */
#define MSR_CTS      0x10
#define MSR_DSR      0x20
#define MSR_RI       0x40
#define MSR_DCD      0x80

void uart_init(struct uart *u, struct irq_line irq, struct uart_sink sink)
{
    memset(u, 0, sizeof *u);
    pthread_mutex_init(&u->lock, NULL);
    u->irq = irq;
    u->sink = sink;
    uart_reset(u);
}

void uart_fini(struct uart *u)
{
    pthread_mutex_destroy(&u->lock);
}

/* Bytes that the guest can read now. */
static size_t waiting(const struct uart *u)
{
    return u->mcr & MCR_LOOP ? u->n_looped : u->count;
}

static void update_irq(struct uart *u)
{
    bool level = (u->ier & IER_RECEIVED && waiting(u)) ||
                 (u->ier & IER_EMPTY && u->empty_pending);

    if (level != u->level) {
        u->level = level;
        irq_set(&u->irq, level);
    }
}

void uart_reset(struct uart *u)
{
    pthread_mutex_lock(&u->lock);
    u->ier = u->lcr = u->scr = u->dlm = 0;
    u->dll = 12; /* 9600 baud */
    u->mcr = MCR_OUT2;
    u->fifo = u->empty_pending = false;
    u->n_looped = 0;
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

/* Append to the queue; false if it is full. */
static bool push(struct uart *u, uint8_t byte)
{
    if (u->count == UART_INPUT)
        return false;
    u->input[(u->first + u->count++) % UART_INPUT] = byte;
    return true;
}

static uint8_t pop(struct uart *u)
{
    uint8_t byte;

    if (!waiting(u))
        return 0;
    if (u->mcr & MCR_LOOP) {
        byte = u->looped[0];
        memmove(u->looped, u->looped + 1, --u->n_looped);
        return byte;
    }
    byte = u->input[u->first];
    u->first = (u->first + 1) % UART_INPUT;
    u->count--;
    if (u->starved && u->count <= UART_INPUT / 2) {
        u->starved = false;
        u->sink.room(u->sink.ctx);
    }
    return byte;
}

static uint8_t read_iir(struct uart *u)
{
    uint8_t iir = IIR_NONE;

    if (u->ier & IER_RECEIVED && waiting(u)) {
        iir = IIR_RECEIVED;
    } else if (u->ier & IER_EMPTY && u->empty_pending) {
        iir = IIR_EMPTY;
        u->empty_pending = false; /* reading it acknowledges it */
    }
    return iir | (u->fifo ? IIR_FIFO : 0);
}

static uint8_t read_msr(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) |
                     (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (u->mcr & MCR_OUT1 ? MSR_RI : 0) |
                     (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static uint8_t read_locked(struct uart *u, unsigned reg)
{
    bool dlab = u->lcr & LCR_DLAB;

    switch (reg) {
    case RBR:
        return dlab ? u->dll : pop(u);
    case IER:
        return dlab ? u->dlm : u->ier;
    case IIR:
        return read_iir(u);
    case LCR:
        return u->lcr;
    case MCR:
        return u->mcr;
    case LSR:
        return (uint8_t)(LSR_EMPTY | (waiting(u) ? LSR_READY : 0));
    case MSR:
        return read_msr(u);
    case SCR:
        return u->scr;
    }
    return 0xff;
}

static void send(struct uart *u, uint8_t value)
{
    if (!(u->mcr & MCR_LOOP))
        u->sink.put(u->sink.ctx, value);
    else if (u->n_looped < UART_FIFO)
        u->looped[u->n_looped++] = value;
    u->empty_pending = true; /* and the transmitter is empty again */
}

static void write_ier(struct uart *u, uint8_t value)
{
    if (value & IER_EMPTY && !(u->ier & IER_EMPTY))
        u->empty_pending = true;
    u->ier = value & 0x0f;
}

static void write_fcr(struct uart *u, uint8_t value)
{
    u->fifo = value & FCR_ENABLE;
    /* Input that was typed ahead outlives a driver's probing, to which it is
     * invisible: hardware would have had a FIFO's worth of it at most. */
    if (value & FCR_CLEAR_RX)
        u->n_looped = 0;
}

static void write_locked(struct uart *u, unsigned reg, uint8_t value)
{
    bool dlab = u->lcr & LCR_DLAB;

    switch (reg) {
    case RBR:
        if (dlab)
            u->dll = value;
        else
            send(u, value);
        break;
    case IER:
        if (dlab)
            u->dlm = value;
        else
            write_ier(u, value);
        break;
    case IIR:
        write_fcr(u, value);
        break;
    case LCR:
        u->lcr = value;
        break;
    case MCR:
        u->mcr = value & 0x1f;
        if (!(u->mcr & MCR_LOOP))
            u->n_looped = 0;
        break;
    case SCR:
        u->scr = value;
        break;
    }
}

uint8_t uart_read(struct uart *u, unsigned reg)
{
    uint8_t value;

    pthread_mutex_lock(&u->lock);
    value = read_locked(u, reg);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
    return value;
}

void uart_write(struct uart *u, unsigned reg, uint8_t value)
{
    pthread_mutex_lock(&u->lock);
    write_locked(u, reg, value);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

size_t uart_input(struct uart *u, const uint8_t *data, size_t size)
{
    size_t taken = 0;

    pthread_mutex_lock(&u->lock);
    while (taken < size && push(u, data[taken]))
        taken++;
    if (taken < size)
        u->starved = true;
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
    return taken;
}
