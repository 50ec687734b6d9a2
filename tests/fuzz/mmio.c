/*
 * See mmio.h. Nothing of it is taken from the transport: registers are made
 * anew from the state at every look, where the transport changes words in
 * place.
 */
#include "tests/fuzz/mmio.h"

#include <errno.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define DRIVER_BITS 0x8fu /* those of Status that are the driver's */

enum {
    ACKNOWLEDGE = 1,
    DRIVER = 2,
    DRIVER_OK = 4,
    FEATURES_OK = 8,
    NEEDS_RESET = 0x40,
    FAILED = 0x80
};

/* 26 and 30 are vhost's; the others have mechanisms that are not here */
#define NOT_SHOWN                                                              \
    (1ull << 26 | 1ull << 30 | 1ull << 33 | 1ull << 37 | 1ull << 38 |          \
     1ull << 39 | 1ull << 41)

static bool running(const struct mmio *m)
{
    return m->status & DRIVER_OK;
}

void mmio_needs_reset(struct mmio *m, bool lost)
{
    m->lost |= lost;
    if (!m->status || m->status & NEEDS_RESET)
        return;
    m->status |= NEEDS_RESET;
    if (running(m)) {
        m->config_pending = true;
        m->interrupts++;
    }
}

/* The access must have made this call. Returns how it went. */
static const struct mmio_call *called(struct mmio *m, enum mmio_kind kind,
                                      uint64_t a, uint64_t b)
{
    const struct mmio_call *call = &m->calls[m->next_call];
    uint8_t config[MMIO_MAX_CONFIG];

    CHECK(m->next_call < m->n_calls);
    CHECK_EQ(call->kind, kind);
    CHECK_EQ(call->a, a);
    CHECK_EQ(call->b, b);
    m->next_call++;
    if (call->new_config) {
        memcpy(config, m->config, m->config_size);
        config[call->changed]++;
        mmio_config(m, config, false);
    }
    return call;
}

/* The same, and a failure loses the device. */
static void relay(struct mmio *m, enum mmio_kind kind, uint64_t a, uint64_t b)
{
    int rc = called(m, kind, a, b)->rc;

    if (rc < 0 && rc != -ECANCELED)
        mmio_needs_reset(m, true);
}

static bool in_ram(const struct mmio *m, uint64_t at, uint64_t size)
{
    for (int i = 0; i < 2; i++) {
        const struct mmio_range *ram = &m->ram[i];

        if (at >= ram->base && at <= ram->base + ram->size &&
            size <= ram->base + ram->size - at)
            return true;
    }
    return false;
}

static bool ring_is_possible(const struct mmio *m, const struct mmio_ring *ring)
{
    bool packed = m->driver_features >> 34 & 1;
    uint64_t num = ring->num;

    if (num < 1 || num > m->queue_size || ring->desc & 15 || ring->device & 3)
        return false;
    if (packed) /* 2.8: event suppression structures of 4 bytes */
        return !(ring->driver & 3) && in_ram(m, ring->desc, 16 * num) &&
               in_ram(m, ring->driver, 4) && in_ram(m, ring->device, 4);
    return __builtin_popcountll(num) == 1 && !(ring->driver & 1) &&
           in_ram(m, ring->desc, 16 * num) &&
           in_ram(m, ring->driver, 2 * num + 6) &&
           in_ram(m, ring->device, 8 * num + 6);
}

static void clear(struct mmio *m)
{
    m->status = 0;
    m->config_pending = m->beyond = false;
    m->features_sel = m->driver_sel = m->queue_sel = m->shm_sel = 0;
    m->driver_features = 0;
    for (unsigned i = 0; i < m->vqs; i++)
        m->ring[i] = (struct mmio_ring){ .has_kick = m->ring[i].has_kick,
                                         .kicks = m->ring[i].kicks };
}

static void reset(struct mmio *m)
{
    if (!m->lost)
        relay(m, MMIO_RESET, 0, 0);
    clear(m);
}

void mmio_reboot(struct mmio *m)
{
    if (!m->lost)
        relay(m, MMIO_SEND_RESET, 0, 0);
    clear(m);
}

static void go(struct mmio *m, uint8_t status)
{
    m->status |= DRIVER_OK;
    for (unsigned i = 0; i < m->vqs; i++) {
        struct mmio_ring *ring = &m->ring[i];

        ring->ready = ring->ready && ring_is_possible(m, ring);
        ring->has_kick |= ring->ready;
        ring->started = ring->ready && !m->lost;
    }
    if (!m->lost)
        relay(m, MMIO_START, status, 0);
}

static bool features_are_good(struct mmio *m, uint8_t status)
{
    const struct mmio_call *call;

    if (m->lost || m->beyond || m->driver_features & NOT_SHOWN ||
        m->driver_features & ~m->offered || !(m->driver_features >> 32 & 1))
        return false;
    call = called(m, MMIO_FEATURES, m->driver_features, status);
    if (call->rc < 0 && call->rc != -ECANCELED)
        mmio_needs_reset(m, true);
    return call->rc == 0 && call->accepted;
}

/* Each bit needs the ones before it; none is taken back but by a reset. */
static bool in_order(uint8_t status)
{
    static const uint8_t steps[] = { ACKNOWLEDGE, DRIVER, FEATURES_OK,
                                     DRIVER_OK };
    bool missing = false;

    for (unsigned i = 0; i < sizeof steps; i++) {
        if (missing && status & steps[i])
            return false;
        missing |= !(status & steps[i]);
    }
    return true;
}

static void write_status(struct mmio *m, uint32_t value)
{
    uint8_t had = m->status & DRIVER_BITS, want = value & DRIVER_BITS;
    uint8_t others = want & (ACKNOWLEDGE | DRIVER | FAILED);

    if (value == 0) {
        reset(m);
        return;
    }
    if ((had & want) != had || had == want || had & FAILED || !in_order(want))
        return;
    if (want & FEATURES_OK && !(had & FEATURES_OK)) {
        m->status |= others;
        if (features_are_good(m, want & ~DRIVER_OK)) {
            m->status |= FEATURES_OK;
        } else {
            want = others;
            if (others != had && !m->lost)
                relay(m, MMIO_STATUS, others, 0);
            return;
        }
        if (want & DRIVER_OK)
            go(m, want);
        return;
    }
    m->status |= want & ~DRIVER_OK;
    if (want & ~had & DRIVER_OK)
        go(m, want);
    else if (!m->lost)
        relay(m, MMIO_STATUS, want, 0);
}

static void write_ready(struct mmio *m, unsigned index, uint32_t value)
{
    struct mmio_ring *ring = &m->ring[index];

    if (value == 0 && !running(m))
        ring->ready = false;
    if (value != 1 || ring->ready || (running(m) && !ring->stopped) ||
        !ring_is_possible(m, ring))
        return;
    ring->ready = true;
    ring->stopped = false;
    if (running(m) && !m->lost) {
        ring->has_kick = ring->started = true;
        relay(m, MMIO_RING_START, index, 0);
    }
}

static void write_queue_reset(struct mmio *m, unsigned index, uint32_t value)
{
    struct mmio_ring *ring = &m->ring[index];

    if (value != 1 || !running(m) || !ring->ready ||
        !(m->driver_features >> 40 & 1))
        return;
    if (ring->started && !m->lost)
        relay(m, MMIO_RING_STOP, index, 0);
    *ring = (struct mmio_ring){ .stopped = true,
                                .has_kick = ring->has_kick,
                                .kicks = ring->kicks };
}

static void set_half(uint64_t *whole, bool high, uint32_t value)
{
    unsigned shift = high ? 32 : 0;

    *whole = (*whole & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

static void write_queue(struct mmio *m, uint32_t offset, uint32_t value)
{
    struct mmio_ring *ring;

    if (m->queue_sel >= m->vqs)
        return;
    ring = &m->ring[m->queue_sel];
    if (offset == 0x044)
        write_ready(m, m->queue_sel, value);
    if (offset == 0x0c0)
        write_queue_reset(m, m->queue_sel, value);
    if (ring->ready || (running(m) && !ring->stopped))
        return;
    if (offset == 0x038)
        ring->num = value;
    if (offset == 0x080 || offset == 0x084)
        set_half(&ring->desc, offset & 4, value);
    if (offset == 0x090 || offset == 0x094)
        set_half(&ring->driver, offset & 4, value);
    if (offset == 0x0a0 || offset == 0x0a4)
        set_half(&ring->device, offset & 4, value);
}

static void notify(struct mmio *m, uint32_t index)
{
    if (index >= m->vqs)
        return;
    if (!m->inband)
        m->ring[index].kicks += m->ring[index].has_kick;
    else if (m->ring[index].started && !m->lost)
        relay(m, MMIO_KICK, index, 0);
}

static void write_features(struct mmio *m, uint32_t value)
{
    if (m->status & FEATURES_OK)
        return;
    if (m->driver_sel < 2)
        set_half(&m->driver_features, m->driver_sel, value);
    else
        m->beyond |= value != 0;
}

static void write_register(struct mmio *m, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case 0x014:
        m->features_sel = value;
        break;
    case 0x020:
        write_features(m, value);
        break;
    case 0x024:
        m->driver_sel = value;
        break;
    case 0x030:
        m->queue_sel = value;
        break;
    case 0x050:
        notify(m, value);
        break;
    case 0x064:
        if (value & 2)
            m->config_pending = false;
        break;
    case 0x070:
        write_status(m, value);
        break;
    case 0x0ac:
        m->shm_sel = value;
        break;
    default:
        write_queue(m, offset, value);
        break;
    }
}

void mmio_write(struct mmio *m, uint64_t offset, uint32_t value, unsigned size)
{
    if (offset < 0x100) {
        if (size == 4 && offset % 4 == 0)
            write_register(m, (uint32_t)offset, value);
        return;
    }
    if ((size != 1 && size != 2 && size != 4) || offset % size)
        return;
    if (offset - 0x100 < m->config_size &&
        size <= m->config_size - (offset - 0x100) && !m->lost)
        relay(m, MMIO_CONFIG_WRITE, offset - 0x100, size);
}

void mmio_config(struct mmio *m, const uint8_t *config, bool changed_by_device)
{
    if (memcmp(m->config, config, m->config_size) != 0) {
        memcpy(m->config, config, m->config_size);
        m->generation++;
    }
    if (changed_by_device && running(m)) {
        m->config_pending = true;
        m->interrupts++;
    }
}

static void put(uint8_t *window, uint32_t offset, uint64_t value)
{
    for (int i = 0; i < 4; i++)
        window[offset + (unsigned)i] = (uint8_t)(value >> 8 * i);
}

void mmio_show(const struct mmio *m, uint8_t *window, size_t size)
{
    uint64_t shm_size = UINT64_MAX, shm_base = UINT64_MAX;

    memset(window, 0, size);
    put(window, 0x000, 0x74726976);
    put(window, 0x004, 2);
    put(window, 0x008, m->id);
    put(window, 0x00c, 0x6b737568); /* "husk" */
    if (m->features_sel < 2)
        put(window, 0x010,
            (m->offered & ~NOT_SHOWN) >> (m->features_sel ? 32 : 0));
    if (m->queue_sel < m->vqs) {
        put(window, 0x034, m->queue_size);
        put(window, 0x044, m->ring[m->queue_sel].ready);
    }
    put(window, 0x060, (running(m) ? 1 : 0) | (m->config_pending ? 2 : 0));
    put(window, 0x070, m->status);
    for (int i = 0; i < 2; i++)
        if (m->shm[i].size && m->shm[i].id == m->shm_sel) {
            shm_size = m->shm[i].size;
            shm_base = m->shm[i].base;
        }
    put(window, 0x0b0, shm_size);
    put(window, 0x0b4, shm_size >> 32);
    put(window, 0x0b8, shm_base);
    put(window, 0x0bc, shm_base >> 32);
    put(window, 0x0fc, m->generation);
    memcpy(window + 0x100, m->config, m->config_size);
}
