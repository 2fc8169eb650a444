//! The file system of queues: names, what a file says, permissions, limits.

use super::*;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// The file system, mounted in a place of its own.
struct Mounted(String);

impl Mounted {
    fn new() -> Self {
        let place = format!("/tmp/mqueue-{}", std::process::id());
        fs::create_dir_all(&place).unwrap();
        let target = CString::new(place.clone()).unwrap();
        // SAFETY: strings live across the call.
        let done = unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), c"mqueue".as_ptr(), 0, null()) };
        assert_eq!(done, 0, "errno {}", errno());
        Self(place)
    }
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let target = CString::new(self.0.clone()).unwrap();
        // SAFETY: the string lives across the call.
        unsafe { libc::umount(target.as_ptr()) };
        let _ = fs::remove_dir(&self.0);
    }
}

/// A name of this test's own.
fn own_name(text: &str) -> CString {
    CString::new(format!("abi-{text}-{}", std::process::id())).unwrap()
}

pub fn queue_files() {
    let mounted = Mounted::new();
    let name = own_name("file");
    let path = mounted.path(name.to_str().unwrap());
    assert_eq!(fs::metadata(&path).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let id = open(&name, CREATE, Some(&attr(4, 64)));
    assert!(id >= 0);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode(), meta.size(), meta.nlink(), meta.uid()), (0o100_600, 80, 1, 0));
    let read = || fs::read_to_string(&path).unwrap();
    assert_eq!(read(), "QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n");
    send(id, b"hello", 1, None);
    send(id, b"you", 2, None);
    assert!(read().starts_with("QSIZE:8          NOTIFY:0 "));
    let listed = fs::read_dir(&mounted.0).unwrap().any(|entry| entry.unwrap().path().to_str() == Some(&path));
    assert!(listed);
    // The descriptor is the same file.
    // SAFETY: plain calls on locals.
    unsafe {
        let mut stat: libc::stat = zeroed();
        assert_eq!(libc::fstat(id as i32, &mut stat), 0);
        assert_eq!((stat.st_ino, stat.st_mode), (meta.ino(), 0o100_600));
        let mut text = [0u8; 128];
        assert_eq!(libc::read(id as i32, text.as_mut_ptr().cast(), 128), 60);
        assert_eq!(libc::read(id as i32, text.as_mut_ptr().cast(), 128), 0);
        expect_errno(libc::write(id as i32, text.as_ptr().cast(), 1) as i64, libc::EINVAL);
        // And a file opened by its path is a queue descriptor.
        let file = CString::new(path.clone()).unwrap();
        let fd = libc::open(file.as_ptr(), libc::O_RDWR);
        assert!(fd >= 0);
        assert_eq!(receive(i64::from(fd), 64, None).unwrap(), (b"you".to_vec(), 2));
        libc::close(fd);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode(), 0o100_640);
    child_succeeds(|| {
        // SAFETY: plain call.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
        expect_errno(open(&name, libc::O_RDWR, None), libc::EACCES);
        expect_errno(unlink(&name), libc::EPERM);
        assert_eq!(fs::remove_file(&path).unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
    fs::remove_file(&path).unwrap();
    expect_errno(open(&name, libc::O_RDWR, None), libc::ENOENT);
    assert_eq!(receive(id, 64, None).unwrap().0, b"hello", "an open queue outlives its name");
    // Making a file makes a queue of the default size; directories, links and FIFOs are not made here.
    fs::write(&path, b"").unwrap();
    let made = open(&name, libc::O_RDWR, None);
    let mut seen = Attr::default();
    // SAFETY: locals live across the calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_mq_getsetattr, made, 0usize, &mut seen), 0);
        assert_eq!((seen.max_messages, seen.message_bytes), (10, 8192));
        let other = CString::new(mounted.path("other")).unwrap();
        expect_errno(i64::from(libc::mkdir(other.as_ptr(), 0o700)), libc::EPERM);
        expect_errno(i64::from(libc::symlink(c"x".as_ptr(), other.as_ptr())), libc::EPERM);
    }
    assert_eq!(unlink(&name), 0);
}

pub fn name_rules() {
    let long = CString::new(vec![b'n'; 255]).unwrap();
    let id = open(&long, CREATE, Some(&attr(1, 1)));
    assert!(id >= 0, "errno {}", errno());
    assert_eq!(unlink(&long), 0);
    expect_errno(open(&CString::new(vec![b'n'; 256]).unwrap(), CREATE, None), libc::ENAMETOOLONG);
    expect_errno(open(c".", CREATE, None), libc::EACCES);
    expect_errno(open(c"..", libc::O_RDWR, None), libc::EACCES);
    expect_errno(open(c"/absent", libc::O_RDWR, None), libc::EACCES);
    expect_errno(unlink(c"/absent"), libc::EACCES);
    let name = own_name("mode");
    assert!(open(&name, CREATE, None) >= 0);
    expect_errno(open(&name, 3, None), libc::EINVAL);
    let reader = open(&name, libc::O_RDONLY, None);
    expect_errno(send(reader, b"x", 0, None), libc::EBADF);
    let writer = open(&name, libc::O_WRONLY, None);
    expect_errno(receive(writer, 8192, None).unwrap_err(), libc::EBADF);
    assert_eq!(unlink(&name), 0);
    // SAFETY: bad addresses are the point.
    unsafe {
        expect_errno(libc::syscall(libc::SYS_mq_open, 8usize, CREATE, 0o600, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_mq_open, name.as_ptr(), libc::O_RDWR, 0o600, 8usize), libc::EFAULT);
    }
}

/// A text in /proc/sys while `body` runs.
fn with_setting(name: &str, value: &str, body: impl FnOnce()) {
    let path = format!("/proc/sys/fs/mqueue/{name}");
    let old = fs::read_to_string(&path).unwrap();
    fs::write(&path, value).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), value);
    body();
    fs::write(&path, old.trim()).unwrap();
}

/// The limits of mq_overview(7): in /proc/sys/fs/mqueue, beyond them with privilege, and RLIMIT_MSGQUEUE.
pub fn limits() {
    let name = own_name("limit");
    let as_user = |body: &dyn Fn()| {
        child_succeeds(|| {
            // SAFETY: plain call.
            assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
            body();
        })
    };
    let opens = |size: Option<&Attr>| {
        let id = open(&name, CREATE, size);
        assert!(id >= 0, "errno {}", errno());
        // SAFETY: plain call.
        unsafe { libc::close(id as i32) };
        assert_eq!(unlink(&name), 0);
    };
    with_setting("msg_max", "20", || {
        as_user(&|| {
            opens(Some(&attr(20, 64)));
            expect_errno(open(&name, CREATE, Some(&attr(21, 64))), libc::EINVAL);
        })
    });
    with_setting("msgsize_max", "200", || {
        as_user(&|| expect_errno(open(&name, CREATE, Some(&attr(1, 201))), libc::EINVAL));
        opens(Some(&attr(1, 201)));
    });
    with_setting("queues_max", "0", || {
        as_user(&|| expect_errno(open(&name, CREATE, None), libc::ENOSPC));
        opens(None);
    });
    with_setting("msg_default", "3", || {
        let id = open(&name, CREATE, None);
        let mut seen = Attr::default();
        // SAFETY: a local lives across the call.
        unsafe { libc::syscall(libc::SYS_mq_getsetattr, id, 0usize, &mut seen) };
        assert_eq!((seen.max_messages, seen.message_bytes), (3, 8192));
        assert_eq!(unlink(&name), 0);
    });
    for (setting, bad) in [("msg_max", "0"), ("msg_max", "65537"), ("msgsize_max", "127"), ("queues_max", "x")] {
        let path = format!("/proc/sys/fs/mqueue/{setting}");
        assert_eq!(fs::write(&path, bad).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{setting} {bad}");
    }
    expect_errno(open(&name, CREATE, Some(&attr(65_537, 1))), libc::EINVAL);
    expect_errno(open(&name, CREATE, Some(&attr(1, (16 << 20) + 1))), libc::EINVAL);
    expect_errno(open(&name, CREATE, Some(&attr(-1, 1))), libc::EINVAL);
    child_succeeds(|| {
        let limit = libc::rlimit { rlim_cur: 10_000, rlim_max: 10_000 };
        // SAFETY: plain calls on a local.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_MSGQUEUE, &limit), 0);
            assert_eq!(libc::setresuid(1001, 1001, 1001), 0);
        }
        expect_errno(open(&name, CREATE, Some(&attr(10, 1000))), libc::EMFILE);
        opens(Some(&attr(9, 1000)));
        let first = open(&name, CREATE, Some(&attr(5, 1000)));
        assert!(first >= 0);
        assert_eq!(unlink(&name), 0);
        expect_errno(open(&name, CREATE, Some(&attr(5, 1000))), libc::EMFILE);
        // SAFETY: plain call.
        unsafe { libc::close(first as i32) };
        opens(Some(&attr(5, 1000)));
    });
}
