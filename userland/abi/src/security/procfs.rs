//! proc(5): who sees what of whom, and of which program.

use super::exec::{exec, program};
use super::{USER, as_user, fork_as, sleep_ms, wait};
use crate::harness::{child_succeeds, errno, expect_errno, until_asleep};
use libc::*;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::ptr::null_mut;

/// Files that show the address space, and are bound to the one of when they were opened.
const OF_MEMORY: [&str; 4] = ["maps", "smaps", "environ", "auxv"];

pub fn descriptors_stay_with_their_program() {
    let path = program("proc-suid", (0, 0), 0o4755);
    as_user(USER, || unsafe {
        prctl(PR_SET_DUMPABLE, 1);
        let mut go = [0; 2];
        assert_eq!(pipe(go.as_mut_ptr()), 0);
        let pid = fork();
        if pid == 0 {
            read(go[0], [0u8; 1].as_mut_ptr().cast(), 1);
            _exit(exec(&path, &["x", "--security-helper sleep"]));
        }
        let open = |name: &str| std::fs::File::open(format!("/proc/{pid}/{name}"));
        let mut early: Vec<_> = OF_MEMORY.iter().map(|name| open(name).unwrap()).collect();
        let directory = std::fs::File::open(format!("/proc/{pid}")).unwrap();
        write(go[1], c"x".as_ptr().cast(), 1);
        crate::harness::sometimes(|| {
            sleep_ms(5);
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("sleep"))
        });
        // The old program is gone: nothing to see. The new one is none of this user's business.
        for (name, file) in OF_MEMORY.iter().zip(&mut early) {
            let mut text = Vec::new();
            match file.read_to_end(&mut text) {
                // (Linux keeps the auxiliary vector of the one that is gone.)
                Ok(n) => assert!(n == 0 || *name == "auxv", "{name}: {}", String::from_utf8_lossy(&text)),
                Err(error) => assert!(matches!(error.raw_os_error(), Some(EACCES | ESRCH)), "{name}: {error}"),
            }
        }
        for name in OF_MEMORY {
            assert_eq!(open(name).unwrap_err().raw_os_error(), Some(EACCES), "{name}");
        }
        use std::os::fd::AsRawFd;
        for name in [c"maps", c"environ"] {
            expect_errno(i64::from(openat(directory.as_raw_fd(), name.as_ptr(), O_RDONLY)), EACCES);
        }
        assert!(std::fs::read_link(format!("/proc/{pid}/exe")).is_err());
        assert!(std::fs::read_link(format!("/proc/{pid}/cwd")).is_err());
        assert!(std::fs::read_link(format!("/proc/{pid}/root")).is_err());
        // The addresses in stat are zero for who may not look.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        for (at, name) in
            [(23, "startcode"), (24, "endcode"), (25, "startstack"), (26, "esp"), (27, "eip"), (42, "startdata")]
        {
            assert!(fields[at] == "0" || fields[at] == "1", "{name} {}", fields[at]);
        }
        // Its user may signal it, and does.
        assert_eq!(kill(pid, SIGKILL), 0);
        wait(pid);
    });
    unsafe { unlink(path.as_ptr()) };
}

pub fn the_opener_is_asked() {
    let own = std::process::id();
    // Opened by root, read by whoever got the descriptor; and what a user could not open a set-user-ID reader does not open.
    let files: Vec<_> =
        OF_MEMORY.iter().map(|name| std::fs::File::open(format!("/proc/{own}/{name}")).unwrap()).collect();
    as_user(USER, || {
        for (name, mut file) in OF_MEMORY.iter().zip(&files) {
            let mut bytes = [0u8; 64];
            assert!(file.read(&mut bytes).unwrap_or_else(|error| panic!("{name}: {error}")) > 0, "{name}");
            let again = std::fs::File::open(format!("/proc/{own}/{name}"));
            assert_eq!(again.unwrap_err().raw_os_error(), Some(EACCES), "{name}");
        }
    });
}

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

pub fn hidden_processes() {
    unsafe {
        let place = c"/tmp/security-proc";
        mkdir(place.as_ptr(), 0o755);
        let try_mount =
            |data: &std::ffi::CStr| mount(c"proc".as_ptr(), place.as_ptr(), c"proc".as_ptr(), 0, data.as_ptr().cast());
        expect_errno(i64::from(try_mount(c"hidepid=7")), EINVAL);
        expect_errno(i64::from(try_mount(c"nonsense")), EINVAL);
        // 1: directories of others cannot be entered. 2: nor are they there. 4: only who could be traced is.
        for (data, level) in [
            (c"hidepid=0", 0),
            (c"hidepid=1", 1),
            (c"hidepid=noaccess", 1),
            (c"hidepid=invisible", 2),
            (c"hidepid=2,gid=77", 2),
            (c"hidepid=ptraceable", 4),
        ] {
            assert_eq!(try_mount(data), 0, "{data:?}: errno {}", errno());
            as_user(USER, || {
                prctl(PR_SET_DUMPABLE, 1);
                let listed: Vec<String> = std::fs::read_dir("/tmp/security-proc")
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                let own = getpid().to_string();
                assert!(listed.contains(&own), "{data:?}");
                assert_eq!(listed.contains(&String::from("1")), level < 2, "{data:?}");
                let of_init = std::fs::read_to_string("/tmp/security-proc/1/stat");
                match level {
                    0 => assert!(of_init.is_ok()),
                    1 => assert_eq!(of_init.unwrap_err().raw_os_error(), Some(EPERM), "{data:?}"),
                    _ => assert_eq!(of_init.unwrap_err().raw_os_error(), Some(ENOENT), "{data:?}"),
                }
                assert_eq!(std::fs::metadata("/tmp/security-proc/1").is_ok(), level < 2, "{data:?}");
                assert!(std::fs::read_to_string(format!("/tmp/security-proc/{own}/stat")).is_ok());
                assert!(std::fs::read_to_string("/tmp/security-proc/self/stat").is_ok());
                // The machine's own files are for all.
                assert!(std::fs::read_to_string("/tmp/security-proc/uptime").is_ok());
                assert!(std::fs::read_to_string("/proc/1/stat").is_ok());
            });
            if data.to_bytes().ends_with(b"77") {
                // Members of the group see everything.
                child_succeeds(|| {
                    assert_eq!(setgroups(1, &77), 0);
                    assert_eq!(setresgid(USER, USER, USER), 0);
                    assert_eq!(setresuid(USER, USER, USER), 0);
                    assert!(std::fs::read_to_string("/tmp/security-proc/1/stat").is_ok());
                });
                let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
                let line = mounts.lines().find(|line| line.contains("/tmp/security-proc")).unwrap();
                assert!(line.contains("gid=77") && line.contains("hidepid=invisible"), "{line}");
            }
            // Root sees all.
            assert!(std::fs::read_to_string("/tmp/security-proc/1/stat").is_ok());
            assert_eq!(umount2(place.as_ptr(), 0), 0);
        }
        rmdir(place.as_ptr());
    }
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
}
