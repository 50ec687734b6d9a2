/* See walk.h. */
#include "tests/fuzz/walk.h"

#include <string.h>

#include "boot/bytes.h"

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 0x80, USED = 0x8000 };

/* The first two are neighbours for the guest, and nowhere else. */
const struct walk_region walk_regions[WALK_REGIONS] = {
    { 0x40000000, 0x7f0000000000, 0x4000, 0 },
    { 0x40004000, 0x7f0000010000, 0x2000, 0x4000 },
    { 0x1000000000, 0x7f0000020000, 0x1000, 0x6000 },
};

int64_t walk_user(uint64_t user, uint64_t len)
{
    for (unsigned i = 0; i < WALK_REGIONS; i++) {
        const struct walk_region *r = &walk_regions[i];

        if (user >= r->user && user < r->user + r->size &&
            len <= r->user + r->size - user)
            return r->at + (int64_t)(user - r->user);
    }
    return -1;
}

/* One byte of the guest's, or -1. */
static int64_t find(uint64_t guest)
{
    for (unsigned i = 0; i < WALK_REGIONS; i++) {
        const struct walk_region *r = &walk_regions[i];

        if (guest >= r->guest && guest - r->guest < r->size)
            return r->at + (int64_t)(guest - r->guest);
    }
    return -1;
}

static bool add(struct walk_chain *chain, uint64_t guest, uint32_t len,
                bool writable)
{
    static const uint32_t ends[WALK_REGIONS] = { 0x4000, 0x6000, 0x7000 };

    if (!writable && chain->n && chain->piece[chain->n - 1].writable)
        return false;
    while (len) {
        int64_t at = find(guest);
        uint32_t part = len;

        if (at < 0 || chain->n == WALK_PIECES)
            return false;
        for (int i = WALK_REGIONS - 1; i >= 0; i--)
            if (at < ends[i] && at + part > ends[i])
                part = ends[i] - (uint32_t)at;
        chain->piece[chain->n++] =
            (struct walk_piece){ (uint32_t)at, part, writable };
        guest += part;
        len -= part;
    }
    return true;
}

/* 16 bytes of the guest's, which may lie in two regions. */
static bool read_16(const struct walk *w, uint64_t guest, uint8_t *to)
{
    for (unsigned i = 0; i < 16; i++) {
        int64_t at = find(guest + i);

        if (at < 0)
            return false;
        to[i] = w->memory[at];
    }
    return true;
}

static bool table_is_good(const struct walk *w, uint64_t guest, uint32_t len,
                          unsigned flags)
{
    if (!w->indirect || flags & NEXT || len == 0 || len % 16 ||
        len / 16 > WALK_PIECES)
        return false;
    for (uint32_t i = 0; i < len; i++)
        if (find(guest + i) < 0)
            return false;
    return true;
}

bool walk_split(struct walk *w, unsigned head, struct walk_chain *chain)
{
    unsigned flags, index = head, count = w->size, seen = 0;
    uint64_t table = 0;
    bool in_table = false;

    chain->id = (uint16_t)head;
    chain->slots = 1;
    chain->n = 0;
    w->broken = true; /* until all of it is good */
    if (head >= w->size)
        return false;
    do {
        uint8_t d[16];

        if (seen++ == count)
            return false; /* it goes round */
        if (!in_table)
            memcpy(d, w->memory + w->desc + 16 * index, 16);
        else if (!read_16(w, table + 16 * index, d))
            return false;
        flags = get16(d + 12);
        if (flags & INDIRECT) {
            if (in_table || !table_is_good(w, get64(d), get32(d + 8), flags))
                return false;
            in_table = true;
            table = get64(d);
            count = get32(d + 8) / 16;
            index = seen = 0;
            flags = NEXT;
            continue;
        }
        if (!add(chain, get64(d), get32(d + 8), flags & WRITE))
            return false;
        index = get16(d + 14);
        if (flags & NEXT && index >= count)
            return false;
    } while (flags & NEXT);
    w->broken = false;
    return true;
}

static bool take_split(struct walk *w, struct walk_chain *chain)
{
    uint16_t ready =
        (uint16_t)(get16(w->memory + w->avail + 2) - w->next_avail);
    unsigned slot = (unsigned)w->next_avail % w->size;

    if (ready == 0)
        return false;
    if (ready > w->size || w->in_flight >= w->size) {
        w->broken = true;
        return false;
    }
    if (!walk_split(w, get16(w->memory + w->avail + 4 + 2 * slot), chain))
        return false;
    w->next_avail++;
    return true;
}

/* Flags of the descriptor at a position, or -1 if the driver has not made it
 * available: AVAIL is the turn's, USED is not. */
static int available(const struct walk *w, uint64_t position)
{
    unsigned flags =
        get16(w->memory + w->desc + 16 * (position % w->size) + 14);
    unsigned turn = (position / w->size) % 2 == 0; /* the wrap counter */

    return !!(flags & AVAIL) == turn && !!(flags & USED) != turn ? (int)flags
                                                                 : -1;
}

static bool add_table(const struct walk *w, struct walk_chain *chain,
                      uint64_t guest, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 16) {
        uint8_t d[16];

        if (!read_16(w, guest + i, d) || get16(d + 14) & INDIRECT ||
            !add(chain, get64(d), get32(d + 8), get16(d + 14) & WRITE))
            return false;
    }
    return true;
}

static bool take_packed(struct walk *w, struct walk_chain *chain)
{
    uint64_t at = w->next_avail;
    int flags = available(w, at);

    if (flags < 0)
        return false;
    chain->slots = chain->n = 0;
    w->broken = true;
    do {
        const uint8_t *d = w->memory + w->desc + 16 * (at % w->size);

        flags = available(w, at);
        if (flags < 0 || ++chain->slots + w->in_flight > w->size)
            return false;
        chain->id = get16(d + 12);
        if (flags & INDIRECT) {
            if (!table_is_good(w, get64(d), get32(d + 8), (unsigned)flags) ||
                !add_table(w, chain, get64(d), get32(d + 8)))
                return false;
        } else if (!add(chain, get64(d), get32(d + 8), flags & WRITE)) {
            return false;
        }
        at++;
    } while (flags & NEXT);
    w->broken = false;
    w->next_avail = at;
    return true;
}

bool walk_take(struct walk *w, struct walk_chain *chain)
{
    bool taken;

    if (w->broken)
        return false;
    taken = w->packed ? take_packed(w, chain) : take_split(w, chain);
    if (taken)
        w->in_flight += chain->slots;
    return taken;
}

static bool is_writable(const struct walk_chain *chain)
{
    return chain->n && chain->piece[chain->n - 1].writable;
}

void walk_give(struct walk *w, const struct walk_chain *chain, uint32_t written)
{
    uint8_t *at = w->memory + w->used + 4 + 8 * (w->next_used % w->size);

    w->in_flight -= chain->slots;
    if (w->broken)
        return;
    w->given += chain->slots;
    if (!w->packed) {
        put32(at, chain->id);
        put32(at + 4, written);
        w->next_used++;
        put16(w->memory + w->used + 2, (uint16_t)w->next_used);
        return;
    }
    at = w->memory + w->desc + 16 * (w->next_used % w->size);
    put32(at + 8, written);
    put16(at + 12, chain->id);
    put16(at + 14,
          (uint16_t)((w->next_used / w->size % 2 == 0 ? AVAIL | USED : 0) |
                     (is_writable(chain) ? WRITE : 0)));
    w->next_used += chain->slots;
}

void walk_return(struct walk *w, const struct walk_chain *chain)
{
    w->in_flight -= chain->slots;
    w->next_avail -= chain->slots;
}

void walk_quiet(struct walk *w)
{
    if (w->broken)
        return;
    if (w->packed)
        put16(w->memory + w->used + 2, 1);
    else if (!w->event_idx)
        put16(w->memory + w->used, 1);
}

bool walk_listen(struct walk *w)
{
    uint64_t turn = w->next_avail / w->size % 2 == 0;

    if (w->broken)
        return false;
    if (w->packed) {
        if (w->event_idx)
            put16(w->memory + w->used,
                  (uint16_t)(w->next_avail % w->size | turn << 15));
        put16(w->memory + w->used + 2, w->event_idx ? 2 : 0);
        return available(w, w->next_avail) >= 0;
    }
    if (w->event_idx)
        put16(w->memory + w->used + 4 + 8 * w->size, (uint16_t)w->next_avail);
    else
        put16(w->memory + w->used, 0);
    return get16(w->memory + w->avail + 2) != (uint16_t)w->next_avail;
}

/* Whether the place that the driver named was among those used since then. */
static bool event_came(const struct walk *w, unsigned event, uint32_t period)
{
    for (uint64_t at = w->told; at != w->next_used; at++)
        if (at % period == event)
            return true;
    return false;
}

bool walk_must_tell(struct walk *w, bool *sure)
{
    unsigned event, flags;
    bool tell;

    *sure = true;
    if (w->given == 0)
        return false;
    if (w->broken || w->given >= w->size) {
        tell = true;
    } else if (!w->packed) {
        event = get16(w->memory + w->avail + 4 + 2 * w->size);
        tell = w->event_idx ? event_came(w, event, 0x10000)
                            : !(get16(w->memory + w->avail) & 1);
    } else {
        event = get16(w->memory + w->avail);
        flags = get16(w->memory + w->avail + 2);
        tell = flags != 1;
        if (flags == 2 && w->event_idx) {
            *sure = (event & 0x7fff) < w->size;
            tell =
                event_came(w, (event & 0x7fff) + (event & 0x8000 ? 0 : w->size),
                           2 * w->size);
        }
    }
    w->given = 0;
    w->told = w->next_used;
    return tell;
}
