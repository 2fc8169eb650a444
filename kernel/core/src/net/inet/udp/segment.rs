//! UDP_SEGMENT (udp(7)): one send makes many datagrams of one length, the last one shorter.

use super::UdpSocket;
use crate::net::iface;
use crate::net::inet::address::Endpoint;
use crate::net::inet::control::SendControl;
use crate::net::inet::packet::Packet;
use crate::net::options::Switches;
use crate::prelude::*;
use base::net::build;
use base::net::packet::PROTO_UDPLITE;
use core::net::IpAddr;
use core::sync::atomic::Ordering;

/// Datagrams of one send.
const MAX_SEGMENTS: usize = 128;

impl UdpSocket {
    /// EINVAL.
    pub(super) fn set_segment(&self, bytes: i32) -> Result<(), Errno> {
        let bytes = u16::try_from(bytes).map_err(|_| Errno::EINVAL)?;
        self.segment_bytes.store(bytes.into(), Ordering::Relaxed);
        Ok(())
    }

    /// How long the datagrams of this send are to be; `None`: it makes one.
    pub(super) fn segment_of(&self, chosen: &SendControl) -> Option<usize> {
        let own = self.segment_bytes.load(Ordering::Relaxed) as u16;
        Some(usize::from(chosen.segment.unwrap_or(own))).filter(|bytes| *bytes != 0)
    }

    /// EINVAL when a datagram would not fit a packet or there would be too many, EIO, and what sending answers.
    pub(super) fn send_segments(
        &self,
        bytes: &[u8],
        segment_bytes: usize,
        target: Endpoint,
        source: IpAddr,
        interface: u32,
        chosen: &SendControl,
    ) -> Result<(), Errno> {
        let head = build::ip_header_len(source) + 8;
        let only = (interface != 0).then_some(interface);
        let mtu = iface::route::lookup_on(target.ip, only).ok_or(Errno::ENETUNREACH)?.mtu as usize;
        let is_long = head + segment_bytes > mtu || bytes.len() > segment_bytes * MAX_SEGMENTS;
        if is_long || self.common.is_on(Switches::NO_CHECK) {
            return Err(Errno::EINVAL);
        }
        if self.protocol == PROTO_UDPLITE {
            return Err(Errno::EIO);
        }
        let mut rest = bytes;
        loop {
            let (part, left) = rest.split_at(rest.len().min(segment_bytes));
            let mut packet = Packet::try_new(head + part.len())?;
            packet.bytes_mut()[head..].copy_from_slice(part);
            self.finish(packet, target, source, interface, chosen)?;
            rest = left;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}
