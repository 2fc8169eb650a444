//! Processes: fork, clone, exec, exit, wait, groups and sessions, credentials, limits, prctl, pidfd.

mod attributes;
mod cloning;
mod executing;
mod identity;
mod rules;
mod waiting;

use crate::harness::{Tests, child_dies_of, child_succeeds, errno, expect_errno, in_child};
use std::ffi::CString;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;

pub const TESTS: Tests = &[
    ("exit_codes", waiting::exit_codes),
    ("wait_errors", waiting::wait_errors),
    ("waitid_reports", waiting::waitid_reports),
    ("wait_selects", waiting::wait_selects),
    ("no_zombies_when_ignored", waiting::no_zombies_when_ignored),
    ("orphans_find_a_subreaper", waiting::orphans_find_a_subreaper),
    ("parent_death_signal", waiting::parent_death_signal),
    ("vfork_waits", cloning::vfork_waits),
    ("clone_tid_words", cloning::clone_tid_words),
    ("clone_errors", cloning::clone_errors),
    ("clone3_pidfd", cloning::clone3_pidfd),
    ("pidfd_calls", cloning::pidfd_calls),
    ("pidfd_of_proc", cloning::pidfd_of_proc),
    ("exec_passes_arguments", executing::exec_passes_arguments),
    ("exec_keeps_and_resets", executing::exec_keeps_and_resets),
    ("exec_ends_other_threads", executing::exec_ends_other_threads),
    ("exec_errors", executing::exec_errors),
    ("exec_scripts", executing::exec_scripts),
    ("groups_and_sessions", identity::groups_and_sessions),
    ("orphaned_group_gets_hangup", identity::orphaned_group_gets_hangup),
    ("user_ids", identity::user_ids),
    ("group_ids", identity::group_ids),
    ("capabilities", identity::capabilities),
    ("threads_answer_for_their_process", rules::threads_answer_for_their_process),
    ("zombies_answer", rules::zombies_answer),
    ("timer_slack", rules::timer_slack),
    ("sticky_timeouts", rules::sticky_timeouts),
    ("file_user_and_capabilities", rules::file_user_and_capabilities),
    ("groups_are_sorted", rules::groups_are_sorted),
    ("host_names_may_be_empty", rules::host_names_may_be_empty),
    ("ignored_children_leave_no_signal", rules::ignored_children_leave_no_signal),
    ("core_flag_says_the_truth", rules::core_flag_says_the_truth),
    ("one_shot_handlers", rules::one_shot_handlers),
    ("set_group_id_is_for_members", rules::set_group_id_is_for_members),
    ("own_descriptors_after_setuid", rules::own_descriptors_after_setuid),
    ("name_spaces_are_files", rules::name_spaces_are_files),
    ("id_registers", rules::id_registers),
    ("limits", attributes::limits),
    ("process_limit", attributes::process_limit),
    ("prctl_options", attributes::prctl_options),
    ("names_and_usage", attributes::names_and_usage),
    ("random_bytes", attributes::random_bytes),
    ("kcmp_orders", attributes::kcmp_orders),
    ("threads_come_and_go", cloning::threads_come_and_go),
    ("fork_storm", cloning::fork_storm),
    ("exit_group_while_cloning", cloning::exit_group_while_cloning),
];

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// What the test binary does when a test executes it; answers its exit code.
pub fn helper() -> Option<i32> {
    let words: Vec<String> = std::env::args().collect();
    let task = words.get(1)?.strip_prefix("--helper")?.trim();
    Some(match task {
        "args" => {
            let good = words[2..] == ["", "b c", "long"] && std::env::var("KEY").as_deref() == Ok("value");
            let name = unsafe { std::ffi::CStr::from_ptr(libc::getauxval(libc::AT_EXECFN) as *const _) };
            let page = unsafe { libc::getauxval(libc::AT_PAGESZ) };
            let secure = unsafe { libc::getauxval(libc::AT_SECURE) };
            if good && name == SELF && page == 4096 && secure == 0 { 0 } else { 9 }
        }
        "state" => unsafe {
            let mut first: libc::sigaction = zeroed();
            let mut second: libc::sigaction = zeroed();
            libc::sigaction(libc::SIGUSR1, null(), &mut first);
            libc::sigaction(libc::SIGUSR2, null(), &mut second);
            let mut mask = 0u64;
            libc::syscall(libc::SYS_rt_sigprocmask, 0, 0usize, &mut mask, 8);
            let mut stack: libc::stack_t = zeroed();
            libc::sigaltstack(null(), &mut stack);
            let mut pending = 0u64;
            libc::syscall(libc::SYS_rt_sigpending, &mut pending, 8);
            let open = [100, 101].map(|fd| libc::fcntl(fd, libc::F_GETFD) != -1);
            let checks = [
                first.sa_sigaction == libc::SIG_IGN,
                second.sa_sigaction == libc::SIG_DFL,
                mask & 1 << 14 != 0,
                pending & 1 << 14 != 0,
                open == [true, false],
                libc::gettid() == libc::getpid(),
            ];
            checks.iter().position(|good| !good).map_or(0, |at| at as i32 + 1)
        },
        "script" | "script two words" => {
            let last = words.last().map(String::as_str);
            if task == "script two words" && words.len() == 4 && last == Some("extra") { 0 } else { 8 }
        }
        _ => 7,
    })
}

/// execve of this binary; answers only when it failed.
fn exec(path: &std::ffi::CStr, words: &[&str], env: &[&str]) -> i64 {
    let hold = |words: &[&str]| words.iter().map(|word| CString::new(*word).unwrap()).collect::<Vec<_>>();
    let (words, env) = (hold(words), hold(env));
    let list = |words: &[CString]| words.iter().map(|word| word.as_ptr()).chain([null()]).collect::<Vec<_>>();
    i64::from(unsafe { libc::execve(path.as_ptr(), list(&words).as_ptr(), list(&env).as_ptr()) })
}

fn fork(body: impl FnOnce() -> i32) -> i32 {
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: errno {}", errno());
    if pid == 0 {
        let code = body();
        unsafe { libc::_exit(code) };
    }
    pid
}

fn wait(pid: i32) -> i32 {
    let mut status = -1;
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid, "errno {}", errno());
    status
}

extern "C" fn nothing(_signal: i32) {}

fn ids() -> (u32, u32, u32) {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    assert_eq!(unsafe { libc::getresuid(&mut real, &mut effective, &mut saved) }, 0);
    (real, effective, saved)
}
