/*
 * The back-ends' rings against a hostile driver: memory that the input writes
 * anywhere, chains laid out rightly or bent, given back in any order, taken
 * back, and back-ends that die with chains in flight and come back. Everything
 * that the ring takes, stores and answers is compared with a model of it, and
 * all of guest memory with the model's after every step.
 *
 * Input: 8 bytes of what the ring is, then steps.
 */
#include "devices/backends/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/bytes.h"
#include "devices/backends/inflight.h"
#include "devices/backends/layout.h"
#include "devices/virtio.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/walk.h"

#define MAX_STEPS  160u
#define MAX_CHAINS 64u
#define MAX_SIZE   256u

static struct run {
    struct memory mem;
    uint8_t *host[WALK_REGIONS];
    struct ring ring;
    uint64_t features;
    struct walk walk;
    struct inflight inflight;
    struct inflight_queue record;
    struct vu_inflight area; /* as the front-end keeps it */
    int area_fd;
    bool tracked;
    bool wild; /* the record was written to: no model of what comes next */
    struct chain *chain[MAX_CHAINS]; /* taken, in their order */
    struct walk_chain *expected[MAX_CHAINS];
    unsigned n;
    bool rude;  /* the driver has written to what the device has */
    bool twice; /* a head was in flight twice: the record cannot tell */
    bool can_return; /* the last step of the ring took the last chain */
    uint32_t offered; /* by the driver that keeps the rules */
    uint32_t free; /* where its descriptors go next */
} run;

static struct walk_chain spare;

/* Where a byte of the model's memory is in the ring's. */
static uint8_t *host_at(uint32_t at)
{
    unsigned r = at < walk_regions[1].at ? 0 : at < walk_regions[2].at ? 1 : 2;

    return run.host[r] + (at - walk_regions[r].at);
}

/* The same bytes in both memories. */
static void store(uint32_t at, const uint8_t *bytes, uint32_t size)
{
    if (size > WALK_MEMORY - at)
        size = WALK_MEMORY - at;
    memcpy(run.walk.memory + at, bytes, size);
    for (uint32_t i = 0; i < size; i++)
        *host_at(at + i) = bytes[i];
}

static void store_16(uint32_t at, unsigned value)
{
    uint8_t bytes[2];

    put16(bytes, (uint16_t)value);
    store(at, bytes, sizeof bytes);
}

static void compare_memory(void)
{
    for (unsigned r = 0; r < WALK_REGIONS; r++) {
        uint8_t *model = run.walk.memory + walk_regions[r].at;

        if (run.wild)
            memcpy(model, run.host[r], walk_regions[r].size);
        CHECK(!memcmp(run.host[r], model, walk_regions[r].size));
    }
}

static void check_iov(const struct iovec *iov, const struct walk_piece *piece)
{
    CHECK(iov->iov_base == host_at(piece->at));
    CHECK_EQ(iov->iov_len, piece->len);
}

static void check_chain(const struct chain *chain,
                        const struct walk_chain *expected)
{
    size_t readable = 0, writable = 0;

    CHECK_EQ(chain->id, expected->id);
    CHECK_EQ(chain->slots, expected->slots);
    CHECK_EQ(chain->n_readable + chain->n_writable, expected->n);
    CHECK(chain->readable == chain->iov);
    CHECK(chain->writable == chain->iov + chain->n_readable);
    for (unsigned i = 0; i < expected->n; i++) {
        const struct walk_piece *piece = &expected->piece[i];

        CHECK_EQ(piece->writable, i >= chain->n_readable);
        check_iov(&chain->iov[i], piece);
        if (piece->writable)
            writable += piece->len;
        else
            readable += piece->len;
    }
    CHECK_EQ(chain->readable_size, readable);
    CHECK_EQ(chain->writable_size, writable);
}

/* Without a model: what it points to must still be guest memory. */
static void check_in_memory(const struct chain *chain)
{
    for (unsigned i = 0; i < chain->n_readable + chain->n_writable; i++) {
        const uint8_t *base = chain->iov[i].iov_base;
        bool inside = false;

        for (unsigned r = 0; r < WALK_REGIONS; r++)
            if (base >= run.host[r] &&
                base <= run.host[r] + walk_regions[r].size &&
                chain->iov[i].iov_len <=
                    (size_t)(run.host[r] + walk_regions[r].size - base))
                inside = true;
        CHECK(inside);
    }
}

static size_t chain_size(const struct walk_chain *chain)
{
    return offsetof(struct walk_chain, piece) +
           chain->n * sizeof chain->piece[0];
}

/* Only the pieces that there are. */
static void copy_chain(struct walk_chain *to, const struct walk_chain *from)
{
    memcpy(to, from, chain_size(from));
}

static void keep(struct chain *chain, const struct walk_chain *expected)
{
    struct walk_chain *copy = malloc(chain_size(expected));

    CHECK(copy != NULL && run.n < MAX_CHAINS);
    copy_chain(copy, expected);
    for (unsigned i = 0; i < run.n; i++)
        run.twice |= run.expected[i]->id == expected->id;
    run.chain[run.n] = chain;
    run.expected[run.n++] = copy;
}

static void forget(unsigned index)
{
    free(run.expected[index]);
    run.n--;
    for (unsigned i = index; i < run.n; i++) {
        run.chain[i] = run.chain[i + 1];
        run.expected[i] = run.expected[i + 1];
    }
}

static void check_broken(void)
{
    if (run.ring.broken)
        CHECK(run.ring.error[0] &&
              memchr(run.ring.error, 0, sizeof run.ring.error));
    if (!run.wild)
        CHECK_EQ(run.ring.broken, run.walk.broken);
}

static void take(void)
{
    struct chain *chain;
    bool taken;

    if (run.n == MAX_CHAINS)
        return;
    chain = ring_take(&run.ring);
    if (run.wild) {
        spare.slots = spare.n = 0;
        if (chain) {
            check_in_memory(chain);
            keep(chain, &spare);
        }
        return;
    }
    taken = walk_take(&run.walk, &spare);
    CHECK_EQ(chain != NULL, taken);
    if (chain) {
        check_chain(chain, &spare);
        CHECK(!chain->again);
        keep(chain, &spare);
        run.can_return = true;
    }
}

static void give(struct input *in)
{
    unsigned index = input_u8(in);
    uint32_t written = input_u8(in);

    if (!run.n)
        return;
    index %= run.n;
    run.can_return = false;
    ring_give(&run.ring, run.chain[index], written);
    if (!run.wild)
        walk_give(&run.walk, run.expected[index], written);
    forget(index);
}

static void give_back(void)
{
    if (!run.n || !run.can_return)
        return;
    run.can_return = false;
    ring_return(&run.ring, run.chain[run.n - 1]);
    if (!run.wild)
        walk_return(&run.walk, run.expected[run.n - 1]);
    forget(run.n - 1);
}

static void listen_again(void)
{
    bool more = ring_listen(&run.ring), expected;

    if (run.wild)
        return;
    expected = walk_listen(&run.walk);
    CHECK_EQ(more, expected);
}

static void must_tell(void)
{
    bool tell = ring_must_tell(&run.ring), sure, expected;

    if (run.wild)
        return;
    expected = walk_must_tell(&run.walk, &sure);
    if (sure)
        CHECK_EQ(tell, expected);
}

static void use_chain(struct input *in)
{
    uint8_t bytes[300], fill = input_u8(in);
    size_t offset = input_u16(in), size = input_u16(in) % sizeof bytes;
    size_t done;
    struct chain *chain;

    if (!run.n || run.wild)
        return;
    chain = run.chain[fill % run.n];
    done = chain_read(chain, offset, bytes, size);
    CHECK_EQ(done, offset >= chain->readable_size ? 0 :
                   size < chain->readable_size - offset ? size :
                   chain->readable_size - offset);
    memset(bytes, fill, sizeof bytes);
    done = chain_write(chain, offset, bytes, size);
    CHECK_EQ(done, offset >= chain->writable_size ? 0 :
                   size < chain->writable_size - offset ? size :
                   chain->writable_size - offset);
    /* the model's copy: only where the chain may be written */
    for (unsigned i = 0; i < run.expected[fill % run.n]->n; i++) {
        const struct walk_piece *p = &run.expected[fill % run.n]->piece[i];

        if (!p->writable)
            continue;
        for (uint32_t k = 0; k < p->len && done; k++) {
            if (offset) {
                offset--;
                continue;
            }
            run.walk.memory[p->at + k] = fill;
            done--;
        }
    }
}

static void scribble(struct input *in)
{
    uint16_t at = input_u16(in) % WALK_MEMORY;
    uint8_t bytes[16];
    unsigned n = 1 + input_u8(in) % sizeof bytes;

    input_bytes(in, bytes, n);
    store(at, bytes, n);
    run.rude = true;
}

/* Aim at what drivers write: a descriptor, an index, a wish. */
static void scribble_well(struct input *in)
{
    const struct walk *w = &run.walk;
    uint8_t what = input_u8(in);
    uint16_t value = input_u16(in);
    unsigned index = input_u8(in) % w->size;

    run.rude = true;
    switch (what % 6) {
    case 0:
        store_16(w->avail + 2, w->packed ? value : value % (w->size + 2) +
                                               (unsigned)w->next_avail);
        break;
    case 1:
        store_16(w->avail, value);
        break;
    case 2:
        if (!w->packed)
            store_16(w->avail + 4 + 2 * w->size, value);
        break;
    case 3:
        if (!w->packed)
            store_16(w->avail + 4 + 2 * index, value % (w->size + 1));
        break;
    case 4:
        store_16(w->desc + 16 * index + 12, value);
        break;
    case 5:
        store_16(w->desc + 16 * index + 14, value);
        break;
    }
}

static uint64_t pick_address(struct input *in)
{
    uint8_t pick = input_u8(in);
    uint64_t base = walk_regions[pick % WALK_REGIONS].guest;

    return pick < 250 ? base + 16 * input_u8(in) : base - 1 + pick % 3;
}

static void put_desc(uint32_t at, uint64_t addr, uint32_t len, uint16_t third,
                     uint16_t fourth)
{
    uint8_t d[16];

    put64(d, addr);
    put32(d + 8, len);
    put16(d + 12, third);
    put16(d + 14, fourth);
    store(at, d, sizeof d);
}

/*
 * A chain as a driver would lay it out: in the ring, or in a table. In a split
 * descriptor flags come before next, in a packed one the id before flags.
 */
static void offer(struct input *in)
{
    const struct walk *w = &run.walk;
    uint8_t shape = input_u8(in);
    unsigned n = 1 + shape % 4, readable = shape >> 2 & 3;
    bool in_table = shape & 0x10 && w->indirect;
    uint32_t table = 0x5000 + 64 * (shape >> 5 & 3);
    unsigned turn = (run.offered / w->size) % 2 == 0 ? 0x80 : 0x8000;
    unsigned first = run.offered % w->size;

    if (n > w->size)
        n = w->size;
    for (unsigned i = n; i-- > 0;) {
        uint64_t addr = pick_address(in);
        uint32_t len = input_u8(in) % 64;
        uint16_t flags = (uint16_t)((i >= readable ? 2 : 0) |
                                    (i + 1 < n ? 1 : 0));
        uint32_t position = run.offered + i;
        unsigned slot = position % w->size;

        if (in_table && w->packed)
            put_desc(table + 16 * i, addr, len, 0, flags & 2);
        else if (in_table)
            put_desc(table + 16 * i, addr, len, flags, (uint16_t)(i + 1));
        else if (w->packed)
            put_desc(w->desc + 16 * slot, addr, len, (uint16_t)first,
                     (uint16_t)(flags | ((position / w->size) % 2 == 0 ?
                                         0x80 : 0x8000)));
        else
            put_desc(w->desc + 16 * slot, addr, len, flags,
                     (uint16_t)((slot + 1) % w->size));
    }
    if (in_table)
        put_desc(w->desc + 16 * first,
                 walk_regions[1].guest + table - walk_regions[1].at, 16 * n,
                 w->packed ? (uint16_t)first : 4,
                 (uint16_t)(w->packed ? 4 | turn : 0));
    run.offered += in_table ? 1 : n;
    run.rude |= run.offered - (uint32_t)w->next_used > w->size;
    if (w->packed)
        return;
    store_16(w->avail + 4 + 2 * (run.free % w->size), first);
    run.free++;
    store_16(w->avail + 2, run.free);
}

/* The regions were taken away and given again, elsewhere. */
static void remap(void)
{
    if (run.ring.broken || run.n)
        return;
    for (unsigned r = 0; r < WALK_REGIONS; r++) {
        uint8_t *host = malloc(walk_regions[r].size);

        CHECK(host != NULL);
        memcpy(host, run.host[r], walk_regions[r].size);
        free(run.host[r]);
        run.host[r] = run.mem.region[r].host = host;
    }
    CHECK(ring_map(&run.ring) == 0);
}

static void drop_chains(void)
{
    while (run.n) {
        free(run.chain[run.n - 1]);
        forget(run.n - 1);
    }
}

/* Whether the record can tell all that was in flight: the driver has kept off
 * what the device owns, and named no head twice. */
static bool is_told(void)
{
    const struct walk *w = &run.walk;

    if (run.wild || w->broken)
        return false;
    return w->packed ||
           (!run.twice &&
            get16(w->memory + w->used + 2) == (uint16_t)w->next_used);
}

/* What a table says now counts, where the record has but its address. */
static void copy_pieces(struct walk_chain *to, const struct chain *chain)
{
    to->n = chain->n_readable + chain->n_writable;
    for (unsigned i = 0; i < to->n; i++) {
        const uint8_t *base = chain->iov[i].iov_base;
        unsigned r = 0;

        while (base < run.host[r] ||
               base >= run.host[r] + walk_regions[r].size)
            r++;
        to->piece[i] = (struct walk_piece){
            .at = walk_regions[r].at + (uint32_t)(base - run.host[r]),
            .len = (uint32_t)chain->iov[i].iov_len,
            .writable = i >= chain->n_readable,
        };
    }
}

/* All that was in flight comes again, in its order, and then what is new. */
static void take_again(struct walk_chain **before, unsigned n)
{
    uint32_t in_flight = run.walk.in_flight;

    for (unsigned i = 0; i < n; i++) {
        struct chain *chain = ring_take(&run.ring);
        bool good = true;

        /* the driver may have changed the rest since */
        copy_chain(&spare, before[i]);
        if (!run.walk.packed)
            good = walk_split(&run.walk, before[i]->id, &spare);
        if (run.walk.packed && run.walk.indirect && !chain) {
            run.wild = true;
            return;
        }
        CHECK_EQ(chain != NULL, good);
        if (!chain)
            break;
        CHECK(chain->again);
        CHECK_EQ(chain->id, spare.id);
        CHECK_EQ(chain->slots, spare.slots);
        check_in_memory(chain);
        if (run.walk.packed && run.walk.indirect)
            copy_pieces(&spare, chain);
        check_chain(chain, &spare);
        keep(chain, &spare);
    }
    if (!run.walk.broken)
        run.walk.in_flight = in_flight;
}

/* It dies while it gives a chain: before the driver can see that, or after. */
static void die_giving(struct input *in, bool seen)
{
    unsigned index = input_u8(in) % run.n;
    struct chain *chain = run.chain[index];

    run.wild |= run.rude;
    inflight_giving(&run.ring, chain);
    if (!seen)
        return;
    if (run.walk.packed)
        packed_give(&run.ring, chain, 1);
    else
        split_give(&run.ring, chain, 1);
    walk_give(&run.walk, run.expected[index], 1);
    free(chain);
    forget(index);
}

/* The area goes by the front-end, perhaps not as it was. */
static void hand_over(struct input *in)
{
    struct vu_inflight area = run.area;
    uint8_t bend = input_u8(in);
    int rc;

    inflight_unmap(&run.inflight);
    if (bend & 1)
        area.mmap_size ^= input_u64(in);
    if (bend & 2)
        area.mmap_offset = input_u64(in);
    if (bend & 4)
        area.num_queues = input_u16(in);
    if (bend & 8)
        area.queue_size = input_u16(in);
    rc = inflight_map(&run.inflight, &area, run.area_fd);
    CHECK(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        CHECK(area.mmap_offset + area.mmap_size <= run.area.mmap_size);
        CHECK(run.inflight.map_size <= area.mmap_size);
        /* whatever it says it has must be there */
        for (unsigned i = 0; i < area.num_queues; i++) {
            inflight_attach(&run.record, &run.inflight, i);
            CHECK(run.record.region != NULL);
        }
        inflight_detach(&run.record);
    }
    CHECK_EQ(inflight_map(&run.inflight, &run.area, run.area_fd), 0);
}

static void tamper(struct input *in)
{
    uint16_t at = input_u16(in);
    uint8_t bytes[8];

    input_bytes(in, bytes, sizeof bytes);
    for (unsigned i = 0; i < sizeof bytes; i++)
        run.inflight.map[(at + i) % run.inflight.map_size] = bytes[i];
    run.wild = true;
}

/* The back-end dies, between two steps or in one, and another takes its place
 * with what guest memory and the record tell. */
static void come_back(struct input *in)
{
    struct walk_chain *before[MAX_CHAINS];
    uint8_t how = input_u8(in);
    struct ring gone = run.ring;
    unsigned n; /* chains that go with it */
    int rc;

    if (!run.tracked)
        return;
    run.wild |= !is_told();
    if (how & 2 && run.n && !run.wild)
        die_giving(in, how & 4);
    n = run.n;
    for (unsigned i = 0; i < n; i++) {
        before[i] = run.expected[i];
        free(run.chain[i]);
    }
    run.n = 0;
    inflight_detach(&run.record);
    if (how & 8)
        hand_over(in);
    if (how & 1)
        tamper(in);
    inflight_attach(&run.record, &run.inflight, 0);
    run.ring = (struct ring){ .size = gone.size, .desc = gone.desc,
                              .avail = gone.avail, .used = gone.used,
                              .inflight = &run.record };
    run.ring.base = run.walk.packed ? 0x80008000 :
                                      get16(run.walk.memory + run.walk.used +
                                            2);
    run.can_return = false;
    rc = ring_start(&run.ring, &run.mem, run.features);
    if (!run.wild) {
        CHECK_EQ(rc, 0);
        run.walk.given = 0;
        run.walk.told = run.walk.next_used;
        CHECK_EQ(run.record.n_pending, n);
        take_again(before, n);
    }
    for (unsigned i = 0; i < n; i++)
        free(before[i]);
}

static void step(struct input *in)
{
    switch (input_u8(in) % 16) {
    case 0:
    case 1:
        offer(in);
        take();
        break;
    case 2:
        offer(in);
        break;
    case 3:
        take();
        break;
    case 4:
    case 5:
        give(in);
        break;
    case 6:
        give_back();
        break;
    case 7:
        listen_again();
        break;
    case 8:
        ring_quiet(&run.ring);
        if (!run.wild)
            walk_quiet(&run.walk);
        break;
    case 9:
        must_tell();
        break;
    case 10:
        scribble(in);
        break;
    case 11:
        scribble_well(in);
        break;
    case 12:
        use_chain(in);
        break;
    case 13:
        come_back(in);
        break;
    case 14:
        remap();
        break;
    case 15: /* many turns at once */
        for (unsigned n = input_u8(in) % 80; n && run.n < MAX_CHAINS; n--) {
            struct input none = { in->at, in->at };

            offer(&none);
            take();
            give(&none);
            must_tell();
        }
        break;
    }
}

static void make_memory(void)
{
    run.mem.n_regions = WALK_REGIONS;
    for (unsigned r = 0; r < WALK_REGIONS; r++) {
        run.host[r] = calloc(1, walk_regions[r].size);
        CHECK(run.host[r] != NULL);
        run.mem.region[r] = (struct memory_region){
            .guest = walk_regions[r].guest, .user = walk_regions[r].user,
            .size = walk_regions[r].size, .host = run.host[r]
        };
    }
}

/* Where the parts are, and where the ring begins; false: it must not start. */
static bool set_up(struct input *in)
{
    static const uint16_t sizes[] = { 8, 1, 2, 4, 64, 256, 3, 0 };
    struct walk *w = &run.walk;
    uint8_t flags = input_u8(in), shape = input_u8(in);
    uint64_t user = walk_regions[0].user;
    uint32_t bend = input_u16(in), base = input_u16(in);
    int64_t desc, avail, used;
    uint64_t event;

    make_memory();
    w->packed = flags & 1;
    w->indirect = flags & 2;
    w->event_idx = flags & 4;
    run.tracked = flags & 8;
    run.features = VIRTIO_F_VERSION_1 |
                   (w->packed ? VIRTIO_F_RING_PACKED : 0) |
                   (w->indirect ? VIRTIO_F_INDIRECT_DESC : 0) |
                   (w->event_idx ? VIRTIO_F_EVENT_IDX : 0);
    event = w->event_idx && !w->packed ? 2 : 0;
    w->size = run.ring.size = sizes[shape & 7];
    run.ring.desc = user + 0x1000;
    run.ring.avail = user + 0x2000;
    run.ring.used = user + 0x3000;
    if (shape & 0x10)
        run.ring.desc += bend;
    if (shape & 0x20)
        run.ring.avail += bend;
    if (shape & 0x40)
        run.ring.used += bend;
    run.ring.base = w->packed ? 0x80008000u : base;
    if (shape & 0x80)
        run.ring.base ^= base | base << 16;

    if (!w->size || (!w->packed && w->size & (w->size - 1)) ||
        run.ring.desc % 16 || run.ring.avail % (w->packed ? 4 : 2) ||
        run.ring.used % 4)
        return false;
    desc = walk_user(run.ring.desc, 16 * w->size);
    avail = walk_user(run.ring.avail,
                      w->packed ? 4 : 4 + 2 * w->size + event);
    used = walk_user(run.ring.used, w->packed ? 4 : 4 + 8 * w->size + event);
    if (desc < 0 || avail < 0 || used < 0)
        return false;
    w->desc = (uint32_t)desc;
    w->avail = (uint32_t)avail;
    w->used = (uint32_t)used;
    w->next_avail = (uint16_t)run.ring.base;
    if (w->packed) {
        w->next_avail = (run.ring.base & 0x7fff) +
                        (run.ring.base & 0x8000 ? 0 : w->size);
        w->next_used = (run.ring.base >> 16 & 0x7fff) +
                       (run.ring.base >> 31 ? 0 : w->size);
        if ((run.ring.base & 0x7fff) >= w->size ||
            (run.ring.base >> 16 & 0x7fff) >= w->size)
            return false;
    }
    if (run.tracked) { /* nothing was in flight before */
        if (w->packed)
            run.ring.base = (run.ring.base & 0xffff) * 0x10001u;
        else
            store_16(w->used + 2, run.ring.base);
        w->next_used = w->next_avail;
    }
    run.offered = (uint32_t)w->next_avail;
    run.free = (uint32_t)w->next_avail;
    if (!w->packed) { /* the parts may lie over each other */
        store_16(w->avail + 2, run.free);
        w->next_used = get16(w->memory + w->used + 2);
        run.tracked &= w->next_used == w->next_avail;
    }
    w->told = w->next_used;
    return true;
}

static void track(void)
{
    if (!run.tracked)
        return;
    run.area = (struct vu_inflight){ .num_queues = 2, .queue_size = MAX_SIZE };
    CHECK_EQ(inflight_create(&run.inflight, &run.area, &run.area_fd), 0);
    inflight_attach(&run.record, &run.inflight, 0);
    run.ring.inflight = &run.record;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size }, setup = input_cut(&in, 8);
    bool good;

    memset(&run, 0, sizeof run);
    good = set_up(&setup);
    track();
    CHECK_EQ(ring_start(&run.ring, &run.mem, run.features) == 0, good);
    run.walk.broken = !good;
    check_broken();
    for (unsigned i = 0; i < MAX_STEPS && input_left(&in) && good; i++) {
        step(&in);
        check_broken();
        compare_memory();
    }
    if (good && !run.wild && !run.tracked && !run.ring.broken && run.n == 0)
        CHECK_EQ(ring_base(&run.ring) & 0x7fff,
                 run.walk.packed ? run.walk.next_avail % run.walk.size :
                                   run.walk.next_avail & 0x7fff);
    if (run.n == 0 && good)
        ring_stop(&run.ring);
    drop_chains();
    inflight_detach(&run.record);
    inflight_unmap(&run.inflight);
    if (run.tracked)
        close(run.area_fd);
    for (unsigned r = 0; r < WALK_REGIONS; r++)
        free(run.host[r]);
    return 0;
}
