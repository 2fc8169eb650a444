//! Mode and owner of a socket's descriptor, and of the name it is bound to; of pipes and memfds, which have no name either.

use super::*;

fn stat_of(fd: i32) -> stat {
    let mut found: stat = unsafe { std::mem::zeroed() };
    ok(unsafe { fstat(fd, &mut found) });
    found
}

fn mode_of(fd: i32) -> u32 {
    stat_of(fd).st_mode
}

/// Mode, user and group of the name.
fn name_of(place: &[u8]) -> (u32, u32, u32) {
    let mut found: stat = unsafe { std::mem::zeroed() };
    ok(unsafe { stat(place.as_ptr().cast(), &mut found) });
    (found.st_mode, found.st_uid, found.st_gid)
}

/// bind(2) gives the name the descriptor's mode without the umask; what comes after is of one of the two.
pub fn mode_of_name() {
    child_succeeds(|| {
        unsafe { umask(0o022) };
        for (before, after) in
            [(None, 0o755), (Some(0o600), 0o600), (Some(0o077), 0o055), (Some(0), 0), (Some(0o1777), 0o1755)]
        {
            let place = path("socket-mode");
            let fd = new_socket(SOCK_STREAM);
            assert_eq!(mode_of(fd), S_IFSOCK | 0o777);
            if let Some(mode) = before {
                ok(unsafe { fchmod(fd, mode) });
                assert_eq!(mode_of(fd), S_IFSOCK | mode);
            }
            assert_eq!(bind_to(fd, &place), 0);
            assert_eq!(name_of(&place).0, S_IFSOCK | after, "{before:?}");
            assert_eq!(mode_of(fd), S_IFSOCK | before.unwrap_or(0o777));
            ok(unsafe { fchmod(fd, 0o711) });
            assert_eq!((mode_of(fd), name_of(&place).0), (S_IFSOCK | 0o711, S_IFSOCK | after));
            ok(unsafe { chmod(place.as_ptr().cast(), 0o640) });
            assert_eq!((mode_of(fd), name_of(&place).0), (S_IFSOCK | 0o711, S_IFSOCK | 0o640));
            // fstatat(2) and the link in /proc say what fstat(2) does.
            let mut found: stat = unsafe { std::mem::zeroed() };
            ok(unsafe { fstatat(fd, c"".as_ptr(), &mut found, AT_EMPTY_PATH) });
            assert_eq!(found.st_mode, S_IFSOCK | 0o711);
            let link = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap();
            ok(unsafe { chmod(link.as_ptr(), 0o404) });
            assert_eq!((mode_of(fd), name_of(&place).0), (S_IFSOCK | 0o404, S_IFSOCK | 0o640));
        }
    });
}

/// An accepted connection has a mode of its own; both ends of a pair have.
pub fn mode_is_not_inherited() {
    let name = format!("\0abi-mode-{}", std::process::id()).into_bytes();
    let listener = new_socket(SOCK_STREAM);
    ok(unsafe { fchmod(listener, 0o600) });
    assert_eq!(bind_to(listener, &name), 0);
    ok(unsafe { listen(listener, 1) });
    let client = new_socket(SOCK_STREAM);
    assert_eq!(connect_to(client, &name), 0);
    let server = ok(unsafe { accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) });
    assert_eq!([listener, client, server].map(mode_of), [0o600, 0o777, 0o777].map(|mode| S_IFSOCK | mode));
    let [a, b] = pair_of(SOCK_DGRAM);
    ok(unsafe { fchmod(a, 0o640) });
    assert_eq!([a, b].map(mode_of), [0o640, 0o777].map(|mode| S_IFSOCK | mode));
}

/// The owner is who made it; only root gives it away, and only the owner and root change the mode.
pub fn owner_of_descriptor() {
    child_succeeds(|| {
        let fd = new_socket(SOCK_STREAM);
        let place = path("socket-owner");
        let owner = |fd: i32| (stat_of(fd).st_uid, stat_of(fd).st_gid);
        assert_eq!(owner(fd), (0, 0));
        ok(unsafe { fchown(fd, 4321, 77) });
        assert_eq!((owner(fd), mode_of(fd)), ((4321, 77), S_IFSOCK | 0o777));
        ok(unsafe { fchown(fd, u32::MAX, 78) });
        assert_eq!(owner(fd), (4321, 78));
        // The name is the caller's all the same.
        assert_eq!(bind_to(fd, &place), 0);
        assert_eq!((name_of(&place).1, name_of(&place).2), (0, 0));
        let roots = new_socket(SOCK_STREAM);
        ok(unsafe { setresgid(500, 500, 500) });
        ok(unsafe { setresuid(4321, 4321, 4321) });
        assert_eq!(owner(new_socket(SOCK_DGRAM)), (4321, 500));
        ok(unsafe { fchmod(fd, 0o700) });
        assert_eq!(errno_of(unsafe { fchmod(roots, 0o700) }), EPERM);
        assert_eq!(errno_of(unsafe { fchown(fd, 0, u32::MAX) }), EPERM);
        assert_eq!(errno_of(unsafe { fchown(roots, 4321, u32::MAX) }), EPERM);
        ok(unsafe { fchownat(fd, c"".as_ptr(), 4321, 500, AT_EMPTY_PATH) });
        assert_eq!((owner(fd), mode_of(fd)), ((4321, 500), S_IFSOCK | 0o700));
        assert_eq!(errno_of(unsafe { fchownat(fd, c"x".as_ptr(), 4321, 500, 0) }), ENOTDIR);
    });
}

/// The same of what else has no name.
pub fn unnamed_objects() {
    let mut pipe_ends = [0; 2];
    ok(unsafe { pipe(pipe_ends.as_mut_ptr()) });
    let [reader, writer] = pipe_ends;
    let memory = ok(unsafe { memfd_create(c"mode".as_ptr(), 0) });
    let network = ok(unsafe { socket(AF_INET, SOCK_STREAM, 0) });
    for (fd, kind, first) in [
        (reader, S_IFIFO, 0o600),
        (memory, S_IFREG, 0o777),
        (network, S_IFSOCK, 0o777),
        (new_socket(SOCK_DGRAM), S_IFSOCK, 0o777),
    ] {
        assert_eq!(mode_of(fd), kind | first);
        ok(unsafe { fchmod(fd, 0o641) });
        ok(unsafe { fchown(fd, 12, 34) });
        let times = [timespec { tv_sec: 1000, tv_nsec: 5 }, timespec { tv_sec: 2000, tv_nsec: 6 }];
        ok(unsafe { futimens(fd, times.as_ptr()) });
        let found = stat_of(fd);
        assert_eq!((found.st_mode, found.st_uid, found.st_gid), (kind | 0o641, 12, 34));
        assert_eq!((found.st_atime, found.st_atime_nsec, found.st_mtime, found.st_mtime_nsec), (1000, 5, 2000, 6));
        assert!(found.st_ctime > 2000);
    }
    // The other end is the same object.
    assert_eq!(mode_of(writer), S_IFIFO | 0o641);
    assert_eq!(errno_of(unsafe { fchmod(-1, 0o600) }), EBADF);
}
