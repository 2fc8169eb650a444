//! semget(2), semop(2), semctl(2), flag by flag and errno by errno.

use super::{
    GETALL, GETNCNT, GETPID, GETVAL, GETZCNT, SETALL, SETVAL, child_succeeds, expect_errno, new_set, op, others_asleep,
    semctl, semop,
};
use crate::harness::{errno, until_asleep};
use libc::*;
use std::time::Duration;

const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

fn value(id: i32, number: i32) -> i64 {
    semctl(id, number, GETVAL, 0)
}

fn remove(id: i32) {
    assert_eq!(semctl(id, 0, IPC_RMID, 0), 0);
}

fn unprivileged() {
    unsafe {
        assert_eq!(setgroups(0, std::ptr::null()), 0);
        assert_eq!(setresgid(1000, 1000, 1000), 0);
        assert_eq!(setresuid(1000, 1000, 1000), 0);
    }
}

/// A child that does `body` and leaves; its pid.
fn start(body: impl FnOnce()) -> i32 {
    unsafe {
        let pid = fork();
        if pid == 0 {
            body();
            _exit(0);
        }
        pid
    }
}

fn ends_well(pid: i32) {
    let mut status = 0;
    assert_eq!(unsafe { waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
}

pub fn semget_rules() {
    unsafe {
        let key = 0x5e6;
        expect_errno(semget(key, 1, 0).into(), ENOENT);
        expect_errno(semget(key, 0, IPC_CREAT | 0o600).into(), EINVAL);
        let id = semget(key, 3, IPC_CREAT | IPC_EXCL | 0o604);
        assert!(id >= 0);
        assert_eq!((semget(key, 0, 0), semget(key, 3, IPC_CREAT), semget(key, 1, IPC_EXCL)), (id, id, id));
        expect_errno(semget(key, 4, 0).into(), EINVAL);
        expect_errno(semget(key, -1, IPC_CREAT | IPC_EXCL).into(), EINVAL);
        expect_errno(semget(key, 4, IPC_CREAT | IPC_EXCL).into(), EEXIST);
        child_succeeds(|| {
            unprivileged();
            assert_eq!(semget(key, 0, 0o400), id);
            expect_errno(semget(key, 0, 0o600).into(), EACCES);
            // The number is looked at before the rights.
            expect_errno(semget(key, 4, 0o600).into(), EINVAL);
        });
        remove(id);
        expect_errno(semget(key, 0, 0).into(), ENOENT);
    }
}

pub fn semop_error_order() {
    let id = new_set(2);
    let call = |id: i32, ops: usize, count: usize| unsafe { syscall(SYS_semop, id, ops, count) };
    let one = [op(0, -1, IPC_NOWAIT)];
    let good = one.as_ptr() as usize;
    expect_errno(call(-1, 8, 501), E2BIG);
    expect_errno(call(-1, 8, 0), EINVAL);
    expect_errno(call(-1, 8, 1), EFAULT);
    expect_errno(call(-1, good, 1), EINVAL);
    expect_errno(call(12345, good, 1), EINVAL);
    let far = [op(2, 1, 0)];
    expect_errno(call(12345, far.as_ptr() as usize, 1), EINVAL);
    expect_errno(call(id, far.as_ptr() as usize, 1), EFBIG);
    expect_errno(call(id, good, 1), EAGAIN);
    // What cannot be done at once is found in the order of the array.
    expect_errno(semop(id, &mut [op(0, -1, IPC_NOWAIT), op(1, 32_767, 0), op(1, 1, 0)]), EAGAIN);
    expect_errno(semop(id, &mut [op(1, 32_767, 0), op(1, 1, 0), op(0, -1, IPC_NOWAIT)]), ERANGE);
    let timed_call =
        |id: i32, ops: usize, count: usize, time: usize| unsafe { syscall(SYS_semtimedop, id, ops, count, time) };
    expect_errno(timed_call(-1, 8, 501, 8), EFAULT);
    for bad in [timespec { tv_sec: -1, tv_nsec: 0 }, timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }] {
        let bad = &raw const bad as usize;
        expect_errno(timed_call(id, 8, 1, bad), EFAULT);
        expect_errno(timed_call(12345, good, 1, bad), EINVAL);
        expect_errno(timed_call(id, good, 1, bad), EINVAL);
        expect_errno(timed_call(id, far.as_ptr() as usize, 1, bad), EINVAL);
    }
    assert_eq!((value(id, 0), value(id, 1)), (0, 0));
    remove(id);
}

pub fn semop_rights() {
    let id = unsafe { semget(IPC_PRIVATE, 1, 0o604) };
    child_succeeds(|| {
        unprivileged();
        assert_eq!(semop(id, &mut [op(0, 0, 0)]), 0, "a wait for zero only reads");
        expect_errno(semop(id, &mut [op(0, 0, 0), op(0, 1, 0)]), EACCES);
        // Out of range comes before the rights.
        expect_errno(semop(id, &mut [op(1, 1, 0)]), EFBIG);
        assert_eq!(value(id, 0), 0);
        expect_errno(semctl(id, 0, SETVAL, 1), EACCES);
        expect_errno(semctl(id, 5, SETVAL, 1), EINVAL);
        let values = [1u16];
        expect_errno(semctl(id, 0, SETALL, values.as_ptr() as u64), EACCES);
        let mut state = [0u64; 16];
        assert_eq!(semctl(id, 0, IPC_STAT, state.as_mut_ptr() as u64), 0);
        expect_errno(semctl(id, 0, IPC_SET, state.as_mut_ptr() as u64), EPERM);
        expect_errno(semctl(id, 0, IPC_RMID, 0), EPERM);
    });
    remove(id);
}

pub fn semtimedop_timeouts() {
    let id = new_set(1);
    let call = move |sec: i64, nsec: i64| {
        let (mut one, time) = (op(0, -1, 0), timespec { tv_sec: sec, tv_nsec: nsec });
        unsafe { syscall(SYS_semtimedop, id, &mut one, 1, &time) }
    };
    expect_errno(call(0, 0), EAGAIN);
    let start = std::time::Instant::now();
    expect_errno(call(0, 30_000_000), EAGAIN);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(semctl(id, 0, GETNCNT, 0), 0, "who gave up is not counted");
    let waiter = std::thread::spawn(move || assert_eq!(call(i64::MAX, 999_999_999), 0));
    others_asleep();
    assert_eq!(semop(id, &mut [op(0, 1, 0)]), 0);
    waiter.join().unwrap();
    remove(id);
}

/// GETNCNT and GETZCNT count a thread at the one operation that holds it up.
pub fn counts() {
    let id = new_set(3);
    assert_eq!(semctl(id, 2, SETVAL, 1), 0);
    let one = std::thread::spawn(move || assert_eq!(semop(id, &mut [op(0, -1, 0), op(1, -1, 0)]), 0));
    let two = std::thread::spawn(move || assert_eq!(semop(id, &mut [op(1, 1, 0), op(2, 0, 0)]), 0));
    others_asleep();
    let of = |number| (semctl(id, number, GETNCNT, 0), semctl(id, number, GETZCNT, 0));
    assert_eq!([of(0), of(1), of(2)], [(1, 0), (0, 0), (0, 1)]);
    assert_eq!(semop(id, &mut [op(0, 1, 0)]), 0);
    assert_eq!([of(0), of(1), of(2)], [(0, 0), (1, 0), (0, 1)]);
    assert_eq!(semctl(id, 2, SETVAL, 0), 0);
    one.join().unwrap();
    two.join().unwrap();
    assert_eq!([value(id, 0), value(id, 1), value(id, 2)], [0, 0, 0]);
    remove(id);
}

/// The usual lock by two operations: wait for zero, then raise.
pub fn zero_then_raise() {
    let id = new_set(1);
    assert_eq!(semop(id, &mut [op(0, 0, 0), op(0, 1, 0)]), 0);
    expect_errno(semop(id, &mut [op(0, 0, IPC_NOWAIT), op(0, 1, 0)]), EAGAIN);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                assert_eq!(semop(id, &mut [op(0, 0, 0), op(0, 1, 0)]), 0);
                assert_eq!(value(id, 0), 1);
                assert_eq!(semop(id, &mut [op(0, -1, 0)]), 0);
            })
        })
        .collect();
    others_asleep();
    assert_eq!(semctl(id, 0, GETZCNT, 0), 3);
    assert_eq!(semop(id, &mut [op(0, -1, 0)]), 0);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(value(id, 0), 0);
    remove(id);
}

/// IPC_NOWAIT is an operation's own: one that waits for another fails when it comes to that.
pub fn no_wait_in_line() {
    let id = new_set(2);
    let thread = std::thread::spawn(move || {
        expect_errno(semop(id, &mut [op(0, -1, 0), op(1, -1, IPC_NOWAIT)]), EAGAIN);
    });
    others_asleep();
    assert_eq!(semop(id, &mut [op(0, 1, 0)]), 0);
    thread.join().unwrap();
    assert_eq!((value(id, 0), value(id, 1)), (1, 0));
    remove(id);
}

/// Who came first is served first, but one that asks for more holds up nobody.
pub fn order_of_arrival() {
    let id = new_set(1);
    let children: Vec<i32> = [3i16, 1, 2]
        .map(|units| {
            let pid = start(|| assert_eq!(semop(id, &mut [op(0, -units, 0)]), 0));
            until_asleep(pid);
            pid
        })
        .into();
    assert_eq!(semop(id, &mut [op(0, 1, 0)]), 0);
    ends_well(children[1]);
    assert_eq!(semop(id, &mut [op(0, 3, 0)]), 0);
    ends_well(children[0]);
    assert_eq!((value(id, 0), semctl(id, 0, GETNCNT, 0)), (0, 1));
    assert_eq!(semop(id, &mut [op(0, 2, 0)]), 0);
    ends_well(children[2]);
    remove(id);
}

pub fn undo_rules() {
    let id = new_set(2);
    assert_eq!(semctl(id, 0, SETVAL, 5), 0);
    let undo = |number, change| op(number, change, SEM_UNDO);
    // The sum is undone, whichever way it goes.
    child_succeeds(|| {
        assert_eq!(semop(id, &mut [undo(0, -3), undo(1, 7)]), 0);
        assert_eq!(semop(id, &mut [undo(0, 1), op(1, -1, 0)]), 0);
    });
    assert_eq!((value(id, 0), value(id, 1)), (5 - 2 + 2, 0), "no value below zero");
    // A value above the highest stays at it.
    child_succeeds(|| {
        assert_eq!(semop(id, &mut [undo(0, -5)]), 0);
        assert_eq!(semop(id, &mut [op(0, 32_767, 0)]), 0);
    });
    assert_eq!(value(id, 0), 32_767);
    // The adjustment itself has bounds: -32768 to 32767.
    child_succeeds(|| {
        assert_eq!(semop(id, &mut [undo(0, -32_767)]), 0);
        assert_eq!(semop(id, &mut [op(0, 1, 0)]), 0);
        expect_errno(semop(id, &mut [undo(0, -1)]), ERANGE);
        assert_eq!(value(id, 0), 1);
    });
    // Not inherited by fork, kept by exec and threads' ends are their own.
    assert_eq!(semctl(id, 0, SETVAL, 1), 0);
    child_succeeds(|| {
        assert_eq!(semop(id, &mut [undo(0, -1)]), 0);
        child_succeeds(|| {});
        assert_eq!(value(id, 0), 0);
        std::thread::spawn(|| {}).join().unwrap();
        assert_eq!(value(id, 0), 0);
    });
    assert_eq!(value(id, 0), 1);
    remove(id);
}

/// Threads made with CLONE_SYSVSEM (pthread_create's are) share their adjustments: the last one's end counts.
pub fn undo_sharing() {
    let id = new_set(1);
    assert_eq!(semctl(id, 0, SETVAL, 4), 0);
    let child = start(|| {
        std::thread::spawn(move || assert_eq!(semop(id, &mut [op(0, -3, SEM_UNDO)]), 0)).join().unwrap();
        assert_eq!(value(id, 0), 1);
        unsafe { pause() };
    });
    until_asleep(child);
    assert_eq!(value(id, 0), 1);
    unsafe {
        kill(child, SIGKILL);
        waitpid(child, std::ptr::null_mut(), 0);
    }
    assert_eq!(value(id, 0), 4);
    remove(id);
}

pub fn set_clears_undo() {
    let id = new_set(2);
    for command in [SETVAL, SETALL] {
        let values = [9u16, 9];
        let child = start(|| {
            assert_eq!(semop(id, &mut [op(0, 2, SEM_UNDO), op(1, 2, SEM_UNDO)]), 0);
            unsafe { pause() };
        });
        until_asleep(child);
        assert_eq!(semctl(id, 0, command, if command == SETVAL { 9 } else { values.as_ptr() as u64 }), 0);
        unsafe {
            kill(child, SIGKILL);
            waitpid(child, std::ptr::null_mut(), 0);
        }
        assert_eq!((value(id, 0), value(id, 1)), if command == SETVAL { (9, 0) } else { (9, 9) });
        assert_eq!(semctl(id, 0, SETALL, [0u16; 2].as_ptr() as u64), 0);
    }
    remove(id);
}

pub fn semctl_errors() {
    let id = new_set(2);
    for command in [GETVAL, GETPID, GETNCNT, GETZCNT] {
        expect_errno(semctl(id, 2, command, 0), EINVAL);
        expect_errno(semctl(id, -1, command, 0), EINVAL);
        expect_errno(semctl(-1, 0, command, 0), EINVAL);
    }
    expect_errno(semctl(id, 0, SETVAL, 32_768), ERANGE);
    expect_errno(semctl(id, 0, SETVAL, -1i64 as u64), ERANGE);
    // Its value is looked at first.
    expect_errno(semctl(12345, 9, SETVAL, 32_768), ERANGE);
    expect_errno(semctl(id, 2, SETVAL, 32_767), EINVAL);
    let values = [1u16, 32_768];
    expect_errno(semctl(id, 0, SETALL, values.as_ptr() as u64), ERANGE);
    assert_eq!((value(id, 0), value(id, 1)), (0, 0));
    for command in [SETALL, GETALL, IPC_STAT, IPC_SET, SEM_INFO, IPC_INFO] {
        expect_errno(semctl(id, 0, command, 8), EFAULT);
    }
    expect_errno(semctl(12345, 0, IPC_SET, 8), EFAULT);
    expect_errno(semctl(12345, 0, IPC_STAT, 8), EINVAL);
    expect_errno(semctl(id, 0, 77, 0), EINVAL);
    expect_errno(semctl(id, 0, -1, 0), EINVAL);
    remove(id);
    let waiting = new_set(1);
    let thread = std::thread::spawn(move || expect_errno(semop(waiting, &mut [op(0, -1, 0)]), EIDRM));
    others_asleep();
    remove(waiting);
    thread.join().unwrap();
    expect_errno(semop(waiting, &mut [op(0, -1, 0)]), EINVAL);
}

pub fn semctl_info() {
    let id = new_set(7);
    let mut info = [0i32; 10];
    let highest = semctl(0, 0, IPC_INFO, info.as_mut_ptr() as u64);
    assert!(highest >= 0);
    // semmni, semmns, semmsl, semopm, semusz, semvmx, semaem
    assert_eq!(
        [info[1], info[2], info[4], info[5], info[7], info[8], info[9]],
        [32_000, 1_024_000_000, 32_000, 500, 20, 32_767, 32_767]
    );
    let mut usage = [0i32; 10];
    assert_eq!(semctl(0, 0, SEM_INFO, usage.as_mut_ptr() as u64), highest);
    assert!(usage[7] >= 1 && usage[9] >= 7, "{usage:?}");
    for command in [SEM_STAT, SEM_STAT_ANY] {
        let mut state = [0u64; 16];
        let at = state.as_mut_ptr() as u64;
        let found = (0..=highest as i32).find(|index| semctl(*index, 0, command, at) == i64::from(id));
        assert!(found.is_some());
        assert_eq!(state[8], 7);
        expect_errno(semctl(30_000, 0, command, at), EINVAL);
    }
    child_succeeds(|| {
        unprivileged();
        let mut state = [0u64; 16];
        expect_errno(semctl(id & 0x7fff, 0, SEM_STAT, state.as_mut_ptr() as u64), EACCES);
        assert_eq!(semctl(id & 0x7fff, 0, SEM_STAT_ANY, state.as_mut_ptr() as u64), i64::from(id));
    });
    let text = std::fs::read_to_string("/proc/sysvipc/sem").unwrap();
    let row = text.lines().find(|line| line.split_whitespace().nth(1) == Some(&id.to_string())).unwrap();
    assert_eq!(row.split_whitespace().nth(3), Some("7"));
    remove(id);
}

/// sempid is of the last operation, whatever it was; sem_otime of the last semop, SETVAL sets sem_ctime only.
pub fn pids_and_times() {
    let id = new_set(2);
    let times = || {
        let mut state = [0u64; 16];
        assert_eq!(semctl(id, 0, IPC_STAT, state.as_mut_ptr() as u64), 0);
        (state[6], state[7])
    };
    let own = i64::from(std::process::id());
    assert_eq!((semctl(id, 0, GETPID, 0), times().0), (0, 0));
    assert!(times().1 > 0);
    assert_eq!(semctl(id, 0, SETVAL, 1), 0);
    assert_eq!((semctl(id, 0, GETPID, 0), semctl(id, 1, GETPID, 0), times().0), (own, 0, 0));
    assert_eq!(semop(id, &mut [op(1, 0, 0)]), 0);
    assert_eq!(semctl(id, 1, GETPID, 0), own);
    assert!(times().0 > 0);
    // An undo counts as the ending process's.
    let child = start(|| assert_eq!(semop(id, &mut [op(0, -1, SEM_UNDO)]), 0));
    ends_well(child);
    assert_eq!((semctl(id, 0, GETPID, 0), value(id, 0)), (i64::from(child), 1));
    // By hand-over the pid is the waiter's.
    let waiter = start(|| assert_eq!(semop(id, &mut [op(1, -1, 0)]), 0));
    until_asleep(waiter);
    assert_eq!(semop(id, &mut [op(1, 1, 0)]), 0);
    ends_well(waiter);
    assert_eq!(semctl(id, 1, GETPID, 0), i64::from(waiter));
    remove(id);
}

pub fn limits_in_proc() {
    let path = "/proc/sys/kernel/sem";
    let old = std::fs::read_to_string(path).unwrap();
    let try_get = |limits: &str, count: i32| {
        std::fs::write(path, limits).unwrap();
        let id = unsafe { semget(IPC_PRIVATE, count, 0o600) };
        let error = if id < 0 { errno() } else { 0 };
        std::fs::write(path, &old).unwrap();
        if id >= 0 {
            remove(id);
        }
        error
    };
    assert_eq!(try_get("4 1024 500 100", 5), EINVAL);
    assert_eq!(try_get("4 1024 500 100", 4), 0);
    assert_eq!(try_get("400 3 500 100", 4), ENOSPC);
    assert_eq!(try_get("400 1024 500 0", 4), ENOSPC);
    let id = new_set(1);
    std::fs::write(path, "400 1024 2 100").unwrap();
    let (two, three) = (semop(id, &mut [op(0, 1, 0); 2]), semop(id, &mut [op(0, 1, 0); 3]));
    let error = errno();
    std::fs::write(path, &old).unwrap();
    assert_eq!((two, three, error), (0, -1, E2BIG));
    remove(id);
}
