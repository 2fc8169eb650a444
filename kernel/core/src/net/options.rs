//! SOL_SOCKET: the options that every family keeps in the same way.

use super::socket::Socket;
use crate::file::signal_io;
use crate::prelude::*;
use crate::time::Timeval;
use crate::vfs::Attributes;
use crate::vfs::owner::SharedOwner;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use spin::Once;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const SOL_SOCKET: i32 = 1;
pub const SO_DEBUG: i32 = 1;
pub const SO_REUSEADDR: i32 = 2;
pub const SO_TYPE: i32 = 3;
pub const SO_ERROR: i32 = 4;
pub const SO_DONTROUTE: i32 = 5;
pub const SO_BROADCAST: i32 = 6;
pub const SO_SNDBUF: i32 = 7;
pub const SO_RCVBUF: i32 = 8;
pub const SO_KEEPALIVE: i32 = 9;
pub const SO_OOBINLINE: i32 = 10;
pub const SO_NO_CHECK: i32 = 11;
pub const SO_PRIORITY: i32 = 12;
pub const SO_LINGER: i32 = 13;
pub const SO_REUSEPORT: i32 = 15;
pub const SO_PASSCRED: i32 = 16;
pub const SO_PEERCRED: i32 = 17;
pub const SO_RCVLOWAT: i32 = 18;
pub const SO_SNDLOWAT: i32 = 19;
pub const SO_RCVTIMEO: i32 = 20;
pub const SO_SNDTIMEO: i32 = 21;
pub const SO_BINDTODEVICE: i32 = 25;
pub const SO_TIMESTAMP: i32 = 29;
pub const SO_ACCEPTCONN: i32 = 30;
pub const SO_SNDBUFFORCE: i32 = 32;
pub const SO_RCVBUFFORCE: i32 = 33;
pub const SO_TIMESTAMPNS: i32 = 35;
pub const SO_MARK: i32 = 36;
pub const SO_TIMESTAMPING: i32 = 37;
pub const SO_PROTOCOL: i32 = 38;
pub const SO_DOMAIN: i32 = 39;
pub const SO_RXQ_OVFL: i32 = 40;
/// Where MSG_PEEK begins; negative: at the first byte, always.
pub const SO_PEEK_OFF: i32 = 42;
pub const SO_BUSY_POLL: i32 = 46;
pub const SO_INCOMING_CPU: i32 = 49;
/// The other side's supplementary groups; ERANGE, with the length there is, when they do not fit.
pub const SO_PEERGROUPS: i32 = 59;
pub const SO_COOKIE: i32 = 57;
pub const SO_TXTIME: i32 = 61;
pub const SO_RCVMARK: i32 = 75;

/// net.core.wmem_default and rmem_default.
pub const DEFAULT_BUFFER: u32 = 212_992;
/// net.core.wmem_max and rmem_max: what SO_SNDBUF and SO_RCVBUF are cut to before they are doubled.
const MAX_BUFFER: u32 = 212_992;
/// The same for the privileged SO_SNDBUFFORCE and SO_RCVBUFFORCE: memory must stay bounded.
const MAX_FORCED: u32 = 4 << 20;
const MIN_SNDBUF: u32 = 4608;
const MIN_RCVBUF: u32 = 2304;

/// The value of setsockopt(2), still in the program's memory.
#[derive(Clone, Copy)]
pub struct OptionIn {
    address: UserAddr,
    pub len: usize,
}

impl OptionIn {
    pub fn new(address: UserAddr, len: usize) -> Self {
        Self { address, len }
    }
    /// EINVAL when shorter than an int, EFAULT.
    pub fn int(self) -> Result<i32, Errno> {
        self.get()
    }
    /// EINVAL when shorter than a `T`, EFAULT.
    pub fn get<T: FromBytes + IntoBytes>(self) -> Result<T, Errno> {
        if self.len < size_of::<T>() {
            return Err(Errno::EINVAL);
        }
        UserPtr::<T>::new(self.address).read()
    }
    /// At most `max` bytes of it.
    pub fn bytes(self, max: usize) -> Result<Vec<u8>, Errno> {
        UserReader::new(self.address, self.len.min(max))?.read_all()
    }
}

/// `struct linger`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Linger {
    pub on: i32,
    pub seconds: i32,
}

bitflags! {
    /// SOF_TIMESTAMPING_ flags.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Stamping: u32 {
        const RX_SOFTWARE = 1 << 3;
        const SOFTWARE = 1 << 4;
        const OPT_TSONLY = 1 << 11;
        const OPT_STATS = 1 << 12;
        const BIND_PHC = 1 << 15;
        /// The others that there are. No packet that leaves is stamped: there is none of TX_ in the error queue.
        const OTHERS = 0x67e7;
    }
}

/// `struct sock_txtime`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct TxTime {
    clock: i32,
    flags: u32,
}

bitflags! {
    /// Options that are on or off.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Switches: u32 {
        const REUSE_ADDR = 1 << 0;
        const REUSE_PORT = 1 << 1;
        const KEEPALIVE = 1 << 2;
        const BROADCAST = 1 << 3;
        const DONT_ROUTE = 1 << 4;
        const OOB_INLINE = 1 << 5;
        const NO_CHECK = 1 << 6;
        const PASS_CRED = 1 << 7;
        const TIMESTAMP = 1 << 8;
        const TIMESTAMP_NS = 1 << 9;
        const DEBUG = 1 << 10;
        const COUNT_LOST = 1 << 11;
        const RECEIVE_MARK = 1 << 12;
        const TX_TIME = 1 << 13;
    }
}

/// What SOL_SOCKET sets.
pub struct Common {
    switches: AtomicU32,
    /// SO_RCVTIMEO and SO_SNDTIMEO in ns; 0 is none.
    pub receive_timeout_ns: AtomicU64,
    pub send_timeout_ns: AtomicU64,
    /// SO_SNDBUF and SO_RCVBUF as read back: double of what was asked for.
    pub send_buffer: AtomicU32,
    pub receive_buffer: AtomicU32,
    /// A program chose the size: it does not grow by itself.
    pub send_buffer_is_set: AtomicBool,
    pub receive_buffer_is_set: AtomicBool,
    pub receive_low_water: AtomicI32,
    priority: AtomicI32,
    pub mark: AtomicI32,
    /// SO_TIMESTAMPING's [`Stamping`].
    stamping: AtomicU32,
    /// SO_TXTIME: kept, and each packet leaves at once, as without a queueing discipline that knows of times.
    tx_time: SpinLock<TxTime>,
    /// Seconds; negative: SO_LINGER is off.
    linger: AtomicI32,
    linger_off_seconds: AtomicI32,
    /// SO_BINDTODEVICE: the interface's index; 0 is any.
    pub device: AtomicU32,
    /// Whom F_SETOWN named, for SIGURG.
    owner: Once<SharedOwner>,
    /// The inode's, as it were.
    pub attributes: Attributes,
}

impl Common {
    pub fn new() -> Self {
        Self {
            switches: AtomicU32::new(0),
            receive_timeout_ns: AtomicU64::new(0),
            send_timeout_ns: AtomicU64::new(0),
            send_buffer: AtomicU32::new(DEFAULT_BUFFER),
            receive_buffer: AtomicU32::new(DEFAULT_BUFFER),
            send_buffer_is_set: AtomicBool::new(false),
            receive_buffer_is_set: AtomicBool::new(false),
            receive_low_water: AtomicI32::new(1),
            priority: AtomicI32::new(0),
            mark: AtomicI32::new(0),
            stamping: AtomicU32::new(0),
            tx_time: SpinLock::new(TxTime::default()),
            linger: AtomicI32::new(-1),
            linger_off_seconds: AtomicI32::new(0),
            device: AtomicU32::new(0),
            owner: Once::new(),
            attributes: Attributes::new(0o777),
        }
    }
    /// The socket's file has got an owner record, the same from now on.
    pub fn set_owner(&self, owner: &SharedOwner) {
        self.owner.call_once(|| owner.clone());
    }
    /// SIGURG to the owner, if there is one.
    pub fn send_sigurg(&self) {
        if let Some(owner) = self.owner.get() {
            signal_io::urgent(owner);
        }
    }
    /// A copy for a connection that a listener made.
    pub fn inherited(&self) -> Self {
        let new = Self::new();
        let copy = |to: &AtomicU32, from: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&new.switches, &self.switches);
        copy(&new.send_buffer, &self.send_buffer);
        copy(&new.receive_buffer, &self.receive_buffer);
        copy(&new.device, &self.device);
        new.send_buffer_is_set.store(self.send_buffer_is_set.load(Ordering::Relaxed), Ordering::Relaxed);
        new.receive_buffer_is_set.store(self.receive_buffer_is_set.load(Ordering::Relaxed), Ordering::Relaxed);
        new.receive_low_water.store(self.receive_low_water.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&new.stamping, &self.stamping);
        new.mark.store(self.mark.load(Ordering::Relaxed), Ordering::Relaxed);
        new.priority.store(self.priority.load(Ordering::Relaxed), Ordering::Relaxed);
        new.linger.store(self.linger.load(Ordering::Relaxed), Ordering::Relaxed);
        for (to, from) in
            [(&new.receive_timeout_ns, &self.receive_timeout_ns), (&new.send_timeout_ns, &self.send_timeout_ns)]
        {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        new
    }
    #[inline]
    pub fn is_on(&self, switch: Switches) -> bool {
        self.switches.load(Ordering::Relaxed) & switch.bits() != 0
    }
    pub fn switch(&self, switch: Switches, on: bool) {
        if on {
            self.switches.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }
    pub fn stamping(&self) -> Stamping {
        Stamping::from_bits_retain(self.stamping.load(Ordering::Relaxed))
    }
    /// SO_LINGER's seconds when it is on.
    pub fn linger_seconds(&self) -> Option<u32> {
        u32::try_from(self.linger.load(Ordering::Relaxed)).ok()
    }
    pub fn receive_timeout(&self) -> u64 {
        self.receive_timeout_ns.load(Ordering::Relaxed)
    }
    pub fn send_timeout(&self) -> u64 {
        self.send_timeout_ns.load(Ordering::Relaxed)
    }
}

/// The switch behind a boolean option.
fn switch_of(name: i32) -> Option<Switches> {
    Some(match name {
        SO_DEBUG => Switches::DEBUG,
        SO_REUSEADDR => Switches::REUSE_ADDR,
        SO_REUSEPORT => Switches::REUSE_PORT,
        SO_KEEPALIVE => Switches::KEEPALIVE,
        SO_BROADCAST => Switches::BROADCAST,
        SO_DONTROUTE => Switches::DONT_ROUTE,
        SO_OOBINLINE => Switches::OOB_INLINE,
        SO_NO_CHECK => Switches::NO_CHECK,
        SO_PASSCRED => Switches::PASS_CRED,
        SO_TIMESTAMP => Switches::TIMESTAMP,
        SO_TIMESTAMPNS => Switches::TIMESTAMP_NS,
        SO_RXQ_OVFL => Switches::COUNT_LOST,
        SO_RCVMARK => Switches::RECEIVE_MARK,
        _ => return None,
    })
}

fn timeout(value: OptionIn) -> Result<u64, Errno> {
    let time: Timeval = value.get()?;
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EDOM);
    }
    // A negative time is one that has passed already; the shortest that the clock knows stands for it.
    Ok(if time.sec < 0 { 1 } else { time.to_ns().unwrap_or(0) })
}

/// What a buffer's size becomes: cut to the limit (a negative one counts as the largest unless forced), then doubled.
fn buffer_size(wanted: i32, forced: bool) -> u32 {
    let size = if forced { (wanted.max(0) as u32).min(MAX_FORCED) } else { (wanted as u32).min(MAX_BUFFER) };
    size * 2
}

/// Sets an option of level SOL_SOCKET: EINVAL, EFAULT, EDOM, EPERM, ENOPROTOOPT.
pub fn set(socket: &dyn Socket, name: i32, value: OptionIn) -> Result<(), Errno> {
    let common = socket.common();
    let admin = || current().creds().has_cap(crate::task::credentials::cap::NET_ADMIN);
    match name {
        SO_RCVTIMEO => common.receive_timeout_ns.store(timeout(value)?, Ordering::Relaxed),
        SO_SNDTIMEO => common.send_timeout_ns.store(timeout(value)?, Ordering::Relaxed),
        SO_BINDTODEVICE => return Err(Errno::ENOPROTOOPT),
        _ => {
            let number = value.int()?;
            if let Some(switch) = switch_of(name) {
                common.switch(switch, number != 0);
                // The two kinds of time stamps exclude each other.
                match name {
                    SO_TIMESTAMP => common.switch(Switches::TIMESTAMP_NS, false),
                    SO_TIMESTAMPNS => common.switch(Switches::TIMESTAMP, false),
                    _ => {}
                }
                return Ok(());
            }
            match name {
                SO_SNDBUF | SO_SNDBUFFORCE => {
                    if name == SO_SNDBUFFORCE && !admin() {
                        return Err(Errno::EPERM);
                    }
                    let size = buffer_size(number, name == SO_SNDBUFFORCE);
                    common.send_buffer.store(size.max(MIN_SNDBUF), Ordering::Relaxed);
                    common.send_buffer_is_set.store(true, Ordering::Relaxed);
                }
                SO_RCVBUF | SO_RCVBUFFORCE => {
                    if name == SO_RCVBUFFORCE && !admin() {
                        return Err(Errno::EPERM);
                    }
                    let size = buffer_size(number, name == SO_RCVBUFFORCE);
                    common.receive_buffer.store(size.max(MIN_RCVBUF), Ordering::Relaxed);
                    common.receive_buffer_is_set.store(true, Ordering::Relaxed);
                }
                SO_PRIORITY => {
                    if !(0..=6).contains(&number) && !admin() {
                        return Err(Errno::EPERM);
                    }
                    common.priority.store(number, Ordering::Relaxed);
                }
                SO_MARK => {
                    if !admin() && !current().creds().has_cap(crate::task::credentials::cap::NET_RAW) {
                        return Err(Errno::EPERM);
                    }
                    common.mark.store(number, Ordering::Relaxed);
                }
                SO_LINGER => {
                    let linger: Linger = value.get()?;
                    let on = if linger.on == 0 { -1 } else { linger.seconds.max(0) };
                    common.linger.store(on, Ordering::Relaxed);
                    common.linger_off_seconds.store(linger.seconds, Ordering::Relaxed);
                }
                SO_RCVLOWAT => {
                    let mark = if number < 0 { i32::MAX } else { number.max(1) };
                    common.receive_low_water.store(mark, Ordering::Relaxed);
                }
                SO_TIMESTAMPING => {
                    let flags = Stamping::from_bits(number as u32).ok_or(Errno::EINVAL)?;
                    if flags.contains(Stamping::OPT_STATS) && !flags.contains(Stamping::OPT_TSONLY) {
                        return Err(Errno::EINVAL);
                    }
                    if flags.contains(Stamping::BIND_PHC) {
                        return Err(Errno::EOPNOTSUPP);
                    }
                    common.stamping.store(flags.bits(), Ordering::Relaxed);
                }
                SO_TXTIME => {
                    const MONOTONIC: i32 = 1;
                    let chosen: TxTime = value.get()?;
                    if value.len != size_of::<TxTime>() || chosen.flags & !3 != 0 {
                        return Err(Errno::EINVAL);
                    }
                    if chosen.clock != MONOTONIC && !admin() {
                        return Err(Errno::EPERM);
                    }
                    *common.tx_time.lock() = chosen;
                    common.switch(Switches::TX_TIME, true);
                }
                SO_BUSY_POLL | SO_INCOMING_CPU => {}
                _ => return Err(Errno::ENOPROTOOPT),
            }
        }
    }
    Ok(())
}

/// An option of level SOL_SOCKET: ENOPROTOOPT.
pub fn get(socket: &dyn Socket, name: i32) -> Result<Vec<u8>, Errno> {
    let common = socket.common();
    let number = |number: i32| Ok(number.to_ne_bytes().to_vec());
    let time = |ns: u64| Ok(Timeval::from_ns(ns).as_bytes().to_vec());
    if let Some(switch) = switch_of(name) {
        return number(i32::from(common.is_on(switch)));
    }
    match name {
        SO_TYPE => number(socket.kind()),
        SO_PROTOCOL => number(socket.protocol()),
        SO_DOMAIN => number(i32::from(socket.domain())),
        SO_ERROR => number(socket.take_error().map_or(0, |errno| errno.0 as i32)),
        SO_ACCEPTCONN => number(i32::from(socket.is_listening())),
        SO_SNDBUF => number(common.send_buffer.load(Ordering::Relaxed) as i32),
        SO_RCVBUF => number(common.receive_buffer.load(Ordering::Relaxed) as i32),
        SO_RCVLOWAT => number(common.receive_low_water.load(Ordering::Relaxed)),
        SO_SNDLOWAT => number(1),
        SO_PRIORITY => number(common.priority.load(Ordering::Relaxed)),
        SO_MARK => number(common.mark.load(Ordering::Relaxed)),
        // `struct so_timestamping`: the flags, and no clock.
        SO_TIMESTAMPING => Ok([common.stamping().bits(), 0].as_bytes().to_vec()),
        SO_TXTIME => Ok(common.tx_time.lock().as_bytes().to_vec()),
        SO_BUSY_POLL => number(0),
        SO_INCOMING_CPU => number(hal::cpu::id() as i32),
        SO_RCVTIMEO => time(common.receive_timeout()),
        SO_SNDTIMEO => time(common.send_timeout()),
        SO_LINGER => {
            let linger = common.linger.load(Ordering::Relaxed);
            let off = common.linger_off_seconds.load(Ordering::Relaxed);
            let value = if linger < 0 { Linger { on: 0, seconds: off } } else { Linger { on: 1, seconds: linger } };
            Ok(value.as_bytes().to_vec())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}
