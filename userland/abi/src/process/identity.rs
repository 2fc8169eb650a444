//! Process groups, sessions, user and group ids, capabilities.

use super::*;

pub fn groups_and_sessions() {
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
        crate::harness::until_asleep(child);
        expect_errno(i64::from(libc::setpgid(child, own)), libc::EPERM);
        libc::kill(child, libc::SIGKILL);
        wait(child);
    }
}

pub fn orphaned_group_gets_hangup() {
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

pub fn user_ids() {
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

pub fn group_ids() {
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

pub fn capabilities() {
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
