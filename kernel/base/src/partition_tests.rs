use super::*;
use proptest::prelude::*;

struct Image {
    bytes: Vec<u8>,
    block: usize,
}

impl Image {
    fn new(block: usize, nr_blocks: usize) -> Self {
        Self { bytes: vec![0; block * nr_blocks], block }
    }
    fn put(&mut self, block: u64, at: usize, bytes: &[u8]) {
        let at = block as usize * self.block + at;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn record(&mut self, block: u64, entries: &[(u8, u32, u32)]) {
        for (index, (kind, start, len)) in entries.iter().enumerate() {
            let at = ENTRIES_AT + ENTRY_BYTES * index;
            self.put(block, at + 4, &[*kind]);
            self.put(block, at + 8, &start.to_le_bytes());
            self.put(block, at + 12, &len.to_le_bytes());
        }
        self.put(block, SIGNATURE_AT, &[0x55, 0xaa]);
    }
    /// Writes a header at `at`, whose table is at `table`, with these partitions (entry, first, last, name).
    fn gpt(&mut self, at: u64, table: u64, partitions: &[(usize, u64, u64, &str)]) {
        let last = (self.bytes.len() / self.block) as u64 - 1;
        let mut entries = vec![0; 128 * 128];
        for (index, first, last, name) in partitions {
            let entry = &mut entries[128 * index..][..128];
            entry[..16].fill(0xaf);
            entry[16..32].copy_from_slice(&core::array::from_fn::<u8, 16, _>(|byte| byte as u8 * 16 + *index as u8));
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (at, unit) in name.encode_utf16().enumerate() {
                entry[56 + 2 * at..][..2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        self.put(table, 0, &entries);
        let mut header = [0; 92];
        header[..8].copy_from_slice(GPT_SIGNATURE);
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        header[24..32].copy_from_slice(&at.to_le_bytes());
        header[40..48].copy_from_slice(&34u64.to_le_bytes());
        header[48..56].copy_from_slice(&(last - 34).to_le_bytes());
        header[72..80].copy_from_slice(&table.to_le_bytes());
        header[80..84].copy_from_slice(&128u32.to_le_bytes());
        header[84..88].copy_from_slice(&128u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32(&[&entries]).to_le_bytes());
        let crc = crc32(&[&header]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        self.put(at, 0, &header);
    }
}

impl Blocks for Image {
    type Error = ();
    fn block_bytes(&self) -> usize {
        self.block
    }
    fn nr_blocks(&self) -> u64 {
        (self.bytes.len() / self.block) as u64
    }
    fn read(&self, block: u64, bytes: &mut [u8]) -> Result<(), ()> {
        let at = usize::try_from(block).unwrap() * self.block;
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }
}

fn places(image: &Image) -> Vec<(u32, u64, u64)> {
    read(image).unwrap().iter().map(|part| (part.number, part.first_block, part.nr_blocks)).collect()
}

#[test]
fn no_table() {
    assert!(places(&Image::new(512, 100)).is_empty());
    assert!(places(&Image::new(512, 1)).is_empty());
    let mut fat = Image::new(512, 100);
    fat.record(0, &[(0x73, 0x6c6c_656e, 10)]);
    fat.put(0, ENTRIES_AT, b"text where entries would be");
    assert!(places(&fat).is_empty());
}

#[test]
fn primary_and_logical() {
    let mut image = Image::new(512, 1000);
    image.put(0, DISK_ID_AT, &0xcafe_f00du32.to_le_bytes());
    image.record(0, &[(0x83, 10, 90), (0x05, 200, 500), (0, 0, 0), (0x83, 900, 500)]);
    image.record(200, &[(0x83, 2, 50), (0x05, 100, 100)]);
    image.record(300, &[(0x83, 2, 60), (0, 0, 0)]);
    let wanted = [(1, 10, 90), (2, 200, 2), (4, 900, 100), (5, 202, 50), (6, 302, 60)];
    assert_eq!(places(&image), wanted, "what passes the end is cut");
    assert_eq!(read(&image).unwrap()[3].id.to_string(), "cafef00d-05");
}

#[test]
fn a_chain_that_goes_round_ends() {
    let mut image = Image::new(512, 1000);
    image.record(0, &[(0x0f, 100, 900)]);
    image.record(100, &[(0x83, 1, 1), (0x05, 50, 1)]);
    image.record(150, &[(0x83, 1, 1), (0x05, 50, 1)]);
    assert!(places(&image).len() <= MAX_PARTITIONS);
    let mut beyond = Image::new(512, 200);
    beyond.record(0, &[(0x0f, 100, u32::MAX)]);
    beyond.record(100, &[(0x83, u32::MAX, u32::MAX), (0x05, u32::MAX, 1)]);
    assert_eq!(places(&beyond), [(1, 100, 2)]);
}

#[test]
fn gpt_of_both_block_sizes_and_its_copy() {
    for block in [512, 4096] {
        let mut image = Image::new(block, 1000);
        image.record(0, &[(TYPE_GPT, 1, u32::MAX)]);
        let partitions =
            [(0, 100, 199, "root"), (2, 200, 200, "Größe"), (3, 300, 2000, "beyond"), (4, 9, 5, "backwards")];
        image.gpt(1, 2, &partitions);
        image.gpt(999, 960, &partitions);
        let wanted = [(1, 100, 100), (3, 200, 1)];
        assert_eq!(places(&image), wanted);
        let parts = read(&image).unwrap();
        assert_eq!((&*parts[0].name, &*parts[1].name), (&b"root"[..], "Größe".as_bytes()));
        assert_eq!(parts[0].id.to_string(), "30201000-5040-7060-8090-a0b0c0d0e0f0");
        // Any bit of header or table makes the copy count.
        image.put(2, 40, &[7]);
        assert_eq!(places(&image), wanted);
        image.put(960, 40, &[7]);
        assert!(places(&image).is_empty());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_inside_the_disk(
        seed in proptest::collection::vec((0usize..3 * 512, any::<u8>()), 0..200),
        kinds in proptest::collection::vec((prop_oneof![Just(0x83), Just(0x05), Just(TYPE_GPT)], any::<u32>(), any::<u32>()), 4),
        blocks in 2usize..200,
    ) {
        let mut image = Image::new(512, blocks.max(40));
        image.gpt(1, 2, &[(0, 36, 38, "x")]);
        for (at, byte) in seed {
            image.bytes[at] = byte;
        }
        image.record(0, &kinds);
        for index in 0..4 {
            image.put(0, ENTRIES_AT + ENTRY_BYTES * index, &[0]);
        }
        for part in read(&image).unwrap() {
            prop_assert!(part.nr_blocks > 0 && part.first_block > 0);
            prop_assert!(part.first_block + part.nr_blocks <= image.nr_blocks());
        }
    }
}
