/*
 * vCPU threads. The only signal that matters here is the kick, SIGRTMIN: it is
 * blocked in every thread and let in by KVM_RUN alone (KVM_SET_SIGNAL_MASK), so
 * it needs no handler; immediate_exit closes the gap before KVM_RUN.
 */
#include "vmm/machine/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/sys.h"
#include "vmm/machine/sysevent.h"

#define KICK          SIGRTMIN
#define STACK_SIZE    (256u << 10)
#define MAX_FAULTS    16 /* of guest memory, in a row */
#define MEMORY_FAULT  39 /* KVM_EXIT_MEMORY_FAULT, since Linux 6.8 */
#define KERNEL_SIGSET 8  /* bytes */

static int set_mask(struct vcpu *cpu)
{
    union {
        struct kvm_signal_mask mask;
        uint8_t space[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET];
    } arg;
    sigset_t set;

    sigfillset(&set);
    sigdelset(&set, KICK);
    memset(&arg, 0, sizeof arg);
    arg.mask.len = KERNEL_SIGSET;
    memcpy(arg.mask.sigset, &set, KERNEL_SIGSET);
    return sys_ioctl(cpu->fd, KVM_SET_SIGNAL_MASK, &arg);
}

int vcpu_init(struct vcpu *cpu, struct machine *machine, unsigned index,
              struct husk_err *err)
{
    int rc;

    memset(cpu, 0, sizeof *cpu);
    cpu->machine = machine;
    cpu->index = index;
    cpu->run_size = (size_t)machine->run_size;
    cpu->fd = sys_ioctl_number(machine->vm_fd, KVM_CREATE_VCPU, index);
    if (cpu->fd < 0)
        return fail(err, cpu->fd, "KVM_CREATE_VCPU %u: %s", index,
                    strerror(-cpu->fd));
    cpu->run = mmap(NULL, cpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                    cpu->fd, 0);
    if (cpu->run == MAP_FAILED) {
        cpu->run = NULL;
        return fail(err, -errno, "mapping vCPU %u: %s", index, strerror(errno));
    }
    /* a keeper that held it would hold the virtual machine */
    madvise(cpu->run, cpu->run_size, MADV_DONTFORK);
    rc = set_mask(cpu);
    if (rc < 0)
        return fail(err, rc, "KVM_SET_SIGNAL_MASK: %s", strerror(-rc));
    return arch_vcpu_init(cpu, err);
}

void vcpu_fini(struct vcpu *cpu)
{
    if (cpu->run)
        munmap(cpu->run, cpu->run_size);
    cpu->run = NULL;
    sys_close(&cpu->fd);
}

static void on_mmio(struct vcpu *cpu)
{
    struct kvm_run *run = cpu->run;

    if (run->mmio.is_write) {
        cpu->exits.mmio_write++;
        bus_write(&cpu->machine->mmio, run->mmio.phys_addr, run->mmio.data,
                  run->mmio.len);
    } else {
        cpu->exits.mmio_read++;
        bus_read(&cpu->machine->mmio, run->mmio.phys_addr, run->mmio.data,
                 run->mmio.len);
    }
}

static void report(struct vcpu *cpu, const char *what)
{
    const struct machine_events *events = &cpu->machine->events;
    char where[128], text[256];

    arch_vcpu_where(cpu, where, sizeof where);
    snprintf(text, sizeof text, "vCPU %u: %s at %s", cpu->index, what, where);
    events->failed(events->ctx, text);
}

static void on_internal_error(struct vcpu *cpu)
{
    const struct kvm_run *run = cpu->run;
    char what[96];

    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
        snprintf(what, sizeof what, "KVM cannot emulate the instruction");
    else
        snprintf(what, sizeof what, "KVM internal error %u",
                 run->internal.suberror);
    report(cpu, what);
}

/* The guest asked its firmware for something, which KVM passes on. */
static void on_system_event(struct vcpu *cpu, uint32_t type)
{
    const struct machine_events *events = &cpu->machine->events;
    const char *name = sysevent_name(type);
    enum power_event event;
    char what[96];

    if (sysevent_power(type, &event) == 0) {
        events->power(events->ctx, event, 0);
        return;
    }
    if (name)
        snprintf(what, sizeof what,
                 "the guest asked for %s (system event %u), which husk does "
                 "not support,",
                 name, type);
    else
        snprintf(what, sizeof what,
                 "KVM reported system event %u, which husk does not know,",
                 type);
    report(cpu, what);
}

/* One return from KVM_RUN; false when this vCPU is at its end. */
static bool on_exit_reason(struct vcpu *cpu)
{
    const struct machine_events *events = &cpu->machine->events;
    char text[128];

    if (arch_vcpu_exit(cpu))
        return true;
    switch (cpu->run->exit_reason) {
    case KVM_EXIT_MMIO:
        on_mmio(cpu);
        return true;
    case KVM_EXIT_HLT:
        cpu->exits.hlt++;
        return true;
    }
    cpu->exits.other++;
    switch (cpu->run->exit_reason) {
    case KVM_EXIT_INTR:
        return true;
    case KVM_EXIT_SHUTDOWN:
        arch_vcpu_where(cpu, text, sizeof text);
        events->crashed(events->ctx, text);
        return false;
    case KVM_EXIT_SYSTEM_EVENT:
        on_system_event(cpu, cpu->run->system_event.type);
        return false;
    case KVM_EXIT_INTERNAL_ERROR:
        on_internal_error(cpu);
        return false;
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(text, sizeof text,
                 "the processor refused to enter the guest, "
                 "reason 0x%llx,",
                 (unsigned long long)
                     cpu->run->fail_entry.hardware_entry_failure_reason);
        report(cpu, text);
        return false;
    default:
        snprintf(text, sizeof text,
                 "KVM_RUN ended with reason %u, which husk "
                 "does not know,",
                 cpu->run->exit_reason);
        report(cpu, text);
        return false;
    }
}

/* Take a kick that has been delivered off this thread's queue. */
static void take_kick(void)
{
    const struct timespec now = { 0, 0 };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, KICK);
    while (sigtimedwait(&set, NULL, &now) == KICK)
        ;
}

/* Where guest memory could not be had, as far as KVM says. */
static gpa_t faulted_at(const struct vcpu *cpu)
{
    struct {
        uint64_t flags, gpa, size;
    } fault;

    if (cpu->run->exit_reason != MEMORY_FAULT)
        return MACHINE_ANYWHERE;
    memcpy(&fault, cpu->run->padding, sizeof fault);
    cpu->run->exit_reason = KVM_EXIT_UNKNOWN; /* said once */
    return fault.gpa;
}

static void *thread(void *arg)
{
    struct vcpu *cpu = arg;
    struct machine *machine = cpu->machine;
    unsigned faults = 0;
    bool again = false;
    char name[16];

    snprintf(name, sizeof name, "vcpu%u", cpu->index);
    prctl(PR_SET_NAME, name);
    cpu->entered = sys_now();
    while (!atomic_load(&machine->stopping)) {
        if (ioctl(cpu->fd, KVM_RUN, 0) == 0) {
            faults = 0;
            again = false;
            if (!on_exit_reason(cpu))
                break;
        } else if (errno == EINTR) {
            take_kick();
        } else if (errno == EFAULT && faults++ < MAX_FAULTS) {
            /* another vCPU may have put right what this one met */
            again = !machine->events.faulted(machine->events.ctx,
                                             faulted_at(cpu), again);
        } else if (errno != EAGAIN) {
            char what[96];

            snprintf(what, sizeof what, "KVM_RUN: %s", strerror(errno));
            report(cpu, what);
            break;
        }
    }
    return NULL;
}

int vcpu_start(struct vcpu *cpu, struct husk_err *err)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    rc = pthread_create(&cpu->thread, &attr, thread, cpu);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return fail(err, -rc, "starting vCPU %u: %s", cpu->index, strerror(rc));
    cpu->running = true;
    return 0;
}

void vcpu_kick(struct vcpu *cpu)
{
    if (!cpu->running)
        return;
    __atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(cpu->thread, KICK);
}

void vcpu_join(struct vcpu *cpu)
{
    if (cpu->running)
        pthread_join(cpu->thread, NULL);
    cpu->running = false;
}
