//! Entry from the boot loader and what it told us.
//!
//! `asm/boot.S` brings the CPU to EL1 with coarse boot tables; [`rust_primary`] reads the device tree ([`tree`]), builds
//! the final kernel map ([`crate::kmap`]), starts frames and heap, and enters the kernel proper.

pub mod raspberry_pi;
pub mod tree;

use crate::kmap;
use crate::layout::linear;
use crate::mmio::MapError;
use base::addr::{PAGE_SIZE, PhysAddr, page_up};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use drivers::mmio::Mmio;
use drivers::polled::Polled;
use spin::Once;
use tree::PortKind;

core::arch::global_asm!(include_str!("../asm/boot.S"), options(raw));
core::arch::global_asm!(include_str!("../asm/copy.S"), options(raw));

unsafe extern "C" {
    static __kernel_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static _end: u8;
    static __ksyms_start: u8;
    static __ksyms_end: u8;
}

unsafe extern "Rust" {
    /// The kernel proper.
    fn kernel_main() -> !;
}

/// Room that the image tool fills with the symbol table (see the kernel's debug module).
#[unsafe(link_section = ".ksyms")]
#[used]
static KSYMS: [u8; 108 * 1024] = [0; 108 * 1024];

/// What the boot loader handed over, read from the device tree (or board tables) before the kernel proper starts.
pub struct BootInfo {
    /// The device tree, validated; empty when there is none.
    pub dtb: &'static [u8],
    /// `/chosen/bootargs`.
    pub cmdline: &'static str,
    /// The initial RAM file system's physical range, if any. Its frames are handed out by [`take_initrd`].
    pub initrd: Option<Range<u64>>,
    /// `/chosen/rng-seed`.
    pub rng_seed: &'static [u8],
    /// Usable RAM in bytes.
    pub memory_bytes: u64,
    pub nr_cpus: usize,
    /// CNTVCT at kernel entry.
    pub entry_ticks: u64,
    /// The first register of the console's serial port.
    pub console: Option<u64>,
}

static INFO: Once<BootInfo> = Once::new();
static IMAGE_PHYS: AtomicU64 = AtomicU64::new(0);

/// Panics before the device tree was read.
pub fn info() -> &'static BootInfo {
    match INFO.get() {
        Some(info) => info,
        None => panic!("boot information is not there yet"),
    }
}

fn symbol(symbol: &'static u8) -> u64 {
    core::ptr::from_ref(symbol) as u64
}

/// Sections of the image as virtual addresses: start, end of text, end of read-only data, end.
pub(crate) fn image_layout() -> (u64, u64, u64, u64) {
    // SAFETY: only the addresses of linker symbols are taken.
    unsafe { (symbol(&__kernel_start), symbol(&__text_end), symbol(&__rodata_end), symbol(&_end)) }
}

/// Physical address of an address inside the kernel image.
pub(crate) fn image_to_phys(va: u64) -> u64 {
    va - crate::layout::KIMAGE_VA + IMAGE_PHYS.load(Ordering::Relaxed)
}

/// The symbol table that the image tool patched in; zeroes when it did not.
pub fn kernel_symbols() -> &'static [u8] {
    // SAFETY: the section holds exactly KSYMS, read-only and mapped for ever.
    unsafe {
        let start = &raw const __ksyms_start;
        core::slice::from_raw_parts(start, (&raw const __ksyms_end).offset_from_unsigned(start))
    }
}

/// The address the symbol table's offsets count from, and the end of the text.
pub fn kernel_text() -> Range<u64> {
    let (start, text_end, _, _) = image_layout();
    start..text_end
}

/// First Rust code on the boot CPU: on the boot stack, coarse tables, IRQs masked.
///
/// # Safety
/// Called once, by boot.S, with the device tree's physical address and that of the image's 2 MiB block.
#[unsafe(no_mangle)]
unsafe extern "C" fn rust_primary(dtb: u64, image_phys: u64, entry_ticks: u64) -> ! {
    IMAGE_PHYS.store(image_phys, Ordering::Relaxed);
    crate::time::init();
    let plan = tree::read(dtb, image_phys);
    kmap::build(&plan);
    crate::heap::init_bootstrap(plan.carve(crate::heap::bootstrap_bytes(plan.memory_bytes)));
    crate::frame::init(&plan);
    // The window of device registers takes its tables from the frame allocator.
    tree::publish_memory(&plan);
    init_console(&plan);
    raspberry_pi::start();
    tree::publish_cpus(&plan);
    crate::cpu::come_online(0);
    crate::trap::init_cpu();
    INFO.call_once(|| BootInfo {
        dtb: plan.dtb,
        cmdline: plan.cmdline,
        initrd: plan.initrd.clone(),
        rng_seed: plan.rng_seed,
        memory_bytes: plan.memory_bytes,
        nr_cpus: plan.nr_cpus,
        entry_ticks,
        console: plan.console.map(|(address, _)| address),
    });
    assert!(!plan.damaged, "the device tree is damaged: this machine's memory and devices are unknown");
    // SAFETY: defined by the kernel proper with this signature.
    unsafe { kernel_main() }
}

/// Bytes of a PL011 that are reached.
const PL011_BYTES: usize = 0x48;

/// The polled console, and the log's port, which no driver gets.
fn init_console(plan: &tree::Plan) {
    type Map = fn(PhysAddr, usize) -> Result<Mmio, MapError>;
    let port = |serial: Option<(u64, PortKind)>, map: Map, is_set_up: bool| {
        let (address, kind) = serial?;
        Some(match kind {
            PortKind::Pl011 => {
                let registers = map(PhysAddr(address), PL011_BYTES).ok()?;
                if is_set_up { Polled::pl011(&registers) } else { Polled::new_pl011(&registers) }
            }
            PortKind::Ns16550(layout) => Polled::ns16550(map(PhysAddr(address), layout.len()).ok()?, layout),
        })
    };
    let console = port(plan.console, crate::mmio::map_console, true);
    let log = port(plan.log, crate::mmio::map, false).or_else(|| {
        let aux = crate::mmio::map(PhysAddr(plan.mini_uart_log?), PAGE_SIZE).ok()?;
        Some(Polled::mini_uart(&aux))
    });
    crate::early::init(console, log);
}

/// The initramfs as an owned run of frames: read it front to back; frames wholly behind `release_before` go back to the
/// allocator, so that unpacking never doubles memory.
pub struct Initrd {
    start: u64,
    len: usize,
    /// Bytes already released, from the first whole frame on.
    released: usize,
}

impl Initrd {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes at `offset..offset + len`; panics when they were released or lie beyond the end.
    pub fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset >= self.released && offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: RAM of the initrd, in the linear map, given to nobody until `release_before`, which needs `&mut self`.
        unsafe { core::slice::from_raw_parts(linear(PhysAddr(self.start + offset as u64)), len) }
    }
    /// Gives back all whole frames below `offset`.
    pub fn release_before(&mut self, offset: usize) {
        let offset = offset.min(self.len);
        let first = self.start + self.released as u64;
        let end = (self.start + offset as u64) & !(PAGE_SIZE as u64 - 1);
        let Some(first) = page_up(first) else { return };
        if end > first {
            crate::frame::add_range(first..end);
        }
        self.released = self.released.max(offset);
    }
}

impl Drop for Initrd {
    fn drop(&mut self) {
        self.release_before(self.len);
    }
}

/// As [`info`], before or after boot.
pub fn try_info() -> Option<&'static BootInfo> {
    INFO.get()
}

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The initramfs, once.
pub fn take_initrd() -> Option<Initrd> {
    let range = info().initrd.clone()?;
    (!TAKEN.swap(true, Ordering::AcqRel)).then(|| Initrd {
        start: range.start,
        len: (range.end - range.start) as usize,
        released: 0,
    })
}
