/*
 * The first guest: says hello and ends in the way that its command line asks
 * for. status=N, panic, reset, triple, spin, poweroff; echo gives back what
 * comes from the console until Ctrl-D; flood=N prints N kilobytes, pour=N the
 * same without waiting for the transmitter.
 */
#include "runtime.h"

#define CTRL_D 0x04

static void echo(void)
{
    uint32_t seen = 0;
    char c;

    uart_listen();
    for (;;) {
        while (uart_read(&c)) {
            if (c == CTRL_D)
                return;
            uart_write(&c, 1);
        }
        interrupts_wait(PIN_UART, &seen, TIME_NEVER);
    }
}

/* Lines of 64 bytes with their number, so that a lost one shows. */
static void flood(uint64_t kilobytes, void (*write)(const char *, size_t))
{
    char text[65];

    for (uint64_t n = 0; n < kilobytes * 16; n++) {
        print_into(text, sizeof text,
                   "%08lx the quick brown fox jumps over the lazy dog "
                   "and again.\n",
                   n);
        write(text, 64);
    }
}

int guest_main(void)
{
    print("hello from x86_64\n");
    if (option_flag("panic"))
        exit_panic("asked to");
    if (option_flag("reset"))
        exit_reset();
    if (option_flag("triple"))
        exit_triple_fault();
    if (option_flag("spin"))
        exit_spin();
    if (option_flag("poweroff"))
        exit_power_off();
    if (option_flag("echo"))
        echo();
    flood(option_number("flood", 0), uart_write);
    flood(option_number("pour", 0), uart_pour);
    return (int)option_number("status", 0);
}
