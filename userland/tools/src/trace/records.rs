//! What the kernel records: the table of calls, and records as [`Event`]s.

use std::collections::BTreeMap;

/// An argument of a call, as the kernel's table has it.
pub struct Argument {
    pub name: String,
    /// "Fd", "Addr", "Text", "Texts", "Input", "Output", or a Rust integer.
    pub kind: String,
}

pub struct Call {
    pub name: String,
    pub arguments: Vec<Argument>,
}

/// Every call by number.
pub struct Calls(pub BTreeMap<u16, Call>);

impl Calls {
    pub fn read() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/trace/calls")?;
        let call = |line: &str| {
            let mut words = line.split(' ');
            let (number, name) = (words.next()?.parse().ok()?, words.next()?.to_string());
            let argument = |word: &str| {
                let (name, kind) = word.split_once(':')?;
                Some(Argument { name: name.into(), kind: kind.into() })
            };
            Some((number, Call { name, arguments: words.filter_map(argument).collect() }))
        };
        Ok(Self(text.lines().filter_map(call).collect()))
    }

    pub fn name(&self, number: u16) -> String {
        self.0.get(&number).map_or_else(|| format!("syscall_{number}"), |call| call.name.clone())
    }
}

/// Memory behind an argument.
pub struct Piece {
    pub index: usize,
    /// There was more of it.
    pub more: bool,
    pub bytes: Vec<u8>,
}

pub enum Event {
    Enter { number: u16, arguments: [u64; 6], pieces: Vec<Piece> },
    Leave { number: u16, result: i64, pieces: Vec<Piece> },
    Signal { number: i32 },
    Ended { status: i32 },
    Dropped { count: u64 },
}

pub struct Record {
    pub tid: u32,
    pub time_ns: u64,
    pub event: Event,
}

/// Takes a number off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn one(mut bytes: &[u8]) -> Option<Record> {
    let bytes = &mut bytes;
    let [kind, nr_pieces] = take(bytes)?;
    let number = u16::from_le_bytes(take(bytes)?);
    let _pid: [u8; 4] = take(bytes)?;
    let tid = u32::from_le_bytes(take(bytes)?);
    let time_ns = u64::from_le_bytes(take(bytes)?);
    let mut words = [0; 6];
    let nr_words = if kind == 1 { 6 } else { 1 };
    for word in &mut words[..nr_words] {
        *word = u64::from_le_bytes(take(bytes)?);
    }
    let mut pieces = Vec::new();
    for _ in 0..nr_pieces {
        let [index, more] = take(bytes)?;
        let len = u16::from_le_bytes(take(bytes)?);
        let (piece, rest) = bytes.split_at_checked(len.into())?;
        pieces.push(Piece { index: index.into(), more: more != 0, bytes: piece.into() });
        *bytes = rest;
    }
    let event = match kind {
        1 => Event::Enter { number, arguments: words, pieces },
        2 => Event::Leave { number, result: words[0] as i64, pieces },
        3 => Event::Signal { number: words[0] as i32 },
        4 => Event::Ended { status: words[0] as i32 },
        5 => Event::Dropped { count: words[0] },
        _ => return None,
    };
    Some(Record { tid, time_ns, event })
}

/// The records that one read gave.
pub fn parse(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(len) = take(&mut bytes).map(|len| u32::from_le_bytes(len) as usize) {
        let Some((record, rest)) = len.checked_sub(4).and_then(|len| bytes.split_at_checked(len)) else { break };
        records.extend(one(record));
        bytes = rest;
    }
    records
}
