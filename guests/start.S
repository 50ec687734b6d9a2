/*
 * The entry of a kernel in 64-bit mode, with the physical address of Linux's
 * boot_params in rsi (Documentation/arch/x86/boot.rst, 64-bit boot protocol),
 * and the ways in and out of interrupt handlers. Takes a segment table and a
 * stack of its own and keeps the page tables that it was entered with.
 */
#define CODE 8
#define DATA 16

    .section .text.start, "ax"
    .globl start
start:
    xor %edx, %edx                  /* the command line is in boot_params */

    /* Entered here from elsewhere: rsi boot_params, rdx command line. */
    .globl start64
start64:
    cli
    cld
    lgdt gdt_pointer(%rip)
    lea stack_end(%rip), %rsp
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    pushq $CODE
    lea 1f(%rip), %rax
    push %rax
    lretq
1:
    mov %rsi, %rdi
    mov %rdx, %rsi
    xor %ebp, %ebp
    call runtime_start
1:
    cli
    hlt
    jmp 1b

/*
 * Sixteen bytes a vector, so that the interrupt table is a loop's work. The
 * processor itself pushes an error code for 8, 10 to 14, 17, 21, 29 and 30.
 */
    .text
    .globl interrupts_stubs
    .balign 16
interrupts_stubs:
    .set vector, 0
    .rept 64
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || \
        vector == 21 || vector == 29 || vector == 30
    .else
    pushq $0
    .endif
    pushq $vector
    jmp common
    .set vector, vector + 1
    .endr

    .globl interrupts_spurious
interrupts_spurious:
    iretq

common:
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov %rsp, %rdi
    cld
    call interrupts_handle
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* code, 64 bits, accessed */
    .quad 0x00cf93000000ffff        /* data, accessed */
gdt_pointer:
    .word . - gdt - 1
    .quad gdt

    .bss
    .balign 16
    .skip 16384
    .globl stack_end
stack_end:

    .section .note.GNU-stack, "", @progbits
