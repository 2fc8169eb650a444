//! Options, binding, and what socket(2) answers.

use super::support::*;

pub fn families() {
    lo_up();
    let socket = |domain, kind, protocol| errno_of(unsafe { libc::socket(domain, kind, protocol) });
    for domain in [AF_INET, AF_INET6] {
        assert_eq!(socket(domain, SOCK_STREAM, 0), 0);
        assert_eq!(socket(domain, SOCK_STREAM, IPPROTO_TCP), 0);
        assert_eq!(socket(domain, SOCK_DGRAM, IPPROTO_UDP), 0);
        assert_eq!(socket(domain, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
        assert_eq!(socket(domain, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
        assert_eq!(socket(domain, SOCK_RAW, 0), EPROTONOSUPPORT);
        assert_eq!(socket(domain, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
        assert_eq!(socket(domain, SOCK_STREAM, -1), EINVAL);
        assert_eq!(socket(domain, SOCK_STREAM, 263), EINVAL);
    }
    assert_eq!(socket(AF_INET, 0xf | 0x40, 0), EINVAL);
    assert_eq!(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
    let mut pair = [0; 2];
    assert_eq!(errno_of(unsafe { socketpair(AF_INET, SOCK_STREAM, 0, pair.as_mut_ptr()) }), EOPNOTSUPP);
}

pub fn socket_options() {
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(option(fd, SOL_SOCKET, SO_TYPE), Ok(SOCK_STREAM));
    assert_eq!(option(fd, SOL_SOCKET, SO_DOMAIN), Ok(AF_INET));
    assert_eq!(option(fd, SOL_SOCKET, SO_PROTOCOL), Ok(IPPROTO_TCP));
    assert_eq!(option(fd, SOL_SOCKET, SO_ACCEPTCONN), Ok(0));
    assert_eq!(option(fd, SOL_SOCKET, SO_ERROR), Ok(0));
    assert_eq!(option(listener(1).0, SOL_SOCKET, SO_ACCEPTCONN), Ok(1));
    for name in [SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_DONTROUTE] {
        assert_eq!(option(fd, SOL_SOCKET, name), Ok(0), "{name}");
        assert_eq!(set(fd, SOL_SOCKET, name, 5), 0, "{name}");
        assert_eq!(option(fd, SOL_SOCKET, name), Ok(1), "{name}");
    }
    for name in [SO_SNDBUF, SO_RCVBUF] {
        assert_eq!(set(fd, SOL_SOCKET, name, 20_000), 0);
        assert_eq!(option(fd, SOL_SOCKET, name), Ok(40_000));
        assert_eq!(set(fd, SOL_SOCKET, name, 1), 0);
        assert!(option(fd, SOL_SOCKET, name).unwrap() >= 2304);
    }
    assert_eq!(set(fd, SOL_SOCKET, SO_RCVLOWAT, 10), 0);
    assert_eq!(option(fd, SOL_SOCKET, SO_RCVLOWAT), Ok(10));
    assert_eq!(set(fd, SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT);
    assert_eq!(set(fd, SOL_SOCKET, 9999, 1), ENOPROTOOPT);
    assert_eq!(option(fd, SOL_SOCKET, 9999), Err(ENOPROTOOPT));
    assert_eq!(set(fd, 250, 1, 1), ENOPROTOOPT);
    let value = 1i32;
    let short = unsafe { setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, (&raw const value).cast(), 3) };
    assert_eq!(errno_of(short), EINVAL);
    assert_eq!(errno_of(unsafe { setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, 8 as *const c_void, 4) }), EFAULT);
    let mut linger_value = linger { l_onoff: 1, l_linger: 7 };
    ok(unsafe { setsockopt(fd, SOL_SOCKET, SO_LINGER, (&raw const linger_value).cast(), 8) });
    linger_value = linger { l_onoff: 0, l_linger: 0 };
    let mut len = 8;
    ok(unsafe { getsockopt(fd, SOL_SOCKET, SO_LINGER, (&raw mut linger_value).cast(), &mut len) });
    assert_eq!((linger_value.l_onoff, linger_value.l_linger, len), (1, 7, 8));
    // BINDTODEVICE by name.
    assert_eq!(errno_of(unsafe { setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, c"lo".as_ptr().cast(), 3) }), 0);
    let mut name = [0u8; 16];
    let mut len = 16;
    ok(unsafe { getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name.as_mut_ptr().cast(), &mut len) });
    assert_eq!((&name[..3], len), (&b"lo\0"[..], 3));
    let none = unsafe { setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, c"none".as_ptr().cast(), 5) };
    assert_eq!(errno_of(none), ENODEV);
}

/// What either end asks for bounds what both send, whether or not the handshake is carried out.
pub fn max_segment() {
    for deferred in [0, 1] {
        let (listener, port) = listener(5);
        assert_eq!(set(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, deferred), 0);
        assert_eq!(set(listener, IPPROTO_TCP, TCP_MAXSEG, 1000), 0);
        assert_eq!(option(listener, IPPROTO_TCP, TCP_MAXSEG), Ok(1000));
        let client = new(AF_INET, SOCK_STREAM);
        assert_eq!(connect_v4(client, LOCAL, port), 0);
        let text = [b'm'; 20_000];
        assert_eq!(put(client, &text), Ok(text.len()));
        let server = take(listener);
        assert_eq!(get(server, text.len(), MSG_WAITALL).unwrap(), text);
        for fd in [client, server] {
            // Less the bytes of options that every segment has.
            let bytes = option(fd, IPPROTO_TCP, TCP_MAXSEG).unwrap();
            assert!((960..=1000).contains(&bytes), "{bytes} deferred {deferred}");
            // Too late for this connection: the peers have told each other.
            assert_eq!(set(fd, IPPROTO_TCP, TCP_MAXSEG, 500), 0);
            assert_eq!(option(fd, IPPROTO_TCP, TCP_MAXSEG), Ok(bytes));
        }
    }
    let (client, _server) = connected();
    assert_eq!(option(client, IPPROTO_IP, IP_MTU), Ok(65_535));
}

pub fn tcp_options() {
    let fd = new(AF_INET, SOCK_STREAM);
    for name in [TCP_NODELAY, TCP_CORK] {
        assert_eq!(option(fd, IPPROTO_TCP, name), Ok(0));
        assert_eq!(set(fd, IPPROTO_TCP, name, 1), 0);
        assert_eq!(option(fd, IPPROTO_TCP, name), Ok(1));
        assert_eq!(set(fd, IPPROTO_TCP, name, 0), 0);
    }
    for (name, default) in [(TCP_KEEPIDLE, 7200), (TCP_KEEPINTVL, 75), (TCP_KEEPCNT, 9), (TCP_SYNCNT, 6)] {
        assert_eq!(option(fd, IPPROTO_TCP, name), Ok(default), "{name}");
        assert_eq!(set(fd, IPPROTO_TCP, name, 33), 0);
        assert_eq!(option(fd, IPPROTO_TCP, name), Ok(33));
        assert_eq!(set(fd, IPPROTO_TCP, name, 0), EINVAL);
        assert_eq!(set(fd, IPPROTO_TCP, name, 1_000_000), EINVAL);
    }
    assert_eq!(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), Ok(0));
    assert_eq!(set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000), 0);
    assert_eq!(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), Ok(5000));
    assert_eq!(set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, -1), EINVAL);
    assert_eq!(option(fd, IPPROTO_TCP, TCP_MAXSEG), Ok(536));
    assert_eq!(set(fd, IPPROTO_TCP, TCP_MAXSEG, 10), EINVAL);
    assert_eq!(set(fd, IPPROTO_TCP, 9999, 1), ENOPROTOOPT);
    assert_eq!(option(fd, IPPROTO_TCP, 9999), Err(ENOPROTOOPT));
    assert_eq!(option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT), Ok(0));
    assert_eq!(set(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1), 0);
    assert_eq!(option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT), Ok(1));
    assert_eq!(set(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 2), EINVAL);
    // What is corked goes when the cork is drawn.
    let (client, server) = connected();
    assert_eq!(set(client, IPPROTO_TCP, TCP_CORK, 1), 0);
    assert_eq!(put(client, b"held "), Ok(5));
    assert_eq!(put(client, b"back"), Ok(4));
    assert_eq!(set(client, IPPROTO_TCP, TCP_CORK, 0), 0);
    assert_eq!(get(server, 9, MSG_WAITALL).unwrap(), b"held back");
    // A deferred accept comes with the data.
    let (listening, port) = listener(3);
    assert_eq!(set(listening, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5), 0);
    assert!(option(listening, IPPROTO_TCP, TCP_DEFER_ACCEPT).unwrap() >= 3);
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_eq!(events(listening, POLLIN, 100), 0);
    assert_eq!(put(client, b"now"), Ok(3));
    assert_eq!(events(listening, POLLIN, 5000), POLLIN);
    assert_eq!(get(take(listening), 3, 0).unwrap(), b"now");
}

pub fn ip_options() {
    let fd = new(AF_INET, SOCK_DGRAM);
    assert_eq!(option(fd, IPPROTO_IP, IP_TTL), Ok(64));
    assert_eq!(set(fd, IPPROTO_IP, IP_TTL, 9), 0);
    assert_eq!(option(fd, IPPROTO_IP, IP_TTL), Ok(9));
    assert_eq!(set(fd, IPPROTO_IP, IP_TTL, 0), EINVAL);
    assert_eq!(set(fd, IPPROTO_IP, IP_TTL, 256), EINVAL);
    assert_eq!(set(fd, IPPROTO_IP, IP_TTL, -1), 0);
    assert_eq!(option(fd, IPPROTO_IP, IP_TTL), Ok(64));
    assert_eq!(set(fd, IPPROTO_IP, IP_TOS, 0x10), 0);
    assert_eq!(option(fd, IPPROTO_IP, IP_TOS), Ok(0x10));
    assert_eq!(option(fd, IPPROTO_IP, IP_MULTICAST_TTL), Ok(1));
    assert_eq!(option(fd, IPPROTO_IP, IP_MULTICAST_LOOP), Ok(1));
    let byte = 0u8;
    ok(unsafe { setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, (&raw const byte).cast(), 1) });
    assert_eq!(option(fd, IPPROTO_IP, IP_MULTICAST_LOOP), Ok(0));
    let mut byte = 7u8;
    let mut len = 1;
    ok(unsafe { getsockopt(fd, IPPROTO_IP, IP_TTL, (&raw mut byte).cast(), &mut len) });
    assert_eq!((byte, len), (64, 1));
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_FREEBIND, IP_RECVERR] {
        assert_eq!(set(fd, IPPROTO_IP, name, 1), 0);
        assert_eq!(option(fd, IPPROTO_IP, name), Ok(1), "{name}");
    }
    assert_eq!(set(fd, IPPROTO_IP, 9999, 1), ENOPROTOOPT);
    assert_eq!(option(fd, IPPROTO_IP, 9999), Err(ENOPROTOOPT));
    assert_eq!(set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
}

pub fn v6_options() {
    let fd = new(AF_INET6, SOCK_DGRAM);
    assert_eq!(option(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), Ok(64));
    assert_eq!(set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5), 0);
    assert_eq!(option(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), Ok(5));
    assert_eq!(set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256), EINVAL);
    assert_eq!(set(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20), 0);
    assert_eq!(option(fd, IPPROTO_IPV6, IPV6_TCLASS), Ok(0x20));
    for name in [IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_V6ONLY] {
        assert_eq!(option(fd, IPPROTO_IPV6, name), Ok(0), "{name}");
        assert_eq!(set(fd, IPPROTO_IPV6, name, 1), 0);
        assert_eq!(option(fd, IPPROTO_IPV6, name), Ok(1), "{name}");
    }
    assert_eq!(set(fd, IPPROTO_IPV6, 9999, 1), ENOPROTOOPT);
    // A V6ONLY socket does not reach mapped addresses.
    assert_eq!(connect_v6(fd, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], 9), ENETUNREACH);
}

pub fn bind_errors() {
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(bind_v4(fd, 0x0102_0304, 0), EADDRNOTAVAIL);
    let address = v4(LOCAL, 0);
    assert_eq!(errno_of(unsafe { bind(fd, (&raw const address).cast(), 15) }), EINVAL);
    assert_eq!(errno_of(unsafe { bind(fd, 8 as *const sockaddr, 16) }), EFAULT);
    let mut odd = address;
    odd.sin_family = AF_UNIX as u16;
    assert_eq!(errno_of(unsafe { bind(fd, (&raw const odd).cast(), 16) }), EAFNOSUPPORT);
    assert_eq!(bind_v4(fd, LOCAL, 0), 0);
    assert_eq!(bind_v4(fd, LOCAL, 0), EINVAL);
    let fd6 = new(AF_INET6, SOCK_STREAM);
    let address = v6(LOCAL6, 0);
    assert_eq!(errno_of(unsafe { bind(fd6, (&raw const address).cast(), 20) }), EINVAL);
    assert_eq!(bind_v6(fd6, [0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], 0), EADDRNOTAVAIL);
    // Any address of 127.0.0.0/8 is this machine's.
    let other = new(AF_INET, SOCK_DGRAM);
    assert_eq!(bind_v4(other, 0x7f01_0203, 0), 0);
    assert_eq!(name_v4(other).0, 0x7f01_0203);
    crate::harness::child_succeeds(|| {
        ok(unsafe { setuid(1000) });
        let fd = new(AF_INET, SOCK_STREAM);
        assert_eq!(bind_v4(fd, LOCAL, 80), EACCES);
        assert_eq!(errno_of(unsafe { libc::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) }), EPERM);
    });
}

pub fn bind_reuse() {
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let first = new(AF_INET, kind);
        assert_eq!(bind_v4(first, LOCAL, 0), 0);
        let port = name_v4(first).1;
        let second = new(AF_INET, kind);
        assert_eq!(bind_v4(second, LOCAL, port), EADDRINUSE);
        assert_eq!(bind_v4(second, 0, port), EADDRINUSE);
        // IPv6's any takes IPv4's ports too.
        assert_eq!(bind_v6(new(AF_INET6, kind), [0; 16], port), EADDRINUSE);
        let only = new(AF_INET6, kind);
        assert_eq!(set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
        assert_eq!(bind_v6(only, [0; 16], port), 0);
        // Another address of ours is free.
        assert_eq!(bind_v4(second, 0x7f00_0002, port), 0);
        unsafe {
            close(first);
        }
        let third = new(AF_INET, kind);
        assert_eq!(bind_v4(third, LOCAL, port), 0);
    }
    // Both with SO_REUSEADDR share, until one listens.
    let (first, second) = (new(AF_INET, SOCK_STREAM), new(AF_INET, SOCK_STREAM));
    for fd in [first, second] {
        assert_eq!(set(fd, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    }
    assert_eq!(bind_v4(first, LOCAL, 0), 0);
    let port = name_v4(first).1;
    assert_eq!(bind_v4(second, LOCAL, port), 0);
    ok(unsafe { listen(first, 1) });
    assert_eq!(errno_of(unsafe { listen(second, 1) }), EADDRINUSE);
    // A server that comes back while old connections end needs SO_REUSEADDR.
    let (listening, port) = listener(3);
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let server = take(listening);
    unsafe { close(listening) };
    let again = new(AF_INET, SOCK_STREAM);
    assert_eq!(bind_v4(again, LOCAL, port), EADDRINUSE);
    let old = server;
    let _ = old;
}

pub fn ephemeral() {
    let mut ports = Vec::new();
    for _ in 0..64 {
        let fd = new(AF_INET, SOCK_DGRAM);
        assert_eq!(bind_v4(fd, LOCAL, 0), 0);
        let port = name_v4(fd).1;
        assert!((32_768..=60_999).contains(&port), "{port}");
        assert!(!ports.contains(&port));
        ports.push(port);
    }
    // Nobody can count them off.
    let steps = ports.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
    assert!(steps < 8, "{ports:?}");
}
