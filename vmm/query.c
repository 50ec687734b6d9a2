/* What a VM tells of itself: its devices, their tree, names, and figures. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/names.h"
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
    const struct device *device;
    const struct identity *is;

    if (index >= vm->n_devices)
        return -ENOENT;
    device = vm->devices[index];
    is = &device->is;
    *info = (struct husk_device){
        .name = device->spec.name,
        .probe = "none",
        .round_trips = device->round_trips,
        .known = device->round_trips > 0,
    };
    if (!info->known)
        return 0;
    info->features = is->features;
    info->protocol_features = is->protocol;
    info->id = is->id;
    info->config_size = is->config_size;
    info->min_vqs = is->min_vqs;
    info->max_vqs = is->max_vqs;
    info->vqs = is->vqs;
    info->probe = dialects[is->dialect];
    info->standalone = is->standalone;
    info->address = device->base;
    info->irq = device->gsi;
    info->config = device->config;
    return 0;
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

void husk_vm_stats(const struct husk_vm *vm, struct husk_stats *stats)
{
    *stats = (struct husk_stats){
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
}
