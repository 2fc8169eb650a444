//! One CPU's timers in the order of their deadlines, and the one deadline that its hardware is set to.

use alloc::collections::BTreeMap;

/// Names a timer of one queue: its deadline in ns and a number that no other timer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    pub deadline: u64,
    pub id: u64,
}

/// Timers with what they do (`A`), and the scheduler's slice, which has a place of its own because it changes all the time.
pub struct TimerQueue<A> {
    timers: BTreeMap<(u64, u64), A>,
    slice: Option<u64>,
    /// What the hardware is set to.
    armed: Option<u64>,
}

impl<A> TimerQueue<A> {
    pub const fn new() -> Self {
        Self { timers: BTreeMap::new(), slice: None, armed: None }
    }
    #[inline]
    pub fn insert(&mut self, key: Key, action: A) {
        self.timers.insert((key.deadline, key.id), action);
    }
    /// Takes a timer out; `None` when it has fired.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<A> {
        self.timers.remove(&(key.deadline, key.id))
    }
    /// Sets or clears the slice's deadline; returns whether that changed it.
    #[inline]
    pub fn set_slice(&mut self, deadline: Option<u64>) -> bool {
        let is_new = self.slice != deadline;
        self.slice = deadline;
        is_new
    }
    /// What the hardware is to be set to, where that is not what it is set to: the earliest of all deadlines, or none.
    #[inline]
    pub fn reprogram(&mut self) -> Option<Option<u64>> {
        let first = self.timers.first_key_value().map(|((deadline, _), _)| *deadline);
        let wanted = match (first, self.slice) {
            (Some(timer), Some(slice)) => Some(timer.min(slice)),
            (timer, slice) => timer.or(slice),
        };
        if wanted == self.armed {
            return None;
        }
        self.armed = wanted;
        Some(wanted)
    }
    /// The interrupt came: the hardware is set to nothing any more.
    #[inline]
    pub fn fired(&mut self) {
        self.armed = None;
    }
    /// Takes out the first timer that is due at `now`: its number and what it does.
    #[inline]
    pub fn take_due(&mut self, now: u64) -> Option<(u64, A)> {
        let entry = self.timers.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let id = entry.key().1;
        Some((id, entry.remove()))
    }
    /// Whether the slice is over at `now`, once.
    #[inline]
    pub fn take_slice(&mut self, now: u64) -> bool {
        self.slice.take_if(|slice| *slice <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(deadline: u64, id: u64) -> Key {
        Key { deadline, id }
    }

    #[test]
    fn due_ones_come_in_the_order_of_deadline_then_age() {
        let mut queue = TimerQueue::new();
        for (deadline, id) in [(30, 1), (10, 2), (20, 3), (10, 4), (31, 5)] {
            queue.insert(key(deadline, id), id);
        }
        let due: Vec<u64> = core::iter::from_fn(|| queue.take_due(30)).map(|(id, _)| id).collect();
        assert_eq!(due, [2, 4, 3, 1]);
        assert_eq!(queue.remove(key(10, 2)), None);
        assert_eq!(queue.remove(key(31, 5)), Some(5));
    }

    #[test]
    fn the_hardware_is_set_only_when_the_earliest_changes() {
        let mut queue = TimerQueue::new();
        assert_eq!(queue.reprogram(), None);
        queue.insert(key(50, 1), ());
        assert_eq!(queue.reprogram(), Some(Some(50)));
        queue.insert(key(60, 2), ());
        assert_eq!(queue.reprogram(), None);
        assert!(queue.set_slice(Some(40)));
        assert!(!queue.set_slice(Some(40)));
        assert_eq!(queue.reprogram(), Some(Some(40)));
        assert!(queue.set_slice(None));
        assert_eq!(queue.reprogram(), Some(Some(50)));
        queue.remove(key(50, 1));
        assert_eq!(queue.reprogram(), Some(Some(60)));
        // After an interrupt it is set again though the deadline is the same.
        queue.fired();
        assert_eq!(queue.reprogram(), Some(Some(60)));
        queue.remove(key(60, 2));
        assert_eq!(queue.reprogram(), Some(None));
    }

    #[test]
    fn the_slice_ends_once() {
        let mut queue = TimerQueue::<()>::new();
        queue.set_slice(Some(10));
        assert!(!queue.take_slice(9));
        assert!(queue.take_slice(10));
        assert!(!queue.take_slice(11));
    }

    proptest! {
        /// The hardware is never set later than the earliest timer, and nothing fires before its time.
        #[test]
        fn nothing_is_late(steps in proptest::collection::vec((0u8..4, 0u64..64), 1..200)) {
            let mut queue = TimerQueue::new();
            let (mut now, mut hardware, mut id) = (0, None, 0);
            let mut armed = BTreeMap::new();
            for (step, value) in steps {
                match step {
                    0 | 1 => {
                        id += 1;
                        queue.insert(key(now + value, id), now + value);
                        armed.insert(id, now + value);
                    }
                    2 => {
                        if let Some((&id, &deadline)) = armed.iter().nth(value as usize % armed.len().max(1)) {
                            prop_assert_eq!(queue.remove(key(deadline, id)), Some(deadline));
                            armed.remove(&id);
                        }
                    }
                    _ => now += value,
                }
                if hardware.is_some_and(|deadline| deadline <= now) {
                    queue.fired();
                    while let Some((id, deadline)) = queue.take_due(now) {
                        prop_assert!(deadline <= now);
                        prop_assert_eq!(armed.remove(&id), Some(deadline));
                    }
                    hardware = None;
                }
                if let Some(set) = queue.reprogram() {
                    hardware = set;
                }
                prop_assert_eq!(hardware, armed.values().min().copied());
            }
        }
    }
}
