//! What boot needs of the device tree: memory, reserved ranges, CPUs, the initial serial ports, `/chosen`.
//!
//! Nothing here trusts the tree: a value that does not parse is left out, and a machine without usable memory stops with
//! nothing to print on (there is no console yet).

use crate::cpu::MAX_CPUS;
use crate::layout::{PHYS_LIMIT, linear};
use base::addr::{PAGE_SIZE, PhysAddr, page_down, page_up};
use base::bus::{self, Place};
use core::cell::Cell;
use core::ops::Range;
use drivers::ns16550;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use spin::Once;

const MAX_RANGES: usize = 32;

/// A short sorted list of disjoint physical ranges.
#[derive(Clone)]
pub struct Ranges {
    list: [(u64, u64); MAX_RANGES],
    len: usize,
}

impl Ranges {
    const fn new() -> Self {
        Self { list: [(0, 0); MAX_RANGES], len: 0 }
    }
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.list[..self.len].iter().map(|&(start, end)| start..end)
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub(super) fn push(&mut self, start: u64, end: u64) {
        if start < end && self.len < MAX_RANGES {
            self.list[self.len] = (start, end);
            self.len += 1;
        }
    }
    /// In order, and what overlaps or touches joined: a tree may name RAM twice.
    fn normalize(&mut self) {
        self.list[..self.len].sort_unstable();
        let mut kept = 0;
        for at in 1..self.len {
            let (start, end) = self.list[at];
            if start <= self.list[kept].1 {
                self.list[kept].1 = self.list[kept].1.max(end);
            } else {
                kept += 1;
                self.list[kept] = (start, end);
            }
        }
        self.len = self.len.min(kept + 1);
    }
    /// Keeps the first `bytes` of the sorted ranges, and everything below `least`.
    fn limit(&mut self, bytes: u64, least: u64) {
        let mut left = bytes;
        for range in self.clone().iter() {
            let len = range.end - range.start;
            if left < len {
                let end = page_down(range.start + left).max(least);
                return self.subtract(end, u64::MAX);
            }
            left -= len;
        }
    }
    /// Removes `start..end` from all ranges.
    pub(super) fn subtract(&mut self, start: u64, end: u64) {
        let old = self.clone();
        self.len = 0;
        for range in old.iter() {
            self.push(range.start, range.end.min(start));
            self.push(range.start.max(end), range.end);
        }
    }
}

/// How secondary CPUs are started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    None,
    PsciHvc,
    PsciSmc,
    /// Physical address of the release word.
    SpinTable(u64),
}

#[derive(Clone, Copy)]
pub struct CpuNode {
    pub mpidr: u64,
    pub method: EnableMethod,
}

/// Everything boot learned.
pub struct Plan {
    pub dtb: &'static [u8],
    pub cmdline: &'static str,
    pub rng_seed: &'static [u8],
    pub initrd: Option<Range<u64>>,
    /// All RAM.
    pub memory: Ranges,
    /// RAM not yet given to anything.
    pub free: Ranges,
    pub memory_bytes: u64,
    pub nr_cpus: usize,
    pub cpus: [CpuNode; MAX_CPUS],
    /// Registers of the boot console and of the log port.
    pub console: Option<Serial>,
    pub log: Option<Serial>,
    /// The auxiliary block of a Raspberry Pi whose mini-UART is the log port.
    pub mini_uart_log: Option<u64>,
    /// There is a tree, but it does not parse: the machine can only say so and stop.
    pub damaged: bool,
    /// Next byte of the largest free range, and its end.
    cursor: Cell<u64>,
    limit: u64,
}

impl Plan {
    /// Takes `bytes` (rounded up to pages) of RAM for ever, zeroed by the caller. Panics when RAM is too small to boot.
    pub fn carve(&self, bytes: usize) -> Range<u64> {
        let start = self.cursor.get();
        let end = page_up(start + bytes as u64).unwrap_or(u64::MAX);
        assert!(end <= self.limit, "too little memory to boot");
        self.cursor.set(end);
        start..end
    }
    /// Free ranges without what `carve` took.
    pub fn remaining(&self) -> Ranges {
        let mut free = self.free.clone();
        let (start, end) = self.largest();
        free.subtract(start, self.cursor.get().min(end));
        free
    }
    /// Whether all of `range` is RAM.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        range.start < range.end && self.memory.iter().any(|ram| ram.start <= range.start && range.end <= ram.end)
    }
    fn largest(&self) -> (u64, u64) {
        self.free.iter().map(|r| (r.start, r.end)).max_by_key(|(start, end)| end - start).unwrap_or((0, 0))
    }
}

static CPUS: Once<([CpuNode; MAX_CPUS], usize)> = Once::new();

pub(crate) fn publish_cpus(plan: &Plan) {
    CPUS.call_once(|| (plan.cpus, plan.nr_cpus));
}

static MEMORY: Once<Ranges> = Once::new();

/// Keeps what is RAM, for [`is_ram`].
pub(super) fn publish_memory(plan: &Plan) {
    MEMORY.call_once(|| plan.memory.clone());
}

/// Whether any of `range` is RAM; all of it may be before the device tree was read.
pub(crate) fn is_ram(range: &Range<u64>) -> bool {
    MEMORY.get().is_none_or(|memory| memory.iter().any(|ram| ram.start < range.end && range.start < ram.end))
}

pub(crate) fn cpus() -> &'static [CpuNode] {
    CPUS.get().map_or(&[], |(cpus, count)| &cpus[..*count])
}

/// The tree's bytes, when `phys` points at a plausible one. The boot tables map 1 GiB from it.
fn dtb_bytes(phys: u64) -> &'static [u8] {
    if phys == 0 || phys & 3 != 0 || phys >= PHYS_LIMIT {
        return &[];
    }
    let base = linear(PhysAddr(phys));
    // SAFETY: the boot tables map this GiB and the next; RAM is only read.
    let word = |index: usize| u32::from_be(unsafe { base.cast::<u32>().add(index).read_volatile() });
    let (magic, size) = (word(0), word(1) as usize);
    if magic != 0xd00d_feed || !(64..=2 << 20).contains(&size) {
        return &[];
    }
    // SAFETY: as above; at most 2 MiB, kept out of the free ranges, so nobody writes it.
    unsafe { core::slice::from_raw_parts(base, size) }
}

fn regs(node: FdtNode<'static>) -> impl Iterator<Item = (u64, u64)> {
    node.reg().ok().flatten().into_iter().flatten().filter_map(|reg| {
        let address = reg.address::<u64>().ok()?;
        Some((address, reg.size::<u64>().unwrap_or(0)))
    })
}

fn u64_property(node: &FdtNode<'static>, name: &str) -> Option<u64> {
    let property = node.property(name)?;
    match *property.value() {
        [a, b, c, d] => Some(u64::from(u32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

/// The bytes of a property, as long-lived as the tree.
fn bytes_property(dtb: &'static [u8], node: &FdtNode<'static>, name: &str) -> &'static [u8] {
    let Some(property) = node.property(name) else { return &[] };
    let value = property.value();
    // The value lies inside the tree: find it there again with the tree's own lifetime.
    let offset = (value.as_ptr() as usize).wrapping_sub(dtb.as_ptr() as usize);
    dtb.get(offset..offset.saturating_add(value.len())).unwrap_or(&[])
}

impl Plan {
    const fn new() -> Self {
        Self {
            dtb: &[],
            cmdline: "",
            rng_seed: &[],
            initrd: None,
            memory: Ranges::new(),
            free: Ranges::new(),
            memory_bytes: 0,
            nr_cpus: 1,
            cpus: [CpuNode { mpidr: 0, method: EnableMethod::None }; MAX_CPUS],
            console: None,
            log: None,
            mini_uart_log: None,
            damaged: false,
            cursor: Cell::new(0),
            limit: 0,
        }
    }
    /// Whether one range of RAM holds all of `start..end`.
    fn is_memory(&self, start: u64, end: u64) -> bool {
        self.memory.iter().any(|range| range.start <= start && end <= range.end)
    }
}

pub fn read(dtb_phys: u64, image_phys: u64) -> Plan {
    let mut dtb = dtb_bytes(dtb_phys);
    let mut plan = Plan::new();
    let mut reserved = Ranges::new();
    let fdt = Fdt::new(dtb).ok().filter(|_| !dtb.is_empty());
    match fdt {
        Some(fdt) => {
            plan.dtb = dtb;
            read_tree(fdt, dtb, &mut plan, &mut reserved);
        }
        _ => {
            plan.damaged = !dtb.is_empty();
            rescue(dtb, &mut plan);
            dtb = &[];
        }
    }
    super::raspberry_pi::complete(&mut plan, fdt);
    let (start, _, _, end) = super::image_layout();
    let image = super::image_to_phys(start)..super::image_to_phys(end);
    let knows_itself = plan.is_memory(dtb_phys, dtb_phys.saturating_add(dtb.len() as u64));
    if !dtb.is_empty() && plan.memory.len != 0 && !(knows_itself && plan.is_memory(image.start, image.end)) {
        // It says where RAM is and leaves out what it and the kernel stand in: none of it is to be trusted.
        plan = Plan::new();
        plan.damaged = true;
        reserved = Ranges::new();
        rescue(dtb, &mut plan);
        dtb = &[];
    }
    if plan.memory.len == 0 {
        // No tree: the GiB the image is in is RAM, as far as anyone can tell; take a modest part of it.
        plan.memory.push(image_phys, image_phys + (64 << 20));
    }
    plan.memory.normalize();
    if let Some(limit) = memory_limit(plan.cmdline) {
        let of = |range: Option<Range<u64>>| range.map_or(0, |range| range.end);
        let dtb_end = if dtb.is_empty() { 0 } else { dtb_phys + dtb.len() as u64 };
        let in_use = image.end.max(dtb_end).max(of(plan.initrd.clone())).max(of(embedded_archive()));
        plan.memory.limit(limit, page_up(in_use).unwrap_or(u64::MAX));
    }
    plan.memory_bytes = plan.memory.iter().map(|range| range.end - range.start).sum();
    let overlaps = |range: &Range<u64>, start: u64, end: u64| range.start < end && start < range.end;
    let dtb_end = dtb_phys.saturating_add(dtb.len() as u64);
    let is_in_use = |range: &Range<u64>| overlaps(range, image_phys, image.end) || overlaps(range, dtb_phys, dtb_end);
    // Its frames are given away once it is unpacked.
    plan.initrd = plan.initrd.take().filter(|initrd| !is_in_use(initrd));
    plan.free = plan.memory.clone();
    plan.free.subtract(image_phys, image.end);
    if let Some(archive) = embedded_archive() {
        plan.free.subtract(image_phys, page_up(archive.end).unwrap_or(u64::MAX));
        plan.initrd.get_or_insert(archive);
    }
    if !dtb.is_empty() {
        plan.free.subtract(page_down(dtb_phys), page_up(dtb_phys + dtb.len() as u64).unwrap_or(u64::MAX));
    }
    if let Some(initrd) = &plan.initrd {
        plan.free.subtract(page_down(initrd.start), page_up(initrd.end).unwrap_or(u64::MAX));
    }
    for range in reserved.iter() {
        plan.free.subtract(page_down(range.start), page_up(range.end).unwrap_or(u64::MAX));
    }
    let (start, end) = plan.largest();
    plan.cursor.set(start);
    plan.limit = end;
    plan
}

/// The archive that the image tool put behind the kernel (`crannog build --one-file`): a magic number, the length, the bytes.
/// The image's header says whether there is one: it then spans more than the linker knew of.
fn embedded_archive() -> Option<Range<u64>> {
    const MAGIC: u64 = u64::from_le_bytes(*b"CRANROOT");
    const SIZE_FIELD: usize = 2;
    let (start, _, _, end) = super::image_layout();
    // SAFETY: the Image header is mapped with the kernel's first page; the tool wrote the field after linking.
    let image_bytes = unsafe { (start as *const u64).add(SIZE_FIELD).read_volatile() };
    if image_bytes <= end - start + 16 {
        return None;
    }
    let at = super::image_to_phys(end);
    // SAFETY: the boot loader keeps RAM for the whole image as the header says, and the boot tables map its GiB.
    let word = |index: usize| unsafe { linear(PhysAddr(at)).cast::<u64>().add(index).read_volatile() };
    let (magic, len) = (word(0), word(1));
    let first = at + 16;
    (magic == MAGIC && len <= image_bytes - (end - start) - 16).then(|| first..first + len)
}

/// `mem=` on the command line: how many bytes of RAM may be used, with K, M or G behind the number. Less than what a kernel needs to
/// start is a mistake, as on Linux, and not heeded.
fn memory_limit(cmdline: &str) -> Option<u64> {
    const LEAST: u64 = 8 << 20;
    let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    let text = words.filter_map(|word| word.strip_prefix("mem=")).last()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|limit| *limit >= LEAST)
}

fn read_tree(fdt: Fdt<'static>, dtb: &'static [u8], plan: &mut Plan, reserved: &mut Ranges) {
    let root = fdt.root();
    for node in root.children() {
        if node.name_without_address() == "memory" {
            for (start, size) in regs(node) {
                let end = start.saturating_add(size).min(PHYS_LIMIT);
                plan.memory.push(page_up(start).unwrap_or(u64::MAX), page_down(end));
            }
        }
    }
    for reservation in fdt.memory_reservations() {
        reserved.push(reservation.address(), reservation.address().saturating_add(reservation.size()));
    }
    if let Some(node) = fdt.find_node("/reserved-memory") {
        for child in node.children() {
            for (start, size) in regs(child) {
                reserved.push(start, start.saturating_add(size));
            }
        }
    }
    if let Some(chosen) = fdt.find_node("/chosen") {
        let args = bytes_property(dtb, &chosen, "bootargs");
        let args = args.split(|&b| b == 0).next().unwrap_or(&[]);
        plan.cmdline = core::str::from_utf8(args).unwrap_or("");
        plan.rng_seed = bytes_property(dtb, &chosen, "rng-seed");
        if let (Some(start), Some(end)) =
            (u64_property(&chosen, "linux,initrd-start"), u64_property(&chosen, "linux,initrd-end"))
            && plan.holds(&(start..end))
        {
            plan.initrd = Some(start..end);
        }
    }
    read_cpus(fdt, plan);
    read_serial(fdt, plan);
}

fn read_cpus(fdt: Fdt<'static>, plan: &mut Plan) {
    let psci = match fdt.find_node("/psci").and_then(|node| {
        let property = node.property("method")?;
        Some(property.value().starts_with(b"hvc"))
    }) {
        Some(true) => EnableMethod::PsciHvc,
        Some(false) => EnableMethod::PsciSmc,
        None => EnableMethod::None,
    };
    let Some(node) = fdt.find_node("/cpus") else { return };
    let mut found = [CpuNode { mpidr: 0, method: EnableMethod::None }; MAX_CPUS];
    let mut count = 0;
    let boot_mpidr = crate::smp::own_mpidr();
    for cpu in node.children().filter(|child| child.name_without_address() == "cpu") {
        let Some((mpidr, _)) = regs(cpu).next() else { continue };
        let method = match cpu.property("enable-method") {
            Some(property) if property.value().starts_with(b"spin-table") => {
                u64_property(&cpu, "cpu-release-addr").map_or(EnableMethod::None, EnableMethod::SpinTable)
            }
            // A machine with one CPU may leave the property out; power-off still goes through PSCI.
            Some(property) if !property.value().starts_with(b"psci") => EnableMethod::None,
            _ => psci,
        };
        if count < MAX_CPUS {
            found[count] = CpuNode { mpidr, method };
            count += 1;
        }
    }
    // Logical CPU 0 is the one that booted.
    if let Some(boot) = found[..count].iter().position(|cpu| cpu.mpidr == boot_mpidr) {
        found[..count].swap(0, boot);
        found[1..count].sort_unstable_by_key(|cpu| cpu.mpidr);
        plan.cpus = found;
        plan.nr_cpus = count;
    } else {
        plan.cpus[0].mpidr = boot_mpidr;
    }
}

/// A serial port that a kernel can write to by polling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// PL011, and the SBSA's generic UART.
    Pl011,
    Ns16550(ns16550::Layout),
}

/// A port's first register, and its kind.
type Serial = (u64, PortKind);

const PL011: &[&str] = &["arm,pl011", "arm,sbsa-uart"];
const NS16550: &[&str] = &["ns16550a", "ns16550"];

fn serial(place: &Place<'static>) -> Option<Serial> {
    let is = |names: &[&str]| names.iter().any(|name| place.node.is_compatible(name));
    let kind = if is(PL011) {
        PortKind::Pl011
    } else if is(NS16550) {
        PortKind::Ns16550(ns16550::Layout::new(place.cell("reg-shift"), place.cell("reg-io-width"))?)
    } else {
        return None;
    };
    let address = place.reg(0)?.0;
    (!place.is_disabled() && is_port_address(address)).then_some((address, kind))
}

/// The port that a word `console=ttyAMA0` or `console=ttyS1` names: by the alias of its number, else by its place among its kind.
fn named_serial(fdt: Fdt<'static>, name: &str) -> Option<Serial> {
    let name = name.split(',').next()?;
    let (names, number) = match name.strip_prefix("ttyAMA") {
        Some(number) => (PL011, number),
        None => (NS16550, name.strip_prefix("ttyS")?),
    };
    let mut number = number.parse::<u32>().ok()?;
    let is = |place: &Place<'static>| names.iter().any(|name| place.node.is_compatible(name));
    let digit = char::from_digit(number, 10)?;
    let alias = ["serial0", "serial1", "serial2", "serial3"].into_iter().find(|alias| alias.ends_with(digit));
    let by_alias = alias.and_then(|alias| bus::find_alias(fdt, alias)).filter(is).and_then(|place| serial(&place));
    by_alias.or_else(|| {
        bus::visit(fdt, &mut |place| {
            let found = serial(place).filter(|_| is(place))?;
            number = match number.checked_sub(1) {
                None => return Some(found),
                Some(left) => left,
            };
            None
        })
    })
}

/// The port of `/chosen/stdout-path`: a path or an alias, and the line's settings behind a colon.
fn stdout(fdt: Fdt<'static>) -> Option<Serial> {
    let chosen = fdt.find_node("/chosen")?;
    let property = chosen.property("stdout-path").or_else(|| chosen.property("linux,stdout-path"))?;
    let text = property.value().split(|byte| matches!(byte, 0 | b':')).next()?;
    let text = core::str::from_utf8(text).ok()?;
    let place = if text.starts_with('/') { bus::find(fdt, text) } else { bus::find_alias(fdt, text) };
    serial(&place?)
}

/// The console: the last of `console=` that is there, else what the loader names, else the first port; the log's port: the second
/// one, by its alias.
fn read_serial(fdt: Fdt<'static>, plan: &mut Plan) {
    let alias = |name| bus::find_alias(fdt, name).and_then(|place| serial(&place));
    let words = plan.cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    let named = words.filter_map(|word| named_serial(fdt, word.strip_prefix("console=")?)).last();
    let first = || bus::visit(fdt, &mut |place| serial(place));
    plan.console = named.or_else(|| stdout(fdt)).or_else(|| alias("serial0")).or_else(first);
    plan.log = alias("serial1").filter(|log| Some(log.0) != plan.console.map(|console| console.0));
}

fn is_port_address(address: u64) -> bool {
    address < PHYS_LIMIT - PAGE_SIZE as u64 && address & 3 == 0
}

/// A serial port and the PSCI conduit by the names that a damaged tree's bytes still hold: enough to tell what is wrong
/// and to power off.
fn rescue(dtb: &[u8], plan: &mut Plan) {
    let behind =
        |name: &[u8]| dtb.windows(name.len()).position(|bytes| bytes == name).and_then(|at| dtb.get(at + name.len()..));
    plan.console = behind(b"pl011@")
        .and_then(|rest| {
            let digits = rest.iter().take(16).map_while(|&byte| char::from(byte).to_digit(16));
            digits.map(u64::from).reduce(|address, digit| address << 4 | digit)
        })
        .filter(|&address| is_port_address(address))
        .map(|address| (address, PortKind::Pl011));
    plan.cpus[0].method = match (behind(b"hvc\0"), behind(b"smc\0")) {
        (Some(_), _) => EnableMethod::PsciHvc,
        (None, Some(_)) => EnableMethod::PsciSmc,
        (None, None) => EnableMethod::None,
    };
}
