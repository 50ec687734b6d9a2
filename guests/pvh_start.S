/*
 * The entry of a PVH guest (Xen's docs/misc/pvh.pandoc): 32-bit protected mode
 * without paging, ebx holds the physical address of hvm_start_info. Maps the
 * first 4 GiB one to one and goes on in 64-bit mode at start64, without
 * boot_params.
 */
#define CODE64 16
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define PRESENT_WRITE 0x3
#define LARGE 0x80

    .section .note.Xen, "a", @note
    .balign 4
    .long 2f - 1f
    .long 4f - 3f
    .long 18                        /* XEN_ELFNOTE_PHYS32_ENTRY */
1:  .asciz "Xen"
2:  .balign 4
3:  .long pvh_start
4:  .balign 4

    .text
    .code32
pvh_start:
    cli
    cld
    mov %ebx, pvh_info
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $level4, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov %cr0, %eax
    or $CR0_PG, %eax
    mov %eax, %cr0
    lgdt pointer
    ljmp $CODE64, $1f

    .code64
1:
    mov $stack_end, %esp
    call pvh_cmdline
    mov %rax, %rdx
    xor %esi, %esi
    jmp start64

    .data
    .balign 4096
level4:
    .quad level3 + PRESENT_WRITE
    .fill 511, 8, 0
level3:
    .quad level2 + PRESENT_WRITE
    .quad level2 + 4096 + PRESENT_WRITE
    .quad level2 + 2 * 4096 + PRESENT_WRITE
    .quad level2 + 3 * 4096 + PRESENT_WRITE
    .fill 508, 8, 0
level2:
    .set page, 0
    .rept 2048
    .quad (page << 21) + LARGE + PRESENT_WRITE
    .set page, page + 1
    .endr

    .globl pvh_info
    .balign 8
pvh_info:
    .quad 0

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        /* code, 32 bits, accessed */
    .quad 0x00af9b000000ffff        /* code, 64 bits, accessed */
pointer:
    .word . - gdt - 1
    .long gdt

    .section .note.GNU-stack, "", @progbits
