//! One record of the log: length, CRC32C over length and payload, payload.

/// Bytes before the payload: length and CRC, both little-endian `u32`.
pub(super) const HEADER_BYTES: usize = 8;
/// Longest payload in bytes: an alert with all its evidence is some 20 KiB; a longer length in a
/// file can only be damage, and is never believed.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// What stands at the start of some bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A whole, undamaged record.
    Record(&'a [u8]),
    /// Nothing more.
    End,
    /// The start of a record whose rest is not there.
    Torn,
    /// Not a record.
    Damaged,
}

/// Appends a record to `out`. The payload has 1 to [`RECORD_BYTES_MAX`] bytes.
pub(super) fn write(payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!payload.is_empty() && payload.len() <= RECORD_BYTES_MAX);
    let len = u32::try_from(payload.len()).expect("a payload is at most RECORD_BYTES_MAX bytes");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&crc(len, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads the record at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    if bytes.is_empty() {
        return Parsed::End;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Parsed::Torn;
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let size = len as usize;
    // Zero is what a file system leaves where it never wrote.
    if size == 0 || size > RECORD_BYTES_MAX {
        return Parsed::Damaged;
    }
    let Some(payload) = rest.get(..size) else { return Parsed::Torn };
    if crc(len, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Parsed::Damaged;
    }
    Parsed::Record(payload)
}

fn crc(len: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HEADER_BYTES, Parsed, parse, write};

    proptest! {
        #[test]
        fn what_was_written_is_read(payload in proptest::collection::vec(any::<u8>(), 1..500)) {
            let mut bytes = Vec::new();
            write(&payload, &mut bytes);
            prop_assert_eq!(bytes.len(), HEADER_BYTES + payload.len());
            prop_assert_eq!(parse(&bytes), Parsed::Record(&payload));
        }

        #[test]
        fn a_cut_record_is_torn(
            payload in proptest::collection::vec(any::<u8>(), 1..200), cut in 1usize..200,
        ) {
            let mut bytes = Vec::new();
            write(&payload, &mut bytes);
            let cut = 1 + cut % (bytes.len() - 1);
            prop_assert_eq!(parse(&bytes[..cut]), Parsed::Torn);
        }

        #[test]
        fn no_flipped_bit_passes(
            payload in proptest::collection::vec(any::<u8>(), 1..200), at: usize, bit in 0u8..8,
        ) {
            let mut bytes = Vec::new();
            write(&payload, &mut bytes);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(!matches!(parse(&bytes), Parsed::Record(_)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
