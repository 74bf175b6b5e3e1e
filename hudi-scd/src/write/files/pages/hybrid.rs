//! Parquet's hybrid of runs and bit-packed groups, which encodes levels and dictionary indexes in pages.

/// Number of values in a bit-packed group.
const GROUP: usize = 8;
/// Maximum number of groups under one header, so that the header is one byte, as in files of other writers.
const MAX_GROUPS: usize = 63;
/// The size of a group of 32-bit values in bytes, padded so that a word can be read at any of them.
const PADDED: usize = 32 + 8;

/// Returns the number of bits that numbers below `count` need.
pub(super) fn width_for(count: usize) -> u8 {
    (usize::BITS - count.saturating_sub(1).leading_zeros()) as u8
}

/// Decodes the first `count` values. Returns `None` if there are fewer, or if the bytes are not a valid
/// hybrid.
pub(super) fn decode(mut bytes: &[u8], width: u8, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut values = Vec::with_capacity(count.next_multiple_of(GROUP));
    while values.len() < count {
        let header = varint(&mut bytes)?;
        let amount = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let run = amount.min(count - values.len());
            let value = take(&mut bytes, usize::from(width.div_ceil(8)))?;
            let mut word = [0; 4];
            word[..value.len()].copy_from_slice(value);
            values.resize(values.len() + run, u32::from_le_bytes(word));
        } else {
            // The last group may be truncated.
            let groups = amount.min((count - values.len()).div_ceil(GROUP));
            let length = amount.checked_mul(usize::from(width))?.min(bytes.len());
            let packed = take(&mut bytes, length)?;
            unpack(packed, width, groups, &mut values)?;
        }
    }
    values.truncate(count);
    Some(values)
}

fn unpack(packed: &[u8], width: u8, groups: usize, values: &mut Vec<u32>) -> Option<()> {
    let bytes = usize::from(width);
    let mask = (1_u64 << width) - 1;
    if packed.len() < groups * bytes {
        // Only values beyond `count` may be missing.
        let mut padded = packed.to_vec();
        padded.resize(groups * bytes, 0);
        let missing = (groups * bytes - packed.len()) * 8;
        return (missing < GROUP * bytes).then(|| unpack(&padded, width, groups, values)).flatten();
    }
    let mut padded = [0_u8; PADDED];
    for group in 0..groups {
        padded[..bytes].copy_from_slice(&packed[group * bytes..(group + 1) * bytes]);
        let values_of_group: [u32; GROUP] = std::array::from_fn(|value| {
            let bit = value * bytes;
            let mut word = [0; 8];
            word.copy_from_slice(&padded[bit / 8..bit / 8 + 8]);
            ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as u32
        });
        values.extend_from_slice(&values_of_group);
    }
    Some(())
}

/// Encodes values of at most `width` bits.
pub(super) fn encode(values: &[u32], width: u8, out: &mut Vec<u8>) {
    // The values from `packed` up to `next` will be bit-packed.
    let (mut packed, mut next) = (0, 0);
    while next < values.len() {
        let run = values[next..].iter().take_while(|value| **value == values[next]).count();
        if run < GROUP {
            next = (next + GROUP).min(values.len());
            continue;
        }
        pack(&values[packed..next], width, out);
        write_varint((run as u64) << 1, out);
        out.extend_from_slice(&values[next].to_le_bytes()[..usize::from(width.div_ceil(8))]);
        next += run;
        packed = next;
    }
    pack(&values[packed..], width, out);
}

fn pack(values: &[u32], width: u8, out: &mut Vec<u8>) {
    for values in values.chunks(GROUP * MAX_GROUPS) {
        write_varint(((values.len().div_ceil(GROUP) as u64) << 1) | 1, out);
        for group in values.chunks(GROUP) {
            let (mut word, mut bits) = (0_u64, 0_u32);
            for place in 0..GROUP {
                word |= u64::from(group.get(place).copied().unwrap_or(0)) << bits;
                bits += u32::from(width);
                if bits >= 32 {
                    out.extend_from_slice(&(word as u32).to_le_bytes());
                    word >>= 32;
                    bits -= 32;
                }
            }
            out.extend_from_slice(&word.to_le_bytes()[..bits as usize / 8]);
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Runs of values of this number of bits.
    fn runs() -> impl Strategy<Value = (u8, Vec<u32>)> {
        (0..=32_u8).prop_flat_map(|width| {
            let most = ((1_u64 << width) - 1) as u32;
            let run = (0..=most, prop_oneof![Just(1_usize), 1..40_usize]);
            let values = vec(run, 0..200).prop_map(|runs| {
                runs.into_iter().flat_map(|(value, times)| std::iter::repeat_n(value, times)).collect()
            });
            (Just(width), values)
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded((width, values) in runs()) {
            let mut bytes = Vec::new();
            encode(&values, width, &mut bytes);
            prop_assert_eq!(decode(&bytes, width, values.len()), Some(values));
        }

        #[test]
        fn other_bytes_are_values_or_none(bytes in vec(any::<u8>(), 0..50), width in 0..40_u8, count in 0..500_usize) {
            if let Some(values) = decode(&bytes, width, count) {
                prop_assert_eq!(values.len(), count);
            }
        }
    }

    #[test]
    fn takes_as_many_bits_as_the_greatest_number_needs() {
        assert_eq!([1, 2, 3, 4, 5, 256, 257].map(width_for), [0, 1, 2, 2, 3, 8, 9]);
    }

    /// The example from the format's description: 0 to 7 in three bits.
    #[test]
    fn packs_as_the_format_says() {
        let mut bytes = Vec::new();
        encode(&[0, 1, 2, 3, 4, 5, 6, 7], 3, &mut bytes);
        assert_eq!(bytes, [0b11, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
    }
}
