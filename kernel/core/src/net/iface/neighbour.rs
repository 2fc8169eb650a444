//! Neighbours: which hardware address an IP address on a link has (what ARP and neighbour discovery learn).
//!
//! A table of bounded size. Packets for a neighbour that is being asked for wait in its entry, a few of them; the answer
//! releases them, and three questions without one give them back as undeliverable. The messages themselves are `inet::arp`'s
//! and `inet::nd`'s.

use super::{Change, announce};
use crate::net::inet::packet::Packet;
use crate::prelude::*;
use core::net::IpAddr;
use hashbrown::HashMap;
use spin::Once;

const MAX_ENTRIES: usize = 1024;
/// Packets that wait in one entry.
const MAX_WAITING: usize = 16;
const REACHABLE_NS: u64 = 30_000_000_000;
const RETRY_NS: u64 = 1_000_000_000;
/// Questions before giving up.
const MAX_PROBES: u8 = 3;
/// A failed entry is forgotten after this.
const FAILED_NS: u64 = 5_000_000_000;

/// NUD_* as netlink tells them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum NeighbourState {
    Incomplete = 0x01,
    Reachable = 0x02,
    Stale = 0x04,
    Probe = 0x10,
    Failed = 0x20,
    Permanent = 0x80,
}

#[derive(Clone, Debug)]
pub struct Neighbour {
    pub interface: u32,
    pub address: IpAddr,
    pub mac: Option<[u8; 6]>,
    pub state: NeighbourState,
}

struct Entry {
    mac: Option<[u8; 6]>,
    state: NeighbourState,
    /// When the state was entered or the last question asked.
    since_ns: u64,
    probes: u8,
    waiting: Vec<Packet>,
}

type Key = (u32, IpAddr);
static TABLE: Once<SpinLock<HashMap<Key, Entry>>> = Once::new();

fn table() -> &'static SpinLock<HashMap<Key, Entry>> {
    TABLE.call_once(|| SpinLock::new(HashMap::new()))
}

fn show(key: Key, entry: &Entry) -> Neighbour {
    Neighbour { interface: key.0, address: key.1, mac: entry.mac, state: entry.state }
}

/// All neighbours that are known or asked for.
pub fn neighbours() -> Vec<Neighbour> {
    table().lock().iter().map(|(key, entry)| show(*key, entry)).collect()
}

/// What is to be done with a packet for a neighbour.
pub enum Outcome {
    Send([u8; 6], Packet),
    /// As `Send`, and a question is due.
    SendAndAsk([u8; 6], Packet),
    /// It waits; ask when the flag says so.
    Waits {
        ask: bool,
    },
    /// The neighbour does not answer.
    Unreachable(Packet),
}

/// Finds the hardware address for `packet`, or keeps it.
pub fn resolve(interface: u32, address: IpAddr, packet: Packet) -> Outcome {
    let now = crate::time::now_ns();
    let mut table = table().lock();
    if !table.contains_key(&(interface, address)) && table.len() >= MAX_ENTRIES {
        // Room is made by those that nobody waits for; a flood of questions cannot push out a neighbour in use.
        let victim = table
            .iter()
            .filter(|(_, entry)| !matches!(entry.state, NeighbourState::Reachable | NeighbourState::Permanent))
            .min_by_key(|(_, entry)| entry.since_ns)
            .map(|(key, _)| *key);
        match victim {
            Some(key) => drop(table.remove(&key)),
            None => return Outcome::Unreachable(packet),
        }
    }
    let entry = table.entry((interface, address)).or_insert_with(|| Entry {
        mac: None,
        state: NeighbourState::Incomplete,
        since_ns: now,
        probes: 0,
        waiting: Vec::new(),
    });
    match (entry.state, entry.mac) {
        (NeighbourState::Permanent, Some(mac)) => Outcome::Send(mac, packet),
        (NeighbourState::Reachable, Some(mac)) if now < entry.since_ns + REACHABLE_NS => Outcome::Send(mac, packet),
        (NeighbourState::Reachable | NeighbourState::Stale, Some(mac)) => {
            entry.state = NeighbourState::Probe;
            entry.since_ns = now;
            entry.probes = 1;
            Outcome::SendAndAsk(mac, packet)
        }
        (NeighbourState::Probe, Some(mac)) => Outcome::Send(mac, packet),
        (NeighbourState::Failed, _) if now < entry.since_ns + RETRY_NS => Outcome::Unreachable(packet),
        _ => {
            let ask = entry.probes == 0 || entry.state == NeighbourState::Failed;
            if ask {
                entry.state = NeighbourState::Incomplete;
                entry.since_ns = now;
                entry.probes = 1;
            }
            if entry.waiting.len() >= MAX_WAITING {
                entry.waiting.remove(0);
            }
            entry.waiting.push(packet);
            Outcome::Waits { ask }
        }
    }
}

/// What a message told of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It answered our question.
    Answer,
    /// It spoke of itself: an entry that exists is updated, one for a host that asked us is made.
    Claim { make: bool },
}

/// Notes a neighbour's address; answers the packets that waited for it.
pub fn learn(interface: u32, address: IpAddr, mac: [u8; 6], evidence: Evidence) -> Vec<Packet> {
    if mac[0] & 1 != 0 || address.is_unspecified() || address.is_multicast() {
        return Vec::new();
    }
    let key = (interface, address);
    let (waiting, changed) = {
        let mut table = table().lock();
        let full = table.len() >= MAX_ENTRIES;
        let entry = match table.get_mut(&key) {
            Some(entry) => entry,
            None if evidence == (Evidence::Claim { make: true }) && !full => {
                let new =
                    Entry { mac: None, state: NeighbourState::Incomplete, since_ns: 0, probes: 0, waiting: Vec::new() };
                table.entry(key).insert(new).into_mut()
            }
            None => return Vec::new(),
        };
        if entry.state == NeighbourState::Permanent {
            return Vec::new();
        }
        let was = (entry.mac, entry.state);
        let confirmed = evidence == Evidence::Answer || entry.state == NeighbourState::Incomplete;
        if confirmed {
            entry.state = NeighbourState::Reachable;
        } else if entry.mac != Some(mac) {
            entry.state = NeighbourState::Stale;
        }
        entry.mac = Some(mac);
        entry.since_ns = crate::time::now_ns();
        entry.probes = 0;
        let changed = (was != (entry.mac, entry.state)).then(|| show(key, entry));
        (core::mem::take(&mut entry.waiting), changed)
    };
    if let Some(neighbour) = changed {
        announce(Change::Neighbour(neighbour));
    }
    waiting
}

/// Sets an entry for good, or removes it (`None`): what netlink's NEWNEIGH and DELNEIGH ask. ENOENT.
pub fn set(interface: u32, address: IpAddr, mac: Option<[u8; 6]>) -> Result<Vec<Packet>, Errno> {
    let mut table = table().lock();
    match mac {
        Some(mac) => {
            let new =
                Entry { mac: Some(mac), state: NeighbourState::Permanent, since_ns: 0, probes: 0, waiting: Vec::new() };
            Ok(table.insert((interface, address), new).map(|old| old.waiting).unwrap_or_default())
        }
        None => table.remove(&(interface, address)).map(|_| Vec::new()).ok_or(Errno::ENOENT),
    }
}

/// What the clock asks for.
#[derive(Default)]
pub struct Due {
    pub ask: Vec<(u32, IpAddr)>,
    pub undeliverable: Vec<Packet>,
    /// When to look again (monotonic ns).
    pub next_ns: Option<u64>,
}

/// Repeats questions, gives up on those that nobody answers.
pub fn tick() -> Due {
    let now = crate::time::now_ns();
    let mut due = Due::default();
    let mut table = table().lock();
    table.retain(|_, entry| entry.state != NeighbourState::Failed || now < entry.since_ns + FAILED_NS);
    for (key, entry) in table.iter_mut() {
        let again = entry.since_ns + RETRY_NS;
        match entry.state {
            NeighbourState::Incomplete | NeighbourState::Probe if now >= again => {
                entry.since_ns = now;
                if entry.probes < MAX_PROBES {
                    entry.probes += 1;
                    due.ask.push(*key);
                    due.next_ns = Some(due.next_ns.map_or(now + RETRY_NS, |next| next.min(now + RETRY_NS)));
                } else {
                    entry.state = NeighbourState::Failed;
                    entry.mac = None;
                    entry.probes = 0;
                    due.undeliverable.append(&mut entry.waiting);
                }
            }
            NeighbourState::Incomplete | NeighbourState::Probe => {
                due.next_ns = Some(due.next_ns.map_or(again, |next| next.min(again)));
            }
            _ => {}
        }
    }
    due
}

/// The interface went down.
pub fn forget_interface(interface: u32) {
    table().lock().retain(|key, _| key.0 != interface);
}
