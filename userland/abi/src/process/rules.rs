//! Exactness: what processes, threads and zombies answer, what is inherited, what the ids do to each other.

use super::*;
use crate::harness::until_asleep;

/// Runs `body` in another thread and hands it that thread's number while it lives.
fn with_thread(body: impl FnOnce(i32)) {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(unsafe { libc::gettid() }).unwrap();
        let _ = ended.recv();
    });
    body(told.recv().unwrap());
    drop(end);
    thread.join().unwrap();
}

pub fn threads_answer_for_their_process() {
    unsafe {
        let own = libc::getpid();
        with_thread(|tid| {
            assert_ne!(tid, own);
            assert_eq!(libc::getpgid(tid), libc::getpgid(0));
            assert_eq!(libc::getsid(tid), libc::getsid(0));
            // Groups and pidfds are of processes.
            expect_errno(i64::from(libc::setpgid(tid, 0)), libc::EINVAL);
            expect_errno(libc::syscall(libc::SYS_pidfd_open, tid, 0), libc::EINVAL);
            // A queued signal goes to the thread's process.
            libc::signal(libc::SIGUSR1, nothing as extern "C" fn(i32) as usize);
            let mut info = [0u32; 32];
            info[2] = -1i32 as u32;
            assert_eq!(libc::syscall(libc::SYS_rt_sigqueueinfo, tid, libc::SIGUSR1, info.as_ptr()), 0);
            assert_eq!(libc::kill(tid, 0), 0);
        });
        expect_errno(i64::from(libc::setpgid(-1, 0)), libc::EINVAL);
        expect_errno(i64::from(libc::setpgid(-1, -1)), libc::EINVAL);
        expect_errno(i64::from(libc::setpgid(-1, 5)), libc::ESRCH);
        expect_errno(i64::from(libc::getpgid(-1)), libc::ESRCH);
        expect_errno(i64::from(libc::getsid(-1)), libc::ESRCH);
    }
}

pub fn zombies_answer() {
    let zombie = fork(|| 0);
    unsafe {
        let mut info: libc::siginfo_t = zeroed();
        assert_eq!(libc::waitid(libc::P_PID, zombie as u32, &mut info, libc::WEXITED | libc::WNOWAIT), 0);
        assert_eq!(libc::sched_getscheduler(zombie), 0);
        let mut priority = 9i32;
        assert_eq!(libc::syscall(libc::SYS_sched_getparam, zombie, &mut priority), 0);
        assert_eq!(priority, 0);
        let mut attr = [0u32; 14];
        assert_eq!(libc::syscall(libc::SYS_sched_getattr, zombie, attr.as_mut_ptr(), 56, 0), 0);
        let mut slice = [0i64; 2];
        assert_eq!(libc::syscall(libc::SYS_sched_rr_get_interval, zombie, slice.as_mut_ptr()), 0);
        let mut mask = [0u64; 16];
        assert!(libc::syscall(libc::SYS_sched_getaffinity, zombie, 128, mask.as_mut_ptr()) > 0);
        assert_ne!(mask[0], 0);
        assert_eq!(libc::syscall(libc::SYS_getpriority, 0, zombie), 20);
        assert_eq!(libc::syscall(libc::SYS_setpriority, 0, zombie, 5), 0);
        assert_eq!(libc::syscall(libc::SYS_getpriority, 0, zombie), 15);
        let ioprio = libc::syscall(libc::SYS_ioprio_get, 1, zombie);
        assert!(ioprio >= 0 || errno() == libc::ESRCH);
        assert_eq!(libc::getpgid(zombie), libc::getpgid(0));
        assert_eq!(libc::getsid(zombie), libc::getsid(0));
        assert_eq!(libc::kill(zombie, libc::SIGTERM), 0);
        let mut header = [0x2008_0522u32, zombie as u32];
        let mut data = [0u32; 6];
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()), 0);
        let mut limit = [0u64; 2];
        assert_eq!(libc::syscall(libc::SYS_prlimit64, zombie, libc::RLIMIT_NOFILE, 0usize, limit.as_mut_ptr()), 0);
    }
    assert_eq!(wait(zombie), 0);
    unsafe { expect_errno(i64::from(libc::sched_getscheduler(zombie)), libc::ESRCH) };
}

pub fn timer_slack() {
    let slack = || unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
    child_succeeds(|| unsafe {
        let first = slack();
        assert_eq!(libc::prctl(libc::PR_SET_TIMERSLACK, 777), 0);
        // A child starts with it, and it is the child's default too.
        child_succeeds(|| {
            assert_eq!(slack(), 777);
            assert_eq!(libc::prctl(libc::PR_SET_TIMERSLACK, 5), 0);
            assert_eq!(libc::prctl(libc::PR_SET_TIMERSLACK, 0), 0);
            assert_eq!(slack(), 777);
        });
        std::thread::spawn(move || assert_eq!(slack(), 777)).join().unwrap();
        assert_eq!(libc::prctl(libc::PR_SET_TIMERSLACK, 0), 0);
        assert_eq!(slack(), first);
        // By file: one's own, another's with CAP_SYS_NICE.
        assert_eq!(std::fs::read_to_string("/proc/self/timerslack_ns").unwrap(), format!("{first}\n"));
        std::fs::write("/proc/self/timerslack_ns", "1234").unwrap();
        assert_eq!(slack(), 1234);
        std::fs::write("/proc/self/timerslack_ns", "0\n").unwrap();
        assert_eq!(slack(), first);
        assert_eq!(std::fs::write("/proc/self/timerslack_ns", "x").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(std::fs::write(format!("/proc/{}/timerslack_ns", libc::getppid()), "60000").is_ok());
        std::fs::write(format!("/proc/{}/timerslack_ns", libc::getppid()), "0").unwrap();
        assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        let of_parent = format!("/proc/{}/timerslack_ns", libc::getppid());
        assert_eq!(std::fs::read_to_string(&of_parent).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(std::fs::write(&of_parent, "1").unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
}

pub fn sticky_timeouts() {
    const STICKY_TIMEOUTS: libc::c_ulong = 0x400_0000;
    child_succeeds(|| unsafe {
        let mut pipe = [0; 2];
        libc::pipe(pipe.as_mut_ptr());
        for sticky in [false, true] {
            assert_ne!(libc::personality(if sticky { STICKY_TIMEOUTS } else { 0 }), -1);
            // What is left of the time is written back, but for those who would rather have it stay.
            let mut time = [1i64, 0];
            let mut set = [1u64 << pipe[1], 0];
            let n = pipe[1] + 1;
            let none = 0usize;
            assert_eq!(libc::syscall(libc::SYS_pselect6, n, none, set.as_mut_ptr(), none, time.as_mut_ptr(), none), 1);
            assert_eq!(time == [1, 0], sticky, "pselect6 {time:?}");
            let mut time = [1i64, 0];
            let mut poll = libc::pollfd { fd: pipe[1], events: libc::POLLOUT, revents: 0 };
            assert_eq!(libc::syscall(libc::SYS_ppoll, &mut poll, 1, time.as_mut_ptr(), none, 8), 1);
            assert_eq!(time == [1, 0], sticky, "ppoll {time:?}");
        }
    });
}

fn effective() -> u64 {
    let mut header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) }, 0);
    u64::from(data[0]) | u64::from(data[3]) << 32
}

pub fn file_user_and_capabilities() {
    /// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
    const OF_FILES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;
    child_succeeds(|| unsafe {
        let all = effective();
        assert_eq!(all & OF_FILES, OF_FILES);
        libc::syscall(libc::SYS_setfsgid, 5);
        assert_eq!(effective(), all);
        assert_eq!(libc::syscall(libc::SYS_setfsuid, 1000), 0);
        assert_eq!(effective(), all & !OF_FILES);
        // It may not read root's any more.
        let path = c"/tmp/root-only";
        libc::syscall(libc::SYS_setfsuid, 0);
        assert_eq!(effective(), all);
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600);
        assert!(fd >= 0);
        libc::syscall(libc::SYS_setfsuid, 1000);
        libc::syscall(libc::SYS_setfsgid, 1000);
        expect_errno(i64::from(libc::open(path.as_ptr(), libc::O_RDONLY)), libc::EACCES);
        // From one user to another nothing changes; back to 0 brings them back as far as they are permitted.
        libc::syscall(libc::SYS_setfsuid, 1001);
        assert_eq!(effective(), all & !OF_FILES);
        libc::syscall(libc::SYS_setfsuid, 0);
        assert_eq!(effective(), all);
        // SECBIT_NO_SETUID_FIXUP: ids and capabilities have nothing to do with each other.
        assert_eq!(libc::prctl(libc::PR_SET_SECUREBITS, 1 << 2), 0);
        libc::syscall(libc::SYS_setfsuid, 1000);
        assert_eq!(effective(), all);
        assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        assert_eq!(effective(), all);
    });
}

pub fn groups_are_sorted() {
    child_succeeds(|| unsafe {
        let groups = [9u32, 5, 70_000, 6, 5];
        assert_eq!(libc::syscall(libc::SYS_setgroups, 5, groups.as_ptr()), 0);
        let mut got = [0u32; 5];
        assert_eq!(libc::syscall(libc::SYS_getgroups, 5, got.as_mut_ptr()), 5);
        assert_eq!(got, [5, 5, 6, 9, 70_000]);
    });
}

pub fn host_names_may_be_empty() {
    unsafe {
        let mut old: libc::utsname = zeroed();
        assert_eq!(libc::uname(&mut old), 0);
        assert_eq!(libc::sethostname(c"".as_ptr(), 0), 0);
        let mut now: libc::utsname = zeroed();
        assert_eq!(libc::uname(&mut now), 0);
        assert_eq!(now.nodename[0], 0);
        let shown = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(shown, "\n");
        expect_errno(i64::from(libc::sethostname(c"x".as_ptr(), 65)), libc::EINVAL);
        expect_errno(i64::from(libc::sethostname(8 as *const _, 3)), libc::EFAULT);
        let len = old.nodename.iter().position(|byte| *byte == 0).unwrap();
        assert_eq!(libc::sethostname(old.nodename.as_ptr(), len), 0);
    }
}

pub fn ignored_children_leave_no_signal() {
    child_succeeds(|| unsafe {
        let mask = 1u64 << (libc::SIGCHLD - 1);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &mask, 0usize, 8);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        let pending = || {
            let mut pending = 0u64;
            libc::syscall(libc::SYS_rt_sigpending, &mut pending, 8);
            pending & mask != 0
        };
        let child = fork(|| 0);
        expect_errno(i64::from(libc::waitpid(child, null_mut(), 0)), libc::ECHILD);
        assert!(!pending());
        // Nor for one that stops and goes on.
        let child = fork(|| libc::usleep(100_000_000));
        until_asleep(child);
        libc::kill(child, libc::SIGSTOP);
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, libc::WUNTRACED), child);
        assert!(!pending());
        libc::kill(child, libc::SIGKILL);
        expect_errno(i64::from(libc::waitpid(child, null_mut(), 0)), libc::ECHILD);
        assert!(!pending());
        // With the default action it is pending while it is blocked.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let child = fork(|| 0);
        assert_eq!(wait(child), 0);
        assert!(pending());
    });
}

pub fn core_flag_says_the_truth() {
    let dies = |prepare: &dyn Fn()| {
        let pid = fork(|| {
            prepare();
            unsafe { libc::abort() }
        });
        let mut info: libc::siginfo_t = unsafe { zeroed() };
        unsafe { libc::waitid(libc::P_PID, pid as u32, &mut info, libc::WEXITED | libc::WNOWAIT) };
        let status = wait(pid);
        assert_eq!((libc::WIFSIGNALED(status), libc::WTERMSIG(status)), (true, libc::SIGABRT));
        assert_eq!(libc::WCOREDUMP(status), info.si_code == libc::CLD_DUMPED);
        assert_eq!(!libc::WCOREDUMP(status), info.si_code == libc::CLD_KILLED);
        libc::WCOREDUMP(status)
    };
    let limit = |bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_CORE, &limit), 0) };
    };
    assert!(!dies(&|| limit(0)));
    assert!(!dies(&|| limit(4095)));
    assert!(!dies(&|| unsafe {
        limit(libc::RLIM_INFINITY);
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }));
}

pub fn one_shot_handlers() {
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_RESTART;
        libc::sigaddset(&mut action.sa_mask, libc::SIGUSR2);
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, null_mut()), 0);
        libc::raise(libc::SIGUSR1);
        let mut now: libc::sigaction = zeroed();
        assert_eq!(libc::sigaction(libc::SIGUSR1, null(), &mut now), 0);
        // The handler is gone, what was said of it stays.
        assert_eq!(now.sa_sigaction, libc::SIG_DFL);
        let kept = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_RESTART;
        assert_eq!(now.sa_flags & kept, kept);
        assert_eq!(libc::sigismember(&now.sa_mask, libc::SIGUSR2), 1);
    }
}

pub fn set_group_id_is_for_members() {
    child_succeeds(|| unsafe {
        let path = c"/tmp/sgid-file";
        let directory = c"/tmp/sgid-dir";
        libc::unlink(path.as_ptr());
        libc::rmdir(directory.as_ptr());
        libc::close(libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600));
        libc::mkdir(directory.as_ptr(), 0o700);
        for place in [path, directory] {
            assert_eq!(libc::chown(place.as_ptr(), 1000, 5), 0);
        }
        assert_eq!(libc::setgroups(0, null()), 0);
        assert_eq!(libc::setresgid(1000, 1000, 1000), 0);
        assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        let mode = |place: &std::ffi::CStr| {
            let mut stat: libc::stat = zeroed();
            assert_eq!(libc::stat(place.as_ptr(), &mut stat), 0);
            stat.st_mode & 0o7777
        };
        for place in [path, directory] {
            assert_eq!(libc::chmod(place.as_ptr(), 0o6755), 0);
            assert_eq!(mode(place), 0o4755, "{place:?}");
        }
        assert_eq!(libc::chown(path.as_ptr(), u32::MAX, 1000), 0);
        assert_eq!(libc::chmod(path.as_ptr(), 0o6755), 0);
        assert_eq!(mode(path), 0o6755);
        // A write by another takes it, by its owner too.
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY);
        assert_eq!(libc::write(fd, c"x".as_ptr().cast(), 1), 1);
        assert_eq!(mode(path), 0o755);
        libc::unlink(path.as_ptr());
        libc::rmdir(directory.as_ptr());
    });
}

pub fn own_descriptors_after_setuid() {
    child_succeeds(|| unsafe {
        let path = c"/tmp/own-fd";
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR | libc::O_TRUNC, 0o644);
        assert!(fd >= 0);
        assert_eq!(libc::write(fd, c"abc".as_ptr().cast(), 3), 3);
        libc::setgroups(0, null());
        assert_eq!(libc::setresgid(1000, 1000, 1000), 0);
        assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        assert_eq!(libc::prctl(libc::PR_GET_DUMPABLE), 0);
        let listed: Vec<String> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(listed.contains(&fd.to_string()), "{listed:?}");
        assert_eq!(std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().to_str(), Some("/tmp/own-fd"));
        assert_eq!(std::fs::read(format!("/proc/self/fd/{fd}")).unwrap(), b"abc");
        assert!(std::fs::read_dir("/proc/self/fdinfo").is_ok());
        assert!(std::fs::read_to_string(format!("/proc/thread-self/fd/{fd}")).is_ok());
        assert!(std::fs::metadata(format!("/proc/self/fd/{fd}")).is_ok());
        // Another's stay closed.
        let of_parent = format!("/proc/{}/fd", libc::getppid());
        assert_eq!(std::fs::read_dir(of_parent).unwrap_err().raw_os_error(), Some(libc::EACCES));
        libc::unlink(path.as_ptr());
    });
}

pub fn name_spaces_are_files() {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];
    let mut listed: Vec<String> = std::fs::read_dir("/proc/self/ns")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    listed.sort();
    assert_eq!(listed, names);
    for name in names {
        let path = format!("/proc/self/ns/{name}");
        let kind = name.trim_end_matches("_for_children");
        let target = std::fs::read_link(&path).unwrap().into_os_string().into_string().unwrap();
        assert!(target.starts_with(&format!("{kind}:[")), "{target}");
        let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        use std::os::unix::fs::MetadataExt;
        let meta = file.metadata().unwrap();
        assert_eq!(format!("{kind}:[{}]", meta.ino()), target);
        assert_eq!(meta.ino(), std::fs::metadata(&path).unwrap().ino());
        use std::os::fd::AsRawFd;
        let fd = file.as_raw_fd();
        let of_fd = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert_eq!(of_fd.to_str(), Some(target.as_str()));
        unsafe {
            // NS_GET_NSTYPE: the CLONE_* flag of its kind.
            let flag = match kind {
                "cgroup" => 0x200_0000,
                "ipc" => 0x800_0000,
                "mnt" => 0x2_0000,
                "net" => 0x4000_0000,
                "pid" => 0x2000_0000,
                "time" => 0x80,
                "user" => 0x1000_0000,
                _ => 0x400_0000,
            };
            assert_eq!(libc::ioctl(fd, 0xb703), flag, "{name}");
            expect_errno(libc::read(fd, [0u8; 8].as_mut_ptr().cast(), 8) as i64, libc::EINVAL);
        }
        // Two names of one thing.
        let of_init = std::fs::read_link(format!("/proc/1/ns/{name}")).unwrap();
        assert_eq!(of_init.to_str(), Some(target.as_str()));
    }
}

pub fn id_registers() {
    use std::arch::asm;
    // Those of the 64-bit machine are emulated, those of the 32-bit one are not.
    child_succeeds(|| unsafe {
        let value: u64;
        asm!("mrs {}, id_aa64pfr0_el1", out(reg) value);
        assert_eq!(value & 0xf, 1 & 0xf, "{value:#x}");
        let value: u64;
        asm!("mrs {}, midr_el1", out(reg) value);
        assert_ne!(value, 0);
    });
    for register in 0..4 {
        child_dies_of(libc::SIGILL, || unsafe {
            let value: u64;
            match register {
                0 => asm!("mrs {}, id_pfr0_el1", out(reg) value),
                1 => asm!("mrs {}, id_dfr0_el1", out(reg) value),
                2 => asm!("mrs {}, id_mmfr0_el1", out(reg) value),
                _ => asm!("mrs {}, ctr_el0", "mrs {}, sctlr_el1", out(reg) value, out(reg) _),
            }
            std::hint::black_box(value);
        });
    }
}
