/* What came when in a VM's first boot, put in order. */
#include <stdlib.h>

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

size_t husk_vm_timeline(const struct husk_vm *vm, struct husk_moment *moments,
                        size_t max)
{
    struct husk_moment all[MAX_MOMENTS] = {
        { "create", -1, vm->times.create },
        { "start", -1, vm->times.start },
        { "memory", -1, vm->times.memory },
        { "kvm", -1, vm->times.machine.kvm },
        { "slots", -1, vm->times.machine.slots },
        { "chips", -1, vm->times.machine.chips },
        { "vcpus", -1, vm->times.setup },
        { "known", -1, vm->times.probed },
        { "loaded", -1, vm->times.loaded },
        { "entry", -1, vm->times.entered },
        { "output", -1, vm->console.first_byte },
        { "end", -1, vm->end.when },
    };
    size_t n = VM_MOMENTS, known = 0;

    for (unsigned i = 0; i < vm->n_devices; i++) {
        const struct device *device = vm->devices[i];

        all[n++] =
            (struct husk_moment){ "connected", (int)i, device->t_connected };
        all[n++] = (struct husk_moment){ "ready", (int)i, device->t_ready };
    }
    for (size_t i = 0; i < n; i++)
        if (all[i].ns)
            all[known++] = all[i];
    qsort(all, known, sizeof all[0], earlier);
    for (size_t i = 0; i < known && i < max; i++)
        moments[i] = all[i];
    return known;
}
