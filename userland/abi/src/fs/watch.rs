//! inotify.

use super::support::{Place, errno_of, ok};
use libc::*;

/// All events there are: mask, cookie, name.
fn events(fd: i32) -> Vec<(u32, u32, String)> {
    let mut buffer = [0u8; 4096];
    let n = unsafe { read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    let mut out = Vec::new();
    let mut rest = &buffer[..n.max(0) as usize];
    while rest.len() >= 16 {
        let word = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let len = word(12) as usize;
        let name = rest[16..16 + len].split(|&byte| byte == 0).next().unwrap_or(&[]);
        out.push((word(4), word(8), String::from_utf8_lossy(name).into_owned()));
        rest = &rest[16 + len..];
    }
    out
}

pub fn directory() {
    let place = Place::new("watchdir");
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK) });
    let mask = IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_CLOSE_WRITE;
    let watch = ok(unsafe { inotify_add_watch(fd, place.at(".").as_ptr(), mask) });
    assert_eq!(watch, 1);
    assert_eq!(errno_of(unsafe { read(fd, [0u8; 64].as_mut_ptr().cast(), 64) } as i64), EAGAIN);
    place.file("a", "x");
    let got: Vec<_> = events(fd).into_iter().map(|(mask, _, name)| (mask, name)).collect();
    let a = || String::from("a");
    assert_eq!(got, [(IN_CREATE, a()), (IN_MODIFY, a()), (IN_CLOSE_WRITE, a())]);
    std::fs::rename(place.path("a"), place.path("b")).unwrap();
    let got = events(fd);
    assert_eq!((got[0].0, got[0].2.as_str(), got[1].0, got[1].2.as_str()), (IN_MOVED_FROM, "a", IN_MOVED_TO, "b"));
    assert!(got[0].1 != 0 && got[0].1 == got[1].1, "one cookie");
    place.dir("d");
    std::fs::remove_file(place.path("b")).unwrap();
    let got = events(fd);
    assert_eq!((got[0].0, got[1].0), (IN_CREATE | IN_ISDIR, IN_DELETE));
    assert_eq!(errno_of(unsafe { inotify_rm_watch(fd, 77) }), EINVAL);
    ok(unsafe { inotify_rm_watch(fd, watch) });
    assert_eq!(events(fd), [(IN_IGNORED, 0, String::new())]);
    assert_eq!(errno_of(unsafe { inotify_add_watch(fd, place.at("absent").as_ptr(), mask) }), ENOENT);
    assert_eq!(errno_of(unsafe { inotify_add_watch(fd, place.at(".").as_ptr(), 0) }), EINVAL);
}

pub fn file() {
    let place = Place::new("watchfile");
    let path = place.file("file", "text");
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK) });
    ok(unsafe { inotify_add_watch(fd, path.as_ptr(), IN_ALL_EVENTS) });
    std::fs::read(place.path("file")).unwrap();
    let masks: Vec<u32> = events(fd).into_iter().map(|event| event.0).collect();
    assert_eq!(masks, [IN_OPEN, IN_ACCESS, IN_CLOSE_NOWRITE]);
    ok(unsafe { chmod(path.as_ptr(), 0o600) });
    assert_eq!(events(fd)[0].0, IN_ATTRIB);
    ok(unsafe { unlink(path.as_ptr()) });
    let masks: Vec<u32> = events(fd).into_iter().map(|event| event.0).collect();
    assert_eq!(masks, [IN_ATTRIB, IN_DELETE_SELF, IN_IGNORED]);
}

fn masks(fd: i32) -> Vec<u32> {
    events(fd).into_iter().map(|event| event.0).collect()
}

fn add(fd: i32, path: &std::ffi::CStr, mask: u32) -> i32 {
    unsafe { inotify_add_watch(fd, path.as_ptr(), mask) }
}

pub fn errors() {
    let place = Place::new("watcherrors");
    let path = place.file("file", "x");
    for bad in [1, O_APPEND, -1] {
        assert_eq!(errno_of(unsafe { inotify_init1(bad) }), EINVAL);
    }
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK | IN_CLOEXEC) });
    assert_eq!(unsafe { (fcntl(fd, F_GETFD), fcntl(fd, F_GETFL)) }, (FD_CLOEXEC, O_NONBLOCK));
    assert_eq!(errno_of(add(999, &path, IN_OPEN)), EBADF);
    assert_eq!(errno_of(add(0, &path, IN_OPEN)), EINVAL);
    assert_eq!(errno_of(add(fd, &path, 0)), EINVAL);
    assert_eq!(errno_of(add(fd, &path, IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN)), EINVAL);
    assert_eq!(errno_of(unsafe { inotify_add_watch(fd, 8 as *const _, IN_OPEN) }), EFAULT);
    assert_eq!(errno_of(add(fd, c"", IN_OPEN)), ENOENT);
    assert_eq!(errno_of(add(fd, &path, IN_ONLYDIR | IN_OPEN)), ENOTDIR);
    assert_eq!(errno_of(unsafe { inotify_rm_watch(999, 1) }), EBADF);
    assert_eq!(errno_of(unsafe { inotify_rm_watch(0, 1) }), EINVAL);
    assert_eq!(errno_of(unsafe { inotify_rm_watch(fd, -1) }), EINVAL);
    crate::harness::child_succeeds(|| {
        ok(unsafe { chmod(path.as_ptr(), 0) });
        ok(unsafe { setresuid(1000, 1000, 1000) });
        assert_eq!(errno_of(add(fd, &path, IN_OPEN)), EACCES);
    });
    ok(unsafe { chmod(path.as_ptr(), 0o600) });
    let watch = ok(add(fd, &path, IN_OPEN));
    assert_eq!(add(fd, &path, IN_OPEN), watch);
    assert_eq!(errno_of(add(fd, &path, IN_MASK_CREATE | IN_OPEN)), EEXIST);
    // Writing to it, and a buffer too small for the next event.
    assert_eq!(errno_of(unsafe { write(fd, b"x".as_ptr().cast(), 1) } as i64), EBADF);
    std::fs::read(place.path("file")).unwrap();
    let mut bytes = [0u8; 16];
    assert_eq!(errno_of(unsafe { read(fd, bytes.as_mut_ptr().cast(), 15) } as i64), EINVAL);
    let mut n = 0;
    ok(unsafe { ioctl(fd, FIONREAD, &mut n) });
    assert_eq!(n, 16);
    assert_eq!(unsafe { read(fd, bytes.as_mut_ptr().cast(), 16) }, 16);
    ok(unsafe { inotify_rm_watch(fd, watch) });
    assert_eq!(masks(fd), [IN_IGNORED]);
    let next = ok(add(fd, &path, IN_OPEN));
    assert!(next > watch, "numbers are not used again");
}

/// IN_ONESHOT, IN_MASK_ADD, the mask that is replaced, IN_DONT_FOLLOW, IN_EXCL_UNLINK.
pub fn options() {
    let place = Place::new("watchoptions");
    let path = place.file("file", "x");
    let touch = || std::fs::read(place.path("file")).map(drop).unwrap();
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK) });
    let watch = ok(add(fd, &path, IN_OPEN | IN_ONESHOT));
    touch();
    touch();
    assert_eq!(masks(fd), [IN_OPEN, IN_IGNORED]);
    assert_eq!(errno_of(unsafe { inotify_rm_watch(fd, watch) }), EINVAL);
    let watch = ok(add(fd, &path, IN_OPEN));
    assert_eq!(add(fd, &path, IN_CLOSE_NOWRITE), watch);
    touch();
    assert_eq!(masks(fd), [IN_CLOSE_NOWRITE]);
    assert_eq!(add(fd, &path, IN_OPEN | IN_MASK_ADD), watch);
    touch();
    assert_eq!(masks(fd), [IN_OPEN, IN_CLOSE_NOWRITE]);
    let link = place.at("link");
    ok(unsafe { symlink(path.as_ptr(), link.as_ptr()) });
    assert_eq!(add(fd, &link, IN_OPEN), watch);
    assert_ne!(ok(add(fd, &link, IN_OPEN | IN_DONT_FOLLOW)), watch);
    ok(unsafe { inotify_rm_watch(fd, watch) });
    masks(fd);
    // After the name is gone its file's events are not the directory's with IN_EXCL_UNLINK.
    for (exclude, expected) in [(0, &[IN_DELETE, IN_MODIFY][..]), (IN_EXCL_UNLINK, &[IN_DELETE][..])] {
        let gone = place.file("gone", "x");
        let held = ok(unsafe { open(gone.as_ptr(), O_RDWR) });
        let watch = ok(add(fd, &place.at("."), IN_DELETE | IN_MODIFY | exclude));
        ok(unsafe { unlink(gone.as_ptr()) });
        assert_eq!(unsafe { write(held, b"y".as_ptr().cast(), 1) }, 1);
        assert_eq!(masks(fd), expected);
        unsafe { close(held) };
        ok(unsafe { inotify_rm_watch(fd, watch) });
        masks(fd);
    }
}

/// Equal neighbours are one event; each of the ways a file changes has its own.
pub fn kinds() {
    let place = Place::new("watchkinds");
    let path = place.file("file", "text");
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK) });
    let watch = ok(add(fd, &path, IN_ALL_EVENTS));
    let file = ok(unsafe { open(path.as_ptr(), O_RDWR) });
    for _ in 0..3 {
        assert_eq!(unsafe { write(file, b"x".as_ptr().cast(), 1) }, 1);
    }
    assert_eq!(masks(fd), [IN_OPEN, IN_MODIFY]);
    ok(unsafe { ftruncate(file, 1) });
    assert_eq!(masks(fd), [IN_MODIFY]);
    ok(unsafe { fchmod(file, 0o640) });
    ok(unsafe { futimens(file, std::ptr::null()) });
    assert_eq!(masks(fd), [IN_ATTRIB]);
    let mut byte = [0u8; 1];
    assert_eq!(unsafe { pread(file, byte.as_mut_ptr().cast(), 1, 0) }, 1);
    assert_eq!(masks(fd), [IN_ACCESS]);
    unsafe { close(file) };
    assert_eq!(masks(fd), [IN_CLOSE_WRITE]);
    ok(unsafe { link(path.as_ptr(), place.at("second").as_ptr()) });
    assert_eq!(masks(fd), [IN_ATTRIB]);
    std::fs::rename(place.path("file"), place.path("moved")).unwrap();
    assert_eq!(masks(fd), [IN_MOVE_SELF]);
    ok(unsafe { unlink(place.at("second").as_ptr()) });
    assert_eq!(masks(fd), [IN_ATTRIB]);
    // Replaced by a rename: the same as removed.
    place.file("other", "");
    std::fs::rename(place.path("other"), place.path("moved")).unwrap();
    assert_eq!(masks(fd), [IN_ATTRIB, IN_DELETE_SELF, IN_IGNORED]);
    assert_eq!(errno_of(unsafe { inotify_rm_watch(fd, watch) }), EINVAL);
    // A directory's own, and its children with names.
    place.dir("dir");
    ok(add(fd, &place.at("dir"), IN_ALL_EVENTS));
    std::fs::read_dir(place.path("dir")).unwrap().count();
    assert_eq!(masks(fd), [IN_OPEN | IN_ISDIR, IN_ACCESS | IN_ISDIR, IN_CLOSE_NOWRITE | IN_ISDIR]);
    std::os::unix::fs::symlink("nowhere", place.path("dir/link")).unwrap();
    std::fs::create_dir(place.path("dir/sub")).unwrap();
    std::fs::hard_link(place.path("moved"), place.path("dir/hard")).unwrap();
    let seen: Vec<_> = events(fd).into_iter().map(|(mask, _, name)| (mask, name)).collect();
    let expected = [(IN_CREATE, "link"), (IN_CREATE | IN_ISDIR, "sub"), (IN_CREATE, "hard")];
    assert_eq!(seen, expected.map(|(mask, name)| (mask, name.to_string())));
    std::fs::rename(place.path("dir/sub"), place.path("sub")).unwrap();
    assert_eq!(masks(fd), [IN_MOVED_FROM | IN_ISDIR]);
    std::fs::rename(place.path("sub"), place.path("dir/sub")).unwrap();
    assert_eq!(masks(fd), [IN_MOVED_TO | IN_ISDIR]);
    std::fs::remove_dir(place.path("dir/sub")).unwrap();
    std::fs::remove_file(place.path("dir/link")).unwrap();
    std::fs::remove_file(place.path("dir/hard")).unwrap();
    assert_eq!(masks(fd), [IN_DELETE | IN_ISDIR, IN_DELETE, IN_DELETE]);
    std::fs::remove_dir(place.path("dir")).unwrap();
    assert_eq!(masks(fd), [IN_DELETE_SELF, IN_IGNORED]);
}

/// A queue that is full says so once, and lives on.
pub fn overflow() {
    let path = "/proc/sys/fs/inotify/max_queued_events";
    let old = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, "8").unwrap();
    let fd = unsafe { inotify_init1(IN_NONBLOCK) };
    std::fs::write(path, old.trim()).unwrap();
    let place = Place::new("watchoverflow");
    ok(add(ok(fd), &place.at("."), IN_CREATE));
    for number in 0..12 {
        place.file(&number.to_string(), "");
    }
    let seen = masks(fd);
    assert_eq!((seen.len(), seen[7], seen[8]), (9, IN_CREATE, IN_Q_OVERFLOW));
    place.file("later", "");
    assert_eq!(masks(fd), [IN_CREATE]);
}

/// Limits for one user: EMFILE for instances, ENOSPC for watches.
pub fn limits() {
    let place = Place::new("watchlimits");
    let set = |name: &str, value: &str| {
        let path = format!("/proc/sys/fs/inotify/{name}");
        let old = std::fs::read_to_string(&path).unwrap().trim().to_string();
        std::fs::write(path, value).unwrap();
        old
    };
    let (a, b) = (place.file("a", ""), place.file("b", ""));
    let fd = ok(unsafe { inotify_init1(0) });
    ok(add(fd, &a, IN_OPEN));
    let old = set("max_user_watches", "1");
    let found = errno_of(add(fd, &b, IN_OPEN));
    let again = errno_of(add(fd, &a, IN_CLOSE));
    set("max_user_watches", &old);
    assert_eq!((found, again), (ENOSPC, 0));
    let old = set("max_user_instances", "1");
    let found = errno_of(unsafe { inotify_init1(0) });
    set("max_user_instances", &old);
    assert_eq!(found, EMFILE);
}

/// Events of `fd` as watch number and mask.
fn numbered(fd: i32) -> Vec<(i32, u32)> {
    let mut buffer = [0u8; 4096];
    let n = unsafe { read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    let mut out = Vec::new();
    let mut rest = &buffer[..n.max(0) as usize];
    while rest.len() >= 16 {
        let word = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        out.push((word(0) as i32, word(4)));
        rest = &rest[16 + word(12) as usize..];
    }
    out
}

/// IN_DELETE_SELF comes when the last name is gone and nobody holds the entry any more: not while it is open, mapped or a
/// working directory.
pub fn end_of_a_file() {
    let place = Place::new("watchend");
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK) });
    let rest = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
    let directory = ok(add(fd, &place.at("."), IN_DELETE | IN_MOVE));
    // Not open: its end comes before its directory's event.
    let path = place.file("a", "x");
    let watch = ok(add(fd, &path, rest));
    ok(unsafe { unlink(path.as_ptr()) });
    assert_eq!(
        numbered(fd),
        [(watch, IN_ATTRIB), (watch, IN_DELETE_SELF), (watch, IN_IGNORED), (directory, IN_DELETE)]
    );
    // Open twice.
    let path = place.file("b", "x");
    let watch = ok(add(fd, &path, rest | IN_CLOSE));
    let (one, other) = unsafe { (ok(open(path.as_ptr(), O_RDONLY)), ok(open(path.as_ptr(), O_WRONLY))) };
    ok(unsafe { unlink(path.as_ptr()) });
    assert_eq!(numbered(fd), [(watch, IN_ATTRIB), (directory, IN_DELETE)]);
    unsafe { close(one) };
    assert_eq!(numbered(fd), [(watch, IN_CLOSE_NOWRITE)]);
    unsafe { close(other) };
    assert_eq!(numbered(fd), [(watch, IN_CLOSE_WRITE), (watch, IN_DELETE_SELF), (watch, IN_IGNORED)]);
    assert_eq!(errno_of(unsafe { inotify_rm_watch(fd, watch) }), EINVAL);
    // A mapping keeps it; a copy of the descriptor too.
    let path = place.file("c", "x");
    let watch = ok(add(fd, &path, rest));
    let held = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    let copy = ok(unsafe { dup(held) });
    let mapped = unsafe { mmap(std::ptr::null_mut(), 4096, PROT_READ, MAP_PRIVATE, held, 0) };
    assert_ne!(mapped, MAP_FAILED);
    ok(unsafe { unlink(path.as_ptr()) });
    unsafe { (close(held), close(copy)) };
    assert_eq!(numbered(fd), [(watch, IN_ATTRIB), (directory, IN_DELETE)]);
    unsafe { munmap(mapped, 4096) };
    assert_eq!(numbered(fd), [(watch, IN_DELETE_SELF), (watch, IN_IGNORED)]);
    // Two names: the last one counts, even with the first one open.
    let (path, second) = (place.file("d", "x"), place.at("e"));
    ok(unsafe { link(path.as_ptr(), second.as_ptr()) });
    let watch = ok(add(fd, &path, rest));
    let held = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    ok(unsafe { unlink(path.as_ptr()) });
    assert_eq!(numbered(fd), [(watch, IN_ATTRIB), (directory, IN_DELETE)]);
    ok(unsafe { unlink(second.as_ptr()) });
    assert_eq!(
        numbered(fd),
        [(watch, IN_ATTRIB), (watch, IN_DELETE_SELF), (watch, IN_IGNORED), (directory, IN_DELETE)]
    );
    unsafe { close(held) };
    assert_eq!(numbered(fd), []);
    // Replaced by a rename.
    let (source, target) = (place.file("f", "x"), place.file("g", "y"));
    let watches = [ok(add(fd, &source, rest)), ok(add(fd, &target, rest))];
    ok(unsafe { rename(source.as_ptr(), target.as_ptr()) });
    assert_eq!(
        numbered(fd),
        [
            (directory, IN_MOVED_FROM),
            (directory, IN_MOVED_TO),
            (watches[1], IN_ATTRIB),
            (watches[0], IN_MOVE_SELF),
            (watches[1], IN_DELETE_SELF),
            (watches[1], IN_IGNORED)
        ]
    );
    let other = place.file("h", "z");
    let held = ok(unsafe { open(target.as_ptr(), O_RDONLY) });
    ok(unsafe { rename(other.as_ptr(), target.as_ptr()) });
    assert_eq!(numbered(fd), [(directory, IN_MOVED_FROM), (directory, IN_MOVED_TO), (watches[0], IN_ATTRIB)]);
    unsafe { close(held) };
    assert_eq!(numbered(fd), [(watches[0], IN_DELETE_SELF), (watches[0], IN_IGNORED)]);
    // A directory that is somebody's.
    let inner = place.dir("i");
    let watch = ok(add(fd, &inner, rest));
    let held = ok(unsafe { open(inner.as_ptr(), O_RDONLY | O_DIRECTORY) });
    ok(unsafe { rmdir(inner.as_ptr()) });
    assert_eq!(numbered(fd), [(directory, IN_DELETE | IN_ISDIR)]);
    unsafe { close(held) };
    assert_eq!(numbered(fd), [(watch, IN_DELETE_SELF), (watch, IN_IGNORED)]);
    // The process that held it ends.
    let path = place.file("j", "x");
    let watch = ok(add(fd, &path, rest));
    crate::harness::child_succeeds(|| {
        ok(unsafe { open(path.as_ptr(), O_RDONLY) });
        ok(unsafe { unlink(path.as_ptr()) });
        assert_eq!(numbered(fd), [(watch, IN_ATTRIB), (directory, IN_DELETE)]);
    });
    assert_eq!(numbered(fd), [(watch, IN_DELETE_SELF), (watch, IN_IGNORED)]);
}

/// IN_UNMOUNT comes unasked, when the last mount of a file system is gone and nothing in it is in use; the watches end with it.
pub fn end_of_a_mount() {
    let place = Place::new("watchmount");
    let (dir, other) = (place.dir("dir"), place.dir("other"));
    let fd = ok(unsafe { inotify_init1(IN_NONBLOCK) });
    let none = std::ptr::null();
    let mount_it = || ok(unsafe { mount(c"none".as_ptr(), dir.as_ptr(), c"tmpfs".as_ptr(), 0, none) });
    let gone = |watch: i32, mask: u32| [(watch, mask), (watch, IN_IGNORED)];
    let outside = ok(add(fd, &dir, IN_ALL_EVENTS));
    // A watch is no use: it does not keep the mount.
    mount_it();
    let (file, inner) = (place.file("dir/file", "x"), place.dir("dir/inner"));
    let root = ok(add(fd, &dir, IN_CREATE));
    assert_ne!(root, outside);
    let watches = [root, ok(add(fd, &inner, IN_CREATE)), ok(add(fd, &file, IN_MODIFY | IN_ONESHOT))];
    ok(unsafe { umount(dir.as_ptr()) });
    let mut seen = numbered(fd);
    seen.sort_by_key(|event| event.0);
    let masks = [IN_UNMOUNT | IN_ISDIR, IN_UNMOUNT | IN_ISDIR, IN_UNMOUNT];
    assert_eq!(seen, [0, 1, 2].map(|i| gone(watches[i], masks[i])).concat());
    for watch in watches {
        assert_eq!(errno_of(unsafe { inotify_rm_watch(fd, watch) }), EINVAL);
    }
    // A second mount of it, and an open file of one that was taken off.
    mount_it();
    place.file("dir/file", "x");
    let root = ok(add(fd, &dir, IN_CREATE));
    ok(unsafe { mount(dir.as_ptr(), other.as_ptr(), none.cast(), MS_BIND, none) });
    ok(unsafe { umount(dir.as_ptr()) });
    assert_eq!(numbered(fd), []);
    place.file("other/new", "x");
    assert_eq!(numbered(fd), [(root, IN_CREATE)]);
    let held = ok(unsafe { open(place.at("other/file").as_ptr(), O_RDONLY) });
    assert_eq!(errno_of(unsafe { umount(other.as_ptr()) }), EBUSY);
    ok(unsafe { umount2(other.as_ptr(), MNT_DETACH) });
    assert_eq!(numbered(fd), []);
    unsafe { close(held) };
    assert_eq!(numbered(fd), gone(root, IN_UNMOUNT | IN_ISDIR));
    // The directory below is still watched.
    ok(unsafe { rmdir(dir.as_ptr()) });
    assert_eq!(numbered(fd), gone(outside, IN_DELETE_SELF));
}
