//! Which disks and partitions there are, and their numbers: 254:16n for virtio's n-th disk and 15 partitions behind it, 7:n for loop
//! device n, 259:n for all partitions that have no number there.

use super::disk::{Disk, Driver};
use super::volume::Volume;
use crate::prelude::*;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use drivers::traits::BlockDevice;
use spin::Once;

/// A device number in the kernel's encoding: 12 bits of major, 20 of minor.
const fn makedev(major: u32, minor: u32) -> u64 {
    (minor as u64 & 0xff) | (major as u64 & 0xfff) << 8 | (minor as u64 & !0xff) << 12
}

pub const VIRTIO_MAJOR: u32 = 254;
pub const LOOP_MAJOR: u32 = 7;
pub const EXTENDED_MAJOR: u32 = 259;
/// Minors of a virtio disk: itself and its first partitions.
const MINORS: u32 = 16;

static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(Vec::new());
static NEXT_EXTENDED: AtomicU32 = AtomicU32::new(0);
/// Rises whenever the size of a disk may have changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// What happens to volumes.
pub enum Change<'a> {
    Added(&'a Volume),
    Removed(&'a Volume),
}

/// Who makes nodes in /dev.
static LISTENER: Once<fn(Change<'_>)> = Once::new();

/// Has `listener` hear of every volume that comes or goes from now on.
pub fn set_listener(listener: fn(Change<'_>)) {
    LISTENER.call_once(|| listener);
}

pub(super) fn announce(change: Change<'_>) {
    if let Some(listener) = LISTENER.get() {
        listener(change);
    }
}

/// A disk's properties changed. Interrupt context.
pub(super) fn changed() {
    CHANGES.fetch_add(1, Ordering::Release);
}

/// A number that rises when a size may have changed.
pub fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

pub fn disks() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// Every disk, each followed by its partitions.
pub fn volumes() -> Vec<Arc<Volume>> {
    disks().iter().flat_map(|disk| disk.volumes()).collect()
}

/// The volume with this device number.
pub fn by_number(number: u64) -> Option<Arc<Volume>> {
    let disks = DISKS.lock();
    disks.iter().find_map(|disk| disk.volumes.lock().iter().find(|volume| volume.number == number).cloned())
}

/// The volume that `name` names: "vda1", "/dev/vda1", "PARTUUID=...", "PARTLABEL=...", "254:1", or the number in hexadecimal, as
/// `root=` has it.
pub fn by_name(name: &str) -> Option<Arc<Volume>> {
    if let Some(id) = name.strip_prefix("PARTUUID=") {
        let is_it = |volume: &Arc<Volume>| {
            let partition = volume.partition.as_ref();
            partition.is_some_and(|partition| alloc::format!("{}", partition.id).eq_ignore_ascii_case(id))
        };
        return volumes().into_iter().find(is_it);
    }
    if let Some(label) = name.strip_prefix("PARTLABEL=") {
        let is_it = |volume: &Arc<Volume>| {
            volume.partition.as_ref().is_some_and(|partition| partition.name == label.as_bytes())
        };
        return volumes().into_iter().find(is_it);
    }
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    if let Some(found) = volumes().into_iter().find(|volume| &*volume.name == name) {
        return Some(found);
    }
    if let Some((major, minor)) = name.split_once(':') {
        return by_number(makedev(major.parse().ok()?, minor.parse().ok()?));
    }
    by_number(u64::from_str_radix(name, 16).ok()?)
}

/// The letters of the n-th disk of a kind: a, b, ..., z, aa, ab, ...
fn letters(index: usize) -> String {
    let last = char::from(b'a' + (index % 26) as u8);
    let mut text = if index < 26 { String::new() } else { letters(index / 26 - 1) };
    text.push(last);
    text
}

/// The number of partition `partition` of `disk`.
pub(super) fn partition_number(disk: &Disk, partition: u32) -> u64 {
    let whole = disk.volumes.lock().first().map_or(0, |whole| whole.number);
    let (major, minor) = ((whole >> 8 & 0xfff) as u32, (whole & 0xff | whole >> 12 & 0xf_ff00) as u32);
    if major == VIRTIO_MAJOR && partition < MINORS {
        makedev(major, minor + partition)
    } else {
        makedev(EXTENDED_MAJOR, NEXT_EXTENDED.fetch_add(1, Ordering::Relaxed))
    }
}

fn add(disk: &Arc<Disk>, number: u64) -> Arc<Volume> {
    let whole = Volume::whole(disk, number);
    disk.volumes.lock().push(whole.clone());
    DISKS.lock().push(disk.clone());
    announce(Change::Added(&whole));
    whole
}

/// Gives a virtio disk its name and number, and reads its partitions. The caller passes interrupts on to
/// [`Disk::handle_irq`] from before this call on.
pub fn prepare_virtio(device: Arc<dyn BlockDevice>) -> Arc<Disk> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let index = NEXT.fetch_add(1, Ordering::Relaxed);
    Disk::new(&alloc::format!("vd{}", letters(index as usize)), Driver::Queued(device))
}

/// Shows the disk. May sleep.
pub fn add_virtio(disk: &Arc<Disk>) {
    let index = disks().iter().filter(|disk| disk.name.starts_with("vd")).count() as u32;
    if let Some(serial) = disk.identify() {
        disk.serial.call_once(|| serial);
    }
    add(disk, makedev(VIRTIO_MAJOR, index * MINORS));
    let _ = super::partitions::reread(disk);
}

/// Shows loop device `index`.
pub fn add_loop(index: u32, driver: Driver) -> Arc<Volume> {
    let disk = Disk::new(&alloc::format!("loop{index}"), driver);
    add(&disk, makedev(LOOP_MAJOR, index))
}

/// Takes a disk away: its volumes are empty from now on.
pub fn remove(disk: &Arc<Disk>) {
    DISKS.lock().retain(|other| !Arc::ptr_eq(other, disk));
    for volume in disk.volumes() {
        volume.remove();
        announce(Change::Removed(&volume));
    }
}
