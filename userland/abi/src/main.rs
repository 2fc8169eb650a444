//! ABI tests: each runs in a process of its own, first on Linux (the oracle), then on Crannog.
//!
//! `abi [-l] [-1] [-f] [FILTER...]`: runs the tests whose names contain a filter (all without one); `-l` lists, `-1` runs without
//! forking, `-f` lets the kernel refuse them memory for no reason (failslab= on its command line).
//! As pid 1 it mounts what tests need, runs everything and powers the machine off. A family is a module with a `TESTS` table; a
//! test panics to fail.

mod deadlock;
mod exec;
mod exhaust;
mod file;
mod fp;
mod fs;
mod futex;
mod harness;
mod inet;
mod membarrier;
mod mm;
mod mq;
mod netlink;
mod process;
mod sched;
mod security;
mod shm;
mod signal;
mod storm;
mod stress;
mod sysv;
mod time;
mod timers;
mod unix;
mod unshare;
mod wild;

fn main() {
    if let Some(code) = process::helper().or_else(exec::helper).or_else(storm::helper).or_else(security::helper) {
        std::process::exit(code);
    }
    let families: &[(&str, harness::Tests)] = &[
        ("deadlock", deadlock::TESTS),
        ("exec", exec::TESTS),
        ("exhaust", exhaust::TESTS),
        ("file", file::TESTS),
        ("fp", fp::TESTS),
        ("fs", fs::TESTS),
        ("futex", futex::TESTS),
        ("inet", inet::TESTS),
        ("membarrier", membarrier::TESTS),
        ("mm", mm::TESTS),
        ("process", process::TESTS),
        ("mq", mq::TESTS),
        ("netlink", netlink::TESTS),
        ("sched", sched::TESTS),
        ("security", security::TESTS),
        ("shm", shm::TESTS),
        ("signal", signal::TESTS),
        ("storm", storm::TESTS),
        ("stress", stress::TESTS),
        ("sysv", sysv::TESTS),
        ("time", time::TESTS),
        ("timers", timers::TESTS),
        ("unix", unix::TESTS),
        ("unshare", unshare::TESTS),
        ("wild", wild::TESTS),
    ];
    harness::main(families);
}
