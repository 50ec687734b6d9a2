/*
 * Watches the config space of the first device that has one.
 *
 *   changes=N      end after so many config interrupts (0: none, the default)
 *   patience=S     seconds to wait for each, 30
 *   write=OFF:HEX  write these bytes first and read them back; width=1, 2 or 4
 *   late=S        that they read back only after so many seconds is no failure
 *   uniform        all bytes must be equal, else the config was torn
 *   load           keep requests on queue 0 under way meanwhile
 *   poll           read all the time instead of sleeping until an interrupt
 *   quiet          do not print each change
 */
#include "virtio.h"

#define BUFFER_SIZE 64u
#define DEPTH       4u

struct watch {
    struct virtio dev;
    struct queue queue;
    uint8_t *config, *buffers;
    uint64_t reads, answers;
    bool uniform, load, quiet;
};

static void print_config(const struct watch *w, const char *what,
                         uint32_t generation)
{
    print("config %s: generation %u bytes ", what, generation);
    print_hex(w->config, w->dev.config_size);
    print("\n");
}

static uint32_t read_config(struct watch *w)
{
    uint32_t generation = virtio_config_snapshot(&w->dev, w->config);

    w->reads++;
    for (uint32_t i = 1; w->uniform && i < w->dev.config_size; i++)
        if (w->config[i] != w->config[0]) {
            print_config(w, "torn", generation);
            exit_fail("byte %u is %#x and byte 0 is %#x", i, w->config[i],
                      w->config[0]);
        }
    return generation;
}

static void ask(struct watch *w, uint32_t number)
{
    struct segment segment = { w->buffers + BUFFER_SIZE * number, BUFFER_SIZE,
                               true };

    if (!queue_add(&w->queue, &segment, 1, number))
        exit_fail("queue 0 has no room for %u requests", DEPTH);
}

static void serve_load(struct watch *w)
{
    uint32_t number, size;
    bool any = false;

    while (queue_get(&w->queue, &number, &size)) {
        w->answers++;
        ask(w, number);
        any = true;
    }
    if (any)
        queue_kick(&w->queue);
}

static void begin(struct watch *w)
{
    const char *error = virtio_open(&w->dev);

    if (error == NULL)
        error = virtio_negotiate(&w->dev, virtio_wanted());
    if (error == NULL && w->load)
        error = queue_init(&w->queue, &w->dev, 0, 2 * DEPTH);
    if (error != NULL)
        exit_fail("virtio%u: %s", w->dev.number, error);
    virtio_start(&w->dev);
    if (!w->load)
        return;
    w->buffers = memory_take(DEPTH * BUFFER_SIZE, 64);
    for (uint32_t i = 0; i < DEPTH; i++)
        ask(w, i);
    queue_kick(&w->queue);
}

static void write_config(struct watch *w)
{
    char text[1100];
    uint8_t bytes[512];
    uint64_t width = option_number("width", 1);
    uint64_t late = option_number("late", 0), deadline;
    uint32_t generation;
    unsigned long offset;
    char *end;
    size_t size;

    if (!option_text("write", text, sizeof text))
        return;
    offset = strtoul(text, &end, 0);
    if (end == text || *end != ':')
        exit_fail("write is OFFSET:HEX");
    size = option_hex(end + 1, bytes, sizeof bytes);
    if ((width != 1 && width != 2 && width != 4) || size % width != 0 ||
        offset % width != 0)
        exit_fail("width is 1, 2 or 4 and divides offset and size");
    if (offset > w->dev.config_size || size > w->dev.config_size - offset)
        exit_fail("write goes past the end of config space");
    if (late > 0)
        interrupts_on(); /* or there is no time */
    deadline = time_after(1000 * late);
    virtio_config_write(&w->dev, (unsigned)offset, bytes, size,
                        (unsigned)width);
    do {
        generation = virtio_config_snapshot(&w->dev, w->config);
    } while (memcmp(w->config + offset, bytes, size) != 0 && late > 0 &&
             time_now() < deadline);
    print_config(w, "written", generation);
    if (memcmp(w->config + offset, bytes, size) != 0)
        exit_fail("what was written does not read back");
}

/* Until the next config interrupt; config space is read at least once after. */
static void await_change(struct watch *w, uint64_t patience, bool poll)
{
    uint32_t before = w->dev.config_changes;
    uint64_t deadline = time_after(patience * 1000);

    while (w->dev.config_changes == before) {
        bool came = virtio_wait(&w->dev, poll ? 0 : deadline);

        if (virtio_needs_reset(&w->dev))
            exit_fail("virtio%u: needs reset", w->dev.number);
        if (came && w->load)
            serve_load(w);
        if (poll)
            read_config(w);
        if (time_now() >= deadline)
            exit_fail("no config interrupt within %lu seconds", patience);
    }
}

int guest_main(void)
{
    static struct watch w;
    uint64_t changes = option_number("changes", 0);
    uint64_t patience = option_number("patience", 30);
    bool poll = option_flag("poll");

    w.uniform = option_flag("uniform");
    w.load = option_flag("load");
    w.quiet = option_flag("quiet");
    if (!tree_find(&w.dev, 0, true))
        exit_fail("no device has a config space");
    w.config = memory_take(w.dev.config_size, 8);
    begin(&w);
    print_config(&w, "ready", read_config(&w));
    write_config(&w);
    for (uint64_t n = 1; n <= changes; n++) {
        uint32_t generation;

        await_change(&w, patience, poll);
        generation = read_config(&w);
        if (!w.quiet)
            print_config(&w, "change", generation);
    }
    print("config: %lu changes, %lu reads, %lu answers\n", changes, w.reads,
          w.answers);
    print("pass\n");
    return 0;
}
