/*
 * x86_64: where things lie, interrupt controllers and PIT in the kernel, and
 * what CPUID the host offers.
 */
#include "vmm/machine/arch.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/sys.h"
#include "vmm/machine/x86_64.h"

const struct mem_layout arch_ram = {
    .n = 2,
    .range = { { 0, LAYOUT_HOLE_START },
               { LAYOUT_HOLE_END, UINT64_MAX - LAYOUT_HOLE_END } },
};
const gpa_t arch_virtio_base = LAYOUT_VIRTIO;
const gpa_t arch_shm_base = LAYOUT_HOLE_END;
const gpa_t arch_panic_base = LAYOUT_PANIC;

/* IOAPIC pins that no legacy device claims. */
static const uint8_t pins[] = { 5,  6,  7,  10, 11, 14, 15, 16,
                                17, 18, 19, 20, 21, 22, 23 };

#define N_PINS (sizeof pins / sizeof pins[0])

uint32_t arch_virtio_pin(unsigned index)
{
    return pins[index % N_PINS];
}

unsigned arch_virtio_pins(void)
{
    return N_PINS;
}

/* Pins and KVM's numbers of them are the same: KVM routes them so. */
uint32_t arch_irqfd_gsi(uint32_t pin)
{
    return pin;
}

unsigned long arch_vm_type(int kvm_fd)
{
    (void)kvm_fd;
    return 0;
}

#define CPUID_ADDRESSES 0x80000008u

unsigned arch_address_bits(const struct machine *machine)
{
    const struct kvm_cpuid2 *cpuid = machine->arch->cpuid;

    for (uint32_t i = 0; cpuid && i < cpuid->nent; i++)
        if (cpuid->entries[i].function == CPUID_ADDRESSES)
            return cpuid->entries[i].eax & 0xff;
    return 36; /* what every 64-bit processor has */
}

/* All that the host can give a guest; the list's length is found by trying. */
static int fetch_cpuid(struct machine *machine, struct husk_err *err)
{
    for (uint32_t n = 128;; n *= 2) {
        struct kvm_cpuid2 *cpuid =
            calloc(1, sizeof *cpuid + n * sizeof cpuid->entries[0]);
        int rc;

        if (!cpuid)
            return fail(err, -ENOMEM, "out of memory for CPUID");
        cpuid->nent = n;
        rc = sys_ioctl(machine->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
        if (rc == 0) {
            machine->arch->cpuid = cpuid;
            return 0;
        }
        free(cpuid);
        if (rc != -E2BIG || n > 4096)
            return fail(err, rc, "KVM_GET_SUPPORTED_CPUID: %s", strerror(-rc));
    }
}

static int make_chips(struct machine *machine, struct husk_err *err)
{
    struct kvm_pit_config pit = { .flags = 0 };
    uint64_t idmap = LAYOUT_IDMAP;
    int rc;

    /* On VT-x the task state segment is a memory slot: before the chips. */
    rc = sys_ioctl_number(machine->vm_fd, KVM_SET_TSS_ADDR, LAYOUT_TSS);
    if (rc < 0)
        return fail(err, rc, "KVM_SET_TSS_ADDR: %s", strerror(-rc));
    rc = sys_ioctl(machine->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &idmap);
    if (rc < 0)
        return fail(err, rc, "KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(-rc));
    rc = sys_ioctl(machine->vm_fd, KVM_CREATE_IRQCHIP, NULL);
    if (rc < 0)
        return fail(err, rc, "KVM_CREATE_IRQCHIP: %s", strerror(-rc));
    rc = sys_ioctl(machine->vm_fd, KVM_CREATE_PIT2, &pit);
    if (rc < 0)
        return fail(err, rc, "KVM_CREATE_PIT2: %s", strerror(-rc));
    return 0;
}

static void set_uart_irq(void *ctx, bool level)
{
    struct machine *machine = ctx;
    struct kvm_irq_level irq = { .irq = LAYOUT_UART_GSI, .level = level };

    sys_ioctl(machine->vm_fd, KVM_IRQ_LINE, &irq);
}

int arch_machine_init(struct machine *machine, const struct uart_sink *console,
                      struct husk_err *err)
{
    struct arch_machine *arch = calloc(1, sizeof *arch);
    int rc;

    if (!arch)
        return fail(err, -ENOMEM, "out of memory");
    machine->arch = arch;
    uart_init(&arch->uart, (struct irq_line){ set_uart_irq, machine },
              *console);
    rc = make_chips(machine, err);
    if (rc < 0)
        return rc;
    arch->tsc_deadline = sys_ioctl_number(machine->kvm_fd, KVM_CHECK_EXTENSION,
                                          KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    rc = fetch_cpuid(machine, err);
    return rc < 0 ? rc : board_wire(machine, err);
}

int arch_machine_ready(struct machine *machine, struct husk_err *err)
{
    (void)machine;
    (void)err;
    return 0;
}

void arch_machine_fini(struct machine *machine)
{
    struct arch_machine *arch = machine->arch;

    if (!arch)
        return;
    uart_fini(&arch->uart);
    bus_fini(&arch->pio);
    free(arch->cpuid);
    free(arch);
    machine->arch = NULL;
}

size_t arch_machine_input(struct machine *machine, const void *data,
                          size_t size)
{
    return uart_input(&machine->arch->uart, data, size);
}
