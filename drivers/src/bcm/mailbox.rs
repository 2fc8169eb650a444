//! The firmware's mailbox: the property channel, by which the Arm cores ask the VideoCore about the board.
//!
//! A question is one [`Message`] in memory that both sides see. The other side is not coherent with our caches, so that the
//! message has cache lines of its own, written back before the question is sent and dropped before the answer is read
//! ([`Shared`]). Nothing here waits for ever: a firmware that does not answer is [`Error::Silent`].

use crate::mmio::{Mmio, ReadOnly, RegisterBlock, Registers, WriteOnly};
use core::sync::atomic::{AtomicU32, Ordering};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    STATUS [EMPTY 30, FULL 31],
}

register_structs! {
    #[allow(non_snake_case)]
    MailboxRegisters {
        /// Mailbox 0, VideoCore to Arm.
        (0x00 => READ: ReadOnly<u32>),
        (0x04 => _reserved0),
        (0x18 => STATUS0: ReadOnly<u32, STATUS::Register>),
        (0x1c => _reserved1),
        /// Mailbox 1, Arm to VideoCore.
        (0x20 => WRITE: WriteOnly<u32>),
        (0x24 => _reserved2),
        (0x38 => STATUS1: ReadOnly<u32, STATUS::Register>),
        (0x3c => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for MailboxRegisters {}

/// A register that can be read without effect, to see whether there is a mailbox.
pub const STATUS_OFFSET: usize = 0x18;
/// The property channel.
const CHANNEL: u32 = 8;
const REQUEST: u32 = 0;
const SUCCESS: u32 = 0x8000_0000;
/// In a tag's length word: this is an answer.
const ANSWERED: u32 = 1 << 31;
/// Turns of a waiting loop; each reads a register, which takes about 100 ns.
const PATIENCE: u32 = if cfg!(test) { 1_000 } else { 10_000_000 };

/// Words before a tag's values: total size, code; tag, room, length.
const HEAD: usize = 5;
const WORDS: usize = 304;
/// The most value words a question or answer can have.
pub const MAX_VALUES: usize = WORDS - HEAD - 1;

/// One question and its answer. Cache lines of its own (64 bytes on all boards).
#[repr(C, align(64))]
pub struct Message([AtomicU32; WORDS]);

impl Message {
    pub const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; WORDS])
    }
    fn set(&self, index: usize, value: u32) {
        self.0[index].store(value, Ordering::Relaxed);
    }
    fn get(&self, index: usize) -> u32 {
        self.0[index].load(Ordering::Relaxed)
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory a message lies in, as the firmware sees it.
///
/// # Safety
/// `bus_address` is the message's own: the firmware writes its answer there.
pub unsafe trait Shared {
    /// The message's address on the VideoCore's bus.
    fn bus_address(&self, message: &Message) -> u32;
    /// Writes the message's cache lines to memory and drops them from the cache.
    fn flush(&self, message: &Message);
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The firmware took too long.
    Silent,
    /// It could not read the message.
    Refused,
    /// It does not know the tag.
    Unsupported,
}

pub type Result<T> = core::result::Result<T, Error>;

/// Clocks the firmware tells the rate of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Clock {
    Emmc = 1,
    Uart = 2,
    Arm = 3,
    Core = 4,
    Emmc2 = 12,
}

/// Part of RAM: first address and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    pub base: u32,
    pub len: u32,
}

/// The firmware at the other end. Calls take up to milliseconds and must not overlap.
pub struct Firmware<S: 'static> {
    registers: Registers<MailboxRegisters>,
    message: &'static Message,
    shared: S,
}

impl<S: Shared> Firmware<S> {
    /// `message` is this driver's alone: two of one message would only spoil each other's questions.
    pub fn new(mailbox: Mmio, message: &'static Message, shared: S) -> Self {
        Self { registers: mailbox.registers(0), message, shared }
    }

    fn wait(&self, ready: impl Fn() -> bool) -> Result<()> {
        for _ in 0..PATIENCE {
            if ready() {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(Error::Silent)
    }

    /// Sends the message and waits until the firmware has given it back.
    fn exchange(&mut self) -> Result<()> {
        let letter = self.shared.bus_address(self.message) | CHANNEL;
        self.shared.flush(self.message);
        self.wait(|| !self.registers.STATUS1.is_set(STATUS::FULL))?;
        self.registers.WRITE.set(letter);
        // Letters of other channels, and late answers to questions given up, are dropped.
        for _ in 0..16 {
            self.wait(|| !self.registers.STATUS0.is_set(STATUS::EMPTY))?;
            if self.registers.READ.get() == letter {
                self.shared.flush(self.message);
                return Ok(());
            }
        }
        Err(Error::Silent)
    }

    /// Asks for one property: `values` go with the question, the answer's words into `answer`. Answers the answer's length in
    /// bytes, which may be more than `answer` holds.
    fn property(&mut self, tag: u32, values: &[u32], answer: &mut [u32]) -> Result<usize> {
        let room = values.len().max(answer.len());
        if room > MAX_VALUES {
            return Err(Error::Unsupported);
        }
        let message = self.message;
        message.set(0, (HEAD + room + 1) as u32 * 4);
        message.set(1, REQUEST);
        message.set(2, tag);
        message.set(3, room as u32 * 4);
        message.set(4, 0);
        for index in 0..=room {
            message.set(HEAD + index, values.get(index).copied().unwrap_or(0));
        }
        self.exchange()?;
        if message.get(1) != SUCCESS {
            return Err(Error::Refused);
        }
        let len = message.get(4);
        // The firmware leaves the mark out of a tag it does not know; QEMU says a length of zero.
        if len & ANSWERED == 0 || len == ANSWERED {
            return Err(Error::Unsupported);
        }
        for (index, word) in answer.iter_mut().enumerate() {
            *word = message.get(HEAD + index);
        }
        Ok((len & !ANSWERED) as usize)
    }

    fn words<const N: usize>(&mut self, tag: u32, values: &[u32]) -> Result<[u32; N]> {
        let mut answer = [0; N];
        let len = self.property(tag, values, &mut answer)?;
        if len < N * 4 { Err(Error::Refused) } else { Ok(answer) }
    }

    /// The board's revision code (see [`board`](super::board)).
    pub fn revision(&mut self) -> Result<u32> {
        self.words(0x0001_0002, &[]).map(|[code]| code)
    }

    /// The address of the on-board Ethernet.
    pub fn mac_address(&mut self) -> Result<[u8; 6]> {
        let mut answer = [0; 2];
        let len = self.property(0x0001_0003, &[], &mut answer)?;
        if len < 6 {
            return Err(Error::Refused);
        }
        let ([a, b, c, d], [e, f, ..]) = (answer[0].to_le_bytes(), answer[1].to_le_bytes());
        Ok([a, b, c, d, e, f])
    }

    pub fn serial_number(&mut self) -> Result<u64> {
        self.words(0x0001_0004, &[]).map(|[low, high]| u64::from(high) << 32 | u64::from(low))
    }

    /// The Arm cores' part of the first GiB.
    pub fn arm_memory(&mut self) -> Result<Memory> {
        self.words(0x0001_0005, &[]).map(|[base, len]| Memory { base, len })
    }

    /// The rate of a clock in Hz; never zero.
    pub fn clock_hz(&mut self, clock: Clock) -> Result<u32> {
        match self.words(0x0003_0002, &[clock as u32])? {
            [_, 0] => Err(Error::Unsupported),
            [_, hz] => Ok(hz),
        }
    }

    /// Makes a pin of the GPIO expander an output at this level. The expander's pins are numbered from 128 on; only the firmware
    /// reaches them.
    pub fn configure_output(&mut self, pin: u32, high: bool) -> Result<()> {
        const OUTPUT: u32 = 1;
        let [_, _, polarity, ..] = self.ask_pin(0x0003_0043, [pin, 0, 0, 0, 0])?;
        // Pin, direction, polarity as it is, no termination, state.
        self.ask_pin(0x0003_8043, [pin, OUTPUT, polarity, 0, 0, u32::from(high)]).map(drop)
    }

    /// Drives a pin of the GPIO expander.
    pub fn set_pin(&mut self, pin: u32, high: bool) -> Result<()> {
        self.ask_pin(0x0003_8041, [pin, u32::from(high)]).map(drop)
    }

    /// A question about a pin. The answer begins with 0 in place of the pin's number, or with an error.
    fn ask_pin<const N: usize>(&mut self, tag: u32, values: [u32; N]) -> Result<[u32; N]> {
        let mut answer = [0; N];
        self.property(tag, &values, &mut answer)?;
        if answer[0] == 0 { Ok(answer) } else { Err(Error::Refused) }
    }

    /// The kernel's command line, as much as `buffer` holds of it.
    pub fn command_line<'a>(&mut self, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        let mut words = [0; MAX_VALUES];
        let len = self.property(0x0005_0001, &[], &mut words)?.min(MAX_VALUES * 4).min(buffer.len());
        for (slot, byte) in buffer[..len].iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
            *slot = byte;
        }
        let text = &buffer[..len];
        Ok(text.split(|byte| *byte == 0).next().unwrap_or(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;
    use std::cell::{Cell, RefCell};

    const READ: usize = 0x00;
    const STATUS0: usize = STATUS_OFFSET;
    const WRITE: usize = 0x20;
    const STATUS1: usize = 0x38;
    const BUS: u32 = 0xc012_3440;

    /// The firmware's side: at the first flush of two the question is complete, and `answer` turns it into an answer.
    struct Model {
        flushes: Cell<u32>,
        asked: RefCell<Vec<u32>>,
        answer: fn(&Message),
    }

    // SAFETY: nobody writes where the model says the message is.
    unsafe impl Shared for &Model {
        fn bus_address(&self, message: &Message) -> u32 {
            assert_eq!(std::ptr::from_ref(message) as usize % 64, 0);
            BUS
        }
        fn flush(&self, message: &Message) {
            self.flushes.set(self.flushes.get() + 1);
            if self.flushes.get() % 2 == 1 {
                let words = message.get(0) as usize / 4;
                *self.asked.borrow_mut() = (0..words).map(|index| message.get(index)).collect();
                (self.answer)(message);
            }
        }
    }

    fn machine(answer: fn(&Message)) -> (Bank, &'static Model, Firmware<&'static Model>) {
        let bank = Bank::new(0x1000);
        bank.set(READ, BUS | CHANNEL);
        let model: &Model =
            Box::leak(Box::new(Model { flushes: Cell::new(0), asked: RefCell::new(Vec::new()), answer }));
        let firmware = Firmware::new(bank.mmio(), Box::leak(Box::default()), model);
        (bank, model, firmware)
    }

    fn reply(message: &Message, values: &[u32]) {
        message.set(1, SUCCESS);
        message.set(4, ANSWERED | (values.len() as u32 * 4));
        for (index, value) in values.iter().enumerate() {
            message.set(HEAD + index, *value);
        }
    }

    #[test]
    fn a_question_is_laid_out_and_sent_on_the_property_channel() {
        let (bank, model, mut firmware) = machine(|message| reply(message, &[2, 48_000_000]));
        assert_eq!(firmware.clock_hz(Clock::Uart), Ok(48_000_000));
        assert_eq!(*model.asked.borrow(), [32, 0, 0x0003_0002, 8, 0, 2, 0, 0]);
        assert_eq!(bank.get(WRITE), BUS | 8);
        assert_eq!(model.flushes.get(), 2, "written back before, dropped after");
    }

    #[test]
    fn values_are_decoded() {
        let (_bank, _, mut firmware) = machine(|message| reply(message, &[0, 0x3b40_0000]));
        assert_eq!(firmware.arm_memory(), Ok(Memory { base: 0, len: 0x3b40_0000 }));
        let (_bank, _, mut firmware) = machine(|message| reply(message, &[0x89ab_cdef, 0x1234_5678]));
        assert_eq!(firmware.serial_number(), Ok(0x1234_5678_89ab_cdef));
        let (_bank, _, mut firmware) = machine(|message| {
            reply(message, &[0xddeb_27b8, 0xbeef_fe01]);
            message.set(4, ANSWERED | 6);
        });
        assert_eq!(firmware.mac_address(), Ok([0xb8, 0x27, 0xeb, 0xdd, 0x01, 0xfe]));
    }

    #[test]
    fn an_expanders_pin_keeps_its_polarity() {
        let (_bank, model, mut firmware) = machine(|message| match message.get(2) {
            0x0003_0043 => reply(message, &[0, 0, 1, 0, 0]),
            _ => reply(message, &[0, 1, 1, 0, 0, 1]),
        });
        assert_eq!(firmware.configure_output(130, true), Ok(()));
        assert_eq!(*model.asked.borrow(), [48, 0, 0x0003_8043, 24, 0, 130, 1, 1, 0, 0, 1, 0]);
        assert_eq!(model.flushes.get(), 4);
        let (_bank, model, mut firmware) = machine(|message| reply(message, &[0, 0]));
        assert_eq!(firmware.set_pin(130, true), Ok(()));
        assert_eq!(*model.asked.borrow(), [32, 0, 0x0003_8041, 8, 0, 130, 1, 0]);
        let (_bank, _, mut firmware) = machine(|message| reply(message, &[130, 0, 0, 0, 0]));
        assert_eq!(firmware.set_pin(130, true), Err(Error::Refused), "no such pin");
        assert_eq!(firmware.configure_output(130, true), Err(Error::Refused));
    }

    #[test]
    fn a_command_line_ends_at_its_nul_and_at_the_buffers_end() {
        let answer: fn(&Message) = |message| {
            let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
            reply(message, &[word(b"quie"), word(b"t\0xx")]);
        };
        let (_bank, _, mut firmware) = machine(answer);
        assert_eq!(firmware.command_line(&mut [0; 64]), Ok(&b"quiet"[..]));
        let (_bank, _, mut firmware) = machine(answer);
        assert_eq!(firmware.command_line(&mut [0; 3]), Ok(&b"qui"[..]));
    }

    #[test]
    fn unknown_tags_are_told_from_answers() {
        // Hardware: no mark. QEMU: a mark and no length.
        let (_bank, _, mut firmware) = machine(|message| message.set(1, SUCCESS));
        assert_eq!(firmware.set_pin(130, true), Err(Error::Unsupported));
        let (_bank, _, mut firmware) = machine(|message| reply(message, &[]));
        assert_eq!(firmware.set_pin(130, true), Err(Error::Unsupported));
        let (_bank, _, mut firmware) = machine(|message| message.set(1, 0x8000_0001));
        assert_eq!(firmware.revision(), Err(Error::Refused));
        let (_bank, _, mut firmware) = machine(|message| reply(message, &[1]));
        assert_eq!(firmware.arm_memory(), Err(Error::Refused), "half an answer is none");
    }

    #[test]
    fn a_silent_firmware_is_given_up() {
        let (bank, _, mut firmware) = machine(|_| ());
        bank.set(STATUS1, 1 << 31);
        assert_eq!(firmware.revision(), Err(Error::Silent), "never room");
        bank.set(STATUS1, 0);
        bank.set(STATUS0, 1 << 30);
        assert_eq!(firmware.revision(), Err(Error::Silent), "never an answer");
        bank.set(STATUS0, 0);
        bank.set(READ, 0x1234_5671);
        assert_eq!(firmware.revision(), Err(Error::Silent), "answers for others only");
    }
}
