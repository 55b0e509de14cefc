//! Where a JSON pointer stands in the text of a document, for problems that name a line.

use std::ops::Range;

/// The key (or the list's item) that a pointer leads to; as far as it leads. The text is known to be JSON.
pub(super) fn place(text: &str, pointer: &str) -> Range<usize> {
    let mut scan = Scan { text, at: 0 };
    let mut span = 0..0;
    for step in pointer.split('/').skip(1) {
        match scan.enter(&step.replace("~1", "/").replace("~0", "~")) {
            Some(found) => span = found,
            None => break,
        }
    }
    span
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes to the value under a key, or to an item by its number, and says where the key or the item stands.
    fn enter(&mut self, step: &str) -> Option<Range<usize>> {
        let is_map = match self.peek()? {
            b'{' => true,
            b'[' => false,
            _ => return None,
        };
        let mut index = 0_usize;
        loop {
            // Past the bracket, the brace or the comma.
            self.at += 1;
            if matches!(self.peek()?, b'}' | b']') {
                return None;
            }
            let start = self.at;
            let found = if is_map {
                self.skip();
                let key: String = serde_json::from_str(self.text.get(start..self.at)?).ok()?;
                let span = start..self.at;
                self.peek()?;
                self.at += 1;
                (key == step).then_some(span)
            } else {
                (index.to_string() == step).then(|| start..start + 1)
            };
            if found.is_some() {
                return found;
            }
            self.skip();
            index += 1;
            if self.peek()? != b',' {
                return None;
            }
        }
    }

    /// Past one value.
    fn skip(&mut self) {
        let (mut depth, mut in_text) = (0_usize, false);
        self.peek();
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\\' if in_text => self.at += 1,
                b'"' => {
                    in_text = !in_text;
                    if !in_text && depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_its_key() {
        let text = r#"{ "a": [1, {"b}": "x\"]"}], "c": {"d/e": {"f": [[], 7]}}, "": 1 }"#;
        let at = |pointer: &str| &text[place(text, pointer)];
        assert_eq!(at("/a"), "\"a\"");
        assert_eq!(at("/a/1/b}"), "\"b}\"");
        assert_eq!(at("/c/d~1e/f"), "\"f\"");
        assert_eq!(at("/c/d~1e/f/1"), "7");
        assert_eq!(at("/"), "\"\"");
        assert_eq!(at("/c/gone/f"), "\"c\"", "as far as it leads");
        assert_eq!(at(""), "");
    }
}
