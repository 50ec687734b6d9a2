/*
 * Back-ends that die in the rings' harness: see rings.h. All that was in flight
 * must come again, in its order, if the driver has kept to the rules; if it has
 * not, or the record was written to, nothing may be worse than a broken ring.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/bytes.h"
#include "devices/backends/packed.h"
#include "devices/backends/split.h"
#include "tests/fuzz/rings.h"

#define MAX_SIZE 256u

static struct walk_chain spare;

void rings_track(void)
{
    if (!run.tracked)
        return;
    run.area = (struct vu_inflight){ .num_queues = 2, .queue_size = MAX_SIZE };
    CHECK_EQ(inflight_create(&run.inflight, &run.area, &run.area_fd), 0);
    inflight_attach(&run.record, &run.inflight, 0);
    run.ring.inflight = &run.record;
}

/* Whether the record can tell all that was in flight: the driver has kept off
 * what the device owns, and named no head twice. */
static bool is_told(void)
{
    const struct walk *w = &run.walk;

    if (run.wild || w->broken)
        return false;
    return w->packed || (!run.twice && get16(w->memory + w->used + 2) ==
                                           (uint16_t)w->next_used);
}

/* What a table says now counts, where the record has but its address. */
static void copy_pieces(struct walk_chain *to, const struct chain *chain)
{
    to->n = chain->n_readable + chain->n_writable;
    for (unsigned i = 0; i < to->n; i++) {
        const uint8_t *base = chain->iov[i].iov_base;
        unsigned r = 0;

        while (base < run.host[r] || base >= run.host[r] + walk_regions[r].size)
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
        memcpy(&spare, before[i], walk_size(before[i]));
        if (!run.walk.packed)
            good = walk_split(&run.walk, before[i]->id, &spare);
        if (run.walk.packed && run.walk.indirect && !chain) {
            run.wild = true;
            return;
        }
        CHECK_EQ(chain != NULL, good);
        if (!chain)
            break;
        CHECK(chain->resubmitted);
        CHECK_EQ(chain->id, spare.id);
        CHECK_EQ(chain->slots, spare.slots);
        rings_check_in_memory(chain);
        if (run.walk.packed && run.walk.indirect)
            copy_pieces(&spare, chain);
        rings_check(chain, &spare);
        rings_keep(chain, &spare);
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
    rings_forget(index);
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
void rings_come_back(struct input *in)
{
    struct walk_chain *before[RINGS_MAX_CHAINS];
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
    run.ring = (struct ring){ .size = gone.size,
                              .desc = gone.desc,
                              .avail = gone.avail,
                              .used = gone.used,
                              .inflight = &run.record };
    run.ring.base = run.walk.packed
                        ? 0x80008000
                        : get16(run.walk.memory + run.walk.used + 2);
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
