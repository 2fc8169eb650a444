//! UDP, ping and raw sockets.

use super::support::*;
use std::mem::{size_of, zeroed};

fn bound() -> (i32, u16) {
    let fd = new(AF_INET, SOCK_DGRAM);
    assert_eq!(bind_v4(fd, LOCAL, 0), 0);
    (fd, name_v4(fd).1)
}

fn put_to(fd: i32, bytes: &[u8], address: u32, port: u16) -> Result<usize, i32> {
    let address = v4(address, port);
    match unsafe { sendto(fd, bytes.as_ptr().cast(), bytes.len(), MSG_NOSIGNAL, (&raw const address).cast(), 16) } {
        -1 => Err(errno()),
        n => Ok(n as usize),
    }
}

fn get_from(fd: i32, len: usize) -> (Vec<u8>, u32, u16) {
    let mut buffer = vec![0u8; len];
    let mut from = v4(0, 0);
    let mut from_len = 16;
    let n = ok(unsafe { recvfrom(fd, buffer.as_mut_ptr().cast(), len, 0, (&raw mut from).cast(), &mut from_len) });
    assert_eq!(from_len, 16);
    buffer.truncate(n as usize);
    (buffer, u32::from_be(from.sin_addr.s_addr), u16::from_be(from.sin_port))
}

pub fn echo() {
    let (server, port) = bound();
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(put_to(client, b"question", LOCAL, port), Ok(8));
    let (bytes, ip, from) = get_from(server, 100);
    assert_eq!((&bytes[..], ip), (&b"question"[..], LOCAL));
    assert_eq!(from, name_v4(client).1);
    assert_eq!(name_v4(client).0, 0);
    assert_eq!(put_to(server, b"answer", LOCAL, from), Ok(6));
    let (bytes, _, from) = get_from(client, 100);
    assert_eq!((&bytes[..], from), (&b"answer"[..], port));
    assert_eq!(put(client, b"x"), Err(EDESTADDRREQ));
    assert_eq!(get(client, 1, MSG_DONTWAIT), Err(EAGAIN));
    // An empty datagram is one.
    assert_eq!(put_to(client, b"", LOCAL, port), Ok(0));
    assert_eq!(get_from(server, 10).0, b"");
    assert_eq!(put_to(client, b"x", LOCAL, 0), Err(EINVAL));
}

pub fn echo_v6() {
    let server = new(AF_INET6, SOCK_DGRAM);
    assert_eq!(bind_v6(server, [0; 16], 0), 0);
    let port = name_v6(server).1;
    let client = new(AF_INET6, SOCK_DGRAM);
    assert_eq!(connect_v6(client, LOCAL6, port), 0);
    assert_eq!(put(client, b"six"), Ok(3));
    let mut from = v6([0; 16], 0);
    let mut len = 28;
    let mut buffer = [0u8; 10];
    let n = unsafe { recvfrom(server, buffer.as_mut_ptr().cast(), 10, 0, (&raw mut from).cast(), &mut len) };
    assert_eq!((ok(n), len, from.sin6_addr.s6_addr), (3, 28, LOCAL6));
    // IPv4 comes to the same socket, mapped.
    let four = new(AF_INET, SOCK_DGRAM);
    assert_eq!(put_to(four, b"four", LOCAL, port), Ok(4));
    let n = unsafe { recvfrom(server, buffer.as_mut_ptr().cast(), 10, 0, (&raw mut from).cast(), &mut len) };
    assert_eq!(ok(n), 4);
    assert_eq!(from.sin6_addr.s6_addr[10..], [0xff, 0xff, 127, 0, 0, 1]);
    let back = v6(from.sin6_addr.s6_addr, u16::from_be(from.sin6_port));
    ok(unsafe { sendto(server, b"back".as_ptr().cast(), 4, 0, (&raw const back).cast(), 28) });
    assert_eq!(get(four, 10, 0).unwrap(), b"back");
}

pub fn connected() {
    let (server, port) = bound();
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_eq!(name_v4(client).0, LOCAL);
    assert_eq!(peer_v4(client), Ok((LOCAL, port)));
    assert_eq!(put(client, b"a"), Ok(1));
    assert_eq!(get(server, 9, 0).unwrap(), b"a");
    // Others are not heard.
    let own = name_v4(client).1;
    let stranger = new(AF_INET, SOCK_DGRAM);
    assert_eq!(put_to(stranger, b"stranger", LOCAL, own), Ok(8));
    assert_eq!(put_to(server, b"friend", LOCAL, own), Ok(6));
    assert_eq!(get(client, 20, 0).unwrap(), b"friend");
    assert_eq!(get(client, 20, MSG_DONTWAIT), Err(EAGAIN));
    // An explicit address still goes there.
    let (other, other_port) = bound();
    assert_eq!(put_to(client, b"aside", LOCAL, other_port), Ok(5));
    assert_eq!(get(other, 9, 0).unwrap(), b"aside");
    let mut nobody: sockaddr = unsafe { zeroed() };
    nobody.sa_family = AF_UNSPEC as u16;
    ok(unsafe { connect(client, &nobody, 16) });
    assert_eq!(peer_v4(client), Err(ENOTCONN));
    assert_eq!(put(client, b"x"), Err(EDESTADDRREQ));
}

pub fn refused() {
    let (gone, port) = bound();
    unsafe { close(gone) };
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_eq!(put(client, b"x"), Ok(1));
    assert_eq!(events(client, POLLIN, 5000) & POLLERR, POLLERR);
    assert_eq!(get(client, 1, 0), Err(ECONNREFUSED));
    assert_eq!(get(client, 1, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(put(client, b"x"), Ok(1));
    assert_eq!(events(client, POLLIN, 5000) & POLLERR, POLLERR);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), Ok(ECONNREFUSED));
    // Unconnected sockets do not hear of it.
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(put_to(client, b"x", LOCAL, port), Ok(1));
    assert_eq!(events(client, POLLIN, 50), 0);
}

pub fn sizes() {
    let (server, port) = bound();
    let client = new(AF_INET, SOCK_DGRAM);
    let biggest = vec![0x33u8; 65_507];
    assert_eq!(put_to(client, &biggest, LOCAL, port), Ok(65_507));
    assert_eq!(get(server, 70_000, 0).unwrap(), biggest);
    assert_eq!(put_to(client, &vec![0; 65_508], LOCAL, port), Err(EMSGSIZE));
    assert_eq!(put_to(client, &vec![0; 70_000], LOCAL, port), Err(EMSGSIZE));
    // A full receiver drops, a sender never waits.
    assert_eq!(set(server, SOL_SOCKET, SO_RCVBUF, 4096), 0);
    for _ in 0..100 {
        assert_eq!(put_to(client, &[0; 1000], LOCAL, port), Ok(1000));
    }
    let mut count = 0;
    while get(server, 1000, MSG_DONTWAIT).is_ok() {
        count += 1;
    }
    assert!((1..100).contains(&count), "{count}");
}

pub fn flags() {
    let (server, port) = bound();
    let client = new(AF_INET, SOCK_DGRAM);
    put_to(client, b"0123456789", LOCAL, port).unwrap();
    let mut queued = 0;
    ok(unsafe { ioctl(server, FIONREAD as _, &raw mut queued) });
    assert_eq!(queued, 10);
    assert_eq!(get(server, 4, MSG_PEEK).unwrap(), b"0123");
    let mut buffer = [0u8; 4];
    assert_eq!(ok(unsafe { recv(server, buffer.as_mut_ptr().cast(), 4, MSG_PEEK | MSG_TRUNC) }), 10);
    let mut iov = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 4 };
    let mut message: msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
    assert_eq!(ok(unsafe { recvmsg(server, &mut message, 0) }), 4);
    assert_eq!(message.msg_flags, MSG_TRUNC);
    assert_eq!(get(server, 4, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(errno_of(unsafe { send(client, b"x".as_ptr().cast(), 1, MSG_OOB) }), EOPNOTSUPP);
}

pub fn many_messages() {
    let (server, port) = bound();
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let texts = [&b"one"[..], b"two", b"three"];
    let mut iovs = texts.map(|text| iovec { iov_base: text.as_ptr() as *mut c_void, iov_len: text.len() });
    let mut messages: [mmsghdr; 3] = unsafe { zeroed() };
    for (message, iov) in messages.iter_mut().zip(&mut iovs) {
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (iov, 1);
    }
    assert_eq!(ok(unsafe { sendmmsg(client, messages.as_mut_ptr(), 3, 0) }), 3);
    assert_eq!(messages.map(|message| message.msg_len), [3, 3, 5]);
    let mut buffers = [[0u8; 8]; 4];
    let mut iovs = buffers.each_mut().map(|buffer| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 });
    let mut messages: [mmsghdr; 4] = unsafe { zeroed() };
    let mut names = [v4(0, 0); 4];
    for ((message, iov), name) in messages.iter_mut().zip(&mut iovs).zip(&mut names) {
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (iov, 1);
        (message.msg_hdr.msg_name, message.msg_hdr.msg_namelen) = ((name as *mut sockaddr_in).cast(), 16);
    }
    let n = unsafe { recvmmsg(server, messages.as_mut_ptr(), 4, MSG_WAITFORONE as _, std::ptr::null_mut()) };
    assert_eq!(ok(n), 3);
    assert_eq!(messages[2].msg_len, 5);
    assert_eq!(&buffers[2][..5], b"three");
    assert_eq!(u16::from_be(names[1].sin_port), name_v4(client).1);
}

pub fn control() {
    let server = new(AF_INET, SOCK_DGRAM);
    assert_eq!(bind_v4(server, 0, 0), 0);
    let port = name_v4(server).1;
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(set(client, IPPROTO_IP, IP_TTL, 33), 0);
    for (level, name) in [(IPPROTO_IP, IP_PKTINFO), (IPPROTO_IP, IP_RECVTTL), (SOL_SOCKET, SO_TIMESTAMP)] {
        assert_eq!(set(server, level, name, 1), 0);
    }
    put_to(client, b"x", LOCAL, port).unwrap();
    let got = message(server, 0).unwrap();
    assert_eq!(got.flags & MSG_CTRUNC, 0);
    let found = got.control;
    let data = |level: i32, kind: i32| {
        &found.iter().find(|(l, k, _)| (*l, *k) == (level, kind)).unwrap_or_else(|| panic!("{found:?}")).2
    };
    let info = data(IPPROTO_IP, IP_PKTINFO);
    assert_eq!(info.len(), 12);
    assert_eq!(i32::from_ne_bytes(info[..4].try_into().unwrap()), unsafe { if_nametoindex(c"lo".as_ptr()) } as i32);
    assert_eq!((&info[4..8], &info[8..]), (&[127, 0, 0, 1][..], &[127, 0, 0, 1][..]));
    assert_eq!(data(IPPROTO_IP, IP_TTL)[..], 33i32.to_ne_bytes());
    assert_eq!(data(SOL_SOCKET, SO_TIMESTAMP).len(), 16);
    // A source chosen for one packet.
    let text = b"y";
    let mut iov = iovec { iov_base: text.as_ptr() as *mut c_void, iov_len: 1 };
    let mut name = v4(LOCAL, port);
    let mut control = [0u64; 8];
    let mut message: msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
    (message.msg_name, message.msg_namelen) = ((&raw mut name).cast(), 16);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 32);
    unsafe {
        let header = CMSG_FIRSTHDR(&message);
        (*header).cmsg_len = size_of::<cmsghdr>() + 12;
        ((*header).cmsg_level, (*header).cmsg_type) = (IPPROTO_IP, IP_PKTINFO);
        let info = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: 0x7f00_0005u32.to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        };
        CMSG_DATA(header).cast::<in_pktinfo>().write_unaligned(info);
    }
    assert_eq!(ok(unsafe { sendmsg(client, &message, 0) }), 1);
    assert_eq!(get_from(server, 10).1, 0x7f00_0005);
    // Control data that finds no room is cut, and that is told.
    put_to(client, b"z", LOCAL, port).unwrap();
    let mut buffer = [0u8; 4];
    let mut iov = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 4 };
    let mut small = [0u64; 1];
    let mut message: msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
    (message.msg_control, message.msg_controllen) = (small.as_mut_ptr().cast(), 8);
    assert_eq!(ok(unsafe { recvmsg(server, &mut message, 0) }), 1);
    assert_eq!((message.msg_flags & MSG_CTRUNC, message.msg_controllen), (MSG_CTRUNC, 0));
}

pub fn cork() {
    let (server, port) = bound();
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_eq!(ok(unsafe { send(client, b"one ".as_ptr().cast(), 4, MSG_MORE) }), 4);
    assert_eq!(events(server, POLLIN, 20), 0);
    assert_eq!(put(client, b"datagram"), Ok(8));
    assert_eq!(get(server, 50, 0).unwrap(), b"one datagram");
}

pub fn multicast() {
    const GROUP: u32 = 0xef01_0203;
    let receiver = new(AF_INET, SOCK_DGRAM);
    assert_eq!(bind_v4(receiver, 0, 0), 0);
    let port = name_v4(receiver).1;
    let request = ip_mreqn {
        imr_multiaddr: in_addr { s_addr: GROUP.to_be() },
        imr_address: in_addr { s_addr: LOCAL.to_be() },
        imr_ifindex: 0,
    };
    let join = |fd: i32, name: i32| {
        errno_of(unsafe { setsockopt(fd, IPPROTO_IP, name, (&raw const request).cast(), size_of::<ip_mreqn>() as u32) })
    };
    assert_eq!(join(receiver, IP_DROP_MEMBERSHIP), EADDRNOTAVAIL);
    assert_eq!(join(receiver, IP_ADD_MEMBERSHIP), 0);
    assert_eq!(join(receiver, IP_ADD_MEMBERSHIP), EADDRINUSE);
    let sender = new(AF_INET, SOCK_DGRAM);
    let own = in_addr { s_addr: LOCAL.to_be() };
    ok(unsafe { setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, (&raw const own).cast(), 4) });
    assert_eq!(put_to(sender, b"to all", GROUP, port), Ok(6));
    assert_eq!(get(receiver, 20, 0).unwrap(), b"to all");
    assert_eq!(join(receiver, IP_DROP_MEMBERSHIP), 0);
    assert_eq!(put_to(sender, b"to all", GROUP, port), Ok(6));
    assert_eq!(events(receiver, POLLIN, 30), 0);
    let mut bad = request;
    bad.imr_multiaddr.s_addr = LOCAL.to_be();
    let result = unsafe { setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, (&raw const bad).cast(), 12) };
    assert_eq!(errno_of(result), EINVAL);
}

pub fn broadcast_needs_leave() {
    let fd = new(AF_INET, SOCK_DGRAM);
    // Without a route either error may be seen first.
    let denied = put_to(fd, b"x", 0xffff_ffff, 9);
    assert!(matches!(denied, Err(EACCES | ENETUNREACH)), "{denied:?}");
    assert_eq!(set(fd, SOL_SOCKET, SO_BROADCAST, 1), 0);
    assert_eq!(option(fd, SOL_SOCKET, SO_BROADCAST), Ok(1));
}

pub fn shut_down() {
    let (server, port) = bound();
    assert_eq!(errno_of(unsafe { shutdown(server, SHUT_RD) }), ENOTCONN);
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    ok(unsafe { shutdown(client, SHUT_WR) });
    assert_eq!(put(client, b"x"), Err(EPIPE));
    let waker = soon(move || {
        ok(unsafe { shutdown(client, SHUT_RD) });
    });
    assert_eq!(get(client, 1, 0).unwrap(), b"");
    waker.join().unwrap();
    // A failed shutdown(2) has shut what was asked for all the same; what comes is received, and who does not wait is told so.
    assert_eq!(get(server, 1, 0).unwrap(), b"");
    assert_eq!(get(server, 1, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(events(server, POLLIN | POLLRDHUP | POLLHUP, 0), POLLIN | POLLRDHUP);
    let other = new(AF_INET, SOCK_DGRAM);
    assert_eq!(put_to(other, b"still", LOCAL, port), Ok(5));
    assert_eq!(get(server, 9, 0).unwrap(), b"still");
    assert_eq!(errno_of(unsafe { shutdown(server, SHUT_WR) }), ENOTCONN);
    assert_eq!(put_to(server, b"x", LOCAL, name_v4(other).1), Err(EPIPE));
    assert_eq!(events(server, POLLIN | POLLRDHUP, 0), POLLIN | POLLRDHUP | POLLHUP);
    // No SIGPIPE goes with a datagram's EPIPE.
    assert_eq!(errno_of(unsafe { send(client, b"x".as_ptr().cast(), 1, 0) }), EPIPE);
}

fn sum(bytes: &[u8]) -> u16 {
    let mut total: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

pub fn ping() {
    lo_up();
    let fd = ok(unsafe { libc::socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) });
    let request = [8u8, 0, 0, 0, 0, 0, 0, 1, b'p', b'i', b'n', b'g'];
    assert_eq!(put_to(fd, &request, LOCAL, 0), Ok(12));
    let (reply, from, _) = get_from(fd, 100);
    assert_eq!(from, LOCAL);
    assert_eq!((reply[0], reply[1], &reply[6..]), (0, 0, &request[6..]));
    assert_eq!(u16::from_be_bytes([reply[4], reply[5]]), name_v4(fd).1);
    assert_eq!(put_to(fd, &[0; 12], LOCAL, 0), Err(EINVAL));
    assert_eq!(put_to(fd, &[8; 4], LOCAL, 0), Err(EINVAL));
    let six = ok(unsafe { libc::socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6) });
    let request = [128u8, 0, 0, 0, 0, 0, 0, 1, b's', b'i', b'x', b'!'];
    let to = v6(LOCAL6, 0);
    ok(unsafe { sendto(six, request.as_ptr().cast(), 12, 0, (&raw const to).cast(), 28) });
    let reply = get(six, 100, 0).unwrap();
    assert_eq!((reply[0], &reply[6..]), (129, &request[6..]));
}

pub fn raw_icmp() {
    lo_up();
    let fd = ok(unsafe { libc::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) });
    let mut request = [8u8, 0, 0, 0, 0x12, 0x34, 0, 1, b'r', b'a', b'w', b'!'];
    let total = sum(&request);
    request[2..4].copy_from_slice(&total.to_be_bytes());
    assert_eq!(put_to(fd, &request, LOCAL, 0), Ok(12));
    // Both the request and the reply come by, with their IP headers.
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (packet, _, _) = get_from(fd, 200);
        assert_eq!((packet[0], packet[9], packet.len()), (0x45, 1, 32));
        kinds.push(packet[20]);
    }
    assert_eq!(kinds, [8, 0]);
    let mask = !(1u32 << 0);
    ok(unsafe { setsockopt(fd, 255, 1, (&raw const mask).cast(), 4) });
    assert_eq!(put_to(fd, &request, LOCAL, 0), Ok(12));
    assert_eq!(get_from(fd, 200).0[20], 0);
    assert_eq!(get(fd, 1, MSG_DONTWAIT), Err(EAGAIN));
}

pub fn raw_udp() {
    let (server, port) = bound();
    let fd = ok(unsafe { libc::socket(AF_INET, SOCK_RAW, IPPROTO_UDP) });
    // A datagram with no checksum is taken.
    let mut datagram = vec![0, 7, 0, 0, 0, 12, 0, 0];
    datagram[2..4].copy_from_slice(&port.to_be_bytes());
    datagram.extend_from_slice(b"self");
    assert_eq!(put_to(fd, &datagram, LOCAL, 0), Ok(12));
    let (bytes, _, from) = get_from(server, 20);
    assert_eq!((&bytes[..], from), (&b"self"[..], 7));
    // With a header of our own.
    let whole = ok(unsafe { libc::socket(AF_INET, SOCK_RAW, IPPROTO_RAW) });
    assert_eq!(option(whole, IPPROTO_IP, IP_HDRINCL), Ok(1));
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 9, 127, 0, 0, 1];
    packet.extend_from_slice(&datagram);
    assert_eq!(put_to(whole, &packet, LOCAL, 0), Ok(32));
    assert_eq!(get_from(server, 20).1, 0x7f00_0009);
}
