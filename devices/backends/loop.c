/*
 * husk-loop: a device of a type that VIRTIO does not assign, for tests that
 * depend on no type. It copies a chain's readable part into its writable part,
 * and fills a chain without a readable part with 0xa5. Config space is of any
 * size and keeps what the driver writes; SIGHUP adds one to each of its bytes
 * and notifies the driver.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/backends/runtime.h"

#define FILL 0xa5

static int set_id(struct device *dev, const char *value)
{
    uint64_t id;

    if (parse_number("id", value, 1, UINT32_MAX, &id) < 0)
        return -1;
    dev->shape.id = (uint32_t)id;
    return 0;
}

static int set_config_size(struct device *dev, const char *value)
{
    uint64_t size;

    if (parse_number("config-size", value, 0, DEVICE_MAX_CONFIG, &size) < 0)
        return -1;
    dev->shape.config_size = (uint32_t)size;
    for (uint32_t i = 0; i < size; i++)
        dev->config[i] = (uint8_t)i;
    return 0;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) & 15 : -1;
}

static int set_config(struct device *dev, const char *value)
{
    size_t size = strlen(value) / 2;

    if (strlen(value) % 2 || size > DEVICE_MAX_CONFIG)
        return complain(
            "--config: give an even number of hexadecimal digits, at "
            "most %u bytes",
            DEVICE_MAX_CONFIG);
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(value[2 * i]), low = hex_digit(value[2 * i + 1]);

        if (high < 0 || low < 0)
            return complain(
                "--config: byte %zu is not hexadecimal: give digits such "
                "as 00ff",
                i);
        dev->config[i] = (uint8_t)(high << 4 | low);
    }
    dev->shape.config_size = (uint32_t)size;
    return 0;
}

static int loop_write_config(struct device *dev, uint32_t offset,
                             const void *data, uint32_t size)
{
    memcpy(dev->config + offset, data, size);
    return 0;
}

static void loop_hangup(struct device *dev)
{
    for (uint32_t i = 0; i < dev->shape.config_size; i++)
        dev->config[i]++;
    device_config_changed(dev);
}

/* The chain's readable bytes to its writable ones, as far as both go. */
static size_t echo(struct chain *chain)
{
    uint8_t bytes[4096];
    size_t done = 0;

    while (done < chain->writable_size) {
        size_t n = chain_read(chain, done, bytes, sizeof bytes);

        if (!n || !(n = chain_write(chain, done, bytes, n)))
            break;
        done += n;
    }
    return done;
}

static size_t fill(struct chain *chain)
{
    for (unsigned i = 0; i < chain->n_writable; i++)
        memset(chain->writable[i].iov_base, FILL, chain->writable[i].iov_len);
    return chain->writable_size;
}

static void loop_handle(struct queue *queue)
{
    struct chain *chain;

    while ((chain = queue_take(queue))) {
        size_t done = chain->readable_size ? echo(chain) : fill(chain);

        queue_give(queue, chain, (uint32_t)done);
    }
}

static const struct backend_option options[] = {
    { "id", "N", "VIRTIO device type; 63", set_id },
    { "queues", "N", "number of queues, 1 to 256; 1", device_set_queues },
    { "config-size", "N", "size of config space, filled with 0, 1, 2, ...; 0",
      set_config_size },
    { "config", "HEX", "config space has these bytes", set_config },
    { 0 },
};

static const struct backend loop = {
    .type = "loop",
    .about = "A device of an unassigned type that echoes",
    .options = options,
    .shape = { .id = 63, .min_vqs = 1, .max_vqs = 1 },
    .handle = loop_handle,
    .write_config = loop_write_config,
    .hangup = loop_hangup,
};

int main(int argc, char **argv)
{
    return backend_main(&loop, NULL, argc, argv);
}
