//! Terminals: the console, pseudo-terminals, controlling terminals and job control.
//!
//! A [`Tty`] is a line discipline (`base::line_discipline`) between a port (the console device or the master side of a
//! pseudo-terminal) and the programs that have it open. Input is queued raw, then *pumped* through the discipline as far as
//! that has room; a read makes room and pumps again. Nothing here runs in interrupt context: the console's interrupt fills a
//! ring and a kernel thread takes it from there.
//!
//! Files: [`discipline`] input, reads and writes · [`job`] sessions, foreground groups, hang-up · [`ioctl`] · [`console`] ·
//! [`pty`] · [`open`] device numbers.
//!
//! Lock order: `writer` → `state` → the port's own lock; `job::SESSIONS` → `control`. Signals are sent with none held.

mod console;
mod discipline;
mod ioctl;
mod job;
mod open;
mod pty;

use crate::prelude::*;
use alloc::collections::VecDeque;
use base::line_discipline::LineDiscipline;
use base::termios::{Termios, WinSize};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::vfs::PollSet;
pub use console::init;
pub use job::{of_process, session_leader_exits};
pub use open::{DEV_CONSOLE, DEV_PTMX, DEV_SERIAL, DEV_TTY, open_device, open_pty_slave};
pub use pty::{pty_list, set_pty_owner};

/// Where a terminal's output goes and its input comes from.
enum Port {
    Console,
    Pty(Arc<pty::Pair>),
}

impl Port {
    /// Room for output, in bytes.
    fn room(&self) -> usize {
        match self {
            Port::Console => crate::machine::console::write_room(),
            Port::Pty(pair) => pair.room(),
        }
    }
    /// Sends what fits; answers how many bytes.
    fn write(&self, bytes: &[u8]) -> usize {
        match self {
            Port::Console => crate::machine::console::write(bytes),
            Port::Pty(pair) => pair.put_output(bytes),
        }
    }
}

/// What the `state` lock guards.
struct State {
    line: LineDiscipline,
    /// Received, not yet given to the discipline.
    raw: VecDeque<u8>,
    /// Echo that found no room in the port.
    echo: Vec<u8>,
}

/// Session and foreground group; 0 is none.
#[derive(Clone, Copy, Default)]
struct Control {
    session: u32,
    foreground: u32,
}

pub struct Tty {
    /// Device number (what stat's st_rdev and /proc/PID/stat say).
    rdev: u64,
    port: Port,
    state: Mutex<State>,
    control: SpinLock<Control>,
    window: SpinLock<WinSize>,
    /// Settings TIOCSLCKTRMIOS would lock are not offered; TIOCEXCL is.
    exclusive: AtomicBool,
    /// Open descriptions.
    opens: AtomicUsize,
    /// Counts hang-ups: descriptions opened before one are dead.
    generation: AtomicU32,
    /// A copy of `line.has_input(false)`, of `has_input(true)` and of `line.is_stopped()`, for conditions asked without the lock.
    has_input: AtomicBool,
    polls_readable: AtomicBool,
    stopped: AtomicBool,
    raw_len: AtomicUsize,
    /// A write is in progress: writes are not mixed with each other.
    writer: AtomicBool,
    read_wait: WaitQueue,
    write_wait: WaitQueue,
    writer_wait: WaitQueue,
    poll_set: PollSet,
}

impl Tty {
    fn new(rdev: u64, port: Port, termios: Termios, window: WinSize) -> Arc<Self> {
        Arc::new(Self {
            rdev,
            port,
            state: Mutex::new(State { line: LineDiscipline::new(termios), raw: VecDeque::new(), echo: Vec::new() }),
            control: SpinLock::new(Control::default()),
            window: SpinLock::new(window),
            exclusive: AtomicBool::new(false),
            opens: AtomicUsize::new(0),
            generation: AtomicU32::new(0),
            has_input: AtomicBool::new(false),
            polls_readable: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            raw_len: AtomicUsize::new(0),
            writer: AtomicBool::new(false),
            read_wait: WaitQueue::new(),
            write_wait: WaitQueue::new(),
            writer_wait: WaitQueue::new(),
            poll_set: PollSet::new(),
        })
    }

    fn pair(&self) -> Option<&Arc<pty::Pair>> {
        match &self.port {
            Port::Pty(pair) => Some(pair),
            Port::Console => None,
        }
    }
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
    /// Copies the discipline's state to where waiters look; the caller still holds the lock.
    fn publish(&self, state: &State) {
        self.has_input.store(state.line.has_input(false), Ordering::Release);
        self.polls_readable.store(state.line.has_input(true), Ordering::Release);
        self.stopped.store(state.line.is_stopped(), Ordering::Release);
        self.raw_len.store(state.raw.len(), Ordering::Release);
    }
}
