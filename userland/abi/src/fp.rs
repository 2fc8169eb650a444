//! FP/SIMD registers: a thread's own, whoever ran in between.

use crate::harness::{Tests, child_succeeds};
use std::mem::zeroed;
use std::ptr::null_mut;

pub const TESTS: Tests = &[
    ("registers_survive_switches", registers_survive_switches),
    ("registers_survive_large_copies", registers_survive_large_copies),
    ("a_child_gets_a_copy", a_child_gets_a_copy),
    ("a_bad_frame_is_a_fault_of_the_program", a_bad_frame),
    ("registers_survive_handlers_on_fresh_stacks", fresh_stacks),
];

macro_rules! for_each_register {
    ($head:literal $tail:literal) => {
        for_each_register!(@ $head $tail 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@ $head:literal $tail:literal $($number:literal)*) => {
        concat!($($head, $number, $tail, "\n"),*)
    };
}

/// Fills V0-V31, FPSR and FPCR from `pattern`, calls the kernel, and answers the call's result and which bits are others then.
unsafe fn keep_across(pattern: u64, number: i64, arguments: [u64; 3]) -> (u64, u64) {
    let flags = pattern & 0x1f;
    let rounding = (pattern >> 8 & 3) << 22;
    let (result, mut changed, new_flags, new_rounding): (u64, u64, u64, u64);
    std::arch::asm!(
        for_each_register!("dup v" ".2d, {p}"),
        "msr fpsr, {flags}",
        "msr fpcr, {rounding}",
        "svc #0",
        "mrs {new_flags}, fpsr",
        "mrs {new_rounding}, fpcr",
        "msr fpcr, xzr",
        // A difference of any register stays in one of the sums of differences.
        "mov {changed}, xzr",
        for_each_register!("umov {t}, v" ".d[0]\neor {t}, {t}, {p}\norr {changed}, {changed}, {t}"),
        for_each_register!("umov {t}, v" ".d[1]\neor {t}, {t}, {p}\norr {changed}, {changed}, {t}"),
        p = in(reg) pattern, flags = in(reg) flags, rounding = in(reg) rounding,
        new_flags = out(reg) new_flags, new_rounding = out(reg) new_rounding,
        changed = out(reg) changed, t = out(reg) _,
        inout("x0") arguments[0] => result, in("x1") arguments[1], in("x2") arguments[2], in("x3") 0u64, in("x4") 0u64,
        in("x8") number,
        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
        out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
        out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
        out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
    );
    changed |= new_flags & 0x1f ^ flags | new_rounding ^ rounding;
    (result, changed)
}

fn registers_survive_switches() {
    let threads: Vec<_> = (1..=6u64)
        .map(|thread| {
            std::thread::spawn(move || {
                let nap = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
                for round in 0..300u64 {
                    let pattern = (thread << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    // A turn of the others; a sleep, often on to another CPU; and no switch at all, mostly.
                    let (number, argument) = match round % 4 {
                        0 => (libc::SYS_nanosleep, &raw const nap as u64),
                        1 => (libc::SYS_getppid, 0),
                        _ => (libc::SYS_sched_yield, 0),
                    };
                    let (_, changed) = unsafe { keep_across(pattern, number, [argument, 0, 0]) };
                    assert_eq!(changed, 0, "thread {thread}, round {round}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A kernel may use them to copy, and may not show it: whatever lies at odd places, and where pages come in during the copy.
fn registers_survive_large_copies() {
    const ROOM: usize = 64 << 10;
    let threads: Vec<_> = (1..=4u64)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut ends = [0; 2];
                assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
                let [reader, writer] = ends.map(|fd| fd as u64);
                for round in 0..60u64 {
                    let pattern = (thread << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let len = 1500 + round * 971;
                    let sent: Vec<u8> = (0..len + 9).map(|at| ((at * at) ^ (pattern >> (at % 56))) as u8).collect();
                    let at = &raw const sent[round as usize % 9];
                    let (written, changed) = unsafe { keep_across(pattern, libc::SYS_write, [writer, at as u64, len]) };
                    assert_eq!((written, changed), (len, 0), "written, thread {thread}, round {round}");
                    let (private, anonymous) = (libc::MAP_PRIVATE, libc::MAP_ANONYMOUS);
                    let protection = libc::PROT_READ | libc::PROT_WRITE;
                    let fresh = unsafe { libc::mmap(null_mut(), ROOM, protection, private | anonymous, -1, 0) };
                    assert_ne!(fresh, libc::MAP_FAILED);
                    let to = fresh as u64 + thread * round % 17;
                    let (read, changed) = unsafe { keep_across(!pattern, libc::SYS_read, [reader, to, len]) };
                    assert_eq!((read, changed), (len, 0), "read, thread {thread}, round {round}");
                    let got = unsafe { std::slice::from_raw_parts(to as *const u8, len as usize) };
                    assert!(
                        got == &sent[round as usize % 9..][..len as usize],
                        "bytes, thread {thread}, round {round}"
                    );
                    assert_eq!(unsafe { libc::munmap(fresh, ROOM) }, 0);
                }
                ends.into_iter().for_each(|fd| assert_eq!(unsafe { libc::close(fd) }, 0));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn a_child_gets_a_copy() {
    for round in 1..=20u64 {
        let pattern = round.wrapping_mul(0x0123_4567_89ab_cdef) | 1;
        // clone(2) as fork(2) does it.
        let (child, changed) = unsafe { keep_across(pattern, libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0]) };
        if child == 0 {
            unsafe { libc::_exit(i32::from(changed != 0)) };
        }
        assert_eq!(changed, 0, "the parent's, round {round}");
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(child as i32, &mut status, 0) }, child as i32);
        assert_eq!(status, 0, "the child's, round {round}");
    }
}

extern "C" fn spoil(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    // The kernel's own mode, and records that make no sense: the first is where uc_mcontext's fixed part ends.
    context.uc_mcontext.pstate = 0x3c5;
    let records = (&raw mut context.uc_mcontext).cast::<u8>();
    unsafe { records.add(288).cast::<u64>().write(0x1234) };
}

extern "C" fn leave(_: i32) {
    unsafe { libc::_exit(0) };
}

/// rt_sigreturn(2) with a frame that is not well formed: SIGSEGV, whose handler runs as any other, in user mode.
fn a_bad_frame() {
    child_succeeds(|| unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = leave as *const () as usize;
        libc::sigaction(libc::SIGSEGV, &action, null_mut());
        action.sa_sigaction = spoil as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGUSR1, &action, null_mut());
        libc::raise(libc::SIGUSR1);
        panic!("the frame was taken for good");
    });
}

extern "C" fn spoil_registers(_: i32) {
    // SAFETY: changes what it declares.
    unsafe {
        std::arch::asm!(
            for_each_register!("movi v" ".2d, #0"),
            "msr fpsr, xzr",
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
        );
    }
}

/// Frames on alternate stacks whose pages are not there yet: storing the registers faults half way, and the thread waits there for
/// others that map memory too.
fn fresh_stacks() {
    const BYTES: usize = 64 * 1024;
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = spoil_registers as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, null_mut()) }, 0);
    let threads: Vec<_> = (1..=4u64)
        .map(|thread| {
            std::thread::spawn(move || unsafe {
                let (read_write, private) =
                    (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                let stack = libc::mmap(null_mut(), BYTES, read_write, private, -1, 0);
                assert_ne!(stack, libc::MAP_FAILED);
                let tid = libc::syscall(libc::SYS_gettid) as u64;
                for round in 0..200u64 {
                    // The top moves, so that the end of a page comes among the registers at some time.
                    let size = BYTES - (round as usize % 64) * 64;
                    assert_eq!(libc::madvise(stack, BYTES, libc::MADV_DONTNEED), 0);
                    let own = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: size };
                    assert_eq!(libc::sigaltstack(&own, null_mut()), 0);
                    let pattern = (thread << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let (_, changed) = keep_across(pattern, libc::SYS_tkill, [tid, libc::SIGUSR1 as u64, 0]);
                    assert_eq!(changed, 0, "thread {thread}, round {round}");
                }
                let none = libc::stack_t { ss_sp: null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
                assert_eq!(libc::sigaltstack(&none, null_mut()), 0);
                assert_eq!(libc::munmap(stack, BYTES), 0);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    action.sa_sigaction = libc::SIG_DFL;
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, null_mut()) }, 0);
}
