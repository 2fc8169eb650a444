//! execve(2) of set-user-ID programs: what the caller prepared for its old self does not reach the new one.

use super::{OTHER, USER, as_user, fork_as, sleep_ms, wait};
use crate::harness::{child_succeeds, errno};
use libc::*;
use std::ffi::{CStr, CString};
use std::mem::zeroed;
use std::os::unix::fs::PermissionsExt;
use std::ptr::{null, null_mut};

/// READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, MMAP_PAGE_ZERO: what a set-user-ID exec clears of personality(2).
const PER_CLEAR_ON_SETID: i32 = 0x40_0000 | 0x4_0000 | 0x20_0000 | 0x10_0000;
/// STICKY_TIMEOUTS, which it keeps.
const STICKY_TIMEOUTS: i32 = 0x400_0000;

/// What the test binary does when a test executes it; answers its exit code.
pub fn helper() -> Option<i32> {
    let words: Vec<String> = std::env::args().collect();
    let task = words.get(1)?.strip_prefix("--security-helper")?.trim();
    let first_false = |checks: &[bool]| checks.iter().position(|good| !good).map_or(0, |at| at as i32 + 1);
    Some(match task {
        "ids" => {
            let wanted: Vec<u32> = words[2..].iter().map(|word| word.parse().unwrap()).collect();
            let found = unsafe { [getuid(), geteuid(), getgid(), getegid(), getauxval(AT_SECURE) as u32] };
            if found == wanted[..] {
                0
            } else {
                eprintln!("ids {found:?}, not {wanted:?}");
                1
            }
        }
        "shed" => first_false(&shed_checks()),
        "kept" => first_false(&kept_checks()),
        "await" => unsafe {
            // The child may end now; its end must not end us.
            close(words[2].parse().unwrap());
            let mut status = 0;
            while waitpid(-1, &mut status, __WALL) < 0 && errno() == EINTR {}
            sleep_ms(10);
            0
        },
        "message" => unsafe {
            let queue = words[2].parse::<i32>().unwrap();
            let sent = syscall(SYS_mq_timedsend, queue, b"x".as_ptr(), 1, 0, 0usize);
            sleep_ms(10);
            i32::from(sent != 0)
        },
        "caps" => super::caps::helper(&words[2..]),
        "placed" => super::maps::helper(words[2].parse().unwrap()),
        "tagged" => unsafe { prctl(56, 0, 0, 0, 0) },
        "sleep" => {
            sleep_ms(100_000);
            0
        }
        _ => 99,
    })
}

/// After a set-user-ID exec by [`prepare`].
fn shed_checks() -> Vec<bool> {
    unsafe {
        let mut limit: rlimit = zeroed();
        getrlimit(RLIMIT_STACK, &mut limit);
        let mut death = 9;
        prctl(PR_GET_PDEATHSIG, &mut death);
        let mut action: sigaction = zeroed();
        sigaction(SIGUSR1, null(), &mut action);
        let mut value: itimerval = zeroed();
        getitimer(ITIMER_REAL, &mut value);
        vec![
            geteuid() == 0 && getuid() == USER,
            getauxval(AT_SECURE) == 1,
            personality(0xffff_ffff) & PER_CLEAR_ON_SETID == 0,
            personality(0xffff_ffff) & STICKY_TIMEOUTS != 0,
            limit.rlim_cur == 8 << 20,
            limit.rlim_max == RLIM_INFINITY,
            death == 0,
            prctl(PR_GET_DUMPABLE) == 0,
            action.sa_sigaction == SIG_DFL,
            syscall(SYS_timer_gettime, 0, [0u64; 4].as_mut_ptr()) == -1 && errno() == EINVAL,
            value.it_value.tv_sec > 50,
            prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0,
            prctl(PR_GET_TIMERSLACK) == 777,
        ]
    }
}

/// After a plain exec by [`prepare`].
fn kept_checks() -> Vec<bool> {
    unsafe {
        let mut limit: rlimit = zeroed();
        getrlimit(RLIMIT_STACK, &mut limit);
        let mut death = 9;
        prctl(PR_GET_PDEATHSIG, &mut death);
        let mut value: itimerval = zeroed();
        getitimer(ITIMER_REAL, &mut value);
        vec![
            geteuid() == USER && getuid() == USER,
            getauxval(AT_SECURE) == 0,
            personality(0xffff_ffff) & PER_CLEAR_ON_SETID == PER_CLEAR_ON_SETID & !0x40_0000,
            limit.rlim_cur == RLIM_INFINITY,
            death == SIGUSR1,
            prctl(PR_GET_DUMPABLE) == 1,
            syscall(SYS_timer_gettime, 0, [0u64; 4].as_mut_ptr()) == -1 && errno() == EINVAL,
            value.it_value.tv_sec > 50,
            prctl(PR_GET_TIMERSLACK) == 777,
        ]
    }
}

extern "C" fn nothing(_signal: c_int) {}

/// What an attacker would like the next program to have.
fn prepare(persona: i32) {
    unsafe {
        assert_ne!(personality(persona as c_ulong), -1);
        let free = rlimit { rlim_cur: RLIM_INFINITY, rlim_max: RLIM_INFINITY };
        assert_eq!(setrlimit(RLIMIT_STACK, &free), 0);
        assert_eq!(prctl(PR_SET_PDEATHSIG, SIGUSR1), 0);
        assert_eq!(prctl(PR_SET_TIMERSLACK, 777), 0);
        let mut action: sigaction = zeroed();
        action.sa_sigaction = nothing as extern "C" fn(c_int) as usize;
        assert_eq!(sigaction(SIGUSR1, &action, null_mut()), 0);
        let mut id = 0i32;
        assert_eq!(syscall(SYS_timer_create, CLOCK_MONOTONIC, 0usize, &mut id), 0);
        assert_eq!(id, 0);
        let value = timeval { tv_sec: 100, tv_usec: 0 };
        assert_eq!(setitimer(ITIMER_REAL, &itimerval { it_interval: value, it_value: value }, null_mut()), 0);
    }
}

/// A copy of this binary with owner, group and mode, at a path of its own.
pub(super) fn program(name: &str, owner: (u32, u32), mode: u32) -> CString {
    let path = format!("/tmp/security-{name}");
    let _ = std::fs::remove_file(&path);
    std::fs::copy("/proc/self/exe", &path).unwrap();
    std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    CString::new(path).unwrap()
}

/// execve; answers only when it failed.
pub(super) fn exec(path: &CStr, words: &[&str]) -> i32 {
    let words: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
    let list: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([null()]).collect();
    let env = [null()];
    // SAFETY: all strings and lists live across the call.
    unsafe { execve(path.as_ptr(), list.as_ptr(), env.as_ptr()) };
    100 + errno()
}

fn remove(path: &CStr) {
    unsafe { unlink(path.as_ptr()) };
}

/// `words` of the helper by `uid`, through the program at `path`.
fn run(uid: u32, path: &CStr, words: &[&str], before: impl FnOnce()) -> i32 {
    wait(fork_as(uid, || {
        before();
        exec(path, words)
    }))
}

pub fn set_user_id_sheds() {
    let path = program("suid", (0, 0), 0o4755);
    let shed = ["x", "--security-helper shed"];
    let status = run(USER, &path, &shed, || prepare(PER_CLEAR_ON_SETID & !0x40_0000 | STICKY_TIMEOUTS));
    assert_eq!(status, 0, "check {}", status >> 8);
    remove(&path);
    // Ids and AT_SECURE of each kind of program, by each kind of caller.
    for (owner, mode, caller, ids) in [
        ((0, 0), 0o755, USER, [USER, USER, USER, USER, 0]),
        ((0, 0), 0o4755, USER, [USER, 0, USER, USER, 1]),
        ((0, 0), 0o2755, USER, [USER, USER, USER, 0, 1]),
        ((0, 0), 0o6755, USER, [USER, 0, USER, 0, 1]),
        // Set-group-ID without the group's x bit is mandatory locking, not privilege.
        ((0, 0), 0o2745, USER, [USER, USER, USER, USER, 0]),
        ((OTHER, OTHER), 0o6755, USER, [USER, OTHER, USER, OTHER, 1]),
        ((USER, USER), 0o6755, USER, [USER, USER, USER, USER, 0]),
        ((0, 0), 0o6755, 0, [0, 0, 0, 0, 0]),
        ((USER, USER), 0o6755, 0, [0, USER, 0, USER, 1]),
    ] {
        let path = program("ids", owner, mode);
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let words: Vec<&str> =
            ["x", "--security-helper ids"].into_iter().chain(ids.iter().map(String::as_str)).collect();
        assert_eq!(run(caller, &path, &words, || ()), 0, "{owner:?} {mode:o} by {caller}");
        remove(&path);
    }
}

pub fn plain_exec_keeps() {
    let path = program("plain", (0, 0), 0o755);
    let status = run(USER, &path, &["x", "--security-helper kept"], || prepare(PER_CLEAR_ON_SETID & !0x40_0000));
    assert_eq!(status, 0, "check {}", status >> 8);
    remove(&path);
}

pub fn no_new_privileges() {
    let path = program("nnp", (0, 0), 0o6755);
    let words = ["x", "--security-helper ids", "1000", "1000", "1000", "1000", "0"];
    let status = run(USER, &path, &words, || unsafe {
        assert_eq!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), -1);
    });
    assert_eq!(status, 0);
    remove(&path);
}

pub fn a_shared_root_directory_drops_privilege() {
    let path = program("fs", (0, 0), 0o6755);
    let sharing = |flags: c_int, words: &[&str]| {
        run(USER, &path, words, || unsafe {
            let mut pipe = [0; 2];
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
            assert!(child >= 0);
            if child == 0 {
                // Until the parent is gone.
                close(pipe[1]);
                read(pipe[0], [0u8; 1].as_mut_ptr().cast(), 1);
                _exit(0);
            }
        })
    };
    // Another process could move the root under the new program's feet: it gets no privilege.
    assert_eq!(sharing(CLONE_FS, &["x", "--security-helper ids", "1000", "1000", "1000", "1000", "1"]), 0);
    // A child with a directory of its own is nothing to it.
    assert_eq!(sharing(0, &["x", "--security-helper ids", "1000", "0", "1000", "0", "1"]), 0);
    assert_eq!(sharing(CLONE_FILES, &["x", "--security-helper ids", "1000", "0", "1000", "0", "1"]), 0);
    // Threads of one's own share it and go.
    let words = ["x", "--security-helper ids", "1000", "0", "1000", "0", "1"];
    let status = run(USER, &path, &words, || {
        std::thread::spawn(|| sleep_ms(100_000));
    });
    assert_eq!(status, 0);
    remove(&path);
}

pub fn death_signals_ask_permission() {
    // Changed ids forget the signal; the same ids do not.
    child_succeeds(|| unsafe {
        let mut death = 0;
        let get = |death: &mut i32| {
            assert_eq!(prctl(PR_GET_PDEATHSIG, &raw mut *death), 0);
            *death
        };
        assert_eq!(prctl(PR_SET_PDEATHSIG, SIGTERM), 0);
        assert_eq!(setresuid(0, 0, 0), 0);
        assert_eq!(get(&mut death), SIGTERM);
        assert_eq!(setresgid(USER, USER, USER), 0);
        assert_eq!(get(&mut death), 0);
        assert_eq!(prctl(PR_SET_PDEATHSIG, SIGTERM), 0);
        assert_eq!(syscall(SYS_setfsuid, 77), 0);
        assert_eq!(get(&mut death), 0);
        assert_eq!(prctl(PR_SET_PDEATHSIG, SIGTERM), 0);
        assert_eq!(setresuid(USER, USER, USER), 0);
        assert_eq!(get(&mut death), 0);
        assert_eq!(prctl(PR_SET_PDEATHSIG, 65), -1);
        assert_eq!(errno(), EINVAL);
    });
    // A parent that may not kill its child does not kill it by dying.
    let mut pipe = [0; 2];
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1) };
    for (child_uid, dies) in [(0, false), (USER, true), (OTHER, false)] {
        let middle = fork_as(0, || unsafe {
            let child = fork_as(child_uid, || {
                assert_eq!(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
                assert_eq!(write(pipe[1], b"x".as_ptr().cast(), 1), 1);
                usleep(100_000_000);
                0
            });
            read(pipe[0], [0u8; 1].as_mut_ptr().cast(), 1);
            super::become_user(USER);
            assert_eq!(write(pipe[1], (&raw const child).cast(), 4), 4);
            0
        });
        assert_eq!(wait(middle), 0);
        let mut child = 0i32;
        assert_eq!(unsafe { read(pipe[0], (&raw mut child).cast(), 4) }, 4);
        sleep_ms(20);
        let mut status = 0;
        let ended = unsafe { waitpid(child, &mut status, WNOHANG) };
        assert_eq!(ended != 0, dies, "a child of user {child_uid}: {status:#x}");
        if !dies {
            unsafe { kill(child, SIGKILL) };
            wait(child);
        }
    }
}

pub fn exit_signals_of_another_program() {
    let suid = program("exit", (0, 0), 0o4755);
    for path in [suid.as_c_str(), c"/proc/self/exe"] {
        // The child was to end its parent by SIGTERM; the parent is another program by then, and hears SIGCHLD.
        let status = wait(fork_as(USER, || unsafe {
            let mut pipe = [0; 2];
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let child = syscall(SYS_clone, SIGTERM, 0, 0, 0, 0);
            assert!(child >= 0);
            if child == 0 {
                close(pipe[1]);
                read(pipe[0], [0u8; 1].as_mut_ptr().cast(), 1);
                _exit(0);
            }
            exec(path, &["x", "--security-helper await", &pipe[1].to_string()])
        }));
        assert_eq!(status, 0, "through {path:?}");
    }
    remove(&suid);
    // Without an exec it is as asked for.
    let status = wait(fork_as(USER, || unsafe {
        let child = syscall(SYS_clone, SIGTERM, 0, 0, 0, 0);
        if child == 0 {
            _exit(0);
        }
        usleep(100_000_000);
        0
    }));
    assert_eq!(status, SIGTERM);
}

pub fn message_queues_forget() {
    let suid = program("mq", (0, 0), 0o4755);
    for path in [suid.as_c_str(), c"/proc/self/exe"] {
        as_user(USER, || unsafe {
            let name = c"security";
            syscall(SYS_mq_unlink, name.as_ptr());
            let attributes = [0i64, 4, 16, 0];
            let queue = syscall(SYS_mq_open, name.as_ptr(), O_CREAT | O_RDWR, 0o600, attributes.as_ptr()) as i32;
            assert!(queue >= 0, "errno {}", errno());
            let mut event: sigevent = zeroed();
            event.sigev_notify = SIGEV_SIGNAL;
            event.sigev_signo = SIGUSR2;
            let pid = fork();
            if pid == 0 {
                assert_eq!(fcntl(queue, F_SETFD, 0), 0);
                assert_eq!(syscall(SYS_mq_notify, queue, &event), 0);
                _exit(exec(path, &["x", "--security-helper message", &queue.to_string()]));
            }
            assert_eq!(wait(pid), 0);
            syscall(SYS_mq_unlink, name.as_ptr());
        });
    }
    remove(&suid);
}
