//! Interfaces, their addresses and the routes: the one place that knows them. `inet` moves packets by it; netlink, the ioctls,
//! /proc/net and the configuration clients read and change it.
//!
//! One short lock guards all tables; snapshots are copies. Changes are told to [`on_change`]'s listener after the lock is
//! dropped. `lo` is there, up and addressed from boot.

pub mod address;
pub mod neighbour;
pub mod route;

pub use address::{Address, AddressFlags, add_address, remove_address, source_for};
pub use neighbour::{Neighbour, NeighbourState, neighbours};
pub use route::{Route, Via, add_route, lookup, remove_route, routes};

use crate::prelude::*;
use base::net::route::Routes;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use drivers::traits::{NetDevice, NetStats};
use spin::Once;

/// The index of `lo`.
pub const LOOPBACK: u32 = 1;
const LOOPBACK_MTU: u32 = 65536;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Loopback,
    Ethernet,
}

bitflags! {
    /// `ifi_flags` (IFF_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u32 {
        const UP = 0x1;
        const BROADCAST = 0x2;
        const LOOPBACK = 0x8;
        const RUNNING = 0x40;
        const NOARP = 0x80;
        const PROMISC = 0x100;
        const ALLMULTI = 0x200;
        const MULTICAST = 0x1000;
        const LOWER_UP = 0x1_0000;
    }
}

/// An interface as it is at this moment.
#[derive(Clone)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub kind: Kind,
    pub mac: [u8; 6],
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    pub flags: Flags,
    pub addresses: Vec<Address>,
}

impl Interface {
    pub fn is_up(&self) -> bool {
        self.flags.contains(Flags::UP)
    }
    /// What went through it since boot.
    pub fn stats(&self) -> NetStats {
        match device(self.index) {
            Some(device) => device.stats(),
            None => LOOPBACK_COUNTS.read(),
        }
    }
}

/// What changed, for netlink's groups.
#[derive(Clone)]
pub enum Change {
    /// Made, or its flags, MTU or link changed.
    Link(Interface),
    AddressAdded(u32, Address),
    AddressRemoved(u32, Address),
    RouteAdded(Route),
    RouteRemoved(Route),
    Neighbour(Neighbour),
}

#[derive(Default)]
struct Tables {
    interfaces: Vec<Interface>,
    routes: Routes,
    devices: Vec<(u32, Arc<dyn NetDevice>)>,
}

static TABLES: SpinLock<Tables> =
    SpinLock::new(Tables { interfaces: Vec::new(), routes: Routes::new(), devices: Vec::new() });
static LISTENER: Once<fn(&Change)> = Once::new();
/// Counts changes of the tables, so that what was derived from them can be kept.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// Frames and bytes that went through `lo`.
pub struct LoopbackCounts {
    frames: AtomicU64,
    bytes: AtomicU64,
}

pub static LOOPBACK_COUNTS: LoopbackCounts = LoopbackCounts { frames: AtomicU64::new(0), bytes: AtomicU64::new(0) };

impl LoopbackCounts {
    #[inline]
    pub fn add(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    fn read(&self) -> NetStats {
        let (frames, bytes) = (self.frames.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        NetStats { rx_frames: frames, rx_bytes: bytes, tx_frames: frames, tx_bytes: bytes, ..NetStats::default() }
    }
}

/// Sets the one listener for changes; it is called where sleeping is allowed or not, so it must not sleep.
pub fn on_change(listener: fn(&Change)) {
    LISTENER.call_once(|| listener);
}

fn announce(change: Change) {
    GENERATION.fetch_add(1, Ordering::Release);
    if let Some(listener) = LISTENER.get() {
        listener(&change);
    }
}

pub fn generation() -> u32 {
    GENERATION.load(Ordering::Acquire)
}

/// Makes `lo`.
pub fn init() {
    let lo = Interface {
        index: LOOPBACK,
        name: String::from("lo"),
        kind: Kind::Loopback,
        mac: [0; 6],
        mtu: LOOPBACK_MTU,
        flags: Flags::LOOPBACK,
        addresses: Vec::new(),
    };
    TABLES.lock().interfaces.push(lo);
    let _ = set_up(LOOPBACK, true);
    let _ = add_address(LOOPBACK, Address::permanent(IpAddr::V4(Ipv4Addr::LOCALHOST), 8));
}

/// Takes a new Ethernet device into service, and up as `ip=` says: answers its index.
pub fn attach(device: Arc<dyn NetDevice>) -> u32 {
    let interface = {
        let mut tables = TABLES.lock();
        let index = tables.interfaces.iter().map(|interface| interface.index).max().unwrap_or(0) + 1;
        let number = tables.interfaces.iter().filter(|interface| interface.kind == Kind::Ethernet).count();
        let interface = Interface {
            index,
            name: alloc::format!("eth{number}"),
            kind: Kind::Ethernet,
            mac: device.mac(),
            mtu: u32::from(device.mtu()),
            flags: Flags::BROADCAST | Flags::MULTICAST,
            addresses: Vec::new(),
        };
        tables.interfaces.push(interface.clone());
        tables.devices.push((index, device));
        interface
    };
    let index = interface.index;
    announce(Change::Link(interface));
    super::inet::config::attached(index);
    index
}

/// The device behind an Ethernet interface.
pub fn device(index: u32) -> Option<Arc<dyn NetDevice>> {
    let tables = TABLES.lock();
    tables.devices.iter().find(|(of, _)| *of == index).map(|(_, device)| device.clone())
}

/// Called by the device layer when frames may have come or the link may have changed; callable in IRQ context.
pub fn receive_bottom_half(index: u32) {
    super::inet::bottom_half::schedule(index);
}

/// All interfaces, by index.
pub fn interfaces() -> Vec<Interface> {
    TABLES.lock().interfaces.clone()
}

/// Runs `f` with the interface under the table's lock: short, no sleep.
pub fn with<R>(index: u32, f: impl FnOnce(&Interface) -> R) -> Option<R> {
    TABLES.lock().interfaces.iter().find(|interface| interface.index == index).map(f)
}

pub fn by_index(index: u32) -> Option<Interface> {
    with(index, Interface::clone)
}

pub fn by_name(name: &str) -> Option<Interface> {
    TABLES.lock().interfaces.iter().find(|interface| interface.name == name).cloned()
}

/// Changes an interface and tells of it when `f` answers true: ENODEV.
fn change(index: u32, f: impl FnOnce(&mut Interface) -> bool) -> Result<(), Errno> {
    let changed = {
        let mut tables = TABLES.lock();
        let interface = tables.interfaces.iter_mut().find(|interface| interface.index == index).ok_or(Errno::ENODEV)?;
        f(interface).then(|| interface.clone())
    };
    if let Some(interface) = changed {
        announce(Change::Link(interface));
    }
    Ok(())
}

/// Brings an interface up or down: ENODEV. Down takes its routes and IPv6 addresses away, as on Linux.
pub fn set_up(index: u32, up: bool) -> Result<(), Errno> {
    let link = device(index).is_none_or(|device| device.link_is_up());
    let mut was_up = up;
    let mut kind = Kind::Loopback;
    change(index, |interface| {
        was_up = interface.is_up();
        kind = interface.kind;
        interface.flags.set(Flags::UP, up);
        interface.flags.set(Flags::RUNNING | Flags::LOWER_UP, up && link);
        was_up != up
    })?;
    if was_up == up {
        return Ok(());
    }
    if up {
        route::interface_is_up(index);
        let own = match kind {
            Kind::Loopback => Some(Address::permanent(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)),
            Kind::Ethernet => by_index(index).map(|interface| {
                let address = address::link_local(&interface.mac);
                Address::permanent(IpAddr::V6(address), 64)
            }),
        };
        if let Some(address) = own {
            let _ = add_address(index, address);
        }
    } else {
        let gone = by_index(index).map(|interface| interface.addresses).unwrap_or_default();
        for address in gone.iter().filter(|address| address.address.is_ipv6()) {
            let _ = remove_address(index, address.address, address.prefix_len);
        }
        route::interface_is_down(index);
        neighbour::forget_interface(index);
    }
    super::inet::config::link_changed(index);
    Ok(())
}

/// ENODEV, EINVAL outside 68..=65536 or what the device carries.
pub fn set_mtu(index: u32, mtu: u32) -> Result<(), Errno> {
    let most = device(index).map_or(LOOPBACK_MTU, |device| u32::from(device.mtu()));
    if !(68..=most).contains(&mtu) {
        return Err(Errno::EINVAL);
    }
    change(index, |interface| core::mem::replace(&mut interface.mtu, mtu) != mtu)
}

/// Looks at the device's link again: RUNNING follows it.
pub fn refresh_link(index: u32) {
    let Some(device) = device(index) else { return };
    let link = device.link_is_up();
    let mut changed = false;
    let _ = change(index, |interface| {
        let running = interface.is_up() && link;
        changed = interface.flags.contains(Flags::RUNNING) != running;
        interface.flags.set(Flags::RUNNING | Flags::LOWER_UP, running);
        changed
    });
    if changed {
        super::inet::config::link_changed(index);
    }
}

/// What a socket looks like in /proc/net and sock_diag.
#[derive(Clone)]
pub struct SocketInfo {
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// IPPROTO_TCP, UDP, ICMP, ICMPV6, or a raw socket's (with `is_raw`).
    pub protocol: u8,
    pub is_raw: bool,
    /// Of IPv4 sockets and mapped addresses alike in the family's own form.
    pub local: core::net::SocketAddr,
    pub remote: core::net::SocketAddr,
    /// TCP_ESTABLISHED (1) to TCP_CLOSING (11); datagram sockets: 1 connected, 7 not.
    pub state: u8,
    /// Bytes not yet acknowledged; of a listener its backlog.
    pub send_queue: u32,
    /// Bytes not yet read; of a listener the connections that wait.
    pub receive_queue: u32,
    pub uid: u32,
    /// 0 when no descriptor is left.
    pub inode: u64,
    pub drops: u32,
}

/// Every socket of the internet families.
pub fn sockets() -> Vec<SocketInfo> {
    super::inet::sockets()
}

/// Name servers, for /etc/resolv.conf.
pub fn resolvers() -> Vec<IpAddr> {
    super::inet::config::resolvers()
}
