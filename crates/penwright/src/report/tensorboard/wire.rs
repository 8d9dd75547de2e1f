//! TFRecord: how TensorFlow frames what it writes. A record is its length (u64, little-endian), the masked CRC-32C of
//! those eight bytes, the bytes, and their masked CRC-32C (TensorFlow, `lib/io/record_writer.h`).

use crate::{Error, Result};

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4): the polynomial 0x1EDC6F41, reflected.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// The checksum as it is stored: rotated and shifted, since a CRC of bytes that hold CRCs is weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

/// Bytes as a record.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

/// The contents of the records of a file, their checksums verified. A last record broken off is left out.
///
/// # Errors
/// When a checksum is wrong.
pub fn frames(mut file: &[u8]) -> Result<Vec<&[u8]>> {
    let mut records = Vec::new();
    while let Some((head, rest)) = file.split_first_chunk::<12>() {
        let length: [u8; 8] = std::array::from_fn(|i| head[i]);
        let wrong = || Error::Unsupported(format!("record {} of the event file is damaged", records.len() + 1));
        if masked(&length) != head[8..] {
            return Err(wrong());
        }
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| wrong())?;
        let Some((bytes, rest)) = rest.split_at_checked(length) else { break };
        let Some((sum, rest)) = rest.split_first_chunk::<4>() else { break };
        if masked(bytes) != *sum {
            return Err(wrong());
        }
        records.push(bytes);
        file = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let counting: Vec<u8> = (0..32).collect();
        assert_eq!([&[0; 32][..], &[0xFF; 32], &counting].map(crc32c), [0x8A91_36AA, 0x62A8_AB43, 0x46DD_794E]);
    }

    #[test]
    fn a_record_as_tensorflow_writes_it() {
        // The version record that begins every event file: read back by TensorBoard in fixtures/check_tensorboard.py.
        let record = frame(b"ab");
        assert_eq!((&record[..8], &record[12..14], record.len()), (&2u64.to_le_bytes()[..], &b"ab"[..], 18));
        assert_eq!(frames(&record).unwrap(), [b"ab"]);
        assert_eq!(frames(&record[..17]).unwrap().len(), 0, "broken off by a kill");
        for i in 0..record.len() {
            let mut damaged = record.clone();
            damaged[i] ^= 1;
            assert!(frames(&damaged).is_err(), "byte {i}");
        }
    }

    proptest! {
        #[test]
        fn what_is_framed_comes_back(parts in vec(vec(any::<u8>(), 0..200), 0..5)) {
            let file: Vec<u8> = parts.iter().flat_map(|part| frame(part)).collect();
            prop_assert_eq!(frames(&file).unwrap(), parts);
        }
    }
}
