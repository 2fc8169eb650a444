//! Addresses, sockets and short calls for the tests of this family.

pub use crate::harness::errno;
pub use libc::*;
use std::mem::{size_of, zeroed};
use std::sync::Once;

/// Brings `lo` up: a bare machine has it down.
pub fn lo_up() {
    static UP: Once = Once::new();
    UP.call_once(|| unsafe {
        let fd = libc::socket(AF_INET, SOCK_DGRAM, 0);
        let mut request: ifreq = zeroed();
        request.ifr_name[0] = b'l' as _;
        request.ifr_name[1] = b'o' as _;
        request.ifr_ifru.ifru_flags = (IFF_UP | IFF_RUNNING) as i16;
        ioctl(fd, SIOCSIFFLAGS as _, &request);
        let all = c"/proc/sys/net/ipv4/ping_group_range";
        let file = open(all.as_ptr(), O_WRONLY);
        write(file, c"0 2147483647".as_ptr().cast(), 12);
        close(file);
        close(fd);
        // The address of IPv6's loopback comes a moment after the interface.
        for _ in 0..100 {
            let fd = libc::socket(AF_INET6, SOCK_DGRAM, 0);
            let address = v6(LOCAL6, 0);
            let bound = bind(fd, (&raw const address).cast(), 28) == 0;
            close(fd);
            if bound {
                break;
            }
            usleep(10_000);
        }
    });
}

/// What a system call answers.
pub trait Answer: Copy {
    fn failed(self) -> bool;
}

impl Answer for i32 {
    fn failed(self) -> bool {
        self == -1
    }
}

impl Answer for isize {
    fn failed(self) -> bool {
        self == -1
    }
}

impl Answer for i64 {
    fn failed(self) -> bool {
        self == -1
    }
}

#[track_caller]
pub fn ok<T: Answer>(result: T) -> T {
    assert!(!result.failed(), "{}", std::io::Error::last_os_error());
    result
}

/// The errno of a failed call, or 0.
pub fn errno_of(result: impl Answer) -> i32 {
    if result.failed() { errno() } else { 0 }
}

pub fn v4(last: u32, port: u16) -> sockaddr_in {
    let mut address: sockaddr_in = unsafe { zeroed() };
    address.sin_family = AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = last.to_be();
    address
}

pub const LOCAL: u32 = 0x7f00_0001;
pub const LOCAL6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub fn v6(bytes: [u8; 16], port: u16) -> sockaddr_in6 {
    let mut address: sockaddr_in6 = unsafe { zeroed() };
    address.sin6_family = AF_INET6 as u16;
    address.sin6_port = port.to_be();
    address.sin6_addr.s6_addr = bytes;
    address
}

#[track_caller]
pub fn new(domain: i32, kind: i32) -> i32 {
    lo_up();
    ok(unsafe { libc::socket(domain, kind, 0) })
}

pub fn bind_v4(fd: i32, address: u32, port: u16) -> i32 {
    let address = v4(address, port);
    errno_of(unsafe { bind(fd, (&raw const address).cast(), 16) })
}

pub fn bind_v6(fd: i32, address: [u8; 16], port: u16) -> i32 {
    let address = v6(address, port);
    errno_of(unsafe { bind(fd, (&raw const address).cast(), 28) })
}

pub fn connect_v4(fd: i32, address: u32, port: u16) -> i32 {
    let address = v4(address, port);
    errno_of(unsafe { connect(fd, (&raw const address).cast(), 16) })
}

pub fn connect_v6(fd: i32, address: [u8; 16], port: u16) -> i32 {
    let address = v6(address, port);
    errno_of(unsafe { connect(fd, (&raw const address).cast(), 28) })
}

#[track_caller]
pub fn name_v4(fd: i32) -> (u32, u16) {
    let mut address: sockaddr_in = unsafe { zeroed() };
    let mut len = 16;
    ok(unsafe { getsockname(fd, (&raw mut address).cast(), &mut len) });
    assert_eq!((len, address.sin_family), (16, AF_INET as u16));
    (u32::from_be(address.sin_addr.s_addr), u16::from_be(address.sin_port))
}

pub fn peer_v4(fd: i32) -> Result<(u32, u16), i32> {
    let mut address: sockaddr_in = unsafe { zeroed() };
    let mut len = 16;
    match unsafe { getpeername(fd, (&raw mut address).cast(), &mut len) } {
        0 => Ok((u32::from_be(address.sin_addr.s_addr), u16::from_be(address.sin_port))),
        _ => Err(errno()),
    }
}

#[track_caller]
pub fn name_v6(fd: i32) -> ([u8; 16], u16) {
    let mut address: sockaddr_in6 = unsafe { zeroed() };
    let mut len = 28;
    ok(unsafe { getsockname(fd, (&raw mut address).cast(), &mut len) });
    assert_eq!((len, address.sin6_family), (28, AF_INET6 as u16));
    (address.sin6_addr.s6_addr, u16::from_be(address.sin6_port))
}

/// A listener on 127.0.0.1 and its port.
#[track_caller]
pub fn listener(backlog: i32) -> (i32, u16) {
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(bind_v4(fd, LOCAL, 0), 0);
    ok(unsafe { listen(fd, backlog) });
    (fd, name_v4(fd).1)
}

#[track_caller]
pub fn take(listener: i32) -> i32 {
    ok(unsafe { accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), 0) })
}

/// A connected pair over `lo`: client, server.
#[track_caller]
pub fn connected() -> (i32, i32) {
    let (listener, port) = listener(5);
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let server = take(listener);
    unsafe { close(listener) };
    (client, server)
}

pub fn put(fd: i32, bytes: &[u8]) -> Result<usize, i32> {
    match unsafe { send(fd, bytes.as_ptr().cast(), bytes.len(), MSG_NOSIGNAL) } {
        -1 => Err(errno()),
        n => Ok(n as usize),
    }
}

pub fn get(fd: i32, len: usize, flags: i32) -> Result<Vec<u8>, i32> {
    let mut buffer = vec![0u8; len];
    match unsafe { recv(fd, buffer.as_mut_ptr().cast(), len, flags) } {
        -1 => Err(errno()),
        n => {
            buffer.truncate(n as usize);
            Ok(buffer)
        }
    }
}

pub fn set(fd: i32, level: i32, name: i32, value: i32) -> i32 {
    errno_of(unsafe { setsockopt(fd, level, name, (&raw const value).cast(), 4) })
}

pub fn option(fd: i32, level: i32, name: i32) -> Result<i32, i32> {
    let (mut value, mut len) = (-1i32, 4u32);
    match unsafe { getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) } {
        0 => Ok(value),
        _ => Err(errno()),
    }
}

/// The events of `poll` for `wanted`, waiting up to `timeout_ms`.
pub fn events(fd: i32, wanted: i16, timeout_ms: i32) -> i16 {
    let mut entry = pollfd { fd, events: wanted, revents: 0 };
    ok(unsafe { poll(&mut entry, 1, timeout_ms) });
    entry.revents
}

pub fn nonblocking(fd: i32) {
    unsafe { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) };
}

/// Runs `f` in a thread once everybody else, the caller too, has blocked.
pub fn soon(f: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        crate::harness::others_asleep();
        f();
    })
}

pub const ADDRESS_LEN: u32 = size_of::<sockaddr_in>() as u32;

#[derive(Debug, PartialEq)]
pub struct Got {
    pub bytes: Vec<u8>,
    pub flags: i32,
    pub name: Vec<u8>,
    pub control: Vec<(i32, i32, Vec<u8>)>,
}

/// recvmsg(2) of up to 100 bytes, with everything it tells.
pub fn message(fd: i32, flags: i32) -> Result<Got, i32> {
    let (mut buffer, mut name) = ([0u8; 100], [0u8; 28]);
    let mut control = [0u64; 64];
    let mut iov = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 100 };
    let mut message: msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
    (message.msg_name, message.msg_namelen) = (name.as_mut_ptr().cast(), 28);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 512);
    let n = unsafe { recvmsg(fd, &mut message, flags) };
    if n < 0 {
        return Err(errno());
    }
    let mut found = Vec::new();
    unsafe {
        let mut at = CMSG_FIRSTHDR(&message);
        while !at.is_null() {
            let len = (*at).cmsg_len - size_of::<cmsghdr>();
            let data = std::slice::from_raw_parts(CMSG_DATA(at), len).to_vec();
            found.push(((*at).cmsg_level, (*at).cmsg_type, data));
            at = CMSG_NXTHDR(&message, at);
        }
    }
    let name = name[..message.msg_namelen as usize].to_vec();
    Ok(Got { bytes: buffer[..n as usize].to_vec(), flags: message.msg_flags, name, control: found })
}

/// Sends with one control message.
pub fn put_with(fd: i32, bytes: &[u8], level: i32, kind: i32, data: &[u8]) -> Result<usize, i32> {
    let mut iov = iovec { iov_base: bytes.as_ptr() as *mut c_void, iov_len: bytes.len() };
    let mut control = [0u64; 16];
    let mut message: msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 16 + data.len().next_multiple_of(8));
    unsafe {
        let header = CMSG_FIRSTHDR(&message);
        ((*header).cmsg_len, (*header).cmsg_level, (*header).cmsg_type) = (16 + data.len(), level, kind);
        std::ptr::copy_nonoverlapping(data.as_ptr(), CMSG_DATA(header), data.len());
        match sendmsg(fd, &message, MSG_NOSIGNAL) {
            -1 => Err(errno()),
            n => Ok(n as usize),
        }
    }
}

/// A UDP receiver and a sender connected to it.
pub fn pair(domain: i32) -> (i32, i32) {
    let (server, client) = (new(domain, SOCK_DGRAM), new(domain, SOCK_DGRAM));
    if domain == AF_INET {
        assert_eq!(bind_v4(server, LOCAL, 0), 0);
        assert_eq!(connect_v4(client, LOCAL, name_v4(server).1), 0);
    } else {
        assert_eq!(bind_v6(server, LOCAL6, 0), 0);
        assert_eq!(connect_v6(client, LOCAL6, name_v6(server).1), 0);
    }
    (server, client)
}
