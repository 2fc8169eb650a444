//! Kernel ELF to bootable Image: the flat binary, with the symbol table in the room the kernel keeps for it.
//!
//! The table: magic, count, pairs {offset from the kernel's start, name offset} in ascending order, NUL-terminated names; all
//! numbers 32-bit little endian.

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};
use std::fs;
use std::path::Path;

const MAGIC: u32 = 0x4b53_594d;
/// Bytes of a name that are kept.
const NAME_BYTES: usize = 80;

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

/// Builds the table; drops names from the end when there is no room, and says so.
fn symbol_table(mut functions: Vec<(u32, String)>, room: usize) -> Vec<u8> {
    functions.sort();
    functions.dedup_by_key(|(offset, _)| *offset);
    let size = |list: &[(u32, String)]| 8 + list.iter().map(|(_, name)| 8 + name.len() + 1).sum::<usize>();
    while size(&functions) > room {
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
    let mut table = Vec::new();
    table.extend(MAGIC.to_le_bytes());
    table.extend((functions.len() as u32).to_le_bytes());
    let mut at = 8 + functions.len() * 8;
    for (offset, name) in &functions {
        table.extend(offset.to_le_bytes());
        table.extend((at as u32).to_le_bytes());
        at += name.len() + 1;
    }
    for (_, name) in &functions {
        table.extend(name.bytes());
        table.push(0);
    }
    table
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
    fn the_table_is_sorted_and_fits() {
        let functions = vec![(64, String::from("second")), (4, String::from("first"))];
        let table = symbol_table(functions.clone(), 4096);
        assert_eq!(&table[8..12], &4u32.to_le_bytes());
        assert!(table.ends_with(b"first\0second\0"));
        let many: Vec<_> = (0..1000).map(|n| (n, "x".repeat(60))).collect();
        assert!(symbol_table(many, 20_000).len() <= 20_000);
    }
}
