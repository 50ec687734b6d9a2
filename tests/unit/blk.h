/*
 * Requests to a block device for the tests of husk-block: a disk in a file,
 * and a place in guest memory for each of several requests at a time.
 */
#ifndef HUSK_TESTS_BLK_H
#define HUSK_TESTS_BLK_H

#include <stdint.h>

#include "tests/unit/vu_client.h"

#define SECTOR  512u
#define SECTORS 4096u /* of the disk */

#define F_RO         (UINT64_C(1) << 5)
#define F_FLUSH      (UINT64_C(1) << 9)
#define F_CONFIG_WCE (UINT64_C(1) << 11)
#define F_MQ         (UINT64_C(1) << 12)

enum { IN, OUT, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK, IOERR, UNSUPP, NOTHING = 0xee }; /* NOTHING: not answered yet */

struct disk {
    char path[64], arg[96]; /* arg: --file=PATH */
    int fd;
};

void disk_init(struct disk *d);
void disk_fini(struct disk *d);

/* Where the request of that number lies: header, status, data. */
struct place {
    uint64_t header, status, data;
};

struct place place_of(unsigned slot);

/* Make a request available on queue q; its data in pieces of that length. */
int blk_add(struct vu_client *c, unsigned q, unsigned slot, uint32_t type,
            uint64_t sector, uint32_t len, uint32_t piece);

unsigned blk_status(const struct vu_client *c, unsigned slot);

/* Segment i of the request in that slot, for DISCARD and WRITE_ZEROES. */
void blk_put_segment(const struct vu_client *c, unsigned slot, unsigned i,
                     uint64_t sector, uint32_t sectors, uint32_t flags);

#endif
