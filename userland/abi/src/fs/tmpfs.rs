//! tmpfs(5): its limits, and what must hold while several change the same directories.

use super::support::{Place, errno_of, is_root, ok};
use libc::*;
use std::ffi::CStr;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

fn mount_tmpfs(at: &CStr, flags: c_ulong, options: &CStr) -> i32 {
    errno_of(unsafe { mount(c"none".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), flags, options.as_ptr().cast()) })
}

fn statfs_of(at: &CStr) -> statfs {
    let mut stat = unsafe { std::mem::zeroed() };
    ok(unsafe { statfs(at.as_ptr(), &mut stat) });
    stat
}

/// Needs CAP_SYS_ADMIN.
pub fn limits() {
    let place = Place::new("tmpfs-limits");
    let dir = place.dir("dir");
    if !is_root() || mount_tmpfs(&dir, 0, c"size=64k,nr_inodes=5") == EPERM {
        return;
    }
    let stat = statfs_of(&dir);
    assert_eq!((stat.f_blocks, stat.f_bfree, stat.f_files, stat.f_ffree), (16, 16, 5, 4));
    let path = place.at("dir/file");
    let fd = ok(unsafe { open(path.as_ptr(), O_RDWR | O_CREAT, 0o600) });
    let blocks = || std::fs::metadata(place.path("dir/file")).unwrap().blocks();
    // More than there can be is refused at once; what fails on the way leaves nothing behind.
    assert_eq!(errno_of(unsafe { fallocate(fd, 0, 0, 1 << 40) }), ENOSPC);
    assert_eq!(errno_of(unsafe { pwrite(fd, [7u8; 8192].as_ptr().cast(), 8192, 8192) } as i64), 0);
    assert_eq!(errno_of(unsafe { fallocate(fd, 0, 0, 65536) }), 0);
    ok(unsafe { ftruncate(fd, 16384) });
    let other = ok(unsafe { open(place.at("dir/other").as_ptr(), O_RDWR | O_CREAT, 0o600) });
    assert_eq!(errno_of(unsafe { fallocate(other, 0, 0, 16384) }), 0);
    assert_eq!((blocks(), statfs_of(&dir).f_bfree), (32, 8));
    assert_eq!(errno_of(unsafe { fallocate(fd, 0, 0, 65536) }), ENOSPC);
    assert_eq!((blocks(), statfs_of(&dir).f_bfree), (32, 8));
    assert_eq!(std::fs::metadata(place.path("dir/file")).unwrap().len(), 16384);
    let mut bytes = [0u8; 16384];
    ok(unsafe { pread(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) } as i64);
    assert!(bytes[..8192].iter().all(|&b| b == 0) && bytes[8192..].iter().all(|&b| b == 7));
    // Inodes.
    place.dir("dir/d");
    assert_eq!(errno_of(unsafe { mkdir(place.at("dir/e").as_ptr(), 0o700) }), 0);
    assert_eq!(errno_of(unsafe { mkdir(place.at("dir/f").as_ptr(), 0o700) }), ENOSPC);
    ok(unsafe { rmdir(place.at("dir/e").as_ptr()) });
    // Less than is used is refused; no limit is called 0.
    assert_eq!(mount_tmpfs(&dir, MS_REMOUNT, c"size=16k"), EINVAL);
    assert_eq!(mount_tmpfs(&dir, MS_REMOUNT, c"nr_inodes=2"), EINVAL);
    assert_eq!(mount_tmpfs(&dir, MS_REMOUNT, c"size=32k"), 0);
    assert_eq!(statfs_of(&dir).f_bfree, 0);
    unsafe { close(fd) };
    unsafe { close(other) };
    ok(unsafe { umount(dir.as_ptr()) });
    for options in [c"size=0,nr_inodes=0", c"nr_blocks=0,nr_inodes=0"] {
        assert_eq!(mount_tmpfs(&dir, 0, options), 0);
        let stat = statfs_of(&dir);
        assert_eq!((stat.f_blocks, stat.f_bfree, stat.f_files, stat.f_ffree), (0, 0, 0, 0));
        place.file("dir/file", "there");
        ok(unsafe { umount(dir.as_ptr()) });
    }
    for options in [c"size=x", c"size=18446744073709551615%", c"size=1q", c"mode=9", c"uid=-1", c"nr_inodes=-1"] {
        let errno = mount_tmpfs(&dir, 0, options);
        assert!(errno == EINVAL || errno == 0 && options == c"size=18446744073709551615%", "{options:?}: {errno}");
        if errno == 0 {
            ok(unsafe { umount(dir.as_ptr()) });
        }
    }
}

/// The inode number that `name` has in the listing of `directory`.
fn listed(directory: &CStr, name: &str) -> u64 {
    unsafe {
        let stream = opendir(directory.as_ptr());
        assert!(!stream.is_null());
        loop {
            let entry = readdir(stream);
            assert!(!entry.is_null(), "no {name}");
            if CStr::from_ptr((*entry).d_name.as_ptr()).to_bytes() == name.as_bytes() {
                let ino = (*entry).d_ino;
                closedir(stream);
                return ino;
            }
        }
    }
}

/// ".." follows a directory that moves, alone or in exchange for another.
pub fn parents() {
    let place = Place::new("tmpfs-parents");
    for name in ["a", "b", "a/x", "b/y"] {
        place.dir(name);
    }
    let ino = |name: &str| std::fs::metadata(place.path(name)).unwrap().ino();
    let links = |name: &str| std::fs::metadata(place.path(name)).unwrap().nlink();
    let (a, b) = (ino("a"), ino("b"));
    let rename = |from: &str, to: &str, flags: u32| {
        let (from, to) = (place.at(from), place.at(to));
        ok(unsafe { syscall(SYS_renameat2, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), flags) });
    };
    rename("a/x", "b/y", RENAME_EXCHANGE);
    assert_eq!((listed(&place.at("a/x"), ".."), listed(&place.at("b/y"), "..")), (a, b));
    assert_eq!((ino("a/x/.."), ino("b/y/..")), (a, b));
    rename("a/x", "b/z", 0);
    assert_eq!((listed(&place.at("b/z"), ".."), links("a"), links("b")), (b, 2, 4));
    // With what is no directory.
    place.file("a/file", "");
    rename("a/file", "b/z", RENAME_EXCHANGE);
    assert_eq!((listed(&place.at("a/file"), ".."), links("a"), links("b")), (a, 3, 3));
}

/// One makes and removes a directory, the other makes a file in it: one of the two must fail each time.
pub fn removed_directories() {
    let place = Place::new("tmpfs-removed");
    let (dir, file) = (place.at("d"), place.at("d/f"));
    let round = AtomicU32::new(0);
    const ROUNDS: u32 = 300;
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            let mut made = 0;
            for turn in 1..=ROUNDS {
                while round.load(Ordering::Acquire) != 2 * turn - 1 {
                    std::thread::yield_now();
                }
                let fd = unsafe { open(file.as_ptr(), O_RDWR | O_CREAT | O_EXCL, 0o600) };
                if fd >= 0 {
                    unsafe { close(fd) };
                    made += 1;
                }
                round.store(2 * turn, Ordering::Release);
            }
            made
        });
        let mut kept = 0;
        for turn in 1..=ROUNDS {
            ok(unsafe { mkdir(dir.as_ptr(), 0o700) });
            round.store(2 * turn - 1, Ordering::Release);
            let refused = errno_of(unsafe { rmdir(dir.as_ptr()) });
            while round.load(Ordering::Acquire) != 2 * turn {
                std::thread::yield_now();
            }
            if refused != 0 {
                assert_eq!(refused, ENOTEMPTY);
                kept += 1;
                ok(unsafe { unlink(file.as_ptr()) });
                ok(unsafe { rmdir(dir.as_ptr()) });
            }
        }
        assert_eq!(maker.join().unwrap(), kept);
    });
}
