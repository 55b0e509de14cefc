//! Bytes to text and back in the charsets that legacy systems really use: UTF-8, UTF-16, GBK/GB2312/GB18030, Windows-1252 ….

/// Why bytes are no text of their charset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct CharsetError {
    /// Byte offset of the first bad sequence.
    pub offset: usize,
    /// What is wrong: unknown label, bad sequence, character that the charset lacks.
    pub reason: String,
}
