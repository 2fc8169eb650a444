//! ARP: who has an IPv4 address on an Ethernet (RFC 826).

use super::output;
use crate::net::iface::neighbour::{self, Evidence};
use crate::net::iface::{self};
use core::net::{IpAddr, Ipv4Addr};
use drivers::traits::TxMeta;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

fn send(interface: u32, operation: u8, to_mac: [u8; 6], from: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) {
    let Some(mac) = iface::with(interface, |own| own.mac) else { return };
    let mut bytes = [0u8; 42];
    bytes[..6].copy_from_slice(&to_mac);
    bytes[6..12].copy_from_slice(&mac);
    bytes[12..20].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4]);
    bytes[21] = operation;
    bytes[22..28].copy_from_slice(&mac);
    bytes[28..32].copy_from_slice(&from.octets());
    bytes[32..38].copy_from_slice(&target_mac);
    bytes[38..42].copy_from_slice(&target.octets());
    output::send_frame(interface, &bytes, TxMeta::default());
}

pub fn ask(interface: u32, address: Ipv4Addr) {
    let from = match iface::source_for(interface, IpAddr::V4(address)) {
        Some(IpAddr::V4(from)) => from,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    send(interface, REQUEST, [0xff; 6], from, [0; 6], address);
}

/// Takes an ARP message (what follows the Ethernet header).
pub fn input(interface: u32, message: &[u8]) {
    let Some(message) = message.first_chunk::<28>() else { return };
    if message[..6] != [0, 1, 0x08, 0, 6, 4] || message[6] != 0 {
        return;
    }
    let mac =
        |at: usize| [message[at], message[at + 1], message[at + 2], message[at + 3], message[at + 4], message[at + 5]];
    let ip = |at: usize| Ipv4Addr::new(message[at], message[at + 1], message[at + 2], message[at + 3]);
    let (sender_mac, sender, target) = (mac(8), ip(14), ip(24));
    let is_ours = |address: Ipv4Addr| {
        iface::with(interface, |own| own.addresses.iter().any(|own| own.address == IpAddr::V4(address))) == Some(true)
    };
    if sender.is_unspecified() || is_ours(sender) {
        return;
    }
    let for_us = is_ours(target);
    let evidence = if message[7] == REPLY && for_us { Evidence::Answer } else { Evidence::Claim { make: for_us } };
    for packet in neighbour::learn(interface, IpAddr::V4(sender), sender_mac, evidence) {
        let _ = output::frame(interface, sender_mac, packet);
    }
    if message[7] == REQUEST && for_us {
        send(interface, REPLY, sender_mac, target, sender_mac, sender);
    }
}
