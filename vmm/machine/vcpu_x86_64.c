/*
 * x86_64 processors: CPUID, the state that a kernel expects at its 64-bit or
 * PVH entry, where one stands, and port I/O.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/layout_x86_64.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/sys.h"
#include "vmm/machine/x86_64.h"

#define CPUID_FEATURES    1u
#define CPUID_CACHES      4u
#define CPUID_TOPOLOGY    0xbu
#define CPUID_TOPOLOGY_V2 0x1fu
#define ECX_TSC_DEADLINE  (1u << 24)
#define ECX_HYPERVISOR    (1u << 31)

/* Each vCPU is a core of its own, in one package. */
static void set_topology(struct kvm_cpuid_entry2 *entry, unsigned cpus,
                         unsigned index)
{
    unsigned shift = 0;

    while (1u << shift < cpus)
        shift++;
    entry->edx = index;
    switch (entry->index) {
    case 0: /* threads of a core */
        entry->eax = 0;
        entry->ebx = 1;
        entry->ecx = 1u << 8;
        break;
    case 1: /* cores of the package */
        entry->eax = shift;
        entry->ebx = cpus;
        entry->ecx = 2u << 8 | 1;
        break;
    default:
        entry->eax = entry->ebx = 0;
        entry->ecx = entry->index;
        break;
    }
}

static int set_cpuid(struct vcpu *cpu, struct husk_err *err)
{
    struct machine *machine = cpu->machine;
    struct kvm_cpuid2 *cpuid = machine->arch->cpuid;
    unsigned cpus = machine->max_cpus;
    int rc;

    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

        switch (entry->function) {
        case CPUID_FEATURES:
            entry->ebx &= 0x0000ffff;
            entry->ebx |= cpu->index << 24 | cpus << 16;
            entry->ecx |= ECX_HYPERVISOR;
            if (machine->arch->tsc_deadline)
                entry->ecx |= ECX_TSC_DEADLINE;
            if (cpus > 1)
                entry->edx |= 1u << 28; /* several logical processors */
            break;
        case CPUID_CACHES:
            entry->eax &= 0x00003fff;
            entry->eax |= (cpus - 1) << 26;
            break;
        case CPUID_TOPOLOGY:
        case CPUID_TOPOLOGY_V2:
            set_topology(entry, cpus, cpu->index);
            break;
        }
    }
    rc = sys_ioctl(cpu->fd, KVM_SET_CPUID2, cpuid);
    return rc < 0 ? fail(err, rc, "KVM_SET_CPUID2: %s", strerror(-rc)) : 0;
}

#define MSR_MISC_ENABLE  0x1a0u
#define MSR_MTRR_DEFAULT 0x2ffu

static int set_msrs(struct vcpu *cpu, struct husk_err *err)
{
    union {
        struct kvm_msrs head;
        uint8_t
            space[sizeof(struct kvm_msrs) + 2 * sizeof(struct kvm_msr_entry)];
    } msrs;
    int rc;

    memset(&msrs, 0, sizeof msrs);
    msrs.head.nmsrs = 2;
    msrs.head.entries[0].index = MSR_MTRR_DEFAULT;
    msrs.head.entries[0].data = 1u << 11 | 6; /* on; write-back everywhere */
    msrs.head.entries[1].index = MSR_MISC_ENABLE;
    msrs.head.entries[1].data = 1;                /* fast string operations */
    rc = sys_ioctl(cpu->fd, KVM_SET_MSRS, &msrs); /* those that it took */
    return rc < 0 ? fail(err, rc, "KVM_SET_MSRS: %s", strerror(-rc)) : 0;
}

int arch_vcpu_init(struct vcpu *cpu, struct husk_err *err)
{
    int rc = set_cpuid(cpu, err);

    return rc < 0 ? rc : set_msrs(cpu, err);
}

/* Descriptors as boot protocols number them: code 0x10, data 0x18. */
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TASK 0x20

static const uint64_t gdt_long[] = { 0, 0, 0x00af9b000000ffff,
                                     0x00cf93000000ffff, 0x00008b0000000067 };
static const uint64_t gdt_flat[] = { 0, 0, 0x00cf9b000000ffff,
                                     0x00cf93000000ffff, 0x00008b0000000067 };

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code64)
{
    return (struct kvm_segment){
        .base = 0,
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = code64,
        .db = !code64,
    };
}

static void set_segments(struct kvm_sregs *sregs, bool code64)
{
    struct kvm_segment data = segment(SELECTOR_DATA, 0x3, false);

    sregs->cs = segment(SELECTOR_CODE, 0xb, code64);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr = (struct kvm_segment){
        .selector = SELECTOR_TASK, .limit = 0x67, .type = 0xb, .present = 1
    };
    sregs->gdt.base = LAYOUT_GDT;
    sregs->gdt.limit = sizeof gdt_long - 1;
    sregs->idt.limit = 0;
}

#define PAGE       4096u
#define PRESENT_RW 0x3u
#define LARGE      0x80u
#define TABLE(n)   (LAYOUT_PAGE_TABLE + (n)*PAGE)

/* The first 4 GiB, one to one, in 2 MiB pages: root, one directory of
 * directories, four directories. */
static int map_low(const struct mem *mem, struct husk_err *err)
{
    uint64_t *table = mem_at(mem, LAYOUT_PAGE_TABLE, (uint64_t)6 * PAGE);

    if (!table)
        return fail(err, -ENOMEM,
                    "guest memory is too small for page tables: "
                    "at least 2 MiB are needed");
    memset(table, 0, (size_t)2 * PAGE);
    table[0] = TABLE(1) | PRESENT_RW;
    for (unsigned i = 0; i < 4; i++)
        table[PAGE / 8 + i] = TABLE(2 + i) | PRESENT_RW;
    for (uint64_t i = 0; i < UINT64_C(4) * PAGE / 8; i++)
        table[2 * PAGE / 8 + i] = i << 21 | LARGE | PRESENT_RW;
    return 0;
}

#define CR0_PE   0x00000001u
#define CR0_ET   0x00000010u
#define CR0_NE   0x00000020u
#define CR0_WP   0x00010000u
#define CR0_PG   0x80000000u
#define CR4_PAE  0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

int arch_vcpu_enter(struct vcpu *cpu, const struct boot_entry *entry,
                    struct husk_err *err)
{
    const struct mem *mem = cpu->machine->mem;
    bool long64 = entry->mode == BOOT_LONG64;
    void *gdt = mem_at(mem, LAYOUT_GDT, sizeof gdt_long);
    struct kvm_regs regs = { .rflags = 2,
                             .rip = entry->entry,
                             .rsp = LAYOUT_STACK };
    struct kvm_sregs sregs;
    int rc = sys_ioctl(cpu->fd, KVM_GET_SREGS, &sregs);

    if (rc < 0)
        return fail(err, rc, "KVM_GET_SREGS: %s", strerror(-rc));
    if (!gdt)
        return fail(err, -ENOMEM, "guest memory is too small");
    memcpy(gdt, long64 ? gdt_long : gdt_flat, sizeof gdt_long);
    set_segments(&sregs, long64);
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
    if (long64) {
        rc = map_low(mem, err);
        if (rc < 0)
            return rc;
        sregs.cr0 |= CR0_WP | CR0_PG;
        sregs.cr3 = LAYOUT_PAGE_TABLE;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME | EFER_LMA;
        regs.rsi = entry->info;
    } else {
        regs.rbx = entry->info;
    }
    rc = sys_ioctl(cpu->fd, KVM_SET_SREGS, &sregs);
    if (rc < 0)
        return fail(err, rc, "KVM_SET_SREGS: %s", strerror(-rc));
    rc = sys_ioctl(cpu->fd, KVM_SET_REGS, &regs);
    return rc < 0 ? fail(err, rc, "KVM_SET_REGS: %s", strerror(-rc)) : 0;
}

#define RESET_RIP     0xfff0
#define RESET_CS_BASE 0xffff0000

void arch_vcpu_where(struct vcpu *cpu, char *text, size_t size)
{
    struct kvm_translation walk = { 0 };
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    const uint8_t *bytes = NULL;
    size_t n;

    if (sys_ioctl(cpu->fd, KVM_GET_REGS, &regs) < 0 ||
        sys_ioctl(cpu->fd, KVM_GET_SREGS, &sregs) < 0) {
        snprintf(text, size, "an unknown rip");
        return;
    }
    /* SVM leaves the state undefined after a shutdown: KVM resets the vCPU */
    if (regs.rip == RESET_RIP && sregs.cs.base == RESET_CS_BASE) {
        snprintf(text, size, "an unknown rip: KVM has reset the vCPU");
        return;
    }
    walk.linear_address = regs.rip;
    n = (size_t)snprintf(text, size, "rip 0x%llx",
                         (unsigned long long)regs.rip);
    if (sys_ioctl(cpu->fd, KVM_TRANSLATE, &walk) == 0 && walk.valid)
        bytes = mem_at(cpu->machine->mem, walk.physical_address, 8);
    if (!bytes)
        snprintf(text + n, size - n, ", where there is no memory");
    else
        snprintf(text + n, size - n,
                 ", bytes %02x %02x %02x %02x %02x %02x %02x %02x", bytes[0],
                 bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6],
                 bytes[7]);
}

/* Port I/O: as many accesses as a string instruction makes. */
static void on_io(struct vcpu *cpu)
{
    const struct bus *pio = &cpu->machine->arch->pio;
    const struct kvm_run *run = cpu->run;
    uint8_t *data = (uint8_t *)cpu->run + run->io.data_offset;

    cpu->exits.io++;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_IN)
            bus_read(pio, run->io.port, data, run->io.size);
        else
            bus_write(pio, run->io.port, data, run->io.size);
    }
}

bool arch_vcpu_exit(struct vcpu *cpu)
{
    switch (cpu->run->exit_reason) {
    case KVM_EXIT_IO:
        on_io(cpu);
        return true;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        cpu->exits.other++;
        return true;
    }
    return false;
}
