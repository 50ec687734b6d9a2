/*
 * The floor under every virtual machine's start: the fewest KVM calls that run
 * a 64-bit ELF kernel up to the first byte that it sends to the UART, which is
 * passed on to standard output. One memory slot, the interrupt chips, one vCPU,
 * its registers, KVM_RUN; no CPUID, no tables for the guest, no threads, no
 * loop, no C library, one page of page tables more than needed. Usage:
 * floor KERNEL [MEBIBYTES]. Checks little and says nothing: a status other than
 * 0 is the number of the step that failed. Intel SDM 3, 4.5, for the tables.
 */
#include <elf.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vmm/machine/layout_x86_64.h"

#define O_RDWR_CLOEXEC   02000002L
#define PRESENT_RW       0x3u
#define LARGE            0x80u
#define UART_DATA        0u
#define UART_LINE_STATUS 5u
#define UART_SENT        0x60u
#define RUN_SIZE         4096u /* of what KVM shares: the head is all it takes */

static long sys(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long rc;

    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
                       "r"(r9)
                     : "rcx", "r11", "memory");
    return rc;
}

static long sys3(long number, long a, long b, long c)
{
    return sys(number, a, b, c, 0, 0, 0);
}

static _Noreturn void leave(long status)
{
    for (;;)
        sys3(SYS_exit_group, status, 0, 0);
}

static long must(long rc, long step)
{
    if (rc < 0)
        leave(step);
    return rc;
}

static void *map(uint64_t size, int flags, long fd, long step)
{
    long at =
        sys(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, flags, fd, 0);

    must(at < 0 && at > -4096 ? -1 : 0, step);
    return (void *)at;
}

/* The segments at their places; the entry. */
static uint64_t load(const char *path, uint8_t *guest, uint64_t size)
{
    static union {
        Elf64_Ehdr head;
        uint8_t bytes[4096];
    } page;
    const Elf64_Phdr *p = (const void *)(page.bytes + sizeof page.head);
    long fd = must(sys3(SYS_open, (long)path, 0, 0), 20);

    must(sys3(SYS_read, fd, (long)&page, sizeof page), 21);
    if (page.head.e_phoff != sizeof page.head ||
        page.head.e_phnum > (sizeof page - sizeof page.head) / sizeof *p)
        leave(22);
    for (unsigned i = 0; i < page.head.e_phnum; i++, p++) {
        if (p->p_type != PT_LOAD || p->p_filesz == 0)
            continue;
        if (p->p_paddr > size || p->p_memsz > size - p->p_paddr)
            leave(23);
        must(sys(SYS_pread64, fd, (long)(guest + p->p_paddr), (long)p->p_filesz,
                 (long)p->p_offset, 0, 0),
             24);
    }
    return page.head.e_entry;
}

/* The first GiB, one to one: a page of 1 GiB is not every processor's. */
static void map_low(uint8_t *guest)
{
    uint64_t *table = (void *)(guest + LAYOUT_PAGE_TABLE);

    table[0] = (LAYOUT_PAGE_TABLE + 4096) | PRESENT_RW;
    table[512] = (LAYOUT_PAGE_TABLE + 8192) | PRESENT_RW;
    for (uint64_t i = 0; i < 512; i++)
        table[1024 + i] = i << 21 | LARGE | PRESENT_RW;
}

static void set_registers(long vcpu, uint64_t entry)
{
    const struct kvm_segment data = {
        .limit = 0xffffffff,
        .selector = 0x18,
        .type = 0x3,
        .present = 1,
        .s = 1,
        .g = 1,
        .db = 1,
    };
    struct kvm_sregs sregs = {
        .ds = data,
        .es = data,
        .fs = data,
        .gs = data,
        .ss = data,
        .cs = { .limit = 0xffffffff,
                .selector = 0x10,
                .type = 0xb,
                .present = 1,
                .s = 1,
                .g = 1,
                .l = 1 },
        .tr = { .limit = 0x67, .selector = 0x20, .type = 0xb, .present = 1 },
        .ldt = { .unusable = 1 },
        .cr0 = 0x80010031, /* PG, WP, NE, ET, PE */
        .cr3 = LAYOUT_PAGE_TABLE,
        .cr4 = 0x20,                       /* PAE */
        .efer = 0x500,                     /* LME, LMA */
        .apic_base = LAYOUT_LAPIC | 0x900, /* on, first processor */
    };
    struct kvm_regs regs = { .rip = entry, .rsp = LAYOUT_STACK, .rflags = 2 };

    must(sys3(SYS_ioctl, vcpu, KVM_SET_SREGS, (long)&sregs), 30);
    must(sys3(SYS_ioctl, vcpu, KVM_SET_REGS, (long)&regs), 31);
}

/* Up to the first byte; ports that nobody knows read as ones. */
static void run(long vcpu, struct kvm_run *kvm)
{
    for (;;) {
        uint8_t *data = (uint8_t *)kvm + kvm->io.data_offset;

        must(sys3(SYS_ioctl, vcpu, KVM_RUN, 0), 40);
        if (kvm->exit_reason != KVM_EXIT_IO)
            leave(41);
        data = (uint8_t *)kvm + kvm->io.data_offset;
        if (kvm->io.direction == KVM_EXIT_IO_IN) {
            *data = kvm->io.port == LAYOUT_UART_PIO + UART_LINE_STATUS
                        ? UART_SENT
                        : 0xff;
        } else if (kvm->io.port == LAYOUT_UART_PIO + UART_DATA) {
            sys3(SYS_write, 1, (long)data, 1);
            return;
        }
    }
}

static uint64_t number(const char *text)
{
    uint64_t n = 0;

    while (*text >= '0' && *text <= '9')
        n = 10 * n + (uint64_t)(*text++ - '0');
    return n;
}

_Noreturn void floor_main(const long *stack);

_Noreturn void floor_main(const long *stack)
{
    const char *const *argv = (const void *)(stack + 1);
    uint64_t size = stack[0] > 2 ? number(argv[2]) << 20 : 256u << 20;
    struct kvm_userspace_memory_region slot = { .memory_size = size };
    long kvm, vm, vcpu;
    uint8_t *guest;

    if (stack[0] < 2)
        leave(1);
    guest = map(size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 2);
    slot.userspace_addr = (uintptr_t)guest;
    kvm = must(sys3(SYS_open, (long)"/dev/kvm", O_RDWR_CLOEXEC, 0), 3);
    vm = must(sys3(SYS_ioctl, kvm, KVM_CREATE_VM, 0), 4);
    must(sys3(SYS_ioctl, vm, KVM_SET_USER_MEMORY_REGION, (long)&slot), 5);
    must(sys3(SYS_ioctl, vm, KVM_CREATE_IRQCHIP, 0), 6);
    vcpu = must(sys3(SYS_ioctl, vm, KVM_CREATE_VCPU, 0), 7);
    map_low(guest);
    set_registers(vcpu, load(argv[1], guest, size));
    run(vcpu, map(2 * RUN_SIZE, MAP_SHARED, vcpu, 8));
    leave(0);
}

__asm__(".globl _start\n"
        "_start:\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call floor_main\n");
