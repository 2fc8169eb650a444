//! Processes, threads, signals and timers.

use super::{Entry, RESULT, call, each, mean, moved, sleep_ms};
use crate::{check, now_ns};
use std::io;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;

pub const ITEMS: &[Entry] = &[
    ("thread_among_threads", thread_among_threads, 3000),
    ("getppid_among_threads", getppid_among_threads, 1000),
    ("pipe_rt_among_threads", pipe_rt_among_threads, 3000),
    ("fork_among_children", fork_among_children, 10_000),
    ("kill_one_among", kill_one_among, 3000),
    ("kill_group_each", kill_group_each, 3000),
    ("wait_one_among", wait_one_among, 3000),
    ("wait_any_among", wait_any_among, 3000),
    ("yield_among_runnable", yield_among_runnable, 300),
    ("close_range_each", close_range_each, 30_000),
    ("sigqueue_each", sigqueue_each, 10_000),
    ("timer_among_timers", timer_among_timers, 10_000),
    ("timerfd_among", timerfd_among, 10_000),
    ("proc_stat_read", proc_stat_read, 3000),
    ("proc_readdir_each", proc_readdir_each, 1000),
];

/// fork, _exit and waitpid.
pub fn fork_and_wait() -> io::Result<()> {
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        unsafe { libc::_exit(0) };
    }
    check(unsafe { libc::waitpid(child, null_mut(), 0) }).map(drop)
}

extern "C" fn pause_for_ever(argument: *mut libc::c_void) -> *mut libc::c_void {
    unsafe { libc::pause() };
    argument
}

extern "C" fn do_nothing(argument: *mut libc::c_void) -> *mut libc::c_void {
    argument
}

/// A thread; with a small stack unless `stack` is 0.
pub fn spawn(
    body: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    argument: *mut libc::c_void,
    stack: usize,
) -> io::Result<libc::pthread_t> {
    unsafe {
        let mut thread = 0;
        let mut attributes: libc::pthread_attr_t = zeroed();
        libc::pthread_attr_init(&mut attributes);
        if stack != 0 {
            libc::pthread_attr_setstacksize(&mut attributes, stack);
        }
        match libc::pthread_create(&mut thread, &attributes, body, argument) {
            0 => Ok(thread),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

pub const SMALL_STACK: usize = 128 << 10;

fn sleeping_threads(count: usize) -> io::Result<()> {
    (0..count).try_for_each(|_| spawn(pause_for_ever, null_mut(), SMALL_STACK).map(drop))?;
    for _ in 0..200 {
        unsafe { libc::sched_yield() };
    }
    sleep_ms(100);
    Ok(())
}

fn thread_among_threads(count: usize) -> io::Result<u64> {
    sleeping_threads(count)?;
    mean(|_| {
        let thread = spawn(do_nothing, null_mut(), 0)?;
        unsafe { libc::pthread_join(thread, null_mut()) };
        Ok(())
    })
}

fn getppid_among_threads(count: usize) -> io::Result<u64> {
    sleeping_threads(count)?;
    mean(|_| call!(libc::SYS_getppid).map(drop))
}

/// Two processes, `count` sleeping threads in one of them.
fn pipe_rt_among_threads(count: usize) -> io::Result<u64> {
    let (mut there, mut back) = ([0; 2], [0; 2]);
    check(unsafe { libc::pipe(there.as_mut_ptr()) })?;
    check(unsafe { libc::pipe(back.as_mut_ptr()) })?;
    let mut byte = 0u8;
    let at = (&raw mut byte).cast::<libc::c_void>();
    if check(unsafe { libc::fork() })? == 0 {
        unsafe {
            while libc::read(there[0], at, 1) == 1 && libc::write(back[1], at, 1) == 1 {}
            libc::_exit(0);
        }
    }
    unsafe {
        libc::close(there[0]);
        libc::close(back[1]);
    }
    sleeping_threads(count)?;
    let round = || {
        moved(unsafe { libc::write(there[1], at, 1) })?;
        moved(unsafe { libc::read(back[0], at, 1) }).map(drop)
    };
    (0..4).try_for_each(|_| round())?;
    mean(|_| round())
}

fn sleeping_children(count: usize) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for _ in 0..count {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            unsafe {
                libc::pause();
                libc::_exit(0);
            }
        }
        children.push(child);
    }
    sleep_ms(200);
    Ok(children)
}

fn fork_among_children(count: usize) -> io::Result<u64> {
    sleeping_children(count)?;
    mean(|_| fork_and_wait())
}

fn kill_one_among(count: usize) -> io::Result<u64> {
    let children = sleeping_children(count)?;
    mean(|_| check(unsafe { libc::kill(children[count / 2], 0) }).map(drop))
}

fn kill_group_each(count: usize) -> io::Result<u64> {
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    sleeping_children(count)?;
    each(count, || check(unsafe { libc::kill(0, libc::SIGUSR1) }).map(drop))
}

/// waitpid of the newest of the children that died, for each.
fn wait_one_among(count: usize) -> io::Result<u64> {
    let mut children = Vec::new();
    for _ in 0..count {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            unsafe { libc::_exit(0) };
        }
        children.push(child);
    }
    sleep_ms(300);
    each(count, || {
        children.iter().rev().try_for_each(|child| check(unsafe { libc::waitpid(*child, null_mut(), 0) }).map(drop))
    })
}

/// wait for any child, of which one dies and the others sleep.
fn wait_any_among(count: usize) -> io::Result<u64> {
    sleeping_children(count)?;
    let mut cost = 0;
    for _ in 0..super::TIMES {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            unsafe { libc::_exit(0) };
        }
        sleep_ms(10);
        let start = now_ns();
        check(unsafe { libc::waitpid(-1, null_mut(), 0) })?;
        cost += now_ns() - start;
    }
    Ok(cost / super::TIMES)
}

/// For each of the threads that yield.
fn yield_among_runnable(count: usize) -> io::Result<u64> {
    let mut children = Vec::new();
    for _ in 0..count {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            loop {
                unsafe { libc::sched_yield() };
            }
        }
        children.push(child);
    }
    let start = now_ns();
    for _ in 0..4 {
        unsafe { libc::sched_yield() };
    }
    let cost = (now_ns() - start) / 4 / (count as u64 + 1);
    for child in children {
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    Ok(cost)
}

fn close_range_each(count: usize) -> io::Result<u64> {
    (0..count).try_for_each(|_| check(unsafe { libc::eventfd(0, 0) }).map(drop))?;
    each(count, || call!(libc::SYS_close_range, RESULT.load(Ordering::Relaxed) + 1, u32::MAX, 0).map(drop))
}

fn sigqueue_each(count: usize) -> io::Result<u64> {
    unsafe {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        libc::setrlimit(libc::RLIMIT_SIGPENDING, &limit);
        let mut set: libc::sigset_t = zeroed();
        let signal = libc::SIGRTMIN();
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
        let (own, value) = (libc::getpid(), libc::sigval { sival_ptr: null_mut() });
        let mut info: libc::siginfo_t = zeroed();
        each(count, || {
            (0..count).try_for_each(|_| check(libc::sigqueue(own, signal, value)).map(drop))?;
            (0..count).try_for_each(|_| check(libc::sigwaitinfo(&set, &mut info)).map(drop))
        })
    }
}

fn after(seconds: i64) -> libc::itimerspec {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    libc::itimerspec { it_interval: zero, it_value: libc::timespec { tv_sec: seconds, tv_nsec: 0 } }
}

fn timer_among_timers(count: usize) -> io::Result<u64> {
    let mut timer: libc::timer_t = null_mut();
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_NONE;
    for number in 0..count {
        check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) })?;
        check(unsafe { libc::timer_settime(timer, 0, &after(1000 + number as i64), null_mut()) })?;
    }
    mean(|time| check(unsafe { libc::timer_settime(timer, 0, &after(500 + time as i64), null_mut()) }).map(drop))
}

fn timerfd_among(count: usize) -> io::Result<u64> {
    let mut timer = 0;
    for number in 0..count {
        timer = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?;
        check(unsafe { libc::timerfd_settime(timer, 0, &after(1000 + number as i64), null_mut()) })?;
    }
    mean(|time| check(unsafe { libc::timerfd_settime(timer, 0, &after(500 + time as i64), null_mut()) }).map(drop))
}

fn proc_stat_read(count: usize) -> io::Result<u64> {
    let children = sleeping_children(count)?;
    let path = format!("/proc/{}/stat\0", children[count / 2]);
    let mut room = [0u8; 512];
    mean(|_| {
        let fd = check(unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY) })?;
        moved(unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) })?;
        check(unsafe { libc::close(fd) }).map(drop)
    })
}

fn proc_readdir_each(count: usize) -> io::Result<u64> {
    sleeping_children(count)?;
    super::files::read_directory(c"/proc", 1)
}

/// A futex call with a private word.
pub fn futex(word: *const u32, operation: i32, value: u32) -> io::Result<i64> {
    call!(
        libc::SYS_futex,
        word,
        operation | libc::FUTEX_PRIVATE_FLAG,
        value,
        null::<libc::timespec>(),
        null::<u32>(),
        0
    )
}
