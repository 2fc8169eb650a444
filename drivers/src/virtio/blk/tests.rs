use super::*;
use crate::dma::testing::alloc;
use crate::virtio::VERSION_1;
use crate::virtio::model::{Model, ModelBus};
use std::sync::Arc;

const FULL: u64 = VERSION_1
    | SIZE_MAX
    | SEG_MAX
    | BLK_SIZE
    | FLUSH
    | TOPOLOGY
    | MQ
    | DISCARD
    | WRITE_ZEROES
    | INDIRECT_DESC
    | EVENT_IDX;
const PLAIN: u64 = VERSION_1 | SEG_MAX | FLUSH;
const SECTOR: usize = SECTOR_BYTES as usize;

/// 8 MiB of 512-byte blocks, 4 KiB physical, 6 segments of up to 64 KiB, 2 queues.
fn config() -> Vec<u8> {
    let mut config = vec![0; 60];
    config[..8].copy_from_slice(&16_384u64.to_le_bytes());
    config[8..12].copy_from_slice(&65_536u32.to_le_bytes());
    config[12..16].copy_from_slice(&6u32.to_le_bytes());
    config[20..24].copy_from_slice(&512u32.to_le_bytes());
    config[24] = 3;
    config[26..28].copy_from_slice(&8u16.to_le_bytes());
    config[34..36].copy_from_slice(&2u16.to_le_bytes());
    config[36..40].copy_from_slice(&1000u32.to_le_bytes());
    config[44..48].copy_from_slice(&8u32.to_le_bytes());
    config[48..52].copy_from_slice(&2000u32.to_le_bytes());
    config
}

fn device_with(features: u64, config: &[u8], queue_size: u16) -> (Arc<Model>, Blk) {
    let model = Model::new(features, config);
    model.0.lock().unwrap().queue_size = queue_size;
    let blk = Blk::new(Box::new(ModelBus(model.clone())), alloc, 8).unwrap();
    (model, blk)
}

fn device(features: u64) -> (Arc<Model>, Blk) {
    device_with(features, &config(), 64)
}

/// Memory of a request.
struct Buffer(crate::dma::Dma);

impl Buffer {
    fn new(len: usize) -> Self {
        Self(alloc(len).unwrap())
    }
    fn segment(&self, offset: usize, len: usize) -> Segment {
        Segment { phys: self.0.phys(offset), len_bytes: len as u32 }
    }
    fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read(offset, &mut bytes);
        bytes
    }
}

/// The device's hands: does one request of `queue` on `disk`, and says so.
fn serve(model: &Model, queue: u16, disk: &mut [u8]) -> bool {
    let Some((number, pieces)) = model.take_chain(queue) else { return false };
    let (first, last) = (pieces[0], pieces[pieces.len() - 1]);
    assert_eq!((first.1, first.2, last.1, last.2), (16, false, 1, true));
    let header = model.read(first.0, 16);
    let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
    let mut at = SECTOR * u64::from_le_bytes(header[8..].try_into().unwrap()) as usize;
    let mut status = 0;
    let mut written = 1;
    for &(address, len, device_writes) in &pieces[1..pieces.len() - 1] {
        let len_bytes = len as usize;
        match kind {
            0 if device_writes && at + len_bytes <= disk.len() => model.write(address, &disk[at..at + len_bytes]),
            1 if !device_writes && at + len_bytes <= disk.len() => {
                disk[at..at + len_bytes].copy_from_slice(&model.read(address, len));
            }
            8 => model.write(address, b"a serial number\0\0\0\0\0"),
            11 | 13 => {
                let range = model.read(address, len);
                let start = SECTOR * u64::from_le_bytes(range[..8].try_into().unwrap()) as usize;
                let count = SECTOR * u32::from_le_bytes(range[8..12].try_into().unwrap()) as usize;
                disk[start..start + count].fill(if kind == 13 { 0 } else { 0xdd });
            }
            _ => status = 1,
        }
        at += len_bytes;
        written += if device_writes { len } else { 0 };
    }
    model.write(last.0, &[status]);
    model.give(queue, &[(number, written)]);
    true
}

fn finished(blk: &Blk, queue: usize) -> Vec<(u16, Result<(), BlockError>)> {
    let mut all = Vec::new();
    blk.complete(queue, &mut |tag, result| all.push((tag, result)));
    all
}

#[test]
fn says_what_the_disk_is() {
    let (_, blk) = device(FULL);
    let info = blk.info();
    assert_eq!(
        (info.nr_sectors, info.logical_bytes, info.physical_bytes, info.io_min_bytes),
        (16_384, 512, 4096, 4096)
    );
    assert_eq!((info.max_discard_sectors, info.max_zeroes_sectors, info.discard_align_sectors), (1000, 2000, 8));
    assert_eq!((info.max_segments, info.max_segment_bytes, info.nr_queues, info.depth), (6, 65_536, 2, 64));
    assert!(info.has_write_cache && !info.is_read_only && !info.has_fua);
    let (_, plain) = device(VERSION_1 | RO);
    let info = plain.info();
    assert!(info.is_read_only && !info.has_write_cache);
    assert_eq!((info.logical_bytes, info.max_segments, info.max_discard_sectors, info.nr_queues), (512, 1, 0, 1));
}

#[test]
fn refuses_devices_that_cannot_be() {
    let refuse = |features, change: fn(&mut Vec<u8>)| {
        let mut config = config();
        change(&mut config);
        let model = Model::new(features, &config);
        let error = Blk::new(Box::new(ModelBus(model.clone())), alloc, 8).err();
        assert!(model.0.lock().unwrap().failed);
        error
    };
    assert_eq!(refuse(FLUSH, |_| ()), Some(Error::Legacy));
    assert_eq!(refuse(FULL, |config| config[20..24].fill(0)), Some(Error::Malformed));
    assert_eq!(refuse(FULL, |config| config[20] = 3), Some(Error::Malformed));
    assert_eq!(refuse(FULL, |config| config[8..12].copy_from_slice(&[1, 0, 0, 0])), Some(Error::Malformed));
    // 8 descriptors do not hold a chain of 6 segments twice, but once.
    assert_eq!(device_with(PLAIN, &config(), 8).1.info().depth, 1);
    assert_eq!(refuse(PLAIN, |config| config[12] = 14), Some(Error::NoQueue));
}

#[test]
fn writes_and_reads_back_in_pieces_for_longer_than_the_index_is() {
    for features in [FULL, PLAIN, PLAIN | INDIRECT_DESC] {
        let (model, blk) = device(features);
        let depth = blk.info().depth;
        let mut disk = vec![0; 64 * SECTOR];
        let (from, to) = (Buffer::new(4096), Buffer::new(4096));
        for round in 0..70_000u32 {
            let tag = (round % u32::from(depth)) as u16;
            let sector = u64::from(round % 60);
            from.0.write(1024, &[round as u8; 2 * SECTOR]);
            from.0.write(0, &round.to_le_bytes());
            let pieces = [from.segment(0, SECTOR), from.segment(1024, 2 * SECTOR)];
            blk.submit(0, tag, BlockOp::Write { fua: false }, sector, 0, &pieces).unwrap();
            blk.commit(0);
            assert!(serve(&model, 0, &mut disk));
            assert_eq!(finished(&blk, 0), [(tag, Ok(()))]);
            blk.submit(0, tag, BlockOp::Read, sector, 0, &[to.segment(512, 3 * SECTOR)]).unwrap();
            blk.commit(0);
            assert!(serve(&model, 0, &mut disk));
            assert_eq!(finished(&blk, 0), [(tag, Ok(()))]);
            assert_eq!(to.bytes(512, 4), round.to_le_bytes(), "round {round}");
            assert_eq!(to.bytes(1024, 2 * SECTOR), [round as u8; 2 * SECTOR]);
        }
    }
}

#[test]
fn every_tag_of_every_queue_at_once_and_in_any_order() {
    let (model, blk) = device(FULL);
    let mut disk = vec![7; 64 * SECTOR];
    let buffer = Buffer::new(128 * SECTOR);
    for queue in 0..2 {
        for tag in 0..64u16 {
            let offset = (queue * 64 + usize::from(tag)) * SECTOR;
            blk.submit(queue, tag, BlockOp::Read, tag.into(), 0, &[buffer.segment(offset, SECTOR)]).unwrap();
        }
        blk.commit(queue);
    }
    assert!(model.notified(0) == 1 && model.notified(1) == 1, "one notification for all");
    for queue in [1, 0] {
        while serve(&model, queue, &mut disk) {}
        let done = finished(&blk, queue.into());
        assert_eq!(done.len(), 64);
        assert!(done.iter().all(|(_, result)| result.is_ok()));
    }
    assert_eq!(buffer.bytes(0, 128 * SECTOR), [7; 128 * SECTOR]);
}

#[test]
fn flush_discard_zeroes_and_identify() {
    let (model, blk) = device(FULL);
    let mut disk = vec![7; 64 * SECTOR];
    let serial = Buffer::new(20);
    blk.submit(0, 1, BlockOp::Flush, 0, 0, &[]).unwrap();
    blk.submit(0, 2, BlockOp::Discard, 8, 16, &[]).unwrap();
    blk.submit(0, 3, BlockOp::WriteZeroes { may_unmap: true }, 32, 2, &[]).unwrap();
    blk.submit(0, 4, BlockOp::Identify, 0, 0, &[serial.segment(0, 20)]).unwrap();
    blk.commit(0);
    while serve(&model, 0, &mut disk) {}
    assert_eq!(finished(&blk, 0), [(1, Ok(())), (2, Ok(())), (3, Ok(())), (4, Ok(()))]);
    assert_eq!((disk[8 * SECTOR], disk[24 * SECTOR], disk[32 * SECTOR], disk[34 * SECTOR]), (0xdd, 7, 0, 7));
    assert_eq!(serial.bytes(0, 15), b"a serial number");
    // Beyond what the device takes.
    let refused = Err(BlockError::Unsupported);
    let buffer = Buffer::new(8 * 4096);
    assert_eq!(blk.submit(0, 5, BlockOp::Discard, 0, 1001, &[]), refused);
    assert_eq!(blk.submit(0, 5, BlockOp::Read, 0, 0, &[buffer.segment(0, 512); 7]), refused);
    assert_eq!(blk.submit(2, 5, BlockOp::Flush, 0, 0, &[]), refused);
    let (_, read_only) = device(VERSION_1 | RO);
    let write = |op| read_only.submit(0, 0, op, 0, 0, &[]);
    assert_eq!(write(BlockOp::Write { fua: false }), refused);
    assert_eq!(write(BlockOp::Discard), refused);
}

#[test]
fn errors_are_the_tags_own() {
    let (model, blk) = device(FULL);
    let mut disk = vec![0; 4 * SECTOR];
    let buffer = Buffer::new(4096);
    for (tag, sector) in [(0, 1), (1, 100), (2, 2)] {
        blk.submit(0, tag, BlockOp::Read, sector, 0, &[buffer.segment(0, SECTOR)]).unwrap();
    }
    blk.submit(0, 3, BlockOp::Flush, 0, 0, &[]).unwrap();
    blk.commit(0);
    for _ in 0..3 {
        serve(&model, 0, &mut disk);
    }
    // Says that it is done and never wrote a status; another that it does not know.
    let (number, _) = model.take_chain(0).unwrap();
    model.give(0, &[(number, 1)]);
    let io = Err(BlockError::Io);
    assert_eq!(finished(&blk, 0), [(0, Ok(())), (1, io), (2, Ok(())), (3, io)]);
    blk.submit(0, 9, BlockOp::Flush, 0, 0, &[]).unwrap();
    blk.commit(0);
    let (number, pieces) = model.take_chain(0).unwrap();
    model.write(pieces[1].0, &[2]);
    model.give(0, &[(number, 1)]);
    assert_eq!(finished(&blk, 0), [(9, Err(BlockError::Unsupported))]);
    assert!(!blk.is_gone());
}

#[test]
fn interrupts_come_for_what_was_not_looked_at() {
    for features in [PLAIN, FULL] {
        let (model, blk) = device(features);
        let mut disk = vec![0; 4 * SECTOR];
        for round in 0..70_000 {
            assert!(!blk.enable_interrupt(0), "round {round}");
            blk.submit(0, 0, BlockOp::Flush, 0, 0, &[]).unwrap();
            blk.commit(0);
            let before = model.interrupts(0);
            serve(&model, 0, &mut disk);
            assert_eq!(model.interrupts(0), before + 1, "round {round}");
            assert_eq!(blk.acknowledge(), BlockEvents { queue: true, config: false });
            assert!(blk.enable_interrupt(0), "it is there");
            assert_eq!(finished(&blk, 0).len(), 1);
        }
    }
}

#[test]
fn the_size_changes() {
    let (model, blk) = device(FULL);
    {
        let mut state = model.0.lock().unwrap();
        state.config[..8].copy_from_slice(&99u64.to_le_bytes());
        state.events.config = true;
    }
    assert_eq!(blk.acknowledge(), BlockEvents { queue: false, config: true });
    assert_eq!(blk.info().nr_sectors, 99);
    // A size no disk has stays countable in bytes.
    {
        let mut state = model.0.lock().unwrap();
        state.config[..8].fill(0xff);
        state.events.config = true;
    }
    blk.acknowledge();
    assert!(blk.info().nr_sectors.checked_mul(512).is_some());
}

/// Whatever a device writes into its rings, each request ends once, and the device is reset before anybody hears that it is lost.
#[test]
fn a_hostile_device_is_shut_out_and_nobody_waits_for_ever() {
    let lies: [fn(&Model); 6] = [
        |model| model.give(0, &[(77, 100)]),
        |model| model.give(0, &[(u32::MAX, u32::MAX)]),
        |model| {
            let (number, _) = model.take_chain(0).unwrap();
            model.give(0, &[(number, 1), (number, 1)]);
        },
        |model| model.lie_about_used(0, 40_000),
        |model| model.lie_about_used(0, u16::MAX),
        |model| {
            let mut state = model.0.lock().unwrap();
            state.needs_reset = true;
            state.events.config = true;
        },
    ];
    for features in [FULL, PLAIN] {
        for lie in lies {
            let (model, blk) = device(features);
            let before = model.0.lock().unwrap().resets;
            for tag in 0..5 {
                blk.submit(0, tag, BlockOp::Flush, 0, 0, &[]).unwrap();
            }
            blk.commit(0);
            lie(&model);
            blk.acknowledge();
            let mut reset_first = true;
            let mut tags = Vec::new();
            blk.complete(0, &mut |tag, result| {
                reset_first &= result != Err(BlockError::Gone) || model.0.lock().unwrap().resets == before + 1;
                tags.push(tag);
            });
            tags.sort_unstable();
            assert_eq!(tags, [0, 1, 2, 3, 4]);
            assert!(reset_first && blk.is_gone());
            assert_eq!(blk.submit(0, 0, BlockOp::Flush, 0, 0, &[]), Err(BlockError::Gone));
            assert!(finished(&blk, 0).is_empty());
        }
    }
}

/// A device that takes requests and never says a word, and a caller that has waited long enough.
#[test]
fn a_dumb_device_is_given_up() {
    let (model, blk) = device(FULL);
    for queue in 0..2 {
        blk.submit(queue, 3, BlockOp::Flush, 0, 0, &[]).unwrap();
        blk.commit(queue);
    }
    let (number, _) = model.take_chain(0).unwrap();
    assert!(finished(&blk, 0).is_empty());
    blk.shut();
    // It comes back to life too late.
    model.give(0, &[(number, 1)]);
    assert_eq!(finished(&blk, 0), [(3, Err(BlockError::Gone))]);
    assert_eq!(finished(&blk, 1), [(3, Err(BlockError::Gone))]);
    blk.shut();
    assert_eq!(model.0.lock().unwrap().resets, 2, "at the start, and once more");
}
