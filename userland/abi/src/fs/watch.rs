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
