//! Pipes.

use super::support::{child, errno_of, ok, reap, sleep_ms};
use super::{catch, close, pipe_with, poll_one, read, write};
use libc::{EAGAIN, EBUSY, EFAULT, EINTR, EINVAL, EPIPE, O_NONBLOCK};

pub fn basic() {
    let (r, w) = pipe_with(0);
    assert_eq!(write(w, b"hello world"), 11);
    assert_eq!(read(r, 5), Ok(b"hello".to_vec()));
    assert_eq!(read(r, 100), Ok(b" world".to_vec()));
    let pid = child(|| {
        sleep_ms(30);
        write(w, b"late");
    });
    assert_eq!(read(r, 100), Ok(b"late".to_vec()));
    reap(pid);
    close(w);
    assert_eq!(read(r, 100), Ok(vec![]));
    assert_eq!(errno_of(unsafe { libc::pipe2([0; 2].as_mut_ptr(), libc::O_APPEND) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::pipe2(8 as *mut i32, 0) }), EFAULT);
}

fn fill(w: i32, chunk: usize) -> usize {
    let bytes = vec![b'x'; chunk];
    let mut total = 0;
    loop {
        let n = write(w, &bytes);
        if n < 0 {
            return total;
        }
        total += n as usize;
    }
}

pub fn capacity() {
    for (chunk, expected) in [(1, 65536), (4096, 65536), (65536, 65536), (100_000, 65536), (3000, 16 * 3000)] {
        let (r, w) = pipe_with(O_NONBLOCK);
        assert_eq!(fill(w, chunk), expected, "writes of {chunk}");
        assert_eq!(poll_one(w, libc::POLLOUT, 0), 0);
        // Room for less than a page does not make it writable.
        assert_eq!(read(r, 100).map(|b| b.len()), Ok(100));
        assert_eq!(errno_of(write(w, &[0; 4096]) as i64), EAGAIN);
        assert_eq!(poll_one(w, libc::POLLOUT, 0), 0);
        assert_eq!(read(r, 4096 - 100).map(|b| b.len()), Ok(4096 - 100));
        if chunk != 3000 {
            assert_eq!(write(w, &[0; 4096]), 4096);
        }
    }
}

pub fn resize() {
    let (r, w) = pipe_with(O_NONBLOCK);
    let set = |n: i32| unsafe { libc::fcntl(w, libc::F_SETPIPE_SZ, n) };
    assert_eq!(unsafe { libc::fcntl(r, libc::F_GETPIPE_SZ) }, 65536);
    assert_eq!(set(1), 4096);
    assert_eq!(fill(w, 1), 4096);
    assert_eq!(set(5000), 8192);
    assert_eq!(fill(w, 4096), 4096);
    assert_eq!(errno_of(set(4096)), EBUSY);
    assert_eq!(set(1 << 20), 1 << 20);
    assert_eq!(errno_of(set(-1)), EINVAL);
    assert_eq!(read(r, 9000).map(|b| b.len()), Ok(8192));
    assert_eq!(set(0), 4096);
}

pub fn packets() {
    let (r, w) = pipe_with(libc::O_DIRECT | O_NONBLOCK);
    write(w, b"first");
    write(w, b"second");
    assert_eq!(read(r, 100), Ok(b"first".to_vec()));
    assert_eq!(read(r, 3), Ok(b"sec".to_vec()));
    assert_eq!(read(r, 3), Err(EAGAIN)); // the rest of the packet is gone
    assert_eq!(write(w, &[1; 5000]), 5000); // two packets
    assert_eq!(read(r, 9000).map(|b| b.len()), Ok(4096));
    assert_eq!(read(r, 9000).map(|b| b.len()), Ok(904));
}

pub fn broken() {
    let (r, w) = pipe_with(0);
    close(r);
    let status = reap(child(|| {
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        write(w, b"x");
    }));
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPIPE);
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    assert_eq!(errno_of(write(w, b"x") as i64), EPIPE);
    assert_eq!(write(w, b""), 0);
    assert_eq!(poll_one(w, libc::POLLOUT, 0), libc::POLLOUT | libc::POLLERR);
}

/// Writers of PIPE_BUF bytes never mix.
pub fn atomic() {
    let (r, w) = pipe_with(0);
    let writers: Vec<_> = (0..4u8)
        .map(|id| {
            child(move || {
                for round in 0..50usize {
                    let bytes = vec![b'a' + id; 1000 + round * 50];
                    assert_eq!(write(w, &bytes), bytes.len() as isize);
                }
            })
        })
        .collect();
    close(w);
    let mut all = Vec::new();
    loop {
        let bytes = read(r, 7777).unwrap();
        if bytes.is_empty() {
            break;
        }
        all.extend(bytes);
    }
    assert_eq!(all.len(), 4 * (0..50).map(|round| 1000 + round * 50).sum::<usize>());
    // Each writer's rounds come in order and unbroken.
    let mut rounds = [0usize; 4];
    let mut at = 0;
    while at < all.len() {
        let id = usize::from(all[at] - b'a');
        let len = 1000 + rounds[id] * 50;
        assert!(all[at..at + len].iter().all(|&b| b == all[at]), "mixed at {at}");
        rounds[id] += 1;
        at += len;
    }
    for pid in writers {
        assert_eq!(reap(pid), 0);
    }
}

/// Nothing is lost when the buffer is bad.
pub fn fault() {
    let (r, w) = pipe_with(O_NONBLOCK);
    assert_eq!(errno_of(unsafe { libc::write(w, 8 as *const _, 10) } as i64), EFAULT);
    write(w, b"kept");
    assert_eq!(errno_of(unsafe { libc::read(r, 8 as *mut _, 10) } as i64), EFAULT);
    assert_eq!(read(r, 10), Ok(b"kept".to_vec()));
    // A buffer that ends in the middle.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), 8192, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).cast::<u8>();
        libc::munmap(at.add(4096).cast(), 4096);
        write(w, &[7; 100]);
        let n = libc::read(r, at.add(4096 - 40).cast(), 100);
        assert!(n == 40 || (n == -1 && errno_of(n as i64) == EFAULT), "{n}");
    }
}

pub fn interrupt() {
    catch(libc::SIGALRM);
    let (r, w) = pipe_with(0);
    let tick = || unsafe {
        // Again and again: one may come before the call that it is to interrupt.
        let time = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        let timer = libc::itimerval { it_interval: time, it_value: time };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    };
    tick();
    assert_eq!(read(r, 1), Err(EINTR));
    // An interrupted write says how much it wrote.
    assert_eq!(write(w, &[0; 100_000]), 65536);
    assert_eq!(errno_of(write(w, b"x") as i64), EINTR);
    ok(0);
}
