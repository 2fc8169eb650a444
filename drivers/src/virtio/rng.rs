//! The entropy device (virtio 1.2, 5.4): one queue, one buffer, filled by the host.

use super::queue::Queue;
use super::{Bus, Error, negotiate};
use crate::dma::{Dma, DmaSource};
use crate::lock::IrqLock;
use crate::traits::Entropy;
use alloc::boxed::Box;

/// Bytes asked for at a time.
const BYTES: usize = 64;
/// How often the used ring is looked at before the device is given up for this time.
const PATIENCE: u32 = 2_000_000;

pub struct Rng {
    bus: Box<dyn Bus>,
    inner: IrqLock<Inner>,
}

struct Inner {
    queue: Queue,
    buffer: Dma,
    /// The buffer is the device's.
    is_lent: bool,
}

impl Rng {
    pub fn new(bus: Box<dyn Bus>, source: DmaSource) -> Result<Self, Error> {
        negotiate(&*bus, |_| 0)?;
        let mut queue = Queue::new(&*bus, 0, 1, false, source)?;
        queue.disable_interrupt();
        let buffer = source(BYTES).ok_or(Error::NoMemory)?;
        bus.start();
        Ok(Self { bus, inner: IrqLock::new(Inner { queue, buffer, is_lent: false }) })
    }
}

impl Entropy for Rng {
    /// Asks the host and waits a little; what came too late is there at the next call.
    fn fill(&self, buf: &mut [u8]) -> usize {
        let mut inner = self.inner.lock();
        if !inner.is_lent {
            let phys = inner.buffer.phys(0);
            inner.queue.post(0, phys, BYTES as u32, true);
            inner.is_lent = true;
            if inner.queue.publish() {
                self.bus.notify(0);
            }
        }
        for _ in 0..PATIENCE {
            if let Some((_, written)) = inner.queue.take() {
                inner.is_lent = false;
                let count = (written as usize).min(buf.len()).min(BYTES);
                inner.buffer.read(0, &mut buf[..count]);
                return count;
            }
            if inner.queue.is_broken() {
                break;
            }
            core::hint::spin_loop();
        }
        0
    }
}
