/*
 * The runtime that every guest here stands on: one CPU in 64-bit mode, all of
 * the first 4 GiB mapped one to one, no floating point. A guest is one file
 * with guest_main(); what it returns is the status that it ends with.
 */
#ifndef GUESTS_RUNTIME_H
#define GUESTS_RUNTIME_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each guest's own. */
int guest_main(void);

/* Ports and addresses of the board. */
#define PORT_EXIT    0xf4u
#define PORT_I8042   0x64u
#define PORT_POWER   0x600u
#define PORT_UART    0x3f8u
#define PIN_UART     4u
#define IOAPIC_BASE  0xfec00000u
#define LAPIC_BASE   0xfee00000u
#define STATUS_FAIL  1u
#define STATUS_PANIC 110u

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* Device registers: one access of exactly 32 bits each. */
static inline void put32(uint64_t address, uint32_t value)
{
    __asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline uint32_t get32(uint64_t address)
{
    uint32_t value;

    __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}

/* Nothing moves over this line; x86 keeps the rest in order by itself. */
static inline void barrier(void)
{
    __asm__ volatile("" : : : "memory");
}

/* The one order x86 does not keep: an earlier store, a later load. */
static inline void full_barrier(void)
{
    __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
}

static inline void interrupts_off(void)
{
    __asm__ volatile("cli" : : : "memory");
}

static inline void interrupts_on(void)
{
    __asm__ volatile("sti" : : : "memory");
}

/* Sleep until an interrupt came, even one that is pending already. */
static inline void interrupts_sleep(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

/* string.c */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
size_t strnlen(const char *text, size_t size);
int strcmp(const char *a, const char *b);
unsigned long strtoul(const char *text, char **end, int base);

/* boot.c: what the guest was entered with */
extern const uint8_t *boot_params; /* NULL where there is none */
const void *boot_tree(void);       /* NULL where there is none */
void runtime_start(const uint8_t *params, const char *cmdline);

/* memory.c: take from the memory behind the image; never given back singly */
void *memory_take(size_t size, size_t align);
uint64_t memory_mark(void);
void memory_release(uint64_t mark); /* all that was taken since the mark */
uint64_t memory_end(void);          /* of the range that the image lies in */

/*
 * option.c: the command line, NAME and NAME=VALUE between spaces; numbers in
 * decimal or after 0x, also in k or m. A wrong value ends the guest as failed.
 */
void option_init(const char *line);
const char *option_line(void);
bool option_flag(const char *name);
uint64_t option_number(const char *name, uint64_t otherwise);
/* Pairs of hex digits as bytes; returns how many. */
size_t option_hex(const char *text, uint8_t *out, size_t size);
bool option_text(const char *name, char *out, size_t size);

/* uart.c */
void uart_init(void);
void uart_write(const char *text, size_t size);
/* Without a look at the transmitter: some output may be lost on hardware. */
void uart_pour(const char *text, size_t size);
void uart_listen(void);    /* interrupts for input from now on */
bool uart_read(char *out); /* false where nothing has come */
void uart_hold(void);      /* print "holding", and sleep until input comes */

/* print.c: %s %c %u %x %#x, with l and widths of zeros, and %% */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_args(const char *format, va_list args)
    __attribute__((format(printf, 1, 0)));
void print_hex(const void *bytes, size_t size);
size_t print_into(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* exit.c: none of these returns */
_Noreturn void exit_status(unsigned status);
_Noreturn void exit_power_off(void);
_Noreturn void exit_reset(void);
_Noreturn void exit_triple_fault(void);
_Noreturn void exit_spin(void);
/* a line "fail: ...", status 1 */
_Noreturn void exit_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
/* a line "panic: ...", status 110 */
_Noreturn void exit_panic(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* interrupts.c */
#define INTERRUPTS_PINS 24u
/* What the second cell of an interrupt says of the pin. */
enum interrupts_sense {
    SENSE_EDGE_RISING,
    SENSE_LEVEL_LOW,
    SENSE_LEVEL_HIGH,
    SENSE_EDGE_FALLING,
};
void interrupts_init(void); /* exceptions only; no controller is touched */
void interrupts_enable(unsigned pin, unsigned sense);
uint32_t interrupts_count(unsigned pin);
/*
 * Sleep until the pin's count differs from *seen, then store it there: true.
 * False once time_now() has reached the deadline.
 */
bool interrupts_wait(unsigned pin, uint32_t *seen, uint64_t deadline);

/* time.c: milliseconds since the first call, in steps of TIME_STEP */
#define TIME_STEP  50u
#define TIME_NEVER UINT64_MAX
uint64_t time_now(void);
uint64_t time_after(uint64_t milliseconds); /* a deadline, never early */
void time_tick(void);

#endif
