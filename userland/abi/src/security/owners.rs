//! fcntl(F_SETOWN), ioctl(FIOSETOWN) and terminals: signals that the kernel sends for somebody.

use super::{OTHER, USER, as_user, fork_as, sleep_ms, status_field, wait};
use crate::harness::{errno, expect_errno};
use libc::*;

const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_GETOWNER_UIDS: i32 = 17;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;

/// A process of `uid` that sleeps in a group of its own with every signal blocked; what it is sent stays to be seen.
fn victim(uid: u32) -> i32 {
    let pid = fork_as(uid, || unsafe {
        setpgid(0, 0);
        let all = u64::MAX;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0usize, 8);
        loop {
            usleep(100_000_000);
        }
    });
    unsafe { setpgid(pid, pid) };
    crate::harness::until_asleep(pid);
    pid
}

fn pending(pid: i32) -> u64 {
    let hex = |name| u64::from_str_radix(&status_field(pid, name), 16).unwrap();
    hex("SigPnd") | hex("ShdPnd")
}

fn end(pid: i32) {
    unsafe { kill(pid, SIGKILL) };
    assert_eq!(wait(pid), SIGKILL);
}

/// A socket with data to come, and its other end.
fn sockets() -> [i32; 2] {
    let mut pair = [0; 2];
    assert_eq!(unsafe { socketpair(AF_UNIX, SOCK_STREAM, 0, pair.as_mut_ptr()) }, 0);
    pair
}

/// Makes `pid` the owner of a descriptor.
type Own = fn(i32, i32) -> i32;

/// Every way there is to make `pid` the owner of `fd`.
fn ways() -> Vec<(&'static str, Own)> {
    vec![
        ("F_SETOWN", |fd, pid| unsafe { fcntl(fd, F_SETOWN, pid) }),
        ("F_SETOWN of a group", |fd, pid| unsafe { fcntl(fd, F_SETOWN, -pid) }),
        ("F_SETOWN_EX of a thread", |fd, pid| unsafe { fcntl(fd, F_SETOWN_EX, &[0, pid]) }),
        ("F_SETOWN_EX of a process", |fd, pid| unsafe { fcntl(fd, F_SETOWN_EX, &[1, pid]) }),
        ("F_SETOWN_EX of a group", |fd, pid| unsafe { fcntl(fd, F_SETOWN_EX, &[2, pid]) }),
        ("FIOSETOWN", |fd, pid| unsafe { ioctl(fd, FIOSETOWN, &pid) }),
        ("SIOCSPGRP", |fd, pid| unsafe { ioctl(fd, SIOCSPGRP, &pid) }),
        ("SIOCSPGRP of a group", |fd, pid| unsafe { ioctl(fd, SIOCSPGRP, &-pid) }),
    ]
}

/// Makes the kernel send `signal` (0: plain SIGIO) to `target` for us.
fn shoot(way: fn(i32, i32) -> i32, target: i32, signal: i32) {
    let [own, other] = sockets();
    unsafe {
        assert_eq!(way(own, target), 0, "errno {}", errno());
        assert_eq!(fcntl(own, F_SETSIG, signal), 0);
        assert_eq!(fcntl(own, F_SETFL, O_ASYNC), 0);
        assert_eq!(write(other, b"x".as_ptr().cast(), 1), 1);
        // And urgent data, which needs no O_ASYNC.
        send(other, b"!".as_ptr().cast(), 1, MSG_OOB);
        close(own);
        close(other);
    }
}

pub fn owners_of_files_cannot_kill() {
    for owner in [0, OTHER] {
        let target = victim(owner);
        for (name, way) in ways() {
            as_user(USER, || {
                for signal in [SIGKILL, SIGSTOP, SIGTERM, SIGRTMIN() + 1, 0] {
                    shoot(way, target, signal);
                }
            });
            sleep_ms(5);
            let mut status = 0;
            let changed = unsafe { waitpid(target, &mut status, WNOHANG | WUNTRACED) };
            assert!(changed == 0, "{name} changed a process of user {owner}: {status:#x}");
            assert_eq!(pending(target), 0, "{name} reached a process of user {owner}");
        }
        end(target);
    }
}

pub fn owners_of_ones_own_are_told() {
    for (name, way) in ways() {
        // The user's own; root's shots reach everybody.
        for (shooter, owner) in [(USER, USER), (0, USER), (0, 0)] {
            let target = victim(owner);
            as_user(shooter, || shoot(way, target, SIGRTMIN() + 1));
            sleep_ms(5);
            assert!(pending(target) & 1 << (SIGRTMIN() as u64) != 0, "{name}: {shooter} to {owner}");
            end(target);
        }
    }
    // The real user of a set-user-ID program may signal it, as with kill(2); one that has only its effective id may not.
    let with_ids = |real: u32, effective: u32, saved: u32| {
        let pid = fork_as(0, || unsafe {
            assert_eq!(setresuid(real, effective, saved), 0);
            let all = u64::MAX;
            syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0usize, 8);
            loop {
                usleep(100_000_000);
            }
        });
        crate::harness::until_asleep(pid);
        pid
    };
    for (ids, reached) in [([USER, 0, 0], true), ([0, 0, USER], true), ([0, USER, 0], false)] {
        let target = with_ids(ids[0], ids[1], ids[2]);
        as_user(USER, || shoot(|fd, pid| unsafe { fcntl(fd, F_SETOWN, pid) }, target, SIGRTMIN() + 1));
        sleep_ms(5);
        assert_eq!(pending(target) != 0, reached, "{ids:?}");
        end(target);
    }
}

pub fn an_owner_is_as_its_setter_was() {
    // What root set stays root's after it has become somebody else, until it is set anew.
    let target = victim(0);
    as_user(0, || unsafe {
        let [own, other] = sockets();
        assert_eq!(fcntl(own, F_SETOWN, target), 0);
        assert_eq!(fcntl(own, F_SETSIG, SIGRTMIN() + 1), 0);
        assert_eq!(fcntl(own, F_SETFL, O_ASYNC), 0);
        super::become_user(USER);
        assert_eq!(write(other, b"x".as_ptr().cast(), 1), 1);
    });
    sleep_ms(5);
    assert_ne!(pending(target), 0);
    end(target);
    let target = victim(0);
    as_user(0, || unsafe {
        let [own, other] = sockets();
        assert_eq!(fcntl(own, F_SETOWN, target), 0);
        assert_eq!(fcntl(own, F_SETSIG, SIGRTMIN() + 1), 0);
        assert_eq!(fcntl(own, F_SETFL, O_ASYNC), 0);
        super::become_user(USER);
        assert_eq!(fcntl(own, F_SETOWN, target), 0);
        assert_eq!(write(other, b"x".as_ptr().cast(), 1), 1);
    });
    sleep_ms(5);
    assert_eq!(pending(target), 0);
    // A file that somebody else set up and passed on is theirs: its events speak for the setter, not for who causes them.
    let [own, other] = sockets();
    let setter = fork_as(USER, || unsafe {
        assert_eq!(fcntl(own, F_SETOWN, target), 0);
        assert_eq!(fcntl(own, F_SETSIG, SIGRTMIN() + 1), 0);
        i32::from(fcntl(own, F_SETFL, O_ASYNC) != 0)
    });
    assert_eq!(wait(setter), 0);
    assert_eq!(unsafe { write(other, b"x".as_ptr().cast(), 1) }, 1);
    sleep_ms(5);
    assert_eq!(pending(target), 0);
    end(target);
}

pub fn owner_uids() {
    let [own, _other] = sockets();
    let mut ids = [7u32; 2];
    unsafe {
        assert_eq!(fcntl(own, F_GETOWNER_UIDS, ids.as_mut_ptr()), 0, "errno {}", errno());
        assert_eq!(ids, [0, 0]);
        let setter = fork_as(USER, || fcntl(own, F_SETOWN, getpid()));
        assert_eq!(wait(setter), 0);
        assert_eq!(fcntl(own, F_GETOWNER_UIDS, ids.as_mut_ptr()), 0);
        assert_eq!(ids, [USER, USER]);
        expect_errno(i64::from(fcntl(own, F_GETOWNER_UIDS, 8)), EFAULT);
    }
}

pub fn terminals_signal_their_own() {
    const TIOCSIG: u64 = 0x4004_5436;
    let foreign = victim(0);
    as_user(USER, || unsafe {
        // A session with a terminal of its own.
        setsid();
        let master = posix_openpt(O_RDWR | O_NOCTTY);
        assert!(master >= 0, "errno {}", errno());
        assert_eq!(unlockpt(master), 0);
        let mut name = [0; 64];
        assert_eq!(ptsname_r(master, name.as_mut_ptr(), name.len()), 0);
        let slave = open(name.as_ptr(), O_RDWR);
        assert!(slave >= 0, "errno {}", errno());
        // Its foreground is a group of this session, or none that one could name.
        expect_errno(i64::from(ioctl(slave, TIOCSPGRP, &foreign)), EPERM);
        expect_errno(i64::from(ioctl(master, TIOCSPGRP, &foreign)), EPERM);
        expect_errno(i64::from(ioctl(slave, TIOCSPGRP, &-1)), EINVAL);
        expect_errno(i64::from(ioctl(slave, TIOCSPGRP, &3_999_999)), ESRCH);
        // The master asks for three signals and no other.
        for signal in [SIGKILL, SIGSTOP, SIGTERM, SIGHUP, SIGUSR1, 0, 65, -1] {
            expect_errno(i64::from(ioctl(master, TIOCSIG, i64::from(signal))), EINVAL);
        }
        signal(SIGINT, SIG_IGN);
        assert_eq!(ioctl(master, TIOCSIG, i64::from(SIGINT)), 0);
    });
    // Typing for somebody else needs their terminal to be one's own.
    let console = unsafe { open(c"/dev/tty".as_ptr(), O_RDWR | O_NOCTTY) };
    as_user(USER, || unsafe {
        setsid();
        let mut pair = [0; 2];
        pair[0] = posix_openpt(O_RDWR | O_NOCTTY);
        assert!(pair[0] >= 0);
        expect_errno(i64::from(ioctl(pair[0], TIOCSTI, b"x".as_ptr())), EPERM);
        if console >= 0 {
            expect_errno(i64::from(ioctl(console, TIOCSTI, b"x".as_ptr())), EPERM);
            expect_errno(i64::from(ioctl(console, TIOCSPGRP, &getpid())), ENOTTY);
            expect_errno(i64::from(ioctl(console, 0x5437)), EPERM); // TIOCVHANGUP
        }
    });
    end(foreign);
}
