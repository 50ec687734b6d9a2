/*
 * Exceptions panic. Interrupts come from IOAPIC pins through the local APIC,
 * one vector a pin, and are counted; who waits for one looks at the count. The
 * two 8259s are masked. One CPU, xAPIC mode (Intel SDM volume 3, chapter 11,
 * and the 82093AA data sheet).
 */
#include "runtime.h"

#define CODE_SELECTOR 8u
#define FIRST_VECTOR  32u
#define STUBS         64u
#define STUB_SIZE     16u
#define SPURIOUS      255u

#define LAPIC_ID       0x020u
#define LAPIC_TPR      0x080u
#define LAPIC_EOI      0x0b0u
#define LAPIC_SPURIOUS 0x0f0u
#define LAPIC_ENABLE   0x100u

#define IOAPIC_INDEX    0x00u
#define IOAPIC_DATA     0x10u
#define IOAPIC_REDIRECT 0x10u
#define REDIRECT_LEVEL  0x8000u
#define REDIRECT_LOW    0x2000u

/* The timer of the PC is wired to pin 2, and on some machines to pin 0. */
#define PIN_TIMER     2u
#define PIN_TIMER_ALT 0u

extern const uint8_t interrupts_stubs[];
void interrupts_spurious(void);

struct gate {
    uint16_t low, selector, flags, middle;
    uint32_t high, zero;
};

/* What start.S has pushed, lowest address first. */
struct frame {
    uint64_t saved[9];
    uint64_t vector, error, rip, cs, flags, rsp, ss;
};

void interrupts_handle(const struct frame *frame);

static struct gate table[256];
static volatile uint32_t counts[INTERRUPTS_PINS];
static bool enabled[INTERRUPTS_PINS];
static bool controllers_ready;

static void set_gate(unsigned vector, uint64_t handler)
{
    table[vector] = (struct gate){
        .low = (uint16_t)handler,
        .selector = CODE_SELECTOR,
        .flags = 0x8e00, /* present, interrupt gate */
        .middle = (uint16_t)(handler >> 16),
        .high = (uint32_t)(handler >> 32),
    };
}

void interrupts_init(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = { sizeof table - 1, (uintptr_t)table };

    for (unsigned v = 0; v < FIRST_VECTOR; v++)
        set_gate(v, (uintptr_t)interrupts_stubs + v * STUB_SIZE);
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

static void init_controllers(void)
{
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    set_gate(SPURIOUS, (uintptr_t)interrupts_spurious);
    put32(LAPIC_BASE + LAPIC_TPR, 0);
    put32(LAPIC_BASE + LAPIC_SPURIOUS, LAPIC_ENABLE | SPURIOUS);
}

static void ioapic_write(unsigned index, uint32_t value)
{
    put32(IOAPIC_BASE + IOAPIC_INDEX, index);
    put32(IOAPIC_BASE + IOAPIC_DATA, value);
}

void interrupts_enable(unsigned pin, unsigned sense)
{
    uint32_t low = FIRST_VECTOR + pin;

    if (pin >= INTERRUPTS_PINS)
        exit_panic("there is no interrupt pin %u", pin);
    if (enabled[pin])
        return;
    if (!controllers_ready)
        init_controllers();
    controllers_ready = true;
    enabled[pin] = true;
    set_gate(FIRST_VECTOR + pin,
             (uintptr_t)interrupts_stubs + (FIRST_VECTOR + pin) * STUB_SIZE);
    if (sense == SENSE_LEVEL_LOW || sense == SENSE_LEVEL_HIGH)
        low |= REDIRECT_LEVEL;
    if (sense == SENSE_LEVEL_LOW || sense == SENSE_EDGE_FALLING)
        low |= REDIRECT_LOW;
    ioapic_write(IOAPIC_REDIRECT + 2 * pin + 1,
                 get32(LAPIC_BASE + LAPIC_ID) & 0xff000000u);
    ioapic_write(IOAPIC_REDIRECT + 2 * pin, low);
}

uint32_t interrupts_count(unsigned pin)
{
    return counts[pin];
}

bool interrupts_wait(unsigned pin, uint32_t *seen, uint64_t deadline)
{
    bool came = true;

    interrupts_off();
    while (counts[pin] == *seen) {
        if (deadline != TIME_NEVER && time_now() >= deadline) {
            came = false;
            break;
        }
        interrupts_sleep();
    }
    *seen = counts[pin];
    interrupts_on();
    return came;
}

void interrupts_handle(const struct frame *frame)
{
    unsigned pin = (unsigned)frame->vector - FIRST_VECTOR;

    if (frame->vector < FIRST_VECTOR) {
        uint64_t address;

        __asm__ volatile("mov %%cr2, %0" : "=r"(address));
        exit_panic("exception %lu, error %#lx, at %#lx, cr2 %#lx",
                   frame->vector, frame->error, frame->rip, address);
    }
    counts[pin]++;
    if (pin == PIN_TIMER || pin == PIN_TIMER_ALT)
        time_tick();
    put32(LAPIC_BASE + LAPIC_EOI, 0);
}
