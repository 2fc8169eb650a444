//! Sockets over loopback.

use crate::{Item, Meter, check, with_child};
use std::io::{self, Read, Write};
use std::mem::zeroed;
use std::net::{TcpListener, TcpStream, UdpSocket};

pub const ITEMS: &[(&str, Item)] = &[
    ("tcp_round_trip", tcp_round_trip),
    ("tcp_connect_accept_close", tcp_connect),
    ("udp_round_trip", udp_round_trip),
];

const ANY_PORT: (&str, u16) = ("127.0.0.1", 0);

/// Sets the loopback interface up, which not every init does.
fn loopback_up() -> io::Result<()> {
    let socket = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
    let mut request: libc::ifreq = unsafe { zeroed() };
    (request.ifr_name[0], request.ifr_name[1]) = (b'l' as _, b'o' as _);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    check(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &request) })?;
    check(unsafe { libc::close(socket) }).map(drop)
}

fn tcp_round_trip(meter: &mut Meter) -> io::Result<()> {
    loopback_up()?;
    let listener = TcpListener::bind(ANY_PORT)?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut byte = [0];
    let peer = || {
        let mut byte = [0];
        loop {
            far.read_exact(&mut byte)?;
            far.write_all(&byte)?;
        }
    };
    with_child(peer, || {
        meter.measure(300, || {
            near.write_all(&[1])?;
            near.read_exact(&mut byte)
        })
    })
}

fn tcp_connect(meter: &mut Meter) -> io::Result<()> {
    loopback_up()?;
    let listener = TcpListener::bind(ANY_PORT)?;
    let address = listener.local_addr()?;
    meter.measure(100, || {
        let near = TcpStream::connect(address)?;
        drop(listener.accept()?);
        drop(near);
        Ok(())
    })
}

fn udp_round_trip(meter: &mut Meter) -> io::Result<()> {
    loopback_up()?;
    let (near, far) = (UdpSocket::bind(ANY_PORT)?, UdpSocket::bind(ANY_PORT)?);
    near.connect(far.local_addr()?)?;
    far.connect(near.local_addr()?)?;
    let mut byte = [0];
    let peer = || {
        let mut byte = [0];
        loop {
            far.recv(&mut byte)?;
            far.send(&byte)?;
        }
    };
    with_child(peer, || {
        meter.measure(300, || {
            near.send(&[1])?;
            near.recv(&mut byte).map(drop)
        })
    })
}
