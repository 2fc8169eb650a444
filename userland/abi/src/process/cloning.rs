//! vfork(2), clone(2), clone3(2), pidfds, and storms of them.

use super::*;

pub fn vfork_waits() {
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

pub fn clone_tid_words() {
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

pub fn clone_errors() {
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

pub fn clone3_pidfd() {
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

pub fn pidfd_calls() {
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
pub fn pidfd_of_proc() {
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

pub fn threads_come_and_go() {
    for _ in 0..50 {
        let threads: Vec<_> = (0..8).map(|index| std::thread::spawn(move || index * 2)).collect();
        let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sum, 56);
    }
}

pub fn fork_storm() {
    for _ in 0..20 {
        let children: Vec<i32> =
            (0..10).map(|index| fork(|| if index % 2 == 0 { wait(fork(|| 3)) >> 8 } else { 3 })).collect();
        for child in children {
            assert_eq!(wait(child), 3 << 8);
        }
    }
}

pub fn exit_group_while_cloning() {
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
