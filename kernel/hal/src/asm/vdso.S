// The vDSO: one page that is a whole ELF shared object, laid out by hand. The kernel copies it into a page of user memory; the
// page before it holds the clock's data (see vdso.rs). All code is position-independent; addresses in the headers are offsets.

.section .rodata.vdso, "a"
.balign 8
.global __vdso_start
.global __vdso_end
__vdso_start:
.Lvdso:
    // ELF header
    .byte   0x7f, 'E', 'L', 'F', 2, 1, 1, 0
    .quad   0
    .hword  3                               // ET_DYN
    .hword  183                             // EM_AARCH64
    .word   1
    .quad   0                               // e_entry
    .quad   .Lphdr - .Lvdso
    .quad   0                               // no section headers
    .word   0
    .hword  64, 56, 2, 64, 0, 0
.Lphdr:
    .word   1, 5                            // PT_LOAD, read and execute
    .quad   0, 0, 0
    .quad   .Lend - .Lvdso, .Lend - .Lvdso, 4096
    .word   2, 4                            // PT_DYNAMIC, read
    .quad   .Ldynamic - .Lvdso, .Ldynamic - .Lvdso, .Ldynamic - .Lvdso
    .quad   .Ldynamic_end - .Ldynamic, .Ldynamic_end - .Ldynamic, 8
.Ldynamic:
    .quad   4, .Lhash - .Lvdso              // DT_HASH
    .quad   5, .Lstrings - .Lvdso           // DT_STRTAB
    .quad   6, .Lsymbols - .Lvdso           // DT_SYMTAB
    .quad   10, .Lstrings_end - .Lstrings   // DT_STRSZ
    .quad   11, 24                          // DT_SYMENT
    .quad   14, .Lname_soname - .Lstrings   // DT_SONAME
    .quad   0x6ffffff0, .Lversym - .Lvdso   // DT_VERSYM
    .quad   0x6ffffffc, .Lverdef - .Lvdso   // DT_VERDEF
    .quad   0x6ffffffd, 2                   // DT_VERDEFNUM
    .quad   0, 0
.Ldynamic_end:

.macro vdso_symbol name, start, end
    .word   \name - .Lstrings
    .byte   0x12, 0                         // global function
    .hword  1                               // any defined section
    .quad   \start - .Lvdso, \end - \start
.endm
.Lsymbols:
    .quad   0, 0, 0
    vdso_symbol .Lname_gettime, .Lgettime, .Lgettime_end
    vdso_symbol .Lname_gettimeofday, .Lgettimeofday, .Lgettimeofday_end
    vdso_symbol .Lname_getres, .Lgetres, .Lgetres_end
    vdso_symbol .Lname_sigreturn, .Lsigreturn, .Lsigreturn_end

.Lhash:                                     // one bucket, one chain
    .word   1, 5
    .word   1
    .word   0, 2, 3, 4, 0
.Lversym:
    .hword  0, 2, 2, 2, 2
    .balign 8
.Lverdef:
    .hword  1, 1, 1, 1                      // the file itself
    .word   0x0deebfa1, 20, 28
    .word   .Lname_soname - .Lstrings, 0
    .hword  1, 0, 2, 1
    .word   0x075fcb89, 20, 0
    .word   .Lname_version - .Lstrings, 0
.Lstrings:
    .byte   0
.Lname_soname:
    .asciz  "linux-vdso.so.1"
.Lname_version:
    .asciz  "LINUX_2.6.39"
.Lname_gettime:
    .asciz  "__kernel_clock_gettime"
.Lname_gettimeofday:
    .asciz  "__kernel_gettimeofday"
.Lname_getres:
    .asciz  "__kernel_clock_getres"
.Lname_sigreturn:
    .asciz  "__kernel_rt_sigreturn"
.Lstrings_end:

    .balign 16
// x2 = CLOCK_MONOTONIC in ns; x6 = the data page. Clobbers x3-x5.
.macro vdso_monotonic
    adr     x6, .Lvdso - 4096
    isb
    mrs     x2, cntvct_el0
    ldp     x3, x4, [x6]                    // multiplier, shift (1..=32)
    umulh   x5, x2, x3
    mul     x2, x2, x3
    lsr     x2, x2, x4
    neg     x4, x4
    lsl     x5, x5, x4                      // by 64 - shift: the count is taken modulo 64
    orr     x2, x2, x5
.endm
// Splits x2 ns into x3 seconds and x2 ns. Clobbers x4.
.macro vdso_split
    mov     x4, #0xca00
    movk    x4, #0x3b9a, lsl #16            // 1000000000
    udiv    x3, x2, x4
    msub    x2, x3, x4, x2
.endm
// x2 = x2 rounded down, x5 = what was taken off. Clobbers x4.
.macro vdso_coarse
    mov     x4, #0x0900
    movk    x4, #0x3d, lsl #16              // 4000000 ns
    udiv    x5, x2, x4
    msub    x5, x5, x4, x2
    sub     x2, x2, x5
.endm
.equ MONOTONIC_CLOCKS, (1 << 1) | (1 << 4) | (1 << 7)
.equ REALTIME_CLOCKS, (1 << 0) | (1 << 11)
.equ COARSE_CLOCKS, (1 << 5) | (1 << 6)

.Lgettime:
    cmp     w0, #11
    b.hi    2f
    mov     w7, #1
    lsl     w7, w7, w0
    mov     w3, #(MONOTONIC_CLOCKS | REALTIME_CLOCKS | COARSE_CLOCKS)
    tst     w7, w3
    b.eq    2f
    vdso_monotonic
    tst     w7, #COARSE_CLOCKS
    b.eq    1f
    vdso_coarse
1:  mov     w3, #(REALTIME_CLOCKS | (1 << 5))
    tst     w7, w3
    b.eq    1f
    ldr     x3, [x6, #16]                   // CLOCK_REALTIME - CLOCK_MONOTONIC
    add     x2, x2, x3
1:  vdso_split
    stp     x3, x2, [x1]
    mov     w0, #0
    ret
2:  mov     x8, #113
    svc     #0
    ret
.Lgettime_end:

.Lgettimeofday:
    cbz     x0, 1f
    vdso_monotonic
    ldr     x3, [x6, #16]
    add     x2, x2, x3
    vdso_split
    mov     x4, #1000
    udiv    x2, x2, x4
    stp     x3, x2, [x0]
1:  cbz     x1, 1f
    stp     wzr, wzr, [x1]                  // the time zone is UTC
1:  mov     w0, #0
    ret
.Lgettimeofday_end:

.Lgetres:
    cmp     w0, #11
    b.hi    3f
    mov     w7, #1
    lsl     w7, w7, w0
    mov     x2, #1
    mov     w3, #(MONOTONIC_CLOCKS | REALTIME_CLOCKS)
    tst     w7, w3
    b.ne    1f
    tst     w7, #COARSE_CLOCKS
    b.eq    3f
    mov     x2, #0x0900
    movk    x2, #0x3d, lsl #16
1:  cbz     x1, 2f
    stp     xzr, x2, [x1]
2:  mov     w0, #0
    ret
3:  mov     x8, #114
    svc     #0
    ret
.Lgetres_end:

    nop                                     // unwinders look at the instruction before the return address
.global __vdso_sigreturn
__vdso_sigreturn:
.Lsigreturn:
    mov     x8, #139
    svc     #0
.Lsigreturn_end:
.Lend:
__vdso_end:
