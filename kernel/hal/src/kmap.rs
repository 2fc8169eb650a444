//! The kernel's own translation tables (TTBR1): built once at boot, extended for device registers and kernel stacks.

use crate::OutOfMemory;
use crate::boot::{image_layout, image_to_phys, tree::Plan};
use crate::layout::{KIMAGE_VA, LINEAR_BASE, MMIO_BASE, linear};
use base::addr::{PAGE_SIZE, PhysAddr};
use base::page_table::{ADDRESS, AF, INNER, PXN, READ_ONLY, TABLE, UXN, VALID};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;

/// AttrIndx 1: MAIR_EL1's Device-nGnRE (boot.S).
const DEVICE: u64 = 1 << 2;

/// How the kernel maps something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    ReadOnly,
    Data,
    Device,
}

impl Kind {
    fn bits(self) -> u64 {
        VALID
            | AF
            | match self {
                Kind::Text => INNER | READ_ONLY | UXN,
                Kind::ReadOnly => INNER | READ_ONLY | UXN | PXN,
                Kind::Data => INNER | UXN | PXN,
                Kind::Device => DEVICE | UXN | PXN,
            }
    }
}

static ROOT: AtomicU64 = AtomicU64::new(0);
static LOCK: Mutex<()> = Mutex::new(());

/// Root of the kernel's tables (physical), for secondary CPUs.
pub fn root() -> u64 {
    ROOT.load(Ordering::Acquire)
}

/// Of the kernel's own tree, which is never freed and shared by all CPUs: its tables come from `alloc`, and are reached from `root` alone.
struct Builder<'a> {
    /// Where new tables come from.
    alloc: &'a dyn Fn() -> Result<u64, OutOfMemory>,
    /// How a table is reached: the boot tables map only part of RAM.
    view: fn(u64) -> *mut u64,
    root: u64,
}

fn linear_view(phys: u64) -> *mut u64 {
    linear(PhysAddr(phys)).cast()
}

impl Builder<'_> {
    fn entry(&self, table: u64, index: usize) -> u64 {
        // SAFETY: `table` is a table frame of this tree, reachable through `view`; index < 512.
        unsafe { (self.view)(table).add(index).read_volatile() }
    }
    fn set(&self, table: u64, index: usize, value: u64) {
        // SAFETY: as above; the caller holds the tree (boot, or LOCK).
        unsafe { (self.view)(table).add(index).write_volatile(value) }
    }
    /// Maps `len` bytes at `va` to `pa` with the largest blocks that fit.
    fn map(&self, mut va: u64, mut pa: u64, len: u64, kind: Kind, blocks: bool) -> Result<(), OutOfMemory> {
        let end = va + len;
        while va < end {
            let mut table = self.root;
            let mut level = 0;
            loop {
                let shift = 39 - 9 * level;
                let size = 1u64 << shift;
                let index = (va >> shift & 511) as usize;
                let fits = va & (size - 1) == 0 && pa & (size - 1) == 0 && end - va >= size;
                let block = level == 3 || (blocks && level >= 1 && fits && self.entry(table, index) & VALID == 0);
                if block {
                    assert!(self.entry(table, index) & VALID == 0, "mapped already");
                    let table_bit = if level == 3 { TABLE } else { 0 };
                    self.set(table, index, pa | kind.bits() | table_bit);
                    va += size;
                    pa += size;
                    break;
                }
                let mut next = self.entry(table, index);
                if next & VALID == 0 {
                    next = (self.alloc)()? | VALID | TABLE;
                    self.set(table, index, next);
                }
                table = next & ADDRESS;
                level += 1;
            }
        }
        Ok(())
    }
}

/// Builds the final tables and switches to them. The boot tables map the GiB of the image and of the device tree; tables
/// are carved from the largest free range, which may lie elsewhere, so each is first reached through a temporary mapping:
/// the boot linear map is widened to all RAM in 1 GiB blocks before anything else.
pub fn build(plan: &Plan) {
    widen_boot_map(plan);
    let alloc = || {
        let range = plan.carve(PAGE_SIZE);
        // SAFETY: carved for this table, on the one CPU that runs.
        unsafe { crate::frame::zero_page_at(linear(PhysAddr(range.start))) };
        Ok(range.start)
    };
    let Ok(root) = alloc() else { unreachable!("carve panics instead") };
    let builder = Builder { alloc: &alloc, view: linear_view, root };
    let (start, text_end, rodata_end, end) = image_layout();
    let head = image_to_phys(start);
    let (text, rodata, image_end) = (image_to_phys(text_end), image_to_phys(rodata_end), image_to_phys(end));
    let result = (|| {
        for range in plan.memory.iter() {
            // The linear alias of the image's read-only part is read-only too.
            let mut pieces = [(range.start, range.end, Kind::Data); 3];
            pieces[0].1 = range.end.min(head.max(range.start));
            pieces[1] = (range.start.max(head), range.end.min(rodata), Kind::ReadOnly);
            pieces[2].0 = range.start.max(rodata);
            if rodata <= range.start || head >= range.end {
                pieces = [(range.start, range.end, Kind::Data), (0, 0, Kind::Data), (0, 0, Kind::Data)];
            }
            for (from, to, kind) in pieces {
                if from < to {
                    builder.map(LINEAR_BASE + from, from, to - from, kind, true)?;
                }
            }
        }
        let at = |phys: u64| KIMAGE_VA + (phys - image_to_phys(KIMAGE_VA));
        builder.map(at(head), head, text - head, Kind::Text, false)?;
        builder.map(at(text), text, rodata - text, Kind::ReadOnly, false)?;
        builder.map(at(rodata), rodata, image_end - rodata, Kind::Data, false)
    })();
    assert!(result.is_ok(), "boot tables");
    ROOT.store(root, Ordering::Release);
    switch_to(root);
}

unsafe extern "C" {
    fn switch_ttbr1(root: u64);
    static boot_l0_kernel: u8;
    static boot_l0_id: u8;
    static boot_l1_device: u8;
}

fn image_pointer<T>(symbol: *const T) -> u64 {
    image_to_phys(symbol as u64)
}

/// Identity-map root, for secondary CPUs (physical).
pub fn identity_root() -> u64 {
    image_pointer(&raw const boot_l0_id)
}

/// Maps the GiB of device registers around `phys` into the boot tables' MMIO window, for the time before [`build`].
///
/// # Safety
/// The boot tables are in use, on the one CPU that runs; the GiB is accessed as device memory alone, by registers that are there.
pub unsafe fn boot_map_device(phys: u64) {
    let gib = phys >> 30;
    assert!(gib < 512, "device registers out of range");
    // SAFETY: as in `widen_boot_map`; the table is the window's alone.
    unsafe {
        let l0 = (&raw const boot_l0_kernel).cast::<u64>().cast_mut();
        let l1 = (&raw const boot_l1_device).cast::<u64>().cast_mut();
        l1.add(gib as usize).write_volatile(gib << 30 | Kind::Device.bits());
        l0.add((MMIO_BASE >> 39 & 511) as usize).write_volatile(image_pointer(l1) | VALID | TABLE);
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    }
}

/// Adds all RAM to the boot linear map as 1 GiB blocks.
fn widen_boot_map(plan: &Plan) {
    // SAFETY: the boot tables are in the image, mapped at their link addresses; single-threaded boot. Only invalid
    // entries become valid, so no TLB maintenance is needed.
    unsafe {
        let l0 = (&raw const boot_l0_kernel).cast::<u64>().cast_mut();
        let l1 =
            (l0.read_volatile() & ADDRESS).wrapping_sub(image_to_phys(KIMAGE_VA)).wrapping_add(KIMAGE_VA) as *mut u64;
        for range in plan.memory.iter() {
            let mut gib = range.start >> 30;
            while gib << 30 < range.end && gib < 512 {
                let entry = l1.add(gib as usize);
                if entry.read_volatile() & VALID == 0 {
                    entry.write_volatile(gib << 30 | AF | INNER | VALID);
                }
                gib += 1;
            }
        }
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    }
}

fn switch_to(root: u64) {
    let identity: unsafe extern "C" fn(u64) = switch_ttbr1;
    let physical = image_to_phys(identity as usize as u64);
    // SAFETY: the identity tables (TTBR0) map the image's GiB executable; the routine only touches registers. The new
    // tables map everything in use at the same addresses.
    unsafe {
        let call: unsafe extern "C" fn(u64) = core::mem::transmute(physical as usize);
        call(root);
    }
}

/// Maps `len` bytes at `va` to `pa` in the running kernel. Panics if something is mapped there: what is in use is never changed.
///
/// # Safety
/// `va` is in the window of device registers or a stack slot that is the caller's; `pa` is registers and no RAM, or a frame that the
/// caller owns and maps nowhere else.
pub unsafe fn map(va: u64, pa: u64, len: u64, kind: Kind) -> Result<(), OutOfMemory> {
    let _irq = crate::cpu::IrqGuard::new();
    let _lock = LOCK.lock();
    let alloc = || crate::frame::alloc_raw_zeroed(crate::frame::Use::PageTable);
    Builder { alloc: &alloc, view: linear_view, root: root() }.map(va, pa, len, kind, false)?;
    sync();
    Ok(())
}

/// Unmaps `nr_pages` pages of frames that [`map`] was given one by one, and frees the frames.
///
/// # Safety
/// They are the caller's, and nothing uses them any more.
pub unsafe fn unmap(va: u64, nr_pages: usize) {
    let _irq = crate::cpu::IrqGuard::new();
    let _lock = LOCK.lock();
    let pages = || (0..nr_pages).map(|page| va + (page * PAGE_SIZE) as u64);
    for page in pages() {
        if let Some(entry) = leaf(page) {
            // SAFETY: the leaf entry of a page of the caller's; its address bits stay for the loop below.
            unsafe { entry.write_volatile(entry.read_volatile() & !VALID) };
            // SAFETY: TLB maintenance only forgets; the entry is written before.
            unsafe {
                core::arch::asm!("dsb ishst", "tlbi vaale1is, {}", in(reg) page >> 12 & 0xfff_ffff_ffff, options(nostack))
            };
        }
    }
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISH);
    for page in pages() {
        if let Some(entry) = leaf(page) {
            // SAFETY: as above; no CPU reaches the frame through it any more.
            let old = unsafe { entry.read_volatile() };
            // SAFETY: as above.
            unsafe { entry.write_volatile(0) };
            // SAFETY: the caller's frame, unmapped above and forgotten by all TLBs.
            unsafe { crate::frame::release_raw(old & ADDRESS, crate::frame::Use::Kernel) };
        }
    }
    sync();
}

/// The level 3 entry of `va`, when its tables exist.
fn leaf(va: u64) -> Option<*mut u64> {
    let mut table = root();
    for level in 0..3 {
        // SAFETY: table frames of the live kernel tree, which are never freed.
        let entry = unsafe { linear_view(table).add((va >> (39 - 9 * level) & 511) as usize).read_volatile() };
        if entry & (VALID | TABLE) != VALID | TABLE {
            return None;
        }
        table = entry & ADDRESS;
    }
    // SAFETY: as above: inside the table.
    Some(unsafe { linear_view(table).add((va >> 12 & 511) as usize) })
}

/// Whether `va` is mapped, and to which frame.
pub fn lookup(va: u64) -> Option<u64> {
    let mut table = root();
    for level in 0..4 {
        let shift = 39 - 9 * level;
        // SAFETY: reads table frames of the live kernel tree, which are never freed.
        let entry = unsafe { linear_view(table).add((va >> shift & 511) as usize).read_volatile() };
        if entry & VALID == 0 {
            return None;
        }
        if level == 3 || entry & TABLE == 0 {
            return Some((entry & ADDRESS & !((1 << shift) - 1)) + (va & ((1 << shift) - 1)));
        }
        table = entry & ADDRESS;
    }
    None
}

fn sync() {
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}
