//! Level IPPROTO_TCP.

use super::{Queue, State, Tcp};
use crate::net::inet::output;
use crate::net::options::{Common, OptionIn, Switches};
use crate::prelude::*;
use base::net::engine::Duration;
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use zerocopy::{Immutable, IntoBytes};

const TCP_NODELAY: i32 = 1;
const TCP_MAXSEG: i32 = 2;
const TCP_CORK: i32 = 3;
const TCP_KEEPIDLE: i32 = 4;
const TCP_KEEPINTVL: i32 = 5;
const TCP_KEEPCNT: i32 = 6;
const TCP_SYNCNT: i32 = 7;
const TCP_LINGER2: i32 = 8;
const TCP_DEFER_ACCEPT: i32 = 9;
const TCP_WINDOW_CLAMP: i32 = 10;
const TCP_INFO: i32 = 11;
const TCP_QUICKACK: i32 = 12;
const TCP_CONGESTION: i32 = 13;
const TCP_USER_TIMEOUT: i32 = 18;
const TCP_FASTOPEN: i32 = 23;
const TCP_TIMESTAMP: i32 = 24;
const TCP_NOTSENT_LOWAT: i32 = 25;
const TCP_FASTOPEN_CONNECT: i32 = 30;

pub(super) struct TcpOptions {
    no_delay: AtomicBool,
    quick_ack: AtomicBool,
    max_segment: AtomicU32,
    /// What a peer that is joined would have advertised; 0: none is.
    peer_segment: AtomicU32,
    fast_open_connect: AtomicBool,
    keep_idle_s: AtomicU32,
    keep_interval_s: AtomicU32,
    keep_count: AtomicU32,
    defer_accept_s: AtomicU32,
    user_timeout_ms: AtomicU32,
    window_clamp: AtomicU32,
    linger2_s: AtomicU32,
    syn_count: AtomicU32,
    not_sent_low_water: AtomicU32,
}

/// Bytes of the IP and TCP headers, without options.
fn headers(remote: IpAddr) -> u32 {
    if remote.is_ipv6() { 60 } else { 40 }
}

/// What one end advertises to a peer behind a path of `mtu`, in bytes; `wanted`: TCP_MAXSEG, or 0.
fn own_segment(wanted: u32, mtu: u32, remote: IpAddr) -> u32 {
    let fits = mtu.min(65_535) - headers(remote);
    if wanted == 0 { fits } else { fits.min(wanted) }
}

fn path_mtu(remote: IpAddr) -> u32 {
    crate::net::iface::lookup(remote).map_or(1500, |via| via.mtu)
}

impl TcpOptions {
    pub fn new() -> Self {
        Self {
            no_delay: AtomicBool::new(false),
            quick_ack: AtomicBool::new(true),
            max_segment: AtomicU32::new(0),
            peer_segment: AtomicU32::new(0),
            fast_open_connect: AtomicBool::new(false),
            keep_idle_s: AtomicU32::new(7200),
            keep_interval_s: AtomicU32::new(75),
            keep_count: AtomicU32::new(9),
            defer_accept_s: AtomicU32::new(0),
            user_timeout_ms: AtomicU32::new(0),
            window_clamp: AtomicU32::new(0),
            linger2_s: AtomicU32::new(60),
            syn_count: AtomicU32::new(6),
            not_sent_low_water: AtomicU32::new(u32::MAX),
        }
    }
    /// A copy for a connection that a listener made.
    pub fn inherited(&self) -> Self {
        let new = Self::new();
        let copy = |to: &AtomicU32, from: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        new.no_delay.store(self.no_delay(), Ordering::Relaxed);
        copy(&new.keep_idle_s, &self.keep_idle_s);
        copy(&new.keep_interval_s, &self.keep_interval_s);
        copy(&new.keep_count, &self.keep_count);
        copy(&new.defer_accept_s, &self.defer_accept_s);
        copy(&new.user_timeout_ms, &self.user_timeout_ms);
        copy(&new.max_segment, &self.max_segment);
        new
    }
    /// TCP_MAXSEG for connections to come, or 0.
    pub fn max_segment(&self) -> u32 {
        self.max_segment.load(Ordering::Relaxed)
    }
    pub fn no_delay(&self) -> bool {
        self.no_delay.load(Ordering::Relaxed)
    }
    pub fn defers_accept(&self) -> bool {
        self.defer_accept_s.load(Ordering::Relaxed) != 0
    }
    pub fn user_timeout(&self) -> Option<Duration> {
        match self.user_timeout_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        }
    }
    /// How long an idle connection waits before it asks whether the peer is there.
    pub fn keepalive_idle(&self, common: &Common) -> Option<Duration> {
        let idle =
            self.keep_idle_s.load(Ordering::Relaxed).min(self.keep_interval_s.load(Ordering::Relaxed).max(1) * 8);
        common.is_on(Switches::KEEPALIVE).then(|| Duration::from_secs(idle.into()))
    }
    /// How long a peer may be silent altogether when it is asked.
    pub fn keepalive_limit(&self, common: &Common) -> Option<Duration> {
        let [idle, interval, count] = [&self.keep_idle_s, &self.keep_interval_s, &self.keep_count]
            .map(|value| u64::from(value.load(Ordering::Relaxed)));
        common.is_on(Switches::KEEPALIVE).then(|| Duration::from_secs(idle + interval * count))
    }
}

/// `struct tcp_info`, as far as its first 104 bytes (Linux 2.6.37) and the counters that follow.
#[derive(Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
struct TcpInfo {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    window_scales: u8,
    flags: u8,
    rto_us: u32,
    ato_us: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt_us: u32,
    rttvar_us: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
}

impl Tcp {
    fn info_record(&self) -> TcpInfo {
        let mut state = self.state.lock();
        let number = self.state_number(&mut state);
        let remote = state.remote;
        let ip = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip);
        let mtu = remote.map_or(1500, |remote| path_mtu(remote.ip));
        let mut info = TcpInfo {
            state: number,
            rto_us: 200_000,
            ato_us: 40_000,
            snd_mss: self.segment_bytes(&state, mtu, ip),
            rcv_mss: own_segment(state.max_segment, mtu, ip),
            advmss: own_segment(state.max_segment, mtu, ip),
            pmtu: mtu,
            snd_cwnd: 10,
            snd_ssthresh: 0x7fff_ffff,
            reordering: 3,
            bytes_acked: state.bytes_sent,
            bytes_received: state.bytes_received,
            segs_out: state.segments_out,
            segs_in: state.segments_in,
            total_retrans: state.segments_again,
            ..TcpInfo::default()
        };
        if let Some(listener) = &state.listener {
            // Of a listener: how many wait and how many may.
            (info.unacked, info.sacked) = (listener.ready.len() as u32, listener.backlog as u32);
        } else if let Some(engine) = &mut state.engine {
            let tcp = engine.tcp();
            info.notsent_bytes = tcp.send_queue() as u32;
            info.rcv_space = tcp.recv_capacity() as u32;
            info.bytes_acked = info.bytes_acked.saturating_sub(tcp.send_queue() as u64);
        }
        info
    }

    /// setsockopt(2) of level IPPROTO_TCP: EINVAL, ENOPROTOOPT.
    pub(super) fn set_tcp(self: &Arc<Self>, name: i32, value: OptionIn) -> Result<(), Errno> {
        let options = &self.options;
        if name == TCP_CONGESTION {
            let wanted = value.bytes(15)?;
            let wanted = wanted.split(|byte| *byte == 0).next().unwrap_or(&[]);
            return if matches!(wanted, b"reno" | b"cubic") { Ok(()) } else { Err(Errno::ENOENT) };
        }
        let number = value.int()?;
        let in_range = |range: core::ops::RangeInclusive<i32>| {
            if range.contains(&number) { Ok(number as u32) } else { Err(Errno::EINVAL) }
        };
        match name {
            TCP_NODELAY => {
                options.no_delay.store(number != 0, Ordering::Relaxed);
                self.with_tcp(|tcp, is_local| tcp.set_nagle_enabled(number == 0 && !is_local));
                self.push_out();
            }
            TCP_CORK => {
                self.state.lock().is_corked = number != 0;
                if number == 0 {
                    self.push_out();
                }
            }
            TCP_QUICKACK => {
                options.quick_ack.store(number != 0, Ordering::Relaxed);
                let delay = if number & 1 != 0 { None } else { Some(Duration::from_millis(40)) };
                self.with_tcp(|tcp, is_local| tcp.set_ack_delay(delay.filter(|_| !is_local)));
                self.push_out();
            }
            TCP_MAXSEG => {
                if number != 0 {
                    in_range(88..=32_767)?;
                }
                options.max_segment.store(number as u32, Ordering::Relaxed);
            }
            TCP_KEEPIDLE => {
                options.keep_idle_s.store(in_range(1..=32_767)?, Ordering::Relaxed);
                self.keepalive_changed();
            }
            TCP_KEEPINTVL => {
                options.keep_interval_s.store(in_range(1..=32_767)?, Ordering::Relaxed);
                self.keepalive_changed();
            }
            TCP_KEEPCNT => {
                options.keep_count.store(in_range(1..=127)?, Ordering::Relaxed);
                self.keepalive_changed();
            }
            TCP_SYNCNT => options.syn_count.store(in_range(1..=127)?, Ordering::Relaxed),
            TCP_LINGER2 => options.linger2_s.store(number.max(0) as u32, Ordering::Relaxed),
            TCP_DEFER_ACCEPT => options.defer_accept_s.store(number.max(0) as u32, Ordering::Relaxed),
            TCP_WINDOW_CLAMP => options.window_clamp.store(number.max(0) as u32, Ordering::Relaxed),
            TCP_USER_TIMEOUT => {
                if number < 0 {
                    return Err(Errno::EINVAL);
                }
                options.user_timeout_ms.store(number as u32, Ordering::Relaxed);
            }
            TCP_NOTSENT_LOWAT => options.not_sent_low_water.store(number as u32, Ordering::Relaxed),
            TCP_FASTOPEN => {
                in_range(0..=i32::MAX)?;
            }
            TCP_FASTOPEN_CONNECT => options.fast_open_connect.store(in_range(0..=1)? != 0, Ordering::Relaxed),
            TCP_TIMESTAMP => {
                in_range(0..=1)?;
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// getsockopt(2) of level IPPROTO_TCP: ENOPROTOOPT.
    pub(super) fn get_tcp(&self, name: i32) -> Result<Vec<u8>, Errno> {
        let options = &self.options;
        let load = |value: &AtomicU32| value.load(Ordering::Relaxed) as i32;
        let number = match name {
            TCP_INFO => return Ok(self.info_record().as_bytes().to_vec()),
            TCP_CONGESTION => {
                let mut name = b"reno".to_vec();
                name.resize(16, 0);
                return Ok(name);
            }
            TCP_NODELAY => i32::from(options.no_delay()),
            TCP_CORK => i32::from(self.state.lock().is_corked),
            TCP_QUICKACK => i32::from(options.quick_ack.load(Ordering::Relaxed)),
            TCP_MAXSEG => {
                let state = self.state.lock();
                match state.remote {
                    Some(remote) => self.segment_bytes(&state, path_mtu(remote.ip), remote.ip) as i32,
                    None => match load(&options.max_segment) {
                        0 => 536,
                        set => set,
                    },
                }
            }
            TCP_KEEPIDLE => load(&options.keep_idle_s),
            TCP_KEEPINTVL => load(&options.keep_interval_s),
            TCP_KEEPCNT => load(&options.keep_count),
            TCP_SYNCNT => load(&options.syn_count),
            TCP_LINGER2 => load(&options.linger2_s),
            TCP_DEFER_ACCEPT => load(&options.defer_accept_s),
            TCP_WINDOW_CLAMP => load(&options.window_clamp),
            TCP_USER_TIMEOUT => load(&options.user_timeout_ms),
            TCP_NOTSENT_LOWAT => load(&options.not_sent_low_water),
            TCP_FASTOPEN_CONNECT => i32::from(options.fast_open_connect.load(Ordering::Relaxed)),
            TCP_FASTOPEN | TCP_TIMESTAMP => 0,
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(number.to_ne_bytes().to_vec())
    }

    /// The largest segment that goes out.
    fn segment_bytes(&self, state: &State, mtu: u32, remote: IpAddr) -> u32 {
        let own = own_segment(state.max_segment, mtu, remote);
        let peer = match (&state.engine, self.options.peer_segment.load(Ordering::Relaxed)) {
            (Some(engine), _) => engine.peer_segment_bytes().map(u32::from),
            (None, 0) => None,
            (None, joined) => Some(joined),
        };
        peer.map_or(own, |peer| own.min(peer))
    }

    /// The largest packet that goes to `remote`: as long as the path and the largest segment asked for allow.
    pub(super) fn packet_bytes(&self, mtu: u32, remote: IpAddr) -> usize {
        (own_segment(self.options.max_segment(), mtu, remote) + headers(remote)) as usize
    }

    /// Each of two joined sockets hears what the other takes.
    pub(super) fn exchange_segments(&self, other: &Self, own_ip: IpAddr, other_ip: IpAddr) {
        let mtu = path_mtu(other_ip);
        self.options.peer_segment.store(own_segment(other.options.max_segment(), mtu, own_ip), Ordering::Relaxed);
        other.options.peer_segment.store(own_segment(self.options.max_segment(), mtu, other_ip), Ordering::Relaxed);
    }

    /// SO_KEEPALIVE or its times changed.
    pub(super) fn keepalive_changed(self: &Arc<Self>) {
        let (idle, limit) = (self.options.keepalive_idle(&self.common), self.options.keepalive_limit(&self.common));
        self.with_tcp(|tcp, _| {
            tcp.set_keep_alive(idle);
            if tcp.send_queue() == 0 {
                tcp.set_timeout(limit);
            }
        });
    }

    fn with_tcp(&self, f: impl FnOnce(&mut smoltcp::socket::tcp::Socket<'static>, bool)) {
        let mut state = self.state.lock();
        let is_local = state.is_local;
        if let Some(engine) = &mut state.engine {
            f(engine.tcp(), is_local);
        }
    }

    /// Sends what may be sent now.
    pub(super) fn push_out(self: &Arc<Self>) {
        let mut queue = Queue::new();
        self.on_timer(&mut queue);
        output::send_all(&mut queue);
    }
}
