/*
 * The console: a 16550A at port 0x3f8. Output waits for the transmitter once a
 * text, whatever its length: husk's takes all at once, and each look at it
 * leaves KVM_RUN. Input comes by interrupt and is read when asked for.
 */
#include "runtime.h"

#define DATA (PORT_UART + 0)
#define IER  (PORT_UART + 1)
#define FCR  (PORT_UART + 2)
#define LCR  (PORT_UART + 3)
#define MCR  (PORT_UART + 4)
#define LSR  (PORT_UART + 5)

#define LSR_READY 0x01u
#define LSR_EMPTY 0x20u

void uart_init(void)
{
    out8(LCR, 0x03); /* 8 bits, no parity; the divisor is out of the way */
    out8(IER, 0x00);
    out8(FCR, 0x07); /* FIFOs on and empty */
    out8(MCR, 0x0b); /* DTR, RTS; OUT2 lets interrupts through */
}

void uart_pour(const char *text, size_t size)
{
    __asm__ volatile("rep outsb"
                     : "+S"(text), "+c"(size)
                     : "d"((uint16_t)DATA)
                     : "memory");
}

void uart_write(const char *text, size_t size)
{
    if (size == 0)
        return;
    while ((in8(LSR) & LSR_EMPTY) == 0)
        __asm__ volatile("pause");
    uart_pour(text, size);
}

void uart_listen(void)
{
    interrupts_enable(PIN_UART, SENSE_EDGE_RISING);
    out8(IER, 0x01);
}

bool uart_read(char *out)
{
    if ((in8(LSR) & LSR_READY) == 0)
        return false;
    *out = (char)in8(DATA);
    return true;
}

void uart_hold(void)
{
    uint32_t seen = interrupts_count(PIN_UART);
    char c;

    uart_listen();
    print("holding\n");
    while (!uart_read(&c))
        interrupts_wait(PIN_UART, &seen, TIME_NEVER);
}
