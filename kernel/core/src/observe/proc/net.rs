//! /proc/net and /sys/class/net: what netstat, ifconfig, route and arp read (proc(5)).

use super::{Directory, Fixed, FixedDirectory, Listed, Node, number};
use crate::net::iface::{self, Flags, Interface, Kind, NeighbourState, SocketInfo};
use crate::net::inet::counters;
use crate::net::socket::{AF_INET, AF_INET6};
use crate::net::{netlink, unix};
use crate::prelude::*;
use crate::vfs::FileType;
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};

pub const NET: &[(&str, Fixed)] = &[
    ("arp", Fixed::Text(arp)),
    ("dev", Fixed::Text(dev)),
    ("if_inet6", Fixed::Text(if_inet6)),
    ("ipv6_route", Fixed::Text(ipv6_route)),
    ("netlink", Fixed::Text(netlink::format_table)),
    ("netstat", Fixed::Text(counters::netstat)),
    ("packet", Fixed::Text(|| String::from("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"))),
    ("pnp", Fixed::Text(pnp)),
    ("raw", Fixed::Text(|| sockets(AF_INET, Table::Raw))),
    ("raw6", Fixed::Text(|| sockets(AF_INET6, Table::Raw))),
    ("route", Fixed::Text(route)),
    ("snmp", Fixed::Text(|| counters::snmp(established()))),
    ("snmp6", Fixed::Text(counters::snmp6)),
    ("sockstat", Fixed::Text(sockstat)),
    ("sockstat6", Fixed::Text(sockstat6)),
    ("tcp", Fixed::Text(|| sockets(AF_INET, Table::Tcp))),
    ("tcp6", Fixed::Text(|| sockets(AF_INET6, Table::Tcp))),
    ("udp", Fixed::Text(|| sockets(AF_INET, Table::Udp))),
    ("udp6", Fixed::Text(|| sockets(AF_INET6, Table::Udp))),
    ("udplite", Fixed::Text(|| sockets(AF_INET, Table::UdpLite))),
    ("udplite6", Fixed::Text(|| sockets(AF_INET6, Table::UdpLite))),
    ("unix", Fixed::Text(unix::format_table)),
];

const TCP: u8 = 6;
const UDP: u8 = 17;
const UDPLITE: u8 = 136;
const TCP_ESTABLISHED: u8 = 1;
const TCP_TIME_WAIT: u8 = 6;
const TCP_CLOSE_WAIT: u8 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Tcp,
    Udp,
    UdpLite,
    Raw,
}

impl Table {
    fn has(self, socket: &SocketInfo) -> bool {
        match self {
            Table::Tcp => socket.protocol == TCP && !socket.is_raw,
            Table::Udp => socket.protocol == UDP && !socket.is_raw,
            Table::UdpLite => socket.protocol == UDPLITE && !socket.is_raw,
            Table::Raw => socket.is_raw,
        }
    }
}

fn dev() -> String {
    let mut text = String::from(
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo \
         frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    );
    for interface in iface::interfaces() {
        let stats = interface.stats();
        let _ = writeln!(
            text,
            "{:>6}: {:7} {:7} {:4} {:4} {:4} {:5} {:10} {:9} {:8} {:7} {:4} {:4} {:4} {:5} {:7} {:10}",
            interface.name,
            stats.rx_bytes,
            stats.rx_frames,
            stats.rx_errors,
            stats.rx_dropped,
            0,
            0,
            0,
            0,
            stats.tx_bytes,
            stats.tx_frames,
            stats.tx_errors,
            stats.tx_dropped,
            0,
            0,
            0,
            0
        );
    }
    text
}

fn name_of(index: u32) -> String {
    iface::by_index(index).map_or_else(|| String::from("*"), |interface| interface.name)
}

/// An IPv4 address as the tables print it: its bytes as a little-endian number.
fn word(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
        IpAddr::V6(_) => 0,
    }
}

/// 32 hexadecimal digits in network order.
fn long(address: IpAddr) -> String {
    let mut text = String::new();
    if let IpAddr::V6(v6) = address {
        for byte in v6.octets() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

const RTF_UP: u32 = 1;
const RTF_GATEWAY: u32 = 2;
const RTF_HOST: u32 = 4;

fn route() -> String {
    let mut text = alloc::format!(
        "{:<127}\n",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
    );
    for route in iface::routes().iter().filter(|route| route.destination.is_ipv4()) {
        let mask = u32::MAX.checked_shl(32 - u32::from(route.prefix_len)).unwrap_or(0).swap_bytes();
        let mut flags = RTF_UP;
        if route.gateway.is_some() {
            flags |= RTF_GATEWAY;
        }
        if route.prefix_len == 32 {
            flags |= RTF_HOST;
        }
        let line = alloc::format!(
            "{}\t{:08X}\t{:08X}\t{:04X}\t0\t0\t{}\t{:08X}\t0\t0\t0",
            name_of(route.interface),
            word(route.destination),
            route.gateway.map_or(0, word),
            flags,
            route.metric,
            mask
        );
        let _ = writeln!(text, "{line:<127}");
    }
    text
}

fn ipv6_route() -> String {
    let mut text = String::new();
    // Infallible: 32 bytes.
    let none = "0".repeat(32);
    for route in iface::routes().iter().filter(|route| route.destination.is_ipv6()) {
        let flags = RTF_UP | if route.gateway.is_some() { RTF_GATEWAY } else { 0 };
        let _ = writeln!(
            text,
            "{} {:02x} {none} 00 {} {:08x} 00000001 00000000 {:08x} {:>8}",
            long(route.destination),
            route.prefix_len,
            route.gateway.map_or_else(|| none.clone(), long),
            route.metric,
            flags,
            name_of(route.interface)
        );
    }
    text
}

fn if_inet6() -> String {
    let mut text = String::new();
    for interface in iface::interfaces() {
        for own in interface.addresses.iter().filter(|own| own.address.is_ipv6()) {
            let scope = match own.scope {
                iface::address::SCOPE_HOST => 0x10,
                iface::address::SCOPE_LINK => 0x20,
                _ => 0,
            };
            let (index, len, flags) = (interface.index, own.prefix_len, own.flags.bits() & 0xff);
            let _ = writeln!(
                text,
                "{} {index:02x} {len:02x} {scope:02x} {flags:02x} {:>8}",
                long(own.address),
                interface.name
            );
        }
    }
    text
}

/// The name servers that configuration brought, as lines of resolv.conf(5): what /etc/resolv.conf leads to.
fn pnp() -> String {
    iface::resolvers().iter().map(|server| alloc::format!("nameserver {server}\n")).collect()
}

fn arp() -> String {
    const COMPLETE: u32 = 2;
    const PERMANENT: u32 = 4;
    let mut text = String::from("IP address       HW type     Flags       HW address            Mask     Device\n");
    for neighbour in iface::neighbours().iter().filter(|neighbour| neighbour.address.is_ipv4()) {
        let mut flags = if neighbour.mac.is_some() { COMPLETE } else { 0 };
        if neighbour.state == NeighbourState::Permanent {
            flags |= PERMANENT;
        }
        let [a, b, c, d, e, f] = neighbour.mac.unwrap_or_default();
        let mac = alloc::format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let address = alloc::format!("{}", neighbour.address);
        let _ = writeln!(
            text,
            "{address:<16} 0x{:<10x}0x{flags:<10x}{mac}     *        {}",
            1,
            name_of(neighbour.interface)
        );
    }
    text
}

/// ADDRESS:PORT as the socket tables print it.
fn endpoint(at: SocketAddr) -> String {
    match at.ip() {
        IpAddr::V4(_) => alloc::format!("{:08X}:{:04X}", word(at.ip()), at.port()),
        IpAddr::V6(v6) => {
            let mut text = String::new();
            for word in v6.octets().chunks_exact(4) {
                let _ = write!(text, "{:08X}", u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            }
            let _ = write!(text, ":{:04X}", at.port());
            text
        }
    }
}

fn sockets(family: u16, table: Table) -> String {
    let columns = if family == AF_INET {
        "local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    } else {
        "local_address                         remote_address                        st tx_queue rx_queue tr tm->when \
         retrnsmt   uid  timeout inode"
    };
    let (indent, more, width) = match table {
        Table::Tcp if family == AF_INET => ("  sl  ", "", 149),
        Table::Tcp => ("  sl  ", "", 0),
        _ if family == AF_INET => ("   sl  ", " ref pointer drops", 127),
        _ => ("  sl  ", " ref pointer drops", 0),
    };
    let mut text = alloc::format!("{:<width$}\n", alloc::format!("{indent}{columns}{more}"));
    let all = iface::sockets();
    let listed = all.iter().filter(|socket| socket.family == family && table.has(socket));
    for (number, socket) in listed.enumerate() {
        let mut line = alloc::format!(
            "{number:4}: {} {} {:02X} {:08X}:{:08X} 00:00000000 00000000 {:5} {:8} {}",
            endpoint(socket.local),
            endpoint(socket.remote),
            socket.state,
            socket.send_queue,
            socket.receive_queue,
            socket.uid,
            0,
            socket.inode
        );
        let end = match table {
            Table::Tcp => String::from(" 1 0000000000000000 100 0 0 10 0"),
            _ => alloc::format!(" 2 0000000000000000 {}", socket.drops),
        };
        line.push_str(&end);
        if table != Table::Tcp {
            line.insert(0, ' ');
        }
        let _ = writeln!(text, "{line:<width$}");
    }
    text
}

/// How many sockets of a family `f` holds for.
fn count(all: &[SocketInfo], family: u16, f: impl Fn(&SocketInfo) -> bool) -> usize {
    all.iter().filter(|socket| socket.family == family && f(socket)).count()
}

fn sockstat() -> String {
    let all = iface::sockets();
    let waits = count(&all, AF_INET, |socket| Table::Tcp.has(socket) && socket.state == TCP_TIME_WAIT);
    let tcp = count(&all, AF_INET, |socket| Table::Tcp.has(socket)) - waits;
    let udp = count(&all, AF_INET, |socket| Table::Udp.has(socket));
    let raw = count(&all, AF_INET, |socket| Table::Raw.has(socket));
    alloc::format!(
        "sockets: used {}\nTCP: inuse {tcp} orphan 0 tw {waits} alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\n\
         UDPLITE: inuse 0\nRAW: inuse {raw}\nFRAG: inuse 0 memory 0\n",
        all.len()
    )
}

fn sockstat6() -> String {
    let all = iface::sockets();
    let of = |table: Table| count(&all, AF_INET6, |socket| table.has(socket));
    let (tcp, udp, raw) = (of(Table::Tcp), of(Table::Udp), of(Table::Raw));
    alloc::format!(
        "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse {raw}\nFRAG6: inuse 0 memory 0\n"
    )
}

/// Connections that are open (RFC 4022, tcpCurrEstab).
fn established() -> usize {
    let is_open = |state| matches!(state, TCP_ESTABLISHED | TCP_CLOSE_WAIT);
    iface::sockets().iter().filter(|socket| Table::Tcp.has(socket) && is_open(socket.state)).count()
}

/// /sys/class/net: a directory for each interface.
pub struct ClassNet {
    pub device: u64,
    pub ino: u64,
}

impl Directory for ClassNet {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let interface = iface::by_name(name)?;
        let ino = number(self.ino, name);
        Some(Node::directory_on(self.device, ino, ClassInterface { device: self.device, ino, index: interface.index }))
    }
    fn list(&self) -> Vec<Listed> {
        let listed = |interface: Interface| Listed {
            position: u64::from(interface.index),
            name: interface.name,
            kind: FileType::Directory,
        };
        iface::interfaces().into_iter().map(listed).collect()
    }
}

struct ClassInterface {
    device: u64,
    ino: u64,
    index: u32,
}

const CLASS_FILES: &[(&str, fn(&Interface) -> String)] = &[
    ("address", |interface| {
        let [a, b, c, d, e, f] = interface.mac;
        alloc::format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }),
    ("carrier", |interface| alloc::format!("{}", u8::from(interface.flags.contains(Flags::LOWER_UP)))),
    ("flags", |interface| alloc::format!("{:#x}", interface.flags.bits() & 0xffff)),
    ("ifindex", |interface| alloc::format!("{}", interface.index)),
    ("mtu", |interface| alloc::format!("{}", interface.mtu)),
    ("operstate", |interface| {
        String::from(match (interface.kind, interface.flags.contains(Flags::RUNNING)) {
            (Kind::Loopback, _) => "unknown",
            (_, true) => "up",
            _ => "down",
        })
    }),
    ("type", |interface| String::from(if interface.kind == Kind::Loopback { "772" } else { "1" })),
];

/// Statistics stand behind the files.
const STATISTICS: &[(&str, fn(&drivers::traits::NetStats) -> u64)] = &[
    ("rx_bytes", |stats| stats.rx_bytes),
    ("rx_dropped", |stats| stats.rx_dropped),
    ("rx_errors", |stats| stats.rx_errors),
    ("rx_packets", |stats| stats.rx_frames),
    ("tx_bytes", |stats| stats.tx_bytes),
    ("tx_dropped", |stats| stats.tx_dropped),
    ("tx_errors", |stats| stats.tx_errors),
    ("tx_packets", |stats| stats.tx_frames),
];

impl Directory for ClassInterface {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let (index, ino) = (self.index, number(self.ino, name));
        if name == "statistics" {
            return Some(Node::directory_on(self.device, ino, Statistics { ino, index }));
        }
        let (_, text) = CLASS_FILES.iter().find(|(known, _)| *known == name)?;
        Some(Node::text(ino, 0o444, (0, 0), move || {
            let interface = iface::by_index(index).ok_or(Errno::ENODEV)?;
            Ok(alloc::format!("{}\n", text(&interface)).into_bytes())
        }))
    }
    fn list(&self) -> Vec<Listed> {
        let files = CLASS_FILES.iter().map(|(name, _)| (*name, FileType::Regular));
        let all = files.chain([("statistics", FileType::Directory)]).enumerate();
        all.map(|(at, (name, kind))| Listed { position: at as u64, name: String::from(name), kind }).collect()
    }
}

struct Statistics {
    ino: u64,
    index: u32,
}

impl Directory for Statistics {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let (_, counter) = STATISTICS.iter().find(|(known, _)| *known == name)?;
        let index = self.index;
        Some(Node::text(number(self.ino, name), 0o444, (0, 0), move || {
            let interface = iface::by_index(index).ok_or(Errno::ENODEV)?;
            Ok(alloc::format!("{}\n", counter(&interface.stats())).into_bytes())
        }))
    }
    fn list(&self) -> Vec<Listed> {
        let listed = |(at, (name, _)): (usize, &(&str, fn(&drivers::traits::NetStats) -> u64))| Listed {
            position: at as u64,
            name: String::from(*name),
            kind: FileType::Regular,
        };
        STATISTICS.iter().enumerate().map(listed).collect()
    }
}

/// The process's view, which is everybody's.
pub fn directory(ino: u64) -> Arc<Node> {
    Node::directory(ino, 0o555, (0, 0), FixedDirectory { device: super::DEVICE, ino, entries: NET })
}
