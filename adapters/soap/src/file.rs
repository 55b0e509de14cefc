//! A SOAP system's file: what serde reads, and what [`crate::check`] makes of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use gatehouse_core::adapter::Endpoint;
use gatehouse_core::limits::{Circuit, CircuitFile, Limits, LimitsFile};
use gatehouse_core::nested::{Nested, NestedFile};
use gatehouse_core::outcome::OutcomeRule;
use gatehouse_core::path::Path;
use gatehouse_core::xml::QName;
use gatehouse_core::yaml::{Entries, Located};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::attachments::{Attachments, AttachmentsFile};
use crate::blocks::Declared;
use crate::contract::Contract;
use crate::envelope::Version;
use crate::login::{Login, LoginFile};
use crate::template::{Template, TemplateFile};
use crate::wsdl::Wsdl;
use crate::wsse::{SignAnswersFile, SoapAcceptFile, SoapAuthFile, VerifyFile};

/// A system that speaks SOAP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemFile {
    /// The version of this file's format: 1.
    #[serde(rename = "version")]
    _version: u32,
    /// The system's name; the file is called so.
    pub(crate) system: Located<String>,
    /// `soap`.
    #[serde(rename = "adapter")]
    _adapter: String,
    /// Where calls go: `https://host:port/path`. Needed where an endpoint is outbound.
    pub(crate) address: Option<Located<String>>,
    /// Its WSDL, a file of the site (`wsdl/sales.wsdl`), with what that imports beside it. Operations, names, types and the address
    /// come from there; `gatehouse connect soap` writes this file from it.
    pub(crate) wsdl: Option<Located<String>>,
    /// The port of the WSDL. Default: the first that speaks the version in `soap`, or the first that speaks SOAP.
    pub(crate) port: Option<Located<String>>,
    /// The version in which it is called: `"1.1"` (default) or `"1.2"`. Inbound endpoints take both.
    pub(crate) soap: Option<Located<String>>,
    /// The charset in which it is called: `GBK`, `UTF-16` … Default UTF-8. What it lacks is written as `&#…;`.
    pub(crate) charset: Option<Located<String>>,
    /// A PEM file with the CA that its certificate is trusted by. Default: the machine's.
    pub(crate) ca_file: Option<String>,
    /// How Gatehouse proves who it is when it calls. Default: not at all.
    pub(crate) auth: Option<Located<SoapAuthFile>>,
    /// A call that must come first and whose reply holds a token for all others.
    pub(crate) login: Option<LoginFile>,
    /// How the system proves who it is when it calls us.
    pub(crate) accept: Option<Located<SoapAcceptFile>>,
    /// Whose signature the answers of the system have, where they must have one. Default: none is asked for.
    pub(crate) verify: Option<Located<VerifyFile>>,
    /// The signature of what Gatehouse answers the system. Default: none.
    pub(crate) sign: Option<Located<SignAnswersFile>>,
    /// What the engine keeps around all endpoints together.
    #[serde(default)]
    pub(crate) limits: LimitsFile,
    /// When the system counts as down.
    #[serde(default)]
    pub(crate) circuit: CircuitFile,
    /// What it offers and sends.
    pub(crate) endpoints: Entries<EndpointFile>,
}

/// One operation: outbound, or inbound where it has `listen`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointFile {
    /// The operation's local name. Default: the endpoint's name.
    pub(crate) operation: Option<Located<String>>,
    /// The namespace of the operation's element. Default: none.
    pub(crate) namespace: Option<Located<String>>,
    /// The SOAPAction (1.1) or `action` (1.2), without quotes. Out: sent, default empty. In: must match where one is sent.
    pub(crate) action: Option<Located<String>>,
    /// Limits of its own, over the system's.
    #[serde(default)]
    pub(crate) limits: LimitsFile,

    /// Documents in strings: a path into the body, and the encodings around what stands there, the outermost first:
    /// `{ in0: [xml] }`. Words: `xml`, `xml-document`, `json`, `xml-unescape`, `base64`.
    #[serde(default)]
    pub(crate) nested: NestedFile,
    /// Out: the same for the reply.
    pub(crate) nested_reply: Option<Located<NestedFile>>,

    /// Bytes travel beside the envelope instead of in it, in Base64: `{ as: mtom }`. Out: those of the call; in: those of the reply.
    pub(crate) attachments: Option<Located<AttachmentsFile>>,

    /// Out: the body's element, where it is not called as the operation.
    pub(crate) element: Option<Located<String>>,
    /// Out: whether the elements in it are in the namespace too (`elementFormDefault`). Default true; SAP says false.
    pub(crate) qualified: Option<Located<bool>>,
    /// Out: header blocks to send.
    pub(crate) headers: Option<Located<Vec<BlockFile>>>,
    /// Out: whether the delivery id is sent as the header block `{urn:gatehouse}DeliveryId`. Default true.
    pub(crate) delivery_id: Option<Located<bool>>,
    /// Out: whether no answer is due: an empty 200, 202 or 204 is a yes. Default false.
    pub(crate) one_way: Option<Located<bool>>,
    /// Out: a path below the address.
    pub(crate) path: Option<Located<String>>,
    /// Out: header blocks of an answer that must be understood and change nothing here, beside those that the WSDL declares.
    pub(crate) understands: Option<Located<Vec<NameFile>>>,
    /// Out: an expression over `reply` (what is in the body's first element), `headers` (the answer's header blocks) and `status`;
    /// false means refused.
    pub(crate) success_when: Option<Located<String>>,
    /// Out: an expression that finds the reason in `reply` where the answer means no.
    pub(crate) error_text: Option<Located<String>>,
    /// Out: an expression that says that a refusal is worth another try.
    pub(crate) retry_when: Option<Located<String>>,
    /// Out: an expression that says that a refusal is final, also where the fault says that the receiver is to blame.
    pub(crate) reject_when: Option<Located<String>>,

    /// In: the path that it listens on: `/soap/erp`. Several operations may share one.
    pub(crate) listen: Option<Located<String>>,
    /// In: a path into the body to the caller's own message id, which it must send: `Header.DocumentNo`. Default: a new id each time.
    pub(crate) id: Option<Located<String>>,
    /// In: the header block that holds the caller's own message id. With `id` too, the block wins where it is sent.
    pub(crate) id_header: Option<NameFile>,
    /// In: the canonical type whose fields are the operation's arguments: `order.paid`. Its WSDL is made from that, and served under
    /// `?wsdl`; what comes is typed by it.
    #[serde(rename = "type")]
    pub(crate) kind: Option<Located<String>>,
    /// In: what is answered. Default: an empty `<operation>Response` in the operation's namespace, or the route's reply.
    pub(crate) reply: Option<Located<ReplyFile>>,
    /// In: an element in the detail of faults, before Gatehouse's own: the one that the caller's WSDL declares.
    pub(crate) fault: Option<Located<DetailFile>>,
    /// In: header blocks of faults about a header block, which then have no detail (SOAP 1.1 §4.4): those that the caller's WSDL declares
    /// (`soap:headerfault`), each where the block is wrong that it is about.
    pub(crate) header_faults: Option<Located<Vec<DetailFile>>>,
}

/// A name with its namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameFile {
    /// The local name.
    pub(crate) name: Located<String>,
    /// The namespace. Default: none.
    pub(crate) namespace: Option<String>,
}

/// A header block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockFile {
    /// Its local name.
    pub(crate) name: Located<String>,
    /// Its namespace; every header block has one (SOAP 1.1 §4.2). Where the WSDL declares the block, it is known.
    pub(crate) namespace: Option<Located<String>>,
    /// Whether the receiver must fail when it does not know it.
    #[serde(default)]
    pub(crate) must_understand: bool,
    /// What is in it: an expression over `body`, `message` and `delivery_id` (of an answer: what its body sees), or a map of such.
    pub(crate) value: Located<TemplateFile>,
}

/// An answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplyFile {
    /// The canonical type of what is answered, beside a `type` of what comes. Default there: `messageId` alone.
    #[serde(rename = "type")]
    pub(crate) kind: Option<Located<String>>,
    /// The local name of its element. Default: `<operation>Response`.
    pub(crate) element: Option<Located<String>>,
    /// Its namespace. Default: the operation's.
    pub(crate) namespace: Option<Located<String>>,
    /// What is in it: an expression over `message_id`, `body` and `reply` (the route's), or a map of such.
    pub(crate) body: Option<Located<TemplateFile>>,
    /// Header blocks to send with it.
    pub(crate) headers: Option<Vec<BlockFile>>,
}

/// What a fault says to a program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetailFile {
    /// The local name of the element: one that a fault, or a header fault, of the WSDL's operation has.
    pub(crate) name: Located<String>,
    /// Its namespace. Where the WSDL declares the fault, it is known.
    pub(crate) namespace: Option<Located<String>>,
    /// What is in it: an expression over `fault` (`code`, `text`, `message_id`, `violations` with `pointer` and `message`), or a
    /// map of such.
    pub(crate) body: Located<TemplateFile>,
}

/// A checked file.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) circuit: Circuit,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) calls: Calls,
    pub(crate) listeners: Listeners,
}

/// The outbound half.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    /// Empty where no endpoint is outbound.
    pub(crate) address: String,
    pub(crate) version: Version,
    pub(crate) charset: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) auth: SoapAuthFile,
    pub(crate) verify: Option<VerifyFile>,
    pub(crate) login: Option<Login>,
    pub(crate) by_name: HashMap<String, Arc<Operation>>,
}

/// An outbound operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// What the WSDL says of it, where there is one.
    pub(crate) contract: Option<Contract>,
    pub(crate) nested: Nested,
    pub(crate) nested_reply: Nested,
    pub(crate) attachments: Option<Attachments>,
    pub(crate) element: QName,
    /// The namespace of the elements in it.
    pub(crate) children: Option<String>,
    pub(crate) action: String,
    pub(crate) headers: Vec<Block>,
    /// The header blocks that the WSDL declares for its answer.
    pub(crate) reply_headers: Vec<Declared>,
    /// The elements that the WSDL declares for the details of its faults.
    pub(crate) details: Vec<Declared>,
    /// The header blocks that the WSDL declares for faults about header blocks.
    pub(crate) header_faults: Vec<Declared>,
    /// Both: the blocks of an answer that are read by a schema.
    pub(crate) answer_blocks: Vec<Declared>,
    pub(crate) understands: Vec<QName>,
    pub(crate) delivery_id: bool,
    pub(crate) one_way: bool,
    pub(crate) path: String,
    /// Judges an answer.
    pub(crate) answer: OutcomeRule,
    /// Judges a fault: `success_when` has no say there, so that a rule written for answers cannot take a fault for a yes.
    pub(crate) fault: OutcomeRule,
    pub(crate) max_answer: usize,
}

/// A header block to send.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) name: QName,
    pub(crate) must_understand: bool,
    pub(crate) value: Template,
    /// What the WSDL says of it, where it declares it.
    pub(crate) declared: Option<Declared>,
}

/// The inbound half.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    pub(crate) accept: SoapAcceptFile,
    pub(crate) sign: Option<SignAnswersFile>,
    /// Served to who asks for `?wsdl`.
    pub(crate) wsdl: Option<Arc<Wsdl>>,
    /// The same, made from canonical types, by path.
    pub(crate) offers: HashMap<String, Arc<Wsdl>>,
    /// Operations by path.
    pub(crate) by_path: Vec<(String, Vec<Arc<Listener>>)>,
}

/// An inbound operation.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// `system/endpoint`.
    pub(crate) endpoint: String,
    /// What the WSDL says of it, where there is one.
    pub(crate) contract: Option<Contract>,
    pub(crate) nested: Nested,
    pub(crate) attachments: Option<Attachments>,
    pub(crate) operation: QName,
    pub(crate) action: Option<String>,
    pub(crate) id: Option<Path>,
    pub(crate) id_header: Option<QName>,
    pub(crate) reply: QName,
    pub(crate) reply_body: Option<Template>,
    pub(crate) reply_headers: Vec<Block>,
    /// The header blocks that the WSDL declares for a request.
    pub(crate) request_headers: Vec<Declared>,
    /// What is in a fault's detail before our own; its `must_understand` means nothing.
    pub(crate) detail: Option<Block>,
    /// What is in a fault's header where a header block is wrong.
    pub(crate) header_faults: Vec<HeaderFault>,
    pub(crate) max_body: usize,
}

/// A header block of a fault about a header block.
#[derive(Clone, Debug)]
pub(crate) struct HeaderFault {
    /// The blocks that it is about, by local name; empty: any.
    pub(crate) about: Vec<String>,
    /// Its `must_understand` means nothing.
    pub(crate) block: Block,
}
