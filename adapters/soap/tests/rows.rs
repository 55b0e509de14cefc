//! Bad input at the SOAP door, row by row of the list that every door is held against: what is answered, that nothing of it
//! arrives, that no file or address in it is touched; and what it cost (printed, not asserted).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]
#![allow(clippy::print_stdout, reason = "what a row costs is told, not asserted")]

mod common;

use std::net::TcpListener;

use bytes::Bytes;
use common::{Listening, PATIENCE, V11, V12, envelope, listening};
use gatehouse_core::charset;
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml;
use http::{Method, Request};

const FILE: &str = "version: 1
system: erp
adapter: soap
accept: { api_key: { header: X-Api-Key, value: '${env:K}' } }
endpoints:
  Op: { listen: /soap/small, namespace: 'urn:o' }
  Big: { listen: /soap/big, operation: Op, namespace: 'urn:o', limits: { body: 32MiB } }
  One: { listen: /soap/two, namespace: 'urn:o', action: 'urn:o/One' }
  Two: { listen: /soap/two, namespace: 'urn:o', action: 'urn:o/Two', limits: { body: 2KiB } }
";

/// The system listens.
struct Door(Listening);

/// What was answered.
struct Told {
    status: u16,
    /// The local name of the fault's code; empty where it is no fault.
    code: String,
    text: String,
}

async fn door() -> Door {
    Door(listening(FILE, "/soap/small").await)
}

/// Nanoseconds that this thread has been on a processor (proc(5)); client and door run on it alone.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

impl Door {
    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Told {
        let mut request = Request::builder().method(Method::POST).uri(self.0.client.url(path).unwrap());
        for (name, value) in [("x-api-key", "geheim")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.0.client.send(request)).await.unwrap().unwrap();
        let status = response.status().as_u16();
        let text = String::from_utf8_lossy(response.body()).into_owned();
        let root = xml::decode(text.as_bytes(), None, &BodyLimits::default());
        let root = root.unwrap_or_else(|error| panic!("an answer is always well-formed: {error}: {text}"));
        let fault = root.child("Body").and_then(|body| body.child("Fault"));
        let code = fault.and_then(|fault| fault.child("faultcode").or_else(|| fault.child("Code")?.child("Value")));
        let code = code.map(|code| code.text().rsplit(':').next().unwrap_or_default().to_owned()).unwrap_or_default();
        assert!(text.len() < 8192, "a refusal does not say what it got: {} bytes", text.len());
        Told { status, code, text }
    }

    /// Sends a row and holds its answer against what is due.
    async fn refuses(
        &self,
        name: &str,
        path: &str,
        media: &str,
        body: impl Into<Bytes>,
        statuses: &[u16],
        codes: &[&str],
    ) -> Told {
        let body = body.into();
        let (size, before, count) = (body.len(), cpu(), self.0.engine.count());
        let told = self.send(path, &[("content-type", media)], body).await;
        println!(
            "{name}: {size} bytes, HTTP {} {}, {} ms of CPU",
            told.status,
            told.code,
            (cpu() - before) / 1_000_000
        );
        assert!(statuses.contains(&told.status) && codes.contains(&told.code.as_str()), "{name}: {}", told.text);
        assert_eq!(self.0.engine.count(), count, "{name}: something of it arrived");
        told
    }
}

fn op(inside: &str) -> String {
    envelope(V11, "", &format!("<o:Op xmlns:o='urn:o'>{inside}</o:Op>"))
}

#[tokio::test]
async fn document_types_and_inclusions_touch_nothing() {
    let door = door().await;
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x", trap.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret.txt");
    std::fs::write(&file, "KANARIENVOGEL").unwrap();
    let file = format!("file://{}", file.display());
    let quadratic = format!("<!DOCTYPE x [<!ENTITY a '{}'>]>", "a".repeat(50_000));
    let laughs =
        "<!DOCTYPE l [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]>";
    let rows = [
        ("external entity, file", format!("<!DOCTYPE x [<!ENTITY x SYSTEM '{file}'>]>"), "&x;".to_owned()),
        ("external entity, http", format!("<!DOCTYPE x [<!ENTITY x SYSTEM '{url}'>]>"), "&x;".to_owned()),
        ("external DTD", format!("<!DOCTYPE x SYSTEM '{url}.dtd'>"), String::new()),
        ("public DTD", format!("<!DOCTYPE x PUBLIC '-//x' '{url}.dtd'>"), String::new()),
        ("parameter entity", format!("<!DOCTYPE x [<!ENTITY % p SYSTEM '{url}'>%p;]>"), String::new()),
        ("internal only", "<!DOCTYPE x>".to_owned(), String::new()),
        ("billion laughs", laughs.to_owned(), "&c;".to_owned()),
        ("quadratic blow-up", quadratic, "&a;".repeat(1000)),
        ("after a comment and an instruction", "<!-- x --><?p?><!DOCTYPE x>".to_owned(), String::new()),
    ];
    for (name, doctype, inside) in rows {
        for (media, status, code) in [("text/xml", 500, "Client"), ("application/soap+xml", 400, "Sender")] {
            let body = format!("{doctype}{}", op(&inside));
            let told = door.refuses(name, "/soap/small", media, body, &[status], &[code]).await;
            assert!(told.text.contains("DOCTYPE") && !told.text.contains("KANARIENVOGEL"), "{name}: {}", told.text);
        }
    }
    // An entity without a DOCTYPE is none; an inclusion and a schema's place are elements and attributes like any other.
    door.refuses("undeclared entity", "/soap/small", "text/xml", op("&x;"), &[500], &["Client"]).await;
    let include = format!(
        "<i:include xmlns:i='http://www.w3.org/2001/XInclude' href='{file}' parse='text'/><a xmlns:s='http://www.w3.org/2001/XMLSchema-instance' \
         s:schemaLocation='urn:a {url}'/><?xml-stylesheet href='{url}'?>"
    );
    let told = door.send("/soap/small", &[("content-type", "text/xml")], Bytes::from(op(&include))).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let arrived = door.0.engine.last().1.body.to_string();
    assert!(arrived.contains("\"@href\":\"file://") && !arrived.contains("KANARIENVOGEL"), "{arrived}");
    assert!(trap.accept().is_err(), "somebody called");
}

#[tokio::test]
async fn what_grows_without_end_is_cut() {
    let door = door().await;
    let attributes = |count: usize| (0..count).map(|n| format!(" a{n}=''")).collect::<String>();
    let namespaces: String = (0..300).map(|n| format!(" xmlns:n{n}='u{n}'")).collect();
    let blocks = envelope(V11, &"<h:b xmlns:h='urn:h'/>".repeat(100_000), "<o:Op xmlns:o='urn:o'/>");
    let rows = [
        ("100,000 deep", op(&"<a>".repeat(100_000))),
        ("80,000 attributes", op(&format!("<a{}/>", attributes(80_000)))),
        ("129 attributes", op(&format!("<a{}/>", attributes(129)))),
        ("300 namespaces on one tag", op(&format!("<a{namespaces}/>"))),
        ("a name of 10 MB", op(&format!("<{}/>", "n".repeat(10 << 20)))),
        ("1,000,000 siblings", op(&"<a/>".repeat(1_000_000))),
        ("100,000 header blocks", blocks),
        ("an attribute of 33 MB", op(&format!("<a b='{}'/>", "x".repeat(33 << 20)))),
        (
            "10 MB of open tags in a comment's shade",
            op(&format!("<!--{}-->{}", "<a>".repeat(3_000_000), "<a>".repeat(100))),
        ),
    ];
    for (name, body) in rows {
        let small = if body.len() > 1 << 20 { "/soap/big" } else { "/soap/small" };
        door.refuses(name, small, "text/xml", body.clone(), &[413], &["Client"]).await;
        if small == "/soap/big" {
            // Where the endpoint takes less, its size alone is enough.
            door.refuses(&format!("{name}, at 1 MiB"), "/soap/small", "text/xml", body, &[413], &["Client"]).await;
        }
    }
    let text = op(&"x".repeat(10 << 20));
    door.refuses("a text of 10 MB", "/soap/small", "text/xml", text, &[413], &["Client"]).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_of_their_charset_are_refused() {
    let door = door().await;
    let declared = |label: &str| format!("<?xml version='1.0' encoding='{label}'?>{}", op("订单"));
    let wide = |text: &str| charset::encode(text, "utf-16le").unwrap();
    let marked = |mark: &[u8], rest: &[u8]| [mark, rest].concat();
    let within = |bytes: &[u8]| {
        let text = op("|");
        let (before, after) = text.split_once('|').unwrap();
        [before.as_bytes(), bytes, after.as_bytes()].concat()
    };
    let utf8 = "text/xml; charset=utf-8";
    let rows: Vec<(&str, &str, Vec<u8>)> = vec![
        ("declares UTF-16, is UTF-8", "text/xml", declared("UTF-16").into_bytes()),
        ("declares UTF-7", "text/xml", declared("UTF-7").into_bytes()),
        ("declares EBCDIC", "text/xml", declared("IBM037").into_bytes()),
        ("is EBCDIC", "text/xml", b"\x4C\x6F\xA7\x94\x93".to_vec()),
        ("says utf-7 in the head", "text/xml; charset=utf-7", declared("UTF-8").into_bytes()),
        ("UTF-16 under a head of utf-8", utf8, wide(&op("x"))),
        ("a UTF-16 mark under a head of utf-8", utf8, marked(b"\xFF\xFE", &wide(&op("x")))),
        (
            "a UTF-8 mark under a head of utf-16",
            "text/xml; charset=utf-16",
            marked(b"\xEF\xBB\xBF", op("x").as_bytes()),
        ),
        ("a mark of UTF-16 that declares GBK", "text/xml", marked(b"\xFF\xFE", &wide(&declared("GBK")))),
        ("bad UTF-8", utf8, marked(op("x").as_bytes(), b"\xC3\x28")),
        ("overlong UTF-8", utf8, within(b"\xC0\x80")),
        ("a lone surrogate", utf8, within(b"\xED\xA0\x80")),
    ];
    for (name, media, body) in rows {
        door.refuses(name, "/soap/small", media, body, &[415, 500], &["Client"]).await;
    }
}

#[tokio::test]
async fn an_action_is_judged_before_the_body_and_by_it() {
    let door = door().await;
    let body = |name: &str, rest: &str| envelope(V11, "", &format!("<o:{name} xmlns:o='urn:o'>{rest}</o:{name}>"));
    let send = async |headers: &[(&str, &str)], body: String| {
        let headers: Vec<_> = [("content-type", "text/xml")].iter().chain(headers).copied().collect();
        door.send("/soap/two", &headers, Bytes::from(body)).await
    };
    // An action that is none of these is refused without a look at the body: what is no XML at all is not even seen.
    for body in [body("One", ""), "<<<".to_owned(), String::new()] {
        let told = send(&[("soapaction", "\"urn:o/Three\"")], body).await;
        assert!(told.code == "Client" && told.text.contains("belongs to no operation here"), "{}", told.text);
    }
    // It says which limits count before the body is read; the body says which operation it is.
    let long = "x".repeat(4000);
    assert_eq!(send(&[("soapaction", "urn:o/Two")], body("Two", &long)).await.status, 413);
    assert_eq!(send(&[("soapaction", "\"urn:o/One\"")], body("One", &long)).await.status, 200);
    let spoofed = send(&[("soapaction", "\"urn:o/One\"")], body("Two", "")).await;
    assert!(spoofed.code == "Client" && spoofed.text.contains("does not belong to"), "{}", spoofed.text);
    for two in [
        [("soapaction", "urn:o/One"), ("soapaction", "urn:o/Two")],
        [("soapaction", "urn:o/One"), ("soapaction", "urn:o/One")],
    ] {
        assert!(send(&two, body("One", "")).await.text.contains("two SOAPAction headers"));
    }
    // Missing, empty, unquoted: the body alone decides.
    for action in [&[][..], &[("soapaction", "")], &[("soapaction", "\"\"")], &[("soapaction", "urn:o/One")]] {
        assert_eq!(send(action, body("One", "")).await.status, 200);
    }
    assert_eq!(door.0.engine.count(), 5);
}

#[tokio::test]
async fn messages_in_parts_have_limits_too() {
    let door = door().await;
    let media = "multipart/related; type=\"text/xml\"; start=\"<root>\"; boundary=b";
    let part = |id: &str, text: &str| format!("--b\r\nContent-Type: text/xml\r\nContent-ID: <{id}>\r\n\r\n{text}\r\n");
    let many: String = (0..10_000).map(|n| part(&format!("p{n}"), "x")).collect();
    let href = "<x:Include xmlns:x='http://www.w3.org/2004/08/xop/include' href='cid:a'/>";
    let rows = [
        ("10,000 parts", format!("{}{many}--b--\r\n", part("root", &op("")))),
        ("the root is missing", format!("{}--b--\r\n", part("other", &op("")))),
        ("no last boundary", part("root", &op(""))),
        ("what is referred to is missing", format!("{}--b--\r\n", part("root", &op(href)))),
        ("no parts at all", "--b--\r\n".to_owned()),
        ("not even a boundary", op("")),
    ];
    for (name, body) in rows {
        door.refuses(name, "/soap/small", media, body, &[413, 500], &["Client"]).await;
    }
    let huge = format!("{}{}--b--\r\n", part("root", &op(href)), part("a", &"x".repeat(2 << 20)));
    door.refuses("a part of 2 MB", "/soap/small", media, huge, &[413], &["Client"]).await;
    for coding in ["gzip", "deflate", "br", "gzip, gzip"] {
        let headers = [("content-type", "text/xml"), ("content-encoding", coding)];
        assert_eq!(door.send("/soap/small", &headers, Bytes::from(vec![0_u8; 1000])).await.status, 415, "{coding}");
    }
    let told = door
        .send("/soap/small", &[("content-type", "text/xml")], Bytes::from(envelope(V12, "", "<o:Op xmlns:o='urn:o'/>")))
        .await;
    assert_eq!((told.status, told.code.as_str()), (500, "VersionMismatch"));
    assert_eq!(door.0.engine.count(), 0);
}
