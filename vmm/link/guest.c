/*
 * What a guest's accesses cause. While a back-end that may come back is not
 * there, the transport keeps what the guest does, and the back-end is told when
 * it is restored.
 */
#include "vmm/link/guest.h"

#include <errno.h>

#include "vmm/link/device.h"

/* No back-end is there, or no longer, and one may come back. */
static bool is_disconnected(const struct device *device)
{
    return !device_is_connected(device) ||
           (device->fe.lost && device_may_return(device));
}

/* The same for one that went in the middle of the call. */
static int result(const struct device *device, int rc)
{
    return rc < 0 && rc != -ECANCELED && is_disconnected(device) ? 0 : rc;
}

static int op_status(void *ctx, uint8_t status, uint64_t deadline)
{
    struct device *device = ctx;

    if (is_disconnected(device))
        return 0;
    return result(device, frontend_status(&device->fe, status, deadline));
}

static int op_features(void *ctx, uint64_t features, uint8_t status,
                       bool *accepted, uint64_t deadline)
{
    struct device *device = ctx;
    int rc = 0;

    if (!is_disconnected(device))
        rc = result(device, frontend_features(&device->fe, features, status,
                                              accepted, deadline));
    if (is_disconnected(device)) /* one that refuses them cannot be restored */
        *accepted = true;
    return rc;
}

static int op_start(void *ctx, const struct vrings *rings, uint8_t status,
                    uint64_t deadline)
{
    struct device *device = ctx;

    if (is_disconnected(device))
        return 0;
    recovery_given(&device->recovery);
    return result(device, frontend_start(&device->fe, rings, status, deadline));
}

static int op_ring_start(void *ctx, const struct vrings *rings, unsigned index,
                         uint64_t deadline)
{
    struct device *device = ctx;

    if (is_disconnected(device) || recovery_waits_for_reset(&device->recovery))
        return 0;
    recovery_given(&device->recovery);
    return result(device,
                  frontend_ring_start(&device->fe, rings, index, deadline));
}

static int op_ring_stop(void *ctx, const struct vrings *rings, unsigned index,
                        uint64_t deadline)
{
    struct device *device = ctx;

    if (is_disconnected(device)) {
        recovery_ring_reset(&device->recovery, &device->fe);
        return 0;
    }
    if (recovery_waits_for_reset(&device->recovery))
        return 0;
    return result(device,
                  frontend_ring_stop(&device->fe, rings, index, deadline));
}

static int op_reset(void *ctx, const struct vrings *rings, uint64_t deadline)
{
    struct device *device = ctx;
    int rc = 0;

    recovery_reset(&device->recovery);
    if (!is_disconnected(device))
        rc = result(device, frontend_reset(&device->fe, rings, deadline));
    shm_clear(&device->shm);
    return rc;
}

static int op_send_reset(void *ctx, const struct vrings *rings)
{
    struct device *device = ctx;

    recovery_reset(&device->recovery);
    shm_clear(&device->shm);
    if (is_disconnected(device))
        return 0;
    return result(device, frontend_send_reset(&device->fe, rings));
}

static int op_kick(void *ctx, uint32_t index, uint64_t deadline)
{
    struct device *device = ctx;
    int rc;

    if (is_disconnected(device))
        return 0; /* each ring gets a kick when the back-end is restored */
    rc = frontend_kick(&device->fe, index);
    return result(device, rc < 0 ? rc : frontend_wait(&device->fe, deadline));
}

static int op_config_write(void *ctx, uint32_t offset, const void *data,
                           uint32_t size, uint64_t deadline)
{
    struct device *device = ctx;
    int rc = 0;

    if (!is_disconnected(device))
        rc = result(device, frontend_config_write(&device->fe, offset, data,
                                                  size, deadline));
    if (is_disconnected(device))
        recovery_config(&device->recovery, &device->transport, offset, data,
                        size);
    return rc;
}

const struct transport_ops guest_ops = {
    .status = op_status,
    .features = op_features,
    .start = op_start,
    .ring_start = op_ring_start,
    .ring_stop = op_ring_stop,
    .reset = op_reset,
    .send_reset = op_send_reset,
    .config_write = op_config_write,
    .kick = op_kick,
};
