//! Permissions, times, sizes, extended attributes.

use super::support::{Place, as_user, errno_of, is_root, ok, open_errno};
use libc::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn chmod_to(place: &Place, name: &str, mode: u32) {
    std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(place: &Place, name: &str) -> u32 {
    std::fs::metadata(place.path(name)).unwrap().mode() & 0o7777
}

pub fn permissions() {
    if !is_root() {
        return;
    }
    let place = Place::new("perm");
    let file = place.file("file", "");
    let dir = place.dir("dir");
    place.file("dir/inner", "");
    chmod_to(&place, ".", 0o755);
    chmod_to(&place, "file", 0o640);
    chmod_to(&place, "dir", 0o700);
    as_user(|| {
        assert_eq!(open_errno(&file, O_RDONLY), EACCES);
        assert_eq!(open_errno(&place.at("dir/inner"), O_RDONLY), EACCES);
        assert_eq!(open_errno(&place.at("new"), O_RDWR | O_CREAT), EACCES);
        assert_eq!(errno_of(unsafe { unlink(file.as_ptr()) }), EACCES);
        assert_eq!(errno_of(unsafe { chmod(file.as_ptr(), 0o777) }), EPERM);
        assert_eq!(errno_of(unsafe { chown(file.as_ptr(), 1000, 1000) }), EPERM);
        assert_eq!(errno_of(unsafe { chdir(dir.as_ptr()) }), EACCES);
        assert_eq!(errno_of(unsafe { access(file.as_ptr(), R_OK) }), EACCES);
        assert_eq!(errno_of(unsafe { access(file.as_ptr(), F_OK) }), 0);
        assert_eq!(errno_of(unsafe { chroot(c"/".as_ptr()) }), EPERM);
        assert_eq!(errno_of(unsafe { mknod(place.at("dev").as_ptr(), S_IFCHR | 0o600, makedev(1, 3)) }), EACCES);
    });
    // The group's bits count for its members, also when they allow less than the others'.
    ok(unsafe { chown(file.as_ptr(), 0, 1000) });
    chmod_to(&place, "file", 0o604);
    as_user(|| assert_eq!(open_errno(&file, O_RDONLY), EACCES));
    chmod_to(&place, "file", 0o060);
    as_user(|| assert_eq!(open_errno(&file, O_RDWR), 0));
    // Root needs one x bit to execute.
    chmod_to(&place, "file", 0o644);
    assert_eq!(errno_of(unsafe { access(file.as_ptr(), X_OK) }), EACCES);
    chmod_to(&place, "file", 0o645);
    assert_eq!(errno_of(unsafe { access(file.as_ptr(), X_OK) }), 0);
}

pub fn sticky() {
    if !is_root() {
        return;
    }
    let place = Place::new("sticky");
    place.dir("dir");
    let file = place.file("dir/root", "");
    chmod_to(&place, ".", 0o755);
    chmod_to(&place, "dir", 0o1777);
    chmod_to(&place, "dir/root", 0o666);
    as_user(|| {
        assert_eq!(errno_of(unsafe { unlink(file.as_ptr()) }), EPERM);
        assert_eq!(errno_of(unsafe { rename(file.as_ptr(), place.at("dir/x").as_ptr()) }), EPERM);
        let own = place.file("dir/own", "");
        assert_eq!(errno_of(unsafe { rename(own.as_ptr(), file.as_ptr()) }), EPERM);
        assert_eq!(errno_of(unsafe { unlink(own.as_ptr()) }), 0);
    });
}

pub fn setgid_and_umask() {
    let place = Place::new("umask");
    let old = unsafe { umask(0o027) };
    ok(unsafe { close(ok(open(place.at("file").as_ptr(), O_RDWR | O_CREAT, 0o666))) });
    ok(unsafe { mkdir(place.at("dir").as_ptr(), 0o777) });
    assert_eq!((mode_of(&place, "file"), mode_of(&place, "dir")), (0o640, 0o750));
    assert_eq!(unsafe { umask(old) }, 0o027);
    if is_root() {
        ok(unsafe { chown(place.at("dir").as_ptr(), 0, 1234) });
        chmod_to(&place, "dir", 0o2755);
        place.dir("dir/sub");
        place.file("dir/file", "");
        let stat = |name: &str| std::fs::metadata(place.path(name)).unwrap();
        assert_eq!((stat("dir/sub").gid(), stat("dir/sub").mode() & 0o2000), (1234, 0o2000));
        assert_eq!((stat("dir/file").gid(), stat("dir/file").mode() & 0o2000), (1234, 0));
        // A new owner takes the set-user-id bit.
        chmod_to(&place, "file", 0o4755);
        ok(unsafe { chown(place.at("file").as_ptr(), 1, 1) });
        assert_eq!(mode_of(&place, "file"), 0o755);
    }
}

pub fn times() {
    let place = Place::new("times");
    let file = place.file("file", "");
    let set = |times: [(i64, i64); 2]| {
        let times = times.map(|(tv_sec, tv_nsec)| timespec { tv_sec, tv_nsec });
        errno_of(unsafe { utimensat(AT_FDCWD, file.as_ptr(), times.as_ptr(), 0) })
    };
    assert_eq!(set([(5, 6), (7, 8)]), 0);
    let stat = std::fs::metadata(place.path("file")).unwrap();
    assert_eq!((stat.atime(), stat.atime_nsec(), stat.mtime(), stat.mtime_nsec()), (5, 6, 7, 8));
    assert_eq!(set([(0, UTIME_OMIT), (9, 0)]), 0);
    assert_eq!(set([(0, 1_000_000_000), (9, 0)]), EINVAL);
    let stat = std::fs::metadata(place.path("file")).unwrap();
    assert_eq!((stat.atime(), stat.mtime()), (5, 9));
    assert!(stat.ctime() > 1000);
    std::fs::write(place.path("file"), "x").unwrap();
    assert!(std::fs::metadata(place.path("file")).unwrap().mtime() > 1000);
    if is_root() {
        chmod_to(&place, ".", 0o755);
        chmod_to(&place, "file", 0o666);
        as_user(|| {
            assert_eq!(set([(1, 1), (1, 1)]), EPERM);
            assert_eq!(set([(0, UTIME_NOW), (0, UTIME_NOW)]), 0);
        });
    }
}

pub fn sizes() {
    let place = Place::new("sizes");
    let path = place.file("file", "0123456789");
    ok(unsafe { truncate(path.as_ptr(), 5) });
    ok(unsafe { truncate(path.as_ptr(), 8) });
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"01234\0\0\0");
    assert_eq!(errno_of(unsafe { truncate(path.as_ptr(), -1) }), EINVAL);
    assert_eq!(errno_of(unsafe { truncate(place.at(".").as_ptr(), 0) }), EISDIR);
    let fd = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    assert_eq!(errno_of(unsafe { ftruncate(fd, 0) }), EINVAL);
    let fd = ok(unsafe { open(path.as_ptr(), O_RDWR) });
    ok(unsafe { ftruncate(fd, 1 << 20) });
    // A hole: no blocks, and SEEK_DATA finds what is written in it.
    assert!(std::fs::metadata(place.path("file")).unwrap().blocks() < 64);
    ok(unsafe { pwrite(fd, b"x".as_ptr().cast(), 1, 500_000) } as i64);
    let data = ok(unsafe { lseek(fd, 100_000, SEEK_DATA) });
    assert!((400_000..=500_000).contains(&data));
    assert_eq!(errno_of(unsafe { lseek(fd, 2 << 20, SEEK_DATA) }), ENXIO);
    assert_eq!(ok(unsafe { lseek(fd, 0, SEEK_END) }), 1 << 20);
    assert_eq!(errno_of(unsafe { lseek(fd, -1, SEEK_SET) }), EINVAL);
    ok(unsafe { fallocate(fd, 0, 1 << 20, 4096) });
    assert_eq!(std::fs::metadata(place.path("file")).unwrap().len(), (1 << 20) + 4096);
    assert_eq!(errno_of(unsafe { fallocate(fd, 0, 0, 0) }), EINVAL);
    // RLIMIT_FSIZE: a short write, then EFBIG with SIGXFSZ.
    crate::harness::child_succeeds(|| unsafe {
        signal(SIGXFSZ, SIG_IGN);
        let limit = rlimit { rlim_cur: 1000, rlim_max: 1000 };
        ok(setrlimit(RLIMIT_FSIZE, &limit));
        let fd = ok(open(place.at("limited").as_ptr(), O_RDWR | O_CREAT, 0o600));
        assert_eq!(write(fd, [0u8; 2000].as_ptr().cast(), 2000), 1000);
        assert_eq!(errno_of(write(fd, [0u8; 1].as_ptr().cast(), 1) as i64), EFBIG);
        assert_eq!(errno_of(ftruncate(fd, 1001)), EFBIG);
    });
}

pub fn append() {
    let place = Place::new("append");
    let path = place.file("file", "ab");
    let fd = ok(unsafe { open(path.as_ptr(), O_RDWR | O_APPEND) });
    ok(unsafe { lseek(fd, 0, SEEK_SET) });
    ok(unsafe { write(fd, b"cd".as_ptr().cast(), 2) } as i64);
    assert_eq!(ok(unsafe { lseek(fd, 0, SEEK_CUR) }), 4);
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"abcd");
    // Two processes: no record is lost.
    let writer = |text: &[u8]| {
        let fd = ok(unsafe { open(path.as_ptr(), O_WRONLY | O_APPEND) });
        for _ in 0..500 {
            assert_eq!(unsafe { write(fd, text.as_ptr().cast(), text.len()) }, text.len() as isize);
        }
    };
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        writer(b"1234567\n");
        unsafe { _exit(0) }
    }
    writer(b"abcdefg\n");
    let mut status = 0;
    ok(unsafe { waitpid(pid, &mut status, 0) });
    let text = std::fs::read(place.path("file")).unwrap();
    assert_eq!(text.len(), 4 + 1000 * 8);
    assert!(text[4..].chunks(8).all(|record| record == b"1234567\n" || record == b"abcdefg\n"));
}

/// A running program cannot be written to, a file open for writing cannot be run.
pub fn text_busy() {
    let place = Place::new("busy");
    std::fs::copy("/proc/self/exe", place.path("prog")).unwrap();
    chmod_to(&place, "prog", 0o755);
    let path = place.at("prog");
    let arguments = [path.as_ptr(), c"-l".as_ptr(), std::ptr::null()];
    {
        let _writer = std::fs::OpenOptions::new().write(true).open(place.path("prog")).unwrap();
        crate::harness::child_succeeds(|| {
            assert_eq!(errno_of(unsafe { execv(path.as_ptr(), arguments.as_ptr()) }), ETXTBSY);
        });
    }
    // It runs as long as nobody reads what it lists.
    let mut pipe_ends = [0; 2];
    ok(unsafe { pipe(pipe_ends.as_mut_ptr()) });
    ok(unsafe { fcntl(pipe_ends[1], F_SETPIPE_SZ, 4096) });
    ok(unsafe { write(pipe_ends[1], [b'x'; 4096].as_ptr().cast(), 4096) } as i64);
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        unsafe {
            dup2(pipe_ends[1], 1);
            // As long as the parent's look below has it open for writing, it is busy the other way round.
            while execv(path.as_ptr(), arguments.as_ptr()) == -1 && *__errno_location() == ETXTBSY {}
            _exit(1)
        }
    }
    let mut found = 0;
    for _ in 0..200 {
        found = open_errno(&path, O_WRONLY);
        if found == ETXTBSY {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    unsafe { kill(pid, SIGKILL) };
    let mut status = 0;
    ok(unsafe { waitpid(pid, &mut status, 0) });
    assert_eq!(found, ETXTBSY);
    assert_eq!(open_errno(&path, O_WRONLY), 0);
}

pub fn xattr() {
    let place = Place::new("xattr");
    let path = place.file("file", "");
    let name = c"user.test";
    let set = |value: &[u8], flags| {
        errno_of(unsafe { setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) })
    };
    let first = set(b"value", 0);
    if first == EOPNOTSUPP {
        return; // this file system has none
    }
    assert_eq!(first, 0);
    assert_eq!(set(b"value", XATTR_CREATE), EEXIST);
    assert_eq!(set(b"longer", XATTR_REPLACE), 0);
    let mut buffer = [0u8; 64];
    let get =
        |buffer: &mut [u8]| unsafe { getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    assert_eq!(get(&mut []), 6);
    assert_eq!(errno_of(get(&mut buffer[..3]) as i64), ERANGE);
    assert_eq!(get(&mut buffer), 6);
    assert_eq!(&buffer[..6], b"longer");
    let n = ok(unsafe { listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as i64);
    assert!(buffer[..n as usize].split(|&byte| byte == 0).any(|entry| entry == name.to_bytes()));
    ok(unsafe { removexattr(path.as_ptr(), name.as_ptr()) });
    assert_eq!(errno_of(get(&mut buffer) as i64), ENODATA);
    let odd = unsafe { setxattr(path.as_ptr(), c"nonsense".as_ptr(), b"x".as_ptr().cast(), 1, 0) };
    assert_eq!(errno_of(odd), EOPNOTSUPP);
}

pub fn statx() {
    let place = Place::new("statx");
    let path = place.file("file", "12345");
    let mut buffer = [0u32; 64];
    let ask = |flags: i32, mask: u32, buffer: &mut [u32; 64]| {
        errno_of(unsafe { syscall(SYS_statx, AT_FDCWD, path.as_ptr(), flags, mask, buffer.as_mut_ptr()) })
    };
    assert_eq!(ask(0, 0x7ff, &mut buffer), 0);
    assert_eq!(buffer[0] & 0x7ff, 0x7ff);
    assert_eq!(buffer[10], 5, "stx_size");
    assert_eq!(ask(0, 1 << 31, &mut buffer), EINVAL);
    assert_eq!(ask(1 << 30, 0, &mut buffer), EINVAL);
    // An empty path names the descriptor.
    let fd = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    ok(unsafe { fstatat(fd, c"".as_ptr(), &mut stat, AT_EMPTY_PATH) });
    assert_eq!(stat.st_size, 5);
    assert_eq!(errno_of(unsafe { fstatat(fd, c"".as_ptr(), &mut stat, 0) }), ENOENT);
    ok(unsafe { fstatat(AT_FDCWD, c"".as_ptr(), &mut stat, AT_EMPTY_PATH) });
    assert_eq!(stat.st_mode & S_IFMT, S_IFDIR);
}
