//! From bytes to text: which encoding it is, and refusing what is not text.

use std::string::FromUtf8Error;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::find::Format;

/// A text and how it was read.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) text: String,
    pub(super) encoding: &'static str,
    /// Places that could not be decoded, now U+FFFD.
    pub(super) damaged: u64,
}

/// Decodes a document. In order: a byte order mark; valid UTF-8; UTF-16 by its zero bytes; the encoding that HTML or XML
/// declares; UTF-8 with a few damaged places; a guess as browsers make it.
///
/// # Errors
/// What is wrong, when it is not text.
pub(super) fn decode(bytes: Vec<u8>, format: Format) -> Result<Decoded, String> {
    let decoded = if let Some((encoding, bom)) = Encoding::for_bom(&bytes) {
        with(encoding, bytes.get(bom..).unwrap_or_default())
    } else {
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains(['\0', '\x1b']) => Decoded { text, encoding: UTF_8.name(), damaged: 0 },
            // Zero bytes may be UTF-16 of plain English, escapes may be ISO-2022-JP.
            Ok(text) => legacy(text.as_bytes(), format, true),
            Err(error) => cut(&error).unwrap_or_else(|| legacy(error.as_bytes(), format, false)),
        }
    };
    refuse_rubbish(&decoded.text)?;
    Ok(decoded)
}

/// UTF-8 that was cut inside its last character, which is dropped.
fn cut(error: &FromUtf8Error) -> Option<Decoded> {
    let (whole, _) = error.as_bytes().split_at_checked(error.utf8_error().valid_up_to())?;
    let cut = error.utf8_error().error_len().is_none() && !whole.is_ascii();
    let text = str::from_utf8(whole).ok().filter(|text| cut && !text.contains('\0'))?;
    Some(Decoded { text: text.to_string(), encoding: UTF_8.name(), damaged: 1 })
}

fn with(encoding: &'static Encoding, bytes: &[u8]) -> Decoded {
    let (text, damaged) = encoding.decode_without_bom_handling(bytes);
    let damaged = if damaged { text.matches('\u{fffd}').count() as u64 } else { 0 };
    Decoded { text: text.into_owned(), encoding: encoding.name(), damaged }
}

fn legacy(bytes: &[u8], format: Format, is_utf8: bool) -> Decoded {
    if let Some(encoding) = unmarked_utf16(bytes) {
        return with(encoding, bytes);
    }
    if let Some(encoding) = declared(bytes, format) {
        let decoded = with(encoding, bytes);
        if decoded.damaged == 0 {
            return decoded;
        }
    }
    if !is_utf8 && mostly_utf8(bytes) {
        return with(UTF_8, bytes);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let allow = if is_utf8 { Utf8Detection::Allow } else { Utf8Detection::Deny };
    with(detector.guess(None, allow), bytes)
}

/// UTF-16 without a mark: nearly every other byte of the first is zero, as in any text with Latin letters or spaces and
/// line ends, and it decodes without a fault.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let start = bytes.get(..bytes.len().min(1 << 16))?;
    let pairs = start.len() / 2;
    if pairs < 4 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let zeros = |parity: usize| start.iter().skip(parity).step_by(2).filter(|&&b| b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let encoding = if odd * 5 > pairs && even * 50 < pairs {
        UTF_16LE
    } else if even * 5 > pairs && odd * 50 < pairs {
        UTF_16BE
    } else {
        return None;
    };
    let clean = encoding.decode_without_bom_handling_and_without_replacement(bytes).is_some();
    clean.then_some(encoding)
}

/// The encoding that the first kilobytes of HTML or XML declare: `<?xml encoding="…"?>`, `<meta charset=…>` or the
/// `charset=` of a content type.
fn declared(bytes: &[u8], format: Format) -> Option<&'static Encoding> {
    if format != Format::Html && format != Format::Epub {
        return None;
    }
    let start = bytes.get(..bytes.len().min(4096))?.to_ascii_lowercase();
    let after = |key: &[u8]| start.windows(key.len()).position(|w| w == key).map(|at| at + key.len());
    let xml = start.trim_ascii_start().starts_with(b"<?xml").then(|| after(b"encoding")).flatten();
    let at = xml.or_else(|| after(b"charset"))?;
    let value = start.get(at..)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let end = value.iter().position(|b| b"\"'>;/? \t\r\n".contains(b)).unwrap_or(value.len());
    let encoding = Encoding::for_label(value.get(..end)?)?;
    // As in the HTML standard: what could be read so far is not UTF-16.
    Some(if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding })
}

/// Whether non-ASCII bytes form UTF-8 but for a few: a long text with a damaged place or two.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0_u64, 0_u64);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().bytes().filter(|&b| b >= 0xc0).count() as u64;
        bad += u64::from(!chunk.invalid().is_empty());
    }
    good >= bad * 20
}

/// Text has no zero characters and hardly any other control or undecodable ones.
fn refuse_rubbish(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("is not text (it contains zero bytes); give a text file".into());
    }
    let odd = text.chars().filter(|&c| is_odd(c)).count();
    let all = text.chars().count();
    if odd * 50 > all {
        return Err(format!(
            "is not text ({odd} of its {all} characters are control characters or cannot be decoded); give a text file"
        ));
    }
    Ok(())
}

fn is_odd(c: char) -> bool {
    c == '\u{fffd}'
        || (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0b' | '\x0c' | '\x1a' | '\x1b' | '\u{85}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &str = "It was a fine day, said the caf\u{e9} owner; \u{201c}na\u{ef}ve,\u{201d} he thought.\n";

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn encodings_are_told_apart() {
        let text = ENGLISH.repeat(4);
        let russian = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. ";
        let japanese = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
        let legacy =
            |text: &str, label: &str| Encoding::for_label(label.as_bytes()).unwrap().encode(text).0.into_owned();
        for (bytes, encoding, expected) in [
            (text.clone().into_bytes(), "UTF-8", &*text),
            (legacy(&text, "windows-1252"), "windows-1252", &text),
            (utf16(&text, u16::to_le_bytes), "UTF-16LE", &text),
            (utf16(&text, u16::to_be_bytes), "UTF-16BE", &text),
            (utf16(&format!("\u{feff}{japanese}"), u16::to_le_bytes), "UTF-16LE", japanese),
            (utf16(&format!("\u{feff}{japanese}"), u16::to_be_bytes), "UTF-16BE", japanese),
            (legacy(russian, "windows-1251"), "windows-1251", russian),
            (legacy(russian, "koi8-u"), "KOI8-U", russian),
            (legacy(japanese, "shift_jis"), "Shift_JIS", japanese),
            (legacy(japanese, "iso-2022-jp"), "ISO-2022-JP", japanese),
        ] {
            let decoded = decode(bytes, Format::Text).unwrap();
            assert_eq!((decoded.encoding, decoded.text.as_str(), decoded.damaged), (encoding, expected, 0));
        }
    }

    #[test]
    fn declarations_in_html_and_xml_are_honoured() {
        // Too short to guess: 0xe1 is á in windows-1252 and б in windows-1251.
        for head in ["<meta charset='windows-1251'>", "<?xml version=\"1.0\" encoding=\"windows-1251\"?>"] {
            let bytes = [head.as_bytes(), b"\xe1"].concat();
            assert!(decode(bytes.clone(), Format::Html).unwrap().text.ends_with('б'));
            assert!(!decode(bytes, Format::Text).unwrap().text.ends_with('б'));
        }
        let lie = "<meta charset=iso-8859-1>für".to_string();
        assert_eq!(decode(lie.clone().into_bytes(), Format::Html).unwrap().text, lie, "valid UTF-8 is UTF-8");
    }

    #[test]
    fn a_damaged_place_does_not_change_the_encoding() {
        let mut bytes = ENGLISH.repeat(20).into_bytes();
        bytes.insert(100, 0xff);
        let decoded = decode(bytes, Format::Text).unwrap();
        assert_eq!((decoded.encoding, decoded.damaged), ("UTF-8", 1));
        let mut cut = "naïve — “quoted”".as_bytes().to_vec();
        cut.pop();
        assert_eq!(decode(cut, Format::Text).unwrap().encoding, "UTF-8");
    }

    #[test]
    fn rubbish_is_refused() {
        let random: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let without_zeros: Vec<u8> = random.iter().map(|&b| b.max(1)).collect();
        for bytes in [random, without_zeros, b"ab\0c".to_vec(), vec![0xff, 0xfe, 0x80], vec![0; 100]] {
            assert!(decode(bytes, Format::Text).unwrap_err().contains("not text"));
        }
    }
}
