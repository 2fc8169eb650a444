//! UDP sockets, found by port.
//!
//! [`input`] who gets a datagram, and an error · [`send`] · [`file`] the traits · [`lite`] what is different with UDP-Lite's ·
//! [`segment`] many datagrams of one send. What waits to be received is in the socket's [`Mailbox`].
//!
//! Lock order: a table alone; a socket's `state` alone.

mod file;
mod input;
mod lite;
mod segment;
mod send;

use super::address::Endpoint;
use super::counters::{self, Udp as Count};
use super::hash::ByPort;
use super::mailbox::{Mailbox, Owner};
use super::options::IpOptions;
use super::ports::{Claim, Ports};
use crate::net::iface::SocketInfo;
use crate::net::options::Common;
use crate::net::socket;
use crate::prelude::*;
use base::net::packet::{PROTO_UDP, PROTO_UDPLITE};
use core::net::IpAddr;
use core::sync::atomic::AtomicU32;
use hashbrown::HashMap;
use lite::Coverage;
use smallvec::SmallVec;
use spin::Once;

pub use input::{icmp_error, input};

struct State {
    local: Endpoint,
    remote: Option<Endpoint>,
    /// bind(2) named the address: disconnecting keeps it.
    address_is_bound: bool,
    /// Bytes of MSG_MORE and UDP_CORK, and where they go.
    corked: Option<(Endpoint, Vec<u8>)>,
    is_corked: bool,
}

pub struct UdpSocket {
    id: u64,
    own: Weak<UdpSocket>,
    domain: u16,
    /// PROTO_UDP or PROTO_UDPLITE.
    protocol: u8,
    common: Common,
    ip: IpOptions,
    coverage: Coverage,
    /// UDP_SEGMENT; 0 is off.
    segment_bytes: AtomicU32,
    mailbox: Mailbox,
    state: SpinLock<State>,
    uid: u32,
}

type Table = HashMap<u16, SmallVec<[Arc<UdpSocket>; 1]>, ByPort>;
/// UDP's sockets and ports, and UDP-Lite's.
static TABLES: [Once<SpinLock<Table>>; 2] = [const { Once::new() }; 2];
static PORTS: [Ports; 2] = [const { Ports::new(false) }; 2];

fn which(protocol: u8) -> usize {
    usize::from(protocol == PROTO_UDPLITE)
}

fn table(protocol: u8) -> &'static SpinLock<Table> {
    TABLES[which(protocol)].call_once(|| SpinLock::new(HashMap::with_hasher(ByPort)))
}

pub fn create(domain: u16, protocol: u8) -> Arc<UdpSocket> {
    Arc::new_cyclic(|own| UdpSocket {
        id: socket::new_id(),
        own: own.clone(),
        domain,
        protocol,
        common: Common::new(),
        ip: IpOptions::new(),
        coverage: Coverage::new(),
        segment_bytes: AtomicU32::new(0),
        mailbox: Mailbox::new(),
        state: SpinLock::new(State {
            local: Endpoint::unspecified(domain),
            remote: None,
            address_is_bound: false,
            corked: None,
            is_corked: false,
        }),
        uid: current().creds().euid,
    })
}

impl UdpSocket {
    /// Counts for /proc/net/snmp.
    fn count(&self, of: IpAddr, counter: Count) {
        counters::udp(self.protocol, of, counter);
    }

    fn owner(&self) -> Owner<'_> {
        Owner { domain: self.domain, common: &self.common, ip: &self.ip }
    }

    fn ports(&self) -> &'static Ports {
        &PORTS[which(self.protocol)]
    }

    /// Claims a port and joins the table.
    fn claim(&self, endpoint: Endpoint) -> Result<u16, Errno> {
        let claim = Claim::new(endpoint, self.domain, &self.common, &self.ip);
        let port = self.ports().claim(self.id, endpoint.port, claim)?;
        let own = self.own.upgrade().ok_or(Errno::EBADF)?;
        table(self.protocol).lock().entry(port).or_default().push(own);
        Ok(port)
    }

    fn release_port(&self, port: u16) {
        let gone = {
            let mut table = table(self.protocol).lock();
            let gone = table.get_mut(&port).and_then(|sockets| {
                let at = sockets.iter().position(|socket| socket.id == self.id)?;
                Some(sockets.remove(at))
            });
            if table.get(&port).is_some_and(|sockets| sockets.is_empty()) {
                table.remove(&port);
            }
            gone
        };
        self.ports().release(self.id, port);
        drop(gone);
    }

    /// A port of its own for a socket that sends or connects unbound.
    fn bind_any(&self) -> Result<(), Errno> {
        if self.state.lock().local.port != 0 {
            return Ok(());
        }
        let port = self.claim(Endpoint::unspecified(self.domain))?;
        let mut state = self.state.lock();
        if state.local.port == 0 {
            state.local.port = port;
            return Ok(());
        }
        drop(state);
        self.release_port(port);
        Ok(())
    }

    fn disconnect(&self) {
        let port = {
            let mut state = self.state.lock();
            state.remote = None;
            if !state.address_is_bound {
                state.local.ip = Endpoint::unspecified(self.domain).ip;
            }
            state.local.port
        };
        let any = Endpoint::unspecified(self.domain).ip;
        if port != 0 && !self.state.lock().address_is_bound {
            self.ports().change(self.id, port, |claim| claim.ip = any);
        }
    }

    fn info(&self) -> SocketInfo {
        let (receive_queue, drops) = self.mailbox.usage();
        let state = self.state.lock();
        SocketInfo {
            family: self.domain,
            protocol: self.protocol,
            is_raw: false,
            local: state.local.shown(self.domain),
            remote: state.remote.unwrap_or(Endpoint::unspecified(self.domain)).shown(self.domain),
            state: if state.remote.is_some() { 1 } else { 7 },
            send_queue: 0,
            receive_queue: receive_queue as u32,
            uid: self.uid,
            inode: self.id,
            drops,
        }
    }
}

pub fn sockets() -> Vec<SocketInfo> {
    let mut all: Vec<Arc<UdpSocket>> = table(PROTO_UDP).lock().values().flatten().cloned().collect();
    all.extend(table(PROTO_UDPLITE).lock().values().flatten().cloned());
    all.iter().map(|socket| socket.info()).collect()
}
