//! The host tool: builds images and boots programs in them.

mod apt;
#[expect(dead_code, reason = "the SD card's builder comes next")]
mod boards;
mod cpio;
mod debs;
mod image;
mod program;
mod qemu;
mod recipe;
mod run;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status of the tool's own errors.
const TOOL_ERROR: u8 = 125;

#[derive(Parser)]
#[command(name = "crannog", version, about = "Builds and boots Crannog machines")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot one program and return its exit status
    #[command(args_override_self = true)]
    Run(run::Options),
    /// Pack kernel and root file system as a recipe says: OUT/Image and OUT/initramfs.cpio
    Build {
        recipe: PathBuf,
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Turn the kernel's ELF file into a bootable Image with its symbol table
    Image { kernel: PathBuf, output: PathBuf },
}

fn dispatch(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Run(options) => run::run(options),
        Command::Build { recipe, output } => recipe::build(&recipe, &output).map(|()| 0),
        Command::Image { kernel, output } => image::convert(&kernel, &output).map(|()| 0),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { TOOL_ERROR } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("crannog: {error:#}");
            ExitCode::from(TOOL_ERROR)
        }
    }
}
