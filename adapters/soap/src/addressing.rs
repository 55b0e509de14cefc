//! WS-Addressing of a request (1.0, W3C 2006; and the member submission of 2004 that old .NET sends): its action takes part in
//! the dispatch, its message id comes back in the reply. Replies go back on the same connection only: an address in a message
//! is never called.

use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::xml::Element;

/// The namespaces, and the address in each that means "back on this connection".
const VERSIONS: [(&str, &str); 2] = [
    ("http://www.w3.org/2005/08/addressing", "http://www.w3.org/2005/08/addressing/anonymous"),
    (
        "http://schemas.xmlsoap.org/ws/2004/08/addressing",
        "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous",
    ),
];

/// The longest id or action that is taken, in characters.
const MAX_TEXT: usize = 1000;

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addressing {
    namespace: &'static str,
    pub(crate) action: Option<String>,
    message_id: Option<String>,
}

/// Whether a header block is one of these.
pub(crate) fn is_addressing(block: &Element) -> bool {
    version(block).is_some()
        && ["Action", "To", "MessageID", "ReplyTo", "FaultTo", "From", "RelatesTo"].contains(&&*block.name.local)
}

fn version(block: &Element) -> Option<(&'static str, &'static str)> {
    VERSIONS.into_iter().find(|(namespace, _)| block.name.namespace.as_deref() == Some(namespace))
}

impl Addressing {
    /// Reads the header blocks; `None` where none is of addressing.
    ///
    /// # Errors
    /// A reply or fault that should go elsewhere, a block that comes twice, or text that is too long.
    pub(crate) fn of(headers: &[Element]) -> Result<Option<Self>, Fault> {
        let blocks: Vec<_> = headers.iter().filter(|block| is_addressing(block)).collect();
        let Some((namespace, anonymous)) = blocks.first().and_then(|block| version(block)) else { return Ok(None) };
        let bad = |text: String| Fault::new(Code::Malformed, text);
        let one = |local: &str| -> Result<Option<&Element>, Fault> {
            let mut found = blocks.iter().filter(|block| block.name.is(Some(namespace), local));
            match (found.next(), found.next()) {
                (_, Some(_)) => Err(bad(format!("the addressing header `{local}` comes twice"))),
                (first, None) => Ok(first.copied()),
            }
        };
        let text = |local: &str| -> Result<Option<String>, Fault> {
            let text = one(local)?.map(|block| block.text().trim().to_owned()).filter(|text| !text.is_empty());
            match text {
                Some(text) if text.chars().count() > MAX_TEXT => {
                    Err(bad(format!("the addressing header `{local}` is too long")))
                }
                text => Ok(text),
            }
        };
        for local in ["ReplyTo", "FaultTo"] {
            let Some(block) = one(local)? else { continue };
            let address = block.child_in(Some(namespace), "Address").map(|address| address.text().trim().to_owned());
            if address.is_some_and(|address| address != anonymous) {
                return Err(bad(format!("`{local}` is not anonymous: answers go back on the same connection only")));
            }
        }
        Ok(Some(Self { namespace, action: text("Action")?, message_id: text("MessageID")? }))
    }

    /// The action that counts: that of HTTP, or where it has none that of addressing.
    ///
    /// # Errors
    /// They contradict each other: somebody routed or judged by the other one.
    pub(crate) fn action_of(addressing: Option<&Self>, http: Option<String>) -> Result<Option<String>, Fault> {
        match (http, addressing.and_then(|addressing| addressing.action.clone())) {
            (Some(http), Some(own)) if http != own => {
                Err(Fault::new(Code::Malformed, "the action of the HTTP head is not that of the addressing header"))
            }
            (http, own) => Ok(http.or(own)),
        }
    }

    /// The header blocks of the answer: `RelatesTo` and `Action`, where the request has an id.
    pub(crate) fn reply(&self) -> Vec<Element> {
        let Some(id) = &self.message_id else { return Vec::new() };
        let own = |local: &str| Element::new(Some(self.namespace), local);
        let action = self.action.as_ref().map(|action| own("Action").with_text(format!("{action}Response")));
        action.into_iter().chain([own("RelatesTo").with_text(id.clone())]).collect()
    }

    /// The header blocks of a fault: `RelatesTo`, and the `Action` that every fault has (SOAP binding §5.1; 2004: §4).
    pub(crate) fn refusal(&self) -> Vec<Element> {
        let Some(id) = &self.message_id else { return Vec::new() };
        let own = |local: &str| Element::new(Some(self.namespace), local);
        let action = match self.namespace == VERSIONS[0].0 {
            true => format!("{}/soap/fault", self.namespace),
            false => format!("{}/fault", self.namespace),
        };
        vec![own("Action").with_text(action), own("RelatesTo").with_text(id.clone())]
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_core::limits::BodyLimits;
    use gatehouse_core::xml;

    use super::*;

    fn of(inside: &str) -> Result<Option<Addressing>, Fault> {
        let text = format!("<h xmlns:a='{}' xmlns:o='{}'>{inside}</h>", VERSIONS[0].0, VERSIONS[1].0);
        let root = xml::decode(text.as_bytes(), None, &BodyLimits::default()).unwrap();
        let blocks: Vec<_> = root.elements().cloned().collect();
        Addressing::of(&blocks)
    }

    #[test]
    fn an_id_comes_back_and_an_action_counts() {
        assert_eq!(of("<x/>").unwrap(), None);
        for prefix in ["a", "o"] {
            let text = "<a:Action>urn:x/Do</a:Action><a:MessageID> uuid:1 </a:MessageID><a:To>http://me/</a:To>"
                .replace("a:", &format!("{prefix}:"));
            let read = of(&text).unwrap().unwrap();
            assert_eq!(read.action.as_deref(), Some("urn:x/Do"));
            let reply = read.reply();
            assert_eq!((reply[0].text().as_str(), reply[1].text().as_str()), ("urn:x/DoResponse", "uuid:1"));
            let refusal = read.refusal();
            assert!(refusal[0].text().ends_with("/fault") && refusal[1].text() == "uuid:1");
            assert_eq!(Addressing::action_of(Some(&read), None).unwrap().as_deref(), Some("urn:x/Do"));
            assert!(Addressing::action_of(Some(&read), Some("urn:x/Other".to_owned())).is_err());
        }
    }

    #[test]
    fn no_address_in_a_message_is_called() {
        let to = |address: &str| format!("<a:ReplyTo><a:Address>{address}</a:Address></a:ReplyTo>");
        assert!(of(&to(VERSIONS[0].1)).is_ok());
        for address in
            ["http://169.254.169.254/latest", "file:///etc/passwd", "http://www.w3.org/2005/08/addressing/none"]
        {
            assert!(of(&to(address)).unwrap_err().public.contains("same connection"), "{address}");
            assert!(of(&to(address).replace("ReplyTo", "FaultTo")).is_err());
        }
        assert!(of("<a:MessageID>1</a:MessageID><a:MessageID>2</a:MessageID>").unwrap_err().public.contains("twice"));
        assert!(of(&format!("<a:Action>{}</a:Action>", "x".repeat(2000))).is_err());
    }
}
