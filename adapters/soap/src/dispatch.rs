//! Which operation a message is for: the body's first element decides, and the action where several operations have the same one.

use std::sync::Arc;

use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::xml::Element;
use http::HeaderMap;

use crate::addressing::is_addressing;
use crate::blocks::must_understand;
use crate::envelope::{Envelope, Version};
use crate::fault::Kind;
use crate::file::Listener;
use crate::media::Media;
use crate::wsse::is_security;

/// Finds the operation; the header blocks are judged first, as the standard says (SOAP 1.2 part 1 §2.6). `signed`: the security
/// block has been understood.
///
/// # Errors
/// Why there is none, and the kind of fault that says so.
pub(crate) fn find<'a>(
    listeners: &'a [Arc<Listener>],
    envelope: &Envelope,
    action: Option<&str>,
    signed: bool,
) -> Result<&'a Arc<Listener>, (Kind, Fault)> {
    let found = by_body(listeners, envelope, action);
    let understood = |block: &Element| {
        let known = |listener: &Listener| {
            let declared = listener.request_headers.iter().any(|declared| *declared.name() == block.name);
            declared || listener.id_header.as_ref() == Some(&block.name)
        };
        match found {
            _ if is_security(block) => signed,
            _ if is_addressing(block) => true,
            Ok(listener) => known(listener),
            Err(_) => listeners.iter().any(|listener| known(listener)),
        }
    };
    let version = envelope.version;
    if let Some(block) = envelope.headers.iter().find(|block| must_understand(version, block) && !understood(block)) {
        let text = format!("the header block `{}` is not understood here", block.name);
        return Err((Kind::MustUnderstand, Fault::new(Code::Malformed, text)));
    }
    let refuse = |text: String| (Kind::Sender, Fault::new(Code::Malformed, text));
    let listener = found.map_err(|text| refuse(text.clone()))?;
    check_action(listeners, listener, action).map_err(|fault| (Kind::Sender, fault))?;
    Ok(listener)
}

/// The operation that the head alone tells: the only one, or the one whose action it is. `None` where only the body can tell.
///
/// # Errors
/// Every operation here has an action of its own, and this is none of them: whatever the body holds contradicts it.
pub(crate) fn by_head<'a>(listeners: &'a [Arc<Listener>], action: Option<&str>) -> Result<Option<&'a Listener>, Fault> {
    let own = |listener: &Listener| listener.action.clone().filter(|own| !own.is_empty());
    if let Some(action) = action
        && listeners.iter().all(|listener| own(listener).is_some_and(|own| own != action))
    {
        return Err(Fault::new(Code::Malformed, "the action belongs to no operation here"));
    }
    let mut named = listeners.iter().filter(|listener| action.is_some() && own(listener).as_deref() == action);
    Ok(match (listeners, named.next(), named.next()) {
        ([only], ..) => Some(only),
        (_, Some(found), None) => Some(found),
        _ => None,
    })
}

fn by_body<'a>(
    listeners: &'a [Arc<Listener>],
    envelope: &Envelope,
    action: Option<&str>,
) -> Result<&'a Arc<Listener>, String> {
    let first = envelope.body.first();
    let takes = |listener: &&'a Arc<Listener>| match first {
        Some(first) => listener.operation == first.name && !listener.is_empty(),
        None => listener.is_empty(),
    };
    let mut fitting = listeners.iter().filter(takes);
    let found = match (fitting.next(), fitting.next()) {
        (Some(only), None) => only,
        // The same element for several operations: WSDLs of .NET have it, and tell them apart by the action.
        (Some(_), Some(_)) => {
            let by_action = || listeners.iter().filter(takes).find(|listener| listener.action.as_deref() == action);
            action.and_then(|_| by_action()).ok_or_else(|| {
                "several operations here begin with this element; the action that tells them apart is missing or \
                 belongs to none of them"
                    .to_owned()
            })?
        }
        (None, _) => {
            return Err(match first {
                Some(first) => format!("there is no operation `{}` here", first.name),
                None => "the body of the envelope is empty".to_owned(),
            });
        }
    };
    if envelope.body.len() > found.parts() {
        return Err("the body of the envelope has more than one element".to_owned());
    }
    Ok(found)
}

impl Listener {
    /// Whether the body of its request is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.contract.as_ref().is_some_and(|contract| contract.request_name().is_none())
    }

    /// Whether nothing is answered: the WSDL has no message for it.
    pub(crate) fn is_one_way(&self) -> bool {
        self.contract.as_ref().is_some_and(|contract| contract.operation.output.is_none())
    }

    /// Whether its answer looks at what came.
    pub(crate) fn answers_with_body(&self) -> bool {
        let mut templates = self.reply_body.iter().chain(self.reply_headers.iter().map(|block| &block.value));
        !self.is_one_way() && templates.any(|template| template.reads("body"))
    }

    /// How many elements the body of its request has at most.
    fn parts(&self) -> usize {
        let parts = self.contract.as_ref().and_then(|contract| contract.operation.input.as_ref());
        parts.map_or(1, |message| message.body.len().max(1))
    }
}

/// The action that the head names: `SOAPAction` (1.1 §6.1.1), or the parameter of the content type (1.2). Only a second
/// opinion: the body decides.
///
/// # Errors
/// Two of them, or one that is no text.
pub(crate) fn action(headers: &HeaderMap, media: &Media, version: Version) -> Result<Option<String>, Fault> {
    let bad = |text: &str| Fault::new(Code::Malformed, text);
    let mut sent = headers.get_all("soapaction").iter();
    let (first, second) = (sent.next(), sent.next());
    if second.is_some() {
        return Err(bad("there are two SOAPAction headers"));
    }
    if version == Version::V12 {
        return Ok(media.action.clone().filter(|action| !action.is_empty()));
    }
    let Some(first) = first else { return Ok(None) };
    let text = first.to_str().map_err(|_| bad("the SOAPAction header is no text"))?.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    Ok(Some(bare.to_owned()).filter(|action| !action.is_empty()))
}

/// Refuses an action that names another operation than the body does: somebody routed or judged by the other one.
fn check_action(all: &[Arc<Listener>], listener: &Listener, action: Option<&str>) -> Result<(), Fault> {
    let Some(action) = action else { return Ok(()) };
    let last = action.rsplit(['/', '#', ':']).next().unwrap_or_default();
    let contradicts = match &listener.action {
        Some(own) if !own.is_empty() => own != action,
        _ => all.iter().any(|other| {
            other.operation != listener.operation
                && (other.action.as_deref() == Some(action)
                    || (*other.operation.local == *last && other.operation.local != listener.operation.local))
        }),
    };
    if contradicts {
        let text = format!("the action does not belong to `{}`, which is in the body", listener.operation);
        return Err(Fault::new(Code::Malformed, text));
    }
    Ok(())
}
