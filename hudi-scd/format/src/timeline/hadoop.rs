//! The checksums of Hadoop's local file system: a file `.NAME.crc` next to each file, which Hadoop's readers
//! verify.

/// Returns `true` if the checksums match a file. Their format is `crc\0`, the length of a chunk, and the
/// CRC32 of each chunk, all big-endian.
pub fn holds(checksums: &[u8], file: &[u8]) -> bool {
    let Some(([b'c', b'r', b'c', 0, length @ ..], sums)) = checksums.split_first_chunk::<8>() else {
        return false;
    };
    let Some(length) = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length > 0) else {
        return false;
    };
    let expected = file.chunks(length).flat_map(|chunk| crc32fast::hash(chunk).to_be_bytes());
    expected.eq(sums.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_every_chunk() {
        let mut sums = b"crc\0\0\0\0\x04".to_vec();
        for chunk in [&b"1234"[..], b"56"] {
            sums.extend(crc32fast::hash(chunk).to_be_bytes());
        }
        assert!(holds(&sums, b"123456"));
        for other in [&b"123457"[..], b"12345", b"123456789", b""] {
            assert!(!holds(&sums, other));
        }
        assert!(holds(b"crc\0\0\0\x02\0", b""), "an empty file has none");
        for broken in [&b""[..], b"crc\0", b"crc\0\0\0\0\0", b"abc\0\0\0\0\x04"] {
            assert!(!holds(broken, b"123456"), "{broken:?}");
        }
    }
}
