//! The Internet checksum (RFC 1071), in sums that are folded at the end.
//!
//! Words are added in this machine's byte order: the sum of swapped words is the swapped sum (§2,
//! B), so only the result's bytes matter.

/// Adds bytes to a sum. Only the last piece of what is summed may have an odd length.
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    // Independent lanes: the compiler makes vectors of them.
    let mut lanes = [0_u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, last) = rest.as_chunks::<2>();
    let rest: u64 = words
        .iter()
        .map(|word| u64::from(u16::from_ne_bytes(*word)))
        .sum();
    let last = last
        .first()
        .map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    sum + lanes.iter().sum::<u64>() + rest + last
}

/// The sum in 16 bits, as it stands in a header that the kernel is to complete.
pub fn fold(mut sum: u64) -> [u8; 2] {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[allow(clippy::cast_possible_truncation)] // folded
    let folded = sum as u16;
    folded.to_ne_bytes()
}

/// The checksum: the complement of the sum.
pub fn finish(sum: u64) -> [u8; 2] {
    fold(sum).map(|byte| !byte)
}
