//! Who may do what to whom: every test is a program that tries to get in where it does not belong.
//!
//! [`owners`]: signals through files · [`init`]: pid 1 · [`exec`]: what a set-user-ID program must not inherit · [`caps`]: capabilities ·
//! [`procfs`]: what others show · [`places`]: directories for everybody · [`maps`]: address spaces and registers.

mod caps;
mod exec;
mod init;
mod maps;
mod owners;
mod places;
mod procfs;

use crate::harness::{Tests, errno};

pub const TESTS: Tests = &[
    ("owners_of_files_cannot_kill", owners::owners_of_files_cannot_kill),
    ("owners_of_ones_own_are_told", owners::owners_of_ones_own_are_told),
    ("an_owner_is_as_its_setter_was", owners::an_owner_is_as_its_setter_was),
    ("owner_uids", owners::owner_uids),
    ("terminals_signal_their_own", owners::terminals_signal_their_own),
    ("init_outlives_others", init::init_outlives_others),
    ("death_signals_ask_permission", exec::death_signals_ask_permission),
    ("exit_signals_of_another_program", exec::exit_signals_of_another_program),
    ("message_queues_forget", exec::message_queues_forget),
    ("set_user_id_sheds", exec::set_user_id_sheds),
    ("a_shared_root_directory_drops_privilege", exec::a_shared_root_directory_drops_privilege),
    ("no_new_privileges", exec::no_new_privileges),
    ("plain_exec_keeps", exec::plain_exec_keeps),
    ("file_capabilities", caps::file_capabilities),
    ("file_capabilities_are_guarded", caps::file_capabilities_are_guarded),
    ("ambient_capabilities", caps::ambient_capabilities),
    ("securebits", caps::securebits),
    ("unreadable_programs", caps::unreadable_programs),
    ("descriptors_stay_with_their_program", procfs::descriptors_stay_with_their_program),
    ("the_opener_is_asked", procfs::the_opener_is_asked),
    ("directories_are_their_users", procfs::directories_are_their_users),
    ("hidden_processes", procfs::hidden_processes),
    ("the_log_is_for_administrators", procfs::the_log_is_for_administrators),
    ("links_of_strangers", places::links_of_strangers),
    ("links_to_strangers", places::links_to_strangers),
    ("files_of_strangers", places::files_of_strangers),
    ("noexec_holds", maps::noexec_holds),
    ("tagged_pointers_are_asked_for", maps::tagged_pointers_are_asked_for),
    ("registers_are_closed", maps::registers_are_closed),
    ("placement_is_random", maps::placement_is_random),
];

pub use exec::helper;

/// An ordinary user of these tests, and another one.
const USER: u32 = 1000;
const OTHER: u32 = 1001;

/// Forks; the child has only `uid`'s rights (all ids, no group but its own).
fn fork_as(uid: u32, body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `body` and leaves.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "fork: errno {}", errno());
        if pid == 0 {
            become_user(uid);
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            libc::_exit(code);
        }
        pid
    }
}

/// Gives up everything but `uid`'s rights.
fn become_user(uid: u32) {
    if uid != 0 {
        // SAFETY: plain calls.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setresgid(uid, uid, uid), 0);
            assert_eq!(libc::setresuid(uid, uid, uid), 0);
        }
    }
}

/// Runs `body` as `uid` in a child, which must end well.
#[track_caller]
fn as_user(uid: u32, body: impl FnOnce()) {
    let pid = fork_as(uid, || {
        body();
        0
    });
    let status = wait(pid);
    assert!(status == 0, "as user {uid}: status {status:#x}");
}

fn wait(pid: i32) -> i32 {
    let mut status = -1;
    // SAFETY: plain call on a local.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid, "errno {}", errno());
    status
}

/// A field of /proc/PID/status.
fn status_field(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().to_string()
}

fn sleep_ms(ms: u64) {
    std::thread::sleep(std::time::Duration::from_millis(ms));
}
