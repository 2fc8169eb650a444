//! Socket options that are of UNIX sockets, and those that are not.

use super::*;

const SO_PEERGROUPS: i32 = 59;

fn get_groups(fd: i32, room: u32) -> Result<Vec<u32>, (i32, u32)> {
    let mut groups = [0u32; 16];
    let mut len = room;
    let result = unsafe { getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.as_mut_ptr().cast(), &mut len) };
    if result == -1 { Err((errno(), len)) } else { Ok(groups[..len as usize / 4].to_vec()) }
}

/// SO_PEERGROUPS: those of who made the connection, or the listener; as they were then.
pub fn peer_groups() {
    child_succeeds(|| {
        let lonely = new_socket(SOCK_STREAM);
        assert_eq!(get_groups(lonely, 64), Err((ENODATA, 64)));
        assert_eq!(ok(unsafe { setgroups(3, [7, 5, 9].as_ptr()) }), 0);
        let [a, b] = pair_of(SOCK_STREAM);
        assert_eq!(ok(unsafe { setgroups(0, std::ptr::null()) }), 0);
        let mut found = get_groups(a, 64).unwrap();
        found.sort();
        assert_eq!(found, [5, 7, 9]);
        assert_eq!(get_groups(b, 12).map(|groups| groups.len()), Ok(3));
        assert_eq!(get_groups(b, 8), Err((ERANGE, 12)));
        let [a, _b] = pair_of(SOCK_SEQPACKET);
        assert_eq!(get_groups(a, 0), Ok(vec![]));
        let name = b"\0abi-peer-groups";
        let listener = new_socket(SOCK_STREAM);
        assert_eq!(bind_to(listener, name), 0);
        assert_eq!(ok(unsafe { setgroups(1, [4].as_ptr()) }), 0);
        ok(unsafe { listen(listener, 1) });
        assert_eq!(ok(unsafe { setgroups(2, [1, 2].as_ptr()) }), 0);
        let client = new_socket(SOCK_STREAM);
        assert_eq!(connect_to(client, name), 0);
        let server = ok(unsafe { accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) });
        assert_eq!((get_groups(client, 64), get_groups(server, 64)), (Ok(vec![4]), Ok(vec![1, 2])));
    });
}

/// What every socket has, and what a UNIX socket has not.
pub fn common_options() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let fd = new_socket(kind);
        let get = |level: i32, name: i32| {
            let (mut value, mut len) = (-1i32, 4u32);
            let result = unsafe { getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) };
            if result == -1 { Err(errno()) } else { Ok(value) }
        };
        let set = |level: i32, name: i32, value: i32| {
            errno_of(unsafe { setsockopt(fd, level, name, (&raw const value).cast(), 4) })
        };
        assert_eq!(
            (get(SOL_SOCKET, SO_TYPE), get(SOL_SOCKET, SO_DOMAIN), get(SOL_SOCKET, SO_PROTOCOL)),
            (Ok(kind), Ok(AF_UNIX), Ok(0))
        );
        assert_eq!((get(SOL_SOCKET, SO_ACCEPTCONN), get(SOL_SOCKET, SO_ERROR)), (Ok(0), Ok(0)));
        for name in [SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_ERROR, SO_PEERCRED] {
            assert_eq!(set(SOL_SOCKET, name, 1), ENOPROTOOPT, "{name}");
        }
        assert_eq!(set(SOL_SOCKET, SO_PASSCRED, 5), 0);
        assert_eq!(get(SOL_SOCKET, SO_PASSCRED), Ok(1));
        assert_eq!((get(SOL_SOCKET, 9999), set(SOL_SOCKET, 9999, 1)), (Err(ENOPROTOOPT), ENOPROTOOPT));
        assert_eq!((get(IPPROTO_TCP, TCP_NODELAY), set(IPPROTO_TCP, TCP_NODELAY, 1)), (Err(EOPNOTSUPP), EOPNOTSUPP));
        assert_eq!(set(SOL_SOCKET, SO_RCVLOWAT, 0), 0);
        assert_eq!(get(SOL_SOCKET, SO_RCVLOWAT), Ok(1));
        // Lengths: negative, too short, cut.
        let call = |name: i32, at: *mut i32, len: *mut u32| {
            errno_of(unsafe { getsockopt(fd, SOL_SOCKET, name, at.cast(), len) })
        };
        let (mut value, mut len) = (0x7f7f_7f7fi32, -1i32 as u32);
        assert_eq!(call(SO_TYPE, &mut value, &mut len), EINVAL);
        len = 2;
        assert_eq!(call(SO_TYPE, &mut value, &mut len), 0);
        assert_eq!((value, len), (0x7f7f_0000 | kind, 2));
        len = 4;
        assert_eq!(call(SO_TYPE, 8 as *mut i32, &mut len), EFAULT);
        assert_eq!(call(SO_TYPE, &mut value, 8 as *mut u32), EFAULT);
        assert_eq!(errno_of(unsafe { setsockopt(fd, SOL_SOCKET, SO_PASSCRED, std::ptr::null(), 4) }), EFAULT);
        assert_eq!(errno_of(unsafe { setsockopt(fd, SOL_SOCKET, SO_PASSCRED, std::ptr::null(), 3) }), EINVAL);
        // Time-outs.
        let time = |sec: i64, usec: i64| {
            let time = timeval { tv_sec: sec, tv_usec: usec };
            errno_of(unsafe { setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, (&raw const time).cast(), 16) })
        };
        assert_eq!((time(0, 1_000_000), time(0, -1), time(3, 250_000)), (EDOM, EDOM, 0));
        let mut found = timeval { tv_sec: 0, tv_usec: 0 };
        len = 16;
        ok(unsafe { getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, (&raw mut found).cast(), &mut len) });
        assert!(found.tv_sec == 3 && (250_000..=252_000).contains(&found.tv_usec), "rounded up to a tick at most");
    }
}

/// SO_PEEK_OFF: MSG_PEEK goes on where it stopped; reading pulls the place back.
pub fn peek_offsets() {
    const SO_PEEK_OFF: i32 = 42;
    let set = |fd: i32, value: i32| {
        ok(unsafe { setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, (&raw const value).cast(), 4) });
    };
    let offset = |fd: i32| {
        let (mut value, mut len) = (99i32, 4u32);
        ok(unsafe { getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, (&raw mut value).cast(), &mut len) });
        value
    };
    let peek = |fd: i32, len: usize| get(fd, len, MSG_PEEK | MSG_DONTWAIT);
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!(offset(b), -1);
    put(a, b"abcd");
    put(a, b"efgh");
    assert_eq!(peek(b, 3), Ok(b"abc".to_vec()));
    assert_eq!(peek(b, 3), Ok(b"abc".to_vec()));
    set(b, 1);
    assert_eq!(peek(b, 2), Ok(b"bc".to_vec()));
    assert_eq!((peek(b, 3), offset(b)), (Ok(b"def".to_vec()), 6));
    assert_eq!(get(b, 2, 0), Ok(b"ab".to_vec()));
    assert_eq!(offset(b), 4);
    assert_eq!(peek(b, 10), Ok(b"gh".to_vec()));
    assert_eq!(peek(b, 10), Err(EAGAIN));
    put(a, b"ij");
    assert_eq!(peek(b, 10), Ok(b"ij".to_vec()));
    assert_eq!(get(b, 100, 0), Ok(b"cdefghij".to_vec()));
    assert_eq!(offset(b), 0);
    set(b, -1);
    put(a, b"k");
    assert_eq!((peek(b, 5), peek(b, 5)), (Ok(b"k".to_vec()), Ok(b"k".to_vec())));
    // Packets: one at a time, from within one on to the next.
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let [a, b] = pair_of(kind);
        put(a, b"first");
        put(a, b"second");
        set(b, 0);
        assert_eq!(peek(b, 2), Ok(b"fi".to_vec()));
        assert_eq!(peek(b, 10), Ok(b"rst".to_vec()));
        assert_eq!((peek(b, 10), offset(b)), (Ok(b"second".to_vec()), 11));
        assert_eq!(get(b, 2, 0), Ok(b"fi".to_vec()));
        assert_eq!(offset(b), 6);
        set(b, 4);
        assert_eq!(peek(b, 10), Ok(b"nd".to_vec()));
    }
}

/// SO_PEERSEC, where no security module names the peer: ENOPROTOOPT for streams and packets, whatever the buffer.
pub fn peer_security() {
    const SO_PEERSEC: i32 = 31;
    for kind in [SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM] {
        let [a, _b] = pair_of(kind);
        for mut room in [0u32, 64] {
            let mut label = [0u8; 64];
            let result = unsafe { getsockopt(a, SOL_SOCKET, SO_PEERSEC, label.as_mut_ptr().cast(), &mut room) };
            assert_eq!(errno_of(result), ENOPROTOOPT);
        }
        let value = 1i32;
        let result = unsafe { setsockopt(a, SOL_SOCKET, SO_PEERSEC, (&raw const value).cast(), 4) };
        assert_eq!(errno_of(result), ENOPROTOOPT);
    }
}
