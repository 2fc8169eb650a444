//! Opening, making, moving and removing names.

use super::support::{Place, c, errno_of, ok, open_errno};
use crate::harness::in_child;
use libc::*;
use std::os::fd::AsRawFd;

pub fn open_errors() {
    let place = Place::new("open");
    let file = place.file("file", "text");
    let dir = place.dir("dir");
    assert_eq!(open_errno(&place.at("absent"), O_RDONLY), ENOENT);
    assert_eq!(open_errno(&place.at("file/x"), O_RDONLY), ENOTDIR);
    assert_eq!(open_errno(&place.at("file/"), O_RDONLY), ENOTDIR);
    assert_eq!(open_errno(&place.at("new/"), O_RDWR | O_CREAT), EISDIR);
    assert_eq!(open_errno(&file, O_RDWR | O_CREAT | O_EXCL), EEXIST);
    assert_eq!(open_errno(&file, O_RDONLY | O_DIRECTORY), ENOTDIR);
    assert_eq!(open_errno(&dir, O_RDWR), EISDIR);
    assert_eq!(open_errno(&dir, O_RDONLY | O_CREAT), EISDIR);
    assert_eq!(open_errno(&dir, O_RDONLY | O_DIRECTORY), 0);
    assert_eq!(open_errno(c"", O_RDONLY), ENOENT);
    assert_eq!(open_errno(&place.at(&"n".repeat(256)), O_RDONLY | O_CREAT), ENAMETOOLONG);
    assert_eq!(open_errno(&place.at(&"n".repeat(255)), O_RDONLY | O_CREAT), 0);
    let long = std::ffi::CString::new("/".repeat(4096)).unwrap();
    assert_eq!(open_errno(&long, O_RDONLY), ENAMETOOLONG);
    assert_eq!(errno_of(unsafe { open(std::ptr::dangling(), O_RDONLY) }), EFAULT);
    assert_eq!(errno_of(unsafe { openat(999, c"x".as_ptr(), O_RDONLY) }), EBADF);
    let fd = ok(unsafe { open(file.as_ptr(), O_RDONLY) });
    assert_eq!(errno_of(unsafe { openat(fd, c"x".as_ptr(), O_RDONLY) }), ENOTDIR);
    assert_eq!(errno_of(unsafe { openat(fd, c"/".as_ptr(), O_RDONLY) }), 0);
    let only = ok(unsafe { open(file.as_ptr(), O_PATH) });
    assert_eq!(errno_of(unsafe { read(only, [0u8; 1].as_mut_ptr().cast(), 1) } as i64), EBADF);
    let socket = place.at("fifo");
    ok(unsafe { mkfifo(socket.as_ptr(), 0o600) });
    assert_eq!(open_errno(&socket, O_WRONLY | O_NONBLOCK), ENXIO);
}

pub fn symlinks() {
    let place = Place::new("links");
    let link = |target: &str, name: &str| ok(unsafe { symlink(c(target.as_ref()).as_ptr(), place.at(name).as_ptr()) });
    place.file("file", "text");
    place.dir("dir");
    link("file", "a");
    link("dir", "d");
    link("loop", "loop");
    link("new", "dangling");
    assert_eq!(open_errno(&place.at("a"), O_RDONLY), 0);
    assert_eq!(open_errno(&place.at("a"), O_RDONLY | O_NOFOLLOW), ELOOP);
    assert_eq!(open_errno(&place.at("a"), O_PATH | O_NOFOLLOW), 0);
    assert_eq!(open_errno(&place.at("loop"), O_RDONLY), ELOOP);
    assert_eq!(open_errno(&place.at("d/"), O_RDONLY), 0);
    assert_eq!(open_errno(&place.at("a/"), O_RDONLY), ENOTDIR);
    assert_eq!(open_errno(&place.at("dangling"), O_RDONLY), ENOENT);
    assert_eq!(open_errno(&place.at("dangling"), O_RDWR | O_CREAT | O_EXCL), EEXIST);
    assert_eq!(open_errno(&place.at("dangling"), O_RDWR | O_CREAT), 0);
    assert!(place.path("new").exists());
    // Forty links in a row are followed, one more is too many.
    link("file", "l0");
    for index in 1..=40 {
        link(&format!("l{}", index - 1), &format!("l{index}"));
    }
    assert_eq!(open_errno(&place.at("l39"), O_RDONLY), 0);
    assert_eq!(open_errno(&place.at("l40"), O_RDONLY), ELOOP);
    // A link in the middle, up and down again.
    link("../dir/..", "dir/up");
    assert_eq!(open_errno(&place.at("d/up/file"), O_RDONLY), 0);
    let mut buffer = [0u8; 3];
    let n = ok(unsafe { readlink(place.at("a").as_ptr(), buffer.as_mut_ptr().cast(), 3) } as i64);
    assert_eq!(&buffer[..n as usize], b"fil");
    assert_eq!(errno_of(unsafe { readlink(place.at("file").as_ptr(), buffer.as_mut_ptr().cast(), 3) } as i64), EINVAL);
    assert_eq!(errno_of(unsafe { readlink(place.at("a").as_ptr(), buffer.as_mut_ptr().cast(), 0) } as i64), EINVAL);
    assert_eq!(errno_of(unsafe { symlink(c"".as_ptr(), place.at("e").as_ptr()) }), ENOENT);
    // The link itself is what lstat and unlink see.
    let stat = std::fs::symlink_metadata(place.path("d")).unwrap();
    assert!(stat.is_symlink());
    assert_eq!(stat.len(), 3);
}

pub fn remove() {
    let place = Place::new("remove");
    let file = place.file("file", "");
    let dir = place.dir("dir");
    let inner = place.dir("dir/inner");
    assert_eq!(errno_of(unsafe { rmdir(dir.as_ptr()) }), ENOTEMPTY);
    assert_eq!(errno_of(unsafe { unlink(dir.as_ptr()) }), EISDIR);
    assert_eq!(errno_of(unsafe { rmdir(file.as_ptr()) }), ENOTDIR);
    assert_eq!(errno_of(unsafe { unlink(place.at("file/").as_ptr()) }), ENOTDIR);
    assert_eq!(errno_of(unsafe { unlink(place.at("absent").as_ptr()) }), ENOENT);
    assert_eq!(errno_of(unsafe { rmdir(place.at("dir/.").as_ptr()) }), EINVAL);
    assert_eq!(errno_of(unsafe { rmdir(place.at("dir/inner/..").as_ptr()) }), ENOTEMPTY);
    assert_eq!(errno_of(unsafe { rmdir(c"/".as_ptr()) }), EBUSY);
    assert_eq!(errno_of(unsafe { unlinkat(AT_FDCWD, file.as_ptr(), 0x1000) }), EINVAL);
    assert_eq!(errno_of(unsafe { mkdir(dir.as_ptr(), 0o755) }), EEXIST);
    assert_eq!(errno_of(unsafe { mkdir(place.at("x/y").as_ptr(), 0o755) }), ENOENT);
    ok(unsafe { mkdir(place.at("slash/").as_ptr(), 0o755) });
    // An open file lives on without its name.
    let open_file = std::fs::File::open(place.path("file")).unwrap();
    ok(unsafe { unlink(file.as_ptr()) });
    use std::os::unix::fs::MetadataExt;
    assert_eq!(open_file.metadata().unwrap().nlink(), 0);
    // A removed directory takes nothing new.
    let held = ok(unsafe { open(inner.as_ptr(), O_RDONLY) });
    ok(unsafe { rmdir(inner.as_ptr()) });
    assert_eq!(errno_of(unsafe { openat(held, c"x".as_ptr(), O_RDWR | O_CREAT, 0o600) }), ENOENT);
    ok(unsafe { rmdir(dir.as_ptr()) });
}

pub fn rename() {
    let place = Place::new("rename");
    let mv = |from: &str, to: &str| errno_of(unsafe { libc::rename(place.at(from).as_ptr(), place.at(to).as_ptr()) });
    place.file("a", "a");
    place.file("b", "b");
    place.dir("d");
    place.dir("d/sub");
    place.dir("e");
    assert_eq!(mv("absent", "x"), ENOENT);
    assert_eq!(mv("a", "d"), EISDIR);
    assert_eq!(mv("d", "a"), ENOTDIR);
    assert_eq!(mv("d", "d/sub/x"), EINVAL);
    assert_eq!(mv("d/sub", "d"), ENOTEMPTY);
    assert_eq!(mv("e", "d"), ENOTEMPTY);
    assert_eq!(mv("a", "x/"), ENOTDIR);
    assert_eq!(mv("d", "x/"), 0);
    assert_eq!(mv("x", "d"), 0);
    assert_eq!(mv("d/.", "x"), EBUSY);
    assert_eq!(mv("a", "a"), 0);
    assert_eq!(mv("a", "b"), 0);
    assert_eq!(std::fs::read(place.path("b")).unwrap(), b"a");
    assert!(!place.path("a").exists());
    assert_eq!(mv("d", "e"), 0);
    assert!(place.path("e/sub").is_dir());
    // Two names of one file: nothing happens.
    std::fs::hard_link(place.path("b"), place.path("c")).unwrap();
    assert_eq!(mv("b", "c"), 0);
    assert!(place.path("b").exists() && place.path("c").exists());
    use std::os::unix::fs::MetadataExt;
    place.dir("f");
    assert_eq!(mv("e/sub", "f/sub"), 0);
    let nlink = |name: &str| std::fs::metadata(place.path(name)).unwrap().nlink();
    assert_eq!((nlink("e"), nlink("f")), (2, 3));
}

pub fn rename_flags() {
    let place = Place::new("rename2");
    let mv = |from: &str, to: &str, flags: u32| {
        let (from, to) = (place.at(from), place.at(to));
        errno_of(unsafe { syscall(SYS_renameat2, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), flags) })
    };
    place.file("a", "a");
    place.file("b", "b");
    place.dir("d");
    assert_eq!(mv("a", "b", 1), EEXIST);
    assert_eq!(mv("a", "b", 3), EINVAL);
    assert_eq!(mv("a", "b", 64), EINVAL);
    assert_eq!(mv("a", "absent", 2), ENOENT);
    assert_eq!(mv("a", "b", 2), 0);
    assert_eq!(std::fs::read(place.path("a")).unwrap(), b"b");
    assert_eq!(mv("a", "d", 2), 0);
    assert!(place.path("a").is_dir() && place.path("d").is_file());
    assert_eq!(mv("d", "new", 1), 0);
}

pub fn links() {
    let place = Place::new("hard");
    let file = place.file("file", "text");
    let dir = place.dir("dir");
    let new = place.at("new");
    assert_eq!(errno_of(unsafe { link(dir.as_ptr(), new.as_ptr()) }), EPERM);
    assert_eq!(errno_of(unsafe { link(file.as_ptr(), dir.as_ptr()) }), EEXIST);
    assert_eq!(errno_of(unsafe { link(place.at("absent").as_ptr(), new.as_ptr()) }), ENOENT);
    assert_eq!(errno_of(unsafe { link(file.as_ptr(), c"/dev/shm/abi-other-mount".as_ptr()) }), EXDEV);
    ok(unsafe { link(file.as_ptr(), new.as_ptr()) });
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (std::fs::metadata(place.path("file")).unwrap(), std::fs::metadata(place.path("new")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    std::fs::write(place.path("new"), "other").unwrap();
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"other");
    // A link to a link, and to what it leads to.
    ok(unsafe { symlink(c"file".as_ptr(), place.at("s").as_ptr()) });
    ok(unsafe { linkat(AT_FDCWD, place.at("s").as_ptr(), AT_FDCWD, place.at("s2").as_ptr(), 0) });
    assert!(std::fs::symlink_metadata(place.path("s2")).unwrap().is_symlink());
    ok(unsafe { linkat(AT_FDCWD, place.at("s").as_ptr(), AT_FDCWD, place.at("s3").as_ptr(), AT_SYMLINK_FOLLOW) });
    assert!(std::fs::symlink_metadata(place.path("s3")).unwrap().is_file());
}

pub fn tmpfile() {
    let place = Place::new("tmpfile");
    let dir = place.dir("dir");
    assert_eq!(open_errno(&dir, O_TMPFILE | O_RDONLY), EINVAL);
    let fd = ok(unsafe { open(dir.as_ptr(), O_TMPFILE | O_RDWR, 0o600) });
    ok(unsafe { write(fd, b"hello".as_ptr().cast(), 5) } as i64);
    assert_eq!(std::fs::read_dir(place.path("dir")).unwrap().count(), 0);
    let own = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap();
    ok(unsafe { linkat(AT_FDCWD, own.as_ptr(), AT_FDCWD, place.at("dir/named").as_ptr(), AT_SYMLINK_FOLLOW) });
    assert_eq!(std::fs::read(place.path("dir/named")).unwrap(), b"hello");
}

pub fn getdents() {
    let place = Place::new("dents");
    const COUNT: usize = 500;
    for index in 0..COUNT {
        place.file(&format!("file-{index}"), "");
    }
    // Removing while reading neither skips nor repeats the others.
    let mut seen = std::collections::HashSet::new();
    for entry in std::fs::read_dir(place.path(".")).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file());
        assert!(seen.insert(entry.file_name()));
        std::fs::remove_file(entry.path()).unwrap();
    }
    assert_eq!(seen.len(), COUNT);
    let fd = ok(unsafe { open(place.at(".").as_ptr(), O_RDONLY) });
    let mut small = [0u8; 8];
    assert_eq!(errno_of(unsafe { syscall(SYS_getdents64, fd, small.as_mut_ptr(), small.len()) }), EINVAL);
    let mut buffer = [0u8; 256];
    let n = ok(unsafe { syscall(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) });
    assert_eq!(n, 48, "the entries . and ..");
    assert_eq!(unsafe { syscall(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) }, 0);
    let file = place.file("file", "");
    let fd = ok(unsafe { open(file.as_ptr(), O_RDONLY) });
    assert_eq!(errno_of(unsafe { syscall(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) }), ENOTDIR);
}

pub fn cwd() {
    let place = Place::new("cwd");
    let dir = place.dir("dir");
    let file = place.file("file", "");
    assert_eq!(errno_of(unsafe { chdir(file.as_ptr()) }), ENOTDIR);
    ok(unsafe { chdir(dir.as_ptr()) });
    let mut buffer = [0u8; 512];
    assert_eq!(errno_of(unsafe { syscall(SYS_getcwd, buffer.as_mut_ptr(), 4) }), ERANGE);
    let n = ok(unsafe { syscall(SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) });
    assert_eq!(&buffer[..n as usize], dir.as_bytes_with_nul());
    std::fs::rename(place.path("dir"), place.path("moved")).unwrap();
    assert_eq!(std::env::current_dir().unwrap(), place.path("moved"));
    std::fs::remove_dir(place.path("moved")).unwrap();
    assert_eq!(errno_of(unsafe { syscall(SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }), ENOENT);
    assert_eq!(open_errno(c"x", O_RDWR | O_CREAT), ENOENT);
    ok(unsafe { chdir(c"/".as_ptr()) });
}

pub fn openat2() {
    let place = Place::new("openat2");
    place.dir("dir");
    place.file("dir/file", "");
    place.file("out", "");
    ok(unsafe { symlink(c"../out".as_ptr(), place.at("dir/up").as_ptr()) });
    ok(unsafe { symlink(c"/file".as_ptr(), place.at("dir/abs").as_ptr()) });
    let fd = ok(unsafe { open(place.at("dir").as_ptr(), O_PATH) });
    let open2 = |name: &std::ffi::CStr, resolve: u64| {
        let how = [O_RDONLY as u64, 0, resolve];
        errno_of(unsafe { syscall(SYS_openat2, fd, name.as_ptr(), how.as_ptr(), size_of_val(&how)) })
    };
    const NO_SYMLINKS: u64 = 4;
    const BENEATH: u64 = 8;
    const IN_ROOT: u64 = 16;
    assert_eq!(open2(c"file", 0), 0);
    assert_eq!(open2(c"up", NO_SYMLINKS), ELOOP);
    assert_eq!(open2(c"../out", BENEATH), EXDEV);
    assert_eq!(open2(c"up", BENEATH), EXDEV);
    assert_eq!(open2(c"abs", BENEATH), EXDEV);
    assert_eq!(open2(c"/etc", BENEATH), EXDEV);
    assert_eq!(open2(c"abs", IN_ROOT), 0);
    assert_eq!(open2(c"/file", IN_ROOT), 0);
    assert_eq!(open2(c"../../file", IN_ROOT), 0);
    assert_eq!(open2(c"file", BENEATH | IN_ROOT), EINVAL);
    assert_eq!(open2(c"file", 1 << 20), EINVAL);
}

/// Needs CAP_SYS_ADMIN.
pub fn mount() {
    if !super::support::is_root() {
        return;
    }
    let place = Place::new("mount");
    let (dir, other) = (place.dir("dir"), place.dir("other"));
    place.file("dir/under", "");
    let tmpfs = |options: &std::ffi::CStr| unsafe {
        libc::mount(c"none".as_ptr(), dir.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
    };
    assert_eq!(errno_of(tmpfs(c"nonsense=1")), EINVAL);
    if errno_of(tmpfs(c"size=64k,mode=700")) == EPERM {
        return; // a container without the right
    }
    assert!(!place.path("dir/under").exists());
    assert_eq!(errno_of(unsafe { rmdir(dir.as_ptr()) }), EBUSY);
    assert_eq!(errno_of(unsafe { libc::rename(dir.as_ptr(), place.at("x").as_ptr()) }), EBUSY);
    assert!(std::fs::write(place.path("dir/big"), vec![1; 100_000]).is_err());
    std::fs::remove_file(place.path("dir/big")).unwrap();
    place.dir("dir/sub");
    let held = ok(unsafe { open(place.at("dir/sub").as_ptr(), O_RDONLY) });
    assert_eq!(errno_of(unsafe { umount(dir.as_ptr()) }), EBUSY);
    unsafe { close(held) };
    ok(unsafe {
        libc::mount(place.at("dir/sub").as_ptr(), other.as_ptr(), std::ptr::null(), MS_BIND, std::ptr::null())
    });
    place.file("other/through", "x");
    assert!(place.path("dir/sub/through").exists());
    ok(unsafe { umount(other.as_ptr()) });
    let remount = MS_REMOUNT | MS_RDONLY;
    ok(unsafe { libc::mount(std::ptr::null(), dir.as_ptr(), std::ptr::null(), remount, std::ptr::null()) });
    assert_eq!(open_errno(&place.at("dir/new"), O_RDWR | O_CREAT), EROFS);
    assert_eq!(errno_of(unsafe { mkdir(place.at("dir/d").as_ptr(), 0o755) }), EROFS);
    ok(unsafe { umount(dir.as_ptr()) });
    assert!(place.path("dir/under").exists());
    assert_eq!(errno_of(unsafe { umount(dir.as_ptr()) }), EINVAL);
}

/// What was in a tmpfs is free memory again after it is unmounted, however deep it lay.
pub fn unmount_frees() {
    const MIB: usize = 16;
    let place = Place::new("unmountfrees");
    let dir = place.dir("dir");
    let free = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find(|line| line.starts_with("MemFree:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
    };
    let before = free();
    // More than the machine has, in all.
    for _ in 0..=before / MIB {
        let options = c"size=32m".as_ptr().cast();
        ok(unsafe { libc::mount(c"none".as_ptr(), dir.as_ptr(), c"tmpfs".as_ptr(), 0, options) });
        std::fs::create_dir_all(place.path("dir/a/b")).unwrap();
        std::fs::write(place.path("dir/a/b/file"), vec![1; MIB << 20]).unwrap();
        ok(unsafe { umount(dir.as_ptr()) });
    }
    assert!(free() + 4 * MIB > before, "{before} MiB free before, {} after", free());
}

/// Several processes make, move and remove the same few names; the tree stays whole.
pub fn race() {
    let place = Place::new("race");
    place.dir("a");
    place.dir("b");
    let work = |seed: u32| {
        let mut state = seed;
        for _ in 0..800 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (from, to) = (
                ["a/x", "a/y", "b/x", "b/y"][(state >> 28 & 3) as usize],
                ["a/x", "b/x", "b/y"][(state >> 24) as usize % 3],
            );
            match state >> 20 & 3 {
                0 => drop(std::fs::create_dir(place.path(from))),
                1 => drop(std::fs::write(place.path(from), "")),
                2 => drop(std::fs::rename(place.path(from), place.path(to))),
                _ => drop(std::fs::remove_file(place.path(from)).or_else(|_| std::fs::remove_dir(place.path(from)))),
            }
        }
    };
    let pids: Vec<i32> = (1..4)
        .map(|seed| {
            let pid = ok(unsafe { fork() });
            if pid == 0 {
                work(seed);
                unsafe { _exit(0) }
            }
            pid
        })
        .collect();
    for pid in pids {
        let mut status = 0;
        ok(unsafe { waitpid(pid, &mut status, 0) });
        assert_eq!(status, 0);
    }
    for dir in ["a", "b"] {
        for entry in std::fs::read_dir(place.path(dir)).unwrap() {
            // What is listed is there, and can be removed.
            let path = entry.unwrap().path();
            std::fs::remove_dir(&path).or_else(|_| std::fs::remove_file(&path)).unwrap();
        }
        let held = std::fs::File::open(place.path(dir)).unwrap();
        assert!(held.as_raw_fd() >= 0);
        std::fs::remove_dir(place.path(dir)).unwrap();
    }
    assert_eq!(in_child(|| ()), 0);
}
