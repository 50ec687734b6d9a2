/*
 * The transport's registers against a model of them: writes and reads of every
 * width anywhere, whole driver set-ups, resets and reboots, config changes, a
 * back-end that fails or refuses at any call, a lock that is held too long.
 * After every step all that a guest can read, all interrupts and kicks, and all
 * calls to the back-end must be the model's.
 *
 * Input: 8 bytes of what the device is, a 16-bit count, so many bytes of steps,
 * and how each call to the back-end goes.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/shm.h"
#include "devices/transport.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mmio.h"

#define WINDOW    8192u
#define RAM       0x10000u /* of each of two ranges */
#define HIGH      0x100000000u
#define MAX_STEPS 200u

static struct {
    bool made;
    struct mem mem;
    struct windows windows;
    int call;
} host;

static struct run {
    struct transport t;
    struct identity is;
    struct mailbox box;
    struct window window;
    struct shm shm;
    struct mmio model;
    struct input outcomes;
    struct mmio_call calls[MMIO_MAX_CALLS];
    unsigned n_calls, left; /* left: reads of notes */
    uint8_t config[MMIO_MAX_CONFIG];
    unsigned opened; /* descriptors, before */
} run;

static void make_host(void)
{
    static const struct mem_layout layout = {
        .n = 2,
        .range = { { 0, RAM }, { HIGH, RAM } },
    };
    struct husk_err err;

    if (host.made)
        return;
    host.made = true;
    CHECK(mem_init(&host.mem, 2 * RAM, &layout, &err) == 0);
    CHECK(windows_init(&host.windows, 0xd0000000, WINDOW) == 0);
    host.call = eventfd(0, EFD_NONBLOCK);
}

/* Write a call down, and say how it goes. */
static struct mmio_call *record(enum mmio_kind kind, uint64_t a, uint64_t b)
{
    struct mmio_call *call = &run.calls[run.n_calls];
    uint8_t outcome = input_u8(&run.outcomes);

    CHECK(run.n_calls < MMIO_MAX_CALLS);
    run.n_calls++;
    *call = (struct mmio_call){ .kind = kind, .a = a, .b = b };
    call->accepted = outcome != 3;
    if (outcome == 1)
        call->rc = -EPIPE;
    if (outcome == 2)
        call->rc = -ECANCELED;
    if (outcome == 4 && run.model.config_size) {
        call->new_config = true;
        call->changed = input_u8(&run.outcomes) % run.model.config_size;
        run.config[call->changed]++;
        transport_config(&run.t, run.config, false);
    }
    return call;
}

static int on_status(void *ctx, uint8_t status, uint64_t deadline)
{
    CHECK(ctx == &run && deadline > fuzz_now);
    return record(MMIO_STATUS, status, 0)->rc;
}

static int on_features(void *ctx, uint64_t features, uint8_t status,
                       bool *accepted, uint64_t deadline)
{
    struct mmio_call *call = record(MMIO_FEATURES, features, status);

    CHECK(ctx == &run && deadline > fuzz_now);
    *accepted = call->accepted;
    return call->rc;
}

/* What a back-end would map must be in memory. */
static void check_ring(const struct vrings *rings, unsigned index)
{
    const struct vring *ring = &rings->ring[index];

    CHECK(vring_kick_fd(&rings->given[index]) >= 0 && ring->num > 0);
    CHECK(mem_at(&host.mem, ring->desc, 16 * (uint64_t)ring->num));
    CHECK(mem_at(&host.mem, ring->driver, 4));
    CHECK(mem_at(&host.mem, ring->device, 4));
}

static int on_start(void *ctx, const struct vrings *rings, uint8_t status,
                    uint64_t deadline)
{
    CHECK(ctx == &run && deadline > fuzz_now && rings->n == run.model.vqs);
    for (unsigned i = 0; i < rings->n; i++) {
        if (!rings->ring[i].ready)
            continue;
        check_ring(rings, i);
        rings->given[i].started = true;
    }
    return record(MMIO_START, status, 0)->rc;
}

static int on_ring_start(void *ctx, const struct vrings *rings, unsigned index,
                         uint64_t deadline)
{
    CHECK(ctx == &run && deadline > fuzz_now);
    check_ring(rings, index);
    rings->given[index].started = true;
    return record(MMIO_RING_START, index, 0)->rc;
}

static int on_ring_stop(void *ctx, const struct vrings *rings, unsigned index,
                        uint64_t deadline)
{
    CHECK(ctx == &run && deadline > fuzz_now);
    rings->given[index].started = false;
    return record(MMIO_RING_STOP, index, 0)->rc;
}

static int on_reset(void *ctx, const struct vrings *rings, uint64_t deadline)
{
    CHECK(ctx == &run && deadline > fuzz_now);
    for (unsigned i = 0; i < rings->n; i++)
        rings->given[i].started = false;
    return record(MMIO_RESET, 0, 0)->rc;
}

static int on_send_reset(void *ctx, const struct vrings *rings)
{
    CHECK(ctx == &run);
    for (unsigned i = 0; i < rings->n; i++)
        rings->given[i].started = false;
    return record(MMIO_SEND_RESET, 0, 0)->rc;
}

static int on_config_write(void *ctx, uint32_t offset, const void *data,
                           uint32_t size, uint64_t deadline)
{
    uint8_t copy[4];

    CHECK(ctx == &run && deadline > fuzz_now);
    memcpy(copy, data, size);
    return record(MMIO_CONFIG_WRITE, offset, size)->rc;
}

static int on_kick(void *ctx, uint32_t index, uint64_t deadline)
{
    CHECK(ctx == &run && deadline > fuzz_now);
    return record(MMIO_KICK, index, 0)->rc;
}

static void read_notes(void *ctx, unsigned notes)
{
    CHECK(ctx == &run);
    run.left++;
    if (notes & TRANSPORT_NOTE_RESET)
        transport_late_reset(&run.t);
}

static void wake(void *ctx)
{
    CHECK(ctx == &run);
}

static const struct mailbox_ops box_ops = { read_notes, wake };

static const struct transport_ops ops = {
    .status = on_status,
    .features = on_features,
    .start = on_start,
    .ring_start = on_ring_start,
    .ring_stop = on_ring_stop,
    .reset = on_reset,
    .send_reset = on_send_reset,
    .config_write = on_config_write,
    .kick = on_kick,
};

static void begin_step(void)
{
    run.n_calls = 0;
}

static void begin_model(void)
{
    run.model.calls = run.calls;
    run.model.n_calls = run.n_calls;
    run.model.next_call = 0;
}

static uint64_t count_of(int fd)
{
    uint64_t count = 0;

    if (fd >= 0 && read(fd, &count, sizeof count) < 0)
        CHECK_EQ(errno, EAGAIN);
    return count;
}

/* What a driver wrote, for a back-end that comes back: each step adds bits. */
static void check_history(void)
{
    const struct transport *t = &run.t;
    uint8_t last = 0;

    CHECK(t->n_history <= TRANSPORT_STATUSES);
    for (unsigned i = 0; i < t->n_history; i++) {
        CHECK(t->history[i] != last && (t->history[i] & last) == last);
        last = t->history[i];
    }
    CHECK_EQ(last, run.model.status & 0x8f);
}

static void compare(void)
{
    struct mmio *m = &run.model;
    uint8_t expected[WINDOW];
    size_t size = run.window.size;

    CHECK_EQ(m->next_call, m->n_calls);
    mmio_show(m, expected, size);
    if (memcmp(expected, run.window.page, size) != 0)
        for (size_t at = 0; at < size; at += 4) {
            uint32_t is, should;

            memcpy(&is, run.window.page + at, 4);
            memcpy(&should, expected + at, 4);
            if (is != should)
                fuzz_equal(__FILE__, __LINE__, "register", "the model's",
                           (uint64_t)at << 32 | is,
                           (uint64_t)at << 32 | should);
        }
    CHECK_EQ(count_of(host.call), m->interrupts);
    m->interrupts = 0;
    for (unsigned i = 0; i < m->vqs; i++) {
        const struct vring_given *given = &run.t.rings.given[i];
        int kick = vring_kick_fd(given);

        CHECK_EQ(kick >= 0, m->ring[i].has_kick);
        CHECK_EQ(given->started, m->ring[i].started);
        if (m->ring[i].kicks)
            CHECK_EQ(count_of(kick), m->ring[i].kicks);
        m->ring[i].kicks = 0;
    }
    CHECK_EQ(run.t.lost, m->lost);
    CHECK_EQ(run.t.rings.driver_features, m->driver_features);
    check_history();
}

static void write_at(uint64_t offset, uint32_t value, unsigned size)
{
    uint8_t data[8] = { 0 };

    memcpy(data, &value, sizeof value);
    begin_step();
    transport_write(&run.t, offset, data, size);
    begin_model();
    mmio_write(&run.model, offset, value, size);
    compare();
}

static void write_word(uint64_t offset, uint32_t value)
{
    write_at(offset, value, 4);
}

static void read_at(uint64_t offset, unsigned size)
{
    uint8_t window[WINDOW + 8] = { 0 }, data[8];

    memset(data, 0x55, sizeof data);
    mmio_show(&run.model, window, run.window.size);
    transport_read(&run.t, offset, data, size);
    if (offset < run.window.size && size <= run.window.size - offset)
        CHECK(!memcmp(data, window + offset, size));
    else
        for (unsigned i = 0; i < size; i++)
            CHECK_EQ(data[i], 0);
}

static uint32_t pick_value(struct input *in)
{
    static const uint32_t values[] = { 0,       1,          2,    3,
                                       0x0b,    0x0f,       0x80, 0xffff,
                                       0x10000, 0xffffffff, 256,  0x40 };
    uint8_t pick = input_u8(in);

    if (pick < sizeof values / sizeof values[0])
        return values[pick];
    if (pick < 128)
        return input_u8(in);
    return pick < 192 ? input_u16(in) : input_u32(in);
}

/* Any register that there is, written as it should be. */
static void write_some(struct input *in)
{
    static const uint16_t offsets[] = {
        0x014, 0x020, 0x024, 0x030, 0x038, 0x044, 0x050, 0x064,
        0x070, 0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4, 0x0ac,
        0x0c0, 0x0fc, 0x100, 0x000, 0x010, 0x034, 0x060, 0x0b0,
    };
    uint8_t pick = input_u8(in);

    write_word(offsets[pick % (sizeof offsets / sizeof offsets[0])],
               pick_value(in));
}

static void write_anywhere(struct input *in)
{
    uint64_t offset = input_u16(in) % (WINDOW + 16);
    unsigned size = input_u8(in) % 9;

    write_at(offset, pick_value(in), size);
}

static void accept(struct input *in)
{
    uint64_t drop = input_u8(in), features = run.model.offered;

    /* vhost's own and the others that are not shown must not be taken */
    features = transport_shown(features) & ~((drop & 0x0f) << 32);
    write_word(0x024, 0);
    write_word(0x020, (uint32_t)features);
    write_word(0x024, 1);
    write_word(0x020, (uint32_t)(features >> 32));
    if (drop & 0x80) {
        write_word(0x024, 2);
        write_word(0x020, drop & 0x40);
    }
}

static void lay_ring(struct input *in)
{
    uint8_t index = input_u8(in), where = input_u8(in), bend = input_u8(in);
    uint32_t high = where & 1, at = (uint32_t)(where >> 4) * 0x1000;

    write_word(0x030, index % (run.model.vqs + 1));
    write_word(0x038, bend & 7 ? 1u << (bend & 7) : 256);
    write_word(0x080, at);
    write_word(0x084, high);
    write_word(0x090, at + (where & 2 ? RAM - 8 : 0x1000));
    write_word(0x094, high);
    write_word(0x0a0, at + 0x2000 + (bend >> 5));
    write_word(0x0a4, high + (bend >> 4 & 1));
    write_word(0x044, 1);
}

/* Step by step, or with some steps in one write. */
static void begin_driver(struct input *in)
{
    uint8_t skip = input_u8(in);

    if (!(skip & 1))
        write_word(0x070, 1);
    if (!(skip & 2))
        write_word(0x070, 3);
    accept(in);
    write_word(0x070, skip & 4 ? 0x0f : 0x0b);
}

static void new_config(struct input *in)
{
    bool notify = input_u8(in) & 1;
    unsigned n = input_u8(in) % 4;

    for (unsigned i = 0; i < n && run.model.config_size; i++)
        run.config[input_u16(in) % run.model.config_size] ^= input_u8(in);
    CHECK(mailbox_trylock(&run.box));
    transport_config(&run.t, run.config, notify);
    mailbox_unlock(&run.box);
    begin_model();
    mmio_config(&run.model, run.config, notify);
    compare();
}

static void break_down(struct input *in)
{
    bool lost = input_u8(in) == 1;

    CHECK(mailbox_trylock(&run.box));
    transport_needs_reset(&run.t, lost);
    mailbox_unlock(&run.box);
    begin_model();
    mmio_needs_reset(&run.model, lost);
    compare();
}

static void reboot(void)
{
    CHECK(mailbox_trylock(&run.box));
    transport_reboot(&run.t);
    mailbox_unlock(&run.box);
    begin_model();
    mmio_reboot(&run.model);
    compare();
}

/* Somebody holds the lock for longer than an access may take: it is without
 * effect, but for a kick, and for a reset, which is made when the lock is free.
 */
static void write_while_held(struct input *in)
{
    uint32_t offset = input_u8(in) & ~3u, value = pick_value(in);
    unsigned left;

    CHECK(mailbox_trylock(&run.box));
    mailbox_post(&run.box, 1u << 8); /* read when it is let go of */
    left = run.left;
    transport_write(&run.t, offset, &value, 4);
    CHECK_EQ(run.n_calls, 0);
    CHECK_EQ(run.left, left);
    mailbox_unlock(&run.box);
    CHECK(run.left > left);
    begin_model();
    if (offset == 0x050 && !run.model.inband)
        mmio_write(&run.model, offset, value, 4);
    if (offset == 0x070 && value == 0)
        mmio_reboot(&run.model);
    compare();
}

static void step(struct input *in)
{
    begin_step();
    switch (input_u8(in) % 16) {
    case 0:
    case 1:
    case 2:
        write_some(in);
        break;
    case 3:
        write_anywhere(in);
        break;
    case 4:
        read_at(input_u16(in) % (WINDOW + 16), 1 + input_u8(in) % 8);
        break;
    case 5:
        begin_driver(in);
        break;
    case 6:
        lay_ring(in);
        break;
    case 7:
        write_word(0x070, 0x0f);
        break;
    case 8:
        write_word(0x070, 0);
        break;
    case 9:
        new_config(in);
        break;
    case 10:
        break_down(in);
        break;
    case 11:
        reboot();
        break;
    case 12:
        write_while_held(in);
        break;
    case 13:
        write_word(0x050, input_u8(in));
        break;
    case 14: { /* a ring's reset */
        write_word(0x030, input_u8(in) % (run.model.vqs + 1));
        write_word(0x0c0, 1);
        break;
    }
    case 15:
        write_at(0x100 + input_u16(in) % 4200, pick_value(in),
                 1u << input_u8(in) % 4);
        break;
    }
}

static void place_shm(struct mmio *m, unsigned i, uint32_t id, uint64_t size,
                      struct vu_shm_config *config)
{
    config->n_regions++;
    config->size[id] = size;
    m->shm[i].id = id;
    m->shm[i].size = size;
    m->shm[i].base = 0x1d2000000 + 0x100000 * i;
}

static void set_up(struct input *in)
{
    static const uint32_t configs[] = { 20, 0, 1, 3, 256, 4096, 3840, 3841 };
    static const uint32_t queue_sizes[] = { 256, 1, 8, 32768 };
    static const unsigned counts[] = { 2, 1, 3, 256 };
    struct vu_shm_config shm = { 0 };
    struct husk_err err;
    struct mmio *m = &run.model;
    uint8_t sizes = input_u8(in), flags = input_u8(in);
    struct transport_setup parts;

    m->id = run.is.id = 2;
    m->config_size = run.is.config_size = configs[sizes & 7];
    m->queue_size = run.is.queue_size = queue_sizes[sizes >> 3 & 3];
    m->vqs = run.is.vqs = counts[sizes >> 5 & 3];
    m->inband = run.is.inband = flags & 1;
    m->offered = run.is.features =
        0x15140000000 ^ input_u32(in) ^ (uint64_t)input_u16(in) << 32;
    m->ram[0] = (struct mmio_range){ 0, RAM };
    m->ram[1] = (struct mmio_range){ HIGH, RAM };
    for (unsigned i = 0; i < sizeof run.config; i++)
        run.config[i] = (uint8_t)(i + 1);
    memcpy(m->config, run.config, m->config_size);
    if (flags & 2) {
        place_shm(m, 0, 0, 0x1000, &shm);
        place_shm(m, 1, 255, 0x3000, &shm);
    }
    CHECK(shm_init(&run.shm, &shm, &err) == 0);
    for (unsigned i = 0; i < run.shm.n; i++)
        run.shm.regions[i].base = m->shm[i].base;

    CHECK_EQ(transport_window_size(run.is.config_size) % 4096, 0);
    CHECK(transport_window_size(run.is.config_size) >=
          0x100 + run.is.config_size);
    CHECK(transport_window_size(run.is.config_size) <
          0x1100 + run.is.config_size);
    window_init(&run.window, &host.windows, 0,
                transport_window_size(run.is.config_size));
    memset(run.window.page, 0, WINDOW);
    mailbox_init(&run.box, &box_ops, &run);
    parts = (struct transport_setup){ .box = &run.box,
                                      .is = &run.is,
                                      .config = run.config,
                                      .shm = &run.shm,
                                      .window = run.window,
                                      .mem = &host.mem,
                                      .call_fd = host.call,
                                      .ack_fd = -1,
                                      .deadline = 5,
                                      .ops = &ops,
                                      .ctx = &run };
    CHECK(transport_init(&run.t, &parts) == 0);
    compare();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size }, setup, steps;

    make_host();
    memset(&run, 0, sizeof run);
    run.opened = fuzz_open_fds();
    setup = input_cut(&in, 8);
    set_up(&setup);
    steps = input_cut(&in, input_u16(&in));
    run.outcomes = in;
    for (unsigned i = 0; i < MAX_STEPS && input_left(&steps); i++)
        step(&steps);
    transport_fini(&run.t);
    mailbox_fini(&run.box);
    shm_fini(&run.shm);
    count_of(host.call);
    CHECK_EQ(fuzz_open_fds(), run.opened);
    return 0;
}
