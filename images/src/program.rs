//! Looking at the program to run: is it an arm64 Linux ELF, and what does it need?

use anyhow::{Context, Result, bail};
use object::Object;
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use std::fs;
use std::path::Path;

pub struct Program {
    pub data: Vec<u8>,
    /// The dynamic loader's path, for a dynamic program.
    pub interpreter: Option<String>,
    /// DT_NEEDED libraries.
    pub needed: Vec<String>,
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        elf::EM_X86_64 => "an x86-64",
        elf::EM_386 => "an x86",
        elf::EM_ARM => "a 32-bit Arm",
        elf::EM_RISCV => "a RISC-V",
        _ => "a foreign",
    }
}

/// Reads and checks a host program: one clear line for each way it can be wrong.
pub fn inspect(path: &Path) -> Result<Program> {
    let data = match fs::read(path) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{}: no such file", path.display()),
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    if data.starts_with(b"#!") {
        bail!("{}: a script: name its interpreter with --rootfs", path.display());
    }
    if !data.starts_with(b"\x7fELF") || data.len() < 20 {
        bail!("{}: not an ELF program", path.display());
    }
    let machine = u16::from_le_bytes([data[18], data[19]]);
    if machine != elf::EM_AARCH64 {
        bail!("{}: {} program; Crannog runs aarch64 programs", path.display(), machine_name(machine));
    }
    let (interpreter, needed) = {
        let file = ElfFile64::<object::Endianness>::parse(&*data)
            .with_context(|| format!("{}: a damaged ELF program", path.display()))?;
        let endian = file.endianness();
        let header = file.elf_header();
        let mut interpreter = None;
        let mut needed = Vec::new();
        for segment in header.program_headers(endian, &*data).context("damaged program headers")? {
            if let Ok(Some(bytes)) = segment.interpreter(endian, &*data) {
                interpreter = Some(String::from_utf8_lossy(bytes).into_owned());
            }
        }
        let sections = file.elf_section_table();
        if let Ok(Some((dynamics, strings))) = sections.dynamic(endian, &*data)
            && let Ok(strings) = sections.strings(endian, &*data, strings)
        {
            for entry in dynamics.iter().filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED)) {
                if let Ok(name) = entry.string(endian, strings) {
                    needed.push(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        if !matches!(file.kind(), object::ObjectKind::Executable | object::ObjectKind::Dynamic) {
            bail!("{}: an object file, not a program", path.display());
        }
        (interpreter, needed)
    };
    Ok(Program { data, interpreter, needed })
}
