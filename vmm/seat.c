/*
 * Where devices sit: each gets a piece of the register window, an interrupt
 * pin, and places for its shared memory, above RAM.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "devices/doorbell.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"
#include "vmm/vm.h"

/* One interrupt pin: a call eventfd for all the devices that share it. */
static int pin_eventfd(struct husk_vm *vm, unsigned index, struct husk_err *err)
{
    unsigned pin = index % arch_virtio_pins();

    if (vm->pin_fd[pin] < 0) {
        vm->pin_fd[pin] = sys_eventfd();
        if (vm->pin_fd[pin] < 0)
            return fail(err, vm->pin_fd[pin], "eventfd: %s",
                        strerror(-vm->pin_fd[pin]));
    }
    return vm->pin_fd[pin];
}

/* Devices and pins on the machine, whichever boot it is for. */
int vm_attach_devices(struct husk_vm *vm, struct husk_err *err)
{
    int rc = 0;

    for (unsigned i = 0; i < vm->n_devices && rc == 0; i++) {
        if (i < arch_virtio_pins()) {
            doorbell_take(vm->pin_fd[i]); /* an interrupt for an earlier boot */
            rc = machine_irqfd(&vm->machine, vm->pin_fd[i], arch_virtio_pin(i),
                               err);
        }
        if (rc == 0)
            rc = device_attach(vm->devices[i], &vm->machine, err);
    }
    return rc;
}

#define SHM_FLOOR UINT64_C(0x100000000) /* above RAM and above the hole */

/* Shared memory lies above RAM, a device's regions after another's. */
int vm_place_shm(struct husk_vm *vm, struct husk_err *err)
{
    const struct mem *mem = &vm->mem;
    gpa_t end = SHM_FLOOR;
    struct mem plan;

    if (!mem->map) { /* before a start */
        mem_plan(&plan, vm->config.memory, arch_hole_start, arch_hole_end);
        mem = &plan;
    }
    for (unsigned i = 0; i < mem->n_regions; i++)
        if (mem->region[i].base + mem->region[i].size > end)
            end = mem->region[i].base + mem->region[i].size;
    for (unsigned i = 0; i < vm->n_devices; i++)
        device_place_shm(vm->devices[i], end, &end);
    if (end > SHM_FLOOR && vm->has_machine &&
        end > UINT64_C(1) << arch_address_bits(&vm->machine))
        return fail(err, -ENOSPC,
                    "memory and the devices' shared memory end "
                    "at 0x%" PRIx64 ", the processor has %u bits of address",
                    end, arch_address_bits(&vm->machine));
    return 0;
}

/* All devices are known: each gets its registers and its pin. */
int vm_place_devices(struct husk_vm *vm, struct husk_err *err)
{
    size_t offset = 0;
    int rc = vm_place_shm(vm, err);

    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < vm->n_devices; i++) {
        size_t size = device_window_size(vm->devices[i]);
        int call_fd = pin_eventfd(vm, i, err);
        struct window window;

        if (call_fd < 0)
            return call_fd;
        window_init(&window, &vm->windows, offset, size);
        offset += size;
        rc = device_place(vm->devices[i], &window, &vm->mem, arch_virtio_pin(i),
                          call_fd, vm->ack_fd, err);
        if (rc < 0)
            return rc;
    }
    return vm->has_machine ? vm_attach_devices(vm, err) : 0;
}
