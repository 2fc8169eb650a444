//! The control queue (virtio 1.2, 5.1.6.5), of which only the number of queue pairs is used.

use crate::dma::{Dma, DmaSource};
use crate::virtio::queue::Queue;
use crate::virtio::{Bus, Error};

const CLASS_MQ: u8 = 4;
const VQ_PAIRS_SET: u8 = 0;
const OK: u8 = 0;
const UNANSWERED: u8 = 0xff;
const QUESTION_BYTES: usize = 4;
/// How often the used ring is looked at before the device is taken for dumb.
const PATIENCE: u32 = 2_000_000;

pub struct Control {
    index: u16,
    queue: Queue,
    memory: Dma,
}

impl Control {
    pub fn new(bus: &dyn Bus, index: u16, event_idx: bool, source: DmaSource) -> Result<Self, Error> {
        let mut queue = Queue::new(bus, index, 2, event_idx, source)?;
        if queue.size() < 2 {
            return Err(Error::NoQueue);
        }
        queue.disable_interrupt();
        let memory = source(QUESTION_BYTES + 1).ok_or(Error::NoMemory)?;
        Ok(Self { index, queue, memory })
    }

    /// Has the device, which has started, use so many pairs of queues: whether it does.
    pub fn set_pairs(&mut self, bus: &dyn Bus, pairs: u16) -> bool {
        let [low, high] = pairs.to_le_bytes();
        self.memory.write(0, &[CLASS_MQ, VQ_PAIRS_SET, low, high, UNANSWERED]);
        let (question, answer) = (self.memory.phys(0), self.memory.phys(QUESTION_BYTES));
        self.queue.post_question((question, QUESTION_BYTES as u32), (answer, 1));
        if self.queue.publish() {
            bus.notify(self.index);
        }
        for _ in 0..PATIENCE {
            if self.queue.take().is_some() {
                let mut answer = [UNANSWERED];
                self.memory.read(QUESTION_BYTES, &mut answer);
                return answer == [OK];
            }
            if self.queue.is_broken() {
                break;
            }
            core::hint::spin_loop();
        }
        false
    }
}
