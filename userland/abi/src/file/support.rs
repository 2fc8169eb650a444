//! Small helpers of this family's tests.

/// The errno of a call that must fail with -1; 0 when it did not.
pub fn errno_of(result: impl Into<i64>) -> i32 {
    if result.into() == -1 { crate::harness::errno() } else { 0 }
}

/// The call succeeded; its value.
#[track_caller]
pub fn ok<T: Into<i64> + Copy>(result: T) -> T {
    assert!(result.into() != -1, "{}", std::io::Error::last_os_error());
    result
}

/// Runs `body` in a child process that goes on beside this one; answers its pid. A panic ends it with status 1.
pub fn child(body: impl FnOnce()) -> i32 {
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err();
        unsafe { libc::_exit(i32::from(failed)) }
    }
    ok(pid)
}

/// Waits for a child: its wait status.
pub fn reap(pid: i32) -> i32 {
    let mut status = 0;
    ok(unsafe { libc::waitpid(pid, &mut status, 0) });
    status
}

pub fn sleep_ms(ms: u64) {
    std::thread::sleep(std::time::Duration::from_millis(ms));
}

/// Milliseconds `body` took.
pub fn timed(body: impl FnOnce()) -> u128 {
    let start = std::time::Instant::now();
    body();
    start.elapsed().as_millis()
}
