/*
 * Writes a block device (VIRTIO 1.2, 5.2) and reads it back over all its
 * queues, asleep while requests are under way. Every sector begins with 16
 * bytes that hold its number; no more of it is looked at.
 *
 *   size=BYTES chunk=BYTES   8 MiB and 64 KiB; multiples of 512
 *   queues=N depth=N         all of them, 8 requests in all, or what one holds
 *   patience=S               seconds without any answer, 60
 *   only-read                what an earlier guest wrote; takes read-only disks
 *   endless                  all of it again and again until console input
 *   packed event-idx indirect
 */
#include "virtio.h"

#define ID_BLOCK      2u
#define FEATURE_RO    (UINT64_C(1) << 5)
#define FEATURE_FLUSH (UINT64_C(1) << 9)
#define FEATURE_MQ    (UINT64_C(1) << 12)

#define CONFIG_CAPACITY 0u
#define CONFIG_QUEUES   34u

#define TYPE_IN     0u
#define TYPE_OUT    1u
#define TYPE_FLUSH  4u
#define TYPE_GET_ID 8u

#define SECTOR    512u
#define DEPTH_MAX 32u
#define ID_SIZE   20u
#define PATTERN   UINT64_C(0x6b636f6c62206120)

struct request {
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t status;
};

struct disk {
    struct virtio dev;
    struct queue queues[QUEUES_MAX];
    unsigned n_queues;
    struct request requests[DEPTH_MAX];
    uint8_t *data; /* chunk bytes for each request */
    uint32_t chunk, depth;
    uint64_t patience; /* milliseconds */
};

static void put_stamps(uint8_t *data, uint64_t sector, uint32_t size)
{
    for (uint8_t *end = data + size; data < end; data += SECTOR, sector++) {
        ((uint64_t *)(void *)data)[0] = sector;
        ((uint64_t *)(void *)data)[1] = sector ^ PATTERN;
    }
}

static void clear_stamps(uint8_t *data, uint32_t size)
{
    for (uint8_t *end = data + size; data < end; data += SECTOR) {
        ((uint64_t *)(void *)data)[0] = 0;
        ((uint64_t *)(void *)data)[1] = 0;
    }
}

static void check_stamps(const uint8_t *data, uint64_t sector, uint32_t size)
{
    for (const uint8_t *end = data + size; data < end;
         data += SECTOR, sector++) {
        const uint64_t *words = (const uint64_t *)(const void *)data;

        if (words[0] != sector || words[1] != (sector ^ PATTERN))
            exit_fail("sector %lu reads as %016lx %016lx", sector, words[0],
                      words[1]);
    }
}

static bool send(struct disk *d, struct queue *q, uint32_t number,
                 uint32_t type, uint64_t sector, uint32_t size)
{
    struct request *r = &d->requests[number];
    struct segment segments[3] = {
        { r, 16, false },
        { d->data + (uint64_t)number * d->chunk, size, type != TYPE_OUT },
        { &r->status, 1, true },
    };

    r->type = type;
    r->reserved = 0;
    r->sector = sector;
    r->status = 0xff;
    if (size == 0)
        segments[1] = segments[2];
    return queue_add(q, segments, size == 0 ? 2 : 3, number);
}

static void judge(const struct disk *d, uint32_t number, uint32_t used,
                  uint32_t wanted)
{
    const struct request *r = &d->requests[number];
    uint8_t status = *(const volatile uint8_t *)&r->status;

    if (status != 0)
        exit_fail("request %u at sector %lu: status %u", r->type, r->sector,
                  status);
    if (used < wanted)
        exit_fail("request %u at sector %lu: %u bytes of %u", r->type,
                  r->sector, used, wanted);
}

/* Start the chunk at the byte offset; its request's number is free. */
static void start_chunk(struct disk *d, uint32_t number, uint32_t type,
                        uint64_t offset, uint64_t end)
{
    struct queue *q = &d->queues[offset / d->chunk % d->n_queues];
    uint8_t *data = d->data + (uint64_t)number * d->chunk;
    uint32_t size =
        end - offset < d->chunk ? (uint32_t)(end - offset) : d->chunk;

    if (type == TYPE_OUT)
        put_stamps(data, offset / SECTOR, size);
    else
        clear_stamps(data, size);
    if (!send(d, q, number, type, offset / SECTOR, size))
        exit_fail("queue %u has no room", q->index);
    queue_kick(q);
}

static void finish_chunk(struct disk *d, uint32_t number, uint32_t type,
                         uint32_t used, uint64_t end)
{
    uint64_t sector = d->requests[number].sector;
    uint64_t left = end - sector * SECTOR;
    uint32_t size = left < d->chunk ? (uint32_t)left : d->chunk;

    judge(d, number, used, type == TYPE_IN ? size + 1 : 0);
    if (type == TYPE_IN)
        check_stamps(d->data + (uint64_t)number * d->chunk, sector, size);
}

static void transfer(struct disk *d, uint32_t type, uint64_t size)
{
    uint64_t next = 0, done = 0;
    uint32_t number, used;

    for (number = 0; number < d->depth && next < size; number++) {
        start_chunk(d, number, type, next, size);
        next += d->chunk;
    }
    while (done < size) {
        if (!virtio_wait(&d->dev, time_after(d->patience)))
            exit_fail("no interrupt within %lu ms, %lu of %lu bytes done",
                      d->patience, done, size);
        for (unsigned i = 0; i < d->n_queues; i++)
            while (queue_get(&d->queues[i], &number, &used)) {
                finish_chunk(d, number, type, used, size);
                done += d->chunk;
                if (next < size) {
                    start_chunk(d, number, type, next, size);
                    next += d->chunk;
                }
            }
    }
}

/* A request alone, on queue 0; its status. */
static uint8_t single(struct disk *d, uint32_t type, uint32_t size)
{
    uint32_t number, used;

    if (!send(d, &d->queues[0], 0, type, 0, size))
        exit_fail("queue 0 has no room");
    queue_kick(&d->queues[0]);
    do {
        if (!virtio_wait(&d->dev, time_after(d->patience)))
            exit_fail("request %u is not answered", type);
    } while (!queue_get(&d->queues[0], &number, &used));
    return *(volatile uint8_t *)&d->requests[0].status;
}

static void print_id(struct disk *d)
{
    char id[ID_SIZE + 1];
    uint8_t status;

    memset(d->data, 0, ID_SIZE);
    status = single(d, TYPE_GET_ID, ID_SIZE);
    memcpy(id, d->data, ID_SIZE);
    id[ID_SIZE] = '\0';
    if (status == 0)
        print("block: id %s\n", id);
    else
        print("block: no id, status %u\n", status);
}

static void begin(struct disk *d)
{
    uint64_t wanted = virtio_wanted() | FEATURE_FLUSH | FEATURE_MQ;
    uint64_t limit = option_number("queues", QUEUES_MAX);
    const char *error = virtio_open(&d->dev);
    uint16_t config_queues = 1;

    if (error == NULL && (d->dev.offered & FEATURE_RO) != 0 &&
        !option_flag("only-read"))
        error = "is read-only";
    if (error == NULL)
        error = virtio_negotiate(&d->dev, wanted);
    if (error != NULL)
        exit_fail("virtio%u: %s", d->dev.number, error);
    if ((d->dev.accepted & FEATURE_MQ) != 0)
        virtio_config_read(&d->dev, CONFIG_QUEUES, &config_queues, 2);
    d->n_queues =
        config_queues < d->dev.n_queues ? config_queues : d->dev.n_queues;
    if (d->n_queues > limit)
        d->n_queues = (unsigned)limit;
    if (d->n_queues == 0)
        exit_fail("no queue to use");
    for (unsigned i = 0; i < d->n_queues; i++) {
        error = queue_init(&d->queues[i], &d->dev, i, 4 * DEPTH_MAX);
        if (error != NULL)
            exit_fail("virtio%u queue %u: %s", d->dev.number, i, error);
        /* answers in any order may bring all requests onto one queue */
        while (d->depth > 1 && d->queues[i].size < 3 * d->depth)
            d->depth--;
    }
    virtio_start(&d->dev);
}

int guest_main(void)
{
    static struct disk d;
    uint64_t size = option_number("size", 8u << 20);
    uint64_t chunk = option_number("chunk", 64u << 10);
    uint64_t depth = option_number("depth", 8);
    uint64_t capacity;
    char c;

    if (depth == 0 || depth > DEPTH_MAX)
        exit_fail("depth is 1 to %u", DEPTH_MAX);
    if (chunk == 0 || chunk % SECTOR != 0 || chunk > 16u << 20 || size == 0 ||
        size % SECTOR != 0)
        exit_fail("size and chunk are multiples of %u", SECTOR);
    d.chunk = (uint32_t)chunk;
    d.depth = (uint32_t)depth;
    d.patience = 1000 * option_number("patience", 60);
    if (!tree_find(&d.dev, ID_BLOCK, false))
        exit_fail("there is no block device");
    begin(&d);
    d.data = memory_take(chunk * depth, 4096);
    virtio_config_read(&d.dev, CONFIG_CAPACITY, &capacity, sizeof capacity);
    print("block: %lu sectors, %u queues, features %#lx\n", capacity,
          d.n_queues, d.dev.accepted);
    if (size / SECTOR > capacity)
        size = capacity * SECTOR;

    do {
        if (!option_flag("only-read")) {
            transfer(&d, TYPE_OUT, size);
            if ((d.dev.accepted & FEATURE_FLUSH) != 0 &&
                single(&d, TYPE_FLUSH, 0) != 0)
                exit_fail("flush failed");
        }
        transfer(&d, TYPE_IN, size);
    } while (option_flag("endless") && !uart_read(&c));
    print_id(&d);
    if (virtio_needs_reset(&d.dev))
        exit_fail("virtio%u: needs reset", d.dev.number);
    if (option_flag("only-read"))
        print("block: read %lu bytes, pass\n", size);
    else
        print("block: wrote %lu bytes, read %lu bytes, pass\n", size, size);
    return 0;
}
