//! What /proc shows of an address space: maps, smaps, statm numbers.

use super::area::{Area, AreaFlags};
use super::space::{AddressSpace, Inner, Prot};
use crate::prelude::*;
use base::vma::Vma;
use core::fmt::Write;
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
        for area in inner.map.areas().iter().filter(|area| area.data.attachment.is_some()) {
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

    /// /proc/PID/maps text; with `smaps` also what each area holds.
    pub fn format_maps(&self, smaps: bool) -> Result<String, Errno> {
        // Names may take file-system locks: the areas are copied first, and printed with no lock held.
        let (areas, layout, brk, residents) = {
            let inner = self.lock();
            let mut areas: Vec<Vma<Area>> = Vec::new();
            areas.try_append_slice(inner.map.areas())?;
            let residents: Vec<Resident> =
                if smaps { Vec::try_collect(areas.iter().map(|area| Resident::of(&inner, area)))? } else { Vec::new() };
            (areas, inner.layout, inner.brk, residents)
        };
        let mut out = String::new();
        for (index, area) in areas.iter().enumerate() {
            // As much as an area's lines may take.
            const MOST: usize = 4096 + 1024;
            if out.capacity() - out.len() < MOST {
                admit(2 * out.len() + MOST)?;
                out.try_reserve(MOST).map_err(|_| Errno::ENOMEM)?;
            }
            let data = &area.data;
            let letter = |right, letter| if data.prot.contains(right) { letter } else { '-' };
            let shown = data.object().and_then(|object| object.observer()).and_then(|observer| observer.name());
            let (dev, ino) = match data.file.as_ref() {
                Some(file) => file.identity(),
                None if shown.is_some() => (1, shown.as_ref().map_or(0, |shown| shown.1)),
                None => (0, data.object().filter(|_| data.name.is_none()).map_or(0, |object| object.id())),
            };
            let offset = if data.attachment.is_some() && data.name.is_none() { data.offset } else { 0 };
            let mut line = String::new();
            let _ = write!(
                line,
                "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
                area.start,
                area.end,
                letter(Prot::READ, 'r'),
                letter(Prot::WRITE, 'w'),
                letter(Prot::EXEC, 'x'),
                if data.is_shared() && data.name.is_none() { 's' } else { 'p' },
                offset,
                dev >> 8 & 0xfff,
                dev & 0xff,
                ino
            );
            let name: Option<String> = if let Some(name) = data.name {
                Some(name.into())
            } else if let Some(file) = &data.file {
                Some(file.shown_name())
            } else if let Some((name, _)) = shown {
                Some(name)
            } else if data.attachment.is_some() {
                Some("/dev/zero (deleted)".into())
            } else if layout.stack_top > area.start && layout.stack_top <= area.end {
                Some("[stack]".into())
            } else if area.start < brk && area.end > layout.brk_start {
                Some("[heap]".into())
            } else {
                None
            };
            match name {
                Some(name) => {
                    let _ = writeln!(out, "{line:<72} {name}");
                }
                None => {
                    let _ = writeln!(out, "{line}");
                }
            }
            if let Some(resident) = residents.get(index) {
                resident.print(area, &mut out);
            }
        }
        Ok(out)
    }
}

/// "Name:       value kB" with the value's last digit in the 24th column: by hand, as there are twenty of them for each area.
fn put_row(out: &mut String, name: &str, value: u64) {
    const SPACES: &str = "                       ";
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &digits[at..];
    out.push_str(name);
    out.push(':');
    out.push_str(SPACES.get(name.len() + digits.len()..).unwrap_or(" "));
    out.push_str(core::str::from_utf8(digits).unwrap_or("0"));
    out.push_str(" kB\n");
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

    fn print(&self, area: &Vma<Area>, out: &mut String) {
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
        out.push_str("THPeligible:           0\n");
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
        out.push_str("VmFlags:");
        for (_, name) in flags.iter().filter(|(on, _)| *on) {
            out.push(' ');
            out.push_str(name);
        }
        out.push_str(" \n");
    }
}
