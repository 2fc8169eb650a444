// Exception vectors, entry to and return from user mode.
//
// A user thread's registers live in its UserContext (trap.rs), on its kernel stack. While user code runs SP_EL1 points at them, so
// that an exception from EL0 stores them with no register to spare; the kernel's own stack pointer waits in the context, above a
// small frame: x29, x30, x19. The compiler keeps nothing in x20-x28 across `run_user_asm` (trap.rs), which saves 10 instructions.

.equ CTX_SP,        248
.equ CTX_PC,        256
.equ CTX_KERNEL_SP, 280

.section .text
.balign 64
.global run_user_asm
// u64 run_user_asm(UserContext *context): answers ESR_EL1, or 1 << 63 for an interrupt. Only x19, x29 and SP survive.
run_user_asm:
    stp     x29, x30, [sp, #-32]!
    str     x19, [sp, #16]
    mov     x1, sp
    str     x1, [x0, #CTX_KERNEL_SP]
    ldp     x1, x2, [x0, #CTX_PC]
    msr     elr_el1, x1
    msr     spsr_el1, x2
    mov     sp, x0                          // nothing is pushed from here on: IRQs are masked
    ldp     x30, x1, [sp, #240]
    msr     sp_el0, x1
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x0, x1, [sp]
    eret

.macro user_exception reason
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    b       \reason
.endm

// The rest of the way out of user mode.
.macro user_exit
    mrs     x1, sp_el0
    msr     sp_el0, xzr                     // cpu.rs: no spin lock is held
    stp     x30, x1, [sp, #240]
    mrs     x1, elr_el1
    mrs     x2, spsr_el1
    stp     x1, x2, [sp, #CTX_PC]
    ldr     x1, [sp, #CTX_KERNEL_SP]
    mov     sp, x1
    ldr     x19, [sp, #16]
    ldp     x29, x30, [sp], #32
.endm

user_sync:
    user_exit
    mrs     x0, esr_el1
    ret
user_irq:
    user_exit
    mov     x0, #(1 << 63)
    ret
user_serror:
    user_exit
    mrs     x0, esr_el1
    orr     x0, x0, #(1 << 62)
    ret

// Kernel-mode exceptions: a KernelFrame (trap.rs) on the stack.
.equ FRAME_BYTES, 288
.macro kernel_entry handler
    sub     sp, sp, #FRAME_BYTES
    // A 16 KiB stack fills the upper half of a 32 KiB slot: bit 14 of a good SP is set. Looked at before anything is stored,
    // with no register to spare: SP and x0 are added into each other and back.
    add     sp, sp, x0
    sub     x0, sp, x0
    tbz     x0, #14, stack_overflow
    sub     x0, sp, x0
    sub     sp, sp, x0
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    b       \handler
.endm

.macro kernel_save_rest
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el1
    mrs     x2, spsr_el1
    stp     x30, x1, [sp, #240]
    mrs     x1, esr_el1
    stp     x2, x1, [sp, #256]
    stp     x29, x1, [sp, #272]
    mrs     x1, elr_el1
    str     x1, [sp, #280]
    add     x29, sp, #272                   // a frame record that names the interrupted PC
    mov     x0, sp
.endm

kernel_sync:
    kernel_save_rest
    bl      rust_kernel_sync
    b       kernel_exit
kernel_irq:
    kernel_save_rest
    bl      rust_kernel_irq
    b       kernel_exit
kernel_serror:
    kernel_save_rest
    bl      rust_kernel_bad
    brk     #2
kernel_exit:
    ldp     x30, x1, [sp, #240]
    ldr     x2, [sp, #256]
    msr     elr_el1, x1
    msr     spsr_el1, x2
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x0, x1, [sp]
    add     sp, sp, #FRAME_BYTES
    eret

// The kernel stack ran out: continue on the emergency stack (shared: the machine is going down).
stack_overflow:
    mov     x1, x0
    adrp    x0, emergency_stack_end
    add     x0, x0, :lo12:emergency_stack_end
    mov     sp, x0
    mov     x0, x1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    bl      rust_stack_overflow
    brk     #3

.macro vector
    .balign 128
.endm

.balign 2048
.global exception_vectors
exception_vectors:
    vector                                  // current EL, SP_EL0: never used
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror
    vector                                  // current EL, SP_EL1
    kernel_entry kernel_sync
    vector
    kernel_entry kernel_irq
    vector
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror
    vector                                  // EL0, AArch64
    user_exception user_sync
    vector
    user_exception user_irq
    vector
    user_exception user_irq
    vector
    user_exception user_serror
    vector                                  // EL0, AArch32: user code cannot get there
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror
    vector
    kernel_entry kernel_serror

.section .bss.stack, "aw", %nobits
.balign 32768
.space 16384
emergency_stack:     .space 16384
emergency_stack_end:

// ---- context switch -------------------------------------------------------------------------------------------------
.section .text
.balign 64
.global switch_asm
// switch_asm(prev_sp: *mut u64, next_sp: *const u64, prev_on_cpu: *mut u32): changes all registers but x19, x29 and SP.
switch_asm:
    stp     x29, x30, [sp, #-32]!
    str     x19, [sp, #16]
    mov     x9, sp
    str     x9, [x0]
    ldr     x9, [x1]
    mov     sp, x9
    stlr    wzr, [x2]                       // the old stack may now run elsewhere
    ldr     x19, [sp, #16]
    ldp     x29, x30, [sp], #32
    ret

.global thread_start_asm
// First instruction of a new thread: entry and argument are on its stack.
thread_start_asm:
    ldp     x0, x1, [sp], #16
    mov     x29, xzr
    mov     x30, xzr
    b       rust_thread_start

// fp_save_asm(state), fp_load_asm(state): V0-V31, FPSR, FPCR as in context::FpState.
.arch_extension fp
.arch_extension simd
.global fp_save_asm
fp_save_asm:
    stp     q0, q1, [x0]
    stp     q2, q3, [x0, #32]
    stp     q4, q5, [x0, #64]
    stp     q6, q7, [x0, #96]
    stp     q8, q9, [x0, #128]
    stp     q10, q11, [x0, #160]
    stp     q12, q13, [x0, #192]
    stp     q14, q15, [x0, #224]
    stp     q16, q17, [x0, #256]
    stp     q18, q19, [x0, #288]
    stp     q20, q21, [x0, #320]
    stp     q22, q23, [x0, #352]
    stp     q24, q25, [x0, #384]
    stp     q26, q27, [x0, #416]
    stp     q28, q29, [x0, #448]
    stp     q30, q31, [x0, #480]
    mrs     x1, fpsr
    mrs     x2, fpcr
    str     w1, [x0, #512]
    str     w2, [x0, #516]
    ret
.global fp_load_asm
fp_load_asm:
    ldp     q0, q1, [x0]
    ldp     q2, q3, [x0, #32]
    ldp     q4, q5, [x0, #64]
    ldp     q6, q7, [x0, #96]
    ldp     q8, q9, [x0, #128]
    ldp     q10, q11, [x0, #160]
    ldp     q12, q13, [x0, #192]
    ldp     q14, q15, [x0, #224]
    ldp     q16, q17, [x0, #256]
    ldp     q18, q19, [x0, #288]
    ldp     q20, q21, [x0, #320]
    ldp     q22, q23, [x0, #352]
    ldp     q24, q25, [x0, #384]
    ldp     q26, q27, [x0, #416]
    ldp     q28, q29, [x0, #448]
    ldp     q30, q31, [x0, #480]
    ldr     w1, [x0, #512]
    ldr     w2, [x0, #516]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
