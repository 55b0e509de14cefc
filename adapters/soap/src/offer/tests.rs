//! Contracts made from types: what is written, what comes by it, and what has no form in XML.

use gatehouse_core::diagnostics::{Problems, SourceFile};
use gatehouse_core::limits::BodyLimits;
use gatehouse_core::xml::Element;
use gatehouse_core::{json, xml};

use super::*;
use crate::contract::Contract;
use crate::envelope::{Envelope, Version};

fn source(text: &str) -> Source {
    let root = json::decode(text.as_bytes(), &BodyLimits::default()).unwrap();
    Source { file: SourceFile::new("types/order.schema.json", text), root }
}

pub(crate) fn try_make(request: &str, reply: Option<&str>) -> Result<Offer, Vec<String>> {
    let mut problems = Problems::new();
    let operation = Operation {
        name: "Submit".to_owned(),
        action: "urn:shop/Submit".to_owned(),
        request: source(request),
        reply: reply.map(source),
    };
    let offer = make("shop", "urn:shop", vec![operation], &mut problems);
    let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.place(), problem.message)).collect();
    match offer {
        Some(offer) if told.is_empty() => Ok(offer),
        _ => Err(told),
    }
}

fn contract(offer: &Offer) -> Contract {
    let (_, port) = offer.wsdl.soap_ports().next().unwrap();
    let operation = port.operation("Submit").unwrap().clone();
    Contract { wsdl: offer.wsdl.clone(), operation, offered: offer.operation("Submit") }
}

fn read(contract: &Contract, inside: &str) -> Result<String, String> {
    let text = format!(
        "<e:Envelope xmlns:e='{}' xmlns:i='{}'><e:Body><Submit xmlns='urn:shop'>{inside}</Submit></e:Body></e:Envelope>",
        Version::V11.namespace(),
        xml::XSI
    );
    let envelope = Envelope::take(xml::decode(text.as_bytes(), None, &BodyLimits::default()).unwrap()).unwrap();
    contract.read_request(&envelope).map(|value| value.to_string()).map_err(|violations| {
        violations.iter().map(|one| format!("{} {}", one.pointer, one.message)).collect::<Vec<_>>().join("; ")
    })
}

fn text_of(offer: &Offer) -> String {
    offer.wsdl.document("wsdl", "http://h/soap/shop").unwrap()
}

/// A type with each thing that has a form.
pub(crate) const ORDER: &str = r##"{
  "title": "An order", "type": "object",
  "properties": {
    "orderNo": { "type": "string", "minLength": 1, "maxLength": 40, "description": "The shop's number" },
    "status": { "enum": ["paid", "pending"] },
    "note": { "type": ["string", "null"] },
    "amount": { "type": "number", "minimum": 0, "multipleOf": 0.01 },
    "day": { "type": "string", "format": "date" },
    "at": { "type": "string", "format": "date-time" },
    "count": { "type": "integer", "minimum": 0, "maximum": 100 },
    "id": { "type": "integer" },
    "gift": { "type": "boolean" },
    "photo": { "type": "string", "contentEncoding": "base64" },
    "currency": { "type": "string", "pattern": "^[A-Z]{3}$" },
    "buyer": { "$ref": "#/$defs/Party" },
    "payer": { "anyOf": [{ "$ref": "#/$defs/Party" }, { "type": "null" }] },
    "tags": { "type": "array", "items": { "type": "string" } },
    "lines": { "type": "array", "minItems": 1, "items": {
      "type": "object",
      "properties": {
        "@sku": { "type": "string" },
        "qty": { "type": "number" },
        "notes": { "type": "array", "items": { "type": "string" } }
      },
      "required": ["@sku", "qty", "notes"], "additionalProperties": false } },
    "extra": {}
  },
  "required": ["orderNo", "status", "amount", "lines", "tags"], "additionalProperties": false,
  "$defs": { "Party": { "type": "object", "properties": {
    "name": { "type": "string" }, "parent": { "$ref": "#/$defs/Party" } }, "required": ["name"] } }
}"##;

#[test]
fn a_type_becomes_a_contract_and_what_comes_by_it_is_of_the_type() {
    let offer = try_make(ORDER, None).unwrap();
    let text = text_of(&offer);
    for part in [
        "targetNamespace=\"urn:shop\"",
        "<xsd:element name=\"Submit\">",
        "<xsd:element name=\"messageId\" type=\"xsd:string\"/>",
        "<xsd:complexType name=\"Party\">",
        "<xsd:element name=\"parent\" type=\"t:Party\" minOccurs=\"0\"/>",
        "<xsd:element name=\"payer\" type=\"t:Party\" nillable=\"true\" minOccurs=\"0\"/>",
        "<xsd:element name=\"tags\" type=\"xsd:string\" minOccurs=\"0\" maxOccurs=\"unbounded\"/>",
        "<xsd:element name=\"lines\" maxOccurs=\"unbounded\">",
        "<xsd:attribute name=\"sku\" type=\"xsd:string\" use=\"required\"/>",
        "<xsd:fractionDigits value=\"2\"/>",
        "<xsd:pattern value=\"[A-Z]{3}\"/>",
        "<xsd:enumeration value=\"pending\"/>",
        "<xsd:documentation>The shop's number</xsd:documentation>",
        "<soap:operation soapAction=\"urn:shop/Submit\"/>",
        "<soap12:address location=\"http://h/soap/shop\"/>",
        "<wsdl:fault message=\"t:Fault\" name=\"Fault\"/>",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let contract = contract(&offer);
    let minimal = "<orderNo>1</orderNo><status>paid</status><amount>1.50</amount><lines sku='a'><qty>2</qty></lines>";
    // The lists that the type demands are there, though nothing of them came.
    assert_eq!(
        read(&contract, minimal).unwrap(),
        r#"{"orderNo":"1","status":"paid","amount":1.50,"lines":[{"@sku":"a","qty":2,"notes":[]}],"tags":[]}"#
    );
    let all = "<orderNo>订单&amp;1</orderNo><status>pending</status><note i:nil='true'/><amount>12345678901234567.89</amount>\
        <day>2026-02-28</day><at>2026-02-28T10:00:00+08:00</at><count>7</count><id>-3055041260160661500</id><gift>1</gift>\
        <photo>aGVsbG8=</photo><currency>CNY</currency><buyer><name>甲</name><parent><name>乙</name></parent></buyer>\
        <payer i:nil='1'/><tags>a</tags><tags>b</tags><lines sku='x'><qty>1</qty><notes>n</notes></lines><extra><z>1</z></extra>";
    assert_eq!(
        read(&contract, all).unwrap(),
        r#"{"orderNo":"订单&1","status":"pending","note":null,"amount":12345678901234567.89,"day":"2026-02-28","at":"2026-02-28T10:00:00+08:00","count":7,"id":-3055041260160661500,"gift":true,"photo":"aGVsbG8=","currency":"CNY","buyer":{"name":"甲","parent":{"name":"乙"}},"payer":null,"tags":["a","b"],"lines":[{"@sku":"x","qty":1,"notes":["n"]}],"extra":{"z":"1"}}"#
    );
    let bad = all.replace("pending", "lost").replace("2026-02-28<", "2026-02-30<").replace("CNY", "yuan");
    let told = read(&contract, &bad).unwrap_err();
    for pointer in ["/status", "/day", "/currency"] {
        assert!(told.contains(pointer), "{pointer}: {told}");
    }
    assert!(read(&contract, &minimal.replace("1.50", "1.505")).unwrap_err().contains("/amount"));
}

#[test]
fn choices_and_parts_are_one_object() {
    let text = r##"{ "type": "object",
      "allOf": [{ "$ref": "#/$defs/Base" }, { "properties": { "no": { "maxLength": 9 }, "more": { "type": "string" } } }],
      "oneOf": [
        { "properties": { "kind": { "const": "card" }, "pan": { "type": "string" } }, "required": ["kind", "pan"] },
        { "properties": { "kind": { "const": "cash" }, "till": { "type": "integer" } }, "required": ["kind"] }],
      "$defs": { "Base": { "type": "object", "properties": { "no": { "type": "string" } }, "required": ["no"] } } }"##;
    let contract = contract(&try_make(text, None).unwrap());
    assert_eq!(
        read(&contract, "<no>1</no><kind>cash</kind><till>3</till>").unwrap(),
        r#"{"no":"1","kind":"cash","till":3}"#
    );
    assert_eq!(
        read(&contract, "<kind>cheque</kind>").unwrap_err(),
        "/kind `cheque` is none of card, cash; /no is missing"
    );
}

#[test]
fn replies_are_written_by_their_type() {
    let reply = r#"{ "type": "object", "properties": { "id": { "type": "string" }, "left": { "type": "array", "items": { "type": "integer" } } }, "required": ["id"] }"#;
    let contract = contract(&try_make(ORDER, Some(reply)).unwrap());
    let value = |text: &str| json::decode(text.as_bytes(), &BodyLimits::default()).unwrap();
    let written = contract.write_reply(Version::V11, &value(r#"{"left":[1,2],"id":"x"}"#)).unwrap();
    let texts: Vec<_> = written[0].elements().map(Element::text).collect();
    assert_eq!(
        (&*written[0].name.local, texts.as_slice()),
        ("SubmitResponse", ["x", "1", "2"].map(String::from).as_slice())
    );
    assert!(contract.write_reply(Version::V11, &value(r#"{"left":[]}"#)).is_err());
    let receipt = super::tests::contract(&try_make(ORDER, None).unwrap());
    let written = receipt.write_reply(Version::V12, &receipt_value("m-1")).unwrap();
    assert_eq!(written[0].child("messageId").unwrap().text(), "m-1");
}

#[test]
fn what_has_no_form_in_xml_is_told_at_its_place() {
    let object = |fields: &str| format!("{{ \"type\": \"object\",\n  \"properties\": {{\n    {fields}\n  }}\n}}");
    let cases = [
        ("{ \"type\": \"array\" }".to_owned(), "1:1", "no object with fields"),
        (object("\"a b\": { \"type\": \"string\" }"), "3:5", "no XML name"),
        (object("\"a\": { \"items\": { \"type\": \"array\" }, \"type\": \"array\" }"), "3:12", "list of lists"),
        (object("\"a\": { \"type\": [\"object\", \"string\"] }"), "3:5", "no one form"),
        (object("\"a\": { \"enum\": [\"x\", 1] }"), "3:5", "several kinds"),
        (
            object("\"a\": { \"type\": \"object\", \"additionalProperties\": { \"type\": \"string\" } }"),
            "3:5",
            "names are free",
        ),
        (object("\"a\": { \"$ref\": \"#/$defs/gone\" }"), "3:5", "there is no"),
        (object("\"a\": { \"$ref\": \"#/properties/a\" }"), "3:5", "refers to itself"),
        (object("\"@a\": { \"type\": \"object\", \"properties\": { \"b\": {} } }"), "3:5", "an attribute is text"),
    ];
    for (text, place, reason) in cases {
        let told = try_make(&text, None).unwrap_err().join("\n");
        let place = format!("types/order.schema.json:{place}");
        assert!(told.contains(&place) && told.contains(reason), "{place} {reason}: {told}");
    }
    let both = object("\"a b\": { \"type\": \"string\" }, \"c d\": { \"type\": \"string\" }");
    assert_eq!(try_make(&both, None).unwrap_err().len(), 2, "every problem is told");
}

/// What `connect soap` writes of a WSDL is a type from which a contract can be made.
#[test]
fn the_types_of_the_corpus_become_contracts() {
    let Some(folder) = crate::wsdl::tests::corpus("wsdl") else { return };
    let (mut made, mut told) = (0, std::collections::BTreeMap::<String, usize>::new());
    for name in [
        "mnb-exchange.wsdl",
        "MyBoardPack.wsdl",
        "OrderContract.wsdl",
        "odigeo.wsdl",
        "geotrust.wsdl",
        "paypal/PayPalSvc.wsdl",
    ] {
        let Ok(wsdl) = crate::wsdl::tests::load(&folder, name) else { continue };
        let operations = wsdl.soap_ports().flat_map(|(_, port)| port.operations.clone()).take(60);
        for operation in operations {
            let Some(id) = operation.input.as_ref().and_then(|message| message.body.first()) else { continue };
            let schema = crate::body_schema::json_schema(&wsdl.schemas, *id, "x", "y");
            match try_make(&schema.to_string(), None) {
                Ok(_) => made += 1,
                Err(problems) => {
                    for problem in problems {
                        *told.entry(problem.split(": ").nth(1).unwrap_or_default().to_owned()).or_default() += 1;
                    }
                }
            }
        }
    }
    assert!(made > 120 && told.is_empty(), "{made} made; {told:?}");
}
