//! trace: system calls as they happen, of a program it starts or of processes that run. The kernel records them for
//! /proc/trace/records ([`records`]); [`options`] is the command line, [`print`] the lines, [`names`] what numbers mean, [`summary`]
//! the table of -c.

mod names;
mod options;
mod print;
mod records;
mod summary;

use options::Options;
use records::{Calls, Event, parse};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

const HELP: &str = "\
usage: trace [OPTIONS] PROGRAM [ARGUMENTS...]
       trace [OPTIONS] -p PID [-p PID...]
Prints each system call of the program, its threads and its children to standard error: name, arguments, result.
  -f               follows threads and children (always so; --no-follow leaves them alone)
  -e [trace=]LIST  only these calls: names, or %file %desc %process %network %signal %ipc %memory; a leading ! turns it around
  -c               counts calls, errors and time instead, and prints a table at the end
  -C               prints the calls and the table
  -o FILE          prints into a file
  -p PID           a process that runs; Ctrl-C ends the tracing, not the process
  -s N             bytes of a buffer that are shown (32; 256 at most)
  -r, -T           with the time since the line before; with the time in each call
  -q               no lines of signals and ends
It exits with the program's status. No call waits for the reader: where calls come faster than they can be printed some are lost, and
it is said how many.
";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

pub fn main(arguments: &[String]) -> u8 {
    let calls = match Calls::read() {
        Ok(calls) => calls,
        Err(error) => return fail(&format!("/proc/trace/calls: {error} (this kernel has no tracing)")),
    };
    let options = match Options::parse(arguments, &calls) {
        Ok(options) if options.help => return crate::print(HELP),
        Ok(options) => options,
        Err(error) => return crate::usage_error("trace", &error),
    };
    match run(&options, &calls) {
        Ok(status) => status,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> u8 {
    eprintln!("trace: {error}");
    1
}

fn run(options: &Options, calls: &Calls) -> Result<u8, String> {
    let path = "/proc/trace/records";
    let session = OpenOptions::new().read(true).write(true).open(path).map_err(|error| format!("{path}: {error}"))?;
    let order = |order: String| (&session).write_all(order.as_bytes());
    let refused = |error: std::io::Error| format!("{path}: {error}");
    if options.follow {
        order("follow".into()).map_err(refused)?;
    }
    if let Some(wanted) = &options.calls {
        // execve too: it is where the program begins.
        let mut list = String::from("calls 221");
        wanted.iter().for_each(|number| list.push_str(&format!(" {number}")));
        order(list).map_err(refused)?;
    }
    let mut out: Box<dyn Write> = match &options.output {
        Some(path) => Box::new(File::create(path).map_err(|error| format!("{path}: {error}"))?),
        None => Box::new(std::io::stderr()),
    };
    for pid in &options.pids {
        order(format!("pid {pid}")).map_err(|error| format!("process {pid}: {error}"))?;
    }
    let child = match options.command.is_empty() {
        true => None,
        false => Some(start(&options.command, |pid| order(format!("pid {pid}")))?),
    };
    // A program's Ctrl-C is its own; where there is none it ends the tracing.
    // SAFETY: the handler only stores to an atomic. Without SA_RESTART, so that it ends the read.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction =
            if child.is_some() { libc::SIG_IGN } else { on_interrupt as extern "C" fn(i32) as *const () as usize };
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
    let mut printer = print::Printer::new(options, calls, child);
    let mut summary = summary::Summary::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match (&session).read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted && !INTERRUPTED.load(Ordering::Relaxed) => continue,
            Err(error) if error.kind() == ErrorKind::Interrupted => break,
            Err(error) => return Err(refused(error)),
        };
        let mut text = String::new();
        for event in parse(&buffer[..count]) {
            if options.counts && printer.is_shown(&event) {
                summary.add(&event);
            }
            printer.add(&event, &mut text);
            if let Event::Dropped { count } = &event.event {
                eprintln!("trace: {count} records were lost: they came faster than they could be printed");
            }
        }
        if options.lines && out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    let mut text = String::new();
    printer.end(&mut text);
    if !options.lines {
        text.clear();
    }
    if options.counts {
        text.push_str(&summary.table(calls));
    }
    let _ = out.write_all(text.as_bytes());
    Ok(child.map_or(0, wait))
}

/// The first of $PATH that is a program.
fn find(name: &str) -> Result<CString, String> {
    let is_program = |path: &std::path::Path| {
        let path = CString::new(path.as_os_str().as_bytes()).ok();
        // SAFETY: a NUL-terminated string.
        path.filter(|path| unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 })
    };
    if name.contains('/') {
        return CString::new(name).map_err(|_| String::from("a name with a NUL byte"));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found = std::env::split_paths(&path).find_map(|directory| is_program(&directory.join(name)));
    found.ok_or_else(|| format!("{name}: not found"))
}

/// Starts the program once `attach` has seen its number; answers that.
fn start(command: &[String], attach: impl FnOnce(i32) -> std::io::Result<()>) -> Result<i32, String> {
    let program = find(&command[0])?;
    let words: Vec<CString> = command.iter().map(|word| CString::new(word.as_str()).unwrap_or_default()).collect();
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let mut gate = [0; 2];
    // SAFETY: a single-threaded process forks; the child makes system calls only, with strings made before.
    unsafe {
        if libc::pipe2(gate.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(format!("pipe: {}", std::io::Error::last_os_error()));
        }
        let child = libc::fork();
        if child < 0 {
            return Err(format!("fork: {}", std::io::Error::last_os_error()));
        }
        if child == 0 {
            libc::close(gate[1]);
            let mut go = 0u8;
            if libc::read(gate[0], (&raw mut go).cast(), 1) == 1 {
                libc::execv(program.as_ptr(), pointers.as_ptr());
            }
            libc::_exit(if *libc::__errno_location() == libc::ENOENT { 127 } else { 126 });
        }
        libc::close(gate[0]);
        let attached = attach(child);
        if attached.is_ok() {
            libc::write(gate[1], [1u8].as_ptr().cast(), 1);
        }
        libc::close(gate[1]);
        attached.map(|()| child).map_err(|error| format!("process {child}: {error}"))
    }
}

/// The child's end as an exit status.
fn wait(child: i32) -> u8 {
    let mut status = 0;
    // SAFETY: waits for a child of ours.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        if std::io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return 1;
        }
    }
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) as u8 } else { libc::WEXITSTATUS(status) as u8 }
}
