//! Control messages of the internet families: what is told of a packet that came, what a send chooses for itself.

use super::address::Endpoint;
use super::options::{
    IP_PKTINFO, IP_RECVORIGDSTADDR, IP_TOS, IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPV6_DONTFRAG, IPV6_HOPLIMIT,
    IPV6_PKTINFO, IPV6_RECVORIGDSTADDR, IPV6_TCLASS, IpOptions, Switch,
};
use crate::net::iface;
use crate::net::message::{Control, ControlItem, SCM_CREDENTIALS, SCM_RIGHTS};
use crate::net::options::{
    Common, SO_MARK, SO_RXQ_OVFL, SO_TIMESTAMP, SO_TIMESTAMPING, SO_TIMESTAMPNS, SO_TXTIME, SOL_SOCKET, Stamping,
    Switches,
};
use crate::net::socket::{AF_INET, AF_INET6};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::time::{Timespec, Timeval};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A control message of SOL_UDP: the length of the datagrams that one send makes.
pub const SOL_UDP: i32 = 17;
pub const UDP_SEGMENT: i32 = 103;

/// `struct in_pktinfo`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PktInfo {
    index: i32,
    spec_dst: [u8; 4],
    addr: [u8; 4],
}

/// `struct in6_pktinfo`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PktInfo6 {
    addr: [u8; 16],
    index: u32,
}

/// How a packet came: what control data tells of it.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub interface: u32,
    pub to: Endpoint,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub realtime_ns: u64,
    /// SO_MARK of the sender on this machine.
    pub mark: u32,
    /// How many before it found no room.
    pub lost: u32,
}

impl Arrival {
    /// Whether two packets came in the same way, whenever that was.
    pub fn is_alike(&self, other: &Self) -> bool {
        let key = |own: &Self| (own.interface, own.to, own.hop_limit, own.traffic_class, own.mark, own.lost);
        key(self) == key(other)
    }
}

/// The control messages that a socket with these options wants of a packet.
pub fn arrival_control(options: &IpOptions, domain: u16, arrival: &Arrival) -> Vec<ControlItem> {
    let mut items = Vec::new();
    if let IpAddr::V4(v4) = arrival.to.ip {
        if options.is_on(Switch::PKTINFO) {
            let spec = match iface::address::owner_of(arrival.to.ip) {
                Some(_) => v4,
                None => match iface::source_for(arrival.interface, arrival.to.ip) {
                    Some(IpAddr::V4(own)) => own,
                    _ => v4,
                },
            };
            let info = PktInfo { index: arrival.interface as i32, spec_dst: spec.octets(), addr: v4.octets() };
            items.push(ControlItem::new(IPPROTO_IP, IP_PKTINFO, &info));
        }
        if options.is_on(Switch::RECVTTL) {
            items.push(ControlItem::new(IPPROTO_IP, IP_TTL, &i32::from(arrival.hop_limit)));
        }
        if options.is_on(Switch::RECVTOS) {
            items.push(ControlItem::new(IPPROTO_IP, IP_TOS, &arrival.traffic_class));
        }
        if options.is_on(Switch::ORIGDST) {
            let mut name = [0u8; 16];
            name.copy_from_slice(&arrival.to.to_address(AF_INET));
            items.push(ControlItem::new(IPPROTO_IP, IP_RECVORIGDSTADDR, &name));
        }
    }
    if domain == AF_INET6 {
        let v6 = match arrival.to.ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        if options.is_on(Switch::PKTINFO6) {
            let info = PktInfo6 { addr: v6.octets(), index: arrival.interface };
            items.push(ControlItem::new(IPPROTO_IPV6, IPV6_PKTINFO, &info));
        }
        if options.is_on(Switch::RECVHOPLIMIT6) {
            items.push(ControlItem::new(IPPROTO_IPV6, IPV6_HOPLIMIT, &i32::from(arrival.hop_limit)));
        }
        if options.is_on(Switch::RECVTCLASS6) {
            items.push(ControlItem::new(IPPROTO_IPV6, IPV6_TCLASS, &i32::from(arrival.traffic_class)));
        }
        if options.is_on(Switch::ORIGDST6) {
            let data = SmallVec::from_slice(&arrival.to.to_address(AF_INET6));
            items.push(ControlItem::Bytes { level: IPPROTO_IPV6, kind: IPV6_RECVORIGDSTADDR, data });
        }
    }
    items
}

/// The control messages of SOL_SOCKET: time stamps, how many packets were lost, the sender's mark.
pub fn common_control(common: &Common, arrival: &Arrival) -> SmallVec<[ControlItem; 2]> {
    const TOLD: Switches =
        Switches::TIMESTAMP.union(Switches::TIMESTAMP_NS).union(Switches::COUNT_LOST).union(Switches::RECEIVE_MARK);
    let mut items = SmallVec::new();
    if !common.is_on(TOLD) && common.stamping().is_empty() {
        return items;
    }
    if common.is_on(Switches::TIMESTAMP) {
        let time = Timeval::from_ns(arrival.realtime_ns);
        items.push(ControlItem::new(SOL_SOCKET, SO_TIMESTAMP, &time));
    }
    if common.is_on(Switches::TIMESTAMP_NS) {
        let time = Timespec::from_ns(arrival.realtime_ns);
        items.push(ControlItem::new(SOL_SOCKET, SO_TIMESTAMPNS, &time));
    }
    if common.stamping().contains(Stamping::SOFTWARE | Stamping::RX_SOFTWARE) {
        // `struct scm_timestamping`: ours, one that is not used, the device's.
        let none = Timespec::from_ns(0);
        let times = [Timespec::from_ns(arrival.realtime_ns), none, none];
        items.push(ControlItem::new(SOL_SOCKET, SO_TIMESTAMPING, &times));
    }
    if common.is_on(Switches::COUNT_LOST) && arrival.lost != 0 {
        items.push(ControlItem::new(SOL_SOCKET, SO_RXQ_OVFL, &arrival.lost));
    }
    if common.is_on(Switches::RECEIVE_MARK) {
        items.push(ControlItem::new(SOL_SOCKET, SO_MARK, &arrival.mark));
    }
    items
}

/// What one send chooses for itself.
#[derive(Default)]
pub struct SendControl {
    pub interface: u32,
    pub source: Option<IpAddr>,
    pub hop_limit: Option<u8>,
    pub traffic_class: Option<u8>,
    pub dont_fragment: bool,
    pub mark: Option<u32>,
    /// UDP_SEGMENT: the length of the datagrams to make of the bytes.
    pub segment: Option<u16>,
}

/// SO_MARK, SO_TIMESTAMPING and SO_TXTIME for one packet; the rights and credentials of UNIX sockets are no concern: EINVAL, EPERM.
fn read_common_control(chosen: &mut SendControl, common: &Common, message: &Control) -> Result<(), Errno> {
    let word = || message.data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL);
    match message.kind {
        SCM_RIGHTS | SCM_CREDENTIALS => Ok(()),
        SO_MARK => {
            let creds = current().creds();
            if !creds.has_cap(cap::NET_RAW) && !creds.has_cap(cap::NET_ADMIN) {
                return Err(Errno::EPERM);
            }
            chosen.mark = Some(word()?);
            Ok(())
        }
        SO_TIMESTAMPING => word().map(|_| ()),
        SO_TXTIME if common.is_on(Switches::TX_TIME) && message.data.len() == 8 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Reads the control messages of a send: EINVAL, EPERM.
pub fn read_send_control(domain: u16, common: &Common, control: &[Control]) -> Result<SendControl, Errno> {
    let mut chosen = SendControl::default();
    let int = |data: &[u8]| data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL);
    for message in control {
        match (message.level, message.kind) {
            (IPPROTO_IP, IP_PKTINFO) => {
                let info = PktInfo::read_from_bytes(&message.data).map_err(|_| Errno::EINVAL)?;
                chosen.interface = info.index as u32;
                let source = Ipv4Addr::from(info.spec_dst);
                chosen.source = (!source.is_unspecified()).then_some(IpAddr::V4(source));
            }
            (IPPROTO_IP, IP_TTL) => {
                let ttl = int(&message.data)?;
                chosen.hop_limit = Some(u8::try_from(ttl).ok().filter(|ttl| *ttl > 0).ok_or(Errno::EINVAL)?);
            }
            (IPPROTO_IP, IP_TOS) => {
                let byte = message.data.first().ok_or(Errno::EINVAL)?;
                chosen.traffic_class = Some(*byte);
            }
            (IPPROTO_IPV6, IPV6_PKTINFO) if domain == AF_INET6 => {
                let info = PktInfo6::read_from_bytes(&message.data).map_err(|_| Errno::EINVAL)?;
                chosen.interface = info.index;
                let source = Ipv6Addr::from(info.addr);
                if !source.is_unspecified() {
                    chosen.source = Some(source.to_ipv4_mapped().map_or(IpAddr::V6(source), IpAddr::V4));
                }
            }
            (IPPROTO_IPV6, IPV6_HOPLIMIT) if domain == AF_INET6 => {
                let hops = int(&message.data)?;
                if !(-1..=255).contains(&hops) {
                    return Err(Errno::EINVAL);
                }
                chosen.hop_limit = u8::try_from(hops).ok();
            }
            (IPPROTO_IPV6, IPV6_TCLASS) if domain == AF_INET6 => {
                let class = int(&message.data)?;
                if !(-1..=255).contains(&class) {
                    return Err(Errno::EINVAL);
                }
                chosen.traffic_class = u8::try_from(class).ok();
            }
            (IPPROTO_IPV6, IPV6_DONTFRAG) if domain == AF_INET6 => chosen.dont_fragment = int(&message.data)? != 0,
            (SOL_UDP, UDP_SEGMENT) => {
                let bytes = message.data.first_chunk().filter(|_| message.data.len() == 2).ok_or(Errno::EINVAL)?;
                chosen.segment = Some(u16::from_ne_bytes(*bytes));
            }
            (SOL_UDP, _) => return Err(Errno::EINVAL),
            (SOL_SOCKET, _) => read_common_control(&mut chosen, common, message)?,
            (IPPROTO_IP, _) => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    if let Some(source) = chosen.source
        && iface::address::owner_of(source).is_none()
    {
        return Err(Errno::EINVAL);
    }
    Ok(chosen)
}
