//! System-call dispatch.
//!
//! A handler takes typed arguments and answers `Result<usize, Errno>`; the [`table`] says how raw registers become them.

pub mod table;

use crate::prelude::*;
use hal::trap::UserContext;

/// One past the highest call number known.
pub const TABLE_LEN: usize = 452;

/// One call.
pub struct Entry {
    pub number: u16,
    pub name: &'static str,
    pub handler: Handler,
    /// Names and types of the arguments, for the trace log: `("fd", "Fd")`.
    pub arguments: &'static [(&'static str, &'static str)],
}

type Handler = fn(&mut UserContext) -> SysResult;

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

/// Table-row spelling of argument types.
pub type Fd = i32;
pub type Addr = UserAddr;

macro_rules! row {
    (@args $context:ident, []) => { () };
    ($number:literal, $name:ident, $handler:path, [$($arg:ident: $type:ident),*]) => {
        row!(@entry $number, $name, [$($arg: $type),*], |context| {
            let mut _registers = context.x[..6].iter();
            $(let $arg = <$type as super::Argument>::from_register(row!(@next _registers));)*
            $handler($($arg),*)
        })
    };
    ($number:literal, $name:ident, $handler:path, context, [$($arg:ident: $type:ident),*]) => {
        row!(@entry $number, $name, [$($arg: $type),*], |context| {
            let mut _registers = context.x[..6].iter();
            $(let $arg = <$type as super::Argument>::from_register(row!(@next _registers));)*
            $handler(context, $($arg),*)
        })
    };
    (@next $registers:ident) => {
        match $registers.next() {
            Some(&raw) => raw,
            None => 0,
        }
    };
    (@entry $number:literal, $name:ident, [$($arg:ident: $type:ident),*], $handler:expr) => {
        super::Entry {
            number: $number,
            name: stringify!($name),
            handler: $handler,
            arguments: &[$((stringify!($arg), stringify!($type))),*],
        }
    };
}
use row;

/// Spreads rows over a table indexed by number.
const fn table<const N: usize>(rows: &[Entry; N]) -> [Option<Entry>; TABLE_LEN] {
    let mut table = [const { None }; TABLE_LEN];
    let mut index = 0;
    while index < N {
        let row = &rows[index];
        table[row.number as usize] =
            Some(Entry { number: row.number, name: row.name, handler: row.handler, arguments: row.arguments });
        index += 1;
    }
    table
}

/// Runs the call named by x8. The answer goes to x0 by the caller (process/run.rs), which also handles restarts.
#[inline]
pub fn dispatch(context: &mut UserContext) -> SysResult {
    let number = context.x[8] as usize;
    match table::TABLE.get(number) {
        Some(Some(entry)) => (entry.handler)(context),
        _ => unknown(number),
    }
}

#[cold]
fn unknown(number: usize) -> SysResult {
    crate::debug!("{}: unknown system call {number}", current().comm());
    Err(Errno::ENOSYS)
}
