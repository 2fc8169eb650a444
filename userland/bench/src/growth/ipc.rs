//! System V and POSIX IPC, futexes.

use super::{Entry, mean, moved, sleep_ms};
use crate::{check, now_ns};
use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;

pub const ITEMS: &[Entry] = &[
    ("sem_among_sets", sem_among_sets, 10_000),
    ("semget_key_among", semget_key_among, 10_000),
    ("semget_new_among", semget_new_among, 10_000),
    ("sem_in_large_set", sem_in_large_set, 10_000),
    ("msg_in_long_queue", msg_in_long_queue, 10_000),
    ("mq_in_long_queue", mq_in_long_queue, 10_000),
    ("futex_wake_among", futex_wake_among, 1000),
    ("futex_wake_all_each", futex_wake_all_each, 1000),
];

const FIRST_KEY: i32 = 0x1000;

/// System V objects and queues outlive their makers.
pub fn clean_up(name: &str) {
    unsafe {
        libc::mq_unlink(c"/growth".as_ptr());
        // Any of the three info structures.
        let mut room = [0u64; 64];
        let room = room.as_mut_ptr();
        if name.starts_with("sem") {
            const SEM_STAT: i32 = 18;
            for index in 0..=libc::semctl(0, 0, libc::SEM_INFO, room) {
                let id = libc::semctl(index, 0, SEM_STAT, room);
                if id >= 0 {
                    libc::semctl(id, 0, libc::IPC_RMID);
                }
            }
        }
        if name.starts_with("msg") {
            for index in 0..=libc::msgctl(0, libc::MSG_INFO, room.cast()) {
                let id = libc::msgctl(index, libc::MSG_STAT, room.cast());
                if id >= 0 {
                    libc::msgctl(id, libc::IPC_RMID, null_mut());
                }
            }
        }
        if name.starts_with("shm") {
            const SHM_STAT: i32 = 13;
            const SHM_INFO: i32 = 14;
            for index in 0..=libc::shmctl(0, SHM_INFO, room.cast()) {
                let id = libc::shmctl(index, SHM_STAT, room.cast());
                if id >= 0 {
                    libc::shmctl(id, libc::IPC_RMID, null_mut());
                }
            }
        }
    }
}

fn semget(key: i32, count: usize, flags: i32) -> io::Result<i32> {
    check(unsafe { libc::semget(key, count as i32, flags) })
}

fn raise(set: i32, number: usize) -> io::Result<()> {
    let mut operation = libc::sembuf { sem_num: number as u16, sem_op: 1, sem_flg: 0 };
    check(unsafe { libc::semop(set, &mut operation, 1) }).map(drop)
}

fn sem_among_sets(count: usize) -> io::Result<u64> {
    let mut set = 0;
    for _ in 0..count {
        set = semget(libc::IPC_PRIVATE, 1, 0o600)?;
    }
    mean(|_| raise(set, 0))
}

fn make_keys(count: usize) -> io::Result<()> {
    (0..count).try_for_each(|number| semget(FIRST_KEY + number as i32, 1, 0o600 | libc::IPC_CREAT).map(drop))
}

fn semget_key_among(count: usize) -> io::Result<u64> {
    make_keys(count)?;
    mean(|_| semget(FIRST_KEY + count as i32 / 2, 1, 0).map(drop))
}

fn semget_new_among(count: usize) -> io::Result<u64> {
    make_keys(count)?;
    mean(|_| {
        let set = semget(0x777_7777, 1, 0o600 | libc::IPC_CREAT)?;
        check(unsafe { libc::semctl(set, 0, libc::IPC_RMID) }).map(drop)
    })
}

fn sem_in_large_set(count: usize) -> io::Result<u64> {
    let set = semget(libc::IPC_PRIVATE, count, 0o600)?;
    mean(|_| raise(set, count / 2))
}

#[repr(C)]
struct Message {
    kind: i64,
    text: [u8; 1],
}

/// A message of a type of its own behind `count` others.
fn msg_in_long_queue(count: usize) -> io::Result<u64> {
    let queue = check(unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) })?;
    unsafe {
        let mut state: libc::msqid_ds = zeroed();
        check(libc::msgctl(queue, libc::IPC_STAT, &mut state))?;
        state.msg_qbytes = 1 << 20;
        check(libc::msgctl(queue, libc::IPC_SET, &mut state))?;
    }
    let mut message = Message { kind: 0, text: [0] };
    let mut send = |kind: i64| {
        message.kind = kind;
        check(unsafe { libc::msgsnd(queue, (&raw const message).cast(), 1, libc::IPC_NOWAIT) }).map(drop)
    };
    (0..count).try_for_each(|number| send(1 + number as i64 % 7))?;
    let mut taken = Message { kind: 0, text: [0] };
    mean(|_| {
        send(9)?;
        moved(unsafe { libc::msgrcv(queue, (&raw mut taken).cast(), 1, 9, libc::IPC_NOWAIT) }).map(drop)
    })
}

fn mq_in_long_queue(count: usize) -> io::Result<u64> {
    let _ = std::fs::write("/proc/sys/fs/mqueue/msg_max", (count + 10).to_string());
    unsafe {
        let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        libc::setrlimit(libc::RLIMIT_MSGQUEUE, &limit);
        let mut limits: libc::mq_attr = zeroed();
        (limits.mq_maxmsg, limits.mq_msgsize) = (count as i64 + 5, 8);
        let flags = libc::O_CREAT | libc::O_RDWR | libc::O_NONBLOCK;
        let queue = check(libc::mq_open(c"/growth".as_ptr(), flags, 0o600, &limits))?;
        let send = |priority: u32| check(libc::mq_send(queue, c"x".as_ptr(), 1, priority)).map(drop);
        (0..count).try_for_each(|number| send(number as u32 % 1000))?;
        let mut room = [0; 8];
        mean(|_| {
            send(2000)?;
            moved(libc::mq_receive(queue, room.as_mut_ptr(), room.len(), null_mut())).map(drop)
        })
    }
}

extern "C" fn wait_on(word: *mut libc::c_void) -> *mut libc::c_void {
    let _ = super::tasks::futex(word.cast(), libc::FUTEX_WAIT, 0);
    word
}

/// Threads that wait, each on its word or all on one.
fn waiters(count: usize, all_on_one: bool) -> io::Result<&'static [u32]> {
    let words = vec![0u32; count].leak();
    for number in 0..count {
        let word = &raw mut words[if all_on_one { 0 } else { number }];
        super::tasks::spawn(wait_on, word.cast(), super::tasks::SMALL_STACK)?;
    }
    sleep_ms(300);
    Ok(words)
}

fn futex_wake_among(count: usize) -> io::Result<u64> {
    waiters(count, false)?;
    let other = 0u32;
    mean(|_| super::tasks::futex(&raw const other, libc::FUTEX_WAKE, 1).map(drop))
}

fn futex_wake_all_each(count: usize) -> io::Result<u64> {
    let words = waiters(count, true)?;
    let start = now_ns();
    super::tasks::futex(&raw const words[0], libc::FUTEX_WAKE, i32::MAX as u32)?;
    Ok((now_ns() - start) / count as u64)
}
