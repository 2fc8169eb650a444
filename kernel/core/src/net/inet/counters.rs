//! What /proc/net/snmp, snmp6 and netstat show: counters of packets and connections (RFC 4293, 4022, 4113), each a number of its
//! own that nothing else synchronises with.
//!
//! Connections joined on this machine make no segments and no packets: they count as opened, and no more.

use crate::prelude::*;
use alloc::vec;
use base::net::packet::PROTO_UDPLITE;
use core::fmt::Write;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Counters that both versions of IP keep, in the order in which /proc/net/snmp lists IPv4's and then ICMP's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    InReceives,
    InHdrErrors,
    InAddrErrors,
    InUnknownProtos,
    InDiscards,
    InDelivers,
    OutRequests,
    OutDiscards,
    OutNoRoutes,
    ReasmReqds,
    ReasmOks,
    ReasmFails,
    FragOks,
    FragFails,
    FragCreates,
    InMulticasts,
    OutMulticasts,
    InOctets,
    OutOctets,
    IcmpInErrors,
    IcmpSumErrors,
}

/// UDP's, and UDP-Lite's, in the order in which /proc/net/snmp lists them but for two that are always 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Udp {
    In,
    NoPorts,
    InErrors,
    Out,
    BufferErrors,
    SumErrors,
}

/// TCP's, of both versions together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tcp {
    ActiveOpens,
    PassiveOpens,
    AttemptFails,
    EstabResets,
    InSegs,
    OutSegs,
    RetransSegs,
    InErrs,
    OutRsts,
    InSumErrors,
    CookiesSent,
    CookiesTaken,
    CookiesFailed,
    TimeWaits,
    ListenOverflows,
    AbortOnClose,
    AbortOnTimeout,
}

const NR_OF: usize = Of::IcmpSumErrors as usize + 1;
const NR_UDP: usize = Udp::SumErrors as usize + 1;
const NR_TCP: usize = Tcp::AbortOnTimeout as usize + 1;

static OF: [[AtomicU64; NR_OF]; 2] = [const { [const { AtomicU64::new(0) }; NR_OF] }; 2];
/// Of UDP and UDP-Lite over IPv4 and IPv6.
static UDP: [[[AtomicU64; NR_UDP]; 2]; 2] = [const { [const { [const { AtomicU64::new(0) }; NR_UDP] }; 2] }; 2];
static TCP: [AtomicU64; NR_TCP] = [const { AtomicU64::new(0) }; NR_TCP];
/// ICMP messages by type, in and out.
static ICMP: [[[AtomicU64; 256]; 2]; 2] = [const { [const { [const { AtomicU64::new(0) }; 256] }; 2] }; 2];

#[inline]
pub fn add(of: IpAddr, counter: Of, count: usize) {
    OF[usize::from(of.is_ipv6())][counter as usize].fetch_add(count as u64, Ordering::Relaxed);
}

#[inline]
pub fn one(of: IpAddr, counter: Of) {
    add(of, counter, 1);
}

#[inline]
pub fn tcp(counter: Tcp) {
    TCP[counter as usize].fetch_add(1, Ordering::Relaxed);
}

/// `protocol`: PROTO_UDP or PROTO_UDPLITE.
#[inline]
pub fn udp(protocol: u8, of: IpAddr, counter: Udp) {
    let of_version = &UDP[usize::from(protocol == PROTO_UDPLITE)][usize::from(of.is_ipv6())];
    of_version[counter as usize].fetch_add(1, Ordering::Relaxed);
}

/// A message that came.
pub fn icmp_in(of: IpAddr, kind: u8) {
    ICMP[usize::from(of.is_ipv6())][0][usize::from(kind)].fetch_add(1, Ordering::Relaxed);
}

/// A message that goes.
pub fn icmp_out(of: IpAddr, kind: u8) {
    ICMP[usize::from(of.is_ipv6())][1][usize::from(kind)].fetch_add(1, Ordering::Relaxed);
}

fn get(version: usize, counter: Of) -> u64 {
    OF[version][counter as usize].load(Ordering::Relaxed)
}

fn get_tcp(counter: Tcp) -> u64 {
    TCP[counter as usize].load(Ordering::Relaxed)
}

fn get_udp(is_lite: bool, version: usize, counter: Udp) -> u64 {
    UDP[usize::from(is_lite)][version][counter as usize].load(Ordering::Relaxed)
}

fn icmp(version: usize, out: usize, kind: u8) -> u64 {
    ICMP[version][out][usize::from(kind)].load(Ordering::Relaxed)
}

fn icmp_sum(version: usize, out: usize) -> u64 {
    (0..=255).map(|kind| icmp(version, out, kind)).sum()
}

/// A line of names and one of values.
fn group(text: &mut String, name: &str, fields: &[(&str, u64)]) {
    let _ = write!(text, "{name}:");
    for (field, _) in fields {
        let _ = write!(text, " {field}");
    }
    let _ = write!(text, "\n{name}:");
    for (field, value) in fields {
        // The one that means "no limit".
        let _ = if *field == "MaxConn" { write!(text, " -1") } else { write!(text, " {value}") };
    }
    text.push('\n');
}

/// ICMP's types by the names of RFC 2011.
const ICMP_NAMES: [(&str, u8); 11] = [
    ("DestUnreachs", 3),
    ("TimeExcds", 11),
    ("ParmProbs", 12),
    ("SrcQuenchs", 4),
    ("Redirects", 5),
    ("Echos", 8),
    ("EchoReps", 0),
    ("Timestamps", 13),
    ("TimestampReps", 14),
    ("AddrMasks", 17),
    ("AddrMaskReps", 18),
];

fn icmp_group(text: &mut String) {
    let mut names = vec![String::from("InMsgs"), String::from("InErrors"), String::from("InCsumErrors")];
    let mut values = vec![icmp_sum(0, 0), get(0, Of::IcmpInErrors), get(0, Of::IcmpSumErrors)];
    for (out, prefix) in [(0, "In"), (1, "Out")] {
        if out == 1 {
            names.extend([String::from("OutMsgs"), String::from("OutErrors")]);
            values.extend([icmp_sum(0, 1), 0]);
        }
        for (name, kind) in ICMP_NAMES {
            names.push(alloc::format!("{prefix}{name}"));
            values.push(icmp(0, out, kind));
        }
    }
    let fields: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(values).collect();
    group(text, "Icmp", &fields);
    let mut kinds = Vec::new();
    for (out, prefix) in [(0, "In"), (1, "Out")] {
        let seen = (0..=255).filter(|kind| icmp(0, out, *kind) != 0);
        kinds.extend(seen.map(|kind| (alloc::format!("{prefix}Type{kind}"), icmp(0, out, kind))));
    }
    if !kinds.is_empty() {
        let fields: Vec<(&str, u64)> = kinds.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        group(text, "IcmpMsg", &fields);
    }
}

fn udp_group(text: &mut String, name: &str, is_lite: bool) {
    let get = |counter| get_udp(is_lite, 0, counter);
    group(
        text,
        name,
        &[
            ("InDatagrams", get(Udp::In)),
            ("NoPorts", get(Udp::NoPorts)),
            ("InErrors", get(Udp::InErrors)),
            ("OutDatagrams", get(Udp::Out)),
            ("RcvbufErrors", get(Udp::BufferErrors)),
            ("SndbufErrors", 0),
            ("InCsumErrors", get(Udp::SumErrors)),
            ("IgnoredMulti", 0),
            ("MemErrors", 0),
        ],
    );
}

/// /proc/net/snmp; `established`: connections in ESTABLISHED and CLOSE-WAIT.
pub fn snmp(established: usize) -> String {
    let mut text = String::new();
    let ip = |counter| get(0, counter);
    group(
        &mut text,
        "Ip",
        &[
            ("Forwarding", 2),
            ("DefaultTTL", 64),
            ("InReceives", ip(Of::InReceives)),
            ("InHdrErrors", ip(Of::InHdrErrors)),
            ("InAddrErrors", ip(Of::InAddrErrors)),
            ("ForwDatagrams", 0),
            ("InUnknownProtos", ip(Of::InUnknownProtos)),
            ("InDiscards", ip(Of::InDiscards)),
            ("InDelivers", ip(Of::InDelivers)),
            ("OutRequests", ip(Of::OutRequests)),
            ("OutDiscards", ip(Of::OutDiscards)),
            ("OutNoRoutes", ip(Of::OutNoRoutes)),
            ("ReasmTimeout", 0),
            ("ReasmReqds", ip(Of::ReasmReqds)),
            ("ReasmOKs", ip(Of::ReasmOks)),
            ("ReasmFails", ip(Of::ReasmFails)),
            ("FragOKs", ip(Of::FragOks)),
            ("FragFails", ip(Of::FragFails)),
            ("FragCreates", ip(Of::FragCreates)),
        ],
    );
    icmp_group(&mut text);
    group(
        &mut text,
        "Tcp",
        &[
            ("RtoAlgorithm", 1),
            ("RtoMin", 200),
            ("RtoMax", 120_000),
            ("MaxConn", 0),
            ("ActiveOpens", get_tcp(Tcp::ActiveOpens)),
            ("PassiveOpens", get_tcp(Tcp::PassiveOpens)),
            ("AttemptFails", get_tcp(Tcp::AttemptFails)),
            ("EstabResets", get_tcp(Tcp::EstabResets)),
            ("CurrEstab", established as u64),
            ("InSegs", get_tcp(Tcp::InSegs)),
            ("OutSegs", get_tcp(Tcp::OutSegs)),
            ("RetransSegs", get_tcp(Tcp::RetransSegs)),
            ("InErrs", get_tcp(Tcp::InErrs)),
            ("OutRsts", get_tcp(Tcp::OutRsts)),
            ("InCsumErrors", get_tcp(Tcp::InSumErrors)),
        ],
    );
    udp_group(&mut text, "Udp", false);
    udp_group(&mut text, "UdpLite", true);
    text
}

/// /proc/net/snmp6: a line for each.
pub fn snmp6() -> String {
    let ip = |counter| get(1, counter);
    let fields = [
        ("Ip6InReceives", ip(Of::InReceives)),
        ("Ip6InHdrErrors", ip(Of::InHdrErrors)),
        ("Ip6InAddrErrors", ip(Of::InAddrErrors)),
        ("Ip6InUnknownProtos", ip(Of::InUnknownProtos)),
        ("Ip6InDiscards", ip(Of::InDiscards)),
        ("Ip6InDelivers", ip(Of::InDelivers)),
        ("Ip6OutRequests", ip(Of::OutRequests)),
        ("Ip6OutDiscards", ip(Of::OutDiscards)),
        ("Ip6OutNoRoutes", ip(Of::OutNoRoutes)),
        ("Ip6ReasmReqds", ip(Of::ReasmReqds)),
        ("Ip6ReasmOKs", ip(Of::ReasmOks)),
        ("Ip6ReasmFails", ip(Of::ReasmFails)),
        ("Ip6FragOKs", ip(Of::FragOks)),
        ("Ip6FragFails", ip(Of::FragFails)),
        ("Ip6FragCreates", ip(Of::FragCreates)),
        ("Ip6InMcastPkts", ip(Of::InMulticasts)),
        ("Ip6OutMcastPkts", ip(Of::OutMulticasts)),
        ("Ip6InOctets", ip(Of::InOctets)),
        ("Ip6OutOctets", ip(Of::OutOctets)),
        ("Icmp6InMsgs", icmp_sum(1, 0)),
        ("Icmp6InErrors", ip(Of::IcmpInErrors)),
        ("Icmp6OutMsgs", icmp_sum(1, 1)),
        ("Icmp6InCsumErrors", ip(Of::IcmpSumErrors)),
    ];
    let line = |name: &str, value: u64| alloc::format!("{name:<32}\t{value}\n");
    let mut text: String = fields.iter().map(|(name, value)| line(name, *value)).collect();
    for (group, is_lite) in [("Udp6", false), ("UdpLite6", true)] {
        for (name, counter) in [
            ("InDatagrams", Udp::In),
            ("NoPorts", Udp::NoPorts),
            ("InErrors", Udp::InErrors),
            ("OutDatagrams", Udp::Out),
            ("RcvbufErrors", Udp::BufferErrors),
            ("InCsumErrors", Udp::SumErrors),
        ] {
            text.push_str(&line(&alloc::format!("{group}{name}"), get_udp(is_lite, 1, counter)));
        }
    }
    text
}

/// /proc/net/netstat: those of Linux's that are kept.
pub fn netstat() -> String {
    let mut text = String::new();
    group(
        &mut text,
        "TcpExt",
        &[
            ("SyncookiesSent", get_tcp(Tcp::CookiesSent)),
            ("SyncookiesRecv", get_tcp(Tcp::CookiesTaken)),
            ("SyncookiesFailed", get_tcp(Tcp::CookiesFailed)),
            ("TW", get_tcp(Tcp::TimeWaits)),
            ("ListenOverflows", get_tcp(Tcp::ListenOverflows)),
            ("ListenDrops", get_tcp(Tcp::ListenOverflows)),
            ("TCPAbortOnClose", get_tcp(Tcp::AbortOnClose)),
            ("TCPAbortOnTimeout", get_tcp(Tcp::AbortOnTimeout)),
        ],
    );
    let ip = |counter| get(0, counter);
    group(
        &mut text,
        "IpExt",
        &[
            ("InNoRoutes", 0),
            ("InMcastPkts", ip(Of::InMulticasts)),
            ("OutMcastPkts", ip(Of::OutMulticasts)),
            ("InOctets", ip(Of::InOctets)),
            ("OutOctets", ip(Of::OutOctets)),
        ],
    );
    text
}
