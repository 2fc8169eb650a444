//! Signal numbers, sets, and what a signal says (`siginfo_t`).

pub const SIGHUP: u32 = 1;
pub const SIGINT: u32 = 2;
pub const SIGQUIT: u32 = 3;
pub const SIGILL: u32 = 4;
pub const SIGTRAP: u32 = 5;
pub const SIGABRT: u32 = 6;
pub const SIGBUS: u32 = 7;
pub const SIGFPE: u32 = 8;
pub const SIGKILL: u32 = 9;
pub const SIGUSR1: u32 = 10;
pub const SIGSEGV: u32 = 11;
pub const SIGUSR2: u32 = 12;
pub const SIGPIPE: u32 = 13;
pub const SIGALRM: u32 = 14;
pub const SIGTERM: u32 = 15;
pub const SIGSTKFLT: u32 = 16;
pub const SIGCHLD: u32 = 17;
pub const SIGCONT: u32 = 18;
pub const SIGSTOP: u32 = 19;
pub const SIGTSTP: u32 = 20;
pub const SIGTTIN: u32 = 21;
pub const SIGTTOU: u32 = 22;
pub const SIGURG: u32 = 23;
pub const SIGXCPU: u32 = 24;
pub const SIGXFSZ: u32 = 25;
pub const SIGVTALRM: u32 = 26;
pub const SIGPROF: u32 = 27;
pub const SIGWINCH: u32 = 28;
pub const SIGIO: u32 = 29;
pub const SIGPWR: u32 = 30;
pub const SIGSYS: u32 = 31;

/// `si_code` of a POSIX timer's signal.
pub const SI_TIMER: i32 = -2;

/// A set of signals 1..=64; bit `n-1` is signal `n`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    pub const fn contains(self, signal: u32) -> bool {
        signal >= 1 && signal <= 64 && self.0 >> (signal - 1) & 1 == 1
    }
}

/// The part of `siginfo_t` that says something: constructors below fill the union as each `si_code` demands. The rest of the
/// 128 bytes that programs see is zero.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C, align(8))]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: i32,
    pub fields: [u64; 4],
}

/// `siginfo_t` in its 128-byte user layout.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct UserSigInfo {
    pub info: SigInfo,
    rest: [u64; 10],
}

impl SigInfo {
    /// As programs see it.
    #[inline]
    pub fn to_user(self) -> UserSigInfo {
        UserSigInfo { info: self, rest: [0; 10] }
    }
    #[inline]
    fn base(signal: u32, code: i32) -> Self {
        Self { signo: signal as i32, errno: 0, code, pad: 0, fields: [0; 4] }
    }
    /// Sent by the kernel itself (SI_KERNEL).
    pub fn kernel(signal: u32) -> Self {
        Self::base(signal, 0x80)
    }
    /// Sent by a process: SI_USER (0), SI_TKILL (-6), SI_QUEUE (-1) with a value, SI_MESGQ (-3).
    pub fn user(signal: u32, code: i32, pid: u32, uid: u32, value: u64) -> Self {
        let mut info = Self::base(signal, code);
        info.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        info.fields[1] = value;
        info
    }
    /// Sent with kill(2) by the calling thread, or in its name.
    pub fn from_current(signal: u32) -> Self {
        let own = super::current();
        Self::user(signal, 0, own.process.pid, own.credentials.with(|own| own.uid), 0)
    }
    /// A fault at `addr` (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP).
    pub fn fault(signal: u32, code: i32, addr: u64) -> Self {
        let mut info = Self::base(signal, code);
        info.fields[0] = addr;
        info
    }
    /// A POSIX timer's expiry (SI_TIMER): timer id, overrun count, value.
    pub fn timer(signal: u32, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::base(signal, SI_TIMER);
        info.fields[0] = id as u32 as u64 | (overrun as u32 as u64) << 32;
        info.fields[1] = value;
        info
    }
    /// SIGCHLD: CLD_* code, child's pid, uid, status, utime and stime in clock ticks.
    pub fn child(code: i32, pid: u32, uid: u32, status: i32, utime: u64, stime: u64) -> Self {
        let mut info = Self::base(SIGCHLD, code);
        info.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        info.fields[1] = status as u32 as u64;
        info.fields[2] = utime;
        info.fields[3] = stime;
        info
    }
    /// SIGIO/F_SETSIG: POLL_* code, band, descriptor.
    pub fn poll(signal: u32, code: i32, band: u64, fd: i32) -> Self {
        let mut info = Self::base(signal, code);
        info.fields[0] = band;
        info.fields[1] = fd as u32 as u64;
        info
    }
}
