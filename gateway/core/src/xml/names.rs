//! Which characters may stand where: XML 1.0 (5th edition) §2.2 and §2.3, Namespaces in XML 1.0 §4. Tables, nothing else.

/// `Char`: what a document may hold at all, literally or by reference.
pub(super) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// `S`: white space.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// `NCName`: a name without a colon.
pub(super) fn is_ncname(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(is_start) && chars.all(is_part)
}

/// `NameStartChar` without the colon.
pub(super) fn is_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}'
        | '\u{10000}'..='\u{EFFFF}')
}

/// `NameChar` without the colon.
pub(super) fn is_part(c: char) -> bool {
    is_start(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// The byte offset of the first character that is no `Char`, and the character. One pass over bytes: in UTF-8 only
/// controls and U+FFFE, U+FFFF are left to find.
pub(super) fn first_non_char(text: &str) -> Option<(usize, char)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = first_doubtful(&bytes[from..]) {
        let at = from + found;
        match bytes[at] {
            b'\t' | b'\n' | b'\r' => {}
            0xEF if !matches!(bytes.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])) => {}
            _ => return text.get(at..).and_then(|rest| rest.chars().next()).map(|c| (at, c)),
        }
        from = at + 1;
    }
    None
}

/// The first byte that may belong to what is no `Char`. Whole blocks are judged at once, which compilers turn into a few
/// instructions.
fn first_doubtful(bytes: &[u8]) -> Option<usize> {
    let is_doubtful = |byte: &u8| (*byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || *byte == 0xEF;
    let sound =
        bytes.chunks_exact(64).take_while(|block| !block.iter().fold(false, |any, byte| any | is_doubtful(byte)));
    let from = sound.count() * 64;
    bytes[from..].iter().position(is_doubtful).map(|found| from + found)
}
