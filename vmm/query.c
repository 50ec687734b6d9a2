/* Queries: a VM's devices, their tree and names, and the figures of its run. */
#include <errno.h>

#include "devices/names.h"
#include "vmm/abi.h"
#include "vmm/machine/fail.h"
#include "vmm/vm.h"

int husk_vm_device_tree(struct husk_vm *vm, void **blob, size_t *size,
                        struct husk_err *err)
{
    if (!vm->known)
        return fail(err, -EAGAIN, "the devices are not known yet");
    return vm_tree(vm, blob, size, err);
}

int husk_vm_device(const struct husk_vm *vm, unsigned index,
                   struct husk_device *info)
{
    static const char *const dialects[] = { "none", "none", "specs",
                                            "messages" };
    struct husk_device answer = { .probe = "none" };
    const struct device *device;

    if (index >= vm->n_devices)
        return -ENOENT;
    device = vm->devices[index];
    answer.name = device->spec.name;
    answer.round_trips = device->round_trips;
    answer.known = device->round_trips > 0;
    if (answer.known) {
        const struct identity *is = &device->is;

        answer.features = is->features;
        answer.protocol_features = is->protocol;
        answer.id = is->id;
        answer.config_size = is->config_size;
        answer.min_vqs = is->min_vqs;
        answer.max_vqs = is->max_vqs;
        answer.vqs = is->vqs;
        answer.probe = dialects[is->dialect];
        answer.standalone = is->standalone;
        answer.address = device->base;
        answer.irq = device->gsi;
        answer.config = device->config;
    }
    return abi_answer(info, &answer, sizeof answer);
}

const char *husk_device_type_name(uint32_t id)
{
    return names_device(id);
}

const char *husk_feature_name(uint32_t id, unsigned bit)
{
    return names_feature(id, bit);
}

const char *husk_protocol_feature_name(unsigned bit)
{
    return names_protocol(bit);
}

static double between(uint64_t from, uint64_t to)
{
    return from && to > from ? (double)(to - from) / 1e6 : 0;
}

int husk_vm_stats(const struct husk_vm *vm, struct husk_stats *stats)
{
    struct husk_stats answer = {
        .exits_io = vm->exits.io,
        .exits_mmio_read = vm->exits.mmio_read,
        .exits_mmio_write = vm->exits.mmio_write,
        .exits_hlt = vm->exits.hlt,
        .exits_other = vm->exits.other,
        .setup_ms = between(vm->times.start, vm->times.setup),
        .probe_ms = between(vm->times.start, vm->times.probed),
        .first_entry_ms = between(vm->times.start, vm->times.entry),
        .total_ms = between(vm->times.start, vm->end.when),
        .boots = vm->boots,
        .console_dropped = vm->console.dropped,
    };

    return abi_answer(stats, &answer, sizeof answer);
}
