//! Round trips: one byte (or one wake) to the other process or thread and one back.

use crate::{Item, Meter, check, with_child};
use std::io;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

pub const ITEMS: &[(&str, Item)] = &[
    ("pipe_round_trip", pipe),
    ("unix_stream_round_trip", unix_stream),
    ("eventfd_round_trip", eventfd),
    ("sysv_msg_round_trip", sysv_msg),
    ("sysv_sem_round_trip", sysv_sem),
    ("posix_mq_round_trip", posix_mq),
    ("futex_round_trip_threads", futex_threads),
    ("futex_round_trip_processes", futex_processes),
];

fn put(fd: i32) -> io::Result<()> {
    check(unsafe { libc::write(fd, [1u8; 8].as_ptr().cast(), 1) } as i64).map(drop)
}

fn take(fd: i32) -> io::Result<()> {
    let mut byte = 0u8;
    check(unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } as i64).map(drop)
}

/// Both sides of an exchange: `there` sends to the peer, which answers.
fn exchange(
    meter: &mut Meter,
    send: impl Fn(usize) -> io::Result<()>,
    receive: impl Fn(usize) -> io::Result<()>,
) -> io::Result<()> {
    let peer = || {
        loop {
            receive(0)?;
            send(1)?;
        }
    };
    with_child(peer, || {
        meter.measure(300, || {
            send(0)?;
            receive(1)
        })
    })
}

fn pipe(meter: &mut Meter) -> io::Result<()> {
    let mut pipes = [[0; 2]; 2];
    for pipe in &mut pipes {
        check(unsafe { libc::pipe(pipe.as_mut_ptr()) })?;
    }
    exchange(meter, |way| put(pipes[way][1]), |way| take(pipes[way][0]))
}

fn unix_stream(meter: &mut Meter) -> io::Result<()> {
    let mut ends = [0; 2];
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) })?;
    exchange(meter, |way| put(ends[way]), |way| take(ends[1 - way]))
}

fn eventfd(meter: &mut Meter) -> io::Result<()> {
    let events = [check(unsafe { libc::eventfd(0, 0) })?, check(unsafe { libc::eventfd(0, 0) })?];
    let send = |way: usize| check(unsafe { libc::write(events[way], (&raw const ONE).cast(), 8) } as i64).map(drop);
    let receive = |way: usize| {
        let mut count = 0u64;
        check(unsafe { libc::read(events[way], (&raw mut count).cast(), 8) } as i64).map(drop)
    };
    exchange(meter, send, receive)
}

static ONE: u64 = 1;

#[repr(C)]
struct Message {
    kind: i64,
    text: [u8; 8],
}

fn sysv_msg(meter: &mut Meter) -> io::Result<()> {
    let queue = check(unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) })?;
    let send = |way: usize| {
        let message = Message { kind: way as i64 + 1, text: [0; 8] };
        check(unsafe { libc::msgsnd(queue, (&raw const message).cast(), 1, 0) }).map(drop)
    };
    let receive = |way: usize| {
        let mut message = Message { kind: 0, text: [0; 8] };
        check(unsafe { libc::msgrcv(queue, (&raw mut message).cast(), 8, way as i64 + 1, 0) } as i64).map(drop)
    };
    let result = exchange(meter, send, receive);
    unsafe { libc::msgctl(queue, libc::IPC_RMID, null_mut()) };
    result
}

fn sysv_sem(meter: &mut Meter) -> io::Result<()> {
    let set = check(unsafe { libc::semget(libc::IPC_PRIVATE, 2, 0o600) })?;
    let change = |way: usize, by: i16| {
        let mut op = libc::sembuf { sem_num: way as u16, sem_op: by, sem_flg: 0 };
        check(unsafe { libc::semop(set, &mut op, 1) }).map(drop)
    };
    let result = exchange(meter, |way| change(way, 1), |way| change(way, -1));
    unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
    result
}

fn posix_mq(meter: &mut Meter) -> io::Result<()> {
    let mut attributes: libc::mq_attr = unsafe { zeroed() };
    (attributes.mq_maxmsg, attributes.mq_msgsize) = (8, 16);
    let mut queues = [0; 2];
    for (queue, name) in queues.iter_mut().zip([c"/bench-0", c"/bench-1"]) {
        let flags = libc::O_CREAT | libc::O_RDWR;
        *queue = check(unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, &raw mut attributes) })?;
        unsafe { libc::mq_unlink(name.as_ptr()) };
    }
    let send = |way: usize| check(unsafe { libc::mq_send(queues[way], c"x".as_ptr(), 1, 0) }).map(drop);
    let receive = |way: usize| {
        let mut text = [0u8; 16];
        check(unsafe { libc::mq_receive(queues[way], text.as_mut_ptr().cast(), 16, null_mut()) } as i64).map(drop)
    };
    exchange(meter, send, receive)
}

/// Whose turn it is is in the word; the other sleeps on it.
fn pass(word: &AtomicU32, private: i32, own: u32) {
    let other = 1 - own;
    word.store(other, Ordering::Release);
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | private, 1) };
    while word.load(Ordering::Acquire) == other {
        let forever = null::<libc::timespec>();
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT | private, other, forever) };
    }
}

fn futex_threads(meter: &mut Meter) -> io::Result<()> {
    static WORD: AtomicU32 = AtomicU32::new(0);
    std::thread::spawn(|| {
        while WORD.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        loop {
            pass(&WORD, libc::FUTEX_PRIVATE_FLAG, 1);
        }
    });
    meter.measure(300, || {
        pass(&WORD, libc::FUTEX_PRIVATE_FLAG, 0);
        Ok(())
    })
}

fn futex_processes(meter: &mut Meter) -> io::Result<()> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let page = unsafe { libc::mmap(null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A fresh page is zero, and stays for the life of the process.
    let word: &AtomicU32 = unsafe { &*page.cast() };
    let peer = || {
        while word.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        loop {
            pass(word, 0, 1);
        }
    };
    with_child(peer, || {
        meter.measure(300, || {
            pass(word, 0, 0);
            Ok(())
        })
    })
}
