//! A DHCPv4 client for one Ethernet: smoltcp's, with an interface of its own that speaks of nothing else. Frames that may be its
//! answers are given to it; it says what to send, when to look again, and what it got.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4::{self, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// What a server granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix_len: u8,
    pub router: Option<Ipv4Addr>,
    pub name_servers: Vec<Ipv4Addr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Granted(Lease),
    /// The lease has run out or was taken back.
    Lost,
}

pub struct Client {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

struct Slot<'a> {
    input: Option<&'a [u8]>,
    output: &'a mut Vec<Vec<u8>>,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
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
        Some((Rx(self.input.take()?), Tx(self.output)))
    }
    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(Tx(self.output))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        caps
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros((now_ns / 1000) as i64)
}

/// Whether a frame may be an answer to a client: IPv4, UDP, to port 68, no fragment.
pub fn is_answer(frame: &[u8]) -> bool {
    let Some(packet) = frame.get(14..) else { return false };
    let head = packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    frame[12..14] == [0x08, 0x00]
        && packet.get(9) == Some(&17)
        && packet.get(6..8).is_some_and(|place| u16::from_be_bytes([place[0], place[1]]) & 0x3fff == 0)
        && packet.get(head..head + 4).is_some_and(|ports| ports == [0, 67, 0, 68])
}

impl Client {
    pub fn new(mac: [u8; 6], seed: u64, now_ns: u64) -> Box<Self> {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let mut none = Vec::new();
        let interface = Interface::new(config, &mut Slot { input: None, output: &mut none }, instant(now_ns));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(Socket::new());
        Box::new(Self { interface, sockets, handle })
    }

    /// Begins anew: the cable was out.
    pub fn restart(&mut self) {
        self.sockets.get_mut::<Socket<'_>>(self.handle).reset();
    }

    /// Takes a frame (see [`is_answer`]; ARP replies too).
    pub fn input(&mut self, frame: &[u8], now_ns: u64) {
        let mut replies = Vec::new();
        let mut slot = Slot { input: Some(frame), output: &mut replies };
        self.interface.poll_ingress_single(instant(now_ns), &mut slot, &mut self.sockets);
        // What it would say to others (ICMP errors, resets) is not its business.
    }

    /// Sends what is due and answers what happened.
    pub fn poll(&mut self, now_ns: u64, output: &mut Vec<Vec<u8>>) -> Option<Event> {
        let mut slot = Slot { input: None, output };
        self.interface.poll_egress(instant(now_ns), &mut slot, &mut self.sockets);
        let event = match self.sockets.get_mut::<Socket<'_>>(self.handle).poll()? {
            dhcpv4::Event::Deconfigured => Event::Lost,
            dhcpv4::Event::Configured(config) => Event::Granted(Lease {
                address: config.address.address(),
                prefix_len: config.address.prefix_len(),
                router: config.router,
                name_servers: config.dns_servers.iter().copied().collect(),
            }),
        };
        let own = match &event {
            Event::Granted(lease) => Some(IpCidr::new(core::net::IpAddr::V4(lease.address).into(), lease.prefix_len)),
            Event::Lost => None,
        };
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.extend(own);
        });
        Some(event)
    }

    /// When to poll next (ns).
    pub fn poll_at(&mut self, now_ns: u64) -> Option<u64> {
        let at = self.interface.poll_at(instant(now_ns), &self.sockets)?;
        Some((at.total_micros().max(0) as u64).saturating_mul(1000))
    }
}
