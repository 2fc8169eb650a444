//! sigaction(2), sigaltstack(2), sigqueue(3), sigwaitinfo(2), kill(2), wait(2) with SA_NOCLD*: what the manual pages say beside the
//! common case.

use super::*;
use crate::harness::{errno, until_asleep};
use libc::{c_void, pid_t};

/// `struct sigaction` as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Raw {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

fn raw_action(signal: i32, new: Option<Raw>) -> Raw {
    let mut old = Raw::default();
    let new = new.as_ref().map_or(0, |new| std::ptr::from_ref(new) as usize);
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, &mut old, 8usize) };
    assert_eq!(result, 0);
    old
}

/// Flag bits nobody knows are cleared, so that a program can find out what is there; SIGKILL and SIGSTOP leave the mask.
pub fn unknown_flags_are_cleared() {
    const KNOWN: u64 = 0x1 | 0x2 | 0x4 | 0x800 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x4000_0000 | 0x8000_0000;
    let all = Raw { handler: log as *const () as u64, flags: u64::MAX, restorer: 0x1234, mask: u64::MAX };
    let default = raw_action(libc::SIGUSR1, Some(all));
    assert_eq!((default.handler, default.flags, default.mask), (0, 0, 0));
    let stored = raw_action(libc::SIGUSR1, Some(Raw::default()));
    assert_eq!((stored.flags, stored.handler), (KNOWN, all.handler));
    assert_eq!(stored.mask, !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1)));
    let unsupported = Raw { flags: 0x400, ..all };
    raw_action(libc::SIGUSR1, Some(unsupported));
    assert_eq!(raw_action(libc::SIGUSR1, None).flags, 0);
}

pub fn sigaction_errors() {
    let call = |signal: i32, new: usize, old: usize, size: usize| unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, new, old, size)
    };
    let action = Raw::default();
    let at = &raw const action as usize;
    expect_errno(call(99, 8, 0, 4), libc::EINVAL);
    expect_errno(call(99, 8, 0, 8), libc::EFAULT);
    for signal in [0, -1, 65, libc::SIGKILL, libc::SIGSTOP] {
        expect_errno(call(signal, at, 0, 8), libc::EINVAL);
    }
    // The old action cannot be told: the new one is there all the same.
    let new = Raw { handler: 1, ..action };
    expect_errno(call(libc::SIGUSR1, &raw const new as usize, 8, 8), libc::EFAULT);
    assert_eq!(raw_action(libc::SIGUSR1, None).handler, 1);
}

pub fn alternate_stack_rules() {
    let call = |new: usize, old: usize| unsafe { libc::syscall(libc::SYS_sigaltstack, new, old) };
    let memory = vec![0u8; 65536].leak();
    let stack = |flags: i32, size: usize| libc::stack_t {
        ss_sp: memory.as_ptr() as *mut c_void,
        ss_flags: flags,
        ss_size: size,
    };
    let set = |stack: &libc::stack_t| call(std::ptr::from_ref(stack) as usize, 0);
    let now = || {
        let mut now: libc::stack_t = unsafe { zeroed() };
        assert_eq!(call(0, &raw mut now as usize), 0);
        (now.ss_sp as usize, now.ss_flags, now.ss_size)
    };
    // What there was when a program begins (a language's run-time may have set one): none after a disable.
    assert_eq!(set(&stack(libc::SS_DISABLE, 65536)), 0);
    assert_eq!(now(), (0, libc::SS_DISABLE, 0));
    assert_eq!(set(&stack(libc::SS_ONSTACK, 65536)), 0);
    assert_eq!(now(), (memory.as_ptr() as usize, 0, 65536));
    expect_errno(set(&stack(0, 5119)), libc::ENOMEM);
    expect_errno(set(&stack(libc::SS_ONSTACK | libc::SS_DISABLE, 65536)), libc::EINVAL);
    expect_errno(set(&stack(0x10, 1)), libc::EINVAL);
    expect_errno(call(8, 8), libc::EFAULT);
    assert_eq!(set(&stack(0, 5120)), 0);
    expect_errno(call(&raw const *Box::leak(Box::new(stack(0, 6000))) as usize, 8), libc::EFAULT);
    assert_eq!(now().2, 6000, "set though the old one could not be told");
    assert_eq!(set(&stack(i32::MIN | libc::SS_DISABLE, 65536)), 0);
    assert_eq!(now(), (0, libc::SS_DISABLE | i32::MIN, 0));
    // A fork has it, a thread has not, exec has not.
    assert_eq!(set(&stack(0, 65536)), 0);
    child_succeeds(|| assert_eq!(now().2, 65536));
}

/// sigqueue(3), rt_sigqueueinfo(2) and rt_tgsigqueueinfo(2).
pub fn queueing() {
    let own = std::process::id() as pid_t;
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    info.si_signo = 3;
    info.si_code = -1;
    let queue = |pid: i32, signal: i32, info: *const libc::siginfo_t| unsafe {
        libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, info)
    };
    let queue_to = |pid: i32, tid: i32, signal: i32, info: *const libc::siginfo_t| unsafe {
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, info)
    };
    expect_errno(queue(own, 10, 8 as *const _), libc::EFAULT);
    expect_errno(queue(own, 65, &info), libc::EINVAL);
    expect_errno(queue(own, -1, &info), libc::EINVAL);
    expect_errno(queue(4_000_000, 10, &info), libc::ESRCH);
    assert_eq!(queue(own, 0, &info), 0);
    expect_errno(queue_to(own, 0, 10, &info), libc::EINVAL);
    expect_errno(queue_to(0, own, 10, &info), libc::EINVAL);
    expect_errno(queue_to(own, 4_000_000, 10, &info), libc::ESRCH);
    expect_errno(queue_to(1, own, 10, &info), libc::ESRCH);
    assert_eq!(queue_to(own, own, 0, &info), 0);
    let parent = unsafe { libc::getppid() };
    for code in [0, 1, 0x80, -6] {
        info.si_code = code;
        expect_errno(queue(parent, 0, &info), libc::EPERM);
        expect_errno(queue_to(parent, parent, 0, &info), libc::EPERM);
        assert_eq!(queue(own, 0, &info), 0, "to itself a process may say anything");
    }
    // The number given counts, not the one in the structure; the rest goes through as it is.
    handle(libc::SIGUSR1, libc::SA_SIGINFO, log);
    info.si_code = -3;
    assert_eq!(queue(own, libc::SIGUSR1, &info), 0);
    assert_eq!((logged(), LAST[0].load(SeqCst) as i32), (vec![libc::SIGUSR1], -3));
}

pub fn waiting_for_signals() {
    block(&[libc::SIGUSR1, libc::SIGUSR2, libc::SIGRTMIN()]);
    let set = set_of(&[libc::SIGUSR1, libc::SIGRTMIN()]);
    let wait = |set: usize, info: usize, time: usize, size: usize| unsafe {
        libc::syscall(libc::SYS_rt_sigtimedwait, set, info, time, size)
    };
    let at = &raw const set as usize;
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let now = &raw const zero as usize;
    expect_errno(wait(at, 0, now, 4), libc::EINVAL);
    expect_errno(wait(8, 0, now, 8), libc::EFAULT);
    expect_errno(wait(at, 0, 8, 8), libc::EFAULT);
    for bad in [libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, libc::timespec { tv_sec: -1, tv_nsec: 0 }] {
        expect_errno(wait(at, 0, &raw const bad as usize, 8), libc::EINVAL);
    }
    expect_errno(wait(at, 0, now, 8), libc::EAGAIN);
    // The lowest number first; others stay.
    kill_self(libc::SIGRTMIN());
    kill_self(libc::SIGUSR2);
    kill_self(libc::SIGUSR1);
    assert_eq!(wait(at, 0, now, 8), i64::from(libc::SIGUSR1));
    assert_eq!(wait(at, 0, now, 8), i64::from(libc::SIGRTMIN()));
    expect_errno(wait(at, 0, now, 8), libc::EAGAIN);
    let other = set_of(&[libc::SIGUSR2]);
    // A bad address for the information: the signal is taken all the same.
    expect_errno(wait(&raw const other as usize, 8, now, 8), libc::EFAULT);
    expect_errno(wait(&raw const other as usize, 0, now, 8), libc::EAGAIN);
    // A signal that is not waited for ends the wait when it has a handler.
    handle(libc::SIGALRM, libc::SA_RESTART, log);
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let result = wait(at, 0, 0, 8);
        unsafe { libc::_exit(if result == -1 { errno() } else { 0 }) };
    }
    until_asleep(pid);
    let mut status = 0;
    unsafe {
        libc::kill(pid, libc::SIGALRM);
        libc::waitpid(pid, &mut status, 0);
    }
    assert_eq!(libc::WEXITSTATUS(status), libc::EINTR);
}

extern "C" fn count_children(_signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    unsafe { LAST[0].store((*info).si_code as u64, SeqCst) };
    LAST[1].fetch_add(1, SeqCst);
}

/// SA_NOCLDSTOP, SA_NOCLDWAIT and an ignored SIGCHLD.
pub fn children_and_flags() {
    let stopped_child = || unsafe {
        let pid = libc::fork();
        if pid == 0 {
            loop {
                libc::pause();
            }
        }
        let mut status = 0;
        libc::kill(pid, libc::SIGSTOP);
        assert_eq!(libc::waitpid(pid, &mut status, libc::WUNTRACED), pid);
        assert!(libc::WIFSTOPPED(status));
        pid
    };
    let seen = || LAST[1].swap(0, SeqCst);
    handle(libc::SIGCHLD, libc::SA_SIGINFO | libc::SA_RESTART, count_children);
    let pid = stopped_child();
    assert_eq!((seen(), LAST[0].load(SeqCst) as i32), (1, libc::CLD_STOPPED));
    unsafe {
        let mut status = 0;
        libc::kill(pid, libc::SIGCONT);
        assert_eq!(libc::waitpid(pid, &mut status, libc::WCONTINUED), pid);
        assert!(libc::WIFCONTINUED(status));
        // The child itself says so, perhaps after it has been waited for.
        while LAST[1].load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert_eq!((seen(), LAST[0].load(SeqCst) as i32), (1, libc::CLD_CONTINUED));
        libc::kill(pid, libc::SIGKILL);
        assert_eq!(libc::waitpid(pid, null_mut(), 0), pid);
        assert_eq!((seen(), LAST[0].load(SeqCst) as i32), (1, libc::CLD_KILLED));
        handle(libc::SIGCHLD, libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NOCLDSTOP, count_children);
        let pid = stopped_child();
        assert_eq!(seen(), 0);
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, null_mut(), 0);
        assert_eq!(seen(), 1);
        // Children that nobody needs to wait for: with SA_NOCLDWAIT the signal still comes.
        let mut left: libc::sigaction = zeroed();
        left.sa_sigaction = count_children as *const () as usize;
        left.sa_flags = libc::SA_NOCLDWAIT | libc::SA_SIGINFO | libc::SA_RESTART;
        for handler in [left.sa_sigaction, libc::SIG_IGN, libc::SIG_DFL] {
            left.sa_sigaction = handler;
            libc::sigaction(libc::SIGCHLD, &left, null_mut());
            if libc::fork() == 0 {
                libc::_exit(3);
            }
            expect_errno(i64::from(libc::wait(null_mut())), libc::ECHILD);
        }
        assert_eq!(seen(), 1);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        if libc::fork() == 0 {
            libc::_exit(3);
        }
        expect_errno(i64::from(libc::waitpid(-1, null_mut(), 0)), libc::ECHILD);
    }
}

/// waitid(2) and wait4(2): errors, and what WNOWAIT leaves.
pub fn wait_rules() {
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let at = &raw mut info as usize;
    let waitid = |kind: u32, id: i64, info: usize, flags: i32| unsafe {
        libc::syscall(libc::SYS_waitid, kind, id, info, flags, 0usize)
    };
    expect_errno(waitid(0, 0, at, libc::WEXITED), libc::ECHILD);
    expect_errno(waitid(9, 0, at, libc::WEXITED), libc::EINVAL);
    expect_errno(waitid(libc::P_PID, 0, at, libc::WEXITED), libc::EINVAL);
    expect_errno(waitid(libc::P_PID, -5, at, libc::WEXITED), libc::EINVAL);
    expect_errno(waitid(libc::P_PGID, -5, at, libc::WEXITED), libc::EINVAL);
    expect_errno(waitid(0, 0, at, 0), libc::EINVAL);
    expect_errno(waitid(0, 0, at, libc::WNOHANG), libc::EINVAL);
    expect_errno(waitid(0, 0, at, libc::WEXITED | 0x10), libc::EINVAL);
    unsafe {
        expect_errno(libc::syscall(libc::SYS_wait4, -1, 0usize, 0x10, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_wait4, i32::MIN, 0usize, 0, 0usize), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_wait4, 1, 0usize, 0, 0usize), libc::ECHILD);
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(7);
        }
        assert_eq!(waitid(libc::P_PID, pid.into(), at, libc::WEXITED | libc::WNOWAIT), 0);
        assert_eq!(
            (info.si_signo, info.si_code, info.si_pid(), info.si_status()),
            (libc::SIGCHLD, libc::CLD_EXITED, pid, 7)
        );
        assert_eq!(waitid(libc::P_PGID, libc::getpgrp().into(), 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT), 0);
        // A bad place for the status: the child is gone all the same.
        expect_errno(libc::syscall(libc::SYS_wait4, pid, 8usize, 0, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_wait4, pid, 0usize, 0, 0usize), libc::ECHILD);
        // With WNOHANG and nobody: 0, and a structure of zeros.
        let pid = libc::fork();
        if pid == 0 {
            loop {
                libc::pause();
            }
        }
        assert_eq!(waitid(0, 0, at, libc::WEXITED | libc::WNOHANG), 0);
        assert_eq!((info.si_signo, info.si_pid()), (0, 0));
        libc::kill(pid, libc::SIGABRT);
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT);
    }
}
