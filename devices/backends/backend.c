/* What devices have in common before anyone connects; see backend.h. */
#include "devices/backends/backend.h"

#include <endian.h>
#include <string.h>

#include "devices/backends/complain.h"

int device_set_queues(struct device *dev, const char *value)
{
    uint64_t queues;

    if (parse_number("queues", value, 1, DEVICE_MAX_QUEUES, &queues) < 0)
        return -1;
    dev->shape.max_vqs = (uint32_t)queues;
    return 0;
}

void device_put16(struct device *dev, unsigned at, uint16_t value)
{
    value = htole16(value);
    memcpy(dev->config + at, &value, sizeof value);
}

void device_put32(struct device *dev, unsigned at, uint32_t value)
{
    value = htole32(value);
    memcpy(dev->config + at, &value, sizeof value);
}

void device_put64(struct device *dev, unsigned at, uint64_t value)
{
    value = htole64(value);
    memcpy(dev->config + at, &value, sizeof value);
}
