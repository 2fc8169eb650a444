//! Files that go with an image: compressed form, block map, checksum, Raspberry Pi Imager's list.

use super::Options;
use anyhow::{Context, Result, bail, ensure};
use lzma_rust2::{CheckType, XzOptions, XzWriter};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a block in block maps, and of the holes that are left in image files.
const BLOCK: u64 = 4096;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `card.img` with `.bmap` or whatever behind its name.
pub fn beside(image: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(image);
    name.push(ending);
    PathBuf::from(name)
}

/// Writes a file under a passing name and renames it: whoever finds `path` finds all of it.
fn put(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let partial = beside(path, ".partial");
    let result = File::create(&partial).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    });
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result.with_context(|| path.display().to_string())
}

/// Writes the image, leaving holes where nothing is.
fn write_sparse(file: &mut File, image: &[u8]) -> std::io::Result<()> {
    file.set_len(image.len() as u64)?;
    for (index, block) in image.chunks(BLOCK as usize).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(index as u64 * BLOCK))?;
            file.write_all(block)?;
        }
    }
    Ok(())
}

fn compress(file: &mut File, image: &[u8]) -> std::io::Result<()> {
    let mut options = XzOptions::with_preset(6);
    options.set_check_sum_type(CheckType::Crc64);
    let mut writer = XzWriter::new(file, options)?;
    writer.write_all(image)?;
    writer.finish().map(drop)
}

/// The block map of an image whose bytes from `used` on do not matter.
fn bmap(image: &[u8], used: u64) -> String {
    let size = image.len() as u64;
    let mapped = used.min(size).div_ceil(BLOCK);
    let range = sha256(&image[..(mapped * BLOCK).min(size) as usize]);
    let blank = "0".repeat(64);
    let text = format!(
        "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {size} </ImageSize>\n    <BlockSize> {BLOCK} </BlockSize>\n    \
         <BlocksCount> {} </BlocksCount>\n    <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    \
         <ChecksumType> sha256 </ChecksumType>\n    <BmapFileChecksum> {blank} </BmapFileChecksum>\n    <BlockMap>\n        \
         <Range chksum=\"{range}\"> 0-{} </Range>\n    </BlockMap>\n</bmap>\n",
        size.div_ceil(BLOCK),
        mapped - 1
    );
    // Its own checksum is taken with noughts in its place.
    let own = sha256(text.as_bytes());
    text.replacen(&blank, &own, 1)
}

/// A block map that was read: the image's size and the byte ranges to write, with their SHA-256 where it is known.
#[derive(Debug, PartialEq)]
pub struct BlockMap {
    pub image_bytes: u64,
    pub ranges: Vec<Range>,
}

#[derive(Debug, PartialEq, Clone)]
pub struct Range {
    pub start: u64,
    pub end: u64,
    pub sha256: Option<String>,
}

impl BlockMap {
    /// A map of everything.
    pub fn whole(image_bytes: u64) -> Self {
        Self { image_bytes, ranges: vec![Range { start: 0, end: image_bytes, sha256: None }] }
    }

    pub fn parse(text: &str) -> Result<Self> {
        let document = roxmltree::Document::parse(text).context("not a block map")?;
        let root = document.root_element();
        ensure!(root.has_tag_name("bmap"), "not a block map");
        let field = |name: &str| {
            let node = root.children().find(|node| node.has_tag_name(name));
            node.and_then(|node| node.text()).map(str::trim)
        };
        let number = |name: &str| -> Result<u64> {
            let text = field(name).with_context(|| format!("no {name} in the block map"))?;
            text.parse().with_context(|| format!("{name} of the block map is not a number"))
        };
        let has_sha256 = field("ChecksumType") == Some("sha256");
        if has_sha256 && let Some(own) = field("BmapFileChecksum") {
            ensure!(own.len() == 64, "the block map's own checksum is damaged");
            ensure!(sha256(text.replacen(own, &"0".repeat(64), 1).as_bytes()) == own, "the block map is damaged");
        }
        let (image_bytes, block) = (number("ImageSize")?, number("BlockSize")?);
        ensure!(
            block.is_power_of_two() && block <= 1 << 30,
            "block maps with blocks of {block} bytes are not understood"
        );
        let map = root.children().find(|node| node.has_tag_name("BlockMap")).context("no BlockMap in the block map")?;
        let mut ranges: Vec<Range> = Vec::new();
        for node in map.children().filter(|node| node.has_tag_name("Range")) {
            let text = node.text().unwrap_or_default().trim();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (Ok(first), Ok(last)) = (first.trim().parse::<u64>(), last.trim().parse::<u64>()) else {
                bail!("{text:?} in the block map is not a range");
            };
            let end = last
                .checked_add(1)
                .and_then(|end| end.checked_mul(block))
                .context("a range of the block map is too large")?;
            let start = first.checked_mul(block).context("a range of the block map is too large")?;
            let end = end.min(image_bytes);
            ensure!(start < end, "the range {text} of the block map is outside the image");
            ensure!(ranges.last().is_none_or(|before| before.end <= start), "the block map's ranges are not in order");
            let sha256 = node.attribute("chksum").filter(|_| has_sha256).map(String::from);
            ranges.push(Range { start, end, sha256 });
        }
        Ok(Self { image_bytes, ranges })
    }
}

/// The list for Raspberry Pi Imager: one operating system, this one.
fn manifest(image: &[u8], download: &Path, url: Option<&str>) -> Result<String> {
    let url = match url {
        Some(url) => String::from(url),
        None => format!("file://{}", fs::canonicalize(download)?.display()),
    };
    let packed = fs::read(download)?;
    let entry = serde_json::json!({
        "name": "Crannog",
        "description": "A unikernel that runs unmodified Linux programs as real processes",
        "icon": "",
        "url": url,
        "extract_size": image.len(),
        "extract_sha256": sha256(image),
        "image_download_size": packed.len(),
        "image_download_sha256": sha256(&packed),
        "release_date": date(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref()),
        "devices": ["pi3-64bit", "pi4-64bit"],
        "init_format": "none",
    });
    Ok(format!("{:#}\n", serde_json::json!({ "os_list": [entry] })))
}

/// A day in the form 2000-02-29: of $SOURCE_DATE_EPOCH if it is set, else today.
fn date(epoch: Option<&str>) -> String {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut days = epoch.and_then(|text| text.parse().ok()).unwrap_or_else(now).min(1 << 40) / 86_400;
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, days + 1)
}

/// Writes the image (compressed if so asked) and what goes with it; answers the image's path.
pub fn write(image: &[u8], used: u64, output: &Path, options: &Options) -> Result<PathBuf> {
    let written = if options.xz { beside(output, ".xz") } else { output.to_path_buf() };
    put(&written, |file| if options.xz { compress(file, image) } else { write_sparse(file, image) })?;
    let text = |path: PathBuf, text: String| put(&path, |file| file.write_all(text.as_bytes()));
    if options.bmap {
        text(beside(output, ".bmap"), bmap(image, used))?;
    }
    if options.sha256 {
        let name = written.file_name().context("the image has a name")?.to_string_lossy().into_owned();
        let sum = if options.xz { sha256(&fs::read(&written)?) } else { sha256(image) };
        text(beside(&written, ".sha256"), format!("{sum}  {name}\n"))?;
    }
    if options.manifest {
        text(beside(output, ".json"), manifest(image, &written, options.url.as_deref())?)?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_maps_are_read_as_written() {
        let mut image = vec![0; 5 * 4096 + 100];
        image[0] = 1;
        let text = bmap(&image, 4097);
        let map = BlockMap::parse(&text).unwrap();
        assert_eq!(map.image_bytes, image.len() as u64);
        assert_eq!(map.ranges, [Range { start: 0, end: 8192, sha256: Some(sha256(&image[..8192])) }]);
        let whole = BlockMap::parse(&bmap(&image, image.len() as u64)).unwrap();
        assert_eq!(whole.ranges[0].end, image.len() as u64);
    }

    #[test]
    fn days() {
        for (epoch, day) in [
            ("0", "1970-01-01"),
            ("951782400", "2000-02-29"),
            ("1735603200", "2024-12-31"),
            ("1735689600", "2025-01-01"),
        ] {
            assert_eq!(date(Some(epoch)), day);
        }
    }

    #[test]
    fn damaged_block_maps_are_refused() {
        let text = bmap(&[1; 20_000], 20_000);
        assert!(BlockMap::parse(&text.replace("20000", "20001")).is_err());
        assert!(BlockMap::parse("").is_err());
        assert!(BlockMap::parse("<a/>").is_err());
        let plain = |ranges: &str| {
            let head = "<bmap><ImageSize>9000</ImageSize><BlockSize>4096</BlockSize><BlockMap>";
            BlockMap::parse(&format!("{head}{ranges}</BlockMap></bmap>"))
        };
        assert_eq!(plain("<Range>0</Range><Range> 2-2 </Range>").unwrap().ranges.len(), 2);
        for bad in ["5", "3-3", "1-0", "x", "-1", "18446744073709551615", "0-18446744073709551615x"] {
            assert!(plain(&format!("<Range>{bad}</Range>")).is_err(), "{bad}");
        }
        assert!(plain("<Range>1</Range><Range>0</Range>").is_err());
    }
}
