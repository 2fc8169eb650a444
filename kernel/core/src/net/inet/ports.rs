//! Ports in use: who may bind where, and ephemeral ports that nobody can guess.

use super::address::Endpoint;
use super::hash::{Keyed, random_u64, shrink};
use super::options::{IpOptions, Switch};
use crate::net::iface;
use crate::net::options::{Common, Switches};
use crate::net::socket::AF_INET6;
use crate::prelude::*;
use crate::task::credentials::cap;
use core::net::IpAddr;
use hashbrown::HashMap;
use spin::Once;

/// net.ipv4.ip_local_port_range.
pub const FIRST_EPHEMERAL: u16 = 32_768;
pub const LAST_EPHEMERAL: u16 = 60_999;
/// Ports below need CAP_NET_BIND_SERVICE.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// One socket's claim on a port.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub ip: IpAddr,
    /// An IPv6 socket bound to any address takes IPv4's too unless this is set.
    pub v6_only: bool,
    pub reuse_addr: bool,
    pub reuse_port: bool,
    pub uid: u32,
    pub device: u32,
    pub is_listening: bool,
}

impl Claim {
    pub fn new(endpoint: Endpoint, domain: u16, common: &Common, ip: &IpOptions) -> Self {
        Self {
            ip: endpoint.ip,
            v6_only: domain == AF_INET6 && ip.is_on(Switch::V6ONLY),
            reuse_addr: common.is_on(Switches::REUSE_ADDR),
            reuse_port: common.is_on(Switches::REUSE_PORT),
            uid: current().creds().euid,
            device: common.device.load(core::sync::atomic::Ordering::Relaxed),
            is_listening: false,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        if self.device != 0 && other.device != 0 && self.device != other.device {
            return false;
        }
        let any = |claim: &Self| claim.ip.is_unspecified();
        let takes_v4 = |claim: &Self| claim.ip.is_ipv4() || any(claim) && !claim.v6_only;
        let takes_v6 = |claim: &Self| claim.ip.is_ipv6();
        if any(self) || any(other) {
            takes_v4(self) && takes_v4(other) || takes_v6(self) && takes_v6(other)
        } else {
            self.ip == other.ip
        }
    }

    /// Whether the two may not both be. TCP's rule: SO_REUSEADDR does not help against a listener.
    fn conflicts(&self, other: &Self, is_tcp: bool) -> bool {
        if !self.overlaps(other) {
            return false;
        }
        if self.reuse_port && other.reuse_port && self.uid == other.uid {
            return false;
        }
        !(self.reuse_addr && other.reuse_addr && !(is_tcp && other.is_listening))
    }
}

type Table = HashMap<u16, HashMap<u64, Claim, Keyed>, Keyed>;

/// The claims of one protocol.
pub struct Ports {
    is_tcp: bool,
    table: Once<SpinLock<(Table, Keyed)>>,
}

impl Ports {
    pub const fn new(is_tcp: bool) -> Self {
        Self { is_tcp, table: Once::new() }
    }

    fn table(&self) -> &SpinLock<(Table, Keyed)> {
        self.table.call_once(|| {
            let keyed = Keyed::new();
            SpinLock::new((HashMap::with_hasher(keyed.clone()), keyed))
        })
    }

    /// Claims `port` for socket `id`; port 0 takes a free ephemeral one. Answers the port: EADDRINUSE.
    pub fn claim(&self, id: u64, port: u16, claim: Claim) -> Result<u16, Errno> {
        if port != 0 {
            return self.try_claim(id, port, claim, |_| true).then_some(port).ok_or(Errno::EADDRINUSE);
        }
        // An ephemeral port is nobody else's; when all are in use, one that does not conflict, whatever may be reused.
        let exclusive = Claim { reuse_addr: false, reuse_port: false, ..claim };
        self.ephemeral(|port| self.try_claim(id, port, claim, |others| others == 0).then_some(port))
            .or_else(|| self.ephemeral(|port| self.try_claim(id, port, exclusive, |_| true).then_some(port)))
            .ok_or(Errno::EADDRINUSE)
    }

    /// As [`Ports::claim`] with port 0, for a connection: `is_free` looks whether the connection's name is, and a port that
    /// others use for connections of their own will do. EADDRNOTAVAIL.
    pub fn claim_for_connection(&self, id: u64, claim: Claim, is_free: impl Fn(u16) -> bool) -> Result<u16, Errno> {
        let fresh = |port| {
            let unused = |others: usize| others == 0;
            (is_free(port) && self.try_claim(id, port, claim, unused)).then_some(port)
        };
        // Alone first; together with others when the range runs out.
        let shared = Claim { reuse_addr: true, ..claim };
        self.ephemeral(fresh)
            .or_else(|| {
                self.ephemeral(|port| (is_free(port) && self.try_claim(id, port, shared, |_| true)).then_some(port))
            })
            .ok_or(Errno::EADDRNOTAVAIL)
    }

    fn ephemeral(&self, mut attempt: impl FnMut(u16) -> Option<u16>) -> Option<u16> {
        let count = u64::from(LAST_EPHEMERAL - FIRST_EPHEMERAL) + 1;
        let start = random_u64() % count;
        (0..count).find_map(|step| attempt(FIRST_EPHEMERAL + ((start + step) % count) as u16))
    }

    fn try_claim(&self, id: u64, port: u16, claim: Claim, allows: impl Fn(usize) -> bool) -> bool {
        let mut guard = self.table().lock();
        let (table, keyed) = &mut *guard;
        if let Some(claims) = table.get(&port) {
            if !allows(claims.len()) {
                return false;
            }
            if claims.iter().any(|(other, theirs)| *other != id && claim.conflicts(theirs, self.is_tcp)) {
                return false;
            }
        }
        table.entry(port).or_insert_with(|| HashMap::with_hasher(keyed.clone())).insert(id, claim);
        true
    }

    /// Claims a port beside others without asking: a child of the listener there.
    pub fn join(&self, id: u64, port: u16, claim: Claim) {
        let mut guard = self.table().lock();
        let (table, keyed) = &mut *guard;
        table.entry(port).or_insert_with(|| HashMap::with_hasher(keyed.clone())).insert(id, claim);
    }

    /// Changes a claim: `false` when the change would conflict.
    pub fn change(&self, id: u64, port: u16, f: impl FnOnce(&mut Claim)) -> bool {
        let mut guard = self.table().lock();
        let Some(claims) = guard.0.get_mut(&port) else { return true };
        let Some(mut claim) = claims.get(&id).copied() else { return true };
        f(&mut claim);
        if claims.iter().any(|(other, theirs)| *other != id && claim.conflicts(theirs, self.is_tcp)) {
            return false;
        }
        claims.insert(id, claim);
        true
    }

    pub fn release(&self, id: u64, port: u16) {
        let mut guard = self.table().lock();
        if let Some(claims) = guard.0.get_mut(&port) {
            claims.remove(&id);
            shrink(claims);
            if claims.is_empty() {
                guard.0.remove(&port);
            }
        }
    }
}

/// What bind(2) checks before the port: EADDRNOTAVAIL, EACCES.
pub fn check_bind(endpoint: &Endpoint, options: &IpOptions, common: &Common) -> Result<(), Errno> {
    let any = endpoint.ip.is_unspecified() || endpoint.ip.is_multicast() || iface::address::is_broadcast(endpoint.ip);
    let foreign_ok = options.is_on(Switch::FREEBIND) || options.is_on(Switch::TRANSPARENT);
    if let IpAddr::V6(v6) = endpoint.ip
        && v6.is_unicast_link_local()
        && endpoint.scope == 0
        && common.device.load(core::sync::atomic::Ordering::Relaxed) == 0
    {
        return Err(Errno::EINVAL);
    }
    if !any && !foreign_ok && iface::address::owner_of(endpoint.ip).is_none() {
        return Err(Errno::EADDRNOTAVAIL);
    }
    if (1..FIRST_UNPRIVILEGED).contains(&endpoint.port) && !current().creds().has_cap(cap::NET_BIND_SERVICE) {
        return Err(Errno::EACCES);
    }
    Ok(())
}
