//! The "newc" cpio format of initramfs archives.

/// One member's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: u32,
    pub file_bytes: u32,
    pub dev: (u32, u32),
    pub rdev: (u32, u32),
    /// The name's length, its NUL included.
    pub name_bytes: u32,
}

/// Bytes of a header.
pub const HEADER_BYTES: usize = 110;
/// The longest name (PATH_MAX).
pub const MAX_NAME: usize = 4096;
/// The name that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpioError {
    BadMagic,
    BadNumber,
    BadName,
    Truncated,
    BadCompression,
}

impl core::fmt::Display for CpioError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            CpioError::BadMagic => "not a newc archive, nor gzip",
            CpioError::BadNumber => "a damaged number in a header",
            CpioError::BadName => "a damaged name in a header",
            CpioError::Truncated => "the archive is cut off",
            CpioError::BadCompression => "damaged gzip data",
        })
    }
}

/// Rounds an offset in the archive up to where the next part begins.
pub const fn align(offset: usize) -> usize {
    (offset + 3) & !3
}

fn field(bytes: &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for &digit in bytes {
        value = value << 4 | (digit as char).to_digit(16)?;
    }
    Some(value)
}

impl Header {
    /// Reads a header from its 110 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, CpioError> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(CpioError::Truncated)?;
        let (magic, fields) = bytes.split_at(6);
        // 070702 adds checksums, which nobody checks.
        if magic != b"070701" && magic != b"070702" {
            return Err(CpioError::BadMagic);
        }
        let at = |index: usize| field(&fields[index * 8..index * 8 + 8]).ok_or(CpioError::BadNumber);
        let header = Self {
            ino: at(0)?,
            mode: at(1)?,
            uid: at(2)?,
            gid: at(3)?,
            nlink: at(4)?,
            mtime: at(5)?,
            file_bytes: at(6)?,
            dev: (at(7)?, at(8)?),
            rdev: (at(9)?, at(10)?),
            name_bytes: at(11)?,
        };
        if !(1..=MAX_NAME as u32).contains(&header.name_bytes) {
            return Err(CpioError::BadName);
        }
        Ok(header)
    }

    /// Where, from the header's start, the content begins and the next header follows.
    pub fn extents(&self) -> (usize, usize) {
        let content = align(HEADER_BYTES + self.name_bytes as usize);
        (content, align(content + self.file_bytes as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut bytes = b"070701".to_vec();
        for value in [7u32, 0o100644, 1, 2, 1, 99, 5, 0, 0, 0, 0, 4, 0] {
            bytes.extend(format!("{value:08X}").bytes());
        }
        bytes
    }

    #[test]
    fn a_header_is_read() {
        let header = Header::parse(&sample()).unwrap();
        assert_eq!((header.ino, header.mode, header.uid, header.gid), (7, 0o100644, 1, 2));
        assert_eq!((header.file_bytes, header.name_bytes), (5, 4));
        assert_eq!(header.extents(), (116, 124));
    }

    #[test]
    fn broken_headers_are_named() {
        assert_eq!(Header::parse(&sample()[..50]), Err(CpioError::Truncated));
        let mut bad = sample();
        bad[0] = b'1';
        assert_eq!(Header::parse(&bad), Err(CpioError::BadMagic));
        let mut bad = sample();
        bad[20] = b'z';
        assert_eq!(Header::parse(&bad), Err(CpioError::BadNumber));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..110, value in any::<u8>()) {
            let _ = Header::parse(&bytes);
            let mut near = sample();
            near[at] = value;
            if let Ok(header) = Header::parse(&near) {
                let _ = header.extents();
            }
        }
    }
}
