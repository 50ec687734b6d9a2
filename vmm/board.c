/*
 * Where devices lie: each gets a piece of the register window, an interrupt
 * pin, and addresses for its shared memory, above RAM.
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

/* Where the first region of shared memory may lie: above all RAM. */
static gpa_t shm_floor(const struct husk_vm *vm)
{
    gpa_t end = arch_shm_base;
    struct mem plan;

    mem_plan(&plan, vm->config.memory, &arch_ram);
    for (unsigned i = 0; i < plan.n_regions; i++)
        if (plan.region[i].base + plan.region[i].size > end)
            end = plan.region[i].base + plan.region[i].size;
    return end;
}

/* The end of shared memory; a device's regions lie after another's. */
static gpa_t place_shm(struct husk_vm *vm)
{
    gpa_t end = shm_floor(vm);

    for (unsigned i = 0; i < vm->n_devices; i++)
        device_place_shm(vm->devices[i], end, &end);
    return end;
}

/* All devices are known: each gets its registers, pin and shared memory. */
int board_place(struct husk_vm *vm, struct husk_err *err)
{
    size_t offset = 0;

    vm->shm_end = place_shm(vm);
    for (unsigned i = 0; i < vm->n_devices; i++) {
        size_t size = device_window_size(vm->devices[i]);
        int call_fd = pin_eventfd(vm, i, err);
        struct window window;
        int rc;

        if (call_fd < 0)
            return call_fd;
        window_init(&window, &vm->windows, offset, size);
        offset += size;
        rc = device_place(vm->devices[i], &window, &vm->mem, arch_virtio_pin(i),
                          call_fd, vm->ack_fd, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Before the first boot: what husk_vm_probe() could not know of the machine,
 * and whether every back-end is still there. */
static int check_first(const struct husk_vm *vm, struct husk_err *err)
{
    unsigned bits = arch_address_bits(&vm->machine);
    int rc = 0;

    if (vm->shm_end > arch_shm_base && vm->shm_end > UINT64_C(1) << bits)
        return fail(err, -ENOSPC,
                    "memory and the devices' shared memory end "
                    "at 0x%" PRIx64 ", the processor has %u bits of address",
                    vm->shm_end, bits);
    for (unsigned i = 0; i < vm->n_devices && rc == 0; i++)
        rc = device_check(vm->devices[i], &vm->mem, err);
    return rc;
}

/* Put devices and pins on the machine, whichever boot it is for. */
int board_attach(struct husk_vm *vm, struct husk_err *err)
{
    int rc = vm->boots == 0 ? check_first(vm, err) : 0;

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
