//! Pseudo-terminals: a terminal whose port is a file, the master from /dev/ptmx.

use super::ioctl::{PKT_FLUSHREAD, PKT_FLUSHWRITE, PKT_START, PKT_STOP};
use super::open::{PTS_MAJOR, open_pty_slave};
use super::{Port, Tty, ioctl, job};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::task::siginfo::{SIGINT, SIGQUIT, SIGTSTP};
use crate::vfs::{FileOps, OpenFile, OpenFlags, PollEvents, PollSet, PollTable};
use alloc::collections::{BTreeMap, VecDeque};
use base::abi::ioctl as abi;
use base::device::makedev;
use base::termios::{Termios, WinSize, cflag};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Slave output the master has not read yet.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// The most pseudo-terminals at a time (kernel.pty.max).
const MAX_PAIRS: u32 = 4096;

/// The group "tty" that slaves belong to (devpts' gid=5).
const TTY_GROUP: u32 = 5;

/// What both sides share; belongs to the slave's [`Tty`].
pub struct Pair {
    pub number: u32,
    /// Owner, group and permission bits that devpts shows.
    owner: SpinLock<(u32, u32, u32)>,
    output: Mutex<VecDeque<u8>>,
    /// Length of `output`, for conditions.
    queued: AtomicUsize,
    locked: AtomicBool,
    master_closed: AtomicBool,
    /// The slave was open and is not: the master reads EIO.
    slave_closed: AtomicBool,
    packet: AtomicBool,
    /// TIOCPKT_* conditions not yet read.
    status: AtomicU32,
    read_wait: WaitQueue,
    write_wait: WaitQueue,
    poll_set: PollSet,
}

static PAIRS: SpinLock<BTreeMap<u32, Arc<Tty>>> = SpinLock::new(BTreeMap::new());

/// The pseudo-terminals that exist, for devpts: number, owner uid, gid, permission bits.
pub fn pty_list() -> Vec<(u32, u32, u32, u32)> {
    let pairs: Vec<_> = PAIRS.lock().values().cloned().collect();
    let pairs = pairs.iter().filter_map(|tty| tty.pair()).map(|pair| {
        let (uid, gid, mode) = *pair.owner.lock();
        (pair.number, uid, gid, mode)
    });
    pairs.collect()
}

/// chmod and chown of a slave; `None` stays. ENOENT.
pub fn set_pty_owner(number: u32, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let tty = find(number).ok_or(Errno::ENOENT)?;
    let pair = tty.pair().ok_or(Errno::ENOENT)?;
    let mut owner = pair.owner.lock();
    *owner = (uid.unwrap_or(owner.0), gid.unwrap_or(owner.1), mode.map_or(owner.2, |mode| mode & 0o7777));
    Ok(())
}

pub fn find(number: u32) -> Option<Arc<Tty>> {
    PAIRS.lock().get(&number).cloned()
}

/// open(/dev/ptmx): a new pair, its slave locked. ENOSPC.
pub fn open_master() -> Result<Arc<dyn FileOps>, Errno> {
    let creds = current().creds();
    loop {
        let number = {
            let pairs = PAIRS.lock();
            (0..MAX_PAIRS).find(|number| !pairs.contains_key(number)).ok_or(Errno::ENOSPC)?
        };
        let pair = Arc::new(Pair {
            number,
            owner: SpinLock::new((creds.fsuid, TTY_GROUP, 0o620)),
            output: Mutex::new(VecDeque::new()),
            queued: AtomicUsize::new(0),
            locked: AtomicBool::new(true),
            master_closed: AtomicBool::new(false),
            slave_closed: AtomicBool::new(false),
            packet: AtomicBool::new(false),
            status: AtomicU32::new(0),
            read_wait: WaitQueue::new(),
            write_wait: WaitQueue::new(),
            poll_set: PollSet::new(),
        });
        // There is no line to hang up.
        let mut termios = Termios::new(cflag::B38400, 38400);
        termios.cflag &= !cflag::HUPCL;
        let slave = Tty::new(makedev(PTS_MAJOR, number), Port::Pty(pair), termios, WinSize::default());
        let mut pairs = PAIRS.lock();
        if let alloc::collections::btree_map::Entry::Vacant(place) = pairs.entry(number) {
            place.insert(slave.clone());
            return Ok(Arc::new(Master { slave }));
        }
    }
}

impl Pair {
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Acquire)
    }
    pub fn set_locked(&self, locked: bool) {
        self.locked.store(locked, Ordering::Release);
    }
    pub fn is_master_closed(&self) -> bool {
        self.master_closed.load(Ordering::Acquire)
    }
    pub fn set_packet(&self, on: bool) {
        if on && !self.packet.swap(true, Ordering::AcqRel) {
            self.status.store(0, Ordering::Release);
        } else if !on {
            self.packet.store(false, Ordering::Release);
        }
    }
    pub fn is_packet(&self) -> bool {
        self.packet.load(Ordering::Acquire)
    }

    pub fn room(&self) -> usize {
        OUTPUT_LIMIT.saturating_sub(self.queued.load(Ordering::Acquire))
    }
    /// Slave output, to be read by the master.
    pub fn put_output(&self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        if self.is_master_closed() {
            return bytes.len();
        }
        let mut output = self.output.lock();
        let taken = bytes.len().min(OUTPUT_LIMIT.saturating_sub(output.len()));
        output.extend(&bytes[..taken]);
        self.queued.store(output.len(), Ordering::Release);
        drop(output);
        self.wake_master();
        taken
    }
    /// Bytes the master has not read yet.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }
    pub fn flush_output(&self) {
        let mut output = self.output.lock();
        output.clear();
        self.queued.store(0, Ordering::Release);
        drop(output);
        self.report(PKT_FLUSHWRITE);
    }
    pub fn report_flush_input(&self) {
        self.report(PKT_FLUSHREAD);
    }
    pub fn report_stopped(&self, stopped: bool) {
        let (set, clear) = if stopped { (PKT_STOP, PKT_START) } else { (PKT_START, PKT_STOP) };
        self.status.fetch_and(!clear, Ordering::AcqRel);
        self.report(set);
    }
    /// Adds a condition for a master in packet mode.
    pub fn report(&self, condition: u32) {
        if self.is_packet() {
            self.status.fetch_or(condition, Ordering::AcqRel);
            self.read_wait.wake_all();
            self.poll_set.notify(PollEvents::IN | PollEvents::PRI | PollEvents::RDNORM);
        }
    }
    /// The slave's discipline took input.
    pub fn input_has_room(&self) {
        self.write_wait.wake_one();
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
    }
    fn wake_master(&self) {
        self.read_wait.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }
    pub fn slave_opened(&self) {
        self.slave_closed.store(false, Ordering::Release);
    }
    pub fn slave_closed(&self) {
        self.slave_closed.store(true, Ordering::Release);
        self.read_wait.wake_all();
        self.write_wait.wake_all();
        self.poll_set.notify(PollEvents::IN | PollEvents::HUP);
    }
    fn is_slave_closed(&self) -> bool {
        self.slave_closed.load(Ordering::Acquire)
    }
    fn has_status(&self) -> bool {
        self.is_packet() && self.status.load(Ordering::Acquire) != 0
    }
}

/// The open description of /dev/ptmx.
pub struct Master {
    slave: Arc<Tty>,
}

impl Master {
    fn pair(&self) -> &Arc<Pair> {
        match &self.slave.port {
            Port::Pty(pair) => pair,
            Port::Console => unreachable!("a master is made with its pair"),
        }
    }
}

impl FileOps for Master {
    fn can_splice(&self) -> bool {
        true
    }
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let pair = self.pair();
        if dst.remaining() == 0 {
            return Ok(0);
        }
        loop {
            if pair.has_status() {
                let status = pair.status.swap(0, Ordering::AcqRel) as u8;
                return dst.write(&[status]);
            }
            let mut output = pair.output.lock();
            if !output.is_empty() {
                let mut done = 0;
                if pair.is_packet() {
                    done += dst.write(&[0])?;
                }
                let (first, second) = output.as_slices();
                let mut moved = 0;
                let mut fault = None;
                for piece in [first, second] {
                    if piece.is_empty() || dst.remaining() == 0 {
                        continue;
                    }
                    match dst.write(piece) {
                        Ok(n) => moved += n,
                        Err(error) => fault = Some(error),
                    }
                    if moved < first.len() {
                        break;
                    }
                }
                let was_full = output.len() + 8 > OUTPUT_LIMIT;
                output.drain(..moved);
                pair.queued.store(output.len(), Ordering::Release);
                let more = !output.is_empty();
                drop(output);
                if moved == 0
                    && let Some(error) = fault
                {
                    return Err(error);
                }
                if more {
                    pair.read_wait.wake_one();
                }
                if was_full || !self.slave.write_wait.is_empty() {
                    self.slave.port_has_room();
                }
                self.slave.send_waiting_echo();
                done += moved;
                return Ok(done);
            }
            drop(output);
            if pair.is_slave_closed() {
                return Err(Errno::EIO);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            pair.read_wait.wait_until(
                WaitMode::Interruptible,
                None,
                WaitReason::on(WaitKind::PtyRead, u64::from(pair.number)),
                || (pair.queued() != 0 || pair.is_slave_closed() || pair.has_status()).then_some(()),
            )?;
        }
    }

    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        let pair = self.pair();
        let mut chunk = [0u8; 512];
        let mut done = 0;
        while src.remaining() != 0 {
            let want = src.remaining().min(chunk.len());
            let len = match src.read(&mut chunk[..want]) {
                Ok(len) => len,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            };
            let taken = self.slave.receive(&chunk[..len]);
            done += taken;
            if taken == len {
                continue;
            }
            src.rewind(len - taken);
            if taken != 0 {
                continue;
            }
            if file.is_nonblocking() {
                return if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) };
            }
            let waited = pair.write_wait.wait_until(
                WaitMode::Interruptible,
                None,
                WaitReason::on(WaitKind::PtyWrite, u64::from(pair.number)),
                || (self.slave.input_room() != 0).then_some(()),
            );
            if let Err(error) = waited {
                return if done == 0 { Err(error.into()) } else { Ok(done) };
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let pair = self.pair();
        if let Some(table) = table {
            table.register(&pair.poll_set);
        }
        let mut events = PollEvents::empty();
        if pair.queued() != 0 || pair.has_status() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if pair.has_status() {
            events |= PollEvents::PRI;
        }
        if pair.is_slave_closed() {
            events |= PollEvents::HUP;
        }
        if self.slave.input_room() != 0 {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    fn ioctl(&self, file: &OpenFile, command: u32, argument: u64) -> SysResult {
        let pair = self.pair();
        let int = UserPtr::<i32>::new(UserAddr(argument));
        match command {
            abi::TIOCGPTN => int.write(&(pair.number as i32))?,
            abi::TIOCSPTLCK => pair.set_locked(int.read()? != 0),
            abi::TIOCGPTLCK => int.write(&i32::from(pair.is_locked()))?,
            abi::TIOCPKT => pair.set_packet(int.read()? != 0),
            abi::TIOCGPKT => int.write(&i32::from(pair.is_packet()))?,
            abi::TIOCSIG => {
                let number = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
                // What keys could send, and nothing else.
                if !matches!(number, SIGINT | SIGQUIT | SIGTSTP) {
                    return Err(Errno::EINVAL);
                }
                job::signal_foreground(&self.slave, number);
            }
            abi::TIOCGPTPEER => return self.open_peer(argument as u32),
            abi::FIONREAD => int.write(&(pair.queued() as i32))?,
            _ => return ioctl::ioctl(&self.slave, true, file, command, argument),
        }
        Ok(0)
    }

    fn release(&self, _file: &OpenFile) {
        let pair = self.pair();
        pair.master_closed.store(true, Ordering::Release);
        let gone = PAIRS.lock().remove(&pair.number);
        drop(gone);
        job::hang_up(&self.slave);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Master {
    /// TIOCGPTPEER: the slave as a new descriptor, whatever /dev/pts shows to this process.
    fn open_peer(&self, flags: u32) -> SysResult {
        let flags = OpenFlags::from_bits_retain(flags);
        let path = alloc::format!("/dev/pts/{}", self.pair().number);
        let file = match crate::vfs::open(crate::vfs::AT_FDCWD, path.as_bytes(), flags | OpenFlags::NOCTTY, 0) {
            Ok(file) => file,
            Err(_) => OpenFile::anonymous(open_pty_slave(self.pair().number, flags | OpenFlags::NOCTTY)?, flags),
        };
        crate::vfs::table::install(file, flags.contains(OpenFlags::CLOEXEC))
    }
}
