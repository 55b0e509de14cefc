//! Judges a signed message, and lets nothing through that was not signed.
//!
//! The library says which nodes a signature covers; which of them may be used is decided here. The danger is not a broken signature but a
//! good one over something else than what is read (signature wrapping), so: there is one signature, in the one security block of the
//! envelope's header; it refers to elements of this document by their ids, each of which is there once; the body of the envelope and the
//! Timestamp in the block are among them. What goes on is not what another parser made of the message but the very octets
//! that were digested, read again: the body, and the header blocks that are signed too.

use std::sync::Arc;
use std::time::Duration;

use bergshamra::c14n::{C14nMode, canonicalize_doc};
use bergshamra::xml::{Document, NodeId, NodeSet, uppsala};
use bergshamra::{VerifyResult, dsig};
use bytes::Bytes;
use gatehouse_core::fault::Fault;
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::{self, Element};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::file::TrustFile;
use super::once::{Once, Seen};
use super::seal::{EXC_C14N, SHA256};
use super::trust::Trust;
use super::verify::{SKEW, WINDOW, optional, time};
use super::{DSIG, WSSE, WSU};
use crate::envelope::{Envelope, Version};

/// The most things that one signature covers.
const MAX_REFERENCES: usize = 16;

/// How `SignedInfo` and what it refers to may be written down. Comments are no part of a message.
const CANONICAL: [&str; 3] =
    [EXC_C14N, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", "http://www.w3.org/2006/12/xml-c14n11"];

/// SHA-1 is not among them: a second document with the same digest can be made.
const DIGESTS: [&str; 3] =
    [SHA256, "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512"];

/// Public keys only: with an HMAC, whoever may check could sign.
const SIGNATURES: [&str; 6] = [
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
];

/// Judges signed messages.
#[derive(Clone)]
pub(crate) struct Inspector {
    trust: Arc<Trust>,
    window: Duration,
    /// Digests of what was signed.
    seen: Seen,
}

impl Inspector {
    /// Reads the certificates.
    ///
    /// # Errors
    /// `Misconfigured`: one that is not there or is none.
    pub(crate) fn open(file: &TrustFile) -> Result<Self, Fault> {
        let window = file.window.map_or(WINDOW, |seconds| Duration::from_secs(seconds.into()));
        Ok(Self { trust: Arc::new(Trust::open(file)?), window, seen: Seen::new(window) })
    }

    /// Judges a message that has been opened: its bytes, their charset, and the version that it was found to be of. What comes back is
    /// what was signed, and its place among what was taken.
    ///
    /// # Errors
    /// What is wrong, for support staff only: nobody else is to learn from it.
    pub(crate) fn verify(
        &self,
        bytes: &Bytes,
        charset: Option<&str>,
        version: Version,
    ) -> Result<(Envelope, Once), String> {
        self.verify_at(bytes, charset, version, Timestamp::now())
    }

    pub(super) fn verify_at(
        &self,
        bytes: &[u8],
        charset: Option<&str>,
        version: Version,
        now: Timestamp,
    ) -> Result<(Envelope, Once), String> {
        let text = xml::text_of(bytes, charset).map_err(|error| error.to_string());
        let judged = text.and_then(|text| {
            let text = text.trim_start_matches('\u{feff}');
            let document = uppsala::parse(text).map_err(|error| error.to_string())?;
            Message { document: &document, text, version }.signed(&self.trust, now)
        });
        let signed = judged?;
        self.is_fresh(&signed, now)?;
        // Only what was right takes a place.
        let once = self.seen.take(&signed.digest).ok_or("it has been sent before")?;
        Ok((signed.envelope(version)?, once))
    }

    fn is_fresh(&self, signed: &Signed, now: Timestamp) -> Result<(), String> {
        let at = |local: &str| -> Result<Option<Timestamp>, String> {
            let element = optional(&signed.time, WSU, local).ok_or("the Timestamp says a time twice")?;
            element.map(|element| time(element).ok_or("the Timestamp is no time".to_owned())).transpose()
        };
        let created = at("Created")?.ok_or("the Timestamp has no Created")?;
        let oldest = now.saturating_sub(self.window).map_err(|error| error.to_string())?;
        let newest = now.saturating_add(SKEW).map_err(|error| error.to_string())?;
        let is_over = at("Expires")?.is_some_and(|expires| expires < now);
        if created < oldest || created > newest || is_over {
            return Err(format!("it was signed at {created}, which is not now"));
        }
        Ok(())
    }
}

/// What a signature covers, read from the octets that were digested.
struct Signed {
    body: Element,
    time: Element,
    headers: Vec<Element>,
    /// Of all that is covered, in the order in which the signature names it.
    digest: [u8; 32],
}

impl Signed {
    fn envelope(self, version: Version) -> Result<Envelope, String> {
        let part = |local: &str| Element::new(Some(version.namespace()), local);
        let header = self.headers.into_iter().fold(part("Header"), Element::with_child);
        let root = part("Envelope").with_child(header).with_child(self.body);
        Envelope::take(root).map_err(|error| format!("what was signed is no envelope: {error:?}"))
    }
}

/// A message as the library's parser sees it: signature and judgement are about the same tree.
pub(super) struct Message<'a> {
    pub(super) document: &'a Document<'a>,
    text: &'a str,
    version: Version,
}

/// Something that is covered, and how it was written down.
struct Covered {
    node: NodeId,
    mode: C14nMode,
    prefixes: Vec<String>,
}

impl Message<'_> {
    fn signed(&self, trust: &Trust, now: Timestamp) -> Result<Signed, String> {
        let soap = self.version.namespace();
        let root = self.document.document_element().ok_or("there is no root")?;
        self.named(root, soap, "Envelope")?;
        let header = self.only(root, soap, "Header")?;
        let body = self.only(root, soap, "Body")?;
        let block = self.only(header, WSSE, "Security")?;
        let signature = self.only(block, DSIG, "Signature")?;
        let stamp = self.only(block, WSU, "Timestamp")?;
        if self.document.get_elements_by_tag_name_ns(DSIG, "Signature").len() != 1 {
            return Err("there is more than one signature".to_owned());
        }
        for child in self.elements(block) {
            let lawful = child == signature || child == stamp || self.is(child, WSSE, "BinarySecurityToken");
            if !lawful {
                return Err("the security block holds something that is not understood".to_owned());
            }
        }
        let covered = self.covered(signature)?;
        let keys = trust.keys(|| self.claim(block, signature), now)?;
        let verified = dsig::verify::verify_document_with_source(&keys, self.document, Some(self.text));
        let verified = verified.map_err(|error| error.to_string())?;
        if !verified.all_reference_digests_verified() {
            let reason = if let VerifyResult::Invalid { reason } = verified { reason } else { String::new() };
            return Err(format!("the signature is not good: {reason}"));
        }
        let VerifyResult::Valid { signature_node, references, .. } = verified else {
            return Err("the signature is not good".to_owned());
        };
        let nodes: Vec<_> = references.iter().map(|reference| reference.resolved_node).collect();
        if signature_node != signature || nodes != covered.iter().map(|one| Some(one.node)).collect::<Vec<_>>() {
            return Err("the signature covers something else than it says".to_owned());
        }
        let octets = covered.iter().map(|one| self.octets(one)).collect::<Result<Vec<_>, _>>()?;
        let find =
            |node: NodeId| covered.iter().zip(&octets).find(|(one, _)| one.node == node).map(|(_, octets)| octets);
        let body = self.read(find(body).ok_or("the body is not signed")?)?;
        let time = self.read(find(stamp).ok_or("the Timestamp is not signed")?)?;
        let mut headers = Vec::new();
        for child in self.elements(header) {
            match find(child) {
                Some(octets) => headers.push(self.read(octets)?),
                None if child == block => headers.push(Element::new(Some(WSSE), "Security")),
                // Somebody on the way may have added it. It is not there, unless it must not be overlooked.
                None => {
                    let element = self.document.element(child);
                    let mark = element.and_then(|element| element.get_attribute_ns(soap, "mustUnderstand"));
                    if mark.is_some_and(|mark| !matches!(mark.trim(), "0" | "false")) {
                        return Err("a header block that must be understood is not signed".to_owned());
                    }
                }
            }
        }
        // With their lengths: what ends one and begins the next is covered too.
        let digest = octets
            .iter()
            .fold(Sha256::new(), |digest, octets| digest.chain_update(octets.len().to_be_bytes()).chain_update(octets));
        Ok(Signed { body, time, headers, digest: digest.finalize().into() })
    }

    /// What a signature says that it covers, as far as it may say so.
    fn covered(&self, signature: NodeId) -> Result<Vec<Covered>, String> {
        let info = self.only(signature, DSIG, "SignedInfo")?;
        self.algorithm(self.only(info, DSIG, "CanonicalizationMethod")?, &CANONICAL)?;
        self.algorithm(self.only(info, DSIG, "SignatureMethod")?, &SIGNATURES)?;
        let references = self.document.child_elements_by_name_ns(info, DSIG, "Reference");
        if references.len() > MAX_REFERENCES {
            return Err(format!("the signature covers more than {MAX_REFERENCES} things"));
        }
        let mut covered = Vec::with_capacity(references.len());
        for reference in references {
            self.algorithm(self.only(reference, DSIG, "DigestMethod")?, &DIGESTS)?;
            let uri = self.document.get_attribute(reference, "URI").unwrap_or_default();
            // No files, no addresses, no pointers: an id.
            let plain = |id: &&str| id.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
            let id = uri.strip_prefix('#').filter(plain).filter(|id| !id.is_empty());
            let node = self.by_id(id.ok_or("the signature refers to something that is not in the message")?)?;
            let transforms = match self.document.child_elements_by_name_ns(reference, DSIG, "Transforms").as_slice() {
                [] => Vec::new(),
                [one] => self.elements(*one),
                _ => return Err("a reference is transformed twice".to_owned()),
            };
            covered.push(match transforms.as_slice() {
                [] => Covered { node, mode: C14nMode::Inclusive, prefixes: Vec::new() },
                [one] if self.is(*one, DSIG, "Transform") => {
                    let mode = C14nMode::from_uri(self.algorithm(*one, &CANONICAL)?).ok_or("an unknown transform")?;
                    let listed = self.elements(*one).into_iter().find_map(|child| {
                        let list = self.document.get_attribute(child, "PrefixList")?;
                        Some(list.split_whitespace().map(str::to_owned).collect())
                    });
                    Covered { node, mode, prefixes: listed.unwrap_or_default() }
                }
                _ => return Err("a reference is transformed by more than a canonical form".to_owned()),
            });
        }
        Ok(covered)
    }

    /// The element with an id; there must be no second one.
    pub(super) fn by_id(&self, id: &str) -> Result<NodeId, String> {
        let has = |node: &NodeId| {
            ["Id", "ID", "id", "AssertionID"].iter().any(|name| self.document.get_attribute(*node, name) == Some(id))
        };
        let mut found = self.document.descendants(self.document.root()).into_iter().filter(has);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err("the signature refers to an id that is not there".to_owned()),
            (Some(_), Some(_)) => Err("the signature refers to an id that is there twice".to_owned()),
        }
    }

    /// The octets that were digested.
    fn octets(&self, covered: &Covered) -> Result<Vec<u8>, String> {
        let nodes = NodeSet::tree_without_comments(covered.node, self.document);
        let octets = canonicalize_doc(self.document, covered.mode, Some(&nodes), &covered.prefixes);
        octets.map_err(|error| error.to_string())
    }

    /// What they say.
    fn read(&self, octets: &[u8]) -> Result<Element, String> {
        // The message has been measured already; its canonical form may be longer by what it spells out.
        let most = self.text.len().saturating_mul(4).max(1 << 20);
        let limits = BodyLimits { bytes: most, text: most, ..BodyLimits::default() };
        xml::decode(octets, Some("utf-8"), &limits).map_err(|error| error.to_string())
    }

    fn algorithm(&self, node: NodeId, allowed: &[&'static str]) -> Result<&'static str, String> {
        let said = self.document.get_attribute(node, "Algorithm").unwrap_or_default();
        let found = allowed.iter().find(|one| **one == said);
        found.copied().ok_or_else(|| format!("the algorithm `{said}` is not taken"))
    }

    pub(super) fn elements(&self, node: NodeId) -> Vec<NodeId> {
        let children = self.document.children(node).into_iter();
        children.filter(|child| self.document.element(*child).is_some()).collect()
    }

    pub(super) fn is(&self, node: NodeId, namespace: &str, local: &str) -> bool {
        self.document.element(node).is_some_and(|element| element.matches_name_ns(namespace, local))
    }

    fn named(&self, node: NodeId, namespace: &str, local: &str) -> Result<(), String> {
        if self.is(node, namespace, local) { Ok(()) } else { Err(format!("the root is no `{local}`")) }
    }

    /// The one child of this name.
    pub(super) fn only(&self, parent: NodeId, namespace: &str, local: &str) -> Result<NodeId, String> {
        match self.document.child_elements_by_name_ns(parent, namespace, local).as_slice() {
            [only] => Ok(*only),
            [] => Err(format!("there is no `{local}`")),
            _ => Err(format!("there is more than one `{local}`")),
        }
    }
}
