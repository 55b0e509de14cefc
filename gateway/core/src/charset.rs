//! Bytes to text and back in the charsets that legacy systems really use: UTF-8, UTF-16, GBK/GB2312/GB18030, Windows-1252 ….
//!
//! Strict both ways: a byte sequence that is no text and a character that a charset lacks are errors with their place;
//! nothing ever becomes `?` or U+FFFD. Labels are those of the WHATWG Encoding Standard. What the standard reads as
//! GBK or GB2312 is decoded as GB18030, which contains both; written is what the label says. Finding a label (a content
//! type, an XML declaration) is the caller's; a byte order mark is judged here.

use std::borrow::Cow;

use encoding_rs::{DecoderResult, EncoderResult, Encoding, GB18030, GBK, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Why bytes are no text of their charset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct CharsetError {
    /// Byte offset of the first bad sequence (decoding) or of the character in the text (encoding).
    pub offset: usize,
    /// What is wrong: unknown label, bad sequence, character that the charset lacks.
    pub reason: String,
}

impl CharsetError {
    fn new(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }
}

/// Decodes `bytes` by `label`; without one, by the byte order mark, and without that as UTF-8. The mark is not part of
/// the text. A mark that contradicts the label is refused: one of the two lies, and a guess would spoil characters.
/// `utf-16` without a mark is little-endian, as the Encoding Standard has it.
///
/// # Errors
/// A label that is unknown or unsafe (UTF-7, ISO-2022-CN …), a mark that contradicts it, or a sequence that is no text.
pub fn decode<'a>(bytes: &'a [u8], label: Option<&str>) -> Result<Cow<'a, str>, CharsetError> {
    let mark = Encoding::for_bom(bytes);
    let charset = match (label, mark) {
        (Some(label), mark) => {
            let mut charset = Charset::of(label)?;
            // `utf-16` alone leaves the byte order to the mark (RFC 2781 §4.3).
            if let Some((marked, _)) = mark
                && marked != charset.encoding
            {
                let either = label.trim().eq_ignore_ascii_case("utf-16") && marked != UTF_8;
                if !either {
                    let said = charset.encoding.name();
                    let reason = format!("the byte order mark says {}, the charset says {said}", marked.name());
                    return Err(CharsetError::new(0, reason));
                }
                charset.encoding = marked;
            }
            charset
        }
        (None, Some((marked, _))) => Charset { encoding: marked, ascii: false },
        (None, None) => Charset { encoding: UTF_8, ascii: false },
    };
    let skipped = mark.map_or(0, |(_, length)| length);
    let body = &bytes[skipped..];
    let at = |mut error: CharsetError| {
        error.offset += skipped;
        error
    };
    if charset.ascii
        && let Some(offset) = body.iter().position(|byte| !byte.is_ascii())
    {
        return Err(at(CharsetError::new(offset, format!("the byte 0x{:02X} is no US-ASCII", body[offset]))));
    }
    if charset.encoding == UTF_8 {
        return match std::str::from_utf8(body) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => {
                let offset = error.valid_up_to();
                Err(at(CharsetError::new(offset, format!("{} is no UTF-8", hex(&body[offset..])))))
            }
        };
    }
    let encoding = if charset.encoding == GBK { GB18030 } else { charset.encoding };
    match encoding.decode_without_bom_handling_and_without_replacement(body) {
        Some(text) => Ok(text),
        None => {
            let offset = first_bad(encoding, body);
            Err(at(CharsetError::new(offset, format!("{} is no {}", hex(&body[offset..]), charset.encoding.name()))))
        }
    }
}

/// Encodes `text` in the charset of `label`. UTF-16 without a byte order in its label gets a mark; nothing else does.
///
/// # Errors
/// An unknown label, or the first character that the charset lacks, named.
pub fn encode(text: &str, label: &str) -> Result<Vec<u8>, CharsetError> {
    let charset = Charset::of(label)?;
    let name = charset.encoding.name();
    if charset.encoding == UTF_8 && !charset.ascii {
        return Ok(text.as_bytes().to_vec());
    }
    if charset.encoding == UTF_16LE || charset.encoding == UTF_16BE {
        let big = charset.encoding == UTF_16BE;
        let mark = label.trim().eq_ignore_ascii_case("utf-16").then_some('\u{FEFF}');
        let units = mark.map(|_| 0xFEFF_u16).into_iter().chain(text.encode_utf16());
        return Ok(units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect());
    }
    // The Encoding Standard takes Latin-1 and ASCII for Windows-1252. Reading so is kind; writing so would give a
    // strict reader control characters for `€` and `“`.
    if let Some((most, name)) = strict_limit(label)
        && let Some((offset, c)) = text.char_indices().find(|(_, c)| *c > most || ('\u{80}'..'\u{A0}').contains(c))
    {
        return Err(lacks(name, offset, c));
    }
    // GB18030-2022 gave characters of their own to what stood in the private use area: the standard still writes the old
    // ones, and reads them back as the new. What would come back as something else is not written.
    let changed = |c: &char| ('\u{E000}'..='\u{F8FF}').contains(c) && !comes_back(charset.encoding, *c);
    if let Some((offset, c)) = text.char_indices().find(|(_, c)| changed(c)) {
        return Err(lacks(name, offset, c));
    }
    let mut encoder = charset.encoding.new_encoder();
    let room = encoder.max_buffer_length_from_utf8_without_replacement(text.len()).unwrap_or(text.len() * 4);
    let mut out = Vec::with_capacity(room);
    match encoder.encode_from_utf8_to_vec_without_replacement(text, &mut out, true) {
        (EncoderResult::InputEmpty, _) => Ok(out),
        (EncoderResult::Unmappable(c), read) => Err(lacks(name, read.saturating_sub(c.len_utf8()), c)),
        (EncoderResult::OutputFull, read) => Err(CharsetError::new(read, format!("no room to write {name}"))),
    }
}

/// Whether a character is read as it was written.
fn comes_back(encoding: &'static Encoding, c: char) -> bool {
    let mut buffer = [0; 4];
    let text = &*c.encode_utf8(&mut buffer);
    let (bytes, _, _) = encoding.encode(text);
    encoding.decode_without_bom_handling(&bytes).0 == text
}

/// The charset that a label means.
#[derive(Clone, Copy)]
struct Charset {
    encoding: &'static Encoding,
    /// US-ASCII, where the standard would take any byte as Windows-1252.
    ascii: bool,
}

impl Charset {
    fn of(label: &str) -> Result<Self, CharsetError> {
        let encoding = Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
            let shown: String = label.chars().take(40).collect();
            CharsetError::new(0, format!("the charset `{}` is not spoken here", shown.escape_debug()))
        })?;
        let ascii = encoding == WINDOWS_1252 && label.to_ascii_lowercase().contains("ascii");
        Ok(Self { encoding, ascii })
    }
}

/// The last character that a label really has, where the standard widens it to Windows-1252.
fn strict_limit(label: &str) -> Option<(char, &'static str)> {
    let label = label.trim().to_ascii_lowercase();
    if label.contains("ascii") {
        return Some(('\u{7F}', "US-ASCII"));
    }
    let latin1 = ["iso-8859-1", "iso8859-1", "iso88591", "iso_8859-1", "latin1", "l1"];
    latin1.contains(&label.as_str()).then_some(('\u{FF}', "ISO-8859-1"))
}

fn lacks(charset: &str, offset: usize, c: char) -> CharsetError {
    CharsetError::new(offset, format!("{charset} has no character `{}` (U+{:04X})", c.escape_debug(), u32::from(c)))
}

/// Where the first bad sequence begins. Run only after decoding has failed.
fn first_bad(encoding: &'static Encoding, bytes: &[u8]) -> usize {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut scratch = String::with_capacity(4096);
    let mut read_in_all = 0;
    loop {
        scratch.clear();
        let (result, read) = decoder.decode_to_string_without_replacement(&bytes[read_in_all..], &mut scratch, true);
        read_in_all += read;
        match result {
            DecoderResult::Malformed(length, after) => {
                return read_in_all.saturating_sub(usize::from(length) + usize::from(after));
            }
            DecoderResult::InputEmpty => return bytes.len(),
            DecoderResult::OutputFull => {}
        }
    }
}

/// The first bytes as `0xC3 0x28`.
fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(2).map(|byte| format!("0x{byte:02X}")).collect();
    if shown.is_empty() { "the end of the input".to_owned() } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_charset_comes_back() {
        for label in ["utf-8", "GBK", "gb2312", "GB18030", "UTF-16", "utf-16le", "UTF-16BE", "big5", "shift_jis"] {
            let bytes = encode("中文, abc", label).expect(label);
            assert_eq!(decode(&bytes, Some(label)).expect(label), "中文, abc", "{label}");
        }
        assert_eq!(encode("中", "gbk").unwrap(), [0xD6, 0xD0]);
        assert!(encode("\u{E78D}", "gb18030").unwrap_err().reason.contains("E78D"), "it would come back as U+FE10");
        assert_eq!(encode("\u{FE10}", "gb18030").unwrap(), [0xA6, 0xD9]);
        assert_eq!(encode("中", "utf-16be").unwrap(), [0x4E, 0x2D]);
        assert_eq!(encode("中", "utf-16").unwrap(), [0xFF, 0xFE, 0x2D, 0x4E]);
        assert_eq!(encode("€", "windows-1252").unwrap(), [0x80]);
    }

    #[test]
    fn gbk_is_read_as_gb18030() {
        // A four-byte character of GB18030 under the label that legacy systems put on everything.
        let bytes = encode("𠮷", "gb18030").unwrap();
        assert_eq!(decode(&bytes, Some("gb2312")).unwrap(), "𠮷");
    }

    #[test]
    fn what_a_charset_lacks_is_named() {
        let error = encode("价 €𠮷", "gbk").unwrap_err();
        assert_eq!((error.offset, error.reason.as_str()), (7, "GBK has no character `𠮷` (U+20BB7)"));
        let error = encode("5 €", "iso-8859-1").unwrap_err();
        assert_eq!((error.offset, error.reason.as_str()), (2, "ISO-8859-1 has no character `€` (U+20AC)"));
        assert!(encode("é", "us-ascii").unwrap_err().reason.starts_with("US-ASCII"));
        assert_eq!(encode("é", "latin1").unwrap(), [0xE9]);
    }

    #[test]
    fn bad_sequences_are_placed() {
        assert_eq!(decode(b"ab\xC3\x28", None).unwrap_err().to_string(), "0xC3 0x28 is no UTF-8 at byte 2");
        assert_eq!(decode(b"\xEF\xBB\xBFab\xFF", None).unwrap_err().offset, 5);
        assert_eq!(decode(b"ab\xFFcd", Some("gbk")).unwrap_err().offset, 2);
        assert_eq!(decode(b"\xD6\xD0\xD6", Some("gbk")).unwrap_err().offset, 2);
        // A lone surrogate.
        assert_eq!(decode(b"a\x00\x00\xD8b\x00", Some("utf-16le")).unwrap_err().offset, 2);
        assert_eq!(decode(b"ab\x80", Some("us-ascii")).unwrap_err().offset, 2);
    }

    #[test]
    fn a_mark_is_read_and_must_not_contradict() {
        assert_eq!(decode(b"\xFE\xFF\x4E\x2D", None).unwrap(), "中");
        assert_eq!(decode(b"\xFE\xFF\x4E\x2D", Some("utf-16")).unwrap(), "中");
        assert_eq!(decode(b"\xEF\xBB\xBFx", Some("utf-8")).unwrap(), "x");
        for (bytes, label) in
            [(&b"\xFE\xFF\x4E\x2D"[..], "utf-8"), (b"\xEF\xBB\xBFx", "gbk"), (b"\xFE\xFF\0x", "utf-16le")]
        {
            assert!(decode(bytes, Some(label)).unwrap_err().reason.starts_with("the byte order mark says"), "{label}");
        }
    }

    #[test]
    fn unknown_labels_are_refused() {
        for label in ["utf-7", "ebcdic-cp-us", "iso-2022-cn", "hz-gb-2312", "", "utf-32"] {
            assert!(decode(b"x", Some(label)).is_err(), "{label}");
            assert!(encode("x", label).is_err(), "{label}");
        }
    }

    proptest! {
        #[test]
        fn unicode_charsets_carry_everything(text in "\\PC{0,50}") {
            // A leading U+FEFF is a mark by definition.
            prop_assume!(!text.starts_with('\u{FEFF}'));
            for label in ["utf-8", "utf-16", "utf-16le", "utf-16be"] {
                let bytes = encode(&text, label).unwrap();
                prop_assert_eq!(decode(&bytes, Some(label)).unwrap(), text.as_str());
            }
        }

        #[test]
        fn what_is_written_is_read_the_same(text in "\\PC{0,50}", label in "(gbk|gb18030|big5|windows-1252|iso-8859-1)") {
            if let Ok(bytes) = encode(&text, &label) {
                // A text can begin with the bytes of a mark by chance; that is refused, never misread.
                match decode(&bytes, Some(&label)) {
                    Ok(back) => prop_assert_eq!(back, text),
                    Err(error) => prop_assert!(error.reason.starts_with("the byte order mark")),
                }
            }
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), label in "(gbk|utf-16|big5|euc-kr|utf-8)") {
            if let Err(error) = decode(&bytes, Some(&label)) {
                prop_assert!(error.offset <= bytes.len());
            }
        }
    }
}
