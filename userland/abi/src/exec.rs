//! execve(2) from threads: who the caller becomes, and what of the old program others see.

use crate::harness::{Tests, errno, expect_errno};
use std::ffi::{CStr, CString};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

pub const TESTS: Tests = &[
    ("a_thread_becomes_the_leader", a_thread_becomes_the_leader),
    ("after_the_leader_has_gone", after_the_leader_has_gone),
    ("robust_locks_are_released", robust_locks_are_released),
    ("exit_signal_is_sigchld_again", exit_signal_is_sigchld_again),
    ("two_threads_at_once", two_threads_at_once),
];

const SELF: &CStr = c"/proc/self/exe";

/// What the test binary does when a test executes it; answers its exit code.
pub fn helper() -> Option<i32> {
    let words: Vec<String> = std::env::args().collect();
    let task = words.get(1)?.strip_prefix("--exec-helper")?.trim();
    Some(match task {
        "leader" => {
            let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
            let tasks: Vec<String> = std::fs::read_dir("/proc/self/task")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let old: i32 = words[3].parse().unwrap();
            let checks = [
                words[2] == pid.to_string(),
                pid == tid,
                tasks == [pid.to_string()],
                old == pid || unsafe { libc::syscall(libc::SYS_tgkill, pid, old, 0) } == -1 && errno() == libc::ESRCH,
                unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) } == 0,
                std::thread::spawn(|| unsafe { libc::gettid() }).join().is_ok_and(|other| other != pid),
            ];
            checks.iter().position(|good| !good).map_or(0, |at| at as i32 + 1)
        }
        "sleep" => {
            std::thread::sleep(Duration::from_secs(100));
            0
        }
        _ => 99,
    })
}

fn exec(words: &[&str]) -> i32 {
    exec_file(SELF, words)
}

fn exec_file(path: &CStr, words: &[&str]) -> i32 {
    let words: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
    let list: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([null()]).collect();
    let env = [null()];
    // SAFETY: all strings and lists live across the call.
    unsafe { libc::execve(path.as_ptr(), list.as_ptr(), env.as_ptr()) };
    100 + errno()
}

fn exec_leader() -> i32 {
    // SAFETY: plain calls.
    let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
    // The leader may be gone, and with it what /proc/self shows.
    exec_file(c"/proc/thread-self/exe", &["name", "--exec-helper leader", &pid.to_string(), &tid.to_string()])
}

fn fork(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `body` and leaves.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "fork: errno {}", errno());
        if pid == 0 {
            let code = body();
            libc::_exit(code);
        }
        pid
    }
}

fn wait(pid: i32) -> i32 {
    let mut status = -1;
    // SAFETY: plain call on a local.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid, "errno {}", errno());
    status
}

fn a_thread_becomes_the_leader() {
    for _ in 0..15 {
        let pid = fork(|| {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(100)));
            std::thread::spawn(exec_leader).join().unwrap_or(98)
        });
        assert_eq!(wait(pid), 0);
    }
    // From the leader too.
    assert_eq!(wait(fork(exec_leader)), 0);
}

fn after_the_leader_has_gone() {
    let pid = fork(|| {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            // SAFETY: ends the process if the exec failed.
            unsafe { libc::_exit(exec_leader()) };
        });
        // SAFETY: ends this thread alone.
        unsafe { libc::syscall(libc::SYS_exit, 3) };
        97
    });
    assert_eq!(wait(pid), 0);
}

fn robust_locks_are_released() {
    const OWNER_DIED: u32 = 0x4000_0000;
    // SAFETY: the mapping is shared with the child and large enough for a list head, an entry and the word behind it.
    unsafe {
        let page = libc::mmap(null_mut(), 4096, 3, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0).cast::<u64>();
        assert!(!page.is_null() && page as isize != -1);
        let word = &*page.add(4).cast::<AtomicU32>();
        let pid = fork(|| {
            // head: next, offset from the entry to the word, pending; the entry stands right before the word.
            *page = page.add(3) as u64;
            *page.add(1) = 8;
            *page.add(2) = 0;
            *page.add(3) = page as u64;
            word.store(libc::gettid() as u32, SeqCst);
            assert_eq!(libc::syscall(libc::SYS_set_robust_list, page, 24), 0);
            exec(&["name", "--exec-helper sleep"])
        });
        for _ in 0..2000 {
            if word.load(SeqCst) & OWNER_DIED != 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(word.load(SeqCst), OWNER_DIED);
        libc::kill(pid, libc::SIGKILL);
        assert_eq!(wait(pid), libc::SIGKILL);
    }
}

fn exit_signal_is_sigchld_again() {
    // SAFETY: the child execs or leaves.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) as i32;
        if pid == 0 {
            libc::_exit(exec(&[
                "name",
                "--exec-helper leader",
                &libc::getpid().to_string(),
                &libc::gettid().to_string(),
            ]));
        }
        assert!(pid > 0);
        // A child that ends without SIGCHLD is only for those who ask with __WALL or __WCLONE; after execve it is a child as any.
        let mut info: libc::siginfo_t = zeroed();
        let ended = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
        assert_eq!(libc::waitid(libc::P_PID, pid as u32, &mut info, ended), 0);
        assert_eq!(wait(pid), 0);
        let pid = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) as i32;
        if pid == 0 {
            libc::_exit(5);
        }
        assert_eq!(libc::waitid(libc::P_PID, pid as u32, &mut info, ended), 0);
        expect_errno(i64::from(libc::waitpid(pid, null_mut(), 0)), libc::ECHILD);
        assert_eq!(libc::waitpid(pid, null_mut(), libc::__WCLONE), pid);
    }
}

fn two_threads_at_once() {
    for _ in 0..20 {
        let pid = fork(|| {
            let other = std::thread::spawn(exec_leader);
            let code = exec_leader();
            let _ = other.join();
            code
        });
        assert_eq!(wait(pid), 0);
    }
}
