//! exit(2), wait4(2), waitid(2), and who becomes the parent of orphans.

use super::*;

pub fn exit_codes() {
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

pub fn wait_errors() {
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

pub fn waitid_reports() {
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

pub fn wait_selects() {
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

pub fn no_zombies_when_ignored() {
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

pub fn orphans_find_a_subreaper() {
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

pub fn parent_death_signal() {
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
