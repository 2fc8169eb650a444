//! ppoll(2) and pselect6(2).

use crate::prelude::*;
use crate::process::signal;
use crate::sync::{Deadline, WaitKind, WaitReason};
use crate::task::process::rlimit;
use crate::task::siginfo::SigSet;
use crate::time::{self, Timespec};
use crate::vfs::poll::wait_for;
use crate::vfs::table::{FdTable, file};
use crate::vfs::{OpenFile, PollEvents, PollTable};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use hal::user;
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

impl PollFd {
    fn asked(&self) -> PollEvents {
        PollEvents::from_bits_retain(u32::from(self.events)) | PollEvents::ERR | PollEvents::HUP
    }
    /// Takes down which of the events asked for hold of its file (`None`: there is none); answers whether any does.
    fn report(&mut self, holds: Option<PollEvents>) -> bool {
        let found = match holds {
            Some(holds) => holds.intersection(self.asked()),
            None if self.fd < 0 => PollEvents::empty(),
            None => PollEvents::NVAL,
        };
        self.revents = found.bits() as u16;
        !found.is_empty()
    }
}

/// A relative time-out made absolute.
#[derive(Clone, Copy)]
pub struct Timeout {
    pub deadline: Deadline,
    /// Do not wait at all.
    pub is_zero: bool,
}

impl Timeout {
    pub const NEVER: Self = Self { deadline: None, is_zero: false };

    pub fn after_ns(ns: u64) -> Self {
        Self { deadline: Some(time::now_ns().saturating_add(ns)), is_zero: ns == 0 }
    }
    /// NULL is for ever: EFAULT, EINVAL.
    pub fn read(timeout: UserPtr<Timespec>) -> Result<Self, Errno> {
        match timeout.non_null() {
            None => Ok(Self::NEVER),
            Some(timeout) => Ok(Self::after_ns(timeout.read()?.to_ns()?)),
        }
    }
    fn left(&self) -> Timespec {
        let deadline = self.deadline.unwrap_or(0);
        Timespec::from_ns(if self.is_zero { 0 } else { deadline.saturating_sub(time::now_ns()) })
    }
}

/// Runs `call` under the signal mask at `sigmask` (NULL: the thread's own). EINVAL for a wrong size, EFAULT.
pub fn with_mask(sigmask: UserAddr, sigsetsize: usize, call: impl FnOnce() -> SysResult) -> SysResult {
    if sigmask.is_null() {
        return call();
    }
    if sigsetsize != size_of::<SigSet>() {
        return Err(Errno::EINVAL);
    }
    signal::set_temporary_mask(SigSet(UserPtr::<u64>::new(sigmask).read()?));
    let result = call();
    signal::end_temporary_mask(matches!(result, Err(Errno::EINTR | Errno::ERESTARTNOHAND)));
    result
}

/// personality(2) bit: time-outs are not written back.
const STICKY_TIMEOUTS: u32 = 0x400_0000;

/// Writes the time that is left where the time-out came from. A restart would then be wrong if that failed.
fn finish(result: SysResult, timeout: &Timeout, at: UserPtr<Timespec>) -> SysResult {
    if at.is_null() {
        return result;
    }
    if current().personality.load(Ordering::Relaxed) & STICKY_TIMEOUTS != 0 {
        return result.map_err(|errno| if errno == Errno::ERESTARTNOHAND { Errno::EINTR } else { errno });
    }
    match at.write(&timeout.left()) {
        Err(_) if result == Err(Errno::ERESTARTNOHAND) => Err(Errno::EINTR),
        _ => result,
    }
}

/// Where there is nothing to report, a signal goes before the end of the time-out, be that of no length.
fn or_interrupted(count: usize) -> SysResult {
    let is_interrupted = count == 0 && current().has_signal();
    if is_interrupted { Err(Errno::ERESTARTNOHAND) } else { Ok(count) }
}

pub fn sys_ppoll(fds: UserAddr, nfds: usize, timeout: UserAddr, sigmask: UserAddr, sigsetsize: usize) -> SysResult {
    let timeout_at = UserPtr::<Timespec>::new(timeout);
    let timeout = Timeout::read(timeout_at)?;
    let result = with_mask(sigmask, sigsetsize, || poll(fds, nfds, &timeout).and_then(or_interrupted));
    finish(result, &timeout, timeout_at)
}

fn poll(fds: UserAddr, nfds: usize, timeout: &Timeout) -> SysResult {
    if nfds as u64 > current().process.limit(rlimit::NOFILE) {
        return Err(Errno::EINVAL);
    }
    let mut room: SmallVec<[MaybeUninit<PollFd>; 8]> = SmallVec::new();
    admit(nfds * size_of::<PollFd>())?;
    room.try_reserve_exact(nfds).map_err(|_| Errno::ENOMEM)?;
    room.resize(nfds, MaybeUninit::uninit());
    let list = user::fill_from_user(&mut room, fds)?;
    // Negative descriptors are in no table.
    let table = current().files.get();
    let mut count = 0;
    let is_known = table.look_each(list, |entry| entry.fd, |entry, holds| count += usize::from(entry.report(holds)));
    if !is_known || count == 0 && !timeout.is_zero {
        count = wait_for_each(list, &table, timeout)?;
    }
    // Only the results are written: the program may be changing the rest.
    let records = list.as_bytes().as_chunks().0;
    user::store_halfwords(fds, records, core::mem::offset_of!(PollFd, revents))?;
    Ok(count)
}

/// Waits until something holds that `list` asks for; answers of how many entries, 0 at the time-out.
fn wait_for_each(list: &mut [PollFd], table: &FdTable, timeout: &Timeout) -> SysResult {
    let mut files = Vec::new();
    files.try_room(list.len())?;
    table.get_each(list, |entry| entry.fd, &mut files);
    // What is named is the first of the files.
    let first = files.iter().flatten().next().map_or(0, |file| file.id);
    let count = wait_for(timeout.deadline, timeout.is_zero, WaitReason::on(WaitKind::Poll, first), |mut table| {
        let mut count = 0;
        for (entry, file) in list.iter_mut().zip(&files) {
            let holds = file.as_ref().map(|file| {
                // Once something holds, nobody waits: no more registrations.
                match table.as_deref_mut().filter(|_| count == 0) {
                    Some(table) => {
                        table.set_interest(entry.asked());
                        file.poll(Some(table))
                    }
                    None => file.poll(None),
                }
            });
            count += usize::from(entry.report(holds));
        }
        (count != 0).then_some(count)
    })?;
    Ok(count.unwrap_or(0))
}

/// What each of select's three sets asks for, and what it is told.
const SELECT_EVENTS: [(PollEvents, PollEvents); 3] = {
    let input = PollEvents::IN.union(PollEvents::RDNORM).union(PollEvents::RDBAND);
    let output = PollEvents::OUT.union(PollEvents::WRNORM).union(PollEvents::WRBAND);
    [
        (input, input.union(PollEvents::HUP).union(PollEvents::ERR)),
        (output, output.union(PollEvents::ERR)),
        (PollEvents::PRI, PollEvents::PRI),
    ]
};

/// The last argument of pselect6: where the mask is, and its size.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MaskArgument {
    mask: u64,
    size: u64,
}

pub fn sys_pselect6(
    nfds: i32,
    readfds: UserAddr,
    writefds: UserAddr,
    exceptfds: UserAddr,
    timeout: UserAddr,
    sigmask: UserAddr,
) -> SysResult {
    let mask = match UserPtr::<MaskArgument>::new(sigmask).non_null() {
        Some(argument) => argument.read()?,
        None => MaskArgument { mask: 0, size: 0 },
    };
    let timeout_at = UserPtr::<Timespec>::new(timeout);
    let timeout = Timeout::read(timeout_at)?;
    let sets = [readfds, writefds, exceptfds];
    let result =
        with_mask(UserAddr(mask.mask), mask.size as usize, || select(nfds, sets, &timeout).and_then(or_interrupted));
    finish(result, &timeout, timeout_at)
}

fn select(nfds: i32, sets: [UserAddr; 3], timeout: &Timeout) -> SysResult {
    let nfds = usize::try_from(nfds).map_err(|_| Errno::EINVAL)?;
    let nfds = nfds.min(current().files.with(|table| table.capacity()));
    let words = nfds.div_ceil(64);
    type Bits = SmallVec<[u64; 16]>;
    let mut asked: [Bits; 3] = [SmallVec::new(), SmallVec::new(), SmallVec::new()];
    for (bits, &at) in asked.iter_mut().zip(&sets) {
        if words > bits.inline_size() {
            admit(8 * words)?;
            bits.try_reserve(words).map_err(|_| Errno::ENOMEM)?;
        }
        bits.resize(words, 0);
        if !at.is_null() && words != 0 {
            user::copy_from_user(bits.as_mut_slice().as_mut_bytes(), at)?;
        }
        if nfds % 64 != 0
            && let Some(last) = bits.last_mut()
        {
            *last &= (1 << (nfds % 64)) - 1;
        }
    }
    // (fd, which sets ask for it)
    let mut files: SmallVec<[(usize, [bool; 3], Arc<OpenFile>); 8]> = SmallVec::new();
    for word in 0..words {
        let sets = asked.each_ref().map(|set| set[word]);
        let mut any = sets[0] | sets[1] | sets[2];
        while any != 0 {
            let bit = any.trailing_zeros() as usize;
            any &= any - 1;
            let wants = sets.map(|set| set >> bit & 1 == 1);
            if files.len() == files.capacity() {
                admit(64 * files.len())?;
                files.try_reserve(files.len()).map_err(|_| Errno::ENOMEM)?;
            }
            files.push((word * 64 + bit, wants, file((word * 64 + bit) as i32)?));
        }
    }
    let mut found: [Bits; 3] = [SmallVec::new(), SmallVec::new(), SmallVec::new()];
    for bits in found.iter_mut().filter(|bits| words > bits.inline_size()) {
        admit(8 * words)?;
        bits.try_reserve(words).map_err(|_| Errno::ENOMEM)?;
    }
    let reason = WaitReason::on(WaitKind::Select, files.first().map_or(0, |(_, _, file)| file.id));
    let count = wait_for(timeout.deadline, timeout.is_zero, reason, |mut table: Option<&mut PollTable<'_>>| {
        for bits in &mut found {
            bits.clear();
            bits.resize(words, 0);
        }
        let mut count = 0;
        for (fd, wants, file) in &files {
            let table = table.as_deref_mut().filter(|_| count == 0);
            let holds = match table {
                Some(table) => {
                    let mut interest = PollEvents::empty();
                    for set in 0..3 {
                        if wants[set] {
                            interest |= SELECT_EVENTS[set].1;
                        }
                    }
                    table.set_interest(interest);
                    file.poll(Some(table))
                }
                None => file.poll(None),
            };
            for set in 0..3 {
                if wants[set] && holds.intersects(SELECT_EVENTS[set].1) {
                    found[set][fd / 64] |= 1 << (fd % 64);
                    count += 1;
                }
            }
        }
        (count != 0).then_some(count)
    })?;
    for (bits, &at) in found.iter().zip(&sets) {
        if !at.is_null() && words != 0 {
            user::copy_to_user(at, bits.as_slice().as_bytes())?;
        }
    }
    Ok(count.unwrap_or(0))
}
