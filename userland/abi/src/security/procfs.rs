//! proc(5): who sees what of whom, and of which program.

use super::{USER, as_user, become_user, fork_as, wait};
use crate::harness::{child_succeeds, expect_errno, until_asleep};
use libc::*;

use std::os::unix::fs::MetadataExt;
use std::ptr::{null, null_mut};

pub fn directories_are_their_users() {
    let pid = fork_as(USER, || unsafe { usleep(100_000_000) });
    until_asleep(pid);
    let uid = |name: &str| std::fs::metadata(format!("/proc/{pid}/{name}")).unwrap().uid();
    // By setresuid it may not be dumped: all but what everybody may list is root's.
    for name in ["", "task", "fdinfo", &format!("task/{pid}")] {
        assert_eq!(uid(name), USER, "{name}");
    }
    for name in ["fd", "maps", "environ", "status", "ns"] {
        assert_eq!(uid(name), 0, "{name}");
    }
    unsafe { kill(pid, SIGKILL) };
    wait(pid);
    let pid = fork_as(USER, || unsafe {
        prctl(PR_SET_DUMPABLE, 1);
        usleep(100_000_000)
    });
    until_asleep(pid);
    for name in ["", "task", "fdinfo", "fd", "maps", "environ", "status", "ns"] {
        let uid = std::fs::metadata(format!("/proc/{pid}/{name}")).unwrap().uid();
        assert_eq!(uid, USER, "{name}");
    }
    unsafe { kill(pid, SIGKILL) };
    wait(pid);
}

pub fn the_log_is_for_administrators() {
    const READ_ALL: i32 = 3;
    const SIZE_BUFFER: i32 = 10;
    let syslog = |action: i32, buffer: *mut u8, len: i32| unsafe { syscall(SYS_syslog, action, buffer, len) };
    let restrict = |value: &str| std::fs::write("/proc/sys/kernel/dmesg_restrict", value);
    let before = std::fs::read_to_string("/proc/sys/kernel/dmesg_restrict").unwrap();
    assert_eq!(before, "1\n", "Debian's default");
    for restricted in ["0", "1"] {
        restrict(restricted).unwrap();
        as_user(USER, || {
            let mut buffer = [0u8; 4096];
            for action in [READ_ALL, SIZE_BUFFER] {
                let result = syslog(action, buffer.as_mut_ptr(), 4096);
                if restricted == "1" {
                    expect_errno(result, EPERM);
                } else {
                    assert!(result > 0, "{action}");
                }
            }
            for action in [2, 4, 5, 6, 7, 8, 9] {
                expect_errno(syslog(action, buffer.as_mut_ptr(), 4), EPERM);
            }
            // Who may not do it may not allow it either.
            assert!(restrict("0").is_err());
        });
        child_succeeds(|| assert!(syslog(SIZE_BUFFER, null_mut(), 0) > 0));
    }
    restrict("1").unwrap();
    // Kernel addresses are nobody's business: zeros, or none at all.
    let shown = std::fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap();
    assert_eq!(shown, "0\n");
    as_user(USER, || {
        assert!(std::fs::write("/proc/sys/kernel/kptr_restrict", "0").is_err());
        for name in [
            "/proc/kallsyms",
            "/proc/modules",
            "/proc/self/stack",
            "/proc/self/wchan",
            "/proc/self/syscall",
            "/proc/timer_list",
            "/proc/waits",
            "/proc/self/wait",
            "/proc/net/tcp",
            "/proc/net/unix",
            "/proc/1/wait",
        ] {
            let text = std::fs::read_to_string(name).unwrap_or_default().to_lowercase();
            for at in text.match_indices("ffff").map(|(at, _)| at) {
                let digits = text[at..].bytes().take_while(u8::is_ascii_hexdigit).count();
                let is_start = at == 0 || !text.as_bytes()[at - 1].is_ascii_hexdigit();
                assert!(!is_start || digits < 12, "{name}: {}", &text[at..at + digits]);
            }
        }
    });
    let _ = (null::<u8>(), become_user as fn(u32));
}
