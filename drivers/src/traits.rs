//! What `kernel/core` knows of a device.

use alloc::vec::Vec;

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

/// What a network device computes for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Completes TCP and UDP checksums of sent frames ([`TxMeta::checksum`]).
    pub tx_checksum: bool,
    /// Says of received frames whether their checksum is known to be good ([`RxMeta::checksum_good`]).
    pub rx_checksum: bool,
    /// Cuts large TCP segments over IPv4 and IPv6 into ones that fit the wire ([`TxMeta::segmentation`]).
    pub tso_v4: bool,
    pub tso_v6: bool,
}

/// The checksum a device is to complete: the sum over the frame from `start` to its end goes into the 16 bits at
/// `start + offset`, which hold the pseudo-header's sum (folded, not complemented).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialChecksum {
    /// Bytes from the frame's first byte (the Ethernet header's).
    pub start: u16,
    /// Bytes from `start`.
    pub offset: u16,
}

/// A frame that is longer than the wire's: its TCP payload is cut into pieces of `mss_bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segmentation {
    pub is_ipv6: bool,
    pub mss_bytes: u16,
    /// Ethernet, IP and TCP headers together, repeated in front of each piece.
    pub header_bytes: u16,
}

/// What goes with a frame to be sent. Segmentation needs a partial checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxMeta {
    pub checksum: Option<PartialChecksum>,
    pub segmentation: Option<Segmentation>,
}

/// What is known of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxMeta {
    /// The TCP or UDP checksum needs no look: the device verified it, or the frame never was on a wire and its checksum
    /// field may not even be filled in.
    pub checksum_good: bool,
    /// TCP payload bytes of each of the wire's segments that the device joined into this frame; 0 for an ordinary frame.
    pub joined_mss_bytes: u16,
}

/// Why an interrupt came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetEvents {
    /// Frames were received or sent: run the bottom half.
    pub queue: bool,
    /// The link or another property changed: read them again.
    pub config: bool,
}

/// Counters of a device since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetStats {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub rx_errors: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
    pub tx_errors: u64,
}

/// No room in the device's transmit queue: the frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A network interface card. Methods lock inside (receive and transmit each their own lock, both interrupt-safe) and may be
/// called on any CPU, with interrupts masked or not; none sleeps.
pub trait NetDevice: Send + Sync {
    /// The hardware address.
    fn mac(&self) -> [u8; 6];
    /// The largest IP packet, in bytes (Ethernet's header comes on top).
    fn mtu(&self) -> u16;
    /// Whether a cable is in.
    fn link_is_up(&self) -> bool;
    fn offloads(&self) -> Offloads;
    /// Sends one Ethernet frame, given in pieces that are copied before this returns. A frame the device cannot carry (too
    /// long, malformed `meta`) is dropped and counted.
    ///
    /// # Errors
    /// [`Full`]: try again when an interrupt (`NetEvents::queue`) says frames were sent, which the device then will do.
    fn transmit(&self, parts: &[&[u8]], meta: TxMeta) -> Result<(), Full>;
    /// Gives up to `budget` received frames to `frame`, in order; answers how many. The call must not call `receive` of the same
    /// device again; it may transmit.
    fn receive(&self, budget: usize, frame: &mut dyn FnMut(Vec<u8>, RxMeta)) -> usize;
    /// Asks for an interrupt at the next received frame; true: some have arrived meanwhile, receive again.
    fn enable_interrupt(&self) -> bool;
    /// Suppresses interrupts for received frames.
    fn disable_interrupt(&self);
    /// Clears what raised the interrupt and says what it was; called in the handler.
    fn acknowledge(&self) -> NetEvents;
    fn stats(&self) -> NetStats;
}

/// What ends or restarts the machine where there is no PSCI. The methods may return: it takes effect a little later, if at all.
pub trait PowerControl: Sync {
    fn off(&self);
    fn reset(&self);
}
