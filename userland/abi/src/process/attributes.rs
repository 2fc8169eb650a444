//! Limits, prctl(2), names, usage, kcmp(2).

use super::*;

pub fn limits() {
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

pub fn process_limit() {
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

pub fn prctl_options() {
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

pub fn names_and_usage() {
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

pub fn random_bytes() {
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

pub fn kcmp_orders() {
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
