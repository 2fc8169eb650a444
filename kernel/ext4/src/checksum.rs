//! CRC-32C (Castagnoli, reflected) without the final inversion, as ext4 and JBD2 chain it, and the CRC-16 of old group descriptors.

/// Four tables: four bytes a step. 4 KiB of constants.
static TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0u32; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 4 {
        byte = 0;
        while byte < 256 {
            let last = tables[table - 1][byte];
            tables[table][byte] = last >> 8 ^ tables[0][(last & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

pub fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let x = crc ^ u32::from_le_bytes(*word);
        crc = TABLES[3][(x & 0xFF) as usize]
            ^ TABLES[2][(x >> 8 & 0xFF) as usize]
            ^ TABLES[1][(x >> 16 & 0xFF) as usize]
            ^ TABLES[0][(x >> 24) as usize];
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][((crc ^ u32::from(*byte)) & 0xFF) as usize];
    }
    crc
}

/// CRC-16 (polynomial 0x8005, reflected). A descriptor has 64 bytes: bit by bit is quick enough.
pub fn crc16(mut crc: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8A91_36AA);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }

    #[test]
    fn a_checksum_may_be_taken_in_pieces() {
        let bytes: [u8; 61] = core::array::from_fn(|i| (i * 7) as u8);
        for cut in 0..bytes.len() {
            assert_eq!(crc32c(crc32c(!0, &bytes[..cut]), &bytes[cut..]), crc32c(!0, &bytes));
        }
    }
}
