/*
 * The KVM virtual machine. Memory slots come first: once interrupt chips exist,
 * each slot waits for a grace period (0.6 ms against 7.9 ms to a machine that
 * can run, measured).
 */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define KVM_DEVICE "/dev/kvm"

static int open_kvm(struct machine *machine, struct husk_err *err)
{
    int version;

    machine->kvm_fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    if (machine->kvm_fd < 0) {
        int code = errno;
        const char *hint = code == ENOENT
                               ? "load the kvm module, or enable virtualization"
                           : code == EACCES ? "join the group that owns it"
                                            : "is KVM enabled on this host?";

        return fail(err, -ENODEV, KVM_DEVICE ": %s: %s", strerror(code), hint);
    }
    version = sys_ioctl(machine->kvm_fd, KVM_GET_API_VERSION, NULL);
    if (version < 0)
        return fail(err, -ENODEV, KVM_DEVICE ": %s: it is not KVM",
                    strerror(-version));
    if (version != KVM_API_VERSION)
        return fail(err, -ENODEV,
                    KVM_DEVICE " has API version %d, %d is "
                               "needed",
                    version, KVM_API_VERSION);
    machine->vm_fd = sys_ioctl_number(machine->kvm_fd, KVM_CREATE_VM,
                                      arch_vm_type(machine->kvm_fd));
    if (machine->vm_fd < 0)
        return fail(err, machine->vm_fd, "KVM_CREATE_VM: %s",
                    strerror(-machine->vm_fd));
    machine->run_size =
        sys_ioctl(machine->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (machine->run_size < 0)
        return fail(err, machine->run_size, "KVM_GET_VCPU_MMAP_SIZE: %s",
                    strerror(-machine->run_size));
    return 0;
}

static int set_slot(struct machine *machine, uint32_t slot, gpa_t base,
                    uint64_t size, void *host, uint32_t flags)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = flags,
        .guest_phys_addr = base,
        .memory_size = size,
        .userspace_addr = (uintptr_t)host,
    };

    return sys_ioctl(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int set_slots(struct machine *machine, struct husk_err *err)
{
    const struct mem *mem = machine->mem;
    uint32_t slot;

    for (slot = 0; slot < mem->n_regions; slot++) {
        const struct mem_region *region = &mem->region[slot];
        int rc = set_slot(machine, slot, region->base, region->size,
                          region->host, 0);

        if (rc < 0)
            return fail(err, rc, "memory slot %u: %s", slot, strerror(-rc));
    }
    if (!machine->windows)
        return 0;
    /* one slot over all windows; without it reads leave KVM_RUN */
    if (!machine->exits_on_read)
        machine->exits_on_read =
            set_slot(machine, slot, machine->windows->base,
                     machine->windows->size, machine->windows->map,
                     KVM_MEM_READONLY) < 0;
    machine->windows->vm_fd = machine->vm_fd;
    machine->n_slots = slot + 1;
    return 0;
}

uint32_t machine_reserve_slots(struct machine *machine, uint32_t n)
{
    uint32_t first = machine->n_slots;

    machine->n_slots += n;
    return first;
}

int machine_set_slot(struct machine *machine, uint32_t slot, gpa_t base,
                     uint64_t size, void *host)
{
    return set_slot(machine, slot, base, size, host, 0);
}

int machine_init(struct machine *machine, const struct machine_config *config,
                 struct husk_err *err)
{
    int rc;

    memset(machine, 0, sizeof *machine);
    machine->kvm_fd = machine->vm_fd = -1;
    machine->mem = config->mem;
    machine->windows = config->windows;
    machine->exits_on_read = config->exits_on_read;
    machine->events = config->events;
    machine->max_cpus = config->cpus;
    machine->power = (struct power){ config->events.power, config->events.ctx };
    machine->cpu = calloc(config->cpus, sizeof *machine->cpu);
    if (!machine->cpu)
        return fail(err, -ENOMEM, "out of memory for %u vCPUs", config->cpus);
    if ((rc = open_kvm(machine, err)) < 0)
        return rc;
    machine->times.kvm = sys_now();
    if ((rc = set_slots(machine, err)) < 0)
        return rc;
    machine->times.slots = sys_now();
    if ((rc = arch_machine_init(machine, &config->console, err)) < 0)
        return rc;
    machine->times.chips = sys_now();
    while (machine->n_cpus < config->cpus) {
        unsigned index = machine->n_cpus++;

        rc = vcpu_init(&machine->cpu[index], machine, index, err);
        if (rc < 0)
            return rc;
    }
    return arch_machine_ready(machine, err);
}

void machine_fini(struct machine *machine)
{
    machine_stop(machine);
    for (unsigned i = 0; i < machine->n_cpus; i++)
        vcpu_fini(&machine->cpu[i]);
    free(machine->cpu);
    arch_machine_fini(machine);
    bus_fini(&machine->mmio);
    if (machine->windows)
        machine->windows->vm_fd = -1;
    sys_close(&machine->vm_fd);
    sys_close(&machine->kvm_fd);
    memset(machine, 0, sizeof *machine);
    machine->kvm_fd = machine->vm_fd = -1;
}

int machine_irqfd(struct machine *machine, int eventfd, uint32_t pin,
                  struct husk_err *err)
{
    struct kvm_irqfd irqfd = { .fd = (uint32_t)eventfd,
                               .gsi = arch_irqfd_gsi(pin) };
    int rc = sys_ioctl(machine->vm_fd, KVM_IRQFD, &irqfd);

    return rc < 0
               ? fail(err, rc, "KVM_IRQFD for pin %u: %s", pin, strerror(-rc))
               : 0;
}

size_t machine_input(struct machine *machine, const void *data, size_t size)
{
    return arch_machine_input(machine, data, size);
}

int machine_start(struct machine *machine, const struct boot_entry *entry,
                  struct husk_err *err)
{
    int rc = arch_vcpu_enter(&machine->cpu[0], entry, err);

    for (unsigned i = 0; i < machine->n_cpus && rc == 0; i++)
        rc = vcpu_start(&machine->cpu[i], err);
    return rc;
}

void machine_stop(struct machine *machine)
{
    atomic_store(&machine->stopping, true);
    for (unsigned i = 0; i < machine->n_cpus; i++)
        vcpu_kick(&machine->cpu[i]);
    for (unsigned i = 0; i < machine->n_cpus; i++)
        vcpu_join(&machine->cpu[i]);
}
