//! What /proc shows of an address space: maps, smaps, statm numbers.

use super::area::{Area, AreaFlags};
use super::space::{AddressSpace, Inner, Layout, Prot};
use crate::prelude::*;
use base::text::{Line, Text};
use base::vma::Vma;
use core::sync::atomic::Ordering;

const PAGE: u64 = PAGE_SIZE as u64;

/// Sizes in pages, for /proc/PID/statm and status.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    pub virtual_pages: u64,
    pub resident_pages: u64,
    /// Resident pages of files and shared memory.
    pub shared_pages: u64,
    pub peak_virtual_pages: u64,
    pub peak_resident_pages: u64,
    pub data_pages: u64,
    pub stack_pages: u64,
    pub text_pages: u64,
    pub locked_pages: u64,
    pub page_table_bytes: u64,
}

impl AddressSpace {
    /// Virtual size, resident set, resident file and shared pages, peaks.
    pub fn usage(&self) -> Usage {
        let inner = self.lock();
        let resident = inner.table.resident() as u64;
        let mut shared = 0;
        for area in inner.map.iter().filter(|area| area.data.attachment.is_some()) {
            inner
                .table
                .for_each(area.range(), &mut |_, _, flags| shared += u64::from(area.data.is_shared() || flags.cow));
        }
        Usage {
            virtual_pages: inner.total_pages,
            resident_pages: resident,
            shared_pages: shared,
            peak_virtual_pages: inner.peak_pages,
            peak_resident_pages: inner.peak_resident.max(resident),
            data_pages: inner.data_pages,
            stack_pages: inner.stack_pages,
            text_pages: inner.text_pages,
            locked_pages: inner.locked_pages,
            page_table_bytes: inner.table.table_frames() as u64 * PAGE,
        }
    }

    /// Virtual and resident size and the resident peak in pages: cheap.
    pub fn sizes(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        let resident = inner.table.resident() as u64;
        (inner.total_pages, resident, inner.peak_resident.max(resident))
    }

    /// [`AddressSpace::sizes`] without the peak, and where the program's parts are.
    pub fn sizes_and_layout(&self) -> (u64, u64, Layout) {
        let inner = self.lock();
        (inner.total_pages, inner.table.resident() as u64, inner.layout)
    }

    /// Resident pages, without waiting: the OOM killer must not sleep on a victim's lock.
    pub fn resident_pages_hint(&self) -> u64 {
        if let Some(inner) = self.inner.try_lock() {
            self.resident_hint.store(inner.table.resident() as u64, Ordering::Relaxed);
        }
        self.resident_hint.load(Ordering::Relaxed)
    }

    /// Frames of the page tables when last looked at without waiting.
    pub fn table_pages_hint(&self) -> u64 {
        self.inner.try_lock().map_or(0, |inner| inner.table.table_frames() as u64)
    }

    /// /proc/PID/maps text; with `smaps` also what each area holds: ENOMEM.
    pub fn format_maps(&self, smaps: bool) -> Result<Vec<u8>, Errno> {
        // Names may take file-system locks: the areas are copied first, and printed with no lock held.
        let mut areas: Vec<Vma<Area>> = Vec::new();
        let mut residents: Vec<Resident> = Vec::new();
        let (layout, brk) = {
            let inner = self.lock();
            let count = inner.map.count();
            areas.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
            areas.extend(inner.map.iter().cloned());
            if smaps {
                residents.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
                residents.extend(areas.iter().map(|area| Resident::of(&inner, area)));
            }
            (inner.layout, inner.brk)
        };
        let mut out = Text::new();
        let mut line = Line::new();
        for (index, area) in areas.iter().enumerate() {
            put_area(&mut out, line.clear(), area, &layout, brk);
            if let Some(resident) = residents.get(index) {
                resident.print(area, &mut out);
            }
        }
        out.finish()
    }
}

/// One line of /proc/PID/maps; `line` is room for what stands before the name.
fn put_area(out: &mut Text, line: &mut Line<128>, area: &Vma<Area>, layout: &Layout, brk: u64) {
    let data = &area.data;
    let letter = |right, letter| if data.prot.contains(right) { letter } else { b'-' };
    let shown = data.object().and_then(|object| object.observer()).and_then(|observer| observer.name());
    let (dev, ino) = match data.file.as_ref() {
        Some(file) => file.identity(),
        None if shown.is_some() => (1, shown.as_ref().map_or(0, |shown| shown.1)),
        None => (0, data.object().filter(|_| data.name.is_none()).map_or(0, |object| object.id())),
    };
    let rights = [
        b' ',
        letter(Prot::READ, b'r'),
        letter(Prot::WRITE, b'w'),
        letter(Prot::EXEC, b'x'),
        if data.is_shared() && data.name.is_none() { b's' } else { b'p' },
        b' ',
    ];
    let offset = if data.attachment.is_some() && data.name.is_none() { data.offset } else { 0 };
    let start = out.len();
    line.hexadecimal(area.start, 8).byte(b'-').hexadecimal(area.end, 8).put(&rights).hexadecimal(offset, 8).byte(b' ');
    line.hexadecimal(dev >> 8 & 0xfff, 2).byte(b':').hexadecimal(dev & 0xff, 2).byte(b' ').decimal(ino).byte(b' ');
    let is_named = data.name.is_some() || data.attachment.is_some() || data.file.is_some();
    let is_stack = layout.stack_top > area.start && layout.stack_top <= area.end;
    let is_heap = area.start < brk && area.end > layout.brk_start;
    if !is_named && !is_stack && !is_heap {
        out.put(line.byte(b'\n').as_bytes());
        return;
    }
    out.put(line.as_bytes());
    let name = |out: &mut Text, name: &[u8]| {
        out.pad(start, 73).put(name);
    };
    if let Some(special) = data.name {
        name(out, special.as_bytes());
    } else if let Some(file) = &data.file {
        name(out, file.shown_name().as_bytes());
    } else if let Some((object, _)) = shown {
        name(out, object.as_bytes());
    } else if data.attachment.is_some() {
        name(out, b"/dev/zero (deleted)");
    } else if is_stack {
        name(out, b"[stack]");
    } else {
        name(out, b"[heap]");
    }
    out.put(b"\n");
}

/// "Name:       value kB" with the value's last digit in the 24th column.
fn put_row(out: &mut Text, name: &str, value: u64) {
    let start = out.len();
    let mut number: Line<20> = Line::new();
    let digits = number.decimal(value).as_bytes();
    out.put(name.as_bytes()).put(b":").pad(start, 24 - digits.len()).put(digits).put(b" kB\n");
}

/// What smaps says of one area, in pages.
#[derive(Default)]
struct Resident {
    resident: u64,
    shared: u64,
    /// Of the shared ones those that are only in memory: written, or anonymous.
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    anonymous: u64,
}

impl Resident {
    fn of(inner: &Inner, area: &Vma<Area>) -> Self {
        let mut sum = Self::default();
        inner.table.for_each(area.range(), &mut |_, frame, flags| {
            if frame.is_zero_page() {
                return;
            }
            sum.resident += 1;
            let own = frame.ref_count() <= 1;
            if !own && (flags.dirty || area.data.attachment.is_none()) {
                sum.shared_dirty += 1;
            }
            match (own, flags.dirty) {
                (false, _) => sum.shared += 1,
                (true, true) => sum.private_dirty += 1,
                (true, false) => sum.private_clean += 1,
            }
            if area.data.attachment.is_none() || own {
                sum.anonymous += 1;
            }
        });
        sum
    }

    fn print(&self, area: &Vma<Area>, out: &mut Text) {
        let kib = |pages: u64| pages * 4;
        let locked = if area.data.flags.contains(AreaFlags::LOCKED) { kib(self.resident) } else { 0 };
        let rows = [
            ("Size", area.len() / 1024),
            ("KernelPageSize", 4),
            ("MMUPageSize", 4),
            ("Rss", kib(self.resident)),
            ("Pss", kib(self.resident - self.shared) + kib(self.shared) / 2),
            ("Shared_Clean", kib(self.shared - self.shared_dirty)),
            ("Shared_Dirty", kib(self.shared_dirty)),
            ("Private_Clean", kib(self.private_clean)),
            ("Private_Dirty", kib(self.private_dirty)),
            ("Referenced", kib(self.resident)),
            ("Anonymous", kib(self.anonymous)),
            ("LazyFree", 0),
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", locked),
        ];
        for (name, value) in rows {
            put_row(out, name, value);
        }
        out.put(b"THPeligible:           0\n");
        let flags = [
            (area.data.prot.contains(Prot::READ), "rd"),
            (area.data.prot.contains(Prot::WRITE), "wr"),
            (area.data.prot.contains(Prot::EXEC), "ex"),
            (area.data.is_shared(), "sh"),
            (area.data.flags.contains(AreaFlags::MAY_READ), "mr"),
            (area.data.flags.contains(AreaFlags::MAY_WRITE), "mw"),
            (area.data.flags.contains(AreaFlags::MAY_EXEC), "me"),
            (area.data.is_stack(), "gd"),
            (area.data.flags.contains(AreaFlags::LOCKED), "lo"),
            (area.data.flags.contains(AreaFlags::DONT_FORK), "dc"),
            (area.data.flags.contains(AreaFlags::WIPE_ON_FORK), "wf"),
            (area.data.flags.contains(AreaFlags::NO_RESERVE), "nr"),
            (area.data.flags.contains(AreaFlags::COMMITTED), "ac"),
        ];
        out.put(b"VmFlags:");
        for (_, name) in flags.iter().filter(|(on, _)| *on) {
            out.put(b" ").put(name.as_bytes());
        }
        out.put(b" \n");
    }
}
