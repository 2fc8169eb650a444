//! The host tool: builds images and boots programs in them.

mod apt;
mod boards;
mod card;
mod cpio;
mod debs;
mod disk;
mod flash;
mod image;
mod network;
mod program;
mod qemu;
mod recipe;
mod run;
mod scratch;
mod shape;
mod tar;
mod volume;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
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
    /// Pack kernel and root file system as a recipe says: OUT/Image and OUT/initramfs.cpio, or the card image OUT
    Build {
        recipe: PathBuf,
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// Kernel and root file system in one file OUT
        #[arg(long)]
        one_file: bool,
        /// What to build for
        #[arg(long, value_enum, default_value_t = Target::Virt)]
        target: Target,
        #[command(flatten)]
        card: card::Options,
    },
    /// Write a card image to a card, and read it back
    Flash(flash::Options),
    /// Look into a card image and check that a board can start from it
    Inspect(card::InspectOptions),
    /// Fetch Debian arm64 packages with what they depend on, and say where they are unpacked
    Packages {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Turn the kernel's ELF file into a bootable Image with its symbol table
    Image { kernel: PathBuf, output: PathBuf },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Target {
    /// A directory with kernel and initramfs for any boot loader
    Virt,
    /// A card image for the Raspberry Pi 3 and 4
    Rpi,
}

fn build(recipe: &Path, output: &Path, one_file: bool, target: Target, card: &card::Options) -> Result<()> {
    if target == Target::Rpi {
        if one_file {
            bail!("--one-file goes with --target virt");
        }
        return card::build(recipe, output, card);
    }
    if let Some(option) = card.given() {
        bail!("{option} goes with --target rpi");
    }
    if one_file { recipe::build_one_file(recipe, output) } else { recipe::build(recipe, output) }
}

fn dispatch(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Run(options) => run::run(options),
        Command::Build { recipe, output, one_file, target, card } => {
            build(&recipe, &output, one_file, target, &card).map(|()| 0)
        }
        Command::Flash(options) => flash::flash(&options),
        Command::Inspect(options) => card::inspect(&options).map(|()| 0),
        Command::Packages { names } => debs::tree(&names).map(|tree| {
            println!("{}", tree.display());
            0
        }),
        Command::Image { kernel, output } => image::convert(&kernel, &output).map(|()| 0),
    }
}

/// The first paragraph of clap's messages, as one line.
fn one_line(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
    format!("{} (crannog --help tells more)", words.join(" "))
}

fn main() -> ExitCode {
    // A reader that goes away ends the tool as it ends any other (run, which has a machine to end, sees to it itself).
    // SAFETY: nothing else of the process has been set up yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            if is_help || !error.use_stderr() {
                let _ = error.print();
                return ExitCode::from(if is_help { TOOL_ERROR } else { 0 });
            }
            eprintln!("crannog: {}", one_line(&error.render().to_string()));
            return ExitCode::from(TOOL_ERROR);
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
