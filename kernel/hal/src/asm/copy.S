// Copies between kernel and user memory, and memory functions.
//
// Each user-access instruction that may fault has an entry in __ex_table: {instruction, fix-up} as offsets from the entry
// itself. Routines between __nofault_start and __nofault_end take the fix-up at once; the others let the kernel resolve the
// fault first. PAN is lifted by the callers in user.rs.

.macro extable insn, fixup
    .pushsection .ex_table, "a"
    .balign 4
    .long (\insn) - .
    .long (\fixup) - .
    .popsection
.endm

// x0 = dst, x1 = src, x2 = bytes; answers bytes not copied. Forward; chunks of 64, then 8, then 1. A fault in a chunk falls
// back to bytes, so that the count is exact.
.macro copy_routine name
.global \name
.balign 64
\name:
    cmp     x2, #64
    b.lo    20f
10: ldp     x3, x4, [x1]
11: ldp     x5, x6, [x1, #16]
12: ldp     x7, x8, [x1, #32]
13: ldp     x9, x10, [x1, #48]
14: stp     x3, x4, [x0]
15: stp     x5, x6, [x0, #16]
16: stp     x7, x8, [x0, #32]
17: stp     x9, x10, [x0, #48]
    add     x1, x1, #64
    add     x0, x0, #64
    sub     x2, x2, #64
    cmp     x2, #64
    b.hs    10b
20: cmp     x2, #8
    b.lo    30f
21: ldr     x3, [x1]
22: str     x3, [x0]
    add     x1, x1, #8
    add     x0, x0, #8
    sub     x2, x2, #8
    b       20b
30: cbz     x2, 40f
31: ldrb    w3, [x1]
32: strb    w3, [x0]
    add     x1, x1, #1
    add     x0, x0, #1
    sub     x2, x2, #1
    b       30b
40: mov     x0, x2
    ret
    extable 10b, 30b
    extable 11b, 30b
    extable 12b, 30b
    extable 13b, 30b
    extable 14b, 30b
    extable 15b, 30b
    extable 16b, 30b
    extable 17b, 30b
    extable 21b, 30b
    extable 22b, 30b
    extable 31b, 40b
    extable 32b, 40b
.endm

// x0 = dst (user), x1 = bytes; answers bytes not zeroed.
.macro zero_routine name
.global \name
.balign 64
\name:
    cmp     x1, #64
    b.lo    20f
10: stp     xzr, xzr, [x0]
11: stp     xzr, xzr, [x0, #16]
12: stp     xzr, xzr, [x0, #32]
13: stp     xzr, xzr, [x0, #48]
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
    extable 10b, 20b
    extable 11b, 20b
    extable 12b, 20b
    extable 13b, 20b
    extable 21b, 40b
.endm

// x0 = dst (kernel), x1 = src (user), x2 = limit; copies up to and including a NUL. Answers the index of the NUL, `limit`
// when none came, or -1 on a fault.
.macro cstr_routine name
.global \name
.balign 64
\name:
    mov     x3, #0
1:  cmp     x3, x2
    b.hs    3f
2:  ldrb    w4, [x1, x3]
    strb    w4, [x0, x3]
    cbz     w4, 3f
    add     x3, x3, #1
    b       1b
3:  mov     x0, x3
    ret
4:  mov     x0, #-1
    ret
    extable 2b, 4b
.endm

// Word accesses. x0 = address; x0 answers the value, or 1 << 32 on a fault.
.macro load32_routine name
.global \name
\name:
1:  ldar    w0, [x0]
    ret
2:  mov     x0, #(1 << 32)
    ret
    extable 1b, 2b
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
    extable 1b, 2b
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
    extable 1b, 4b
    extable 2b, 4b
.endm

.section .text
copy_routine    copy_user_asm
zero_routine    zero_user_asm
cstr_routine    cstr_user_asm
load32_routine  load32_user_asm
store32_routine store32_user_asm
cas32_routine   cas32_user_asm
.global __nofault_start
__nofault_start:
copy_routine    copy_user_nofault_asm
load32_routine  load32_user_nofault_asm
cas32_routine   cas32_user_nofault_asm
.global __nofault_end
__nofault_end:

// ---- memory functions the compiler calls ------------------------------------------------------------------------------
.global memcpy
.balign 64
memcpy:
    mov     x9, x0
    cmp     x2, #16
    b.lo    5f
    cmp     x2, #64
    b.lo    2f
1:  ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    ldp     x7, x8, [x1, #32]
    ldp     x10, x11, [x1, #48]
    add     x1, x1, #64
    stp     x3, x4, [x9]
    stp     x5, x6, [x9, #16]
    stp     x7, x8, [x9, #32]
    stp     x10, x11, [x9, #48]
    add     x9, x9, #64
    sub     x2, x2, #64
    cmp     x2, #64
    b.hs    1b
2:  cmp     x2, #16
    b.lo    5f
    ldp     x3, x4, [x1], #16
    stp     x3, x4, [x9], #16
    sub     x2, x2, #16
    b       2b
5:  tbz     x2, #3, 6f
    ldr     x3, [x1], #8
    str     x3, [x9], #8
6:  tbz     x2, #2, 7f
    ldr     w3, [x1], #4
    str     w3, [x9], #4
7:  tbz     x2, #1, 8f
    ldrh    w3, [x1], #2
    strh    w3, [x9], #2
8:  tbz     x2, #0, 9f
    ldrb    w3, [x1]
    strb    w3, [x9]
9:  ret

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
.balign 64
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
1:  cmp     x2, #8
    b.lo    2f
    ldr     x3, [x0]
    ldr     x4, [x1]
    cmp     x3, x4
    b.ne    2f
    add     x0, x0, #8
    add     x1, x1, #8
    sub     x2, x2, #8
    b       1b
2:  cbz     x2, 3f
    ldrb    w3, [x0], #1
    ldrb    w4, [x1], #1
    sub     x2, x2, #1
    subs    w5, w3, w4
    b.eq    2b
    mov     w0, w5
    ret
3:  mov     w0, #0
    ret

// page_copy_asm(dst, src), page_zero_asm(dst): one 4 KiB page.
.global page_copy_asm
.balign 64
page_copy_asm:
    mov     x2, #4096
1:  ldp     x3, x4, [x1]
    ldp     x5, x6, [x1, #16]
    ldp     x7, x8, [x1, #32]
    ldp     x9, x10, [x1, #48]
    add     x1, x1, #64
    stp     x3, x4, [x0]
    stp     x5, x6, [x0, #16]
    stp     x7, x8, [x0, #32]
    stp     x9, x10, [x0, #48]
    add     x0, x0, #64
    subs    x2, x2, #64
    b.ne    1b
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
    extable mmio_probe32_insn, 1b
