/*
 * The back-ends' rings against a hostile driver: memory that the input writes
 * anywhere, chains laid out rightly or bent, given back in any order, taken
 * back, and back-ends that die with chains in flight and come back. Everything
 * that the ring takes, stores and answers is compared with a model of it, and
 * all of guest memory with the model's after every step.
 *
 * Input: 8 bytes of what the ring is, then steps.
 */
#include "tests/fuzz/rings.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/bytes.h"
#include "devices/virtio.h"

#define MAX_STEPS 160u

struct rings run;

static struct walk_chain spare;

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
    CHECK(iov->iov_base == rings_host(piece->at));
    CHECK_EQ(iov->iov_len, piece->len);
}

void rings_check(const struct chain *chain, const struct walk_chain *expected)
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
void rings_check_in_memory(const struct chain *chain)
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

void rings_keep(struct chain *chain, const struct walk_chain *expected)
{
    struct walk_chain *copy = malloc(walk_size(expected));

    CHECK(copy != NULL && run.n < RINGS_MAX_CHAINS);
    memcpy(copy, expected, walk_size(expected));
    for (unsigned i = 0; i < run.n; i++)
        run.twice |= run.expected[i]->id == expected->id;
    run.chain[run.n] = chain;
    run.expected[run.n++] = copy;
}

void rings_forget(unsigned index)
{
    free(run.expected[index]);
    run.n--;
    for (unsigned i = index; i < run.n; i++) {
        run.chain[i] = run.chain[i + 1];
        run.expected[i] = run.expected[i + 1];
    }
}

static void drop_chains(void)
{
    while (run.n) {
        free(run.chain[run.n - 1]);
        rings_forget(run.n - 1);
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

    if (run.n == RINGS_MAX_CHAINS)
        return;
    chain = ring_take(&run.ring);
    if (run.wild) {
        spare.slots = spare.n = 0;
        if (chain) {
            rings_check_in_memory(chain);
            rings_keep(chain, &spare);
        }
        return;
    }
    taken = walk_take(&run.walk, &spare);
    CHECK_EQ(chain != NULL, taken);
    if (chain) {
        rings_check(chain, &spare);
        CHECK(!chain->resubmitted);
        rings_keep(chain, &spare);
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
    rings_forget(index);
}

static void give_back(void)
{
    if (!run.n || !run.can_return)
        return;
    run.can_return = false;
    ring_return(&run.ring, run.chain[run.n - 1]);
    if (!run.wild)
        walk_return(&run.walk, run.expected[run.n - 1]);
    rings_forget(run.n - 1);
}

static void listen_again(void)
{
    bool more = ring_enable_kicks(&run.ring), expected;

    if (run.wild)
        return;
    expected = walk_listen(&run.walk);
    CHECK_EQ(more, expected);
}

static void must_tell(void)
{
    bool tell = ring_must_notify(&run.ring), sure, expected;

    if (run.wild)
        return;
    expected = walk_must_tell(&run.walk, &sure);
    if (sure)
        CHECK_EQ(tell, expected);
}

static bool in_ring(uint32_t at)
{
    const struct walk *w = &run.walk;

    return at - w->desc < 16 * w->size || at - w->avail < 6 + 2 * w->size ||
           at - w->used < 6 + 8 * w->size;
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
    CHECK_EQ(done, offset >= chain->readable_size ? 0
                   : size < chain->readable_size - offset
                       ? size
                       : chain->readable_size - offset);
    memset(bytes, fill, sizeof bytes);
    done = chain_write(chain, offset, bytes, size);
    CHECK_EQ(done, offset >= chain->writable_size ? 0
                   : size < chain->writable_size - offset
                       ? size
                       : chain->writable_size - offset);
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
            run.rude |=
                in_ring(p->at + k); /* a buffer in what the device has */
            done--;
        }
    }
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

static void step(struct input *in)
{
    switch (input_u8(in) % 16) {
    case 0:
    case 1:
        rings_offer(in);
        take();
        break;
    case 2:
        rings_offer(in);
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
        ring_disable_kicks(&run.ring);
        if (!run.wild)
            walk_quiet(&run.walk);
        break;
    case 9:
        must_tell();
        break;
    case 10:
        rings_scribble(in);
        break;
    case 11:
        rings_scribble_well(in);
        break;
    case 12:
        use_chain(in);
        break;
    case 13:
        rings_come_back(in);
        break;
    case 14:
        remap();
        break;
    case 15: /* many turns at once */
        for (unsigned n = input_u8(in) % 80; n && run.n < RINGS_MAX_CHAINS;
             n--) {
            struct input none = { in->at, in->at };

            rings_offer(&none);
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
        run.mem.region[r] =
            (struct memory_region){ .guest = walk_regions[r].guest,
                                    .user = walk_regions[r].user,
                                    .size = walk_regions[r].size,
                                    .host = run.host[r] };
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
    run.features = VIRTIO_F_VERSION_1 | (w->packed ? VIRTIO_F_RING_PACKED : 0) |
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
    avail = walk_user(run.ring.avail, w->packed ? 4 : 4 + 2 * w->size + event);
    used = walk_user(run.ring.used, w->packed ? 4 : 4 + 8 * w->size + event);
    if (desc < 0 || avail < 0 || used < 0)
        return false;
    w->desc = (uint32_t)desc;
    w->avail = (uint32_t)avail;
    w->used = (uint32_t)used;
    w->next_avail = (uint16_t)run.ring.base;
    if (w->packed) {
        w->next_avail =
            (run.ring.base & 0x7fff) + (run.ring.base & 0x8000 ? 0 : w->size);
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
            rings_store_16(w->used + 2, run.ring.base);
        w->next_used = w->next_avail;
    }
    run.offered = (uint32_t)w->next_avail;
    run.free = (uint32_t)w->next_avail;
    if (!w->packed) { /* the parts may lie over each other */
        rings_store_16(w->avail + 2, run.free);
        w->next_used = get16(w->memory + w->used + 2);
        run.tracked &= w->next_used == w->next_avail;
    }
    w->told = w->next_used;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size }, setup = input_cut(&in, 8);
    bool good;

    memset(&run, 0, sizeof run);
    good = set_up(&setup);
    rings_track();
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
                 run.walk.packed ? run.walk.next_avail % run.walk.size
                                 : run.walk.next_avail & 0x7fff);
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
