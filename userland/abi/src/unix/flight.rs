//! Descriptors in flight: many in one message, sockets that hold themselves, chains, and limits.

use super::*;

/// Sends `fds` beside one byte.
fn send_many(socket: i32, fds: &[i32]) -> i32 {
    let bytes = fds.len() * 4;
    let mut control = vec![0u64; (bytes + 32).div_ceil(8)];
    let mut byte = *b"f";
    let mut iov = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = unsafe { CMSG_SPACE(bytes as u32) } as _;
    unsafe {
        let header = CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = SOL_SOCKET;
        (*header).cmsg_type = SCM_RIGHTS;
        (*header).cmsg_len = CMSG_LEN(bytes as u32) as _;
        std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), CMSG_DATA(header), bytes);
        errno_of(sendmsg(socket, &message, MSG_NOSIGNAL) as i64)
    }
}

/// The descriptors of one message; none for EAGAIN.
fn receive_many(socket: i32, flags: i32) -> Vec<i32> {
    let mut control = [0u64; 64];
    let mut byte = [0u8; 1];
    let mut iov = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    unsafe {
        let mut message: msghdr = std::mem::zeroed();
        message.msg_iov = &mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let header =
            if recvmsg(socket, &mut message, flags) == 1 { CMSG_FIRSTHDR(&message) } else { return Vec::new() };
        if header.is_null() {
            return Vec::new();
        }
        let count = ((*header).cmsg_len as usize - CMSG_LEN(0) as usize) / 4;
        (0..count).map(|at| CMSG_DATA(header).cast::<i32>().add(at).read_unaligned()).collect()
    }
}

/// A pipe whose reader sees the end when every copy of the writer is gone: what is in flight keeps it open.
struct Witness {
    reader: i32,
    writer: i32,
}

impl Witness {
    fn new() -> Self {
        let mut ends = [0; 2];
        ok(unsafe { pipe2(ends.as_mut_ptr(), O_NONBLOCK) });
        Self { reader: ends[0], writer: ends[1] }
    }
    fn close(&self) {
        unsafe { close(self.writer) };
    }
    /// Whether nobody holds the writer any more. Linux lets go of files a little later, when a call returns.
    fn is_gone(&self) -> bool {
        let mut byte = 0u8;
        let n = unsafe { read(self.reader, (&raw mut byte).cast(), 1) };
        n == 0 || {
            assert_eq!(errno(), EAGAIN);
            false
        }
    }
    fn expect_gone(&self) {
        for _ in 0..2000 {
            if self.is_gone() {
                return;
            }
            // A close of any socket makes Linux look for garbage.
            unsafe { close(new_socket(SOCK_STREAM)) };
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("somebody still holds it");
    }
}

/// A socket that waits in its own queue, two in each other's, a ring of many: all go when the last descriptor does.
pub fn cycles_are_collected() {
    for length in [1usize, 2, 3, 16] {
        for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
            let witness = Witness::new();
            let pairs: Vec<[i32; 2]> = (0..length).map(|_| pair_of(kind)).collect();
            for at in 0..length {
                // Into the queue of pairs[at][1] goes the one after it.
                let next = pairs[(at + 1) % length][1];
                assert_eq!(send_many(pairs[at][0], &[next, witness.writer]), 0);
            }
            witness.close();
            for [a, b] in &pairs[1..] {
                unsafe { (close(*a), close(*b)) };
            }
            unsafe { close(pairs[0][0]) };
            assert!(!witness.is_gone(), "one descriptor still reaches all of them");
            unsafe { close(pairs[0][1]) };
            witness.expect_gone();
        }
    }
}

/// What can still be received is kept, with all that hangs on it.
pub fn reachable_is_kept() {
    let [a, b] = pair_of(SOCK_STREAM);
    let [c, d] = pair_of(SOCK_STREAM);
    let witness = Witness::new();
    // d holds itself and the witness, and is in b's queue.
    assert_eq!(send_many(c, &[d, witness.writer]), 0);
    assert_eq!(send_many(a, &[d]), 0);
    witness.close();
    unsafe { (close(c), close(d)) };
    for _ in 0..3 {
        unsafe { close(new_socket(SOCK_STREAM)) };
        assert!(!witness.is_gone());
    }
    let outer = receive_many(b, 0);
    let inner = receive_many(outer[0], 0);
    assert_eq!((outer.len(), inner.len()), (1, 2));
    assert!(!witness.is_gone());
    for fd in outer.into_iter().chain(inner) {
        unsafe { close(fd) };
    }
    witness.expect_gone();
}

/// Connections that nobody has accepted hold what was sent to them.
pub fn unaccepted_connection() {
    let name = format!("\0abi-flight-{}", std::process::id()).into_bytes();
    let listener = new_socket(SOCK_STREAM);
    assert_eq!(bind_to(listener, &name), 0);
    ok(unsafe { listen(listener, 2) });
    let client = new_socket(SOCK_STREAM);
    assert_eq!(connect_to(client, &name), 0);
    let witness = Witness::new();
    assert_eq!(send_many(client, &[listener, client, witness.writer]), 0);
    witness.close();
    unsafe { close(client) };
    assert!(!witness.is_gone());
    unsafe { close(listener) };
    witness.expect_gone();
}

/// A chain of thousands, each in the queue of the next: letting go of the first lets go of all.
pub fn long_chain() {
    let witness = Witness::new();
    let mut held = witness.writer;
    for _ in 0..3000 {
        let [a, b] = pair_of(SOCK_DGRAM);
        assert_eq!(send_many(a, &[held]), 0);
        unsafe { (close(a), close(held)) };
        held = b;
    }
    assert!(!witness.is_gone());
    unsafe { close(held) };
    witness.expect_gone();
}

pub fn descriptor_counts() {
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!(send_many(a, &vec![a; 253]), 0);
    assert_eq!(send_many(a, &vec![a; 254]), EINVAL);
    assert_eq!(send_many(a, &[a, 999]), EBADF);
    assert_eq!(send_many(a, &[-1]), EBADF);
    unsafe { close(b) };
    // A user has no more in flight than it may have open.
    child_succeeds(|| {
        let limit = rlimit { rlim_cur: 40, rlim_max: 40 };
        let [a, _b] = pair_of(SOCK_DGRAM);
        unsafe {
            assert_eq!(setrlimit(RLIMIT_NOFILE, &limit), 0);
            assert_eq!(setresuid(4321, 4321, 4321), 0);
        }
        let sent = (0..100).find(|_| send_many(a, &[a]) == ETOOMANYREFS).expect("a limit");
        assert_eq!(sent, 41);
    });
}

/// MSG_PEEK hands out copies and leaves the originals.
pub fn peeked_descriptors() {
    let [a, b] = pair_of(SOCK_STREAM);
    let witness = Witness::new();
    assert_eq!(send_many(a, &[witness.writer]), 0);
    witness.close();
    let peeked = receive_many(b, MSG_PEEK)[0];
    assert_eq!(unsafe { write(peeked, b"x".as_ptr().cast(), 1) }, 1);
    unsafe { close(peeked) };
    let fd = receive_descriptor(b, 64).1.expect("still there");
    unsafe { close(fd) };
    let mut buffer = [0u8; 4];
    assert_eq!(unsafe { read(witness.reader, buffer.as_mut_ptr().cast(), 4) }, 1);
    witness.expect_gone();
}

/// Threads that send sockets to each other, receive them, and close them at any moment: the machine survives, and nothing is
/// left over.
pub fn flight_storm() {
    let rounds = crate::stress::rounds();
    let witness = Witness::new();
    let writer = witness.writer;
    let threads: Vec<_> = (0..4u32)
        .map(|number| {
            std::thread::spawn(move || {
                let mut seed = number.wrapping_mul(2_654_435_761) | 1;
                let mut random = move |below: usize| {
                    seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    (seed >> 16) as usize % below
                };
                for _ in 0..rounds {
                    let kinds = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET];
                    let mut open: Vec<i32> = (0..3).flat_map(|_| pair_of(kinds[random(3)])).collect();
                    for _ in 0..40 {
                        let (to, what) = (open[random(open.len())], open[random(open.len())]);
                        match random(4) {
                            0 | 1 => drop(send_many(to, &[what, writer])),
                            2 => {
                                let received = receive_many(to, MSG_DONTWAIT);
                                if let [socket, writer] = received[..] {
                                    open.push(socket);
                                    unsafe { close(writer) };
                                }
                            }
                            _ if open.len() > 3 => drop(unsafe { close(open.swap_remove(random(open.len()))) }),
                            _ => {}
                        }
                    }
                    for fd in open {
                        unsafe { close(fd) };
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    witness.close();
    witness.expect_gone();
}
