//! Random scripts: what is read is what the model says, before and after a remount, and e2fsck finds nothing to say.

mod common;

use common::script::Runner;
use common::*;

pub const KINDS: [(&str, &[&str]); 6] = [
    ("1 KiB", &["-b", "1024"]),
    ("4 KiB, small groups", &["-b", "4096", "-J", "size=4", "-g", "1024", "-O", "^resize_inode"]),
    ("1.47.2", &["-b", "2048", "-O", "metadata_csum_seed,orphan_file"]),
    ("128-byte inodes", &["-b", "1024", "-I", "128"]),
    ("no checksums", &["-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"]),
    ("no journal", &["-b", "1024", "-O", "^has_journal"]),
];

fn run_script(what: &str, options: &[&str], seed: u64, steps: u32, full: bool) {
    let disk = MemDisk::new(mke2fs(16, options));
    let mut runner = Runner::new(&disk, seed);
    runner.full = full;
    let what = format!("{what}, seed {seed}");
    for step in 0..steps {
        if let Err(error) = runner.step() {
            panic!("{what}, step {step}: {}; {:?}; {:#?}", error.name(), disk.lines, runner.trace.last());
        }
        if step % 64 == 63 || std::env::var_os("EXT4_EACH").is_some() {
            let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner.check()));
            if ok.is_err() {
                panic!("{what}, step {step}: {:#?}", &runner.trace[runner.trace.len().saturating_sub(12)..]);
            }
        }
    }
    runner.check();
    runner.unmount().unwrap();
    assert!(disk.lines.lock().unwrap().is_empty(), "{what}: {:?}", disk.lines);
    assert_clean(&disk.image(), &what);
    runner.fs = Some(mount(&disk));
    runner.check();
    runner.unmount().unwrap();
}

#[test]
fn scripts_do_what_the_model_says() {
    let seeds = if is_long() { 100 } else { 6 };
    for (what, options) in KINDS {
        for seed in 0..seeds {
            run_script(what, options, seed, 300, false);
        }
    }
}
