//! Wakes that must not be lost, and cancellations that race with them.

use super::*;
use libc::*;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

extern "C" fn ignore(_signal: i32) {}

fn handle_usr1() {
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        libc::sigaction(SIGUSR1, &action, null_mut());
    }
}

/// Sends SIGUSR1 to the threads again and again until all have ended.
fn pester(threads: Vec<JoinHandle<()>>) {
    use std::os::unix::thread::JoinHandleExt;
    while !threads.iter().all(JoinHandle::is_finished) {
        for thread in threads.iter().filter(|thread| !thread.is_finished()) {
            unsafe { pthread_kill(thread.as_pthread_t(), SIGUSR1) };
        }
        pause_us(200);
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn timed_semop(id: i32, op: &mut sembuf, us: i64) -> i64 {
    let time = timespec { tv_sec: 0, tv_nsec: us * 1000 };
    unsafe { syscall(SYS_semtimedop, id, op, 1usize, &time) }
}

/// Two semaphores as a channel: takers and givers with time-outs and signals. Each unit is somewhere in the end.
pub fn semaphore_storm() {
    handle_usr1();
    let id = new_semaphores(&[5, 0]);
    let steps = rounds() * 30;
    let threads = (0..6u32)
        .map(|number| {
            std::thread::spawn(move || {
                let mut random = Random::new(u64::from(number) + 3);
                for _ in 0..steps {
                    let (from, to) = if random.below(2) == 0 { (0, 1) } else { (1, 0) };
                    let mut take = sembuf { sem_num: from, sem_op: -1, sem_flg: 0 };
                    if timed_semop(id, &mut take, random.below(400) as i64) == 0 {
                        let mut give = sembuf { sem_num: to, sem_op: 1, sem_flg: 0 };
                        assert_eq!(unsafe { semop(id, &mut give, 1) }, 0);
                    } else {
                        assert!([EAGAIN, EINTR].contains(&errno()), "errno {}", errno());
                    }
                }
            })
        })
        .collect();
    pester(threads);
    assert_eq!(semaphore(id, 0) + semaphore(id, 1), 5);
    unsafe { semctl(id, 0, IPC_RMID) };
}

/// A small queue, receivers by type, senders that block, signals: what was sent is received, each once.
pub fn message_storm() {
    handle_usr1();
    let id = unsafe { msgget(IPC_PRIVATE, 0o600) };
    let mut info: msqid_ds = unsafe { std::mem::zeroed() };
    unsafe {
        assert_eq!(msgctl(id, IPC_STAT, &mut info), 0);
        info.msg_qbytes = 64;
        assert_eq!(msgctl(id, IPC_SET, &mut info), 0);
    }
    let count = u64::from(rounds()) * 20;
    let sums = Arc::new([const { AtomicU64::new(0) }; 2]);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for kind in 1..=3i64 {
        threads.push(std::thread::spawn(move || {
            for number in 1..=count {
                let text = [kind as u64, number];
                while unsafe { msgsnd(id, text.as_ptr().cast(), 8, 0) } != 0 {
                    assert_eq!(errno(), EINTR);
                }
            }
        }));
        let sums = sums.clone();
        threads.push(std::thread::spawn(move || {
            for number in 1..=count {
                let mut text = [0u64; 2];
                while unsafe { msgrcv(id, text.as_mut_ptr().cast(), 8, kind, 0) } != 8 {
                    assert_eq!(errno(), EINTR);
                }
                assert_eq!(text, [kind as u64, number], "in order, none lost");
                sums[0].fetch_add(1, SeqCst);
            }
        }));
    }
    pester(threads);
    assert_eq!(sums[0].load(SeqCst), 3 * count);
    unsafe { msgctl(id, IPC_RMID, null_mut()) };
}

/// Several threads on one epoll, edge-triggered and one-shot eventfds: every count written is read.
pub fn epoll_storm() {
    handle_usr1();
    let steps = u64::from(rounds()) * 40;
    let poll = unsafe { epoll_create1(0) };
    let events: Vec<i32> = (0..4).map(|_| unsafe { eventfd(0, EFD_NONBLOCK) }).collect();
    for (index, fd) in events.iter().enumerate() {
        let flags = EPOLLIN | if index % 2 == 0 { EPOLLET } else { EPOLLONESHOT };
        let mut event = epoll_event { events: flags as u32, u64: index as u64 };
        assert_eq!(unsafe { epoll_ctl(poll, EPOLL_CTL_ADD, *fd, &mut event) }, 0);
    }
    let total = Arc::new(AtomicU64::new(0));
    let goal = steps * 4;
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for _ in 0..3 {
        let (total, events) = (total.clone(), events.clone());
        threads.push(std::thread::spawn(move || {
            while total.load(SeqCst) < goal {
                let mut ready: [epoll_event; 4] = unsafe { std::mem::zeroed() };
                let count = unsafe { epoll_wait(poll, ready.as_mut_ptr(), 4, 1000) };
                assert!(count > 0 || total.load(SeqCst) >= goal || count < 0 && errno() == EINTR, "a lost wake");
                for event in &ready[..count.max(0) as usize] {
                    let index = event.u64 as usize;
                    let mut value = 0u64;
                    if unsafe { read(events[index], (&raw mut value).cast(), 8) } == 8 {
                        total.fetch_add(value, SeqCst);
                    }
                    if index % 2 == 1 {
                        let mut again = epoll_event { events: (EPOLLIN | EPOLLONESHOT) as u32, u64: index as u64 };
                        unsafe { epoll_ctl(poll, EPOLL_CTL_MOD, events[index], &mut again) };
                    }
                }
            }
        }));
    }
    for fd in events {
        threads.push(std::thread::spawn(move || {
            for step in 0..steps {
                assert_eq!(unsafe { write(fd, 1u64.to_ne_bytes().as_ptr().cast(), 8) }, 8);
                if step % 8 == 0 {
                    std::thread::yield_now();
                }
            }
        }));
    }
    pester(threads);
    assert_eq!(total.load(SeqCst), goal);
}

/// Real-time signals queue: every one sent is taken, in order, with its value.
pub fn queued_signals() {
    let count = rounds() as i32 * 20;
    unsafe {
        let signal = SIGRTMIN() + 1;
        let mut set: sigset_t = std::mem::zeroed();
        sigaddset(&mut set, signal);
        sigprocmask(SIG_BLOCK, &set, null_mut());
        let parent = getpid();
        let child = fork();
        if child == 0 {
            for number in 0..count {
                let value = sigval { sival_ptr: number as usize as *mut c_void };
                while sigqueue(parent, signal, value) != 0 {
                    assert_eq!(errno(), EAGAIN);
                    sched_yield();
                }
            }
            _exit(0);
        }
        for number in 0..count {
            let mut info: siginfo_t = std::mem::zeroed();
            assert_eq!(sigwaitinfo(&set, &mut info), signal);
            assert_eq!((info.si_value().sival_ptr as i32, info.si_pid()), (number, child));
        }
        let mut status = 0;
        waitpid(child, &mut status, 0);
        assert_eq!(status, 0);
    }
}

static CAUGHT: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

extern "C" fn count(signal: i32) {
    CAUGHT[usize::from(signal == SIGUSR2)].fetch_add(1, SeqCst);
}

/// Threads that send signals to each other while they block and unblock them, fork, and exit.
pub fn signal_storm() {
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as usize;
        action.sa_flags = SA_RESTART;
        libc::sigaction(SIGUSR1, &action, null_mut());
        libc::sigaction(SIGUSR2, &action, null_mut());
    }
    let own = std::process::id() as i32;
    let steps = rounds() * 20;
    let threads: Vec<_> = (0..4u32)
        .map(|number| {
            std::thread::spawn(move || {
                let mut random = Random::new(u64::from(number) + 41);
                for _ in 0..steps {
                    unsafe {
                        let mut set: sigset_t = std::mem::zeroed();
                        sigaddset(&mut set, SIGUSR1);
                        match random.below(5) {
                            0 => drop(kill(own, SIGUSR1)),
                            1 => drop(syscall(SYS_tgkill, own, gettid(), SIGUSR2)),
                            2 => {
                                pthread_sigmask(SIG_BLOCK, &set, null_mut());
                                kill(own, SIGUSR1);
                                pthread_sigmask(SIG_UNBLOCK, &set, null_mut());
                            }
                            3 => pause_us(50),
                            _ => {
                                let pid = fork();
                                if pid == 0 {
                                    kill(getppid(), SIGUSR2);
                                    _exit(3);
                                }
                                let mut status = 0;
                                assert_eq!(waitpid(pid, &mut status, 0), pid);
                                assert_eq!(WEXITSTATUS(status), 3);
                            }
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(CAUGHT.iter().all(|caught| caught.load(SeqCst) > 0));
}

/// A condition variable by hand, broadcast by requeueing: waiters with time-outs, signals; all come through.
pub fn requeue_storm() {
    handle_usr1();
    let steps = rounds() * 20;
    let words = Arc::new([const { AtomicU32::new(0) }; 2]);
    let futex = |word: &AtomicU32, op: i32, value: u32, timeout: usize, other: usize, expected: u32| unsafe {
        syscall(SYS_futex, word.as_ptr(), op, value, timeout, other, expected)
    };
    let waiters: Vec<JoinHandle<()>> = (0..4)
        .map(|number| {
            let words = words.clone();
            std::thread::spawn(move || {
                let mut random = Random::new(number + 59);
                for _ in 0..steps {
                    let value = words[0].load(SeqCst);
                    let time = timespec { tv_sec: 0, tv_nsec: 1000 * random.below(800) as i64 };
                    if futex(&words[0], 0, value, &raw const time as usize, 0, 0) != 0 {
                        assert!([ETIMEDOUT, EINTR, EAGAIN].contains(&errno()));
                    }
                }
            })
        })
        .collect();
    let done = Arc::new(AtomicU32::new(0));
    let (all, ended) = (words.clone(), done.clone());
    let mover = std::thread::spawn(move || {
        while ended.load(SeqCst) == 0 {
            let value = all[0].fetch_add(1, SeqCst) + 1;
            let target = all[1].as_ptr() as usize;
            if futex(&all[0], 4, 1, i32::MAX as usize, target, value) < 0 {
                assert_eq!(errno(), EAGAIN);
            }
            // Those who were moved are woken where they are now.
            futex(&all[1], 1, i32::MAX as u32, 0, 0, 0);
            std::thread::yield_now();
        }
    });
    pester(waiters);
    done.store(1, SeqCst);
    mover.join().unwrap();
    assert_eq!(futex(&words[0], 1, i32::MAX as u32, 0, 0, 0), 0, "a waiter that is gone is still in line");
    assert_eq!(futex(&words[1], 1, i32::MAX as u32, 0, 0, 0), 0, "a waiter that is gone is still in line");
}

/// A ring of processes that pass a byte on, some through poll: it never stops.
pub fn pipe_relay() {
    const PROCESSES: usize = 6;
    let ends: Vec<[i32; 2]> = (0..PROCESSES)
        .map(|_| {
            let mut ends = [0; 2];
            assert_eq!(unsafe { pipe(ends.as_mut_ptr()) }, 0);
            ends
        })
        .collect();
    let laps = rounds() * 10;
    let relay = |at: usize, laps: u32| unsafe {
        let (from, to) = (ends[at][0], ends[(at + 1) % PROCESSES][1]);
        for _ in 0..laps {
            if at.is_multiple_of(2) {
                let mut entry = pollfd { fd: from, events: POLLIN, revents: 0 };
                assert_eq!(poll(&mut entry, 1, 10_000), 1, "a lost wake");
            }
            let mut byte = 0u8;
            assert_eq!(read(from, (&raw mut byte).cast(), 1), 1);
            assert_eq!(write(to, (&raw const byte).cast(), 1), 1);
        }
    };
    let children: Vec<i32> = (1..PROCESSES)
        .map(|at| unsafe {
            let pid = fork();
            if pid == 0 {
                relay(at, laps);
                _exit(0);
            }
            pid
        })
        .collect();
    unsafe { write(ends[0][1], b"x".as_ptr().cast(), 1) };
    relay(0, laps);
    for pid in children {
        let mut status = 0;
        assert_eq!(unsafe { waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
    }
}
