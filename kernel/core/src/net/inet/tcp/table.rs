//! Names to sockets: connections by both ends, listeners by port, and the short records of TIME-WAIT.

use super::super::hash::{ByPort, Keyed, shrink};
use super::{PORTS, Tcp};
use crate::net::iface::{self, SocketInfo};
use crate::net::inet::options::Switch;
use crate::net::options::Switches;
use crate::net::socket::{AF_INET, AF_INET6};
use crate::prelude::*;
use alloc::collections::VecDeque;
use base::net::packet::PROTO_TCP;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use hashbrown::HashMap;
use smallvec::SmallVec;
use spin::Once;

/// A connection's name: what makes it one of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Name {
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
}

enum Entry {
    Live(Arc<Tcp>),
    TimeWait { sequence: (u32, u32), port_id: u64, domain: u16 },
}

pub(super) enum Found {
    Live(Arc<Tcp>),
    TimeWait { sequence: (u32, u32) },
}

struct Tables {
    connections: HashMap<Name, Entry, Keyed>,
    listeners: HashMap<u16, SmallVec<[Arc<Tcp>; 1]>, ByPort>,
    /// TIME-WAITs in the order in which they end.
    time_waits: VecDeque<(u64, Name, u64)>,
}

/// TIME-WAIT records kept (net.ipv4.tcp_max_tw_buckets); beyond, the oldest goes.
const MAX_TIME_WAITS: usize = 16_384;
/// Nothing old can be under way on `lo`.
const LOOPBACK_TIME_WAIT_NS: u64 = 500_000_000;
const TIME_WAIT_NS: u64 = 30_000_000_000;

static TABLES: Once<SpinLock<Tables>> = Once::new();

fn tables() -> &'static SpinLock<Tables> {
    TABLES.call_once(|| {
        SpinLock::new(Tables {
            connections: HashMap::with_hasher(Keyed::new()),
            listeners: HashMap::with_hasher(ByPort),
            time_waits: VecDeque::new(),
        })
    })
}

pub(super) fn find(name: &Name) -> Option<Found> {
    match tables().lock().connections.get(name)? {
        Entry::Live(socket) => Some(Found::Live(socket.clone())),
        Entry::TimeWait { sequence, .. } => Some(Found::TimeWait { sequence: *sequence }),
    }
}

pub(super) fn is_free(name: &Name) -> bool {
    !tables().lock().connections.contains_key(name)
}

/// Adds a connection: `false` when the name is taken.
pub(super) fn insert(name: Name, socket: Arc<Tcp>) -> bool {
    let mut tables = tables().lock();
    if tables.connections.contains_key(&name) {
        return false;
    }
    tables.connections.insert(name, Entry::Live(socket));
    true
}

/// The connection is over: its name is free, or kept for a while as TIME-WAIT (which then holds the port's claim).
pub(super) fn remove(name: &Name, id: u64, time_wait: Option<(u32, u32)>, domain: u16) {
    let mut dropped: SmallVec<[(Option<Entry>, u64, u16); 2]> = SmallVec::new();
    {
        let mut tables = tables().lock();
        let is_own = matches!(tables.connections.get(name), Some(Entry::Live(socket)) if socket.id == id);
        if !is_own {
            return;
        }
        match time_wait {
            None => dropped.push((tables.connections.remove(name), 0, 0)),
            Some(sequence) => {
                let lasts = if name.local.0 == name.remote.0 || name.local.0.is_loopback() {
                    LOOPBACK_TIME_WAIT_NS
                } else {
                    TIME_WAIT_NS
                };
                let entry = Entry::TimeWait { sequence, port_id: id, domain };
                crate::net::inet::counters::tcp(crate::net::inet::counters::Tcp::TimeWaits);
                dropped.push((tables.connections.insert(*name, entry), 0, 0));
                let until = crate::time::now_ns() + lasts;
                let at = tables.time_waits.partition_point(|(other, _, _)| *other <= until);
                tables.time_waits.insert(at, (until, *name, id));
                if tables.time_waits.len() > MAX_TIME_WAITS
                    && let Some((_, name, id)) = tables.time_waits.pop_front()
                {
                    dropped.push((take_time_wait(&mut tables, &name, id), id, name.local.1));
                }
            }
        }
    }
    release(dropped);
    if time_wait.is_some() {
        crate::net::inet::bottom_half::watch_time_waits();
    }
}

fn take_time_wait(tables: &mut Tables, name: &Name, id: u64) -> Option<Entry> {
    match tables.connections.get(name) {
        Some(Entry::TimeWait { port_id, .. }) if *port_id == id => tables.connections.remove(name),
        _ => None,
    }
}

fn release(gone: SmallVec<[(Option<Entry>, u64, u16); 2]>) {
    for (entry, id, port) in gone {
        if let Some(Entry::TimeWait { .. }) = entry {
            PORTS.release(id, port);
        }
    }
}

/// A new connection takes the name.
pub(super) fn forget_time_wait(name: &Name) {
    let gone = {
        let mut tables = tables().lock();
        match tables.connections.get(name) {
            Some(Entry::TimeWait { port_id, .. }) => {
                let id = *port_id;
                tables.time_waits.retain(|(_, other, _)| other != name);
                tables.connections.remove(name).map(|entry| (entry, id))
            }
            _ => None,
        }
    };
    if let Some((_, id)) = gone {
        PORTS.release(id, name.local.1);
    }
}

/// Ends the TIME-WAITs whose time is over; answers when the next one ends (monotonic ns).
pub fn expire_time_waits() -> Option<u64> {
    let now = crate::time::now_ns();
    loop {
        let mut dropped: SmallVec<[(Option<Entry>, u64, u16); 2]> = SmallVec::new();
        let next = {
            let mut tables = tables().lock();
            while dropped.len() < 2
                && let Some((until, name, id)) = tables.time_waits.front().copied()
                && until <= now
            {
                tables.time_waits.pop_front();
                dropped.push((take_time_wait(&mut tables, &name, id), id, name.local.1));
            }
            if !dropped.is_empty() {
                shrink(&mut tables.connections);
                if tables.time_waits.capacity() > 1024 && tables.time_waits.len() < tables.time_waits.capacity() / 8 {
                    let len = tables.time_waits.len() * 2;
                    tables.time_waits.shrink_to(len);
                }
            }
            tables.time_waits.front().map(|(until, _, _)| *until)
        };
        if dropped.is_empty() {
            return next;
        }
        release(dropped);
    }
}

pub(super) fn add_listener(port: u16, socket: Arc<Tcp>) {
    tables().lock().listeners.entry(port).or_default().push(socket);
}

pub(super) fn remove_listener(port: u16, id: u64) {
    let gone = {
        let mut tables = tables().lock();
        let gone = tables.listeners.get_mut(&port).and_then(|sockets| {
            let at = sockets.iter().position(|socket| socket.id == id)?;
            Some(sockets.remove(at))
        });
        if tables.listeners.get(&port).is_some_and(|sockets| sockets.is_empty()) {
            tables.listeners.remove(&port);
        }
        gone
    };
    drop(gone);
}

/// The listener for a SYN: the one bound most closely; of several with SO_REUSEPORT one that the sender's name chooses.
pub(super) fn find_listener(interface: u32, ip: IpAddr, port: u16, from: IpAddr, from_port: u16) -> Option<Arc<Tcp>> {
    let candidates = tables().lock().listeners.get(&port)?.clone();
    let mut best: SmallVec<[&Arc<Tcp>; 4]> = SmallVec::new();
    let mut best_score = 0;
    for socket in &candidates {
        let Some(score) = socket.listener_score(interface, ip) else { continue };
        if best.is_empty() || score > best_score {
            best.clear();
            best_score = score;
            best.push(socket);
        } else if score == best_score {
            best.push(socket);
        }
    }
    if best.len() > 1 && best[0].common.is_on(Switches::REUSE_PORT) {
        let bits = match from {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() as u64,
        };
        let mix = (bits ^ u64::from(from_port)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        return best.get(mix as usize % best.len()).map(|socket| (*socket).clone());
    }
    best.first().map(|socket| (*socket).clone())
}

impl Tcp {
    fn listener_score(&self, interface: u32, ip: IpAddr) -> Option<u32> {
        let mut score = 1 + u32::from((self.domain == AF_INET) == ip.is_ipv4());
        let device = self.common.device.load(Ordering::Relaxed);
        if device != 0 {
            if device != interface {
                return None;
            }
            score += 8;
        }
        let state = self.state.lock();
        state.listener.as_ref()?;
        if state.local.ip.is_unspecified() {
            let takes = match ip {
                IpAddr::V4(_) => self.domain == AF_INET || !self.ip.is_on(Switch::V6ONLY),
                IpAddr::V6(_) => self.domain == AF_INET6,
            };
            takes.then_some(score)
        } else {
            (state.local.ip == ip).then_some(score + 4)
        }
    }
}

pub(super) fn snapshot() -> Vec<SocketInfo> {
    let (sockets, waits) = {
        let tables = tables().lock();
        let mut sockets: Vec<Arc<Tcp>> = tables.listeners.values().flatten().cloned().collect();
        let mut waits = Vec::new();
        for (name, entry) in &tables.connections {
            match entry {
                Entry::Live(socket) => sockets.push(socket.clone()),
                Entry::TimeWait { domain, .. } => waits.push((*name, *domain)),
            }
        }
        (sockets, waits)
    };
    let mut infos: Vec<SocketInfo> = sockets.iter().map(|socket| socket.info()).collect();
    infos.extend(waits.into_iter().map(|(name, domain)| {
        let shown =
            |(ip, port): (IpAddr, u16)| crate::net::inet::address::Endpoint { ip, port, scope: 0 }.shown(domain);
        let (local, remote): (SocketAddr, SocketAddr) = (shown(name.local), shown(name.remote));
        SocketInfo {
            family: domain,
            protocol: PROTO_TCP,
            is_raw: false,
            local,
            remote,
            state: 6,
            send_queue: 0,
            receive_queue: 0,
            uid: 0,
            inode: 0,
            drops: 0,
        }
    }));
    infos
}

/// Whether a name's both ends are on this machine.
pub(super) fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || iface::address::owner_of(ip).is_some()
}
