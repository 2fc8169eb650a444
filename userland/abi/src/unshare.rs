//! unshare(2): what a process stops sharing, and what cannot be parted.

use crate::harness::{Tests, child_succeeds, expect_errno};
use std::ptr::null_mut;

pub const TESTS: Tests = &[
    ("descriptors", descriptors),
    ("directories", directories),
    ("semaphore_adjustments", semaphore_adjustments),
    ("errors", errors),
];

fn unshare(flags: i32) -> i64 {
    // SAFETY: no memory is passed.
    unsafe { libc::unshare(flags).into() }
}

/// Runs `body` in a child that shares what `flags` say with the caller, until it has ended well.
#[track_caller]
fn sharing_child(flags: i32, body: impl FnOnce()) {
    let mut status = 0;
    // SAFETY: a child with memory of its own, as fork makes it; it only runs `body` and leaves.
    let waited = unsafe {
        let child = libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), 0, 0, 0, 0) as i32;
        assert!(child >= 0);
        if child == 0 {
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err();
            libc::_exit(i32::from(failed));
        }
        libc::waitpid(child, &mut status, 0) == child
    };
    assert!(waited && status == 0, "child ended with status {status:#x}");
}

fn is_open(fd: i32) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

fn descriptors() {
    // SAFETY: descriptors of our own.
    unsafe {
        let (kept, shared) = (libc::dup(1), libc::dup(1));
        sharing_child(libc::CLONE_FILES, || {
            libc::close(shared);
            assert_eq!(unshare(libc::CLONE_FILES), 0);
            assert!(is_open(kept) && !is_open(shared));
            libc::close(kept);
            // A second time there is nothing to part.
            assert_eq!(unshare(libc::CLONE_FILES), 0);
            assert!(!is_open(kept) && is_open(1));
        });
        assert!(is_open(kept) && !is_open(shared));
        libc::close(kept);
        // A thread of its own kind: it may part from the others here.
        let fd = libc::dup(1);
        std::thread::spawn(move || {
            assert_eq!(unshare(libc::CLONE_FILES), 0);
            libc::close(fd);
        })
        .join()
        .unwrap();
        assert!(is_open(fd));
        libc::close(fd);
    }
}

fn directories() {
    let here = || std::env::current_dir().unwrap();
    child_succeeds(|| {
        std::env::set_current_dir("/tmp").unwrap();
        sharing_child(libc::CLONE_FS, || std::env::set_current_dir("/").unwrap());
        assert_eq!(here().to_str(), Some("/"));
        sharing_child(libc::CLONE_FS, || {
            assert_eq!(unshare(libc::CLONE_FS), 0);
            assert_eq!(here().to_str(), Some("/"));
            std::env::set_current_dir("/tmp").unwrap();
            // SAFETY: no memory is passed.
            unsafe { libc::umask(0o777) };
        });
        assert_eq!(here().to_str(), Some("/"));
        // SAFETY: no memory is passed.
        assert_ne!(unsafe { libc::umask(0) }, 0o777);
    });
}

fn semaphore_adjustments() {
    // SAFETY: semaphore calls with structures of our own.
    unsafe {
        let id = libc::semget(libc::IPC_PRIVATE, 1, 0o600);
        assert!(id >= 0);
        let value = || libc::semctl(id, 0, libc::GETVAL);
        let up = |flags: i32| {
            let mut op = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: flags as i16 };
            assert_eq!(libc::semop(id, &mut op, 1), 0);
        };
        child_succeeds(|| {
            up(libc::SEM_UNDO);
            assert_eq!(value(), 1);
            assert_eq!(unshare(libc::CLONE_SYSVSEM), 0);
            assert_eq!(value(), 0, "the adjustment is applied at once");
            up(0);
            up(libc::SEM_UNDO);
            // Shared: the one that parts leaves the adjustment to the other.
            sharing_child(libc::CLONE_SYSVSEM, || {
                assert_eq!(unshare(libc::CLONE_SYSVSEM), 0);
                up(libc::SEM_UNDO);
                assert_eq!(value(), 3);
            });
            assert_eq!(value(), 2);
        });
        assert_eq!(value(), 1);
        assert_eq!(libc::semctl(id, 0, libc::IPC_RMID), 0);
    }
}

fn errors() {
    assert_eq!(unshare(0), 0);
    for unknown in [libc::CLONE_VFORK, libc::CLONE_SETTLS, libc::CLONE_PARENT, 1] {
        expect_errno(unshare(unknown), libc::EINVAL);
    }
    child_succeeds(|| {
        // Alone there is nothing to part.
        for flag in [libc::CLONE_THREAD, libc::CLONE_SIGHAND, libc::CLONE_VM] {
            assert_eq!(unshare(flag), 0);
        }
        std::thread::spawn(|| {
            for flag in [libc::CLONE_THREAD, libc::CLONE_SIGHAND, libc::CLONE_VM] {
                expect_errno(unshare(flag), libc::EINVAL);
            }
        })
        .join()
        .unwrap();
        // SAFETY: plain calls; the vfork child makes system calls only, on its parent's stack while that waits.
        unsafe {
            let child = libc::syscall(
                libc::SYS_clone,
                i64::from(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD),
                0,
                0,
                0,
                0,
            );
            if child == 0 {
                let refused = libc::unshare(libc::CLONE_VM) == -1 && *libc::__errno_location() == libc::EINVAL;
                libc::_exit(i32::from(!refused));
            }
            let mut status = 0;
            assert_eq!(i64::from(libc::waitpid(child as i32, &mut status, 0)), child);
            assert_eq!(status, 0, "memory that a parent lent can not be parted");
            assert_eq!(libc::setgroups(0, null_mut()), 0);
            assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        }
        for flag in [libc::CLONE_NEWUTS, libc::CLONE_NEWIPC, libc::CLONE_NEWPID, libc::CLONE_NEWNET] {
            expect_errno(unshare(flag), libc::EPERM);
        }
    });
}
