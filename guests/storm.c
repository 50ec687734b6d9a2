/*
 * All vCPUs at once, and none of them at rest: each is started by the local
 * APIC's INIT and SIPI (Intel SDM volume 3, 9.4.4) and then does one thing over
 * and over until the run is ended from outside.
 *
 *   cpus=N     start so many, 1
 *   at=ADDRESS write registers of a device there; by default of the first one,
 *              or where no device is
 *   port       write to a port that nobody serves instead
 *   hlt        sleep with interrupts off instead
 *   stop=N     the first one ends the guest, with status 0, after N turns
 */
#include "virtio.h"

#define LAPIC_ICR_LOW  0x300u
#define LAPIC_ICR_HIGH 0x310u
#define ICR_BUSY       0x1000u
#define ICR_INIT       0x4500u
#define ICR_SIPI       0x4600u
#define ALL_OTHERS     0xc0000u

#define TRAMPOLINE  0xa000u
#define STACK       4096u
#define CPUS_MAX    64u
#define UNUSED      0xd0100000u /* in the window, where no device is */
#define UNUSED_PORT 0x510u

/* storm_start.S */
extern const uint8_t storm_begin[], storm_end[];
extern uint64_t storm_cr3, storm_stacks;
void storm_enter(void);

static volatile uint32_t running;
static uint64_t at, turns;
static bool port, sleep_only;

static void turn(uint32_t n)
{
    if (sleep_only)
        __asm__ volatile("cli; hlt");
    else if (port)
        out8(UNUSED_PORT, (uint8_t)n);
    else
        put32(at + REG_QUEUE_SEL, n);
}

/* Where every other vCPU arrives, on a stack of its own. */
void storm_enter(void)
{
    __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
    for (uint32_t n = 0;; n++)
        turn(n);
}

static void send(uint32_t command)
{
    put32(LAPIC_BASE + LAPIC_ICR_HIGH, 0);
    put32(LAPIC_BASE + LAPIC_ICR_LOW, command);
    while ((get32(LAPIC_BASE + LAPIC_ICR_LOW) & ICR_BUSY) != 0)
        ;
}

static void start_others(uint32_t others)
{
    uint64_t deadline = time_after(5000);

    __asm__("mov %%cr3, %0" : "=r"(storm_cr3));
    storm_stacks = (uintptr_t)memory_take(CPUS_MAX * STACK, STACK);
    memcpy((void *)(uintptr_t)TRAMPOLINE, storm_begin,
           (size_t)(storm_end - storm_begin));
    send(ALL_OTHERS | ICR_INIT);
    send(ALL_OTHERS | ICR_SIPI | TRAMPOLINE >> 12);
    while (running < others)
        if (time_now() >= deadline)
            exit_fail("%u of %u vCPUs came", running, others);
}

int guest_main(void)
{
    uint64_t cpus = option_number("cpus", 1);
    struct virtio dev;

    if (cpus == 0 || cpus > CPUS_MAX)
        exit_fail("cpus is 1 to %u", CPUS_MAX);
    at = option_number("at", tree_find(&dev, 0, false) ? dev.base : UNUSED);
    port = option_flag("port");
    sleep_only = option_flag("hlt");
    turns = option_number("stop", 0);
    if (cpus > 1)
        start_others((uint32_t)cpus - 1);
    print("storm: %lu vCPUs\n", cpus);
    for (uint32_t n = 1;; n++) {
        turn(n);
        if (n == turns)
            return 0;
    }
}
