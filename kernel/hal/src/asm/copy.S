// Copies between kernel and user memory, and memory functions.
//
// Each run of user-access instructions that may fault has an entry in __ex_table: {first, end, fix-up}, each as an offset from the
// word itself. Routines between __nofault_start and __nofault_end take the fix-up at once; the others let the kernel resolve the
// fault first. PAN is lifted by the callers in user.rs.

.macro extable first, end, fixup
    .pushsection .ex_table, "a"
    .balign 4
    .long (\first) - .
    .long (\end) - .
    .long (\fixup) - .
    .popsection
.endm

// 128 bytes at an offset: x0 = dst, x1 = src.
.macro move_128 at
    ldp     x3, x4, [x1, #\at]
    ldp     x5, x6, [x1, #\at + 16]
    ldp     x7, x8, [x1, #\at + 32]
    ldp     x9, x10, [x1, #\at + 48]
    ldp     x11, x12, [x1, #\at + 64]
    ldp     x13, x14, [x1, #\at + 80]
    ldp     x15, x16, [x1, #\at + 96]
    ldp     x17, x18, [x1, #\at + 112]
    stp     x3, x4, [x0, #\at]
    stp     x5, x6, [x0, #\at + 16]
    stp     x7, x8, [x0, #\at + 32]
    stp     x9, x10, [x0, #\at + 48]
    stp     x11, x12, [x0, #\at + 64]
    stp     x13, x14, [x0, #\at + 80]
    stp     x15, x16, [x0, #\at + 96]
    stp     x17, x18, [x0, #\at + 112]
.endm

// x0 = dst, x1 = src, x2 = bytes; answers bytes not copied. Forward; chunks of 256, then what the bits of the rest say.
// A fault in a chunk falls back to bytes, so that the count is exact.
.macro copy_routine name
.global \name
.balign 64
\name:
    subs    x2, x2, #256
    b.lo    15f
10: move_128 0
    move_128 128
    add     x1, x1, #256
    add     x0, x0, #256
    subs    x2, x2, #256
    b.hs    10b
15: add     x2, x2, #256                    // 0..=255 are left
    tbz     x2, #7, 18f
16: move_128 0
    add     x1, x1, #128
    add     x0, x0, #128
    sub     x2, x2, #128
18: tbz     x2, #6, 25f
20: ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    ldp     x7, x8, [x1, #32]
    ldp     x9, x10, [x1, #48]
    stp     x3, x4, [x0]
    stp     x5, x6, [x0, #16]
    stp     x7, x8, [x0, #32]
    stp     x9, x10, [x0, #48]
    add     x1, x1, #64
    add     x0, x0, #64
    sub     x2, x2, #64
25: cbz     x2, 90f
    tbz     x2, #5, 35f
30: ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    stp     x3, x4, [x0]
    stp     x5, x6, [x0, #16]
    add     x1, x1, #32
    add     x0, x0, #32
    sub     x2, x2, #32
35: tbz     x2, #4, 45f
40: ldp     x3, x4, [x1]
    stp     x3, x4, [x0]
    add     x1, x1, #16
    add     x0, x0, #16
    sub     x2, x2, #16
45: tbz     x2, #3, 55f
50: ldr     x3, [x1]
    str     x3, [x0]
    add     x1, x1, #8
    add     x0, x0, #8
    sub     x2, x2, #8
55: tbz     x2, #2, 80f
60: ldr     w3, [x1]
    str     w3, [x0]
    add     x1, x1, #4
    add     x0, x0, #4
    sub     x2, x2, #4
    b       80f
70: add     x2, x2, #256                    // a fault in a chunk of 256, which was already taken off
80: cbz     x2, 90f
81: ldrb    w3, [x1]
82: strb    w3, [x0]
    add     x1, x1, #1
    add     x0, x0, #1
    sub     x2, x2, #1
    b       80b
90: mov     x0, x2
    ret
    extable 10b, 15b, 70b
    extable 16b, 80b, 80b
    extable 81b, 90b, 90b
.endm

// 128 bytes at an offset through the vector registers: x0 = dst, x1 = src.
.macro move_128_by_vectors at
    ldp     q0, q1, [x1, #\at]
    ldp     q2, q3, [x1, #\at + 32]
    ldp     q4, q5, [x1, #\at + 64]
    ldp     q6, q7, [x1, #\at + 96]
    stp     q0, q1, [x0, #\at]
    stp     q2, q3, [x0, #\at + 32]
    stp     q4, q5, [x0, #\at + 64]
    stp     q6, q7, [x0, #\at + 96]
.endm

// x0 = dst, x1 = src, x2 = blocks of 512 bytes, one at least; answers blocks not copied. The vector registers are the user's: what
// is used of them is put back.
.arch_extension fp
.arch_extension simd
.macro blocks_routine name
.global \name
.balign 64
\name:
    stp     q0, q1, [sp, #-128]!
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
    stp     q6, q7, [sp, #96]
1:  move_128_by_vectors 0
    move_128_by_vectors 128
    move_128_by_vectors 256
    move_128_by_vectors 384
    add     x1, x1, #512
    add     x0, x0, #512
    subs    x2, x2, #1
    b.ne    1b
2:  ldp     q2, q3, [sp, #32]
    ldp     q4, q5, [sp, #64]
    ldp     q6, q7, [sp, #96]
    ldp     q0, q1, [sp], #128
    mov     x0, x2
    ret
    extable 1b, 2b, 2b
.endm

// x0 = dst (user), x1 = bytes; answers bytes not zeroed.
.macro zero_routine name
.global \name
.balign 64
\name:
    cmp     x1, #64
    b.lo    20f
10: stp     xzr, xzr, [x0]
    stp     xzr, xzr, [x0, #16]
    stp     xzr, xzr, [x0, #32]
    stp     xzr, xzr, [x0, #48]
    add     x0, x0, #64
    sub     x1, x1, #64
    cmp     x1, #64
    b.hs    10b
20: cbz     x1, 40f
21: strb    wzr, [x0]
    add     x0, x0, #1
    sub     x1, x1, #1
    b       20b
40: mov     x0, x1
    ret
    extable 10b, 20b, 20b
    extable 21b, 40b, 40b
.endm

// x0 = dst (user), x1 = src, x2 = records; stores the halfword at the start of each 8-byte record of `src` to the record of `dst`.
// Answers records not stored.
.macro halfwords_routine name
.global \name
.balign 64
\name:
    subs    x2, x2, #4
    b.lo    2f
1:  ldrh    w3, [x1]
    ldrh    w4, [x1, #8]
    ldrh    w5, [x1, #16]
    ldrh    w6, [x1, #24]
    strh    w3, [x0]
    strh    w4, [x0, #8]
    strh    w5, [x0, #16]
    strh    w6, [x0, #24]
    add     x1, x1, #32
    add     x0, x0, #32
    subs    x2, x2, #4
    b.hs    1b
2:  adds    x2, x2, #4                      // 0 to 3 are left; or four or more, after a fault
    b.eq    4f
3:  ldrh    w3, [x1], #8
    strh    w3, [x0]
    add     x0, x0, #8
    subs    x2, x2, #1
    b.ne    3b
4:  mov     x0, x2
    ret
    extable 1b, 2b, 2b
    extable 3b, 4b, 4b
.endm

// x0 = dst (kernel), x1 = src (user), x2 = limit; copies up to and including a NUL. Answers the index of the NUL, `limit`
// when none came, or -1 on a fault.
.macro cstr_routine name
.global \name
.balign 64
\name:
    mov     x3, #0
    mov     x7, #0x0101010101010101
    // Eight bytes at a time where that many may be read and stored: not across the end of a page.
1:  add     x5, x3, #8
    cmp     x5, x2
    b.hi    5f
    add     x6, x1, x3
    and     x6, x6, #0xfff
    cmp     x6, #0xff8
    b.hi    5f
2:  ldr     x4, [x1, x3]
    str     x4, [x0, x3]
    sub     x6, x4, x7
    bic     x6, x6, x4
    ands    x6, x6, #0x8080808080808080     // the lowest bit set is that of the first zero byte
    b.ne    6f
    mov     x3, x5
    b       1b
5:  cmp     x3, x2
    b.hs    3f
7:  ldrb    w4, [x1, x3]
    strb    w4, [x0, x3]
    cbz     w4, 3f
    add     x3, x3, #1
    tst     x3, #7
    b.ne    5b
    b       1b
6:  rbit    x6, x6
    clz     x6, x6
    add     x3, x3, x6, lsr #3
3:  mov     x0, x3
    ret
4:  mov     x0, #-1
    ret
    extable 2b, 5b, 4b
    extable 7b, 6b, 4b
.endm

// FP registers. Where a fault of these lets the thread sleep, the kernel gives it its own registers back before they go on.
// x0 = `struct fpsimd_context` (user), x1 = its first 8 bytes; 16 zero bytes go behind it. Answers 0, or 1 on a fault.
.macro store_fp_routine name
.global \name
\name:
    mrs     x2, fpsr
    mrs     x3, fpcr
    orr     x2, x2, x3, lsl #32
1:  stp     x1, x2, [x0]
    add     x0, x0, #16
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
    add     x0, x0, #512
    stp     xzr, xzr, [x0]
    mov     x0, #0
    ret
4:  mov     x0, #1
    ret
    extable 1b, 4b, 4b
.endm

// x0 = V0-V31 (user), w1 = FPSR, w2 = FPCR. Loads all unless the 8 bytes behind V31 are something else than 0. Answers 0, 1 when
// they are, 2 on a fault.
.macro load_fp_routine name
.global \name
\name:
1:  ldr     x3, [x0, #512]
    cbnz    x3, 3f
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
    msr     fpsr, x1
    msr     fpcr, x2
    mov     x0, #0
    ret
3:  mov     x0, #1
    ret
4:  mov     x0, #2
    ret
    extable 1b, 3b, 4b
.endm

// Word accesses. x0 = address; x0 answers the value, or 1 << 32 on a fault.
.macro load32_routine name
.global \name
\name:
1:  ldar    w0, [x0]
    ret
2:  mov     x0, #(1 << 32)
    ret
    extable 1b, 2b, 2b
.endm
// x0 = address, w1 = value; x0 answers 0 or 1 << 32.
.macro store32_routine name
.global \name
\name:
1:  stlr    w1, [x0]
    mov     x0, #0
    ret
2:  mov     x0, #(1 << 32)
    ret
    extable 1b, 2b, 2b
.endm
// x0 = address, x1, x2 = values; x0 answers 0 or 1 << 32.
.macro store_pair_routine name
.global \name
\name:
1:  stp     x1, x2, [x0]
    mov     x0, #0
    ret
2:  mov     x0, #(1 << 32)
    ret
    extable 1b, 2b, 2b
.endm
// x0 = address, w1 = old, w2 = new; x0 answers what was found, or 1 << 32.
.macro cas32_routine name
.global \name
\name:
1:  ldaxr   w3, [x0]
    cmp     w3, w1
    b.ne    3f
2:  stlxr   w4, w2, [x0]
    cbnz    w4, 1b
    mov     w0, w3
    ret
3:  clrex
    mov     w0, w3
    ret
4:  mov     x0, #(1 << 32)
    ret
    extable 1b, 4b, 4b
.endm

.section .text
.global __user_access_start
__user_access_start:
copy_routine    copy_user_asm
zero_routine    zero_user_asm
halfwords_routine store_halfwords_user_asm
cstr_routine    cstr_user_asm
load32_routine  load32_user_asm
store32_routine store32_user_asm
store_pair_routine store_pair_user_asm
cas32_routine   cas32_user_asm
store_fp_routine store_fp_user_asm
load_fp_routine load_fp_user_asm
.global __nofault_start
__nofault_start:
copy_routine    copy_user_nofault_asm
blocks_routine  copy_blocks_asm
load32_routine  load32_user_nofault_asm
cas32_routine   cas32_user_nofault_asm
.global __nofault_end
__nofault_end:

// ---- memory functions the compiler calls ------------------------------------------------------------------------------
.global memcpy
.global copy_shared_asm
.balign 64
copy_shared_asm:
memcpy:
    // Up to 64 bytes: what the first and the last accesses leave out of each other they cover together. All loads come before the
    // first store, here and in the tail below, so that memmove may come here when the destination lies before the source.
    add     x9, x1, x2
    add     x10, x0, x2
    cmp     x2, #16
    b.lo    5f
    cmp     x2, #32
    b.hi    1f
    ldp     x3, x4, [x1]
    ldp     x5, x6, [x9, #-16]
    stp     x3, x4, [x0]
    stp     x5, x6, [x10, #-16]
    ret
1:  cmp     x2, #64
    b.hi    2f
    ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    ldp     x7, x8, [x9, #-32]
    ldp     x11, x12, [x9, #-16]
    stp     x3, x4, [x0]
    stp     x5, x6, [x0, #16]
    stp     x7, x8, [x10, #-32]
    stp     x11, x12, [x10, #-16]
    ret
2:  ldp     x11, x12, [x9, #-32]            // the last 32 bytes, stored at the end
    ldp     x13, x14, [x9, #-16]
    mov     x9, x0
    sub     x2, x2, #64
3:  ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    ldp     x7, x8, [x1, #32]
    ldp     x15, x16, [x1, #48]
    add     x1, x1, #64
    stp     x3, x4, [x9]
    stp     x5, x6, [x9, #16]
    stp     x7, x8, [x9, #32]
    stp     x15, x16, [x9, #48]
    add     x9, x9, #64
    subs    x2, x2, #64
    b.hs    3b
    tbz     x2, #5, 4f                      // less than 32 bytes before the end
    ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    stp     x3, x4, [x9]
    stp     x5, x6, [x9, #16]
4:  stp     x11, x12, [x10, #-32]
    stp     x13, x14, [x10, #-16]
    ret
5:  tbz     x2, #3, 6f
    ldr     x3, [x1]
    ldr     x4, [x9, #-8]
    str     x3, [x0]
    str     x4, [x10, #-8]
    ret
6:  tbz     x2, #2, 7f
    ldr     w3, [x1]
    ldr     w4, [x9, #-4]
    str     w3, [x0]
    str     w4, [x10, #-4]
    ret
7:  cbz     x2, 8f
    lsr     x5, x2, #1                      // 1 to 3 bytes: the first, the middle, the last
    ldrb    w3, [x1]
    ldrb    w6, [x1, x5]
    ldrb    w4, [x9, #-1]
    strb    w3, [x0]
    strb    w6, [x0, x5]
    strb    w4, [x10, #-1]
8:  ret

.global memmove
.balign 64
memmove:
    sub     x3, x0, x1
    cmp     x3, x2
    b.hs    memcpy                          // no overlap that matters forwards
    add     x9, x0, x2
    add     x1, x1, x2
1:  cmp     x2, #16
    b.lo    2f
    ldp     x3, x4, [x1, #-16]!
    stp     x3, x4, [x9, #-16]!
    sub     x2, x2, #16
    b       1b
2:  cbz     x2, 3f
    ldrb    w3, [x1, #-1]!
    strb    w3, [x9, #-1]!
    sub     x2, x2, #1
    b       2b
3:  ret

.global memset
.global fill_shared_asm
.balign 64
fill_shared_asm:
memset:
    mov     x9, x0
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
1:  cmp     x2, #32
    b.lo    2f
    stp     x1, x1, [x9]
    stp     x1, x1, [x9, #16]
    add     x9, x9, #32
    sub     x2, x2, #32
    b       1b
2:  tbz     x2, #4, 3f
    stp     x1, x1, [x9], #16
3:  tbz     x2, #3, 4f
    str     x1, [x9], #8
4:  tbz     x2, #2, 5f
    str     w1, [x9], #4
5:  tbz     x2, #1, 6f
    strh    w1, [x9], #2
6:  tbz     x2, #0, 7f
    strb    w1, [x9]
7:  ret

.global memcmp
.global bcmp
.balign 64
memcmp:
bcmp:
    add     x5, x0, x2
    add     x6, x1, x2
    subs    x2, x2, #8
    b.lo    3f
1:  ldr     x3, [x0], #8
    ldr     x4, [x1], #8
    cmp     x3, x4
    b.ne    9f
    subs    x2, x2, #8
    b.hs    1b
    ldr     x3, [x5, #-8]                   // the last 8 bytes; those seen before are equal
    ldr     x4, [x6, #-8]
2:  cmp     x3, x4
    b.ne    9f
    mov     w0, #0
    ret
3:  tbz     x2, #2, 4f                      // x2 is 8 below the length
    ldr     w3, [x0]
    ldr     w4, [x1]
    cmp     x3, x4
    b.ne    9f
    ldr     w3, [x5, #-4]
    ldr     w4, [x6, #-4]
    b       2b
4:  cmp     x0, x5
    b.eq    5f
    ldrb    w3, [x0], #1
    ldrb    w4, [x1], #1
    subs    w7, w3, w4
    b.eq    4b
    mov     w0, w7
    ret
5:  mov     w0, #0
    ret
9:  rev     x3, x3                          // the first byte that differs decides
    rev     x4, x4
    cmp     x3, x4
    mov     w0, #1
    cneg    w0, w0, lo
    ret

.global page_zero_asm
.balign 64
page_zero_asm:
    mrs     x1, dczid_el0
    tbnz    x1, #4, 2f
    and     x1, x1, #0xf
    mov     x2, #4
    lsl     x2, x2, x1
    add     x3, x0, #4096
1:  dc      zva, x0
    add     x0, x0, x2
    cmp     x0, x3
    b.lo    1b
    ret
2:  mov     x3, #4096
3:  stp     xzr, xzr, [x0]
    stp     xzr, xzr, [x0, #16]
    stp     xzr, xzr, [x0, #32]
    stp     xzr, xzr, [x0, #48]
    add     x0, x0, #64
    subs    x3, x3, #64
    b.ne    3b
    ret

// A device register that may not be there. x0 = address; answers the value, or 1 << 32 when the bus aborts.
.global mmio_probe32_asm
.global mmio_probe32_insn
mmio_probe32_asm:
    dsb     sy                              // an abort of earlier accesses is not ours
mmio_probe32_insn:
    ldr     w0, [x0]
    dsb     sy
    ret
1:  mov     x0, #(1 << 32)
    ret
    extable mmio_probe32_insn, mmio_probe32_insn + 4, 1b
