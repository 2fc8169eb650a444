//! Small helpers of this family's tests.

use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A fresh directory, which goes when the value does.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("abi-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a directory below /tmp");
        Self(path)
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub fn at(&self, name: &str) -> CString {
        c(&self.0.join(name))
    }
    /// Makes a file with the given text.
    pub fn file(&self, name: &str, text: &str) -> CString {
        std::fs::write(self.path(name), text).expect("a new file");
        self.at(name)
    }
    pub fn dir(&self, name: &str) -> CString {
        std::fs::create_dir(self.path(name)).expect("a new directory");
        self.at(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn c(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in it")
}

/// The errno of a call that must fail with -1; 0 when it did not.
pub fn errno_of(result: impl Into<i64>) -> i32 {
    if result.into() == -1 { crate::harness::errno() } else { 0 }
}

#[track_caller]
pub fn ok<T: Into<i64> + Copy>(result: T) -> T {
    assert!(result.into() != -1, "{}", std::io::Error::last_os_error());
    result
}

/// open(2) and close(2): the errno, 0 when it opened.
pub fn open_errno(path: &std::ffi::CStr, flags: i32) -> i32 {
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    if fd >= 0 {
        unsafe { libc::close(fd) };
        return 0;
    }
    crate::harness::errno()
}

pub fn is_root() -> bool {
    unsafe { libc::geteuid() == 0 }
}

/// Runs `body` in a child as user and group 1000, which has no capabilities.
pub fn as_user(body: impl FnOnce()) {
    crate::harness::child_succeeds(|| {
        ok(unsafe { libc::setgroups(0, std::ptr::null()) });
        ok(unsafe { libc::setresgid(1000, 1000, 1000) });
        ok(unsafe { libc::setresuid(1000, 1000, 1000) });
        body();
    });
}
