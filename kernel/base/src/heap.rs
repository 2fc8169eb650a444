//! Allocation that can fail: boxes, counted references and collections whose growth returns [`NoMemory`].
//!
//! The heap itself may use the last free frames, a reserve for what must not fail: freeing, exits, wakes, the OOM killer. Whoever
//! can fail asks here first. [`admit`] refuses while memory is scarce, and where faults are injected; then the allocation is made,
//! which fails only when even the reserve is gone. A value that holds several blocks may be admitted once, for all of them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};
use spin::Once;

/// The heap has no memory for this now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl From<NoMemory> for crate::errno::Errno {
    fn from(_: NoMemory) -> Self {
        crate::errno::Errno::ENOMEM
    }
}

/// Bits of [`GATE`].
const SCARCE: u8 = 1;
const FAULTS: u8 = 2;

/// What [`admit`] has to look at; usually nothing.
static GATE: AtomicU8 = AtomicU8::new(0);

/// Larger requests ask the judge even when memory is not scarce.
const LARGE_BYTES: usize = 64 << 10;

/// Decides about requests of so many bytes; `faults` says that it may refuse for no reason.
pub type Judge = fn(bytes: usize, faults: bool) -> bool;

static JUDGE: Once<Judge> = Once::new();

fn set(bit: u8, on: bool) {
    if on {
        GATE.fetch_or(bit, Ordering::Relaxed);
    } else {
        GATE.fetch_and(!bit, Ordering::Relaxed);
    }
}

/// Memory has become scarce, or is no longer.
pub fn set_scarce(on: bool) {
    set(SCARCE, on);
}

/// Begins fault injection: the judge is asked each time.
pub fn set_faults(on: bool) {
    set(FAULTS, on);
}

/// Installs the judge, once; before that everything is admitted.
pub fn set_judge(judge: Judge) {
    JUDGE.call_once(|| judge);
}

/// Whether `bytes` may be allocated by somebody who can fail.
#[inline(always)]
pub fn admit(bytes: usize) -> Result<(), NoMemory> {
    if GATE.load(Ordering::Relaxed) == 0 && bytes <= LARGE_BYTES { Ok(()) } else { ask(bytes) }
}

#[cold]
#[inline(never)]
fn ask(bytes: usize) -> Result<(), NoMemory> {
    match JUDGE.get() {
        Some(judge) if !judge(bytes, GATE.load(Ordering::Relaxed) & FAULTS != 0) => Err(NoMemory),
        _ => Ok(()),
    }
}

/// [`Box::new`] that can fail.
#[inline]
pub fn try_box<T>(value: T) -> Result<Box<T>, NoMemory> {
    admit(size_of::<T>())?;
    Box::try_new(value).map_err(|_| NoMemory)
}

/// [`Arc::new`] that can fail.
#[inline]
pub fn try_arc<T>(value: T) -> Result<Arc<T>, NoMemory> {
    admit(size_of::<T>())?;
    Arc::try_new(value).map_err(|_| NoMemory)
}

/// A copy of `bytes`.
pub fn try_bytes(bytes: &[u8]) -> Result<Vec<u8>, NoMemory> {
    let mut copy = Vec::new();
    copy.try_append_slice(bytes)?;
    Ok(copy)
}

/// A copy of `text`.
pub fn try_string(text: &str) -> Result<String, NoMemory> {
    admit(text.len())?;
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| NoMemory)?;
    copy.push_str(text);
    Ok(copy)
}

/// Whether `text` has room for `bytes` more now: who makes a long text stops where it has not.
pub fn text_room(text: &mut String, bytes: usize) -> bool {
    text.capacity() - text.len() >= bytes
        || admit(2 * text.capacity() + bytes).is_ok() && text.try_reserve(bytes).is_ok()
}

/// Growth of collections that can fail; what was in them stays.
pub trait TryGrow {
    type Item;
    /// Room for `more` items beyond those present, with more room for later when the whole is small.
    fn try_room(&mut self, more: usize) -> Result<(), NoMemory>;
    /// Appends `item`.
    fn try_push(&mut self, item: Self::Item) -> Result<(), NoMemory>;
}

impl<T> TryGrow for Vec<T> {
    type Item = T;
    #[inline]
    fn try_room(&mut self, more: usize) -> Result<(), NoMemory> {
        if self.capacity() - self.len() >= more {
            return Ok(());
        }
        // As much as the vector may come to: it doubles.
        admit(self.capacity().saturating_mul(2).max(self.len().saturating_add(more)).saturating_mul(size_of::<T>()))?;
        self.try_reserve(more).map_err(|_| NoMemory)
    }
    #[inline]
    fn try_push(&mut self, item: T) -> Result<(), NoMemory> {
        if self.len() == self.capacity() {
            self.try_room(1)?;
        }
        self.push(item);
        Ok(())
    }
}

impl<T> TryGrow for VecDeque<T> {
    type Item = T;
    #[inline]
    fn try_room(&mut self, more: usize) -> Result<(), NoMemory> {
        if self.capacity() - self.len() >= more {
            return Ok(());
        }
        admit(self.capacity().saturating_mul(2).max(self.len().saturating_add(more)).saturating_mul(size_of::<T>()))?;
        self.try_reserve(more).map_err(|_| NoMemory)
    }
    #[inline]
    fn try_push(&mut self, item: T) -> Result<(), NoMemory> {
        if self.len() == self.capacity() {
            self.try_room(1)?;
        }
        self.push_back(item);
        Ok(())
    }
}

/// More for vectors.
pub trait TryVec<T>: Sized {
    /// An empty one with room for exactly `capacity` items.
    fn with_room(capacity: usize) -> Result<Self, NoMemory>;
    /// Appends copies of `items`.
    fn try_append_slice(&mut self, items: &[T]) -> Result<(), NoMemory>
    where
        T: Clone;
    /// Makes it `len` items long, new ones copies of `value`.
    fn try_resize(&mut self, len: usize, value: T) -> Result<(), NoMemory>
    where
        T: Clone;
    /// Everything `items` gives.
    fn try_collect(items: impl Iterator<Item = T>) -> Result<Self, NoMemory>;
}

impl<T> TryVec<T> for Vec<T> {
    fn with_room(capacity: usize) -> Result<Self, NoMemory> {
        admit(capacity.saturating_mul(size_of::<T>()))?;
        let mut new = Vec::new();
        new.try_reserve_exact(capacity).map_err(|_| NoMemory)?;
        Ok(new)
    }
    fn try_append_slice(&mut self, items: &[T]) -> Result<(), NoMemory>
    where
        T: Clone,
    {
        self.try_room(items.len())?;
        self.extend_from_slice(items);
        Ok(())
    }
    fn try_resize(&mut self, len: usize, value: T) -> Result<(), NoMemory>
    where
        T: Clone,
    {
        self.try_room(len.saturating_sub(self.len()))?;
        self.resize(len, value);
        Ok(())
    }
    fn try_collect(items: impl Iterator<Item = T>) -> Result<Self, NoMemory> {
        let mut new = Self::with_room(items.size_hint().0)?;
        for item in items {
            new.try_push(item)?;
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    std::thread_local! {
        /// How often the judge was asked on a thread that wants it to judge: other tests allocate meanwhile.
        static ASKED: Cell<Option<usize>> = const { Cell::new(None) };
    }

    #[test]
    fn a_judge_refuses_and_nothing_is_lost() {
        set_judge(|bytes, faults| match ASKED.get() {
            None => true,
            Some(times) => {
                ASKED.set(Some(times + 1));
                !faults && bytes < 1 << 20
            }
        });
        ASKED.set(Some(0));
        let mut list = vec![1, 2, 3];
        list.shrink_to_fit();
        assert_eq!(Vec::<u8>::with_room(1 << 21), Err(NoMemory));
        assert_eq!(ASKED.get(), Some(1));
        set_faults(true);
        assert_eq!(list.try_push(4), Err(NoMemory));
        assert!(try_box(5).is_err() && try_arc(6).is_err() && try_string("seven").is_err());
        assert_eq!(list, [1, 2, 3]);
        set_faults(false);
        assert_eq!(list.try_push(4), Ok(()));
        assert_eq!(Vec::try_collect(list.iter().map(|n| n * 2)), Ok(vec![2, 4, 6, 8]));
    }
}
