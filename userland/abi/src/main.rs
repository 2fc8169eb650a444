//! ABI tests: each runs in a process of its own, first on Linux (the oracle), then on Crannog.
//!
//! `abi [-l] [-1] [FILTER...]`: runs the tests whose names contain a filter (all without one); `-l` lists, `-1` runs without forking.
//! As pid 1 it mounts what tests need, runs everything and powers the machine off. A family is a module with a `TESTS` table; a
//! test panics to fail.

mod file;
mod fs;
mod futex;
mod harness;
mod membarrier;
mod mm;
mod sched;
mod shm;
mod sysv;
mod time;

fn main() {
    let families: &[(&str, harness::Tests)] = &[
        ("file", file::TESTS),
        ("fs", fs::TESTS),
        ("futex", futex::TESTS),
        ("membarrier", membarrier::TESTS),
        ("mm", mm::TESTS),
        ("sched", sched::TESTS),
        ("time", time::TESTS),
        ("shm", shm::TESTS),
        ("sysv", sysv::TESTS),
    ];
    harness::main(families);
}
