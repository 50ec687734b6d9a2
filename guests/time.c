/*
 * Time by the PC's interval timer, channel 0 (8254 data sheet, mode 2): it
 * counts real time at a known rate, so nothing has to be calibrated. The first
 * question starts it. Time moves only while interrupts are let in.
 */
#include "runtime.h"

#define PIT_HZ      1193182u
#define PIT_DATA    0x40u
#define PIT_COMMAND 0x43u
#define PIT_DIVISOR (PIT_HZ * TIME_STEP / 1000)

_Static_assert(PIT_DIVISOR < 65536, "a step is longer than the counter");

static volatile uint64_t ticks;
static bool running;

void time_tick(void)
{
    ticks++;
}

uint64_t time_now(void)
{
    if (!running) {
        running = true;
        interrupts_enable(0, SENSE_EDGE_RISING);
        interrupts_enable(2, SENSE_EDGE_RISING);
        out8(PIT_COMMAND, 0x34); /* channel 0, both bytes, mode 2 */
        out8(PIT_DATA, PIT_DIVISOR & 0xff);
        out8(PIT_DATA, PIT_DIVISOR >> 8);
    }
    return ticks * TIME_STEP;
}

uint64_t time_after(uint64_t milliseconds)
{
    /* The step that is under way does not count. */
    return time_now() + milliseconds + TIME_STEP;
}
