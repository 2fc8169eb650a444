//! What `kernel/core` knows of a device.

/// A CPU-visible interrupt number (GIC INTID; on BCM283x our own flat numbering).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Irq(pub u32);

/// How an interrupt line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Level,
    Edge,
}

/// Inter-processor interrupts the kernel uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ipi {
    Reschedule = 0,
    Stop = 1,
    Call = 2,
}

/// What an acknowledged interrupt was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    Device(Irq),
    Ipi(Ipi),
    Spurious,
}

/// An interrupt controller. All methods may be called on any CPU with interrupts masked.
pub trait InterruptController: Send + Sync {
    /// Prepares the calling CPU's own interface; called once on every CPU.
    fn init_cpu(&self);
    /// Enables `irq`, routed to the calling CPU (shared lines) or private to it.
    fn enable(&self, irq: Irq, trigger: Trigger);
    fn disable(&self, irq: Irq);
    /// Takes the highest pending interrupt and calls `handle` with it, then ends it; until none is pending.
    fn dispatch(&self, handle: &mut dyn FnMut(Pending));
    /// Raises `ipi` on the CPU with this logical number.
    fn send_ipi(&self, cpu: usize, ipi: Ipi);
    /// Maps a device-tree interrupt specifier (its cells) to a number.
    fn translate(&self, cells: &[u32]) -> Option<(Irq, Trigger)>;
}

/// A serial port. Methods are called under the console's interrupt-safe lock.
pub trait Uart: Send {
    /// Sends as much of `bytes` as fits now; returns how many bytes were taken.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Takes received bytes into `buf`; returns how many.
    fn read(&mut self, buf: &mut [u8]) -> usize;
    /// Whether to interrupt when the transmit buffer has room.
    fn set_tx_interrupt(&mut self, on: bool);
    /// Whether to interrupt when bytes were received; off leaves them in the device (flow control).
    fn set_rx_interrupt(&mut self, on: bool);
    /// Clears what raised the interrupt.
    fn acknowledge(&mut self);
}

/// A real-time clock.
pub trait Rtc: Send + Sync {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn seconds(&self) -> u64;
    /// Sets the clock, where the device can.
    fn set_seconds(&self, seconds: u64);
}

/// A source of true random bytes.
pub trait Entropy: Send + Sync {
    /// Fills a prefix of `buf`; returns how many bytes it had.
    fn fill(&self, buf: &mut [u8]) -> usize;
}
