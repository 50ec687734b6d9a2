/*
 * Where a vCPU comes to by SIPI: real mode, at the page that the vector names,
 * where this code has been copied. From there to 64-bit mode at once (Intel SDM
 * volume 3, 10.8.5), with the page tables of the first vCPU.
 */
#define TRAMPOLINE 0xa000
#define CODE 8
#define DATA 16
#define STACK 4096
#define PLACE(label) (label - storm_begin)

#define CR0_PE_PG 0x80000001
#define CR4_PAE   0x20
#define EFER      0xc0000080
#define EFER_LME  0x100

    .data
    .globl storm_begin
    .balign 16
storm_begin:
    .code16
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl PLACE(pointer)
    mov %cr4, %eax
    or $CR4_PAE, %eax
    mov %eax, %cr4
    mov PLACE(storm_cr3), %eax
    mov %eax, %cr3
    mov $EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov %cr0, %eax
    or $CR0_PE_PG, %eax
    mov %eax, %cr0
    ljmpl $CODE, $(TRAMPOLINE + PLACE(1f))

    .code64
1:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $1, %ecx
    lock xadd %ecx, TRAMPOLINE + PLACE(taken)
    inc %ecx
    imul $STACK, %rcx, %rcx
    add TRAMPOLINE + PLACE(storm_stacks), %rcx
    mov %rcx, %rsp
    xor %ebp, %ebp
    mov $storm_enter, %rax
    call *%rax

    .balign 8
    .globl storm_cr3
storm_cr3:
    .quad 0
    .globl storm_stacks
storm_stacks:
    .quad 0
taken:
    .long 0
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* code, 64 bits, accessed */
    .quad 0x00cf93000000ffff        /* data, accessed */
pointer:
    .word . - gdt - 1
    .long TRAMPOLINE + PLACE(gdt)

    .globl storm_end
storm_end:

    .section .note.GNU-stack, "", @progbits
