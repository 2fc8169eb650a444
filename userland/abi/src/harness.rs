//! Runs tests in processes of their own, with a time limit, and prints one line each.

use std::io::Write;
use std::time::{Duration, Instant};

/// Name and body of each test of a family.
pub type Tests = &'static [(&'static str, fn())];

/// A test that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a test waits for what another does, on a host that may be away for seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The errno of the last failed call.
pub fn errno() -> i32 {
    // SAFETY: always a valid pointer.
    unsafe { *libc::__errno_location() }
}

/// Asserts that a call failed with `expected`.
#[track_caller]
pub fn expect_errno(result: i64, expected: i32) {
    let found = errno();
    assert!(result == -1, "succeeded with {result:#x}, expected errno {expected}");
    assert!(found == expected, "errno {found}, expected {expected}");
}

/// What holds on an undisturbed machine holds at least once in many tries: a host may take its CPU away at any moment.
#[track_caller]
pub fn sometimes(mut holds: impl FnMut() -> bool) {
    assert!((0..100).any(|_| holds()), "never in 100 tries");
}

/// Runs `body` in a child and answers its wait status.
pub fn in_child(body: impl FnOnce()) -> i32 {
    // SAFETY: the child only runs `body` and leaves.
    unsafe {
        let _ = std::io::stdout().flush();
        let pid = libc::fork();
        assert!(pid >= 0, "fork: errno {}", errno());
        if pid == 0 {
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err();
            libc::_exit(i32::from(failed));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        status
    }
}

/// Asserts that `body` in a child ends with exit status 0.
#[track_caller]
pub fn child_succeeds(body: impl FnOnce()) {
    let status = in_child(body);
    assert!(status == 0, "child ended with status {status:#x}");
}

/// Asserts that `body` in a child is killed by `signal`.
#[track_caller]
pub fn child_dies_of(signal: i32, body: impl FnOnce()) {
    let status = in_child(body);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal, "child ended with status {status:#x}");
}

/// The state letter of a thread in /proc, if it is there.
fn state(stat: &str) -> Option<char> {
    let text = std::fs::read_to_string(stat).ok()?;
    text[text.rfind(')')? + 1..].trim_start().chars().next()
}

/// Waits until `process` sleeps in all its threads but the caller, or is gone: however busy the host is, what was started has
/// come to where it blocks.
#[track_caller]
pub fn until_asleep(process: i32) {
    // SAFETY: plain call.
    let own = unsafe { libc::gettid() }.to_string();
    let asleep = || {
        std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten().all(|thread| {
            thread.file_name().to_str() == Some(&own)
                || !matches!(state(&format!("{}/stat", thread.path().display())), Some('R' | 'D'))
        })
    };
    let start = Instant::now();
    let mut seen = 0;
    // Twice in a row: a thread that sleeps on its way there is up again by the second look.
    while seen < 2 {
        assert!(start.elapsed() < PATIENCE, "process {process} does not come to rest");
        std::thread::sleep(Duration::from_millis(5));
        seen = if asleep() { seen + 1 } else { 0 };
    }
}

/// [`until_asleep`] for the caller's own process: its other threads have blocked.
#[track_caller]
pub fn others_asleep() {
    until_asleep(std::process::id() as i32);
}

fn run_one(name: &str, test: fn(), fork: bool, fails: bool) -> bool {
    print!("{name} ... ");
    let _ = std::io::stdout().flush();
    if !fork {
        let ok = std::panic::catch_unwind(test).is_ok();
        println!("{}", if ok { "ok" } else { "FAILED" });
        return ok;
    }
    // SAFETY: plain process calls.
    unsafe {
        let pid = libc::fork();
        if pid < 0 {
            println!("FAILED: fork: errno {}", errno());
            return false;
        }
        if pid == 0 {
            libc::setpgid(0, 0);
            if fails {
                std::fs::write("/proc/self/make-it-fail", "1").unwrap();
            }
            let failed = std::panic::catch_unwind(test).is_err();
            let _ = std::io::stdout().flush();
            libc::_exit(i32::from(failed));
        }
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            let mut status = 0;
            match libc::waitpid(pid, &mut status, libc::WNOHANG) {
                0 if start.elapsed() > LIMIT * crate::stress::patience() => {
                    libc::kill(-pid, libc::SIGKILL);
                    libc::kill(pid, libc::SIGKILL);
                    libc::waitpid(pid, &mut status, 0);
                    println!("FAILED: hangs");
                    return false;
                }
                0 => std::thread::sleep(pause),
                _ if status == 0 => {
                    println!("ok");
                    return true;
                }
                _ => {
                    println!("FAILED: status {status:#x}");
                    return false;
                }
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn prepare_machine() {
    let mounts: [(&std::ffi::CStr, &std::ffi::CStr); 6] = [
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"devtmpfs", c"/dev"),
        (c"devpts", c"/dev/pts"),
        (c"tmpfs", c"/dev/shm"),
        (c"tmpfs", c"/tmp"),
    ];
    for (kind, place) in mounts {
        // SAFETY: strings live across the calls; errors do not matter here.
        unsafe {
            libc::mkdir(place.as_ptr(), 0o777);
            libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null());
        }
    }
}

/// Runs what the command line asks for.
pub fn main(families: &[(&str, Tests)]) {
    let is_init = std::process::id() == 1;
    if is_init {
        prepare_machine();
    }
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let list = arguments.iter().any(|argument| argument == "-l");
    let fork = !arguments.iter().any(|argument| argument == "-1");
    let fails = arguments.iter().any(|argument| argument == "-f");
    arguments.retain(|argument| !argument.starts_with('-'));
    if is_init {
        // Words of the kernel's command line are not meant for us; ABI=FILTER[,FILTER] is.
        let filters = std::env::var("ABI").unwrap_or_default();
        arguments = filters.split(',').filter(|filter| !filter.is_empty()).map(String::from).collect();
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (family, tests) in families {
        for (name, test) in *tests {
            let name = format!("{family}::{name}");
            if !arguments.is_empty() && !arguments.iter().any(|filter| name.contains(filter)) {
                continue;
            }
            if list {
                println!("{name}");
                continue;
            }
            let before = crate::deadlock::reports();
            let ok = run_one(&name, *test, fork, fails);
            // No test but those that mean it is a deadlock.
            let reported = crate::deadlock::reports();
            let false_alarm = *family != "deadlock" && reported != before;
            if false_alarm {
                println!("{name} is no deadlock, but was reported: {}", reported.unwrap_or_default());
            }
            if ok && !false_alarm {
                passed += 1;
            } else {
                failed.push(name);
            }
        }
    }
    if !list {
        for name in &failed {
            println!("failed: {name}");
        }
        println!("{passed} passed, {} failed", failed.len());
    }
    if is_init {
        // SAFETY: ends the machine.
        unsafe {
            libc::sync();
            libc::reboot(libc::RB_POWER_OFF);
        }
    }
    std::process::exit(i32::from(!failed.is_empty()));
}
