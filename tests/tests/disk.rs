//! Disks: read and written back on both transports, partitions, Debian's tools on the nodes, disks that fail.

use machine_tests::{Run, crannog, shell};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An image that goes with the test.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, mib: u64) -> Self {
        let path = std::env::temp_dir().join(format!("crannog-disk-{}-{name}.img", std::process::id()));
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        Self(path)
    }
    fn path(&self) -> String {
        self.0.display().to_string()
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().write(true).open(&self.0).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }
    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut file = File::open(&self.0).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).unwrap();
        bytes
    }
    /// An MBR with partitions of these types, first sectors and lengths.
    fn partition(&self, entries: &[(u8, u32, u32)]) {
        let mut block = [0; 512];
        for (entry, (kind, start, len)) in block[446..].chunks_exact_mut(16).zip(entries) {
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..].copy_from_slice(&len.to_le_bytes());
        }
        block[510..].copy_from_slice(&[0x55, 0xaa]);
        self.write(0, &block);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A line of shell with the disk on one of the transports.
fn on(transport: &str, image: &Path, options: &[&str], line: &str) -> Run {
    let drive = format!("--qemu-arg=if=none,id=d0,format=raw,discard=unmap,file={}", image.display());
    let device = format!("--qemu-arg=virtio-blk-{transport},drive=d0");
    let mut all = vec!["--qemu-arg=-drive", &drive, "--qemu-arg=-device", &device];
    all.extend(options);
    shell(&all, line)
}

#[test]
fn what_is_written_is_there_on_both_transports() {
    for (transport, cpus) in [("device", "1"), ("device,num-queues=4", "4"), ("pci", "4")] {
        let (transport, queues) = transport.split_once(',').unwrap_or((transport, ""));
        let image = Image::new(transport, 32);
        image.partition(&[(0x83, 2048, 16_384), (0x83, 18_432, 40_960)]);
        image.write(2048 * 512, b"from the host");
        let line = "grep -q vda2 /proc/partitions && [ $(cat /sys/block/vda/vda2/start) = 18432 ] && head -c 13 /dev/vda1 && \
            for i in 0 1 2 3; do (head -c 3000000 /dev/urandom > /tmp/$i; \
                dd if=/tmp/$i of=/dev/vda2 bs=4096 seek=$((i*1024)) conv=notrunc 2>/dev/null) & done; wait; sync; \
            for i in 0 1 2 3; do dd if=/dev/vda2 bs=4096 skip=$((i*1024)) 2>/dev/null | head -c 3000000 | cmp - /tmp/$i || exit 9; done; \
            echo ' read back'; printf 'from the guest' | dd of=/dev/vda1 conv=notrunc,fsync 2>/dev/null";
        let device = format!("{transport}{}{queues}", if queues.is_empty() { "" } else { "," });
        on(&device, &image.0, &["--cpus", cpus], line).expect(0).prints("from the host read back\n");
        assert_eq!(image.read(2048 * 512, 14), b"from the guest");
    }
}

#[test]
fn debians_tools_make_and_check_a_file_system() {
    let image = Image::new("tools", 64);
    image.partition(&[(0x83, 2048, 122_880)]);
    let line = "mkfs.ext4 -q -F -L label /dev/vda1 && e2fsck -fn /dev/vda1 >/dev/null 2>&1 && \
        tune2fs -l /dev/vda1 | grep -q 'volume name: *label' && \
        [ $(blockdev --getsize64 /dev/vda) = 67108864 ] && [ $(blockdev --getss /dev/vda) = 512 ] && \
        /usr/sbin/blkdiscard -f -z -o 33554432 -l 1048576 /dev/vda 2>/dev/null && /usr/sbin/blkdiscard -f -o 0 -l 1048576 /dev/vda 2>/dev/null && \
        blockdev --flushbufs /dev/vda && blockdev --rereadpt /dev/vda && [ ! -e /sys/block/vda/vda1 ] && echo good";
    let disk = image.path();
    let debs = "busybox-static,e2fsprogs,util-linux";
    let words = ["--disk", &disk, "--net", "none", "--debs", debs, "--", "/bin/busybox", "sh", "-c", line];
    crannog(&words).expect(0).prints("good\n");
}

#[test]
fn a_disk_that_is_read_only_or_in_use() {
    let image = Image::new("ro", 4);
    let read_only = format!("{},ro", image.path());
    let line = "cat /sys/block/vda/ro; dd if=/dev/zero of=/dev/vda count=1 2>&1 | grep -o 'Operation not permitted'";
    shell(&["--disk", &read_only], line).expect(0).prints("1\nOperation not permitted\n");
    let held = File::open(&image.0).unwrap();
    held.lock().unwrap();
    let run = crannog(&["--disk", &image.path(), "--debs", "busybox-static", "--", "/bin/busybox", "true"]);
    run.expect(125).says("in use by another machine");
}

/// Sectors that the host cannot read are EIO for who reads them, and for nobody else.
#[test]
fn sectors_that_fail() {
    let image = Image::new("bad", 8);
    let drive = format!(
        "--qemu-arg=driver=blkdebug,node-name=d0,image.driver=raw,image.file.driver=file,image.file.filename={},\
         inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector=8192,inject-error.0.once=off",
        image.path()
    );
    let line = "dd if=/dev/vda of=/dev/null bs=4096 skip=1024 count=1 2>&1 | grep -o 'Input/output error'; \
        dd if=/dev/vda of=/dev/null bs=4096 skip=0 count=1000 2>/dev/null && echo others";
    let options = ["--qemu-arg=-blockdev", &drive, "--qemu-arg=-device", "--qemu-arg=virtio-blk-device,drive=d0"];
    shell(&options, line).expect(0).prints("Input/output error\nothers\n");
}
