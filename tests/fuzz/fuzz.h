/*
 * What the harnesses share: input as a stream of decisions, checks that print
 * both values, and a clock and a poll() of their own, so that a deadline passes
 * at once where nothing comes.
 *
 * An input that has ended reads as zeros. Harnesses take 0 for "as it should
 * be", so that the empty input is a whole run without a fault.
 */
#ifndef HUSK_TESTS_FUZZ_H
#define HUSK_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at, *end;
};

static inline size_t input_left(const struct input *in)
{
    return (size_t)(in->end - in->at);
}

static inline uint8_t input_u8(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static inline uint16_t input_u16(struct input *in)
{
    uint16_t low = input_u8(in);

    return (uint16_t)(low | input_u8(in) << 8);
}

static inline uint32_t input_u32(struct input *in)
{
    uint32_t low = input_u16(in);

    return low | (uint32_t)input_u16(in) << 16;
}

static inline uint64_t input_u64(struct input *in)
{
    uint64_t low = input_u32(in);

    return low | (uint64_t)input_u32(in) << 32;
}

static inline void input_bytes(struct input *in, void *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = input_u8(in);
}

/* The next size bytes, or what is left of them, as an input of their own. */
static inline struct input input_cut(struct input *in, size_t size)
{
    struct input part = { in->at, in->at };

    if (size > input_left(in))
        size = input_left(in);
    part.end = in->at += size;
    return part;
}

/* What is not as it must be ends the run, with a line that says so. */
#define CHECK(condition)                                                       \
    ((condition) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #condition))
#define CHECK_EQ(a, b)                                                         \
    fuzz_equal(__FILE__, __LINE__, #a, #b, (uint64_t)(a), (uint64_t)(b))

_Noreturn void fuzz_broken(const char *file, int line, const char *what);
void fuzz_equal(const char *file, int line, const char *what_a,
                const char *what_b, uint64_t a, uint64_t b);

/* The clock, in nanoseconds. Only fuzz_poll() and a harness move it. */
extern uint64_t fuzz_now;

/* Called by every fuzz_poll() first: the other side's turn. NULL: none. */
extern void (*fuzz_turn)(void);

/* Descriptors that are open. */
unsigned fuzz_open_fds(void);

#endif
