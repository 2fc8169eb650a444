//! Traps in directories that everybody may write to: fs.protected_symlinks, protected_hardlinks, protected_fifos,
//! protected_regular (proc_sys_fs(5)).

use super::{OTHER, USER, as_user};
use crate::harness::{errno, expect_errno};
use libc::*;
use std::ffi::CStr;

fn with(setting: &str, value: &str, body: impl FnOnce()) {
    let path = format!("/proc/sys/fs/protected_{setting}");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, value).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), value);
    body();
    std::fs::write(&path, before.trim()).unwrap();
}

fn owned(path: &CStr, uid: u32, gid: u32) {
    unsafe { assert_eq!(lchown(path.as_ptr(), uid, gid), 0, "errno {}", errno()) };
}

const DIRECTORY: &CStr = c"/tmp/security-sticky";

/// A fresh directory of root's with the mode of /tmp.
fn sticky(mode: u32) {
    let _ = std::fs::remove_dir_all("/tmp/security-sticky");
    unsafe {
        assert_eq!(mkdir(DIRECTORY.as_ptr(), 0o755), 0);
        assert_eq!(chmod(DIRECTORY.as_ptr(), mode), 0);
    }
}

fn opens(path: &CStr, flags: i32) -> i32 {
    let fd = unsafe { open(path.as_ptr(), flags | O_NONBLOCK, 0o644) };
    if fd < 0 {
        return errno();
    }
    unsafe { close(fd) };
    0
}

pub fn links_of_strangers() {
    let link = c"/tmp/security-sticky/link";
    for (value, mode, owner, who, expected) in [
        ("1", 0o1777, OTHER, USER, EACCES),
        ("1", 0o1777, OTHER, 0, EACCES),
        ("1", 0o1777, USER, USER, 0),
        // The directory's owner is trusted.
        ("1", 0o1777, 0, USER, 0),
        ("1", 0o777, OTHER, USER, 0),
        ("1", 0o1775, OTHER, 0, 0),
        ("0", 0o1777, OTHER, USER, 0),
    ] {
        sticky(mode);
        unsafe { assert_eq!(symlink(c"/tmp/security-sticky/target".as_ptr(), link.as_ptr()), 0) };
        std::fs::write("/tmp/security-sticky/target", "x").unwrap();
        owned(link, owner, owner);
        with("symlinks", value, || {
            as_user(who, || {
                assert_eq!(opens(link, O_RDONLY), expected, "{value} {mode:o} {owner} {who}");
                let mut stat: stat = unsafe { std::mem::zeroed() };
                let result = unsafe { libc::stat(link.as_ptr(), &mut stat) };
                assert_eq!(if result == 0 { 0 } else { errno() }, expected);
                // Looking at the link itself is no harm.
                assert_eq!(unsafe { lstat(link.as_ptr(), &mut stat) }, 0);
            });
        });
    }
    // In the middle of a path it is no trap.
    sticky(0o1777);
    unsafe { assert_eq!(symlink(c"/tmp".as_ptr(), link.as_ptr()), 0) };
    owned(link, OTHER, OTHER);
    with("symlinks", "1", || as_user(USER, || assert_eq!(opens(c"/tmp/security-sticky/link/.", O_RDONLY), 0)));
    sticky(0o1777);
}

pub fn links_to_strangers() {
    let file = c"/tmp/security-sticky/file";
    let name = c"/tmp/security-sticky/name";
    for (value, owner, mode, who, expected) in [
        ("1", 0, 0o644, USER, EPERM),
        ("1", 0, 0o666, USER, 0),
        ("1", 0, 0o4777, USER, EPERM),
        ("1", 0, 0o2777, USER, EPERM),
        ("1", 0, 0o2767, USER, 0),
        ("1", USER, 0o600, USER, 0),
        ("1", USER, 0o4700, USER, 0),
        ("1", OTHER, 0o600, 0, 0),
        ("0", 0, 0o644, USER, 0),
        ("0", 0, 0o4755, USER, 0),
    ] {
        sticky(0o777);
        std::fs::write("/tmp/security-sticky/file", "x").unwrap();
        owned(file, owner, owner);
        unsafe { assert_eq!(chmod(file.as_ptr(), mode), 0) };
        with("hardlinks", value, || {
            as_user(who, || unsafe {
                let result = link(file.as_ptr(), name.as_ptr());
                assert_eq!(if result == 0 { 0 } else { errno() }, expected, "{value} {owner} {mode:o} {who}");
            });
        });
    }
    // What is no regular file is its owner's alone.
    sticky(0o777);
    unsafe { assert_eq!(mkfifo(file.as_ptr(), 0o666), 0) };
    owned(file, OTHER, OTHER);
    with("hardlinks", "1", || {
        as_user(USER, || expect_errno(i64::from(unsafe { link(file.as_ptr(), name.as_ptr()) }), EPERM))
    });
    sticky(0o1777);
}

pub fn files_of_strangers() {
    let path = c"/tmp/security-sticky/file";
    for (setting, is_fifo) in [("fifos", true), ("regular", false)] {
        for (value, mode, owner, who, expected) in [
            ("0", 0o1777, OTHER, USER, 0),
            ("1", 0o1777, OTHER, USER, EACCES),
            ("1", 0o1777, OTHER, 0, EACCES),
            ("1", 0o1777, USER, USER, 0),
            ("1", 0o1777, 0, USER, 0),
            ("1", 0o777, OTHER, USER, 0),
            // 2: where the group may write as well.
            ("1", 0o1775, OTHER, 0, 0),
            ("2", 0o1775, OTHER, 0, EACCES),
            ("2", 0o1777, OTHER, USER, EACCES),
        ] {
            sticky(mode);
            unsafe {
                if is_fifo {
                    assert_eq!(mkfifo(path.as_ptr(), 0o666), 0);
                } else {
                    close(open(path.as_ptr(), O_CREAT | O_WRONLY, 0o666));
                }
                assert_eq!(chmod(path.as_ptr(), 0o666), 0);
            }
            owned(path, owner, owner);
            with(setting, value, || {
                as_user(who, || {
                    let found = opens(path, O_CREAT | O_RDWR);
                    assert_eq!(found, expected, "{setting} {value} {mode:o} {owner} {who}");
                    // Without O_CREAT it was meant.
                    assert_eq!(opens(path, O_RDWR), 0);
                    assert_eq!(opens(path, O_CREAT | O_EXCL | O_RDWR), EEXIST);
                });
            });
        }
    }
    sticky(0o1777);
    for (setting, most) in [("symlinks", 1), ("hardlinks", 1), ("fifos", 2), ("regular", 2)] {
        let path = format!("/proc/sys/fs/protected_{setting}");
        assert_eq!(std::fs::write(&path, (most + 1).to_string()).unwrap_err().raw_os_error(), Some(EINVAL));
        as_user(USER, || assert!(std::fs::write(&path, "0").is_err()));
    }
}
