//! Boot on a Raspberry Pi 3 or 4: what the device tree leaves out, and all of it when there is no tree.
//!
//! The firmware is asked early, before the final tables stand, through a device window in the boot tables: which part of memory
//! is ours, and the rate of the console's clock. The console is always PL011 on the header pins (`stdout-path` of the boards'
//! trees names the mini-UART, whose rate hangs on the GPU's clock).

use super::tree::{CpuNode, EnableMethod, Plan, PortKind};
use crate::layout::{PHYS_LIMIT, linear};
use base::addr::{PhysAddr, page_down};
use base::{atags, bus};
use drivers::bcm::mailbox::{Clock, Firmware, Message, STATUS_OFFSET, Shared};
use drivers::bcm::{Block, Blocks, Soc, gpio::Gpio, mini_uart::MiniUart, pm::Pm, pm::RSTC_OFFSET};
use drivers::mmio::Mmio;
use drivers::pl011::Pl011;
use dtoolkit::fdt::Fdt;
use dtoolkit::standard::NodeStandard;
use spin::{Mutex, Once};

const BAUD: u32 = 115_200;
/// What the boards' firmware sets the clock of PL011 to, when it does not say.
const UART_CLOCK_HZ: u32 = 48_000_000;
const CORE_CLOCK_HZ: u32 = 250_000_000;
/// UARTFR of PL011.
const UART_FLAGS_OFFSET: usize = 0x18;
/// Where loaders put an ATAG list.
const ATAGS: u64 = 0x100;
const GIB: u64 = 1 << 30;

/// The image as the firmware sees it: RAM's alias that its caches leave alone.
pub struct ImageMemory(());

// SAFETY: a message is a static of the image (`MESSAGE`): its address on the VideoCore's bus is that of its bytes in RAM.
unsafe impl Shared for ImageMemory {
    fn bus_address(&self, message: &Message) -> u32 {
        let phys = super::image_to_phys(core::ptr::from_ref(message) as u64);
        // Boards load the image into the first GiB; elsewhere the firmware finds no question and stays silent.
        (phys % GIB) as u32 | 0xc000_0000
    }
    fn flush(&self, message: &Message) {
        crate::cache::clean_and_invalidate_data_cache(core::ptr::from_ref(message).cast(), size_of::<Message>());
    }
}

/// The firmware, reached through the mailbox.
pub type BoardFirmware = Firmware<ImageMemory>;

static MESSAGE: Message = Message::new();
static FIRMWARE: Once<Mutex<BoardFirmware>> = Once::new();
static PM: Once<Pm> = Once::new();
/// The command line, when only the firmware has it.
static CMDLINE: Once<[u8; 1024]> = Once::new();
static BOARD: Once<Board> = Once::new();

/// A Raspberry Pi.
pub struct Board {
    pub soc: Soc,
    /// Where its blocks are: by the device tree, or by the chip when there is none.
    pub blocks: Blocks,
}

/// The board, if this machine is a Raspberry Pi.
pub fn board() -> Option<&'static Board> {
    BOARD.get()
}

/// Calls `ask` with the firmware, one caller at a time; `None` when there is none, or when another CPU did not let go of it in
/// reasonable time (it may have died in a panic). Not for interrupt handlers: a question takes up to milliseconds.
pub fn with_firmware<R>(ask: impl FnOnce(&mut BoardFirmware) -> R) -> Option<R> {
    let firmware = FIRMWARE.get()?;
    for _ in 0..10_000_000 {
        if let Some(mut firmware) = firmware.try_lock() {
            return Some(ask(&mut firmware));
        }
        crate::cpu::relax();
    }
    None
}

/// A block in the device window of the boot tables; the final tables have it at the same address once it is mapped there.
fn early_block((address, len): Block) -> Mmio {
    // SAFETY: the boot tables are in use, on the one CPU that runs, and map the block as device memory then. Addresses are the chip's or the device tree's, which
    // is all there is to know of RAM yet. All blocks but the mailbox are given up before `start`, which maps that in the final tables.
    unsafe {
        crate::kmap::boot_map_device(address);
        crate::mmio::window(PhysAddr(address), len)
    }
}

/// As `early_block`, when something answers at `offset`.
fn early_probe(block: Option<Block>, offset: usize) -> Option<Mmio> {
    let registers = early_block(block?);
    crate::mmio::probe_read32(&registers, offset).map(|_| registers)
}

/// The chip by the root's `compatible`.
fn soc_of(fdt: Fdt<'_>) -> Option<Soc> {
    let root = fdt.root();
    let is = |names: &[&str]| names.iter().any(|name| root.is_compatible(name));
    if is(&["brcm,bcm2837", "brcm,bcm2710"]) {
        Some(Soc::Bcm2837)
    } else if is(&["brcm,bcm2711"]) {
        Some(Soc::Bcm2711)
    } else {
        None
    }
}

/// The blocks that the tree names, where its buses' `ranges` put them. What it leaves out or disables is not there. The lengths
/// are the drivers': the trees' own are shorter than what is known to be there (GPIO of the BCM2711).
fn blocks_of(fdt: Fdt<'static>, soc: Soc) -> Blocks {
    let chip = soc.blocks();
    let usable = |address: u64, len: usize| {
        let fits = address & 3 == 0 && address.checked_add(len as u64).is_some_and(|end| end <= PHYS_LIMIT);
        fits.then_some((address, len))
    };
    let find = |names: &[&str], template: Option<Block>| {
        let (address, _) = bus::find_compatible(fdt, names)?.reg(0)?;
        usable(address, template?.1)
    };
    // There are four more ports of the same kind; this one stands at the same place of every chip's bus.
    let uart0 = bus::visit(fdt, &mut |place| {
        let is_uart0 = place.node.is_compatible("arm,pl011") && place.bus_reg(0)?.0 & 0xff_ffff == 0x20_1000;
        if is_uart0 { usable(place.reg(0)?.0, chip.uart0?.1) } else { None }
    });
    let gic = || {
        let place = bus::find_compatible(fdt, &["arm,gic-400"])?;
        let ((_, distributor), (_, cpu)) = chip.gic?;
        Some((usable(place.reg(0)?.0, distributor)?, usable(place.reg(1)?.0, cpu)?))
    };
    Blocks {
        mailbox: find(&["brcm,bcm2835-mbox"], chip.mailbox),
        armctrl: find(&["brcm,bcm2836-armctrl-ic"], chip.armctrl),
        local: find(&["brcm,bcm2836-l1-intc"], chip.local),
        gic: gic(),
        pm: find(&["brcm,bcm2835-pm-wdt", "brcm,bcm2835-pm", "brcm,bcm2711-pm"], chip.pm),
        rng: find(&["brcm,bcm2835-rng", "brcm,bcm2711-rng200"], chip.rng),
        gpio: find(&["brcm,bcm2835-gpio", "brcm,bcm2711-gpio"], chip.gpio),
        uart0,
        aux: find(&["brcm,bcm2835-aux"], chip.aux),
        genet: find(&["brcm,bcm2711-genet-v5"], chip.genet),
    }
}

/// The chip by its cores, when there is no tree: only a machine with the mailbox in its place is a Raspberry Pi.
fn soc_without_tree() -> Option<Soc> {
    let soc = Soc::from_midr(crate::cpu::own_midr())?;
    early_probe(soc.blocks().mailbox, STATUS_OFFSET).map(|_| soc)
}

/// Completes `plan` on a Raspberry Pi: called when the tree, if there is one, was read, before anything is taken from memory.
pub(super) fn complete(plan: &mut Plan, fdt: Option<Fdt<'static>>) {
    let soc = match fdt {
        Some(fdt) => soc_of(fdt),
        // A tree that does not parse says nothing, but it says that this is a machine with a tree.
        None if plan.damaged => None,
        None => soc_without_tree(),
    };
    let Some(soc) = soc else { return };
    let blocks = fdt.map_or_else(|| soc.blocks(), |fdt| blocks_of(fdt, soc));
    BOARD.call_once(|| Board { soc, blocks });
    let mut firmware =
        early_probe(blocks.mailbox, STATUS_OFFSET).map(|mailbox| Firmware::new(mailbox, &MESSAGE, ImageMemory(())));
    let arm_memory = firmware.as_mut().and_then(|firmware| firmware.arm_memory().ok());
    if fdt.is_none() {
        complete_without_tree(plan, soc, firmware.as_mut());
    }
    match arm_memory {
        Some(memory) => {
            let (base, len) = (u64::from(memory.base), u64::from(memory.len));
            if plan.memory.is_empty() {
                plan.memory.push(base, page_down(base + len));
            }
            // Behind our part of the first GiB come the VideoCore's part and, on the BCM2837, the peripherals, whatever a
            // tree that no loader has filled in says.
            plan.memory.subtract(page_down(base + len), GIB);
        }
        None => plan.memory.subtract(soc.peripherals().min(GIB), GIB),
    }
    let mut clock_hz = |clock| firmware.as_mut().and_then(|firmware| firmware.clock_hz(clock).ok());
    if let Some(gpio) = early_probe(blocks.gpio, 0) {
        Gpio::new(gpio, soc).connect_uart0();
    }
    // A tree's first and second port are the mini-UART, or another one that is connected to nothing.
    (plan.console, plan.log) = (None, None);
    if let (Some(uart0), Some((address, _))) = (early_probe(blocks.uart0, UART_FLAGS_OFFSET), blocks.uart0) {
        let mut uart = Pl011::new(uart0, BAUD, clock_hz(Clock::Uart).unwrap_or(UART_CLOCK_HZ));
        crate::early::keep_input(&mut uart);
        plan.console = Some((address, PortKind::Pl011));
    }
    if has_word(plan.cmdline, "log=ttyS1")
        && let (Some(aux), Some((address, _))) = (early_probe(blocks.aux, 0), blocks.aux)
    {
        let _ = MiniUart::new(aux, BAUD, clock_hz(Clock::Core).unwrap_or(CORE_CLOCK_HZ));
        plan.mini_uart_log = Some(address);
    }
    if let Some(firmware) = firmware {
        FIRMWARE.call_once(|| Mutex::new(firmware));
    }
}

fn has_word(cmdline: &str, word: &str) -> bool {
    cmdline.split_ascii_whitespace().take_while(|other| *other != "--").any(|other| other == word)
}

/// Memory, command line and initial RAM disk from the ATAG list and the firmware; cores from the chip.
fn complete_without_tree(plan: &mut Plan, soc: Soc, firmware: Option<&mut BoardFirmware>) {
    // SAFETY: the first page of RAM, in the linear map of the boot tables; the image's own 2 MiB block, which no allocator gets.
    let page: &'static [u8] = unsafe { core::slice::from_raw_parts(linear(PhysAddr(ATAGS)), 0x1000 - ATAGS as usize) };
    if let Some(tags) = atags::parse(page) {
        if let Some(memory) = tags.memory {
            plan.memory.push(memory.start, page_down(memory.end));
        }
        plan.initrd = tags.initrd.filter(|range| plan.holds(range));
        plan.cmdline = tags.cmdline;
    }
    if plan.cmdline.is_empty() {
        let line = CMDLINE.call_once(|| {
            let mut buffer = [0; 1024];
            if firmware.is_none_or(|firmware| firmware.command_line(&mut buffer).is_err()) {
                buffer[0] = 0;
            }
            buffer
        });
        let line = line.split(|byte| *byte == 0).next().unwrap_or(&[]);
        plan.cmdline = core::str::from_utf8(line).unwrap_or("");
    }
    let own = crate::smp::own_mpidr();
    plan.nr_cpus = 4;
    for (core, node) in (0..).zip(&mut plan.cpus[..4]) {
        *node = CpuNode { mpidr: own & !0xff | core, method: EnableMethod::SpinTable(soc.spin_table(core)) };
    }
    if let Some(boot) = plan.cpus[..4].iter().position(|cpu| cpu.mpidr == own) {
        plan.cpus.swap(0, boot);
    }
}

/// Maps in the final tables what boot has used, and installs power-off and reset. Once, when the frame allocator runs.
pub(super) fn start() {
    let Some(board) = board() else { return };
    let map = |(address, len): Block| crate::mmio::map(PhysAddr(address), len).ok();
    if FIRMWARE.is_completed() {
        let _ = board.blocks.mailbox.and_then(map);
    }
    let pm = board.blocks.pm.and_then(map);
    if let Some(pm) = pm.filter(|pm| crate::mmio::probe_read32(pm, RSTC_OFFSET).is_some()) {
        crate::power::set_board(PM.call_once(|| Pm::new(pm)));
    }
}
