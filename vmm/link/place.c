/* A device's place in the machine: its registers and its shared memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/link/device.h"
#include "vmm/link/guest.h"
#include "vmm/machine/fail.h"

size_t device_window_size(const struct device *device)
{
    return transport_window_size(device->is.config_size);
}

int device_place(struct device *device, const struct window *window,
                 const struct mem *mem, uint32_t gsi, int call_fd, int ack_fd,
                 struct husk_err *err)
{
    struct transport_setup setup = {
        .box = &device->box,
        .is = &device->is,
        .config = device->fe.config,
        .shm = device->shm.n ? &device->shm : NULL,
        .window = *window,
        .mem = mem,
        .helper = device->helper,
        .ack_fd = ack_fd,
        .deadline = device->spec.deadline,
        .ops = &guest_ops,
        .ctx = device,
    };
    int rc;

    if (device->state != DEVICE_KNOWN)
        return fail(err, -ENOTCONN, "%s: no back-end is connected",
                    device->spec.name);
    rc = frontend_check_slots(&device->fe, mem);
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
    device->base = window->base;
    device->gsi = gsi;
    device_serve(device);
    return 0;
}

int device_check(struct device *device, const struct mem *mem,
                 struct husk_err *err)
{
    struct frontend *fe = &device->fe;

    frontend_check_slots(fe, mem);
    if (fe->lost)
        *err = fe->err;
    return fe->lost ? fe->err.code : 0;
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

static void lose_shm(struct device *device, enum shm_loss loss)
{
    shm_clear(&device->shm); /* the guest goes on, over zeros */
    atomic_store(&device->shm_loss, (int)loss);
    mailbox_post(&device->box, DEVICE_NOTE_FAULTED);
}

bool device_check_shm(struct device *device)
{
    enum shm_loss loss = shm_is_broken(&device->shm)    ? SHM_CUT
                         : shm_is_starved(&device->shm) ? SHM_NO_PAGE
                                                        : SHM_KEPT;

    if (loss == SHM_KEPT)
        return false;
    lose_shm(device, loss);
    return true;
}

bool device_faulted(struct device *device, gpa_t gpa, bool again)
{
    enum shm_loss loss;
    bool found = shm_fault(&device->shm, gpa, again, &loss);

    if (loss != SHM_KEPT)
        lose_shm(device, loss);
    return found;
}

/* An access to shared memory that left KVM_RUN: nothing is mapped there, or KVM
 * could not do it. */
static void access_shm(struct shm_region *region, uint64_t offset, void *data,
                       unsigned size, bool write)
{
    struct device *device = region->ctx;

    if (!shm_access(&device->shm, region, offset, data, size, write) &&
        !device_check_shm(device))
        lose_shm(device, SHM_NO_PAGE);
}

static void shm_read(void *ctx, uint64_t offset, void *data, unsigned size)
{
    access_shm(ctx, offset, data, size, false);
}

static void shm_write(void *ctx, uint64_t offset, const void *data,
                      unsigned size)
{
    uint8_t copy[8];

    memcpy(copy, data, size);
    access_shm(ctx, offset, copy, size, true);
}

static const struct bus_ops shm_accesses = { shm_read, shm_write };

static int set_shm_slot(void *ctx, uint32_t slot, gpa_t base, uint64_t size,
                        void *host)
{
    return machine_set_slot(ctx, slot, base, size, host);
}

static int attach_shm(struct device *device, struct machine *machine,
                      struct husk_err *err)
{
    struct shm_slots slots = { set_shm_slot, machine };
    struct shm *shm = &device->shm;
    int rc = 0;

    for (unsigned i = 0; i < shm->n && rc == 0; i++) {
        struct shm_region *region = &shm->regions[i];

        region->ctx = device;
        rc = bus_add(&machine->mmio, region->base, region->size, &shm_accesses,
                     region);
        if (rc < 0)
            fail(err, rc, "%s: no place on the bus for shared memory: %s",
                 device->spec.name, strerror(-rc));
    }
    if (rc < 0 || !shm->n)
        return rc;
    rc = shm_attach(shm, &slots,
                    machine_reserve_slots(machine, shm->n * SHM_SLOTS));
    return rc < 0 ? fail(err, rc, "%s: memory slots for shared memory: %s",
                         device->spec.name, strerror(-rc))
                  : 0;
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
