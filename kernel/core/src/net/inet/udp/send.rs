//! Sending datagrams: where from and where to, corks, the packet.

use super::UdpSocket;
use crate::net::iface;
use crate::net::inet::address::{self, Endpoint};
use crate::net::inet::control::{self, SendControl};
use crate::net::inet::counters::Udp as Count;
use crate::net::inet::options::Switch;
use crate::net::inet::output;
use crate::net::inet::packet::Packet;
use crate::net::message::Control;
use crate::net::options::Switches;
use crate::net::socket::{AF_INET, How, MsgFlags};
use crate::prelude::*;
use base::net::build::{self, Ip};
use base::net::packet::PROTO_UDP;
use core::net::IpAddr;
use core::sync::atomic::Ordering;

/// The longest payload of one datagram.
const MAX_PAYLOAD: usize = 65_507;
const MAX_PAYLOAD_V6: usize = 65_527;

impl UdpSocket {
    fn takes_v4(&self) -> bool {
        self.domain == AF_INET || !self.ip.is_on(Switch::V6ONLY)
    }

    pub(super) fn parse_peer(&self, bytes: &[u8]) -> Result<Endpoint, Errno> {
        let endpoint = address::parse_peer(self.domain, bytes, true)?;
        if endpoint.ip.is_ipv4() && !self.takes_v4() {
            return Err(Errno::ENETUNREACH);
        }
        Ok(address::or_loopback(endpoint))
    }

    pub(super) fn send_datagram(
        &self,
        src: &mut UserReader<'_>,
        to: Option<&[u8]>,
        control: &[Control],
        how: How,
    ) -> SysResult {
        if src.remaining() > 0xffff {
            return Err(Errno::EMSGSIZE);
        }
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let explicit = match to {
            Some(bytes) => {
                let peer = self.parse_peer(bytes)?;
                if peer.port == 0 {
                    return Err(Errno::EINVAL);
                }
                Some(peer)
            }
            None => None,
        };
        let (remote, local, is_corked, has_kept) = {
            let state = self.state.lock();
            (state.remote, state.local, state.is_corked, state.corked.is_some())
        };
        let target = explicit.or(remote).ok_or(Errno::EDESTADDRREQ)?;
        let chosen = control::read_send_control(self.domain, &self.common, control)?;
        self.mailbox.may_send()?;
        let max = if target.ip.is_ipv4() { MAX_PAYLOAD } else { MAX_PAYLOAD_V6 };
        if src.remaining() > max {
            return Err(Errno::EMSGSIZE);
        }
        if iface::address::is_broadcast(target.ip) && !self.common.is_on(Switches::BROADCAST) {
            return Err(Errno::EACCES);
        }
        if local.port == 0 {
            self.bind_any()?;
        }
        let len = src.remaining();
        let more = is_corked || how.flags.contains(MsgFlags::MORE);
        if more || has_kept {
            return self.cork(target, src.read_all()?, max, more);
        }
        let interface = match (chosen.interface, target.scope) {
            (0, 0) => self.default_interface(target.ip),
            (0, scope) => scope,
            (named, _) => named,
        };
        let source = self.source(target.ip, interface, chosen.source, local)?;
        if let Some(bytes) = self.segment_of(&chosen) {
            self.send_segments(&src.read_all()?, bytes, target, source, interface, &chosen)?;
            return Ok(len);
        }
        let head = build::ip_header_len(source);
        let mut packet = Packet::try_new(head + 8 + len)?;
        let copied = if len == 0 { 0 } else { src.read(&mut packet.bytes_mut()[head + 8..])? };
        if copied < len {
            return Err(Errno::EFAULT);
        }
        self.finish(packet, target, source, interface, &chosen)?;
        Ok(len)
    }

    pub(super) fn default_interface(&self, to: IpAddr) -> u32 {
        match self.common.device.load(Ordering::Relaxed) {
            0 if to.is_multicast() => self.ip.multicast_interface(),
            device => device,
        }
    }

    pub(super) fn source(
        &self,
        to: IpAddr,
        interface: u32,
        chosen: Option<IpAddr>,
        local: Endpoint,
    ) -> Result<IpAddr, Errno> {
        if let Some(source) = chosen.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            return Ok(source);
        }
        if !local.ip.is_unspecified() && !local.ip.is_multicast() {
            return if local.ip.is_ipv4() == to.is_ipv4() { Ok(local.ip) } else { Err(Errno::EINVAL) };
        }
        let only = (interface != 0).then_some(interface);
        let via = iface::route::lookup_on(to, only).ok_or(Errno::ENETUNREACH)?;
        via.source.or_else(|| iface::source_for(via.interface, to)).ok_or(if to.is_ipv4() {
            Errno::ENETUNREACH
        } else {
            Errno::EADDRNOTAVAIL
        })
    }

    pub(super) fn finish(
        &self,
        mut packet: Packet,
        target: Endpoint,
        source: IpAddr,
        interface: u32,
        chosen: &SendControl,
    ) -> Result<(), Errno> {
        let ip = Ip {
            src: source,
            dst: target.ip,
            protocol: self.protocol,
            hop_limit: chosen.hop_limit.unwrap_or_else(|| self.ip.hop_limit(target.ip)),
            traffic_class: chosen.traffic_class.unwrap_or_else(|| self.ip.traffic_class()),
            id: 0,
            dont_fragment: chosen.dont_fragment || self.ip.forbids_fragments(target.ip),
        };
        let port = self.state.lock().local.port;
        let head = build::ip_header_len(source);
        build::ip_header(packet.bytes_mut(), &ip);
        let datagram = &mut packet.bytes_mut()[head..];
        if self.protocol == PROTO_UDP {
            build::udp_header(datagram, &ip, port, target.port, false);
        } else {
            build::udplite_header(datagram, &ip, port, target.port, self.coverage.sent());
        }
        // No device knows UDP-Lite's.
        packet.needs_checksum = self.protocol == PROTO_UDP;
        packet.interface = interface;
        packet.dont_fragment = ip.dont_fragment;
        packet.mark = chosen.mark.unwrap_or_else(|| self.common.mark.load(Ordering::Relaxed) as u32);
        packet.no_loop = !self.ip.is_on(Switch::MULTICAST_LOOP);
        self.count(target.ip, Count::Out);
        let result = output::send_checked(packet);
        if result == Err(Errno::EMSGSIZE) {
            let only = (interface != 0).then_some(interface);
            let mtu = iface::route::lookup_on(target.ip, only).map_or(0, |via| via.mtu);
            let port = self.state.lock().remote.map_or(0, |remote| remote.port);
            self.mailbox.too_long(&self.owner(), Endpoint { port, ..target }, mtu);
        }
        result
    }

    /// Keeps bytes for one datagram; sends it when nothing more is to come.
    fn cork(&self, target: Endpoint, bytes: Vec<u8>, max: usize, more: bool) -> SysResult {
        let len = bytes.len();
        let whole = {
            let mut state = self.state.lock();
            let (_, kept) = state.corked.get_or_insert_with(|| (target, Vec::new()));
            if kept.len() + len > max {
                return Err(Errno::EMSGSIZE);
            }
            kept.extend_from_slice(&bytes);
            if more { None } else { state.corked.take() }
        };
        if let Some((target, bytes)) = whole {
            self.send_kept(target, &bytes)?;
        }
        Ok(len)
    }

    pub(super) fn send_kept(&self, target: Endpoint, bytes: &[u8]) -> Result<(), Errno> {
        let local = self.state.lock().local;
        let interface = self.default_interface(target.ip);
        let source = self.source(target.ip, interface, None, local)?;
        let head = build::ip_header_len(source);
        let mut packet = Packet::try_new(head + 8 + bytes.len())?;
        packet.bytes_mut()[head + 8..].copy_from_slice(bytes);
        self.finish(packet, target, source, interface, &SendControl::default())
    }
}
