//! Processes: fork, clone, exec, exit, wait, groups and sessions, credentials, limits, prctl, pidfd.

use crate::harness::{Tests, child_dies_of, child_succeeds, errno, expect_errno, in_child};
use std::ffi::CString;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;

pub const TESTS: Tests = &[
    ("exit_codes", exit_codes),
    ("wait_errors", wait_errors),
    ("waitid_reports", waitid_reports),
    ("wait_selects", wait_selects),
    ("no_zombies_when_ignored", no_zombies_when_ignored),
    ("orphans_find_a_subreaper", orphans_find_a_subreaper),
    ("parent_death_signal", parent_death_signal),
    ("vfork_waits", vfork_waits),
    ("clone_tid_words", clone_tid_words),
    ("clone_errors", clone_errors),
    ("clone3_pidfd", clone3_pidfd),
    ("pidfd_calls", pidfd_calls),
    ("pidfd_of_proc", pidfd_of_proc),
    ("exec_passes_arguments", exec_passes_arguments),
    ("exec_keeps_and_resets", exec_keeps_and_resets),
    ("exec_ends_other_threads", exec_ends_other_threads),
    ("exec_errors", exec_errors),
    ("exec_scripts", exec_scripts),
    ("groups_and_sessions", groups_and_sessions),
    ("orphaned_group_gets_hangup", orphaned_group_gets_hangup),
    ("user_ids", user_ids),
    ("group_ids", group_ids),
    ("capabilities", capabilities),
    ("limits", limits),
    ("process_limit", process_limit),
    ("prctl_options", prctl_options),
    ("names_and_usage", names_and_usage),
    ("random_bytes", random_bytes),
    ("kcmp_orders", kcmp_orders),
    ("threads_come_and_go", threads_come_and_go),
    ("fork_storm", fork_storm),
    ("exit_group_while_cloning", exit_group_while_cloning),
];

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// What the test binary does when a test executes it; answers its exit code.
pub fn helper() -> Option<i32> {
    let words: Vec<String> = std::env::args().collect();
    let task = words.get(1)?.strip_prefix("--helper")?.trim();
    Some(match task {
        "args" => {
            let good = words[2..] == ["", "b c", "long"] && std::env::var("KEY").as_deref() == Ok("value");
            let name = unsafe { std::ffi::CStr::from_ptr(libc::getauxval(libc::AT_EXECFN) as *const _) };
            let page = unsafe { libc::getauxval(libc::AT_PAGESZ) };
            let secure = unsafe { libc::getauxval(libc::AT_SECURE) };
            if good && name == SELF && page == 4096 && secure == 0 { 0 } else { 9 }
        }
        "state" => unsafe {
            let mut first: libc::sigaction = zeroed();
            let mut second: libc::sigaction = zeroed();
            libc::sigaction(libc::SIGUSR1, null(), &mut first);
            libc::sigaction(libc::SIGUSR2, null(), &mut second);
            let mut mask = 0u64;
            libc::syscall(libc::SYS_rt_sigprocmask, 0, 0usize, &mut mask, 8);
            let mut stack: libc::stack_t = zeroed();
            libc::sigaltstack(null(), &mut stack);
            let mut pending = 0u64;
            libc::syscall(libc::SYS_rt_sigpending, &mut pending, 8);
            let open = [100, 101].map(|fd| libc::fcntl(fd, libc::F_GETFD) != -1);
            let checks = [
                first.sa_sigaction == libc::SIG_IGN,
                second.sa_sigaction == libc::SIG_DFL,
                mask & 1 << 14 != 0,
                pending & 1 << 14 != 0,
                open == [true, false],
                libc::gettid() == libc::getpid(),
            ];
            checks.iter().position(|good| !good).map_or(0, |at| at as i32 + 1)
        },
        "script" | "script two words" => {
            let last = words.last().map(String::as_str);
            if task == "script two words" && words.len() == 4 && last == Some("extra") { 0 } else { 8 }
        }
        _ => 7,
    })
}

/// execve of this binary; answers only when it failed.
fn exec(path: &std::ffi::CStr, words: &[&str], env: &[&str]) -> i64 {
    let hold = |words: &[&str]| words.iter().map(|word| CString::new(*word).unwrap()).collect::<Vec<_>>();
    let (words, env) = (hold(words), hold(env));
    let list = |words: &[CString]| words.iter().map(|word| word.as_ptr()).chain([null()]).collect::<Vec<_>>();
    i64::from(unsafe { libc::execve(path.as_ptr(), list(&words).as_ptr(), list(&env).as_ptr()) })
}

fn fork(body: impl FnOnce() -> i32) -> i32 {
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: errno {}", errno());
    if pid == 0 {
        let code = body();
        unsafe { libc::_exit(code) };
    }
    pid
}

fn wait(pid: i32) -> i32 {
    let mut status = -1;
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid, "errno {}", errno());
    status
}

fn exit_codes() {
    for code in [0, 1, 7, 255, 256 + 3] {
        assert_eq!(wait(fork(|| code)), (code & 0xff) << 8);
    }
    // The last thread's exit(2) ends the process with its status.
    let pid = fork(|| {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            unsafe { libc::syscall(libc::SYS_exit, 5) };
        });
        unsafe { libc::syscall(libc::SYS_exit, 3) };
        0
    });
    assert_eq!(wait(pid), 5 << 8);
}

fn wait_errors() {
    let mut status = 0;
    unsafe {
        expect_errno(i64::from(libc::waitpid(-1, &mut status, 0)), libc::ECHILD);
        expect_errno(i64::from(libc::waitpid(1, &mut status, 0)), libc::ECHILD);
        expect_errno(i64::from(libc::waitpid(-1, &mut status, 0x100)), libc::EINVAL);
        expect_errno(i64::from(libc::waitpid(i32::MIN, &mut status, 0)), libc::ESRCH);
        let mut info: libc::siginfo_t = zeroed();
        expect_errno(i64::from(libc::waitid(libc::P_PID, 1, &mut info, 0)), libc::EINVAL);
        expect_errno(i64::from(libc::waitid(libc::P_PID, 0, &mut info, libc::WEXITED)), libc::EINVAL);
        expect_errno(i64::from(libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED)), libc::ECHILD);
        expect_errno(i64::from(libc::waitid(libc::P_PIDFD, 0, &mut info, libc::WEXITED)), libc::EBADF);
        let pid = fork(|| 0);
        expect_errno(i64::from(libc::waitpid(pid, 8 as *mut i32, 0)), libc::EFAULT);
    }
}

fn waitid_reports() {
    unsafe {
        let pid = fork(|| 42);
        let mut info: libc::siginfo_t = zeroed();
        for _ in 0..2 {
            assert_eq!(libc::waitid(libc::P_PID, pid as u32, &mut info, libc::WEXITED | libc::WNOWAIT), 0);
            assert_eq!((info.si_signo, info.si_code, info.si_pid(), info.si_status()), (libc::SIGCHLD, 1, pid, 42));
        }
        let mut usage: libc::rusage = zeroed();
        assert_eq!(libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &mut info, libc::WEXITED, &mut usage), 0);
        assert!(usage.ru_maxrss > 0);
        expect_errno(i64::from(libc::waitid(libc::P_PID, pid as u32, &mut info, libc::WEXITED)), libc::ECHILD);
        let pid = fork(|| {
            libc::raise(libc::SIGKILL);
            0
        });
        assert_eq!(libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED), 0);
        assert_eq!((info.si_code, info.si_pid(), info.si_status()), (2, pid, 9));
        let pid = fork(|| libc::usleep(100_000_000));
        assert_eq!(libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG), 0);
        assert_eq!((info.si_signo, info.si_pid()), (0, 0));
        libc::kill(pid, libc::SIGKILL);
        wait(pid);
    }
}

fn wait_selects() {
    unsafe {
        let first = fork(|| 1);
        let second = fork(|| {
            libc::setpgid(0, 0);
            libc::usleep(10_000);
            2
        });
        libc::setpgid(second, second);
        assert_eq!(wait(second), 2 << 8);
        assert_eq!(libc::waitpid(0, null_mut(), 0), first);
        let third = fork(|| 0);
        libc::setpgid(third, third);
        expect_errno(i64::from(libc::waitpid(0, null_mut(), 0)), libc::ECHILD);
        assert_eq!(libc::waitpid(-third, null_mut(), 0), third);
        // A child without SIGCHLD is a "clone" child.
        let odd = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0);
        if odd == 0 {
            libc::_exit(4);
        }
        expect_errno(i64::from(libc::waitpid(-1, null_mut(), 0)), libc::ECHILD);
        let mut status = 0;
        assert_eq!(i64::from(libc::waitpid(-1, &mut status, libc::__WCLONE)), odd);
        assert_eq!(status, 4 << 8);
        let odd = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0);
        if odd == 0 {
            libc::_exit(4);
        }
        assert_eq!(i64::from(libc::waitpid(-1, &mut status, libc::__WALL)), odd);
    }
}

fn no_zombies_when_ignored() {
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        let pid = fork(|| 0);
        expect_errno(i64::from(libc::waitpid(pid, null_mut(), 0)), libc::ECHILD);
        let mut tries = 0;
        while libc::kill(pid, 0) == 0 && tries < 1000 {
            libc::usleep(1000);
            tries += 1;
        }
        expect_errno(i64::from(libc::kill(pid, 0)), libc::ESRCH);
    }
}

fn orphans_find_a_subreaper() {
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1), 0);
        let own = libc::getpid();
        let mut pipe = [0; 2];
        libc::pipe(pipe.as_mut_ptr());
        let middle = fork(|| {
            let grandchild = fork(|| {
                while libc::getppid() != own {
                    libc::usleep(1000);
                }
                6
            });
            libc::write(pipe[1], (&raw const grandchild).cast(), 4);
            0
        });
        assert_eq!(wait(middle), 0);
        let mut grandchild = 0i32;
        assert_eq!(libc::read(pipe[0], (&raw mut grandchild).cast(), 4), 4);
        assert_eq!(wait(grandchild), 6 << 8);
    }
}

fn parent_death_signal() {
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        let middle = fork(|| {
            let mut pipe = [0; 2];
            libc::pipe(pipe.as_mut_ptr());
            fork(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                libc::write(pipe[1], c"x".as_ptr().cast(), 1);
                libc::usleep(100_000_000);
                0
            });
            let mut byte = 0u8;
            libc::read(pipe[0], (&raw mut byte).cast(), 1);
            0
        });
        wait(middle);
        let mut status = 0;
        assert!(libc::waitpid(-1, &mut status, 0) > 0);
        assert_eq!(status, libc::SIGTERM);
    }
}

fn vfork_waits() {
    static DONE: AtomicI32 = AtomicI32::new(0);
    unsafe {
        let mut pid: i64 = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD).into();
        // The child shares the stack, so it only makes calls: sleep, then exit.
        let nap = libc::timespec { tv_sec: 0, tv_nsec: 30_000_000 };
        let start = std::time::Instant::now();
        std::arch::asm!(
            "svc #0", "cbnz x0, 2f", "mov w9, #1", "str w9, [x10]", "mov x0, x11", "mov x1, #0", "mov x8, #101", "svc #0",
            "mov x0, #9", "mov x8, #93", "svc #0", "2:",
            inout("x0") pid, inout("x1") 0u64 => _, in("x2") 0u64, in("x3") 0u64, in("x4") 0u64, inout("x8") 220u64 => _,
            out("x9") _, in("x10") DONE.as_ptr(), in("x11") &nap,
        );
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(DONE.load(SeqCst), 1);
        assert_eq!(wait(pid as i32), 9 << 8);
        pid = 0;
        let _ = pid;
    }
}

fn clone_tid_words() {
    unsafe {
        let (mut parent, mut child) = (0i32, 0i32);
        let flags = libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_SETTID | libc::SIGCHLD;
        let pid = libc::syscall(libc::SYS_clone, flags, 0, &mut parent, 0, &mut child);
        if pid == 0 {
            libc::_exit(i32::from(child != libc::getpid()));
        }
        assert_eq!(i64::from(parent), pid);
        assert_eq!(child, 0);
        assert_eq!(wait(pid as i32), 0);
    }
}

fn clone_errors() {
    unsafe {
        let clone = |flags: i64| libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        expect_errno(clone(0x10000), libc::EINVAL);
        expect_errno(clone(0x800), libc::EINVAL);
        expect_errno(clone(0x10800), libc::EINVAL);
        let clone3 = |args: &[u64], size: usize| libc::syscall(libc::SYS_clone3, args.as_ptr(), size);
        let mut args = [0u64; 16];
        expect_errno(clone3(&args, 63), libc::EINVAL);
        expect_errno(clone3(&args, 5000), libc::E2BIG);
        args[15] = 1;
        expect_errno(clone3(&args, 128), libc::E2BIG);
        args[15] = 0;
        args[4] = 65;
        expect_errno(clone3(&args, 64), libc::EINVAL);
        args[4] = 17;
        args[5] = 4096;
        expect_errno(clone3(&args, 64), libc::EINVAL);
        args[5] = 0;
        args[0] = 0x1_0000_0800;
        expect_errno(clone3(&args, 64), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_clone3, 8usize, 64), libc::EFAULT);
    }
}

fn clone3_pidfd() {
    unsafe {
        let mut pidfd = -1i32;
        let mut args = [0u64; 8];
        args[0] = libc::CLONE_PIDFD as u64;
        args[1] = &raw mut pidfd as u64;
        args[4] = libc::SIGCHLD as u64;
        let pid = libc::syscall(libc::SYS_clone3, args.as_ptr(), 64);
        if pid == 0 {
            libc::_exit(3);
        }
        assert!(pid > 0 && pidfd >= 0);
        assert_eq!(libc::fcntl(pidfd, libc::F_GETFD), libc::FD_CLOEXEC);
        let mut info: libc::siginfo_t = zeroed();
        assert_eq!(libc::waitid(libc::P_PIDFD, pidfd as u32, &mut info, libc::WEXITED), 0);
        assert_eq!((i64::from(info.si_pid()), info.si_status()), (pid, 3));
    }
}

fn pidfd_calls() {
    unsafe {
        let pid = fork(|| libc::usleep(100_000_000));
        let open = |pid: i32, flags: u32| libc::syscall(libc::SYS_pidfd_open, pid, flags);
        expect_errno(open(0, 0), libc::EINVAL);
        expect_errno(open(99_999, 0), libc::ESRCH);
        expect_errno(open(pid, 1), libc::EINVAL);
        let fd = open(pid, 0) as i32;
        assert!(fd >= 0);
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        assert_eq!(libc::poll(&mut poll, 1, 0), 0);
        let theirs = libc::syscall(libc::SYS_pidfd_getfd, fd, 1, 0);
        assert!(theirs > 2);
        expect_errno(libc::syscall(libc::SYS_pidfd_getfd, fd, 999, 0), libc::EBADF);
        expect_errno(libc::syscall(libc::SYS_pidfd_send_signal, 1, 0, 0, 0), libc::EBADF);
        assert_eq!(libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, 0, 0), 0);
        assert_eq!(libc::poll(&mut poll, 1, 5000), 1);
        assert_eq!(wait(pid), libc::SIGKILL);
        expect_errno(libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, 0, 0), libc::ESRCH);
    }
}

/// An open /proc/PID serves pidfd_send_signal(2) as a pidfd does; a thread's directory, a file in it and the other calls do not.
fn pidfd_of_proc() {
    unsafe {
        let pid = fork(|| libc::usleep(100_000_000));
        let open = |path: String| {
            let path = std::ffi::CString::new(path).unwrap();
            let fd = libc::open(path.as_ptr(), libc::O_RDONLY);
            assert!(fd >= 0);
            fd
        };
        let send = |fd: i32, signal: i32| libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, 0, 0);
        let directory = open(format!("/proc/{pid}"));
        expect_errno(send(open(format!("/proc/{pid}/task/{pid}")), 0), libc::EBADF);
        expect_errno(send(open(format!("/proc/{pid}/stat")), 0), libc::EBADF);
        expect_errno(send(open(String::from("/proc")), 0), libc::EBADF);
        expect_errno(send(directory, 65), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_pidfd_getfd, directory, 1, 0), libc::EBADF);
        assert_eq!(send(directory, 0), 0);
        assert_eq!(send(directory, libc::SIGKILL), 0);
        assert_eq!(wait(pid), libc::SIGKILL);
        expect_errno(send(directory, 0), libc::ESRCH);
    }
}

fn exec_passes_arguments() {
    let pid = fork(|| exec(SELF, &["name", "--helper args", "", "b c", "long"], &["KEY=value"]) as i32);
    assert_eq!(wait(pid), 0);
}

extern "C" fn nothing(_signal: i32) {}

fn exec_keeps_and_resets() {
    let pid = fork(|| unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::signal(libc::SIGUSR2, nothing as extern "C" fn(i32) as usize);
        let mut set: libc::sigset_t = zeroed();
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
        libc::kill(libc::getpid(), libc::SIGTERM);
        libc::dup3(1, 101, libc::O_CLOEXEC);
        libc::dup2(1, 100);
        exec(SELF, &["name", "--helper state"], &[]) as i32
    });
    assert_eq!(wait(pid), 0);
}

fn exec_ends_other_threads() {
    for from_thread in [false, true] {
        for _ in 0..5 {
            let pid = fork(|| {
                for _ in 0..3 {
                    std::thread::spawn(|| {
                        loop {
                            std::hint::spin_loop();
                        }
                    });
                }
                std::thread::spawn(|| std::thread::sleep(Duration::from_secs(100)));
                let run = || exec(SELF, &["name", "--helper args", "", "b c", "long"], &["KEY=value"]) as i32;
                if from_thread { std::thread::spawn(run).join().unwrap_or(1) } else { run() }
            });
            assert_eq!(wait(pid), 0, "from a thread: {from_thread}");
        }
    }
}

fn write_file(path: &std::ffi::CStr, content: &[u8], mode: u32) {
    unsafe {
        libc::unlink(path.as_ptr());
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY, mode);
        assert!(fd >= 0, "open: errno {}", errno());
        assert_eq!(libc::write(fd, content.as_ptr().cast(), content.len()), content.len() as isize);
        libc::close(fd);
    }
}

fn exec_errors() {
    expect_errno(exec(c"/tmp/none", &["x"], &[]), libc::ENOENT);
    expect_errno(exec(c"/tmp", &["x"], &[]), libc::EACCES);
    expect_errno(exec(c"", &["x"], &[]), libc::ENOENT);
    write_file(c"/tmp/plain", b"no program", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOEXEC);
    expect_errno(exec(c"/tmp/plain/x", &["x"], &[]), libc::ENOTDIR);
    write_file(c"/tmp/plain", b"", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOEXEC);
    write_file(c"/tmp/plain", b"\x7fELF", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOEXEC);
    write_file(c"/tmp/plain", b"#!/tmp/none\n", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOENT);
    write_file(c"/tmp/plain", b"#!/tmp/plain\n", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ELOOP);
    write_file(c"/tmp/plain", b"#!/proc/self/exe\n", 0o644);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::EACCES);
    let long = "x".repeat(128 << 10);
    expect_errno(exec(SELF, &["x", &long], &[]), libc::E2BIG);
    let many = vec!["x".repeat(100_000); 100];
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    expect_errno(exec(SELF, &many, &[]), libc::E2BIG);
    unsafe {
        expect_errno(libc::syscall(libc::SYS_execve, 8usize, 0usize, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_execve, SELF.as_ptr(), 8usize, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_execveat, -1, c"x".as_ptr(), 0usize, 0usize, 0), libc::EBADF);
        expect_errno(libc::syscall(libc::SYS_execveat, -1, c"x".as_ptr(), 0usize, 0usize, 4), libc::EINVAL);
    }
}

fn exec_scripts() {
    write_file(c"/tmp/script", b"#! /proc/self/exe  --helper script two words \nbody", 0o755);
    assert_eq!(wait(fork(|| exec(c"/tmp/script", &["name", "extra"], &[]) as i32)), 0);
}

fn groups_and_sessions() {
    unsafe {
        let own = libc::getpid();
        assert_eq!(libc::getpgid(0), own);
        expect_errno(i64::from(libc::setsid()), libc::EPERM);
        expect_errno(i64::from(libc::setpgid(0, -1)), libc::EINVAL);
        expect_errno(i64::from(libc::setpgid(99_999, 0)), libc::ESRCH);
        expect_errno(i64::from(libc::setpgid(1, 0)), libc::ESRCH);
        expect_errno(i64::from(libc::setpgid(0, 99_999)), libc::EPERM);
        expect_errno(i64::from(libc::getpgid(99_999)), libc::ESRCH);
        expect_errno(i64::from(libc::getsid(99_999)), libc::ESRCH);
        child_succeeds(|| {
            assert_eq!(libc::getpgid(0), own);
            let pid = libc::setsid();
            assert_eq!(pid, libc::getpid());
            assert_eq!((libc::getsid(0), libc::getpgid(0)), (pid, pid));
            expect_errno(i64::from(libc::setpgid(0, 0)), libc::EPERM);
            let inner = fork(|| libc::usleep(100_000_000));
            assert_eq!(libc::setpgid(inner, inner), 0);
            assert_eq!(libc::getpgid(inner), inner);
            libc::kill(-inner, libc::SIGTERM);
            assert_eq!(wait(inner), libc::SIGTERM);
        });
        let child = fork(|| {
            libc::setsid();
            libc::usleep(100_000_000);
            0
        });
        libc::usleep(20_000);
        expect_errno(i64::from(libc::setpgid(child, own)), libc::EPERM);
        libc::kill(child, libc::SIGKILL);
        wait(child);
    }
}

fn orphaned_group_gets_hangup() {
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        let mut pipe = [0; 2];
        libc::pipe(pipe.as_mut_ptr());
        let middle = fork(|| {
            libc::setsid();
            let stopped = fork(|| {
                libc::setpgid(0, 0);
                libc::raise(libc::SIGSTOP);
                libc::usleep(100_000_000);
                0
            });
            libc::write(pipe[1], (&raw const stopped).cast(), 4);
            while libc::waitpid(stopped, null_mut(), libc::WUNTRACED) != stopped {}
            0
        });
        let mut stopped = 0i32;
        libc::read(pipe[0], (&raw mut stopped).cast(), 4);
        wait(middle);
        assert_eq!(wait(stopped), libc::SIGHUP);
    }
}

fn ids() -> (u32, u32, u32) {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    assert_eq!(unsafe { libc::getresuid(&mut real, &mut effective, &mut saved) }, 0);
    (real, effective, saved)
}

fn user_ids() {
    child_succeeds(|| unsafe {
        let set = |ids: [i64; 3]| libc::syscall(libc::SYS_setresuid, ids[0], ids[1], ids[2]);
        assert_eq!(set([-1, 1000, -1]), 0);
        assert_eq!(ids(), (0, 1000, 0));
        assert_eq!(set([-1, 0, -1]), 0);
        assert_eq!(set([1000, 1001, 1002]), 0);
        assert_eq!(ids(), (1000, 1001, 1002));
        expect_errno(set([0, -1, -1]), libc::EPERM);
        expect_errno(libc::syscall(libc::SYS_setuid, 0), libc::EPERM);
        expect_errno(libc::syscall(libc::SYS_setuid, -1), libc::EINVAL);
        assert_eq!(libc::syscall(libc::SYS_setuid, 1002), 0);
        assert_eq!(ids(), (1000, 1002, 1002));
        expect_errno(libc::syscall(libc::SYS_setreuid, 1001, -1), libc::EPERM);
        assert_eq!(libc::syscall(libc::SYS_setreuid, -1, 1000), 0);
        assert_eq!(ids(), (1000, 1000, 1002));
        assert_eq!(libc::syscall(libc::SYS_setfsuid, 77), 1000);
        assert_eq!(libc::syscall(libc::SYS_setfsuid, -1), 1000);
    });
}

fn group_ids() {
    child_succeeds(|| unsafe {
        let groups = [5u32, 6, 7];
        assert_eq!(libc::syscall(libc::SYS_setgroups, 3, groups.as_ptr()), 0);
        let mut got = [0u32; 3];
        assert_eq!(libc::syscall(libc::SYS_getgroups, 0, 0usize), 3);
        expect_errno(libc::syscall(libc::SYS_getgroups, 2, got.as_mut_ptr()), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_getgroups, -1, got.as_mut_ptr()), libc::EINVAL);
        assert_eq!(libc::syscall(libc::SYS_getgroups, 3, got.as_mut_ptr()), 3);
        assert_eq!(got, groups);
        expect_errno(libc::syscall(libc::SYS_setgroups, 65537, groups.as_ptr()), libc::EINVAL);
        assert_eq!(libc::syscall(libc::SYS_setresgid, 10, 11, 12), 0);
        assert_eq!(libc::syscall(libc::SYS_setresuid, 1000, 1000, 1000), 0);
        expect_errno(libc::syscall(libc::SYS_setgroups, 0, 0usize), libc::EPERM);
        expect_errno(libc::syscall(libc::SYS_setgid, 0), libc::EPERM);
        assert_eq!(libc::syscall(libc::SYS_setgid, 12), 0);
        assert_eq!((libc::getgid(), libc::getegid()), (10, 12));
    });
}

fn capabilities() {
    unsafe {
        let mut header = [0x2008_0522u32, 0];
        let mut data = [0u32; 6];
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()), 0);
        assert!(data[0] & 1 != 0 && data[0] == data[1]);
        header[0] = 7;
        expect_errno(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()), libc::EINVAL);
        assert_eq!(header[0], 0x2008_0522);
        child_succeeds(|| {
            let header = [0x2008_0522u32, 0];
            let mut data = data;
            data[0] &= !(1 << 7);
            data[1] &= !(1 << 7);
            assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()), 0);
            expect_errno(libc::syscall(libc::SYS_setuid, 5), libc::EPERM);
            data[1] |= 1 << 7;
            expect_errno(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()), libc::EPERM);
        });
        child_succeeds(|| {
            assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1), 0);
            assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
            let mut header = [0x2008_0522u32, 0];
            let mut data = [0u32; 6];
            assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()), 0);
            assert!(data[0] == 0 && data[1] != 0);
        });
    }
}

fn limits() {
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        expect_errno(libc::syscall(libc::SYS_prlimit64, 0, 16, 0usize, &mut limit), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_prlimit64, 99_999, 7, 0usize, &mut limit), libc::ESRCH);
        let bad = libc::rlimit { rlim_cur: 2, rlim_max: 1 };
        expect_errno(i64::from(libc::setrlimit(libc::RLIMIT_NOFILE, &bad)), libc::EINVAL);
        child_succeeds(|| {
            let few = libc::rlimit { rlim_cur: 20, rlim_max: 30 };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &few), 0);
            let mut now: libc::rlimit = zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut now);
            assert_eq!((now.rlim_cur, now.rlim_max), (20, 30));
            expect_errno(i64::from(libc::dup2(0, 20)), libc::EBADF);
            while libc::dup(0) != -1 {}
            assert_eq!(errno(), libc::EMFILE);
            assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
            let more = libc::rlimit { rlim_cur: 20, rlim_max: 31 };
            expect_errno(i64::from(libc::setrlimit(libc::RLIMIT_NOFILE, &more)), libc::EPERM);
        });
        child_dies_of(libc::SIGXFSZ, || {
            let small = libc::rlimit { rlim_cur: 10, rlim_max: 10 };
            libc::setrlimit(libc::RLIMIT_FSIZE, &small);
            let fd = libc::open(c"/tmp/size".as_ptr(), libc::O_CREAT | libc::O_RDWR | libc::O_TRUNC, 0o600);
            assert_eq!(libc::write(fd, c"0123456789abcdef".as_ptr().cast(), 16), 10);
            libc::write(fd, c"x".as_ptr().cast(), 1);
        });
        child_dies_of(libc::SIGXCPU, || {
            let second = libc::rlimit { rlim_cur: 1, rlim_max: 3 };
            libc::setrlimit(libc::RLIMIT_CPU, &second);
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

fn process_limit() {
    child_succeeds(|| unsafe {
        let few = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &few), 0);
        assert_eq!(libc::setresuid(4321, 4321, 4321), 0);
        let children = [0; 2].map(|_| fork(|| libc::usleep(100_000_000)));
        expect_errno(i64::from(libc::fork()), libc::EAGAIN);
        for child in children {
            libc::kill(child, libc::SIGKILL);
            wait(child);
        }
        wait(fork(|| 0));
    });
}

fn prctl_options() {
    unsafe {
        let mut name = [0u8; 16];
        assert_eq!(libc::prctl(libc::PR_SET_NAME, c"a name longer than that".as_ptr()), 0);
        assert_eq!(libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()), 0);
        assert_eq!(&name, b"a name longer t\0");
        assert_eq!(libc::prctl(libc::PR_GET_DUMPABLE), 1);
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 0), 0);
        assert_eq!(libc::prctl(libc::PR_GET_DUMPABLE), 0);
        expect_errno(i64::from(libc::prctl(libc::PR_SET_DUMPABLE, 3)), libc::EINVAL);
        expect_errno(i64::from(libc::prctl(libc::PR_SET_PDEATHSIG, 65)), libc::EINVAL);
        expect_errno(i64::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0)), libc::EINVAL);
        assert_eq!(libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
        assert_eq!(libc::prctl(libc::PR_CAPBSET_READ, 1), 1);
        expect_errno(i64::from(libc::prctl(libc::PR_CAPBSET_READ, 99)), libc::EINVAL);
        expect_errno(i64::from(libc::prctl(9999)), libc::EINVAL);
        assert_eq!(libc::prctl(libc::PR_SET_TIMERSLACK, 1234), 0);
        assert_eq!(libc::prctl(libc::PR_GET_TIMERSLACK), 1234);
        assert_eq!(libc::prctl(libc::PR_SET_TIMERSLACK, 0), 0);
        assert_eq!(libc::prctl(libc::PR_GET_TIMERSLACK), 50_000);
    }
}

fn names_and_usage() {
    unsafe {
        let mut names: libc::utsname = zeroed();
        assert_eq!(libc::uname(&mut names), 0);
        assert_eq!(std::ffi::CStr::from_ptr(names.sysname.as_ptr()), c"Linux");
        assert_eq!(std::ffi::CStr::from_ptr(names.machine.as_ptr()), c"aarch64");
        let mut usage: libc::rusage = zeroed();
        expect_errno(libc::syscall(libc::SYS_getrusage, 5, &mut usage), libc::EINVAL);
        for who in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN, libc::RUSAGE_THREAD] {
            assert_eq!(libc::getrusage(who, &mut usage), 0);
        }
        let mut info: libc::sysinfo = zeroed();
        assert_eq!(libc::sysinfo(&mut info), 0);
        assert!(info.totalram * u64::from(info.mem_unit) > 32 << 20 && info.freeram <= info.totalram && info.procs > 0);
        let child = fork(|| {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(60) {}
            0
        });
        wait(child);
        let mut times: libc::tms = zeroed();
        assert!(libc::times(&mut times) > 0);
        assert!(times.tms_cutime + times.tms_cstime >= 3, "{} {}", times.tms_cutime, times.tms_cstime);
        assert_eq!(libc::personality(0xffff_ffff), 0);
    }
}

fn random_bytes() {
    unsafe {
        let (mut first, mut second) = ([0u8; 300], [0u8; 300]);
        assert_eq!(libc::getrandom(first.as_mut_ptr().cast(), 300, 0), 300);
        assert_eq!(libc::getrandom(second.as_mut_ptr().cast(), 300, libc::GRND_NONBLOCK), 300);
        assert_ne!(first, second);
        expect_errno(libc::getrandom(first.as_mut_ptr().cast(), 1, 8) as i64, libc::EINVAL);
        expect_errno(libc::getrandom(first.as_mut_ptr().cast(), 1, 6) as i64, libc::EINVAL);
        expect_errno(libc::getrandom(8 as *mut _, 1, 0) as i64, libc::EFAULT);
    }
}

fn kcmp_orders() {
    unsafe {
        let own = libc::getpid();
        let copy = libc::dup(1);
        let kcmp = |kind: i32, a: i32, b: i32| libc::syscall(libc::SYS_kcmp, own, own, kind, a, b);
        if kcmp(0, 1, 1) == -1 && errno() == libc::ENOSYS {
            return;
        }
        assert_eq!(kcmp(0, 1, copy), 0);
        assert_eq!(kcmp(1, 0, 0), 0);
        // Neither has semaphore adjustments or a context of I/O: the same nothing.
        const KCMP_IO: i32 = 5;
        const KCMP_SYSVSEM: i32 = 6;
        child_succeeds(|| {
            for kind in [KCMP_IO, KCMP_SYSVSEM] {
                assert_eq!(libc::syscall(libc::SYS_kcmp, libc::getpid(), own, kind, 0, 0), 0);
            }
        });
        expect_errno(kcmp(0, 1, 999), libc::EBADF);
        expect_errno(kcmp(99, 0, 0), libc::EINVAL);
    }
}

fn threads_come_and_go() {
    for _ in 0..50 {
        let threads: Vec<_> = (0..8).map(|index| std::thread::spawn(move || index * 2)).collect();
        let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sum, 56);
    }
}

fn fork_storm() {
    for _ in 0..20 {
        let children: Vec<i32> =
            (0..10).map(|index| fork(|| if index % 2 == 0 { wait(fork(|| 3)) >> 8 } else { 3 })).collect();
        for child in children {
            assert_eq!(wait(child), 3 << 8);
        }
    }
}

fn exit_group_while_cloning() {
    for _ in 0..10 {
        let status = in_child(|| {
            for _ in 0..3 {
                std::thread::spawn(|| {
                    loop {
                        let _ =
                            std::thread::Builder::new().stack_size(64 << 10).spawn(|| {}).map(|thread| thread.join());
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(10));
            unsafe { libc::_exit(6) };
        });
        assert_eq!(status, 6 << 8);
    }
}
