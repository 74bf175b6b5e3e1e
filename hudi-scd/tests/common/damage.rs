//! Damages bytes like a broken disk or another program.

/// Damages a file in ways that disks, networks and people do.
pub fn damaged(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match random.u8(..6) {
        0 => bytes.truncate(random.usize(..=bytes.len())),
        1 => bytes.clear(),
        2 => bytes.extend((0..random.usize(1..64)).map(|_| random.u8(..))),
        3 => bytes = (0..random.usize(1..2_000)).map(|_| random.u8(..)).collect(),
        _ if bytes.is_empty() => bytes.push(random.u8(..)),
        _ => {
            for _ in 0..random.usize(1..9) {
                let at = random.usize(..bytes.len());
                bytes[at] = if random.bool() { random.u8(..) } else { bytes[at] ^ (1 << random.u8(..8)) };
            }
        }
    }
    bytes
}
