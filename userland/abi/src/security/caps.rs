//! capabilities(7): file capabilities, ambient ones, securebits, programs that may be executed but not read.

use super::exec::{exec, program};
use super::{OTHER, USER, as_user, become_user, fork_as, wait};
use crate::harness::{child_succeeds, expect_errno, until_asleep};
use libc::*;
use std::ffi::CStr;
use std::ptr::null;

const NET_RAW: u64 = 1 << 13;
const CHOWN: u64 = 1;
const SETPCAP: u64 = 1 << 8;
const SYS_TIME: u64 = 1 << 25;

/// Permitted, effective and inheritable sets of the calling thread.
fn sets() -> [u64; 3] {
    let mut header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    assert_eq!(unsafe { syscall(SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) }, 0);
    [1, 0, 2].map(|at| u64::from(data[at]) | u64::from(data[at + 3]) << 32)
}

fn set(permitted: u64, effective: u64, inheritable: u64) -> i64 {
    let header = [0x2008_0522u32, 0];
    let low = [effective as u32, permitted as u32, inheritable as u32];
    let high = [effective, permitted, inheritable].map(|set| (set >> 32) as u32);
    let data = [low, high];
    unsafe { syscall(SYS_capset, header.as_ptr(), data.as_ptr()) }
}

/// What the helper `caps PERMITTED EFFECTIVE SECURE` checks.
pub fn helper(words: &[String]) -> i32 {
    let [permitted, effective, _] = sets();
    let found = [permitted, effective, unsafe { getauxval(AT_SECURE) }];
    let wanted: Vec<u64> = words.iter().map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
    if found[..] == wanted[..] {
        return 0;
    }
    eprintln!("permitted, effective, secure {found:x?}, not {wanted:x?}");
    1
}

/// Sets security.capability, second revision.
fn set_file_caps(path: &CStr, permitted: u64, inheritable: u64, effective: bool) -> i64 {
    let words = [
        0x0200_0000 | u32::from(effective),
        permitted as u32,
        inheritable as u32,
        (permitted >> 32) as u32,
        (inheritable >> 32) as u32,
    ];
    let name = c"security.capability".as_ptr();
    i64::from(unsafe { setxattr(path.as_ptr(), name, words.as_ptr().cast(), 20, 0) })
}

fn has_file_caps(path: &CStr) -> bool {
    unsafe { getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// The status of the helper, run by `uid` after `before`, with the sets it should find.
fn run(uid: u32, path: &CStr, wanted: [u64; 3], before: impl FnOnce()) -> i32 {
    let wanted = wanted.map(|set| format!("{set:x}"));
    wait(fork_as(uid, || {
        before();
        exec(path, &["x", "--security-helper caps", &wanted[0], &wanted[1], &wanted[2]])
    }))
}

pub fn file_capabilities() {
    let path = program("fcaps", (0, 0), 0o755);
    assert_eq!(set_file_caps(&path, NET_RAW | SYS_TIME, 0, true), 0);
    assert_eq!(run(USER, &path, [NET_RAW | SYS_TIME, NET_RAW | SYS_TIME, 1], || ()), 0);
    assert_eq!(set_file_caps(&path, NET_RAW, 0, false), 0);
    assert_eq!(run(USER, &path, [NET_RAW, 0, 1], || ()), 0);
    // Inheritable ones: the file's and the caller's.
    assert_eq!(set_file_caps(&path, 0, NET_RAW | CHOWN, true), 0);
    assert_eq!(run(USER, &path, [0, 0, 1], || ()), 0);
    let with_inheritable = || unsafe {
        // Inheritable sets survive the change of user.
        let [permitted, effective, _] = sets();
        assert_eq!(set(permitted, effective, NET_RAW | SYS_TIME), 0);
        become_user(USER);
        assert_eq!(sets()[2], NET_RAW | SYS_TIME);
        assert_eq!(prctl(PR_GET_DUMPABLE), 0);
    };
    assert_eq!(run(0, &path, [NET_RAW, NET_RAW, 1], with_inheritable), 0);
    // What the bounding set has lost a program cannot get, and one that needs it does not run.
    assert_eq!(set_file_caps(&path, NET_RAW | SYS_TIME, 0, true), 0);
    let bounded = || unsafe {
        assert_eq!(prctl(PR_CAPBSET_DROP, 25), 0);
        become_user(USER);
    };
    assert_eq!(run(0, &path, [0, 0, 0], bounded), (100 + EPERM) << 8);
    assert_eq!(set_file_caps(&path, NET_RAW | SYS_TIME, 0, false), 0);
    assert_eq!(run(0, &path, [NET_RAW, 0, 1], bounded), 0);
    // no_new_privs: no more than before.
    assert_eq!(run(USER, &path, [0, 0, 0], || unsafe { assert_eq!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0) }), 0);
    // Root has what it has; a set-user-ID root program with file capabilities has those alone.
    let all = sets()[0];
    assert_eq!(run(0, &path, [all, all, 0], || ()), 0);
    unsafe { unlink(path.as_ptr()) };
    let path = program("fcaps", (0, 0), 0o4755);
    assert_eq!(set_file_caps(&path, NET_RAW, 0, true), 0);
    assert_eq!(run(USER, &path, [NET_RAW, NET_RAW, 1], || ()), 0);
    unsafe { unlink(path.as_ptr()) };
}

pub fn file_capabilities_are_guarded() {
    let path = program("guarded", (USER, USER), 0o755);
    let name = c"security.capability".as_ptr();
    let attempt =
        |bytes: &[u8]| unsafe { i64::from(setxattr(path.as_ptr(), name, bytes.as_ptr().cast(), bytes.len(), 0)) };
    expect_errno(attempt(b"nonsense"), EINVAL);
    expect_errno(attempt(&[0; 20]), EINVAL);
    // Its owner may not say what it can do.
    as_user(USER, || expect_errno(set_file_caps(&path, NET_RAW, 0, true), EPERM));
    child_succeeds(|| {
        let [permitted, effective, _] = sets();
        assert_eq!(set(permitted, effective & !(1 << 31), 0), 0);
        expect_errno(set_file_caps(&path, NET_RAW, 0, true), EPERM);
    });
    // Nor does anything but what was blessed have them: who writes, truncates or gives the file away takes them.
    let takes: [(&str, &dyn Fn()); 3] = [
        ("write", &|| unsafe {
            let fd = open(path.as_ptr(), O_WRONLY | O_APPEND);
            assert_eq!(write(fd, c"x".as_ptr().cast(), 1), 1);
            close(fd);
        }),
        ("truncate", &|| unsafe { assert_eq!(truncate(path.as_ptr(), 100), 0) }),
        ("chown", &|| unsafe { assert_eq!(chown(path.as_ptr(), OTHER, u32::MAX), 0) }),
    ];
    for (what, take) in takes {
        assert_eq!(set_file_caps(&path, NET_RAW, 0, true), 0);
        assert!(has_file_caps(&path));
        take();
        assert!(!has_file_caps(&path), "{what}");
    }
    unsafe { unlink(path.as_ptr()) };
    // On a mount without set-user-ID they do not count.
    unsafe {
        let place = c"/tmp/security-nosuid";
        mkdir(place.as_ptr(), 0o755);
        assert_eq!(mount(c"none".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), MS_NOSUID, null()), 0);
        std::fs::copy("/proc/self/exe", "/tmp/security-nosuid/program").unwrap();
        let path = c"/tmp/security-nosuid/program";
        assert_eq!(set_file_caps(path, NET_RAW, 0, true), 0);
        assert_eq!(chmod(path.as_ptr(), 0o6755), 0);
        assert_eq!(run(USER, path, [0, 0, 0], || ()), 0);
        umount2(place.as_ptr(), MNT_DETACH);
        rmdir(place.as_ptr());
    }
}

const PR_CAP_AMBIENT: i32 = 47;
const IS_SET: i32 = 1;
const RAISE: i32 = 2;

pub fn ambient_capabilities() {
    let plain = program("ambient", (0, 0), 0o755);
    let suid = program("ambient-suid", (OTHER, OTHER), 0o4755);
    let raise = |keep: bool| unsafe {
        // As a user with one capability.
        assert_eq!(prctl(PR_SET_KEEPCAPS, 1), 0);
        become_user(USER);
        assert_eq!(set(NET_RAW | SETPCAP, NET_RAW | SETPCAP, NET_RAW), 0);
        expect_errno(i64::from(prctl(PR_CAP_AMBIENT, RAISE, 25, 0, 0)), EPERM);
        assert_eq!(prctl(PR_CAP_AMBIENT, RAISE, 13, 0, 0), 0);
        if !keep {
            // What is no longer permitted or inheritable is no longer ambient.
            assert_eq!(set(NET_RAW, NET_RAW, 0), 0);
            assert_eq!(prctl(PR_CAP_AMBIENT, IS_SET, 13, 0, 0), 0);
        }
    };
    assert_eq!(run(0, &plain, [NET_RAW, NET_RAW, 0], || raise(true)), 0);
    assert_eq!(run(0, &plain, [0, 0, 0], || raise(false)), 0);
    assert_eq!(run(0, &suid, [0, 0, 1], || raise(true)), 0);
    assert_eq!(set_file_caps(&plain, CHOWN, 0, true), 0);
    assert_eq!(run(0, &plain, [CHOWN, CHOWN, 1], || raise(true)), 0);
    for path in [plain, suid] {
        unsafe { unlink(path.as_ptr()) };
    }
    // A change of user from root takes them, whether or not capabilities are kept.
    for keep in [0, 1] {
        child_succeeds(|| unsafe {
            let [permitted, effective, _] = sets();
            assert_eq!(set(permitted, effective, NET_RAW), 0);
            assert_eq!(prctl(PR_CAP_AMBIENT, RAISE, 13, 0, 0), 0);
            assert_eq!(prctl(PR_SET_KEEPCAPS, keep), 0);
            assert_eq!(setresuid(USER, USER, USER), 0);
            assert_eq!(prctl(PR_CAP_AMBIENT, IS_SET, 13, 0, 0), 0);
            assert_eq!(sets()[0] != 0, keep == 1);
        });
    }
}

pub fn securebits() {
    const NOROOT: i32 = 1;
    const NOROOT_LOCKED: i32 = 2;
    const KEEP_CAPS: i32 = 1 << 4;
    const KEEP_CAPS_LOCKED: i32 = 1 << 5;
    const NO_CAP_AMBIENT_RAISE: i32 = 1 << 6;
    let set_bits = |bits: i32| unsafe { i64::from(prctl(PR_SET_SECUREBITS, bits)) };
    let path = program("noroot", (0, 0), 0o4755);
    // Root is nobody special, whoever it is.
    assert_eq!(run(0, &path, [0, 0, 0], || assert_eq!(set_bits(NOROOT), 0)), 0);
    let as_other = || {
        assert_eq!(set_bits(NOROOT | NOROOT_LOCKED), 0);
        become_user(USER);
    };
    assert_eq!(run(0, &path, [0, 0, 1], as_other), 0);
    unsafe { unlink(path.as_ptr()) };
    child_succeeds(|| unsafe {
        assert_eq!(set_bits(NOROOT | NOROOT_LOCKED), 0);
        // What is locked stays, and so does the lock.
        expect_errno(set_bits(NOROOT_LOCKED), EPERM);
        expect_errno(set_bits(NOROOT), EPERM);
        expect_errno(set_bits(0), EPERM);
        expect_errno(set_bits(NOROOT | NOROOT_LOCKED | 0x100), EPERM);
        assert_eq!(set_bits(NOROOT | NOROOT_LOCKED | KEEP_CAPS_LOCKED), 0);
        expect_errno(i64::from(prctl(PR_SET_KEEPCAPS, 1)), EPERM);
        expect_errno(set_bits(NOROOT | NOROOT_LOCKED | KEEP_CAPS_LOCKED | KEEP_CAPS), EPERM);
        assert_eq!(set_bits(NOROOT | NOROOT_LOCKED | KEEP_CAPS_LOCKED | NO_CAP_AMBIENT_RAISE), 0);
        let [permitted, effective, _] = sets();
        assert_eq!(set(permitted, effective, NET_RAW), 0);
        expect_errno(i64::from(prctl(PR_CAP_AMBIENT, RAISE, 13, 0, 0)), EPERM);
        // A locked bit is the same for children.
        child_succeeds(|| expect_errno(i64::from(prctl(PR_SET_KEEPCAPS, 1)), EPERM));
        // Without CAP_SETPCAP nothing changes.
        assert_eq!(set(permitted & !SETPCAP, effective & !SETPCAP, 0), 0);
        expect_errno(set_bits(0xff), EPERM);
        expect_errno(i64::from(prctl(PR_CAPBSET_DROP, 13)), EPERM);
    });
}

pub fn unreadable_programs() {
    let path = program("unreadable", (0, 0), 0o711);
    let pid = fork_as(USER, || exec(&path, &["x", "--security-helper sleep"]));
    crate::harness::sometimes(|| {
        super::sleep_ms(5);
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("sleep"))
    });
    until_asleep(pid);
    as_user(USER, || unsafe {
        for name in ["maps", "smaps", "environ", "auxv"] {
            let error = std::fs::File::open(format!("/proc/{pid}/{name}")).map(drop).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EACCES), "{name}");
        }
        assert!(std::fs::read_link(format!("/proc/{pid}/exe")).is_err());
        assert!(std::fs::read_dir(format!("/proc/{pid}/fd")).is_err());
        let mut byte = 0u8;
        let local = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let remote = iovec { iov_base: 0x1_0000 as *mut _, iov_len: 1 };
        expect_errno(process_vm_readv(pid, &local, 1, &remote, 1, 0) as i64, EPERM);
        expect_errno(process_vm_writev(pid, &local, 1, &remote, 1, 0) as i64, EPERM);
        let pidfd = syscall(SYS_pidfd_open, pid, 0);
        expect_errno(syscall(SYS_pidfd_getfd, pidfd, 0, 0), EPERM);
        expect_errno(syscall(SYS_kcmp, pid, getpid(), 1, 0, 0), EPERM);
        // It may still be signalled.
        assert_eq!(kill(pid, 0), 0);
    });
    unsafe { kill(pid, SIGKILL) };
    wait(pid);
    unsafe { unlink(path.as_ptr()) };
}
