//! One TCP connection on smoltcp: a socket alone in its set, an interface of its own that knows just its address, and a device
//! that holds one packet. Packets find their connection through our own tables, so no scan of sockets is ever made.

use super::handshake::Handshake;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroUsize;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::tcp::{ConnectError, Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{
    HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint, IpVersion, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket,
};

pub use smoltcp::socket::tcp::State;
pub use smoltcp::time::Duration;

/// What the way out can do.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The largest IP packet, in bytes.
    pub mtu: usize,
    /// Somebody else makes TCP's checksum.
    pub without_sum: bool,
    /// Segments longer than the MTU may be given out (see [`Emitted::segment_bytes`]).
    pub large_segments: bool,
}

/// A packet the connection sends.
pub struct Emitted {
    /// `room` unused bytes, then the IP packet.
    pub buffer: Vec<u8>,
    pub segment_bytes: Option<u16>,
}

/// The largest packet that a device cuts itself.
const LARGE_SEGMENT: usize = 61_440;

/// Room for a segment of 88 bytes, the smallest that TCP_MAXSEG sets.
const LEAST_MTU: usize = 128;

pub struct Engine {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    caps: DeviceCapabilities,
    room: usize,
    /// What the peer's SYN said, once it came.
    peer_segment_bytes: Option<u16>,
    /// Until the ACK of a passive handshake is there.
    pub(super) handshake: Option<Box<Handshake>>,
}

/// The device of one call: at most one packet in, any number out.
struct Slot<'a> {
    input: Option<&'a [u8]>,
    output: &'a mut Vec<Emitted>,
    caps: &'a DeviceCapabilities,
    room: usize,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a> {
    output: &'a mut Vec<Emitted>,
    room: usize,
    segment_bytes: Option<u16>,
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = vec![0; self.room + len];
        let result = f(&mut buffer[self.room..]);
        self.output.push(Emitted { buffer, segment_bytes: self.segment_bytes });
        result
    }
    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_bytes = meta.segmentation_offload_size.map(|size| size.get());
    }
}

impl Device for Slot<'_> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let input = self.input.take()?;
        Some((Rx(input), Tx { output: self.output, room: self.room, segment_bytes: None }))
    }
    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(Tx { output: self.output, room: self.room, segment_bytes: None })
    }
    fn capabilities(&self) -> DeviceCapabilities {
        self.caps.clone()
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros((now_ns / 1000) as i64)
}

fn endpoint(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(address.ip().into(), address.port())
}

/// The largest segment that the sender of a SYN takes (RFC 9293, 3.7.1); `None` for every other packet.
fn advertised_segment(packet: &[u8]) -> Option<u16> {
    let (segment, default) = match IpVersion::of_packet(packet).ok()? {
        IpVersion::Ipv4 => {
            let header = usize::from(Ipv4Packet::new_checked(packet).ok()?.header_len());
            (packet.get(header..)?, 536)
        }
        IpVersion::Ipv6 => (packet.get(Ipv6Packet::new_checked(packet).ok()?.header_len()..)?, 1220),
    };
    let segment = TcpPacket::new_checked(segment).ok()?;
    if !segment.syn() {
        return None;
    }
    let mut options = segment.options();
    while let Ok((rest, option)) = TcpOption::parse(options) {
        match option {
            TcpOption::MaxSegmentSize(bytes) => return Some(bytes),
            TcpOption::EndOfList => break,
            _ if rest.is_empty() => break,
            _ => options = rest,
        }
    }
    Some(default)
}

impl Engine {
    /// A closed connection with `local`'s address and buffers of these sizes. `seed` decides its initial sequence number.
    /// `None` when there is no memory.
    pub fn new(
        local: IpAddr,
        link: Link,
        seed: u64,
        sizes: (usize, usize),
        room: usize,
        now_ns: u64,
    ) -> Option<Box<Self>> {
        let buffer = |len: usize| {
            let mut bytes: Vec<u8> = Vec::new();
            bytes.try_reserve_exact(len).ok()?;
            bytes.resize(len, 0);
            Some(SocketBuffer::new(bytes))
        };
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = link.mtu.clamp(LEAST_MTU, 65_535);
        let mut sums = ChecksumCapabilities::ignored();
        // What comes in has been looked at.
        sums.ipv4 = Checksum::Tx;
        sums.tcp = if link.without_sum { Checksum::None } else { Checksum::Tx };
        caps.checksum = sums;
        if link.large_segments && link.without_sum {
            let size = NonZeroUsize::new(LARGE_SEGMENT);
            (caps.segmentation.tcpv4, caps.segmentation.tcpv6) = (size, size);
        }
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut none = Vec::new();
        let mut slot = Slot { input: None, output: &mut none, caps: &caps, room };
        let mut interface = Interface::new(config, &mut slot, instant(now_ns));
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(local.into(), if local.is_ipv4() { 32 } else { 128 }));
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(Socket::new(buffer(sizes.0)?, buffer(sizes.1)?));
        Some(Box::new(Self { interface, sockets, handle, caps, room, peer_segment_bytes: None, handshake: None }))
    }

    pub fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Begins to connect: both ends are named.
    pub fn connect(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<(), ConnectError> {
        let context = self.interface.context();
        self.sockets.get_mut::<Socket<'_>>(self.handle).connect(context, endpoint(remote), endpoint(local))
    }

    /// Waits for one SYN, which the next [`Engine::ingress`] brings.
    pub fn listen(&mut self, local: SocketAddr) -> bool {
        let address = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
        self.tcp().listen(address).is_ok()
    }

    /// Takes one IP packet that is this connection's and whose sums are right; what is to be sent joins `output`.
    pub fn ingress(&mut self, packet: &[u8], now_ns: u64, output: &mut Vec<Emitted>) {
        if self.peer_segment_bytes.is_none() {
            self.peer_segment_bytes = advertised_segment(packet);
        }
        if self.handshake.as_mut().is_some_and(|handshake| !handshake.sees(packet)) {
            return;
        }
        let Self { interface, sockets, caps, room, .. } = self;
        let mut slot = Slot { input: Some(packet), output, caps, room: *room };
        interface.poll_ingress_single(instant(now_ns), &mut slot, sockets);
    }

    /// Sends what may be sent now, at most `budget` packets.
    pub fn egress(&mut self, now_ns: u64, budget: usize, output: &mut Vec<Emitted>) {
        let Self { interface, sockets, caps, room, handshake, .. } = self;
        let limit = output.len() + budget;
        loop {
            let before = output.len();
            let mut slot = Slot { input: None, output, caps, room: *room };
            interface.poll_egress(instant(now_ns), &mut slot, sockets);
            if let Some(handshake) = handshake {
                output[before..].iter_mut().for_each(|sent| handshake.correct(&mut sent.buffer[*room..], now_ns));
            }
            if output.len() == before || output.len() >= limit {
                return;
            }
        }
    }

    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// When [`Engine::egress`] is to be called next (ns), if nothing else happens.
    pub fn poll_at(&mut self, now_ns: u64) -> Option<u64> {
        let at = self.interface.poll_at(instant(now_ns), &self.sockets)?;
        Some((at.total_micros().max(0) as u64).saturating_mul(1000))
    }

    /// The largest segment, in bytes, that the peer takes, once it has said so.
    pub fn peer_segment_bytes(&self) -> Option<u16> {
        self.peer_segment_bytes
    }

    pub fn local(&mut self) -> Option<SocketAddr> {
        self.tcp().local_endpoint().map(|end| SocketAddr::new(end.addr.into(), end.port))
    }
    pub fn remote(&mut self) -> Option<SocketAddr> {
        self.tcp().remote_endpoint().map(|end| SocketAddr::new(end.addr.into(), end.port))
    }
}
