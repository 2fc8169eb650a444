//! Readiness: what poll, select, epoll, SIGIO and blocking calls share.
//!
//! An object keeps a [`PollSet`] and calls `notify(events)` after each change, having dropped its own lock. Pollers are all
//! woken; blocking readers and writers wait in `WaitQueue`s of their own and are woken one by one.

use crate::prelude::*;

bitflags! {
    /// poll(2) events (epoll's have the same low values).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PollEvents: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const NVAL = 0x20;
        const RDNORM = 0x40;
        const RDBAND = 0x80;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const MSG = 0x400;
        const RDHUP = 0x2000;
    }
}

/// Who wants to hear of an object's readiness: threads in poll/select, epoll items, the O_ASYNC owner.
pub struct PollSet {}

impl PollSet {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self {}
    }
    /// Tells everyone registered that `events` may now hold. Callable in IRQ context. Cheap when nobody listens.
    pub fn notify(&self, _events: PollEvents) {
        todo!()
    }
}

/// A poller's registration list: `FileOps::poll` calls `table.register(&self.poll_set)`; dropping it deregisters.
pub struct PollTable<'a> {
    _lifetime: core::marker::PhantomData<&'a ()>,
}

impl PollTable<'_> {
    pub fn register(&mut self, _set: &PollSet) {
        todo!()
    }
}
