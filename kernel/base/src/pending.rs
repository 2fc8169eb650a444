//! Signals sent and not yet taken: which are merged, and which goes first (signal(7)).

use alloc::collections::VecDeque;

/// The first signal that is queued rather than merged.
pub const FIRST_QUEUED: u32 = 32;

/// The bit of a signal (1 to 64) in a set.
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Raised by the program's own instructions, taken before all others: SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS.
const SYNCHRONOUS: u64 = bit(11) | bit(7) | bit(4) | bit(5) | bit(8) | bit(31);

/// What a signal says; the queue only asks which it is.
pub trait Information {
    /// 1 to 64.
    fn signal(&self) -> u32;
}

/// Signals in the order they came, with what each says (`I`) and the place in its user's queue that it takes (`P`).
pub struct Pending<I, P> {
    /// The signals of which at least one is pending.
    set: u64,
    queue: VecDeque<(I, P)>,
}

impl<I, P> Default for Pending<I, P> {
    fn default() -> Self {
        Self { set: 0, queue: VecDeque::new() }
    }
}

impl<I: Information, P> Pending<I, P> {
    pub fn set(&self) -> u64 {
        self.set
    }
    /// Adds a signal. A standard one that is pending already is not queued again, unless `always`: a POSIX timer's, of which
    /// each has at most one on its way. One without a place is pending without what it says.
    pub fn push(&mut self, info: I, place: Option<P>, always: bool) {
        let signal = info.signal();
        let is_merged = signal < FIRST_QUEUED && !always && self.set & bit(signal) != 0;
        self.set |= bit(signal);
        if let Some(place) = place.filter(|_| !is_merged) {
            self.queue.push_back((info, place));
        }
    }
    /// Takes the signal of `wanted` that goes first: synchronous ones, then by number, then by age; `bare` makes what one says that
    /// had no place.
    pub fn take(&mut self, wanted: u64, bare: impl FnOnce(u32) -> I) -> Option<I> {
        let ready = self.set & wanted;
        if ready == 0 {
            return None;
        }
        if self.queue.len() == 1 && self.set.is_power_of_two() {
            // As nearly always: it is the one.
            self.set = 0;
            return self.queue.pop_front().map(|(info, _)| info);
        }
        let first = if ready & SYNCHRONOUS != 0 { ready & SYNCHRONOUS } else { ready };
        let signal = first.trailing_zeros() + 1;
        let is_it = |(info, _): &(I, P)| info.signal() == signal;
        let at = self.queue.iter().position(is_it);
        let found = at.and_then(|at| self.queue.remove(at));
        if !self.queue.iter().any(is_it) {
            self.set &= !bit(signal);
        }
        Some(found.map_or_else(|| bare(signal), |(info, _)| info))
    }
    /// Forgets the signals of `set`.
    pub fn discard(&mut self, set: u64) {
        if self.set & set != 0 {
            self.set &= !set;
            self.queue.retain(|(info, _)| bit(info.signal()) & set == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;

    /// A signal and a value that tells one from another.
    type Info = (u32, u32);

    impl Information for Info {
        fn signal(&self) -> u32 {
            self.0
        }
    }

    fn pending(signals: &[Info]) -> Pending<Info, ()> {
        let mut pending = Pending::default();
        signals.iter().for_each(|info| pending.push(*info, Some(()), false));
        pending
    }

    fn take(pending: &mut Pending<Info, ()>, wanted: u64) -> Option<Info> {
        pending.take(wanted, |signal| (signal, 0))
    }

    #[test]
    fn standard_signals_are_merged_and_the_first_says_what_it_is() {
        let mut pending = pending(&[(10, 1), (10, 2)]);
        assert_eq!((take(&mut pending, !0), take(&mut pending, !0)), (Some((10, 1)), None));
    }

    #[test]
    fn real_time_signals_are_queued_in_order() {
        let mut pending = pending(&[(40, 1), (35, 2), (40, 3)]);
        assert_eq!(take(&mut pending, !0), Some((35, 2)));
        assert_eq!(take(&mut pending, !0), Some((40, 1)));
        assert_eq!(pending.set(), bit(40));
        assert_eq!((take(&mut pending, !0), pending.set()), (Some((40, 3)), 0));
    }

    #[test]
    fn synchronous_ones_go_first_then_the_lowest_number() {
        let mut pending = pending(&[(64, 0), (2, 0), (1, 0), (31, 0), (11, 0)]);
        let order: Vec<u32> = core::iter::from_fn(|| take(&mut pending, !0)).map(|(signal, _)| signal).collect();
        assert_eq!(order, [11, 31, 1, 2, 64]);
    }

    #[test]
    fn only_what_is_wanted() {
        let mut pending = pending(&[(9, 0)]);
        assert_eq!(take(&mut pending, !bit(9)), None);
        pending.push((12, 0), Some(()), false);
        assert_eq!(take(&mut pending, bit(12)), Some((12, 0)));
        assert_eq!(pending.set(), bit(9));
    }

    #[test]
    fn what_had_no_place_is_pending_all_the_same() {
        let mut pending = Pending::<Info, ()>::default();
        pending.push((40, 5), None, false);
        pending.push((41, 6), Some(()), false);
        assert_eq!((take(&mut pending, !0), take(&mut pending, !0)), (Some((40, 0)), Some((41, 6))));
        // With another of the same number queued, that one's word is the only one.
        pending.push((40, 7), Some(()), false);
        pending.push((40, 8), None, false);
        assert_eq!((take(&mut pending, !0), take(&mut pending, !0)), (Some((40, 7)), None));
    }

    #[test]
    fn each_timer_is_queued_beside_what_is_pending() {
        let mut pending = pending(&[(14, 1)]);
        pending.push((14, 2), Some(()), true);
        pending.push((14, 3), Some(()), false);
        assert_eq!([0; 3].map(|_| take(&mut pending, !0)), [Some((14, 1)), Some((14, 2)), None]);
    }

    #[test]
    fn places_are_given_back_with_their_signals() {
        let place = Rc::new(());
        let mut pending = Pending::<Info, Rc<()>>::default();
        for signal in [10, 10, 40, 40, 50] {
            pending.push((signal, 0), Some(place.clone()), false);
        }
        assert_eq!(Rc::strong_count(&place), 5); // the merged one's went at once
        pending.discard(bit(40) | bit(3));
        assert_eq!((pending.set(), Rc::strong_count(&place)), (bit(10) | bit(50), 3));
        let mut taken = || pending.take(!0, |signal| (signal, 9)).map(|(signal, _)| signal);
        assert_eq!((taken(), taken(), taken()), (Some(10), Some(50), None));
        assert_eq!(Rc::strong_count(&place), 1);
    }
}
