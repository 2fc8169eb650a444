//! Pid 1 and the machine: nobody ends them who should not.

use super::{USER, as_user, sleep_ms};
use crate::harness::expect_errno;
use libc::*;

pub fn init_outlives_others() {
    as_user(USER, || unsafe {
        // SIGCONT is everybody's within a session.
        for signal in (0..=64).filter(|signal| *signal != SIGCONT) {
            expect_errno(i64::from(kill(1, signal)), EPERM);
            expect_errno(syscall(SYS_tkill, 1, signal), EPERM);
            expect_errno(syscall(SYS_tgkill, 1, 1, signal), EPERM);
        }
        let mut info = [0u32; 32];
        for code in [0i32, -1, -6, 1, 0x80] {
            info[2] = code as u32;
            expect_errno(syscall(SYS_rt_sigqueueinfo, 1, SIGKILL, info.as_ptr()), EPERM);
            expect_errno(syscall(SYS_rt_tgsigqueueinfo, 1, 1, SIGTERM, info.as_ptr()), EPERM);
        }
        let pidfd = syscall(SYS_pidfd_open, 1, 0);
        assert!(pidfd >= 0);
        expect_errno(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, 0usize, 0), EPERM);
        // Through a file, and through a timer's signal.
        for (signal, target) in [(SIGTERM, 1), (SIGKILL, 1), (SIGUSR1, -1)] {
            let mut pair = [0; 2];
            assert_eq!(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.as_mut_ptr()), 0);
            // Group 1 is there where pid 1 leads one.
            if fcntl(pair[0], F_SETOWN, target) == 0 {
                assert_eq!(fcntl(pair[0], 10, signal), 0);
                assert_eq!(fcntl(pair[0], F_SETFL, O_ASYNC), 0);
                assert_eq!(write(pair[1], b"x".as_ptr().cast(), 1), 1);
            }
        }
        expect_errno(syscall(SYS_reboot, 0xfee1_deadu32, 672_274_793, 0x4321_fedc, 0), EPERM);
    });
    // Root's signals without a handler of pid 1's change nothing either.
    for signal in (1..=64).filter(|signal| ![SIGTERM, SIGUSR1, SIGUSR2].contains(signal)) {
        assert_eq!(unsafe { kill(1, signal) }, 0);
    }
    sleep_ms(20);
    assert_eq!(unsafe { kill(1, 0) }, 0);
    let state = super::status_field(1, "State");
    assert!(!state.starts_with('T') && !state.starts_with('Z'), "{state}");
}
