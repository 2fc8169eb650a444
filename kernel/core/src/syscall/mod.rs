//! System-call dispatch.
//!
//! A handler takes typed arguments and answers `Result<usize, Errno>`; the [`table`] says how raw registers become them.

pub mod attr;
pub mod clone;
pub mod credentials;
pub mod descriptor;
pub mod epoll;
pub mod exec;
pub mod futex;
pub mod inotify;
pub mod job;
pub mod limit;
pub mod lock;
pub mod memory;
pub mod misc;
pub mod mount;
pub mod mqueue;
pub mod path;
pub mod pidfd;
pub mod poll;
pub mod prctl;
pub mod process;
pub mod process_vm;
pub mod run;
pub mod rw;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod splice;
pub mod stat;
pub mod sysv;
pub mod table;
pub mod time;
pub mod timer;
pub mod trace;
pub mod unshare;
pub mod usage;
pub mod wait;
pub mod xattr;

use crate::prelude::*;
use crate::task::task::attention;
use hal::trap::UserContext;

/// One past the highest call number known.
pub const TABLE_LEN: usize = 452;

/// One row of the table.
pub struct Row {
    number: u16,
    handler: Handler,
    entry: Entry,
}

/// What traces show of a call.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    /// Names and types of the arguments, for traces: `("fd", "Fd")`.
    pub arguments: &'static [(&'static str, &'static str)],
}

/// Answers what goes to x0 (a value, or minus an errno), or [`RESTART`] and an errno of the ERESTART family.
type Handler = fn(&mut UserContext) -> u64;

/// No value and no errno looks like this with an errno in its lowest 12 bits (but for what rt_sigreturn(2) brings back to x0).
const RESTART: u64 = 1 << 63;

/// A handler's result in one register: a `SysResult` would go through memory.
#[inline(always)]
fn to_register(result: SysResult) -> u64 {
    match result {
        Ok(value) => value as u64,
        Err(errno) => error_to_register(errno),
    }
}

#[inline(never)]
fn error_to_register(errno: Errno) -> u64 {
    // For want of memory: it is looked for (mm/oom.rs), and the call made again if there was some.
    let refused = errno == Errno::ENOMEM && current().attention() & attention::REFUSED != 0;
    if errno.0 >= Errno::ERESTARTSYS.0 || refused { RESTART | u64::from(errno.0) } else { errno.to_return() }
}

/// The errno of the ERESTART family, or ENOMEM of a call that may be made again, in a handler's answer.
#[inline(always)]
pub fn restart_errno(answer: u64) -> Option<Errno> {
    let errno = answer.wrapping_sub(RESTART);
    (errno < 4096).then_some(Errno(errno as u16))
}

/// How a raw register becomes an argument.
pub trait Argument {
    fn from_register(raw: u64) -> Self;
}

macro_rules! argument {
    ($($t:ty),*) => { $(impl Argument for $t {
        #[inline(always)]
        fn from_register(raw: u64) -> Self {
            raw as $t
        }
    })* };
}
argument!(u32, i32, u64, i64, usize);

impl Argument for UserAddr {
    #[inline(always)]
    fn from_register(raw: u64) -> Self {
        UserAddr(raw)
    }
}

/// Table-row spelling of argument types: they say how a trace shows them.
pub type Fd = i32;
pub type Addr = UserAddr;
/// A string.
pub type Text = UserAddr;
/// A list of strings that ends with NULL.
pub type Texts = UserAddr;
/// Bytes for the kernel: as many as the next argument says.
pub type Input = UserAddr;
/// Room for bytes of the kernel: as many as the result says.
pub type Output = UserAddr;

macro_rules! row {
    (@args $context:ident, []) => { () };
    ($number:literal, $name:ident, $handler:path, [$($arg:ident: $type:ident),*]) => {
        row!(@entry $number, $name, [$($arg: $type),*], |context| {
            let mut _registers = context.x[..6].iter();
            $(let $arg = <$type as super::Argument>::from_register(row!(@next _registers));)*
            super::to_register($handler($($arg),*))
        })
    };
    ($number:literal, $name:ident, $handler:path, context, [$($arg:ident: $type:ident),*]) => {
        row!(@entry $number, $name, [$($arg: $type),*], |context| {
            let mut _registers = context.x[..6].iter();
            $(let $arg = <$type as super::Argument>::from_register(row!(@next _registers));)*
            super::to_register($handler(context, $($arg),*))
        })
    };
    (@next $registers:ident) => {
        match $registers.next() {
            Some(&raw) => raw,
            None => 0,
        }
    };
    (@entry $number:literal, $name:ident, [$($arg:ident: $type:ident),*], $handler:expr) => {
        super::Row {
            number: $number,
            handler: $handler,
            entry: super::Entry {
                name: stringify!($name),
                arguments: &[$((stringify!($arg), stringify!($type))),*],
            },
        }
    };
}
use row;

/// Calls that make something which stays, by number: they are refused before they begin while memory is scarce (mm/oom.rs), so that
/// the few small blocks behind one object need not be undone one by one.
const MAKERS: &[u16] = &[
    5, 6, 7, // setxattr
    19, 20, 21, 26, 27, 74, 85, // eventfd2, epoll, inotify, signalfd4, timerfd_create
    23, 24, // dup, dup3
    33, 34, 36, 37, 38, 276, 40, // mknodat, mkdirat, symlinkat, linkat, renames, mount
    56, 437, 59, 279, 434, 438, // openat, openat2, pipe2, memfd_create, pidfd_open, pidfd_getfd
    97, 107, // unshare, timer_create
    180, 186, 190, 194, 196, // mq_open, msgget, semget, shmget, shmat
    198, 199, 200, 201, 202, 242, 203, 208, // sockets: made, bound, listening, accepted, connected, options
    220, 435, 221, 281, // clone, execve
    222, // mmap
];

/// The handler of each number: an array of its own, in which the dispatcher finds one by a single load. Those of [`MAKERS`] begin
/// with [`admitted`], unless `plain`.
const fn handlers(rows: &[Row], plain: bool) -> [Handler; TABLE_LEN] {
    let mut handlers: [Handler; TABLE_LEN] = [unknown; TABLE_LEN];
    let mut index = 0;
    while index < rows.len() {
        handlers[rows[index].number as usize] = rows[index].handler;
        index += 1;
    }
    index = 0;
    while !plain && index < MAKERS.len() {
        handlers[MAKERS[index] as usize] = admitted;
        index += 1;
    }
    handlers
}

/// A call of [`MAKERS`]: ENOMEM, or what it answers.
fn admitted(context: &mut UserContext) -> u64 {
    match admit(PAGE_SIZE) {
        Ok(()) => table::PLAIN_HANDLERS[context.x[8] as usize](context),
        Err(error) => error_to_register(error.into()),
    }
}

/// Name and arguments of each number.
const fn entries(rows: &[Row]) -> [Option<Entry>; TABLE_LEN] {
    let mut entries = [None; TABLE_LEN];
    let mut index = 0;
    while index < rows.len() {
        entries[rows[index].number as usize] = Some(rows[index].entry);
        index += 1;
    }
    entries
}

/// The number of a call, by its name in the table.
const fn number_of(name: &str) -> u64 {
    let mut index = 0;
    while index < table::ENTRIES.len() {
        if let Some(entry) = &table::ENTRIES[index]
            && is_same(entry.name.as_bytes(), name.as_bytes())
        {
            return index as u64;
        }
        index += 1;
    }
    panic!("no such call in the table")
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    a.len() == b.len() && index == a.len()
}

/// Numbers of calls that something must know.
pub mod number {
    use super::number_of;

    pub const SCHED_YIELD: u64 = number_of("sched_yield");
    pub const RESTART_SYSCALL: u64 = number_of("restart_syscall");
    pub const RT_SIGRETURN: u64 = number_of("rt_sigreturn");
}

/// Runs the call named by x8. The answer goes to x0 by the caller (syscall/run.rs), which also handles restarts (see
/// [`restart_errno`]).
#[inline]
pub fn dispatch(context: &mut UserContext) -> u64 {
    match table::HANDLERS.get(context.x[8] as usize) {
        Some(handler) => handler(context),
        None => unknown(context),
    }
}

#[cold]
fn unknown(context: &mut UserContext) -> u64 {
    crate::debug!("{}: unknown system call {}", current().comm(), context.x[8]);
    Errno::ENOSYS.to_return()
}
