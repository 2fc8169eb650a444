// Entry from the boot loader (Linux arm64 boot protocol) and of secondary CPUs.
// x0 = device tree (physical); MMU off; EL1 or EL2.

.equ KIMAGE_VA,   0xffff800000000000        // maps the 2 MiB block the image starts in
.equ TEXT_OFFSET, 0x80000
.equ SPIN_SLOTS,  8                         // smp.rs has the same

// Translation attributes used before the final tables are built.
.equ BLOCK_NORMAL, 0x701                    // AF, inner shareable, AttrIdx 0, block
.equ TABLE,        0x3

.section .head.text, "ax"
.global _start
_start:
    b       primary_entry
    .long   0
    .quad   TEXT_OFFSET                     // text_offset
    .quad   __image_size                    // effective size, .bss included
    .quad   0xa                             // little endian, 4 KiB pages, anywhere in RAM
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

.section .idmap.text, "ax"

// Leaves EL1h with a defined system state, from EL2 or EL1. Clobbers x9-x12; returns to the caller at EL1.
drop_to_el1:
    mrs     x9, CurrentEL
    cmp     x9, #(2 << 2)
    b.ne    1f
    mov     x9, #(1 << 31)                  // RW: EL1 is AArch64
    orr     x9, x9, #(3 << 40)              // APK, API: pointer authentication is not trapped
    msr     hcr_el2, x9
    isb
    mrs     x9, cnthctl_el2
    orr     x9, x9, #3                      // EL1 reads the physical counter and timer
    msr     cnthctl_el2, x9
    msr     cntvoff_el2, xzr
    mov     x9, #0x33ff                     // no FP/SIMD traps; SVE and SME stay trapped
    msr     cptr_el2, x9
    msr     hstr_el2, xzr
    mrs     x9, midr_el1
    msr     vpidr_el2, x9
    mrs     x9, mpidr_el1
    msr     vmpidr_el2, x9
    msr     vttbr_el2, xzr
    mrs     x9, id_aa64dfr0_el1             // debug registers and all event counters are EL1's, untrapped
    ubfx    x9, x9, #8, #4
    cbz     x9, 3f                          // no counters: HPMN is nothing
    cmp     x9, #0xf
    b.eq    3f
    mrs     x9, pmcr_el0
    ubfx    x9, x9, #11, #5                 // N
    msr     mdcr_el2, x9
3:
    mrs     x9, id_aa64pfr0_el1             // GICv3 system registers for EL1
    ubfx    x9, x9, #24, #4
    cbz     x9, 2f
    mrs     x9, s3_4_c12_c9_5               // ICC_SRE_EL2
    orr     x9, x9, #1                      // SRE
    orr     x9, x9, #8                      // Enable
    msr     s3_4_c12_c9_5, x9
    isb
    msr     s3_4_c12_c11_0, xzr             // ICH_HCR_EL2
2:  mov     x9, #0x3c5                      // EL1h, DAIF masked
    msr     spsr_el2, x9
    msr     elr_el2, x30
    ldr     x9, =0x30d00800                 // SCTLR_EL1: RES1 bits, MMU off
    msr     sctlr_el1, x9
    eret
1:  msr     daifset, #0xf
    ret

// Turns the MMU on: x25 = TTBR1 root, x26 = identity root (both physical); continues at the virtual address in x27.
enable_mmu:
    movz    x9, #0x04ff                     // MAIR: 0 normal write-back, 1 device nGnRE, 2 normal non-cacheable
    movk    x9, #0x0044, lsl #16
    msr     mair_el1, x9
    // TCR: T0SZ=T1SZ=16, 4 KiB granules, WB WA inner shareable walks, AS=1 (16-bit ASID), TBI0, IPS from the CPU
    mrs     x10, id_aa64mmfr0_el1
    and     x11, x10, #0xf
    cmp     x11, #5
    mov     x12, #5
    csel    x11, x11, x12, lo               // at most 48 bits
    ldr     x9, =0x00000030b5103510         // see mmu.rs for the fields
    bfi     x9, x11, #32, #3
    ubfx    x10, x10, #4, #4                // ASIDBits: 2 is 16 bits
    cmp     x10, #2
    b.eq    1f
    bic     x9, x9, #(1 << 36)
1:  msr     tcr_el1, x9
    msr     ttbr0_el1, x26
    msr     ttbr1_el1, x25
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    ldr     x9, =0x3455d99d                 // M, C, SA, SA0, I, DZE, UCT, nTWI, nTWE, UCI, RES1; SPAN=0
    msr     sctlr_el1, x9
    isb
    br      x27

primary_entry:
    cbnz    x0, 1f                          // no device tree, and not CPU 0: a loader sent all CPUs here
    mrs     x9, mpidr_el1
    and     x9, x9, #0xffffff
    cbnz    x9, spin_entry
1:  mov     x21, x0                         // device tree
    mrs     x22, cntvct_el0
    bl      drop_to_el1
    // zero .bss (the boot tables live there)
    adrp    x0, __bss_start
    adrp    x1, __bss_end
1:  stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    1b

    adrp    x23, _start
    and     x23, x23, #~0x1fffff            // physical base of the image's 2 MiB block
    adrp    x26, boot_l0_id
    adrp    x25, boot_l0_kernel
    adrp    x2, boot_l1_id                  // identity: the GiB the image is in (two, should it straddle)
    add     x3, x2, #TABLE
    lsr     x4, x23, #39
    and     x4, x4, #511
    str     x3, [x26, x4, lsl #3]
    lsr     x5, x23, #30
    and     x6, x5, #511
    lsl     x7, x5, #30
    mov     x9, #BLOCK_NORMAL
    orr     x7, x7, x9
    str     x7, [x2, x6, lsl #3]
    // the linear map of the GiBs that hold the image and the device tree
    adrp    x2, boot_l1_linear
    add     x3, x2, #TABLE
    str     x3, [x25]
    str     x7, [x2, x6, lsl #3]
    lsr     x5, x21, #30
    and     x6, x5, #511
    lsl     x7, x5, #30
    orr     x7, x7, x9
    str     x7, [x2, x6, lsl #3]
    add     x5, x5, #1                      // and the next, should the tree straddle
    add     x6, x6, #1
    and     x6, x6, #511
    lsl     x7, x5, #30
    orr     x7, x7, x9
    str     x7, [x2, x6, lsl #3]
    // the kernel image: 16 MiB of 2 MiB blocks
    adrp    x2, boot_l1_image
    add     x3, x2, #TABLE
    str     x3, [x25, #(256 * 8)]
    adrp    x4, boot_l2_image
    add     x3, x4, #TABLE
    str     x3, [x2]
    orr     x7, x23, x9
    mov     x5, #0
2:  str     x7, [x4, x5, lsl #3]
    add     x7, x7, #0x200000
    add     x5, x5, #1
    cmp     x5, #8
    b.lo    2b
    // tables were written with the cache off
    dmb     sy
    adrp    x0, __boot_tables_start
    adrp    x1, __boot_tables_end
3:  dc      ivac, x0
    add     x0, x0, #16
    cmp     x0, x1
    b.lo    3b
    dsb     sy
    ldr     x27, =primary_high
    b       enable_mmu

// A CPU released from a spin table, which passes no argument, or one that came with the first: waits until its
// SecondaryArgs are in spin_args. MMU off; the starter cleans what it writes there to memory.
.global spin_entry
spin_entry:
    mrs     x9, mpidr_el1
    movz    x10, #0x00ff, lsl #16           // affinity fields
    movk    x10, #0xffff
    movk    x10, #0x00ff, lsl #32
    and     x9, x9, x10
    adrp    x10, spin_args
    add     x10, x10, :lo12:spin_args
1:  mov     x11, x10
    mov     x12, #SPIN_SLOTS
2:  ldp     x13, x14, [x11], #16            // MPIDR, address of the arguments or 0
    cbz     x14, 3f
    cmp     x13, x9
    b.eq    4f
3:  subs    x12, x12, #1
    b.ne    2b
    wfe
    b       1b
4:  mov     x0, x14

.global secondary_entry
// x0 = physical address of a SecondaryArgs { ttbr1, ttbr0, stack, cpu, node }
secondary_entry:
    mov     x20, x0
    bl      drop_to_el1
    ldp     x25, x26, [x20]
    ldp     x28, x21, [x20, #16]
    ldr     x22, [x20, #32]
    ldr     x27, =secondary_high
    b       enable_mmu

// Replaces TTBR1. Called at its identity address with IRQs masked: x0 = new root (physical). The old tables must map
// nothing that the new ones map differently in use between here and the flush.
.global switch_ttbr1
switch_ttbr1:
    dsb     sy
    msr     ttbr1_el1, x0
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    ret

.section .text
primary_high:
    adrp    x0, boot_stack_end
    add     x0, x0, :lo12:boot_stack_end
    sub     sp, x0, #64                     // context.rs: the thread's control is above
    adrp    x0, CPU_BLOCKS
    add     x0, x0, :lo12:CPU_BLOCKS
    msr     tpidr_el1, x0                   // cpu.rs: the first CPU's block
    msr     sp_el0, xzr                     // no spin lock is held (cpu.rs)
    adrp    x9, exception_vectors
    add     x9, x9, :lo12:exception_vectors
    msr     vbar_el1, x9
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x21
    mov     x1, x23
    mov     x2, x22
    bl      rust_primary
    brk     #1

secondary_high:
    mov     sp, x28
    adrp    x0, CPU_BLOCKS
    add     x0, x0, :lo12:CPU_BLOCKS
    add     x0, x0, x21, lsl #6
    msr     tpidr_el1, x0
    msr     sp_el0, xzr
    adrp    x9, exception_vectors
    add     x9, x9, :lo12:exception_vectors
    msr     vbar_el1, x9
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x21
    mov     x1, x22
    bl      rust_secondary
    brk     #1

// Not in .bss, which the first CPU clears while others may look here already. Cache lines of its own.
.section .data.spin_args, "aw", %progbits
.balign 64
.global spin_args
spin_args:      .space SPIN_SLOTS * 16

.section .bss.boot_tables, "aw", %nobits
.balign 4096
.global boot_l0_id
boot_l0_id:     .space 4096
boot_l1_id:     .space 4096
.global boot_l0_kernel
boot_l0_kernel: .space 4096
boot_l1_linear: .space 4096
boot_l1_image:  .space 4096
boot_l2_image:  .space 4096
.global boot_l1_device
boot_l1_device: .space 4096

.section .bss.stack, "aw", %nobits
.balign 32768
.space 16384
.global boot_stack
boot_stack:     .space 16384
.global boot_stack_end
boot_stack_end:
