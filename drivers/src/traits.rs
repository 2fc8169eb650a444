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

/// Bytes of the sectors that all block devices are addressed in, whatever their own blocks are.
pub const SECTOR_BYTES: u32 = 512;

/// What a disk is and can do. All limits are the device's own; each is at least 1 where the operation exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockInfo {
    /// Size now, in sectors of 512 bytes: it may change ([`BlockEvents::config`]).
    pub nr_sectors: u64,
    /// The unit of reading and writing, and the one that a write cannot tear; both in bytes, at least 512.
    pub logical_bytes: u32,
    pub physical_bytes: u32,
    /// What the device likes to be read and written in (0: it does not say), in bytes.
    pub io_min_bytes: u32,
    pub io_opt_bytes: u32,
    pub is_read_only: bool,
    /// What was written may be lost with the power until [`BlockOp::Flush`].
    pub has_write_cache: bool,
    /// [`BlockOp::Write`] takes `fua`.
    pub has_fua: bool,
    /// The longest discard and write-zeroes, in sectors; 0: it cannot.
    pub max_discard_sectors: u32,
    pub max_zeroes_sectors: u32,
    /// Discarding works in units of so many sectors.
    pub discard_align_sectors: u32,
    /// Segments of a request, and bytes of each.
    pub max_segments: u16,
    pub max_segment_bytes: u32,
    pub nr_queues: u16,
    /// Tags of each queue: 0 to `depth - 1`, at most 64.
    pub depth: u16,
}

/// What a disk is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockOp {
    Read,
    /// `fua`: done means that it survives the power, where the device can ([`BlockInfo::has_fua`]).
    Write {
        fua: bool,
    },
    /// What was done before survives the power.
    Flush,
    /// The content of the sectors does not matter any more.
    Discard,
    /// The sectors shall read as zeroes; `may_unmap`: their room may be given back.
    WriteZeroes {
        may_unmap: bool,
    },
    /// The device's serial number, up to 20 bytes, into one segment of 20.
    Identify,
}

/// Memory of a request, as the device addresses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub phys: u64,
    pub len_bytes: u32,
}

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockError {
    /// The device says that it failed.
    Io,
    /// The device cannot do this.
    Unsupported,
    /// The device is there no more, or was given up because it broke the rules.
    Gone,
}

/// Why an interrupt came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockEvents {
    /// Requests may be done: take them.
    pub queue: bool,
    /// Size or another property changed: read [`BlockDevice::info`] again.
    pub config: bool,
}

/// A disk. Methods lock inside (each queue its own lock, interrupt-safe) and may be called on any CPU, with interrupts masked or
/// not; none sleeps. The caller keeps a request's memory in place until [`BlockDevice::complete`] has named its tag.
pub trait BlockDevice: Send + Sync {
    fn info(&self) -> BlockInfo;
    /// Puts request `tag`, which must not be in the queue already, into `queue`; the device hears of it by `commit`.
    /// `nr_sectors` is the length for operations without segments; the others' is that of their segments.
    ///
    /// # Errors
    /// The request was not taken, nothing will be heard of it: [`BlockError::Unsupported`] when the device cannot do it (or it
    /// is beyond the limits of [`BlockInfo`]), [`BlockError::Gone`].
    fn submit(
        &self,
        queue: usize,
        tag: u16,
        op: BlockOp,
        sector: u64,
        nr_sectors: u32,
        segments: &[Segment],
    ) -> Result<(), BlockError>;
    /// Tells the device of what was submitted.
    fn commit(&self, queue: usize);
    /// Names the requests of `queue` that are done; of a device that is gone, all of them.
    fn complete(&self, queue: usize, done: &mut dyn FnMut(u16, Result<(), BlockError>));
    /// Clears what raised the interrupt and says what it was; called in the handler.
    fn acknowledge(&self) -> BlockEvents;
    /// Asks for an interrupt at the next finished request of `queue`; true: some are already, complete them.
    fn enable_interrupt(&self, queue: usize) -> bool;
    /// Gives the device up: it touches no memory any more, and all of its requests are [`BlockError::Gone`] from now on.
    fn shut(&self);
    /// Whether it was given up.
    fn is_gone(&self) -> bool;
}

/// What ends or restarts the machine where there is no PSCI. The methods may return: it takes effect a little later, if at all.
pub trait PowerControl: Sync {
    fn off(&self);
    fn reset(&self);
}
