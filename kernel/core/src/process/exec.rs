//! execve(2): from a path to a fresh address space and registers.
//!
//! Everything that can fail happens on a new address space; then comes the point of no return: sibling threads end, the new
//! space is installed, and what does not survive (handlers, close-on-exec files, FP state ...) goes.

use super::{exit, hooks, privilege};
use crate::mm::space::Layout;
use crate::mm::{AddressSpace, MapFlags, MemObject, Prot, aslr};
use crate::prelude::*;
use crate::process::signal;
use crate::process::timers::vdso;
use crate::sched;
use crate::sync::{WaitKind, WaitReason};
use crate::task::credentials;
use crate::task::process::{Rlimit, rlimit};
use crate::task::siginfo;
use crate::task::task::comm_bytes;
use crate::task::{Credentials, tree};
use crate::vfs;
use crate::vfs::OpenFile;
use arrayvec::ArrayVec;
use base::addr::{page_down, page_up};
use base::elf::{self, HeaderPage, LoadPlan};
use core::sync::atomic::Ordering;
use hal::trap::UserContext;
use zerocopy::IntoBytes;

const PAGE: u64 = PAGE_SIZE as u64;
/// The longest single argument or environment string, its NUL included (MAX_ARG_STRLEN).
pub const MAX_STRING: usize = 32 * PAGE_SIZE;
/// `#!` interpreters of interpreters, at most.
const MAX_SCRIPTS: usize = 5;

/// Arguments or environment: strings one behind the other, each with its NUL, as they will stand on the new stack.
#[derive(Default)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// Appends a string without its NUL: ENOMEM.
    pub fn push(&mut self, string: &[u8]) -> Result<(), Errno> {
        self.bytes.try_room(string.len() + 1)?;
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }
    /// Appends what `other` holds, but for its first string: ENOMEM.
    fn append_rest(&mut self, other: &Self) -> Result<(), Errno> {
        let first = other.iter().next().map_or(0, |first| first.len() + 1);
        self.bytes.try_append_slice(&other.bytes[first..])?;
        self.count += other.count.saturating_sub(1);
        Ok(())
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == 0).take(self.count)
    }
    /// Bytes on the new stack, pointers included.
    fn stack_bytes(&self) -> usize {
        self.bytes.len() + 8 * self.count
    }
}

/// A program to run: what execve(2) was given.
pub struct Request {
    pub file: Arc<OpenFile>,
    /// The path as given (AT_EXECFN).
    pub path: Vec<u8>,
    pub args: Strings,
    pub env: Strings,
    /// What a script's interpreter is told to open (`/dev/fd/N/...` for execveat); `None` when that file is close-on-exec.
    pub script_path: Option<Vec<u8>>,
}

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Reads up to a page from the start of `file`.
#[inline(never)]
fn read_header(file: &OpenFile) -> Result<(Box<HeaderPage>, usize), Errno> {
    let mut page = Box::<HeaderPage>::default();
    let mut len = 0;
    while len < PAGE_SIZE {
        match file.read_at(len as u64, &mut page.0[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok((page, len))
}

/// Follows `#!` lines until an ELF program is found.
fn resolve_scripts(request: &mut Request) -> Result<LoadPlan, Errno> {
    for _ in 0..=MAX_SCRIPTS {
        let (page, len) = read_header(&request.file)?;
        let Some(script) = elf::script(&page.0[..len]) else { return elf::plan(&page, len) };
        let script = script?;
        let path = request.script_path.clone().ok_or(Errno::ENOENT)?;
        let interpreter = script.interpreter.to_vec();
        let mut args = Strings::default();
        args.push(&interpreter)?;
        if let Some(argument) = script.argument {
            args.push(argument)?;
        }
        args.push(&path)?;
        args.append_rest(&request.args)?;
        request.args = args;
        request.file = vfs::open_exec(vfs::AT_FDCWD, &interpreter, 0)?;
        request.script_path = Some(interpreter);
    }
    Err(Errno::ELOOP)
}

/// RLIMIT_STACK / 4 bounds arguments and environment together (E2BIG), as on Linux.
fn check_size(request: &Request) -> Result<(), Errno> {
    let stack = current().process.limit(rlimit::STACK);
    let limit = (stack / 4).clamp(MAX_STRING as u64, 6 << 20);
    let strings = request.args.stack_bytes() + request.env.stack_bytes();
    if strings as u64 > limit { Err(Errno::E2BIG) } else { Ok(()) }
}

fn prot_of(segment: &elf::Segment) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.read);
    prot.set(Prot::WRITE, segment.write);
    prot.set(Prot::EXEC, segment.execute);
    prot
}

/// Maps the segments of `file` at `bias`.
fn map_segments(space: &AddressSpace, file: &Arc<OpenFile>, plan: &LoadPlan, bias: u64) -> Result<(), Errno> {
    let object: Arc<MemObject> = file.ops.mem_object(file).map_err(|_| Errno::ENOEXEC)?;
    for segment in &plan.segments {
        let start = bias.checked_add(segment.vaddr).ok_or(Errno::ENOEXEC)?;
        let file_end = start + segment.file_bytes;
        let page_end = page_up(start + segment.memory_bytes).ok_or(Errno::ENOEXEC)?;
        let file_page_end = page_up(file_end).ok_or(Errno::ENOEXEC)?;
        let first = page_down(start);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        if segment.file_bytes > 0 {
            let source = Some((object.clone(), page_down(segment.offset)));
            space.map(first, file_page_end - first, prot_of(segment), flags, source, Some(file.clone()))?;
            if segment.memory_bytes > segment.file_bytes && segment.write {
                // The rest of the last file page belongs to .bss.
                space.write_remote(file_end, &ZEROS[..(file_page_end - file_end) as usize]);
            }
        }
        let bss = if segment.file_bytes > 0 { file_page_end } else { first };
        if page_end > bss {
            space.map(bss, page_end - bss, prot_of(segment), flags | MapFlags::ANONYMOUS, None, None)?;
        }
    }
    Ok(())
}

/// Maps a position-independent object wherever there is room; answers its bias.
fn map_anywhere(space: &AddressSpace, file: &Arc<OpenFile>, plan: &LoadPlan) -> Result<u64, Errno> {
    let len = (plan.end - plan.start).checked_add(plan.align - PAGE).ok_or(Errno::ENOEXEC)?;
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let place = space.map(0, len, Prot::empty(), flags, None, None)?;
    space.unmap(place..place + len)?;
    let base = (place + plan.align - 1) & !(plan.align - 1);
    let bias = base.wrapping_sub(plan.start);
    map_segments(space, file, plan, bias)?;
    Ok(bias)
}

/// A program's addresses after loading.
struct Loaded {
    bias: u64,
    entry: u64,
    /// Where execution begins: the interpreter's entry, if there is one.
    start: u64,
    interpreter_base: u64,
}

fn load(space: &AddressSpace, request: &Request, plan: &LoadPlan, randomize: bool) -> Result<Loaded, Errno> {
    let interpreter = match plan.interpreter {
        Some((offset, len)) => {
            let mut path = Vec::new();
            path.try_resize(len, 0)?;
            if request.file.read_at(offset, &mut path)? != len || path.pop() != Some(0) || path.contains(&0) {
                return Err(Errno::ENOEXEC);
            }
            let file = vfs::open_exec(vfs::AT_FDCWD, &path, 0)?;
            let (page, len) = read_header(&file)?;
            // A broken interpreter is ELIBBAD on Linux; its number is not a program's fault to guess.
            let plan = elf::plan(&page, len).map_err(|_| Errno(80))?;
            Some((file, plan))
        }
        None => None,
    };
    let bias = if !plan.relocatable {
        map_segments(space, &request.file, plan, 0)?;
        0
    } else if interpreter.is_some() {
        let base = aslr::pie_base(randomize) & !(plan.align - 1);
        let bias = base.wrapping_sub(plan.start);
        map_segments(space, &request.file, plan, bias)?;
        bias
    } else {
        // A static PIE (or the dynamic loader run by hand) goes where libraries go, out of the break's way.
        map_anywhere(space, &request.file, plan)?
    };
    let entry = bias.wrapping_add(plan.entry);
    let (start, interpreter_base) = match &interpreter {
        Some((file, plan)) => {
            let base = map_anywhere(space, file, plan)?;
            (base.wrapping_add(plan.entry), base.wrapping_add(plan.start))
        }
        None => (entry, 0),
    };
    Ok(Loaded { bias, entry, start, interpreter_base })
}

/// Auxiliary vector tags.
mod at {
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
    pub const MINSIGSTKSZ: u64 = 51;
}

/// Bytes of the largest signal frame (AT_MINSIGSTKSZ).
const MIN_SIGNAL_STACK: u64 = 4720;

/// The initial stack's content, filled downwards from its top.
struct StackImage {
    top: u64,
    bytes: Vec<u8>,
    /// Where in `bytes` what was pushed begins.
    start: usize,
}

impl StackImage {
    /// Room for `len` bytes: ENOMEM.
    fn new(top: u64, len: usize) -> Result<Self, NoMemory> {
        let mut bytes = Vec::new();
        bytes.try_resize(len, 0)?;
        Ok(Self { top, bytes, start: len })
    }
    fn at(&self) -> u64 {
        self.top - (self.bytes.len() - self.start) as u64
    }
    fn skip(&mut self, len: usize) {
        self.start -= len;
    }
    fn push(&mut self, data: &[u8]) -> u64 {
        self.skip(data.len());
        self.bytes[self.start..self.start + data.len()].copy_from_slice(data);
        self.at()
    }
    fn align(&mut self, to: u64) {
        self.skip((self.at() % to) as usize);
    }
    /// The addresses of `strings`, which stand at `at`, and a NULL.
    fn push_pointers(&mut self, strings: &Strings, mut at: u64) {
        self.skip(8 * (strings.count + 1));
        let (words, _) = self.bytes[self.start..].as_chunks_mut::<8>();
        for (word, string) in words.iter_mut().zip(strings.iter()) {
            *word = at.to_ne_bytes();
            at += string.len() as u64 + 1;
        }
    }
    fn content(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Writes arguments, environment and auxiliary vector; answers the stack pointer and the string areas.
fn build_stack(
    space: &AddressSpace,
    top: u64,
    request: &Request,
    plan: &LoadPlan,
    loaded: &Loaded,
    credentials: &Credentials,
    secure: bool,
    vdso: u64,
    below: u64,
) -> Result<(u64, Layout), Errno> {
    const MAX_AUXV: usize = 24;
    let nr_strings = request.args.count + request.env.count;
    // The pieces below in order, and what aligning may skip.
    let strings = request.args.bytes.len() + request.env.bytes.len() + request.path.len() + 1;
    let words = 1 + nr_strings + 2 + 2 * MAX_AUXV;
    let mut image = StackImage::new(top, 8 + strings + 8 + 16 + below as usize + 16 + 16 + 8 + 8 * words)?;
    image.skip(8 + 1);
    let execfn = image.push(&request.path);
    let env_end = image.at();
    let env_start = image.push(&request.env.bytes);
    let args_end = image.at();
    let args_start = image.push(&request.args.bytes);
    image.skip(1);
    let platform = image.push(b"aarch64");
    image.align(16);
    // Where in its page the stack begins is not to be known from outside.
    image.skip(below as usize);
    let mut random = [0; 16];
    crate::random::fill(&mut random);
    let random = image.push(&random);

    let (hwcap, hwcap2) = hal::cpu::hwcaps();
    let mut auxv: ArrayVec<[u64; 2], MAX_AUXV> = ArrayVec::new();
    if vdso != 0 {
        auxv.push([at::SYSINFO_EHDR, vdso]);
    }
    auxv.extend([
        [at::MINSIGSTKSZ, MIN_SIGNAL_STACK],
        [at::HWCAP, hwcap],
        [at::PAGESZ, PAGE],
        [at::CLKTCK, crate::time::CLOCK_TICKS_PER_SECOND],
        [at::PHDR, loaded.bias.wrapping_add(plan.headers_at)],
        [at::PHENT, 56],
        [at::PHNUM, plan.nr_headers as u64],
        [at::BASE, loaded.interpreter_base],
        [at::FLAGS, 0],
        [at::ENTRY, loaded.entry],
        [at::UID, u64::from(credentials.uid)],
        [at::EUID, u64::from(credentials.euid)],
        [at::GID, u64::from(credentials.gid)],
        [at::EGID, u64::from(credentials.egid)],
        [at::SECURE, u64::from(secure)],
        [at::RANDOM, random],
        [at::HWCAP2, hwcap2],
        [at::EXECFN, execfn],
        [at::PLATFORM, platform],
        [0, 0],
    ]);
    image.align(16);
    if !(1 + nr_strings).is_multiple_of(2) {
        image.skip(8);
    }
    image.push(auxv.as_bytes());
    image.push_pointers(&request.env, env_start);
    image.push_pointers(&request.args, args_start);
    let sp = image.push(request.args.count.as_bytes());
    let content = image.content();
    if space.write_remote(sp, content) != content.len() {
        return Err(Errno::E2BIG);
    }
    space.set_auxv(try_bytes(auxv.as_bytes())?);
    let layout =
        Layout { args: (args_start, args_end), env: (env_start, env_end), stack_top: sp, vdso, ..Layout::default() };
    Ok((sp, layout))
}

/// personality(2) bits that a program with rights of its own does not take from its caller (PER_CLEAR_ON_SETID):
/// READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, MMAP_PAGE_ZERO.
const CLEARED_PERSONALITY: u32 = 0x040_0000 | aslr::ADDR_NO_RANDOMIZE | 0x020_0000 | 0x010_0000;
/// The largest stack such a program starts with, in bytes.
const SECURE_STACK: u64 = 8 << 20;

/// The limits that the new program has: one with rights of its own (AT_SECURE) begins with no more than 8 MiB of stack.
fn new_limits(is_secure: bool) -> [Rlimit; rlimit::COUNT] {
    let mut limits = *current().process.limits.lock();
    if is_secure {
        limits[rlimit::STACK].current = limits[rlimit::STACK].current.min(SECURE_STACK);
    }
    limits
}

/// Whether the caller may read `file`: what it may only execute it must not see in a dump either.
fn may_read(file: &OpenFile) -> bool {
    file.inode().is_none_or(|inode| vfs::permission::check_current(&**inode, vfs::permission::READ).is_ok())
}

/// Ends the other threads of the group; ERESTARTNOINTR-like EAGAIN when the group is ending anyway.
fn become_single_thread() -> Result<(), Errno> {
    let task = current();
    let process = &task.process;
    if process.nr_threads() == 1 {
        return Ok(());
    }
    if process.life.exec_by.compare_exchange(0, task.tid(), Ordering::AcqRel, Ordering::Acquire).is_err() {
        return Err(Errno::EAGAIN);
    }
    exit::kill_siblings();
    let alone = || (process.nr_threads() == 1).then_some(());
    let result = process.life.thread_gone.wait_until(
        WaitMode::Killable,
        None,
        WaitReason::on(WaitKind::Exec, u64::from(process.pid)),
        alone,
    );
    process.life.exec_by.store(0, Ordering::Release);
    result.map_err(|_| Errno::EINTR)
}

/// Replaces the calling process's program. On success the answer is the new program's registers.
pub fn exec(mut request: Request) -> Result<UserContext, Errno> {
    let task = current();
    let comm_path = request.path.clone();
    let plan = resolve_scripts(&mut request)?;
    check_size(&request)?;
    let mut outcome = privilege::of_program(&request.file)?;
    let is_secure = outcome.is_secure;
    let mut personality = task.personality.load(Ordering::Relaxed);
    if outcome.clears_personality {
        personality &= !CLEARED_PERSONALITY;
    }
    let randomize = aslr::is_wanted(personality);
    let limits = new_limits(is_secure);

    let space = AddressSpace::new()?;
    space.set_limits(&limits, randomize);
    let top = aslr::stack_top(randomize);
    space.map_stack(top, plan.executable_stack)?;
    let loaded = load(&space, &request, &plan, randomize)?;
    let vdso = vdso::map(&space)?;
    let sigreturn = vdso + vdso::sigreturn_offset();
    let (sp, mut layout) = build_stack(
        &space,
        top,
        &request,
        &plan,
        &loaded,
        &outcome.credentials,
        is_secure,
        vdso,
        aslr::stack_offset(randomize),
    )?;
    let text = plan.segments.iter().find(|segment| segment.execute);
    let data = plan.segments.iter().rfind(|segment| segment.write);
    let range = |segment: Option<&elf::Segment>| {
        segment
            .map_or((0, 0), |s| (loaded.bias.wrapping_add(s.vaddr), loaded.bias.wrapping_add(s.vaddr + s.memory_bytes)))
    };
    layout.sigreturn = sigreturn;
    layout.code = range(text);
    layout.data = range(data);
    layout.brk_start = aslr::brk_start(page_up(loaded.bias.wrapping_add(plan.end)).ok_or(Errno::ENOMEM)?, randomize);
    space.set_layout(layout);

    become_single_thread()?;
    // Only this thread could share its table with another process from here on, and it is busy here.
    let unshared = if task.files.is_unshared() { None } else { Some(task.files.get().fork()?) };
    outcome.drop_if_shared();
    let credentials = try_arc(outcome.credentials)?;
    // From here on nothing can fail.
    // Locks that inherit priority are known by the number the thread has had so far; robust ones, as on Linux, by the new one.
    (hooks::get().before_exec)();
    if task.tid() != task.process.pid {
        tree::take_leader_id(task);
    }
    let old = task.creds();
    let is_dumpable = may_read(&request.file) && old.euid == old.uid && old.egid == old.gid;
    (hooks::get().exec)(task);
    let life = &task.process.life;
    // A parent that cloned with another exit signal hears of the new program's end as of any child's; and what this program
    // asked of its own children, message queues and their signals was not meant for the new one.
    life.exit_signal.store(siginfo::SIGCHLD, Ordering::Relaxed);
    life.exec_id.fetch_add(1, Ordering::AcqRel);
    let name = comm_path.rsplit(|&b| b == b'/').next().unwrap_or(&[]);
    *task.name.lock() = comm_bytes(name);
    task.personality.store(personality, Ordering::Relaxed);
    if is_secure {
        *task.process.limits.lock() = limits;
        life.parent_death_signal.store(0, Ordering::Relaxed);
    }
    // Nobody looks in until credentials and address space belong together again: see `space_to_inspect`.
    life.dumpable.store(0, Ordering::SeqCst);
    let is_same = credentials::install(credentials);
    exit::release_memory(task);
    sched::switch_translation(Some((space.id(), space.translation())));
    task.mm.replace(Some(space));
    life.dumpable.store(u32::from(is_dumpable && is_same), Ordering::SeqCst);
    hal::context::reset_user_state();
    task.thread.set_takes_tags(false);
    life.has_execed.store(true, Ordering::Relaxed);
    if let Some(unshared) = unshared {
        drop(task.files.replace(unshared));
    }
    task.files.get().close_on_exec();
    signal::on_exec(task);
    task.process.timers.on_exec();
    *task.process.executable.lock() = Some(request.file.clone());
    Ok(UserContext::new(loaded.start, sp))
}

/// Turns the calling kernel thread (pid 1's) into the program at `path`.
pub fn exec_init(path: &str, args: &[&str], env: &[&str]) -> Result<UserContext, Errno> {
    let bytes = |from: &[&str]| {
        let mut strings = Strings::default();
        from.iter().try_for_each(|string| strings.push(string.as_bytes()))?;
        Ok::<_, Errno>(strings)
    };
    let path = path.as_bytes().to_vec();
    exec(Request {
        file: vfs::open_exec(vfs::AT_FDCWD, &path, 0)?,
        script_path: Some(path.clone()),
        path,
        args: bytes(args)?,
        env: bytes(env)?,
    })
}
