//! What people are shown of a body, without the secrets in it: found as they stand and as XML writes them, in the charset of the body.

use std::borrow::Cow;
use std::cmp::Reverse;

use gatehouse_core::charset;
use gatehouse_core::xml::{Element, WriteOptions};
use memchr::memmem;

/// What stands for a secret.
const STARS: &str = "***";

/// The body with stars for each of `secrets`, whichever of `charsets` it is in. Bytes that are no text stay as they are.
pub(crate) fn masked<'a>(body: &'a [u8], charsets: &[&str], secrets: &[&str]) -> Cow<'a, [u8]> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for charset in charsets {
        let Some(stars) = bytes(STARS, charset) else { continue };
        let forms = secrets.iter().filter(|secret| !secret.is_empty()).flat_map(|secret| forms(secret, charset));
        found.extend(forms.filter_map(|form| Some((bytes(&form, charset)?, stars.clone()))));
    }
    // A form that holds another goes first: nothing of it is left.
    found.sort_by_key(|(form, _)| Reverse(form.len()));
    found.dedup();
    found.into_iter().fold(Cow::Borrowed(body), |body, (form, stars)| replaced(body, &form, &stars))
}

/// A secret as it may stand in a document: as it is, in text, in an attribute; with references for what the charset lacks.
fn forms(secret: &str, charset: &str) -> Vec<String> {
    let element = Element::new(None, "e").with_attribute(None, "a", secret).with_text(secret);
    let options = WriteOptions { charset, declaration: false, ..WriteOptions::default() };
    let written = element.encode_with(&options).ok();
    let text = written.as_deref().and_then(|written| charset::decode(written, Some(charset)).ok());
    let written =
        text.as_deref().and_then(|text| text.strip_prefix("<e a=\"")?.strip_suffix("</e>")?.split_once("\">"));
    let mut forms = vec![secret.to_owned()];
    forms.extend(written.into_iter().flat_map(|(attribute, text)| [attribute.to_owned(), text.to_owned()]));
    forms
}

/// Text in a charset, without the mark of its byte order. `None` where the charset lacks something of it.
fn bytes(text: &str, charset: &str) -> Option<Vec<u8>> {
    let mark = charset::encode("", charset).ok()?.len();
    Some(charset::encode(text, charset).ok()?.split_off(mark))
}

fn replaced<'a>(body: Cow<'a, [u8]>, form: &[u8], by: &[u8]) -> Cow<'a, [u8]> {
    let mut out = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(&body, form) {
        out.extend_from_slice(&body[from..at]);
        out.extend_from_slice(by);
        from = at + form.len();
    }
    if from == 0 {
        return body;
    }
    out.extend_from_slice(&body[from..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left_in_any_charset() {
        let secret = "密 \"码\" & <co>\tß";
        let element = Element::new(None, "r").with_attribute(None, "p", secret).with_text(format!("a{secret}b"));
        for charset in ["utf-8", "GBK", "GB18030", "UTF-16", "utf-16be", "windows-1252", "us-ascii", "Big5"] {
            let options = WriteOptions { charset, ..WriteOptions::default() };
            let body = element.encode_with(&options).unwrap();
            let shown = masked(&body, &[charset, "utf-8"], &["", secret]);
            let text = charset::decode(&shown, Some(charset)).unwrap();
            assert!(text.ends_with("<r p=\"***\">a***b</r>"), "{charset}: {text}");
        }
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is() {
        let body = b"\x00\xFF--b\r\n<a>geheimnis</a>";
        assert_eq!(&*masked(body, &["utf-8"], &["geheim"]), b"\x00\xFF--b\r\n<a>***nis</a>");
        for (charset, secret) in [("utf-8", "other"), ("utf-8", ""), ("no-such-charset", "geheim")] {
            assert!(matches!(masked(body, &[charset], &[secret]), Cow::Borrowed(same) if same == body));
        }
    }
}
