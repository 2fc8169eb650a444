//! The ELF load plan: what execve(2) maps where, from a program's first page.
//!
//! `xmas-elf` reads the headers only after everything it would trip over was checked here: magic, class, byte order, machine,
//! header sizes, the table's place, counts. All arithmetic on values of the file is checked; a hostile file is ENOEXEC.

use crate::addr::{PAGE_SIZE, USER_END, page_down, page_up};
use crate::errno::Errno;
use alloc::vec::Vec;
use xmas_elf::ElfFile;
use xmas_elf::header::Type as HeaderType;
use xmas_elf::program::{ProgramHeader, Type};

/// The most program headers looked at.
pub const MAX_HEADERS: usize = 64;
const EHDR_BYTES: usize = 64;
const PHDR_BYTES: usize = 56;
const EM_AARCH64: u16 = 183;

/// A page-sized, aligned copy of a file's beginning (xmas-elf wants alignment).
#[repr(align(16))]
pub struct HeaderPage(pub [u8; PAGE_SIZE]);

impl Default for HeaderPage {
    fn default() -> Self {
        Self([0; PAGE_SIZE])
    }
}

/// One PT_LOAD segment. Addresses are relative to the load bias; `vaddr` and `offset` agree modulo the page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub vaddr: u64,
    pub offset: u64,
    pub file_bytes: u64,
    pub memory_bytes: u64,
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadPlan {
    pub entry: u64,
    /// ET_DYN: goes anywhere.
    pub relocatable: bool,
    /// In ascending, disjoint page order.
    pub segments: Vec<Segment>,
    /// File range of the interpreter's path, its NUL included.
    pub interpreter: Option<(u64, usize)>,
    /// Address of the program headers in memory (before the bias), if a segment holds them.
    pub headers_at: u64,
    pub nr_headers: usize,
    pub executable_stack: bool,
    /// Whole pages from the first to the last segment.
    pub start: u64,
    pub end: u64,
    /// Largest segment alignment, at least a page.
    pub align: u64,
}

fn u16_at(page: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(page.get(at..at + 2)?.try_into().ok()?))
}

fn u64_at(page: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?))
}

/// Everything that would make `ElfFile` panic or read astray.
fn validate(page: &[u8]) -> Option<()> {
    let identity = page.get(..16)?;
    let header = identity.starts_with(b"\x7fELF") && identity[4] == 2 && identity[5] == 1 && identity[6] == 1;
    let kind = u16_at(page, 16)?;
    let machine = u16_at(page, 18)?;
    let table = u64_at(page, 32)?;
    let header_bytes = u16_at(page, 52)?;
    let entry_bytes = u16_at(page, 54)?;
    let count = u16_at(page, 56)? as usize;
    let table_end = table.checked_add(count as u64 * PHDR_BYTES as u64)?;
    let fine = header
        && (kind == 2 || kind == 3)
        && machine == EM_AARCH64
        && header_bytes as usize == EHDR_BYTES
        && entry_bytes as usize == PHDR_BYTES
        && (1..=MAX_HEADERS).contains(&count)
        && table % 8 == 0
        && table_end <= page.len() as u64;
    fine.then_some(())
}

/// Reads a program's first page (`len` bytes of it are the file's): ENOEXEC for anything that is not a loadable arm64 ELF.
pub fn plan(page: &HeaderPage, len: usize) -> Result<LoadPlan, Errno> {
    let page = &page.0[..len.min(PAGE_SIZE)];
    try_plan(page).ok_or(Errno::ENOEXEC)
}

fn try_plan(page: &[u8]) -> Option<LoadPlan> {
    if page.len() < EHDR_BYTES {
        return None;
    }
    validate(page)?;
    let elf = ElfFile::new(page).ok()?;
    let mut plan = LoadPlan {
        entry: elf.header.pt2.entry_point(),
        relocatable: matches!(elf.header.pt2.type_().as_type(), HeaderType::SharedObject),
        segments: Vec::new(),
        interpreter: None,
        headers_at: 0,
        nr_headers: elf.header.pt2.ph_count() as usize,
        // Without PT_GNU_STACK the stack is not executable here, as on arm64 Linux.
        executable_stack: false,
        start: u64::MAX,
        end: 0,
        align: PAGE_SIZE as u64,
    };
    let table = elf.header.pt2.ph_offset();
    for header in elf.program_iter() {
        match header.get_type() {
            Ok(Type::Load) => add_segment(&mut plan, &header, table)?,
            Ok(Type::Interp) => {
                let len = usize::try_from(header.file_size()).ok().filter(|len| (2..=4096).contains(len))?;
                header.offset().checked_add(len as u64)?;
                plan.interpreter.get_or_insert((header.offset(), len));
            }
            // PT_GNU_STACK
            Ok(Type::OsSpecific(0x6474_e551)) => plan.executable_stack = header.flags().is_execute(),
            _ => {}
        }
    }
    (!plan.segments.is_empty()).then_some(plan)
}

fn add_segment(plan: &mut LoadPlan, header: &ProgramHeader<'_>, table: u64) -> Option<()> {
    const PAGE: u64 = PAGE_SIZE as u64;
    let (vaddr, offset) = (header.virtual_addr(), header.offset());
    let (file_bytes, memory_bytes) = (header.file_size(), header.mem_size());
    if memory_bytes == 0 {
        return Some(());
    }
    let end = page_up(vaddr.checked_add(memory_bytes)?)?;
    let fits = file_bytes <= memory_bytes
        && vaddr % PAGE == offset % PAGE
        && end <= USER_END
        && offset.checked_add(file_bytes)? <= i64::MAX as u64
        && page_down(vaddr) >= plan.end;
    if !fits {
        return None;
    }
    if header.align() > PAGE && header.align().is_power_of_two() && header.align() <= 1 << 30 {
        plan.align = plan.align.max(header.align());
    }
    if table >= offset && table < offset + file_bytes {
        plan.headers_at = table - offset + vaddr;
    }
    plan.start = plan.start.min(page_down(vaddr));
    plan.end = end;
    let flags = header.flags();
    plan.segments.push(Segment {
        vaddr,
        offset,
        file_bytes,
        memory_bytes,
        read: flags.is_read(),
        write: flags.is_write(),
        execute: flags.is_execute(),
    });
    Some(())
}

/// A `#!` line: interpreter path and its one optional argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script<'a> {
    pub interpreter: &'a [u8],
    pub argument: Option<&'a [u8]>,
}

/// Bytes of the file that may hold the `#!` line.
const SCRIPT_BYTES: usize = 256;

/// Parses a `#!` line: `None` when the file does not begin with one, ENOEXEC when it is cut off or empty.
pub fn script(file: &[u8]) -> Option<Result<Script<'_>, Errno>> {
    let line = file.strip_prefix(b"#!")?;
    let line = &line[..line.len().min(SCRIPT_BYTES - 2)];
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let (text, whole) = match line.iter().position(|&b| b == b'\n' || b == 0) {
        Some(end) => (&line[..end], true),
        None => (line, file.len() < SCRIPT_BYTES),
    };
    let start = text.iter().position(|b| !blank(b));
    let Some(start) = start else { return Some(Err(Errno::ENOEXEC)) };
    let text = &text[start..];
    let end = text.iter().position(blank);
    if end.is_none() && !whole {
        // The interpreter's path itself is cut off.
        return Some(Err(Errno::ENOEXEC));
    }
    let (interpreter, rest) = text.split_at(end.unwrap_or(text.len()));
    let first = rest.iter().position(|b| !blank(b));
    let argument = first.map(|first| {
        let last = rest.iter().rposition(|b| !blank(b)).unwrap_or(first);
        &rest[first..=last]
    });
    Some(Ok(Script { interpreter, argument }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phdr(kind: u32, flags: u32, offset: u64, vaddr: u64, file: u64, memory: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(kind.to_le_bytes());
        out.extend(flags.to_le_bytes());
        for value in [offset, vaddr, vaddr, file, memory, 0x10000] {
            out.extend(value.to_le_bytes());
        }
        out
    }

    fn sample() -> (HeaderPage, usize) {
        let headers = [
            phdr(1, 5, 0, 0x40_0000, 0x1234, 0x1234),
            phdr(1, 6, 0x2000, 0x41_2000, 0x100, 0x900),
            phdr(3, 4, 0x200, 0x40_0200, 0x1b, 0x1b),
            phdr(0x6474_e551, 6, 0, 0, 0, 0),
        ];
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(2u16.to_le_bytes());
        file.extend(183u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0x40_0400u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for value in [64u16, 56, headers.len() as u16, 64, 0, 0] {
            file.extend(value.to_le_bytes());
        }
        for header in headers {
            file.extend(header);
        }
        let mut page = HeaderPage::default();
        page.0[..file.len()].copy_from_slice(&file);
        (page, PAGE_SIZE)
    }

    #[test]
    fn a_plain_program_is_planned() {
        let (page, len) = sample();
        let plan = plan(&page, len).unwrap();
        assert_eq!(plan.entry, 0x40_0400);
        assert!(!plan.relocatable && !plan.executable_stack);
        assert_eq!(plan.segments.len(), 2);
        assert_eq!(plan.headers_at, 0x40_0040);
        assert_eq!((plan.start, plan.end), (0x40_0000, 0x41_3000));
        assert_eq!(plan.interpreter, Some((0x200, 0x1b)));
        assert_eq!(plan.align, 0x10000);
    }

    #[test]
    fn foreign_machines_and_classes_are_refused() {
        for (at, value) in [(0, 0), (4, 1), (5, 2), (16, 1), (18, 62), (54, 32), (56, 0)] {
            let (mut page, len) = sample();
            page.0[at] = value;
            assert_eq!(plan(&page, len), Err(Errno::ENOEXEC), "byte {at}");
        }
    }

    #[test]
    fn scripts_name_interpreter_and_one_argument() {
        let parsed = script(b"#! /bin/sh  -e x \nrest").unwrap().unwrap();
        assert_eq!(parsed, Script { interpreter: b"/bin/sh", argument: Some(b"-e x") });
        assert_eq!(script(b"#!/bin/sh").unwrap().unwrap().argument, None);
        assert_eq!(script(b"#!  \n"), Some(Err(Errno::ENOEXEC)));
        assert_eq!(script(b"plain"), None);
        let long = [b"#!/".as_slice(), &[b'a'; 300]].concat();
        assert_eq!(script(&long), Some(Err(Errno::ENOEXEC)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn no_mutation_panics(edits in proptest::collection::vec((0usize..400, any::<u8>()), 1..12), len in 0usize..=PAGE_SIZE) {
            let (mut page, _) = sample();
            for (at, value) in edits {
                page.0[at] = value;
            }
            let _ = plan(&page, len);
            let _ = script(&page.0[..len]);
        }
    }
}
