/*
 * Does one request on the first device and reboots, until it has booted often
 * enough. Nothing in the machine outlives a reset but the devices, so the count
 * lies in the first four bytes of a writable config space: three bytes that
 * say that it is one, and the number of boots so far.
 *
 *   boots=N      power off at the Nth boot, 2 to 255; without it reboot always
 *   by=triple    reset by a triple fault and not by the keyboard controller
 *   then=exit    end by the exit port and not by the power-off port
 *   hold         wait for the console at the second boot and at the last
 *   packed event-idx indirect
 */
#include "virtio.h"

#define MARK        0x626f6f00u
#define BUFFER_SIZE 64u
#define PATIENCE    30000u

static void request(struct queue *q)
{
    struct segment segment = { memory_take(BUFFER_SIZE, 64), BUFFER_SIZE,
                               true };
    uint32_t used;

    if (!queue_ask(q, &segment, 1, &used, PATIENCE))
        exit_fail("virtio%u queue 0: no answer", q->dev->number);
}

static uint32_t count_boot(const struct virtio *dev)
{
    uint64_t deadline = time_after(PATIENCE);
    uint32_t word, again;

    virtio_config_read(dev, 0, &word, sizeof word);
    if ((word & 0xffffff00u) != MARK)
        word = MARK;
    word++;
    virtio_config_write(dev, 0, &word, sizeof word, 4);
    /* a back-end that has just come back may take it a moment later */
    interrupts_on(); /* or there is no time */
    do {
        virtio_config_read(dev, 0, &again, sizeof again);
    } while (again != word && time_now() < deadline);
    interrupts_off();
    if (again != word)
        exit_fail("config space of virtio%u holds %#x and not %#x", dev->number,
                  again, word);
    return word & 0xff;
}

static bool option_is(const char *name, const char *value)
{
    char text[16];

    return option_text(name, text, sizeof text) && strcmp(text, value) == 0;
}

int guest_main(void)
{
    uint64_t boots = option_number("boots", 0);
    struct virtio dev;
    struct queue queue;

    if (boots == 1 || boots > 255)
        exit_fail("boots is 2 to 255");
    if (!tree_find(&dev, 0, boots != 0))
        exit_fail(boots != 0 ? "no device has a config space"
                             : "there is no device");
    queue_begin(&queue, &dev);
    request(&queue);
    if (boots != 0) {
        uint32_t boot = count_boot(&dev);

        print("reboot: boot %u of %lu\n", boot, boots);
        if (option_flag("hold") && (boot == 2 || boot == boots))
            uart_hold();
        if (boot >= boots) {
            print("pass\n");
            if (option_is("then", "exit"))
                return 0;
            exit_power_off();
        }
    } else {
        print("reboot: again\n");
    }
    if (option_is("by", "triple"))
        exit_triple_fault();
    exit_reset();
}
