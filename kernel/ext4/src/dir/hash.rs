//! The hashes of names that order an indexed directory: half MD4, TEA, and the legacy one.

/// Linux's end mark among hashes: no name hashes to it.
const END: u32 = 0xFFFF_FFFE;

/// Whether a directory's index uses a hash that is known.
pub fn is_known(version: u8) -> bool {
    version <= 5
}

/// Major (even) and minor hash of a name. `version` as in the index's root; `unsigned`: the superblock says that versions 0 to 2
/// take bytes as unsigned.
pub fn hash(name: &[u8], version: u8, unsigned: bool, seed: &[u32; 4]) -> (u32, u32) {
    let unsigned = unsigned || version >= 3;
    let mut state = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    if seed.iter().any(|word| *word != 0) {
        state = *seed;
    }
    let (major, minor) = match version % 3 {
        0 => (legacy(name, unsigned), 0),
        1 => {
            let mut rest = name;
            while !rest.is_empty() {
                half_md4(&mut state, &words::<8>(rest, unsigned));
                rest = rest.get(32..).unwrap_or_default();
            }
            (state[1], state[2])
        }
        _ => {
            let mut rest = name;
            while !rest.is_empty() {
                tea(&mut state, &words::<4>(rest, unsigned));
                rest = rest.get(16..).unwrap_or_default();
            }
            (state[0], state[1])
        }
    };
    let major = major & !1;
    (if major == END { END - 2 } else { major }, minor)
}

fn widen(byte: u8, unsigned: bool) -> u32 {
    if unsigned { u32::from(byte) } else { byte as i8 as u32 }
}

fn legacy(name: &[u8], unsigned: bool) -> u32 {
    let (mut hash0, mut hash1) = (0x12A3_FE2Du32, 0x37AB_E8F9u32);
    for byte in name {
        let mut hash = hash1.wrapping_add(hash0 ^ widen(*byte, unsigned).wrapping_mul(7_152_373));
        if hash & 0x8000_0000 != 0 {
            hash = hash.wrapping_sub(0x7FFF_FFFF);
        }
        hash1 = hash0;
        hash0 = hash;
    }
    hash0 << 1
}

/// The name's next bytes as words, filled up with its length.
fn words<const N: usize>(rest: &[u8], unsigned: bool) -> [u32; N] {
    let len = rest.len() as u32;
    let pad = len | len << 8;
    let pad = pad | pad << 16;
    let mut out = [pad; N];
    for (word, bytes) in out.iter_mut().zip(rest.chunks(4)) {
        *word = bytes.iter().fold(pad, |word, byte| widen(*byte, unsigned).wrapping_add(word << 8));
    }
    out
}

fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    let rounds: [(fn(u32, u32, u32) -> u32, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), 0x5A82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ED9_EBA1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    for (mix, constant, order, shifts) in rounds {
        for (i, place) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(input[place]).wrapping_add(constant);
            // The four words take turns.
            (a, b, c, d) = (d, sum.rotate_left(shifts[i % 4]), b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

fn tea(state: &mut [u32; 4], input: &[u32; 4]) {
    let (mut x, mut y, mut sum) = (state[0], state[1], 0u32);
    let part =
        |v: u32, sum: u32, a: u32, b: u32| (v << 4).wrapping_add(a) ^ v.wrapping_add(sum) ^ (v >> 5).wrapping_add(b);
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9E37_79B9);
        x = x.wrapping_add(part(y, sum, input[0], input[1]));
        y = y.wrapping_add(part(x, sum, input[2], input[3]));
    }
    state[0] = state[0].wrapping_add(x);
    state[1] = state[1].wrapping_add(y);
}
