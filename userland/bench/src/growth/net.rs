//! Sockets.

use super::{Entry, mean, moved};
use crate::check;
use std::io;
use std::mem::{size_of, zeroed};

pub const ITEMS: &[Entry] = &[
    ("udp_among_sockets", udp_among_sockets, 10_000),
    ("udp_bind0_among", udp_bind0_among, 10_000),
    ("tcp_rt_among", tcp_rt_among, 1000),
    ("tcp_connect_among", tcp_connect_among, 1000),
    ("unix_connect_among", unix_connect_among, 10_000),
    ("scm_rights_among", super::files::scm_rights_among, 3000),
];

const LEN: u32 = size_of::<libc::sockaddr_in>() as u32;

/// Linux boots with loopback down.
pub fn bring_up_loopback() {
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = zeroed();
        (request.ifr_name[0], request.ifr_name[1]) = (b'l' as _, b'o' as _);
        request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
        libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request);
        libc::close(socket);
    }
}

fn any_port() -> libc::sockaddr_in {
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address
}

fn address_of(socket: i32) -> io::Result<libc::sockaddr_in> {
    let (mut address, mut len) = (any_port(), LEN);
    check(unsafe { libc::getsockname(socket, (&raw mut address).cast(), &mut len) })?;
    Ok(address)
}

/// A socket bound to a port of its own.
fn bound(kind: i32) -> io::Result<i32> {
    let socket = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    let address = any_port();
    check(unsafe { libc::bind(socket, (&raw const address).cast(), LEN) })?;
    Ok(socket)
}

fn close(fd: i32) -> io::Result<()> {
    check(unsafe { libc::close(fd) }).map(drop)
}

fn udp_among_sockets(count: usize) -> io::Result<u64> {
    (0..count).try_for_each(|_| bound(libc::SOCK_DGRAM).map(drop))?;
    let own = bound(libc::SOCK_DGRAM)?;
    let address = address_of(own)?;
    let mut byte = 0u8;
    let at = (&raw mut byte).cast::<libc::c_void>();
    mean(|_| {
        moved(unsafe { libc::sendto(own, at, 1, 0, (&raw const address).cast(), LEN) })?;
        moved(unsafe { libc::recv(own, at, 1, 0) }).map(drop)
    })
}

fn udp_bind0_among(count: usize) -> io::Result<u64> {
    (0..count).try_for_each(|_| bound(libc::SOCK_DGRAM).map(drop))?;
    mean(|_| close(bound(libc::SOCK_DGRAM)?))
}

fn connected(family: i32, address: *const libc::sockaddr, len: u32, listener: i32) -> io::Result<(i32, i32)> {
    let client = check(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })?;
    check(unsafe { libc::connect(client, address, len) })?;
    let server = check(unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) })?;
    Ok((client, server))
}

/// A listener with its address, and the last of `count` connections to it.
fn tcp_pairs(count: usize) -> io::Result<(i32, libc::sockaddr_in, (i32, i32))> {
    let listener = bound(libc::SOCK_STREAM)?;
    check(unsafe { libc::listen(listener, 128) })?;
    let address = address_of(listener)?;
    let mut last = (0, 0);
    for _ in 0..count {
        last = connected(libc::AF_INET, (&raw const address).cast(), LEN, listener)?;
    }
    Ok((listener, address, last))
}

fn tcp_rt_among(count: usize) -> io::Result<u64> {
    let (_, _, (client, server)) = tcp_pairs(count)?;
    let mut byte = 0u8;
    let at = (&raw mut byte).cast::<libc::c_void>();
    mean(|_| {
        for (from, to) in [(client, server), (server, client)] {
            moved(unsafe { libc::send(from, at, 1, 0) })?;
            moved(unsafe { libc::recv(to, at, 1, 0) })?;
        }
        Ok(())
    })
}

fn tcp_connect_among(count: usize) -> io::Result<u64> {
    let (listener, address, _) = tcp_pairs(count)?;
    mean(|_| {
        let (client, server) = connected(libc::AF_INET, (&raw const address).cast(), LEN, listener)?;
        close(client)?;
        close(server)
    })
}

fn unix_connect_among(count: usize) -> io::Result<u64> {
    let listener = check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) })?;
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    // An abstract name: nothing is left behind.
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(b"growth") {
        *to = *from as _;
    }
    let (at, len) = ((&raw const address).cast(), size_of::<libc::sockaddr_un>() as u32);
    check(unsafe { libc::bind(listener, at, len) })?;
    check(unsafe { libc::listen(listener, 128) })?;
    (0..count).try_for_each(|_| connected(libc::AF_UNIX, at, len, listener).map(drop))?;
    mean(|_| {
        let (client, server) = connected(libc::AF_UNIX, at, len, listener)?;
        close(client)?;
        close(server)
    })
}
