/* What came when in a VM's first boot, put in order. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/abi.h"
#include "vmm/vm.h"

#define VM_MOMENTS     12
#define DEVICE_MOMENTS 2
#define MAX_MOMENTS    (VM_MOMENTS + DEVICE_MOMENTS * VM_MAX_DEVICES)

static int earlier(const void *a, const void *b)
{
    const struct husk_moment *x = a, *y = b;

    return x->ns != y->ns ? (x->ns > y->ns) - (x->ns < y->ns)
                          : x->device - y->device;
}

ssize_t husk_vm_timeline(const struct husk_vm *vm, struct husk_moment *moments,
                         size_t size, size_t max)
{
    struct husk_moment all[MAX_MOMENTS] = {
        { "create", vm->times.create, -1, 0 },
        { "start", vm->times.start, -1, 0 },
        { "memory", vm->times.memory, -1, 0 },
        { "kvm", vm->times.machine.kvm, -1, 0 },
        { "slots", vm->times.machine.slots, -1, 0 },
        { "chips", vm->times.machine.chips, -1, 0 },
        { "vcpus", vm->times.setup, -1, 0 },
        { "known", vm->times.probed, -1, 0 },
        { "loaded", vm->times.loaded, -1, 0 },
        { "entry", vm->times.entered, -1, 0 },
        { "output", vm->console.first_byte, -1, 0 },
        { "end", vm->end.when, -1, 0 },
    };
    size_t n = VM_MOMENTS, known = 0;

    if (size < sizeof(size_t))
        return -EINVAL;
    for (unsigned i = 0; i < vm->n_devices; i++) {
        const struct device *device = vm->devices[i];

        all[n++] =
            (struct husk_moment){ "connected", device->t_connected, (int)i, 0 };
        all[n++] = (struct husk_moment){ "ready", device->t_ready, (int)i, 0 };
    }
    for (size_t i = 0; i < n; i++)
        if (all[i].ns)
            all[known++] = all[i];
    qsort(all, known, sizeof all[0], earlier);
    for (size_t i = 0; i < known && i < max; i++)
        abi_fill((uint8_t *)moments + i * size, size, &all[i], sizeof all[i]);
    return (ssize_t)known;
}
