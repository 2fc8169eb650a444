//! Kernel ELF to bootable Image: the flat binary, with the symbol table in the room the kernel keeps for it.
//!
//! The table's form stands with its reader, in the kernel's `base::symbols`.

use anyhow::{Context, Result, bail, ensure};
use base::symbols::{BLOCK, MAGIC, NAME_BYTES};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};
use std::fs;
use std::path::Path;

/// A demangled name without its hash, cut to what the table keeps.
fn shorten(name: &str) -> String {
    let mut short = format!("{:#}", rustc_demangle::demangle(name));
    if short.len() > NAME_BYTES {
        let mut end = NAME_BYTES;
        while !short.is_char_boundary(end) {
            end -= 1;
        }
        short.truncate(end);
    }
    short
}

/// How many bytes, up to a whole character, two names begin with alike.
fn shared(one: &str, other: &str) -> usize {
    let alike = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    (0..=alike).rev().find(|&at| other.is_char_boundary(at) && one.is_char_boundary(at)).unwrap_or(0)
}

/// The table of functions by rising offset.
fn encode(functions: &[(u32, String)]) -> Vec<u8> {
    let mut names: Vec<&str> = functions.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut table = Vec::new();
    for number in [MAGIC, functions.len() as u32, names.len() as u32] {
        table.extend(number.to_le_bytes());
    }
    for (offset, _) in functions {
        table.extend(offset.to_le_bytes());
    }
    for (_, name) in functions {
        let number = names.binary_search(&name.as_str()).unwrap_or_default();
        table.extend((number as u16).to_le_bytes());
    }
    table.resize(table.len().next_multiple_of(4), 0);
    let mut at = table.len() + names.len().div_ceil(BLOCK) * 4;
    let mut bytes = Vec::new();
    for block in names.chunks(BLOCK) {
        table.extend((at as u32).to_le_bytes());
        let before = bytes.len();
        let mut last = "";
        for name in block {
            let alike = shared(last, name);
            bytes.extend([alike as u8, (name.len() - alike) as u8]);
            bytes.extend(&name.as_bytes()[alike..]);
            last = name;
        }
        at += bytes.len() - before;
    }
    table.extend(bytes);
    table
}

/// Builds the table; shortens names and then drops functions from the end when there is no room.
fn symbol_table(mut functions: Vec<(u32, String)>, room: usize) -> Vec<u8> {
    functions.sort();
    functions.dedup_by_key(|(offset, _)| *offset);
    functions.truncate(usize::from(u16::MAX));
    loop {
        let table = encode(&functions);
        if table.len() <= room {
            return table;
        }
        // The longest names are generic instances: shorten them first.
        let longest = functions.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
        if longest <= 16 {
            functions.truncate(functions.len() * 9 / 10);
            continue;
        }
        let limit = longest * 3 / 4;
        for (_, name) in &mut functions {
            while name.len() > limit {
                name.pop();
            }
        }
    }
}

pub fn convert(kernel: &Path, output: &Path) -> Result<()> {
    let data = fs::read(kernel).with_context(|| kernel.display().to_string())?;
    let elf = object::File::parse(&*data).context("the kernel is not an ELF file")?;
    let symbol = |name: &str| elf.symbols().find(|symbol| symbol.name() == Ok(name)).map(|symbol| symbol.address());
    let start = symbol("__kernel_start").context("no __kernel_start in the kernel")?;
    let mut image = Vec::new();
    for section in elf.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        let allocated = sh_flags & u64::from(object::elf::SHF_ALLOC) != 0;
        let content = section.data()?;
        if !allocated || content.is_empty() {
            continue;
        }
        let at = section.address().checked_sub(start).context("a section below the kernel's start")? as usize;
        ensure!(at < 64 << 20, "a section far from the kernel's start");
        if image.len() < at + content.len() {
            image.resize(at + content.len(), 0);
        }
        image[at..at + content.len()].copy_from_slice(content);
    }
    if let (Some(from), Some(to)) = (symbol("__ksyms_start"), symbol("__ksyms_end")) {
        let functions = elf
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.address() >= start)
            .filter_map(|symbol| Some(((symbol.address() - start) as u32, shorten(symbol.name().ok()?))))
            .collect();
        let (from, to) = ((from - start) as usize, (to - start) as usize);
        let table = symbol_table(functions, to - from);
        image
            .get_mut(from..from + table.len())
            .context("the symbol room is outside the image")?
            .copy_from_slice(&table);
    }
    if image.get(56..60) != Some(b"ARM\x64") {
        bail!("{} has no arm64 Image header", kernel.display());
    }
    fs::write(output, image).with_context(|| output.display().to_string())
}

/// Marks an archive behind the kernel; the length and the bytes follow (see the kernel's boot/tree.rs).
const ARCHIVE_MAGIC: &[u8; 8] = b"CRANROOT";
/// Where an Image's header has the bytes of memory it takes.
const IMAGE_SIZE: std::ops::Range<usize> = 16..24;

/// Kernel and initramfs in one Image: the archive stands behind the kernel's last page, and the header spans both.
pub fn with_archive(kernel: &[u8], archive: &[u8]) -> Result<Vec<u8>> {
    ensure!(kernel.get(56..60) == Some(b"ARM\x64"), "the kernel has no arm64 Image header");
    let size = u64::from_le_bytes(kernel[IMAGE_SIZE].try_into()?) as usize;
    ensure!(size >= kernel.len() && size < 64 << 20, "the kernel is a file of another kind");
    let mut image = kernel.to_vec();
    image.resize(size, 0);
    image.extend(ARCHIVE_MAGIC);
    image.extend((archive.len() as u64).to_le_bytes());
    image.extend(archive);
    let total = (image.len() as u64).next_multiple_of(4096);
    image[IMAGE_SIZE].copy_from_slice(&total.to_le_bytes());
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_goes_behind_the_kernel() {
        let mut kernel = vec![7; 5000];
        kernel[IMAGE_SIZE].copy_from_slice(&8192u64.to_le_bytes());
        assert!(with_archive(&kernel, b"x").is_err());
        kernel[56..60].copy_from_slice(b"ARM\x64");
        let image = with_archive(&kernel, b"archive").unwrap();
        assert_eq!(&image[8192..], b"CRANROOT\x07\0\0\0\0\0\0\0archive");
        assert_eq!(image[IMAGE_SIZE], 12288u64.to_le_bytes());
        assert!(with_archive(&image, b"again").is_err() || image.len() > 8192);
    }

    #[test]
    fn every_function_is_found_in_the_table() {
        let functions: Vec<_> =
            (0..500u32).map(|n| (n * 8 + 4, format!("kernel::{}::ünction{}", n % 7, n / 3))).rev().collect();
        let table = symbol_table(functions.clone(), 1 << 20);
        for (offset, name) in functions {
            let (found, into) = base::symbols::find(&table, offset + 5).unwrap();
            assert_eq!((found.as_str(), into), (name.as_str(), 5));
        }
        assert!(base::symbols::find(&table, 3).is_none());
    }

    #[test]
    fn the_table_fits_its_room() {
        let many: Vec<_> = (0..1000).map(|n| (n, format!("{}{n}", "x".repeat(n as usize % 60)))).collect();
        let table = symbol_table(many, 6_000);
        assert!(table.len() <= 6_000 && base::symbols::find(&table, 5).is_some());
    }
}
