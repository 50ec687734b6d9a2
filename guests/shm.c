/*
 * Looks at a shared memory region of the first device (VIRTIO 1.2, 2.10 and
 * 4.2.2) through a mapping of its own. Each word of what the test back-end maps
 * holds where it is in the region, XORed with a pattern.
 *
 *   region=N at=BYTES size=BYTES  which part is looked at; 0, 0 and a page
 *   patience=S                    seconds that a step may take, 60
 *   steps=WORD,WORD,...           in that order:
 *     zero pattern written   until all of the part reads like that
 *     write                  write all of it, in whatever place it is
 *     touch                  write a word of each page of all of the region
 *     reset start            the device, which is started before the first step
 *     lost                   read it until the device needs a reset
 *     other                  the second device answers a request
 *     hold                   wait for the console
 */
#include "virtio.h"

#define REG_SHM_SEL  0x0acu
#define REG_SHM_LEN  0x0b0u
#define REG_SHM_BASE 0x0b8u

#define PATTERN UINT64_C(0x6879646500000000)
#define WRITTEN UINT64_C(0x7772697474656e00)

#define PAGE_PRESENT  0x001u
#define PAGE_WRITABLE 0x002u
#define PAGE_LARGE    0x080u
#define PAGE_ADDRESS  UINT64_C(0x000ffffffffff000)
#define LARGE         (UINT64_C(1) << 21)

enum content { ZERO, MAPPED, CHANGED };

struct look {
    struct virtio dev;
    struct queue queue;
    uint64_t base, whole, at, size, patience;
};

static uint64_t read64(const struct virtio *dev, unsigned reg)
{
    return virtio_read(dev, reg) | (uint64_t)virtio_read(dev, reg + 4) << 32;
}

/* The table that the entry points to, made if there is none. */
static uint64_t *descend(uint64_t *entry)
{
    uint64_t *table;

    if ((*entry & PAGE_LARGE) != 0)
        exit_fail("a large page is in the way");
    if ((*entry & PAGE_PRESENT) != 0)
        return (uint64_t *)(*entry & PAGE_ADDRESS);
    table = memory_take(4096, 4096);
    memset(table, 0, 4096);
    *entry = (uintptr_t)table | PAGE_PRESENT | PAGE_WRITABLE;
    return table;
}

/* One to one, beyond what the guest was entered with. */
static void map_range(uint64_t from, uint64_t size)
{
    uint64_t *top;

    __asm__ volatile("mov %%cr3, %0" : "=r"(top));
    top = (uint64_t *)((uintptr_t)top & PAGE_ADDRESS);
    for (uint64_t at = from & ~(LARGE - 1); at < from + size; at += LARGE) {
        uint64_t *third = descend(&top[at >> 39 & 511]);
        uint64_t *second = descend(&third[at >> 30 & 511]);

        second[at >> 21 & 511] = at | PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE;
    }
}

static uint64_t word(enum content content, uint64_t offset)
{
    return content == ZERO     ? 0
           : content == MAPPED ? PATTERN ^ offset
                               : WRITTEN ^ offset;
}

static volatile uint64_t *word_at(const struct look *l, uint64_t offset)
{
    return (volatile uint64_t *)(l->base + offset);
}

/* Until the part's first word is right; then all the others are. */
static void await(const struct look *l, const char *name, enum content content)
{
    uint64_t deadline = time_after(1000 * l->patience);

    interrupts_on(); /* or there is no time */
    while (*word_at(l, l->at) != word(content, l->at))
        if (time_now() >= deadline)
            exit_fail("offset %#lx reads as %#lx, not %s", l->at,
                      *word_at(l, l->at), name);
    for (uint64_t at = l->at; at < l->at + l->size; at += 8) {
        uint64_t value = *word_at(l, at);

        if (value != word(content, at))
            exit_fail("offset %#lx reads as %#lx, not %s", at, value, name);
    }
}

static void write_all(const struct look *l)
{
    for (uint64_t at = l->at; at < l->at + l->size; at += 8)
        *word_at(l, at) = word(CHANGED, at);
}

static void touch(const struct look *l)
{
    for (uint64_t at = 0; at < l->whole; at += 4096)
        *word_at(l, at) = word(CHANGED, at);
}

static void lose(const struct look *l)
{
    uint64_t deadline = time_after(1000 * l->patience);

    interrupts_on();
    while (!virtio_needs_reset(&l->dev)) {
        for (uint64_t at = l->at; at < l->at + l->size; at += 4096)
            (void)*word_at(l, at);
        if (time_now() >= deadline)
            exit_fail("the device does not need a reset");
    }
}

static void ask_other(void)
{
    static struct virtio dev;
    static struct queue queue;
    struct segment segment = { memory_take(64, 64), 64, true };
    struct tree_walk walk;
    uint32_t used;

    tree_begin(&walk);
    if (!tree_next(&walk, &dev) || !tree_next(&walk, &dev))
        exit_fail("there is no second device");
    queue_begin(&queue, &dev);
    if (!queue_ask(&queue, &segment, 1, &used, 5000))
        exit_fail("virtio%u: no answer", dev.number);
}

static void step(struct look *l, const char *name)
{
    if (strcmp(name, "zero") == 0)
        await(l, name, ZERO);
    else if (strcmp(name, "pattern") == 0)
        await(l, name, MAPPED);
    else if (strcmp(name, "written") == 0)
        await(l, name, CHANGED);
    else if (strcmp(name, "write") == 0)
        write_all(l);
    else if (strcmp(name, "touch") == 0)
        touch(l);
    else if (strcmp(name, "reset") == 0)
        virtio_reset(&l->dev);
    else if (strcmp(name, "start") == 0)
        queue_begin(&l->queue, &l->dev);
    else if (strcmp(name, "lost") == 0)
        lose(l);
    else if (strcmp(name, "other") == 0)
        ask_other();
    else if (strcmp(name, "hold") == 0)
        uart_hold();
    else
        exit_fail("\"%s\" is no step", name);
    print("shm: %s\n", name);
}

/* The registers of the region; false if there is none. */
static bool find_region(struct look *l, uint32_t region)
{
    uint64_t size;

    virtio_write(&l->dev, REG_SHM_SEL, region);
    size = read64(&l->dev, REG_SHM_LEN);
    l->base = read64(&l->dev, REG_SHM_BASE);
    if (size == UINT64_MAX) {
        print("shm: no region %u, base %#lx\n", region, l->base);
        return false;
    }
    print("shm: region %u at %#lx of %#lx bytes\n", region, l->base, size);
    if (l->at % 8 != 0 || l->size % 8 != 0 || l->at > size ||
        l->size > size - l->at)
        exit_fail("the part is outside the region, or not of whole words");
    l->whole = size;
    map_range(l->base, size);
    return true;
}

int guest_main(void)
{
    static struct look l;
    char steps[256] = "";
    struct tree_walk walk;

    tree_begin(&walk);
    if (!tree_next(&walk, &l.dev))
        exit_fail("there is no device");
    l.at = option_number("at", 0);
    l.size = option_number("size", 4096);
    l.patience = option_number("patience", 60);
    option_text("steps", steps, sizeof steps);
    queue_begin(&l.queue, &l.dev);
    if (find_region(&l, (uint32_t)option_number("region", 0)))
        for (char *at = steps; *at != '\0';) {
            char *end = at;

            while (*end != ',' && *end != '\0')
                end++;
            if (*end == ',')
                *end++ = '\0';
            step(&l, at);
            at = end;
        }
    print("pass\n");
    return 0;
}
