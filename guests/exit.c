/*
 * The ways out of a run. The exit port is a synchronous one and carries the
 * guest's status; the others are what a real machine would offer. None of them
 * is followed by another instruction on a machine that has it; where one is
 * missing the guest sleeps for ever, for the test's time limit to find.
 */
#include "runtime.h"

#define I8042_RESET 0xfeu
#define POWER_OFF   0x34u /* sleep type 5, sleep enable */

static _Noreturn void sleep_for_ever(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

void exit_status(unsigned status)
{
    out8(PORT_EXIT, (uint8_t)status);
    sleep_for_ever();
}

void exit_power_off(void)
{
    out8(PORT_POWER, POWER_OFF);
    sleep_for_ever();
}

void exit_reset(void)
{
    out8(PORT_I8042, I8042_RESET);
    sleep_for_ever();
}

void exit_triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint8_t base[8];
    } none;

    /* Without any gate the fault, the double fault and the third all fail. */
    __asm__ volatile("lidt %0" : : "m"(none));
    get32(UINT64_C(0x7fff00000000));
    sleep_for_ever();
}

void exit_spin(void)
{
    __asm__ volatile("cli");
    for (;;)
        __asm__ volatile("pause");
}

void exit_fail(const char *format, ...)
{
    va_list args;

    print("fail: ");
    va_start(args, format);
    print_args(format, args);
    va_end(args);
    print("\n");
    exit_status(STATUS_FAIL);
}

void exit_panic(const char *format, ...)
{
    va_list args;

    print("panic: ");
    va_start(args, format);
    print_args(format, args);
    va_end(args);
    print("\n");
    exit_status(STATUS_PANIC);
}
