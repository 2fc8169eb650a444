//! Address spaces: what may be executed, tagged pointers, closed registers, random placement.

use super::exec::exec;
use super::{USER, fork_as, wait};
use crate::harness::{child_dies_of, child_succeeds, errno, expect_errno};
use libc::*;
use std::arch::asm;
use std::ptr::{null, null_mut};

pub fn noexec_holds() {
    unsafe {
        let place = c"/tmp/security-noexec";
        mkdir(place.as_ptr(), 0o755);
        assert_eq!(mount(c"none".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), MS_NOEXEC, null()), 0);
        std::fs::copy("/proc/self/exe", "/tmp/security-noexec/program").unwrap();
        let path = c"/tmp/security-noexec/program";
        assert_eq!(chmod(path.as_ptr(), 0o755), 0);
        assert_eq!(wait(fork_as(0, || exec(path, &["x", "--security-helper sleep"]))), (100 + EACCES) << 8);
        expect_errno(i64::from(access(path.as_ptr(), X_OK)), EACCES);
        let fd = open(path.as_ptr(), O_RDWR);
        assert!(fd >= 0);
        for flags in [MAP_PRIVATE, MAP_SHARED] {
            assert_eq!(mmap(null_mut(), 4096, PROT_READ | PROT_EXEC, flags, fd, 0), MAP_FAILED);
            assert_eq!(errno(), EPERM);
            let at = mmap(null_mut(), 4096, PROT_READ, flags, fd, 0);
            assert_ne!(at, MAP_FAILED);
            // Nor by and by.
            expect_errno(i64::from(mprotect(at, 4096, PROT_READ | PROT_EXEC)), EACCES);
            // remap, and ask again.
            let moved = mremap(at, 4096, 8192, MREMAP_MAYMOVE);
            assert_ne!(moved, MAP_FAILED);
            expect_errno(i64::from(mprotect(moved, 4096, PROT_EXEC)), EACCES);
            assert_eq!(munmap(moved, 8192), 0);
        }
        // A remount counts from then on.
        close(fd);
        assert_eq!(mount(null(), place.as_ptr(), null(), MS_REMOUNT, null()), 0);
        let fd = open(path.as_ptr(), O_RDONLY);
        let at = mmap(null_mut(), 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        assert_ne!(at, MAP_FAILED);
        munmap(at, 4096);
        close(fd);
        umount2(place.as_ptr(), MNT_DETACH);
        rmdir(place.as_ptr());
    }
}

const PR_SET_TAGGED_ADDR_CTRL: i32 = 55;
const PR_GET_TAGGED_ADDR_CTRL: i32 = 56;

pub fn tagged_pointers_are_asked_for() {
    child_succeeds(|| unsafe {
        let mut fds = [0; 2];
        assert_eq!(pipe(fds.as_mut_ptr()), 0);
        let byte = 7u8;
        let tagged = (&raw const byte as u64 | 0x2a << 56) as *const c_void;
        assert_eq!(prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0), 0);
        expect_errno(write(fds[1], tagged, 1) as i64, EFAULT);
        expect_errno(i64::from(prctl(PR_SET_TAGGED_ADDR_CTRL, 1, 1, 0, 0)), EINVAL);
        expect_errno(i64::from(prctl(PR_SET_TAGGED_ADDR_CTRL, 1 << 20, 0, 0, 0)), EINVAL);
        expect_errno(i64::from(prctl(PR_GET_TAGGED_ADDR_CTRL, 1, 0, 0, 0)), EINVAL);
        assert_eq!(prctl(PR_SET_TAGGED_ADDR_CTRL, 1, 0, 0, 0), 0);
        assert_eq!(prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0), 1);
        assert_eq!(write(fds[1], tagged, 1), 1);
        let mut back = 0u8;
        let tagged = (&raw mut back as u64 | 0x81 << 56) as *mut c_void;
        assert_eq!(read(fds[0], tagged, 1), 1);
        assert_eq!(back, 7);
        // Children and new threads have it, a new program has not.
        child_succeeds(|| assert_eq!(prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0), 1));
        std::thread::spawn(|| assert_eq!(prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0), 1)).join().unwrap();
        assert_eq!(wait(fork_as(0, || exec(c"/proc/self/exe", &["x", "--security-helper tagged"]))), 0);
        assert_eq!(prctl(PR_SET_TAGGED_ADDR_CTRL, 0, 0, 0, 0), 0);
        expect_errno(write(fds[1], tagged, 1) as i64, EFAULT);
    });
}

pub fn registers_are_closed() {
    macro_rules! closed {
        ($($what:literal)*) => {$(
            child_dies_of(SIGILL, || {
                let value: u64;
                // SAFETY: reads or writes a register that this level has no access to.
                unsafe { asm!($what, inout("x0") 0u64 => value) };
                println!("{} gave {value:#x}", $what);
            });
        )*};
    }
    // The debug communications channel, performance counters, trace, and the registers of the kernel.
    closed!(
        "mrs x0, mdccsr_el0" "mrs x0, dbgdtr_el0" "msr dbgdtrtx_el0, x0" "mrs x0, dbgdtrrx_el0"
        "mrs x0, pmccntr_el0" "mrs x0, pmcr_el0" "msr pmuserenr_el0, x0" "mrs x0, pmxevcntr_el0"
        "msr pmswinc_el0, x0" "mrs x0, pmcntenset_el0" "mrs x0, pmselr_el0" "mrs x0, pmevcntr0_el0"
        "mrs x0, mdscr_el1" "mrs x0, vbar_el1" "mrs x0, ttbr0_el1" "mrs x0, tpidr_el1" "mrs x0, esr_el1" "mrs x0, far_el1"
        "mrs x0, cntp_ctl_el0" "msr cntp_tval_el0, x0" "mrs x0, cntv_ctl_el0" "mrs x0, cntkctl_el1"
        "msr daifset, #2" "msr daifclr, #2"
    );
    closed!("hvc #0" "smc #0" "dc isw, x0" "dc ivac, x0" "tlbi vmalle1" "ic iallu" "at s1e0r, x0");
    // What programs need is open.
    child_succeeds(|| unsafe {
        let value: u64;
        asm!("mrs {0}, cntvct_el0", "mrs {0}, cntfrq_el0", "mrs {0}, ctr_el0", "mrs {0}, dczid_el0", "mrs {0}, tpidr_el0", out(reg) value);
        std::hint::black_box(value);
    });
}

/// Runs the helper that shows where things are, `times` times.
fn placements(times: usize, before: impl Fn()) -> Vec<[u64; 4]> {
    (0..times)
        .map(|_| unsafe {
            let mut fds = [0; 2];
            assert_eq!(pipe(fds.as_mut_ptr()), 0);
            let pid = fork_as(USER, || {
                before();
                exec(c"/proc/self/exe", &["x", "--security-helper placed", &fds[1].to_string()])
            });
            let mut found = [0u64; 4];
            assert_eq!(read(fds[0], found.as_mut_ptr().cast(), 32), 32);
            assert_eq!(wait(pid), 0);
            close(fds[0]);
            close(fds[1]);
            found
        })
        .collect()
}

/// The helper `placed FD`: the stack pointer of the start, an anonymous mapping, the heap, the vdso.
pub fn helper(fd: i32) -> i32 {
    unsafe {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start = stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(25).unwrap().parse::<u64>().unwrap();
        let map = mmap(null_mut(), 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) as u64;
        let found = [start, map, sbrk(0) as u64, getauxval(AT_SYSINFO_EHDR)];
        i32::from(write(fd, found.as_ptr().cast(), 32) != 32)
    }
}

pub fn placement_is_random() {
    let differ =
        |all: &[[u64; 4]], what: usize, mask: u64| all.iter().any(|one| one[what] & mask != all[0][what] & mask);
    let setting = "/proc/sys/kernel/randomize_va_space";
    assert_eq!(std::fs::read_to_string(setting).unwrap(), "2\n");
    let all = placements(6, || ());
    for (what, name) in ["stack", "mapping", "heap", "vdso"].iter().enumerate() {
        assert!(differ(&all, what, u64::MAX), "{name}: {all:x?}");
    }
    // Within its page too, on a boundary of 16 bytes.
    assert!(differ(&all, 0, 0xff0), "{all:x?}");
    assert!(all.iter().all(|one| one[0] % 16 == 0));
    // Not where the program asks for it, nor where the machine does.
    let all = placements(4, || unsafe { assert_ne!(personality(0x4_0000), -1) });
    assert!(!(0..4).any(|what| differ(&all, what, u64::MAX)), "{all:x?}");
    std::fs::write(setting, "0").unwrap();
    let all = placements(4, || ());
    let fixed = !(0..4).any(|what| differ(&all, what, u64::MAX));
    std::fs::write(setting, "2").unwrap();
    assert!(fixed, "{all:x?}");
    assert!(std::fs::write(setting, "3").is_ok() || errno() == EINVAL);
    std::fs::write(setting, "2").unwrap();
}
