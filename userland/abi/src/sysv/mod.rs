//! System V semaphores and message queues.

mod ids;
mod msg;
mod sem;

use crate::harness::{Tests, child_succeeds, expect_errno, in_child, others_asleep};
use std::time::Duration;

pub const TESTS: Tests = &[
    ("sem_values", sem_values),
    ("sem_errors", sem_errors),
    ("sem_blocks_and_wakes", sem_blocks_and_wakes),
    ("sem_all_or_nothing", sem_all_or_nothing),
    ("sem_undo", sem_undo),
    ("sem_removed", sem_removed),
    ("sem_ping_pong", sem_ping_pong),
    ("msg_types", msg_types),
    ("msg_errors", msg_errors),
    ("msg_blocks_and_wakes", msg_blocks_and_wakes),
    ("msg_full_queue", msg_full_queue),
    ("msg_removed", msg_removed),
    ("msgget_rules", msg::msgget_rules),
    ("msgsnd_errors", msg::msgsnd_errors),
    ("msgrcv_errors", msg::msgrcv_errors),
    ("msg_copy", msg::msg_copy),
    ("short_messages_pass", msg::short_messages_pass),
    ("too_big_for_who_waits", msg::too_big_for_who_waits),
    ("rights_change_under_a_receiver", msg::rights_change_under_a_receiver),
    ("msgctl_set_and_limits", msg::msgctl_set_and_limits),
    ("msgctl_info", msg::msgctl_info),
    ("msg_times_and_pids", msg::msg_times_and_pids),
    ("msg_limits_in_proc", msg::msg_limits_in_proc),
    ("semget_rules", sem::semget_rules),
    ("semop_error_order", sem::semop_error_order),
    ("semop_rights", sem::semop_rights),
    ("semtimedop_timeouts", sem::semtimedop_timeouts),
    ("sem_counts", sem::counts),
    ("sem_zero_then_raise", sem::zero_then_raise),
    ("sem_no_wait_in_line", sem::no_wait_in_line),
    ("sem_order_of_arrival", sem::order_of_arrival),
    ("sem_undo_rules", sem::undo_rules),
    ("sem_undo_sharing", sem::undo_sharing),
    ("semctl_set_clears_undo", sem::set_clears_undo),
    ("semctl_errors", sem::semctl_errors),
    ("semctl_info", sem::semctl_info),
    ("sem_pids_and_times", sem::pids_and_times),
    ("sem_limits_in_proc", sem::limits_in_proc),
    ("next_ids", ids::next_ids),
];

fn op(number: u16, change: i16, flags: i32) -> libc::sembuf {
    libc::sembuf { sem_num: number, sem_op: change, sem_flg: flags as i16 }
}

fn semop(id: i32, ops: &mut [libc::sembuf]) -> i64 {
    // SAFETY: the slice lives across the call.
    i64::from(unsafe { libc::semop(id, ops.as_mut_ptr(), ops.len()) })
}

fn timed(id: i32, mut one: libc::sembuf, ms: i64) -> i64 {
    let time = libc::timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
    // SAFETY: locals live across the call.
    unsafe { libc::syscall(libc::SYS_semtimedop, id, &mut one, 1, &time) }
}

fn semctl(id: i32, number: i32, command: i32, argument: u64) -> i64 {
    // SAFETY: addresses in `argument` are of live locals, or bad on purpose.
    unsafe { libc::syscall(libc::SYS_semctl, id, number, command, argument) }
}

fn new_set(count: i32) -> i32 {
    // SAFETY: plain call.
    let id = unsafe { libc::semget(libc::IPC_PRIVATE, count, 0o600) };
    assert!(id >= 0);
    id
}

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn sem_values() {
    let id = new_set(3);
    assert_eq!(semctl(id, 1, SETVAL, 5), 0);
    assert_eq!(semctl(id, 1, GETVAL, 0), 5);
    let values = [1u16, 2, 3];
    assert_eq!(semctl(id, 0, SETALL, values.as_ptr() as u64), 0);
    let mut seen = [0u16; 3];
    assert_eq!(semctl(id, 0, GETALL, seen.as_mut_ptr() as u64), 0);
    assert_eq!(seen, values);
    assert_eq!(semop(id, &mut [op(0, 2, 0), op(1, -1, 0)]), 0);
    assert_eq!((semctl(id, 0, GETVAL, 0), semctl(id, 1, GETVAL, 0)), (3, 1));
    assert_eq!(semctl(id, 0, GETPID, 0), i64::from(std::process::id()));
    let mut state = [0u64; 16];
    assert_eq!(semctl(id, 0, libc::IPC_STAT, state.as_mut_ptr() as u64), 0);
    assert_eq!(state[8], 3, "sem_nsems");
    assert_eq!(semctl(id, 0, libc::IPC_RMID, 0), 0);
    expect_errno(semctl(id, 0, GETVAL, 0), libc::EINVAL);
    // SAFETY: plain calls.
    unsafe {
        let key = 0x5e3a;
        expect_errno(i64::from(libc::semget(key, 1, 0)), libc::ENOENT);
        let named = libc::semget(key, 2, libc::IPC_CREAT | 0o600);
        assert_eq!(libc::semget(key, 2, libc::IPC_CREAT), named);
        expect_errno(i64::from(libc::semget(key, 3, 0)), libc::EINVAL);
        expect_errno(i64::from(libc::semget(key, 1, libc::IPC_CREAT | libc::IPC_EXCL)), libc::EEXIST);
        assert_eq!(semctl(named, 0, libc::IPC_RMID, 0), 0);
    }
}

fn sem_errors() {
    let id = new_set(2);
    // SAFETY: plain calls.
    unsafe {
        expect_errno(i64::from(libc::semget(libc::IPC_PRIVATE, 0, 0o600)), libc::EINVAL);
        expect_errno(i64::from(libc::semget(libc::IPC_PRIVATE, -1, 0o600)), libc::EINVAL);
        expect_errno(i64::from(libc::semget(libc::IPC_PRIVATE, 32_001, 0o600)), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_semop, id, 8usize, 1), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_semop, id, 8usize, 0), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_semop, id, 8usize, 501), libc::E2BIG);
    }
    expect_errno(semop(id, &mut [op(2, 1, 0)]), libc::EFBIG);
    expect_errno(semop(id, &mut [op(0, -1, libc::IPC_NOWAIT)]), libc::EAGAIN);
    expect_errno(semop(id, &mut [op(0, 32_767, 0), op(0, 1, 0)]), libc::ERANGE);
    assert_eq!(semctl(id, 0, GETVAL, 0), 0);
    expect_errno(semctl(id, 0, SETVAL, 40_000), libc::ERANGE);
    expect_errno(semctl(id, 2, GETVAL, 0), libc::EINVAL);
    expect_errno(semctl(id, 0, 99, 0), libc::EINVAL);
    expect_errno(semctl(12345, 0, GETVAL, 0), libc::EINVAL);
    expect_errno(timed(id, op(0, -1, 0), 10), libc::EAGAIN);
    child_succeeds(|| {
        // SAFETY: plain call.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
        expect_errno(semctl(id, 0, GETVAL, 0), libc::EACCES);
        expect_errno(semctl(id, 0, libc::IPC_RMID, 0), libc::EPERM);
        expect_errno(semop(id, &mut [op(0, 1, 0)]), libc::EACCES);
    });
    semctl(id, 0, libc::IPC_RMID, 0);
}

fn sem_blocks_and_wakes() {
    let id = new_set(1);
    let threads: Vec<_> =
        (0..3).map(|_| std::thread::spawn(move || assert_eq!(semop(id, &mut [op(0, -1, 0)]), 0))).collect();
    others_asleep();
    assert_eq!(semctl(id, 0, GETNCNT, 0), 3);
    assert_eq!(semop(id, &mut [op(0, 3, 0)]), 0);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    semctl(id, 0, SETVAL, 2);
    let zero = std::thread::spawn(move || assert_eq!(semop(id, &mut [op(0, 0, 0)]), 0));
    others_asleep();
    assert_eq!(semctl(id, 0, GETZCNT, 0), 1);
    semctl(id, 0, SETVAL, 0);
    zero.join().unwrap();
    semctl(id, 0, libc::IPC_RMID, 0);
}

fn sem_all_or_nothing() {
    let id = new_set(2);
    semctl(id, 0, SETVAL, 1);
    let thread = std::thread::spawn(move || assert_eq!(semop(id, &mut [op(0, -1, 0), op(1, -1, 0)]), 0));
    others_asleep();
    assert_eq!(semctl(id, 0, GETVAL, 0), 1);
    assert_eq!(semop(id, &mut [op(1, 1, 0)]), 0);
    thread.join().unwrap();
    assert_eq!((semctl(id, 0, GETVAL, 0), semctl(id, 1, GETVAL, 0)), (0, 0));
    semctl(id, 0, libc::IPC_RMID, 0);
}

fn sem_undo() {
    let id = new_set(1);
    semctl(id, 0, SETVAL, 1);
    child_succeeds(|| assert_eq!(semop(id, &mut [op(0, -1, libc::SEM_UNDO)]), 0));
    assert_eq!(semctl(id, 0, GETVAL, 0), 1);
    // A killed holder lets a waiter in.
    let mut holder = 0;
    // SAFETY: the child only takes the semaphore and sleeps.
    unsafe {
        holder += libc::fork();
        if holder == 0 {
            semop(id, &mut [op(0, -1, libc::SEM_UNDO)]);
            libc::pause();
        }
        while semctl(id, 0, GETVAL, 0) == 1 {
            pause(1);
        }
        let waiter = std::thread::spawn(move || assert_eq!(semop(id, &mut [op(0, -1, 0)]), 0));
        others_asleep();
        libc::kill(holder, libc::SIGKILL);
        libc::waitpid(holder, std::ptr::null_mut(), 0);
        waiter.join().unwrap();
    }
    semctl(id, 0, libc::IPC_RMID, 0);
}

fn sem_removed() {
    let id = new_set(1);
    let thread = std::thread::spawn(move || expect_errno(semop(id, &mut [op(0, -1, 0)]), libc::EIDRM));
    others_asleep();
    assert_eq!(semctl(id, 0, libc::IPC_RMID, 0), 0);
    thread.join().unwrap();
}

fn sem_ping_pong() {
    let id = new_set(2);
    let status = in_child(|| {
        let parent = std::thread::spawn(move || {
            for _ in 0..2000 {
                assert_eq!(semop(id, &mut [op(0, -1, 0), op(1, 1, 0)]), 0);
            }
        });
        for _ in 0..2000 {
            assert_eq!(semop(id, &mut [op(0, 1, 0)]), 0);
            assert_eq!(semop(id, &mut [op(1, -1, 0)]), 0);
        }
        parent.join().unwrap();
    });
    assert_eq!(status, 0);
    semctl(id, 0, libc::IPC_RMID, 0);
}

#[repr(C)]
struct Text {
    kind: i64,
    text: [u8; 64],
}

fn send(id: i32, kind: i64, text: &[u8], flags: i32) -> i64 {
    let mut message = Text { kind, text: [0; 64] };
    message.text[..text.len()].copy_from_slice(text);
    // SAFETY: the message lives across the call.
    i64::from(unsafe { libc::msgsnd(id, (&raw const message).cast(), text.len(), flags) })
}

/// Answers the type and the text.
fn receive(id: i32, kind: i64, size: usize, flags: i32) -> Result<(i64, Vec<u8>), i64> {
    let mut message = Text { kind: 0, text: [0; 64] };
    // SAFETY: the message lives across the call.
    let len = unsafe { libc::msgrcv(id, (&raw mut message).cast(), size, kind, flags) };
    if len < 0 { Err(len as i64) } else { Ok((message.kind, message.text[..len as usize].to_vec())) }
}

fn new_queue() -> i32 {
    // SAFETY: plain call.
    let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
    assert!(id >= 0);
    id
}

fn remove_queue(id: i32) {
    // SAFETY: plain call.
    assert_eq!(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }, 0);
}

fn msg_types() {
    let id = new_queue();
    for (kind, text) in [(5, b"five"), (3, b"thre"), (9, b"nine"), (3, b"tre2")] {
        assert_eq!(send(id, kind, text, 0), 0);
    }
    // SAFETY: plain call on a local.
    unsafe {
        let mut state: libc::msqid_ds = std::mem::zeroed();
        assert_eq!(libc::msgctl(id, libc::IPC_STAT, &mut state), 0);
        assert_eq!((state.msg_qnum, state.msg_qbytes), (4, 16_384));
    }
    const EXCEPT: i32 = 0o20000;
    const COPY: i32 = 0o40000;
    assert_eq!(receive(id, 9, 64, 0), Ok((9, b"nine".to_vec())));
    assert_eq!(receive(id, 5, 64, EXCEPT), Ok((3, b"thre".to_vec())));
    if let Ok(copy) = receive(id, 1, 64, COPY | libc::IPC_NOWAIT) {
        assert_eq!(copy, (3, b"tre2".to_vec()));
    }
    assert_eq!(receive(id, -4, 64, 0), Ok((3, b"tre2".to_vec())));
    assert_eq!(receive(id, 0, 2, libc::MSG_NOERROR), Ok((5, b"fi".to_vec())));
    expect_errno(receive(id, 0, 64, libc::IPC_NOWAIT).unwrap_err(), libc::ENOMSG);
    assert_eq!(send(id, 1, b"", 0), 0);
    assert_eq!(receive(id, 0, 0, 0), Ok((1, Vec::new())));
    remove_queue(id);
}

fn msg_errors() {
    let id = new_queue();
    expect_errno(send(id, 0, b"x", 0), libc::EINVAL);
    expect_errno(send(-1, 1, b"x", 0), libc::EINVAL);
    expect_errno(send(12345, 1, b"x", 0), libc::EINVAL);
    assert_eq!(send(id, 1, b"abcdef", 0), 0);
    expect_errno(receive(id, 0, 3, 0).unwrap_err(), libc::E2BIG);
    // SAFETY: bad addresses are the point.
    unsafe {
        let message = Text { kind: 1, text: [0; 64] };
        expect_errno(i64::from(libc::msgsnd(id, (&raw const message).cast(), 8193, 0)), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_msgsnd, id, 8usize, 1, 0), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_msgctl, id, 99, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_msgctl, id, libc::IPC_STAT, 8usize), libc::EFAULT);
        expect_errno(i64::from(libc::msgget(0x7e57, 0)), libc::ENOENT);
    }
    remove_queue(id);
    expect_errno(receive(id, 0, 3, 0).unwrap_err(), libc::EINVAL);
}

fn msg_blocks_and_wakes() {
    let id = new_queue();
    let one = std::thread::spawn(move || assert_eq!(receive(id, 2, 64, 0), Ok((2, b"two".to_vec()))));
    let two = std::thread::spawn(move || assert_eq!(receive(id, 7, 64, 0), Ok((7, b"seven".to_vec()))));
    others_asleep();
    assert_eq!(send(id, 7, b"seven", 0), 0);
    assert_eq!(send(id, 2, b"two", 0), 0);
    one.join().unwrap();
    two.join().unwrap();
    remove_queue(id);
}

fn msg_full_queue() {
    let id = new_queue();
    let text = [7u8; 64];
    let mut sent = 0;
    while send(id, 1, &text, libc::IPC_NOWAIT) == 0 {
        sent += 1;
    }
    assert_eq!(sent, 256);
    let sender = std::thread::spawn(move || assert_eq!(send(id, 2, b"late", 0), 0));
    others_asleep();
    assert!(receive(id, 1, 64, 0).is_ok());
    sender.join().unwrap();
    assert_eq!(receive(id, 2, 64, 0), Ok((2, b"late".to_vec())));
    remove_queue(id);
}

fn msg_removed() {
    let id = new_queue();
    let thread = std::thread::spawn(move || expect_errno(receive(id, 0, 64, 0).unwrap_err(), libc::EIDRM));
    others_asleep();
    remove_queue(id);
    thread.join().unwrap();
}
