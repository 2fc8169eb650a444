//! What a socket holds: SO_SNDBUF and its doubling, what each message costs, SIOCINQ and SIOCOUTQ, queues of datagrams.

use super::*;

fn set_number(fd: i32, name: i32, value: i32) -> i32 {
    errno_of(unsafe { setsockopt(fd, SOL_SOCKET, name, (&raw const value).cast(), 4) })
}

fn number(fd: i32, name: i32) -> i32 {
    let mut value = 0i32;
    let mut len = 4u32;
    ok(unsafe { getsockopt(fd, SOL_SOCKET, name, (&raw mut value).cast(), &mut len) });
    value
}

fn queued(fd: i32, command: u64) -> i32 {
    let mut value = -1i32;
    ok(unsafe { ioctl(fd, command as _, &raw mut value) });
    value
}

const SIOCINQ: u64 = 0x541b;
const SIOCOUTQ: u64 = 0x5411;

/// How many messages of `len` bytes go in before EAGAIN.
fn fill(fd: i32, len: usize) -> usize {
    let bytes = vec![1u8; len];
    for count in 0..100_000 {
        let n = unsafe { send(fd, bytes.as_ptr().cast(), len, MSG_DONTWAIT | MSG_NOSIGNAL) };
        if n < 0 {
            assert_eq!(errno(), EAGAIN);
            return count;
        }
    }
    panic!("no limit");
}

pub fn buffer_sizes() {
    let fd = new_socket(SOCK_STREAM);
    assert_eq!((number(fd, SO_SNDBUF), number(fd, SO_RCVBUF)), (212_992, 212_992));
    assert_eq!(set_number(fd, SO_SNDBUF, 10_000), 0);
    assert_eq!(number(fd, SO_SNDBUF), 20_000);
    assert_eq!(set_number(fd, SO_SNDBUF, 1), 0);
    assert_eq!(number(fd, SO_SNDBUF), 4608);
    assert_eq!(set_number(fd, SO_RCVBUF, 1), 0);
    assert_eq!(number(fd, SO_RCVBUF), 2304);
    for name in [SO_SNDBUF, SO_RCVBUF] {
        for huge in [300_000, i32::MAX, -1] {
            assert_eq!(set_number(fd, name, huge), 0);
            assert_eq!(number(fd, name), 2 * 212_992, "wmem_max and rmem_max");
        }
    }
    assert_eq!(set_number(fd, SO_SNDBUFFORCE, 300_000), 0);
    assert_eq!(number(fd, SO_SNDBUF), 600_000);
    assert_eq!(set_number(fd, SO_SNDBUFFORCE, -1), 0);
    assert_eq!(number(fd, SO_SNDBUF), 4608);
    assert_eq!(errno_of(unsafe { setsockopt(fd, SOL_SOCKET, SO_SNDBUF, (&raw const fd).cast(), 3) }), EINVAL);
}

/// The counts are Linux's own: each message is charged with the memory it takes there.
pub fn message_counts() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        for (len, count) in [(1, 278), (192, 278), (193, 167)] {
            let [a, _b] = pair_of(kind);
            assert_eq!(fill(a, len), count, "kind {kind}, {len} bytes");
        }
    }
    let [a, _b] = pair_of(SOCK_STREAM);
    assert_eq!(fill(a, 4096), 44);
    let [a, _b] = pair_of(SOCK_DGRAM);
    assert_eq!(set_number(a, SO_SNDBUF, 1), 0);
    assert_eq!(fill(a, 1), 6);
    // The longest datagram.
    let [a, b] = pair_of(SOCK_SEQPACKET);
    let long = vec![3u8; 212_992];
    assert_eq!(unsafe { send(a, long.as_ptr().cast(), 212_992 - 31, MSG_DONTWAIT) }, -1);
    assert_eq!(errno(), EMSGSIZE);
    assert_eq!(unsafe { send(a, long.as_ptr().cast(), 212_992 - 32, 0) }, 212_992 - 32);
    assert_eq!(get(b, 300_000, 0).unwrap().len(), 212_992 - 32);
}

pub fn queue_sizes() {
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!((queued(b, SIOCINQ), queued(a, SIOCOUTQ)), (0, 0));
    put(a, b"hello");
    put(a, b"you");
    assert_eq!((queued(b, SIOCINQ), queued(a, SIOCINQ)), (8, 0));
    assert_eq!((queued(a, SIOCOUTQ), queued(b, SIOCOUTQ)), (2 * 768, 0));
    assert_eq!(get(b, 6, 0).unwrap(), b"helloy");
    assert_eq!((queued(b, SIOCINQ), queued(a, SIOCOUTQ)), (2, 768));
    let [a, b] = pair_of(SOCK_DGRAM);
    put(a, b"hello");
    put(a, b"you");
    assert_eq!(queued(b, SIOCINQ), 5);
    let [a, b] = pair_of(SOCK_SEQPACKET);
    put(a, b"hello");
    put(a, b"you");
    assert_eq!(queued(b, SIOCINQ), 8);
    let listener = new_socket(SOCK_STREAM);
    assert_eq!(bind_to(listener, b""), 0);
    ok(unsafe { listen(listener, 1) });
    let mut value = 0;
    assert_eq!(errno_of(unsafe { ioctl(listener, SIOCINQ as _, &raw mut value) }), EINVAL);
}

/// A socket takes eleven datagrams of strangers; a peer is bound by its own buffer alone.
pub fn datagram_queue() {
    let name = format!("\0abi-queue-{}", std::process::id()).into_bytes();
    let (server, client) = (new_socket(SOCK_DGRAM), new_socket(SOCK_DGRAM));
    assert_eq!(bind_to(server, &name), 0);
    assert_eq!(connect_to(client, &name), 0);
    assert_eq!(ready(client), POLLOUT);
    assert_eq!(fill(client, 1), 11);
    assert_eq!(ready(client), 0);
    let other = new_socket(SOCK_DGRAM);
    let (to, len) = address(&name);
    let n = unsafe { sendto(other, b"x".as_ptr().cast(), 1, MSG_DONTWAIT, (&raw const to).cast(), len) };
    assert_eq!((n, errno()), (-1, EAGAIN));
    // Whoever waits for room in the queue, sending or polling, is woken when a datagram is taken.
    let sender = std::thread::spawn(move || put(client, b"late"));
    let poller = std::thread::spawn(move || {
        let mut entry = pollfd { fd: client, events: POLLOUT, revents: 0 };
        unsafe { poll(&mut entry, 1, 5000) }
    });
    crate::harness::others_asleep();
    for _ in 0..11 {
        assert_eq!(get(server, 8, 0).unwrap().len(), 1);
    }
    assert_eq!(sender.join().unwrap(), 4);
    assert_eq!(poller.join().unwrap(), 1);
    assert_eq!(get(server, 8, 0).unwrap(), b"late");
}

/// net.unix.max_dgram_qlen is of sockets made later.
pub fn datagram_queue_length() {
    let path = "/proc/sys/net/unix/max_dgram_qlen";
    let bound = |index: u8| {
        let name = format!("\0abi-qlen-{index}-{}", std::process::id()).into_bytes();
        let fd = new_socket(SOCK_DGRAM);
        assert_eq!(bind_to(fd, &name), 0);
        name
    };
    let old = std::fs::read_to_string(path).unwrap();
    assert_eq!(old, "10\n");
    let before = bound(0);
    std::fs::write(path, "2").unwrap();
    let after = bound(1);
    std::fs::write(path, old.trim()).unwrap();
    for (name, count) in [(before, 11), (after, 3)] {
        let client = new_socket(SOCK_DGRAM);
        assert_eq!(connect_to(client, &name), 0);
        assert_eq!(fill(client, 1), count);
    }
    assert_eq!(std::fs::write(path, "x").unwrap_err().raw_os_error(), Some(EINVAL));
}

/// Poll says that there is room when three quarters of the buffer are free.
pub fn writable_again() {
    let [a, b] = pair_of(SOCK_STREAM);
    let count = fill(a, 4096);
    assert_eq!(ready(a), 0);
    let mut taken = 0;
    while ready(a) == 0 {
        assert_eq!(get(b, 4096, 0).unwrap().len(), 4096);
        taken += 1;
    }
    assert_eq!((count, taken), (44, 34));
}
