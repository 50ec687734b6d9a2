/* Block requests in guest memory; see blk.h. */
#include "tests/unit/blk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

void disk_init(struct disk *d)
{
    strcpy(d->path, "/tmp/husk-disk-XXXXXX");
    d->fd = mkstemp(d->path);
    cr_assert_geq(d->fd, 0);
    cr_assert_eq(ftruncate(d->fd, SECTORS * SECTOR), 0);
    snprintf(d->arg, sizeof d->arg, "--file=%s", d->path);
}

void disk_fini(struct disk *d)
{
    close(d->fd);
    unlink(d->path);
}

struct place place_of(unsigned slot)
{
    uint64_t at = VU_DATA + slot * 0x40000;

    return (struct place){ at, at + 0x800, at + 0x1000 };
}

int blk_add(struct vu_client *c, unsigned q, unsigned slot, uint32_t type,
            uint64_t sector, uint32_t len, uint32_t piece)
{
    struct place p = place_of(slot);
    struct buffer b[64];
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = { type, 0, sector };
    bool writable = type == IN || type == GET_ID;
    unsigned n = 0;

    memcpy(vu_at(c, p.header), &header, sizeof header);
    *(uint8_t *)vu_at(c, p.status) = NOTHING;
    b[n++] = (struct buffer){ p.header, sizeof header, false };
    for (uint32_t at = 0; at < len; at += piece) {
        uint32_t size = len - at < piece ? len - at : piece;

        b[n++] = (struct buffer){ p.data + at, size, writable };
        cr_assert_lt(n, 63);
    }
    b[n++] = (struct buffer){ p.status, 1, true };
    return driver_add(&c->queue[q].driver, b, n);
}

unsigned blk_status(const struct vu_client *c, unsigned slot)
{
    return *(volatile uint8_t *)vu_at(c, place_of(slot).status);
}

void blk_put_segment(const struct vu_client *c, unsigned slot, unsigned i,
                     uint64_t sector, uint32_t sectors, uint32_t flags)
{
    uint8_t *at = (uint8_t *)vu_at(c, place_of(slot).data) + i * 16;

    memcpy(at, &sector, 8);
    memcpy(at + 8, &sectors, 4);
    memcpy(at + 12, &flags, 4);
}
