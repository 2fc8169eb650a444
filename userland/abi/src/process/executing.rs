//! execve(2): what it passes, keeps, resets and refuses.

use super::*;

pub fn exec_passes_arguments() {
    let pid = fork(|| exec(SELF, &["name", "--helper args", "", "b c", "long"], &["KEY=value"]) as i32);
    assert_eq!(wait(pid), 0);
}

pub fn exec_keeps_and_resets() {
    let pid = fork(|| unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::signal(libc::SIGUSR2, nothing as extern "C" fn(i32) as usize);
        let mut set: libc::sigset_t = zeroed();
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
        libc::kill(libc::getpid(), libc::SIGTERM);
        libc::dup3(1, 101, libc::O_CLOEXEC);
        libc::dup2(1, 100);
        exec(SELF, &["name", "--helper state"], &[]) as i32
    });
    assert_eq!(wait(pid), 0);
}

pub fn exec_ends_other_threads() {
    for from_thread in [false, true] {
        for _ in 0..5 {
            let pid = fork(|| {
                for _ in 0..3 {
                    std::thread::spawn(|| {
                        loop {
                            std::hint::spin_loop();
                        }
                    });
                }
                std::thread::spawn(|| std::thread::sleep(Duration::from_secs(100)));
                let run = || exec(SELF, &["name", "--helper args", "", "b c", "long"], &["KEY=value"]) as i32;
                if from_thread { std::thread::spawn(run).join().unwrap_or(1) } else { run() }
            });
            assert_eq!(wait(pid), 0, "from a thread: {from_thread}");
        }
    }
}

fn write_file(path: &std::ffi::CStr, content: &[u8], mode: u32) {
    unsafe {
        libc::unlink(path.as_ptr());
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY, mode);
        assert!(fd >= 0, "open: errno {}", errno());
        assert_eq!(libc::write(fd, content.as_ptr().cast(), content.len()), content.len() as isize);
        libc::close(fd);
    }
}

pub fn exec_errors() {
    expect_errno(exec(c"/tmp/none", &["x"], &[]), libc::ENOENT);
    expect_errno(exec(c"/tmp", &["x"], &[]), libc::EACCES);
    expect_errno(exec(c"", &["x"], &[]), libc::ENOENT);
    write_file(c"/tmp/plain", b"no program", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOEXEC);
    expect_errno(exec(c"/tmp/plain/x", &["x"], &[]), libc::ENOTDIR);
    write_file(c"/tmp/plain", b"", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOEXEC);
    write_file(c"/tmp/plain", b"\x7fELF", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOEXEC);
    write_file(c"/tmp/plain", b"#!/tmp/none\n", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ENOENT);
    write_file(c"/tmp/plain", b"#!/tmp/plain\n", 0o755);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::ELOOP);
    write_file(c"/tmp/plain", b"#!/proc/self/exe\n", 0o644);
    expect_errno(exec(c"/tmp/plain", &["x"], &[]), libc::EACCES);
    let long = "x".repeat(128 << 10);
    expect_errno(exec(SELF, &["x", &long], &[]), libc::E2BIG);
    let many = vec!["x".repeat(100_000); 100];
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    expect_errno(exec(SELF, &many, &[]), libc::E2BIG);
    unsafe {
        expect_errno(libc::syscall(libc::SYS_execve, 8usize, 0usize, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_execve, SELF.as_ptr(), 8usize, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_execveat, -1, c"x".as_ptr(), 0usize, 0usize, 0), libc::EBADF);
        expect_errno(libc::syscall(libc::SYS_execveat, -1, c"x".as_ptr(), 0usize, 0usize, 4), libc::EINVAL);
    }
}

pub fn exec_scripts() {
    write_file(c"/tmp/script", b"#! /proc/self/exe  --helper script two words \nbody", 0o755);
    assert_eq!(wait(fork(|| exec(c"/tmp/script", &["name", "extra"], &[]) as i32)), 0);
}
