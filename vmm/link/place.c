/*
 * A device's place in the machine: its registers, its shared memory, and what
 * the transport calls when a guest writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/link/device.h"
#include "vmm/machine/fail.h"

size_t device_window_size(const struct device *device)
{
    return transport_window_size(device->is.config_size);
}

/*
 * While a back-end that may come back is away, what the guest does is kept in
 * the transport, and told to it then.
 */
static bool is_away(const struct device *device)
{
    return device->away || (device->fe.lost && device_may_return(device));
}

/* The same for one that went away in the middle of it. */
static int result(const struct device *device, int rc)
{
    return rc < 0 && rc != -ECANCELED && is_away(device) ? 0 : rc;
}

static int op_status(void *ctx, uint8_t status, uint64_t deadline)
{
    struct device *device = ctx;

    if (is_away(device))
        return 0;
    return result(device, frontend_status(&device->fe, status, deadline));
}

static int op_features(void *ctx, uint64_t features, uint8_t status,
                       bool *accepted, uint64_t deadline)
{
    struct device *device = ctx;
    int rc;

    *accepted = true;
    if (is_away(device))
        return 0;
    rc = result(device, frontend_features(&device->fe, features, status,
                                          accepted, deadline));
    if (is_away(device))
        *accepted = true;
    return rc;
}

static int op_start(void *ctx, const struct vrings *rings, uint8_t status,
                    uint64_t deadline)
{
    struct device *device = ctx;

    if (is_away(device))
        return 0;
    return result(device, frontend_start(&device->fe, rings, status, deadline));
}

static int op_ring_start(void *ctx, const struct vrings *rings, unsigned index,
                         uint64_t deadline)
{
    struct device *device = ctx;

    if (is_away(device) || device->must_reset)
        return 0;
    return result(device,
                  frontend_ring_start(&device->fe, rings, index, deadline));
}

static int op_ring_stop(void *ctx, const struct vrings *rings, unsigned index,
                        uint64_t deadline)
{
    struct device *device = ctx;

    if (is_away(device)) {
        device->torn = !device->fresh;
        return 0;
    }
    if (device->must_reset)
        return 0;
    return result(device,
                  frontend_ring_stop(&device->fe, rings, index, deadline));
}

static int op_reset(void *ctx, const struct vrings *rings, uint64_t deadline)
{
    struct device *device = ctx;
    int rc = 0;

    device->must_reset = false;
    device_drop_unsaid(device);
    if (is_away(device))
        device->fresh = true;
    else
        rc = result(device, frontend_reset(&device->fe, rings, deadline));
    shm_clear(&device->shm);
    return rc;
}

static int op_send_reset(void *ctx, const struct vrings *rings)
{
    struct device *device = ctx;

    device->must_reset = false;
    device_drop_unsaid(device);
    shm_clear(&device->shm);
    if (is_away(device)) {
        device->fresh = true;
        return 0;
    }
    return result(device, frontend_send_reset(&device->fe, rings));
}

static int op_kick(void *ctx, uint32_t index, uint64_t deadline)
{
    struct device *device = ctx;
    int rc;

    if (is_away(device))
        return 0; /* each ring gets a kick at the end of it */
    rc = frontend_kick(&device->fe, index);
    return result(device, rc < 0 ? rc : frontend_wait(&device->fe, deadline));
}

void device_drop_unsaid(struct device *device)
{
    free(device->unsaid);
    device->unsaid = NULL;
}

/* Without memory for it the write is lost, as one is that a back-end ignores.
 */
static void keep_config(struct device *device, uint32_t offset,
                        const void *data, uint32_t size)
{
    uint32_t all = device->is.config_size;

    if (!device->unsaid)
        device->unsaid = calloc(2, all);
    if (!device->unsaid)
        return;
    memcpy(device->unsaid + offset, data, size);
    memset(device->unsaid + all + offset, 1, size);
    device->transport.epoch++; /* a return that is under way begins anew */
}

static int op_config_write(void *ctx, uint32_t offset, const void *data,
                           uint32_t size, uint64_t deadline)
{
    struct device *device = ctx;
    int rc = 0;

    if (!is_away(device))
        rc = result(device, frontend_config_write(&device->fe, offset, data,
                                                  size, deadline));
    if (is_away(device))
        keep_config(device, offset, data, size);
    return rc;
}

static const struct transport_ops transport_ops = {
    .status = op_status,
    .features = op_features,
    .start = op_start,
    .ring_start = op_ring_start,
    .ring_stop = op_ring_stop,
    .reset = op_reset,
    .send_reset = op_send_reset,
    .config_write = op_config_write,
    .kick = op_kick,
    .leave = device_leave,
};

int device_place(struct device *device, const struct window *window,
                 const struct mem *mem, uint32_t gsi, int call_fd, int ack_fd,
                 struct husk_err *err)
{
    struct transport_setup setup = {
        .is = &device->is,
        .config = device->fe.config,
        .shm = device->shm.n ? &device->shm : NULL,
        .window = *window,
        .mem = mem,
        .helper = device->helper,
        .ack_fd = ack_fd,
        .deadline = device->spec.deadline,
        .ops = &transport_ops,
        .ctx = device,
    };
    int rc = frontend_check_slots(&device->fe, mem);

    if (rc < 0) {
        *err = device->fe.err;
        return rc;
    }
    /* the helper may be about to signal it when the pin's own is closed */
    device->call_fd = fcntl(call_fd, F_DUPFD_CLOEXEC, 3);
    if (device->call_fd < 0)
        return fail(err, -errno, "%s: no descriptor is left for interrupts: %s",
                    device->spec.name, strerror(errno));
    device->fe.call_fd = setup.call_fd = device->call_fd;
    rc = transport_init(&device->transport, &setup);
    if (rc < 0)
        return fail(err, rc, "%s: out of memory", device->spec.name);
    device->has_transport = true;
    device->base = window->base;
    device->gsi = gsi;
    return 0;
}

static void bus_read_op(void *ctx, uint64_t offset, void *data, unsigned size)
{
    transport_read(ctx, offset, data, size);
}

static void bus_write_op(void *ctx, uint64_t offset, const void *data,
                         unsigned size)
{
    transport_write(ctx, offset, data, size);
}

static const struct bus_ops registers = { bus_read_op, bus_write_op };

#define SHM_ALIGN (UINT64_C(1) << 21) /* so that large pages can be used */

void device_place_shm(struct device *device, gpa_t base, gpa_t *end)
{
    for (unsigned i = 0; i < device->shm.n; i++) {
        base = (base + SHM_ALIGN - 1) & ~(SHM_ALIGN - 1);
        device->shm.regions[i].base = base;
        base += device->shm.regions[i].size;
    }
    *end = base;
}

bool device_faulted(struct device *device)
{
    if (!device->has_transport || !shm_is_broken(&device->shm))
        return false;
    shm_clear(&device->shm); /* the guest goes on, over zeros */
    atomic_store(&device->faulted, true);
    transport_work(&device->transport);
    return true;
}

/*
 * An access to shared memory that left KVM_RUN: KVM could not read or write
 * what is mapped there.
 */
static void shm_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    (void)offset;
    memset(data, 0, size);
    device_faulted(ctx);
}

static void shm_write(void *ctx, uint64_t offset, const void *data,
                      unsigned size)
{
    (void)offset;
    (void)data;
    (void)size;
    device_faulted(ctx);
}

static const struct bus_ops shm_faults = { shm_read, shm_write };

static int attach_shm(struct device *device, struct machine *machine,
                      struct husk_err *err)
{
    int rc = 0;

    for (unsigned i = 0; i < device->shm.n && rc == 0; i++) {
        const struct shm_region *region = &device->shm.regions[i];

        rc = machine_add_slot(machine, region->base, region->size, region->map,
                              err);
        if (rc == 0 && (rc = bus_add(&machine->mmio, region->base, region->size,
                                     &shm_faults, device)) < 0)
            fail(err, rc, "%s: no place on the bus for shared memory: %s",
                 device->spec.name, strerror(-rc));
    }
    return rc;
}

int device_attach(struct device *device, struct machine *machine,
                  struct husk_err *err)
{
    int rc =
        bus_add(&machine->mmio, device->base, device->transport.window.size,
                &registers, &device->transport);

    if (rc < 0)
        return fail(err, rc, "%s: no place on the bus: %s", device->spec.name,
                    strerror(-rc));
    return attach_shm(device, machine, err);
}
