//! NETLINK_SOCK_DIAG, as `ss` asks: internet sockets by family, protocol and state (sock_diag(7)).

use super::Reply;
use crate::net::iface::{self, SocketInfo};
use crate::net::socket::{AF_INET, AF_INET6};
use crate::prelude::*;
use core::net::IpAddr;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2` and `struct inet_diag_msg`.
const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// EINVAL, ENOENT for families without an answer, EOPNOTSUPP.
pub fn handle(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    if reply.header.kind != SOCK_DIAG_BY_FAMILY {
        return Err(Errno::EINVAL);
    }
    let family = u16::from(*body.first().ok_or(Errno::EINVAL)?);
    if family != AF_INET && family != AF_INET6 {
        return Err(Errno::ENOENT);
    }
    let request = body.get(..REQUEST).ok_or(Errno::EINVAL)?;
    if !reply.header.is_dump() {
        return Err(Errno::EOPNOTSUPP);
    }
    reply.is_dump = true;
    let protocol = request[1];
    let states = u32::from_ne_bytes([request[4], request[5], request[6], request[7]]);
    for socket in iface::sockets() {
        let fits = socket.family == family && socket.protocol == protocol && !socket.is_raw;
        if fits && states >> socket.state & 1 == 1 {
            let message = reply.message(SOCK_DIAG_BY_FAMILY, &describe(&socket));
            reply.push(message);
        }
    }
    Ok(())
}

fn put_address(message: &mut [u8], at: usize, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => message[at..at + 4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => message[at..at + 16].copy_from_slice(&v6.octets()),
    }
}

fn describe(socket: &SocketInfo) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[..2].copy_from_slice(&[socket.family as u8, socket.state]);
    message[4..6].copy_from_slice(&socket.local.port().to_be_bytes());
    message[6..8].copy_from_slice(&socket.remote.port().to_be_bytes());
    put_address(&mut message, 8, socket.local.ip());
    put_address(&mut message, 24, socket.remote.ip());
    // The cookie: any number that tells sockets apart.
    message[44..52].copy_from_slice(&socket.inode.to_ne_bytes());
    let words = [0, socket.receive_queue, socket.send_queue, socket.uid, socket.inode as u32];
    for (slot, word) in message[52..].chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_ne_bytes());
    }
    message
}
