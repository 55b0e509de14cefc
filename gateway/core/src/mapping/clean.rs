//! Cleaning words: what people do to values that systems let in.

use std::borrow::Cow;

/// Every word with what it does, for the reference and for did-you-mean.
pub const CLEANERS: &[(&str, &str)] = &[
    ("trim", "takes spaces off both ends, the ideographic one too"),
    ("collapse", "makes one space of several, and trims"),
    ("digits", "keeps the digits 0 to 9 only"),
    ("upper", "capital letters"),
    ("lower", "small letters"),
    ("half_width", "full-width letters, digits and signs become their ASCII ones: `１２Ａ` → `12A`"),
    ("no_control", "takes out control characters, line ends and tabs included"),
    ("phone_cn", "a mainland mobile number as `+86-138-0013-8000`; anything else is refused"),
];

/// A cleaning word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clean {
    Trim,
    Collapse,
    Digits,
    Upper,
    Lower,
    HalfWidth,
    NoControl,
    PhoneCn,
}

impl Clean {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "trim" => Self::Trim,
            "collapse" => Self::Collapse,
            "digits" => Self::Digits,
            "upper" => Self::Upper,
            "lower" => Self::Lower,
            "half_width" => Self::HalfWidth,
            "no_control" => Self::NoControl,
            "phone_cn" => Self::PhoneCn,
            _ => return None,
        })
    }

    /// Cleans; the reason where the text cannot be what the word says.
    pub(super) fn apply<'a>(self, text: Cow<'a, str>) -> Result<Cow<'a, str>, &'static str> {
        Ok(match self {
            Self::Trim => match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
            },
            Self::Collapse => Cow::Owned(text.split_whitespace().collect::<Vec<_>>().join(" ")),
            Self::Digits if text.bytes().all(|b| b.is_ascii_digit()) => text,
            Self::Digits => Cow::Owned(text.chars().filter(char::is_ascii_digit).collect()),
            Self::Upper => Cow::Owned(text.to_uppercase()),
            Self::Lower => Cow::Owned(text.to_lowercase()),
            Self::HalfWidth => Cow::Owned(text.chars().map(half_width).collect()),
            Self::NoControl => Cow::Owned(text.chars().filter(|c| !c.is_control()).collect()),
            Self::PhoneCn => Cow::Owned(phone_cn(&text)?),
        })
    }
}

/// Unicode's Halfwidth and Fullwidth Forms block: ASCII is at a fixed distance.
fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    }
}

/// Mainland mobile numbers have 11 digits and begin with 13 to 19.
fn phone_cn(text: &str) -> Result<String, &'static str> {
    const REASON: &str = "is no mainland mobile number (11 digits that begin with 13 to 19)";
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if text.chars().any(|c| !c.is_ascii_digit() && !" -+()".contains(c)) {
        return Err(REASON);
    }
    let national = match digits.len() {
        11 => digits.as_str(),
        13 => digits.strip_prefix("86").ok_or(REASON)?,
        15 => digits.strip_prefix("0086").ok_or(REASON)?,
        _ => return Err(REASON),
    };
    if !matches!(national.as_bytes(), [b'1', b'3'..=b'9', ..]) {
        return Err(REASON);
    }
    Ok(format!("+86-{}-{}-{}", &national[..3], &national[3..7], &national[7..]))
}
