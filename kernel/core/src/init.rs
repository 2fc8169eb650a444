//! The order of bring-up, readable as a list.

use crate::command_line::{option, words};
use crate::fs::tmpfs::TmpFs;
use crate::fs::types::FsType;
use crate::ipc::futex;
use crate::irq;
use crate::log;
use crate::prelude::*;
use crate::process::timers;
use crate::syscall::{run, trace};
use crate::vfs;
use crate::{fs, machine, observe, process, sched, time};
use hal::trap::{Access, Hooks};

struct KernelHooks;

impl Hooks for KernelHooks {
    fn irq(&self) {
        irq::handle_irq();
    }
    fn user_copy_fault(&self, addr: UserAddr, access: Access) -> bool {
        run::user_copy_fault(addr, access)
    }
    fn heap_charged(&self, bytes: i64, pressure: hal::frame::Pressure) {
        crate::mm::oom::charge(bytes, pressure);
    }
    fn secondary_main(&self, _cpu: usize) -> ! {
        irq::init_cpu();
        sched::adopt_idle(process::new_idle_task);
        sched::run_idle()
    }
}

/// Who hears that CLOCK_REALTIME was set.
const CLOCK_LISTENERS: &[fn()] =
    &[timers::vdso::clock_was_set, timers::alarm::clock_was_set, crate::file::timerfd::clock_was_set];

/// What is done at the turns of a thread's life.
const THREAD_HOOKS: process::hooks::Hooks = process::hooks::Hooks {
    run_user_thread: run::enter,
    cloned: trace::inherit,
    before_exec: futex::pass_on_pi_locks,
    exec: |task| {
        futex::exit_robust_list();
        futex::begin_anew(task);
    },
    thread_ends: |status| {
        trace::ended(u64::from(status));
        futex::exit_robust_list();
    },
    memory_is_gone: crate::ipc::on_exit,
    word_cleared: |word| futex::wake(word, 1),
    session_leader_ended: crate::file::tty::session_leader_exits,
    restart_syscall: crate::syscall::number::RESTART_SYSCALL,
    power_off: || {
        fs::sync::shutdown();
        machine::console::flush();
    },
};

/// What mount(2) knows, in the order of /proc/filesystems.
const FILE_SYSTEMS: &[FsType] = &[
    FsType { name: "sysfs", instance: |_| Ok(observe::sysfs::instance()) },
    FsType { name: "tmpfs", instance: |options| Ok(TmpFs::new("tmpfs", options)?) },
    FsType { name: "ramfs", instance: |options| Ok(TmpFs::new("tmpfs", options)?) },
    FsType { name: "proc", instance: |options| Ok(observe::proc::ProcFs::new(options)?) },
    FsType { name: "devtmpfs", instance: |_| fs::devfs::instance() },
    FsType { name: "devpts", instance: |_| Ok(fs::devpts::DevPts::instance()) },
    FsType { name: "mqueue", instance: |_| Ok(crate::ipc::mq::fs::MqueueFs::instance()) },
];

/// Called by `hal` on the boot CPU: MMU on, heap ready, IRQs masked, on the boot stack.
pub fn kernel_main() -> ! {
    hal::trap::set_hooks(&KernelHooks);
    process::hooks::set(&THREAD_HOOKS);
    fs::types::set(FILE_SYSTEMS);
    crate::mm::oom::set_killer(process::oom::kill_one);
    observe::proc::trace::set_files(trace::calls, trace::open);
    base::heap::set_judge(crate::mm::oom::judge);
    crate::mm::failslab::init();
    read_log_level();
    machine::init();
    time::init(machine::rtc_seconds(), CLOCK_LISTENERS);
    sched::adopt_idle(process::new_idle_task);
    process::start_init_task(finish_boot);
    observe::deadlock::start();
    machine::led::start();
    sched::load::start();
    let missing = hal::smp::start_secondaries(max_cpus());
    if missing > 0 {
        crate::warn!("{missing} CPUs did not come up in time: going on without them");
    }
    sched::run_idle()
}

/// The rest of boot, where sleeping is allowed.
fn finish_boot() {
    banner();
    machine::entropy::seed();
    crate::file::tty::init();
    crate::net::init();
    machine::attach_net();
    machine::attach_disks();
    process::spawn_kernel_thread("writeback", crate::mm::object::writeback::run);
    if let Some(name) = crate::net::inet::config::host_name() {
        crate::task::uts::set_host_name(name.bytes().take(64).collect());
    }
    if let Err(errno) = fs::init() {
        panic!("cannot set up the root file system: {errno}");
    }
    open_console();
    let errno = run_init();
    match fs::initramfs::trouble() {
        Some(trouble) => panic!("no init could be run: {errno}; initramfs: {trouble}"),
        None => panic!("no init could be run: {errno} (see init= and rdinit= on the command line)"),
    }
}

fn read_log_level() {
    if words().any(|word| word == "quiet") {
        log::set_console_level(4);
    }
    if let Some(level) = option("loglevel").and_then(|level| level.parse().ok()) {
        log::set_console_level(level);
    }
}

fn max_cpus() -> usize {
    if words().any(|word| word == "nosmp") {
        return 1;
    }
    option("maxcpus").and_then(|count| count.parse().ok()).unwrap_or(hal::cpu::MAX_CPUS).max(1)
}

fn banner() {
    let info = hal::boot::info();
    let stats = hal::frame::stats();
    let ticks = hal::time::ticks().wrapping_sub(info.entry_ticks);
    let text = alloc::format!(
        "Crannog {} on {} x {}, {} MiB of memory ({} MiB free), up in {} us",
        env!("CARGO_PKG_VERSION"),
        hal::cpu::online(),
        hal::cpu::model_name(hal::cpu::midr(0)),
        info.memory_bytes >> 20,
        stats.free >> 8,
        hal::time::ticks_to_ns(ticks) / 1000,
    );
    crate::info!("{text}");
    // For people at the console, when the command line asks for it.
    if words().any(|word| word == "banner") {
        hal::early::write(text.as_bytes());
        hal::early::write(b"\r\n");
    }
}

/// Words that the kernel itself understands; other `name=value` words go to init's environment, other plain words before
/// `--` to its arguments, as on Linux.
const OWN_OPTIONS: &[&str] = &[
    "console",
    "init",
    "rdinit",
    "root",
    "rootfstype",
    "rootflags",
    "ip",
    "loglevel",
    "maxcpus",
    "mem",
    "panic",
    "log",
    "clock",
    "failslab",
    "earlycon",
    // Of no use here, and in many command lines.
    "isolcpus",
    "reboot",
    "swiotlb",
    "pci",
    "random",
];
const OWN_FLAGS: &[&str] =
    &["quiet", "ro", "rw", "semihosting", "nokaslr", "debug", "earlycon", "banner", "nosmp", "rootwait"];

/// Runs the first program as pid 1 and names what was looked for when there is none.
pub fn run_init() -> Errno {
    let cmdline = hal::boot::info().cmdline;
    let mut args: Vec<&str> = Vec::new();
    let mut env: Vec<&str> =
        vec!["HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    for word in words() {
        let name = word.split('=').next().unwrap_or(word);
        if word.contains('=') {
            if !OWN_OPTIONS.contains(&name) && !name.contains('.') {
                env.push(word);
            }
        } else if !OWN_FLAGS.contains(&word) {
            args.push(word);
        }
    }
    let unknown: Vec<&str> = args.iter().chain(&env[3..]).copied().collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(" ");
        crate::info!("Unknown kernel command line parameters \"{unknown}\", will be passed to user space.");
    }
    if option("isolcpus").is_some() {
        crate::info!("isolcpus= is ignored: every CPU runs what the scheduler gives it");
    }
    if let Some((_, rest)) = cmdline.split_once(" -- ") {
        args.extend(rest.split_ascii_whitespace());
    }
    let candidates: Vec<&str> = match option("rdinit").or_else(|| option("init")) {
        Some(path) => vec![path],
        None => vec!["/init", "/sbin/init", "/etc/init", "/bin/init", "/bin/sh"],
    };
    let mut last = Errno::ENOENT;
    for path in &candidates {
        let mut argv = vec![*path];
        argv.extend(&args);
        match process::exec::exec_init(path, &argv, &env) {
            Ok(context) => run::run(context),
            Err(errno) => {
                crate::error!("init: {path}: {errno}");
                last = errno;
            }
        }
    }
    last
}

/// Descriptors 0, 1 and 2 of pid 1.
fn open_console() {
    let task = current();
    drop(task.fs.replace(vfs::initial_context()));
    match vfs::open(vfs::AT_FDCWD, b"/dev/console", crate::vfs::OpenFlags::RDWR, 0) {
        Ok(file) => {
            for _ in 0..3 {
                let _ = crate::vfs::table::install(file.clone(), false);
            }
        }
        Err(errno) => crate::warn!("init: no /dev/console: {errno}"),
    }
}

use alloc::vec;
