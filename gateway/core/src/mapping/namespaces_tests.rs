//! Prefixes of a mapping: what they find, what they write, and what is told where they cannot mean anything.

use super::*;
use crate::limits::BodyLimits;
use crate::xml;

/// An invoice of two vocabularies that both say `Amount`, one of them twice in a line.
const INVOICE: &str = r#"<i:Invoice xmlns:i="urn:invoice" xmlns="urn:tax" xmlns:x="urn:extra" x:region="华东" region="east" xml:lang="zh">
  <i:No>I-1</i:No>
  <i:Amount currency="CNY">100.00</i:Amount>
  <Amount x:rate="13">13.00</Amount>
  <i:Line><i:Amount>60.00</i:Amount><Amount>7.80</Amount><Amount>0.20</Amount></i:Line>
  <i:Line><i:Amount>40.00</i:Amount><Amount>5.20</Amount></i:Line>
  <Total><Amount>13.20</Amount><x:Amount>1</x:Amount></Total>
</i:Invoice>"#;

fn problems(text: &str) -> Vec<(String, &'static str, String, Option<String>)> {
    let file = SourceFile::new("mappings/tax.yaml", text);
    let mut problems = Problems::new();
    let mapping = Mapping::compile(&file, &mut problems);
    assert!(mapping.is_none(), "{text}");
    problems.sorted().into_iter().map(|p| (p.place(), p.code, p.message.clone(), p.help.clone())).collect()
}

fn compile(text: &str) -> Mapping {
    let file = SourceFile::new("mappings/tax.yaml", text);
    let mut problems = Problems::new();
    let mapping = Mapping::compile(&file, &mut problems);
    mapping.unwrap_or_else(|| panic!("{:?}", problems.iter().map(|p| p.render(false)).collect::<Vec<_>>()))
}

fn apply(mapping: &Mapping, document: &str) -> Value {
    let document = xml::decode(document.as_bytes(), None, &BodyLimits::default()).unwrap();
    mapping.apply_to(&document.to_value(), Some(&document), &Scope::new()).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

#[test]
fn a_prefix_finds_the_one_that_is_meant_whatever_the_document_calls_it() {
    let mapping = compile(
        "version: 1\nmapping: tax\nnamespaces: { inv: \"urn:invoice\", t: \"urn:tax\", e: \"urn:extra\" }\nrows:
  - { to: no, from: No }
  - { to: net, from: \"inv:Amount.#text\", type: decimal(2) }
  - { to: currency, from: \"inv:Amount.@currency\" }
  - { to: tax, from: \"t:Amount.#text\", type: decimal(2) }
  - { to: rate, from: \"t:Amount.@e:rate\", type: integer }
  - { to: region, from: \"@e:region\" }
  - { to: plain, from: \"@region\" }
  - { to: language, from: \"@xml:lang\" }
  - { to: \"lines[].net\", from: \"Line[].inv:Amount\", type: decimal(2) }
  - { to: \"lines[].taxes[]\", from: \"inv:Line[].t:Amount[]\", type: decimal(2) }
  - { to: total, from: \"t:Total.t:Amount\" }
  - { to: none, from: \"e:No\", default: \"-\" }
",
    );
    assert!(mapping.reads_namespaces() && !mapping.writes_namespaces());
    let expected = r#"{"no":"I-1","net":100.00,"currency":"CNY","tax":13.00,"rate":13,"region":"华东","plain":["华东","east"],"language":"zh","lines":[{"net":60.00,"taxes":[7.80,0.20]},{"net":40.00,"taxes":[5.20]}],"total":"13.20","none":"-"}"#;
    assert_eq!(apply(&mapping, INVOICE).to_string(), expected);
    // Other prefixes, the same names.
    let renamed = INVOICE.replace("i:", "q:").replace("xmlns:i=", "xmlns:q=");
    assert_eq!(apply(&mapping, &renamed).to_string(), expected);
}

#[test]
fn a_name_without_a_prefix_is_found_as_ever() {
    let rows = "rows:\n  - { to: all, from: \"Total.Amount[1]\" }\n  - { to: first, from: \"Line[1].Amount[0]\" }\n";
    let plain = compile(&format!("version: 1\nmapping: tax\n{rows}"));
    let declared = compile(&format!(
        "version: 1\nmapping: tax\nnamespaces: {{ t: \"urn:tax\" }}\n{rows}  - {{ to: tax, from: \"Line[1].t:Amount\" }}\n"
    ));
    assert_eq!(apply(&plain, INVOICE).to_string(), r#"{"all":"1","first":"40.00"}"#);
    assert_eq!(apply(&declared, INVOICE).to_string(), r#"{"all":"1","first":"40.00","tax":"5.20"}"#);
}

#[test]
fn a_document_that_nests_a_name_in_itself_is_copied_no_more_often_than_paths_ask() {
    let mapping = compile(
        "version: 1\nmapping: tax\nnamespaces: { t: \"urn:t\" }\nrows:\n  - { to: deep, from: \"t:a.t:a.a.t:a.#text\" }\n",
    );
    let deep = format!("<a xmlns=\"urn:t\">{}x{}</a>", "<a>".repeat(60), "</a>".repeat(60));
    assert_eq!(apply(&mapping, &deep).to_string(), "{}");
    let value = {
        let document = xml::decode(deep.as_bytes(), None, &BodyLimits::default()).unwrap();
        namespaces::seen(&document.to_value(), Some(&document), &mapping.wanted).to_string()
    };
    assert!(value.len() < 10 * deep.len(), "{} bytes of {}", value.len(), deep.len());
}

#[test]
fn without_a_document_a_prefix_finds_nothing() {
    let mapping = compile(
        "version: 1\nmapping: tax\nnamespaces: { t: \"urn:tax\" }\nrows:\n  - { to: a, from: \"t:Amount\", required: true }\n",
    );
    let json: Value = [("t:Amount", Value::from("1")), ("Amount", Value::from("2"))].into_iter().collect();
    let wrong = mapping.apply_to(&json, None, &Scope::new()).unwrap_err();
    assert!(wrong[0].message.contains("`t:Amount`") && wrong[0].message.contains("absent"), "{wrong:?}");
    let literal = compile("version: 1\nmapping: tax\nrows:\n  - { to: a, from: \"`t:Amount`\" }\n");
    assert_eq!(literal.apply(&json, &Scope::new()).unwrap().to_string(), r#"{"a":"1"}"#);
}

#[test]
fn a_prefix_in_to_writes_the_namespace() {
    let mapping = compile(
        "version: 1\nmapping: tax\nnamespaces: { t: \"urn:tax\", e: \"urn:extra\" }\nrows:
  - { to: No, from: no }
  - { to: \"t:Amount.#text\", from: tax }
  - { to: \"t:Amount.@e:rate\", from: rate }
  - { to: \"@xml:lang\", default: zh }
  - { to: \"t:Line[].t:Amount\", from: \"lines[].tax\" }
  - { to: \"t:Line[].Note\", from: \"lines[].note\" }
",
    );
    assert!(mapping.writes_namespaces() && !mapping.reads_namespaces());
    let line = |tax: &str| [("tax", tax), ("note", "备注")].into_iter().collect::<Value>();
    let source: Value = [
        ("no", Value::from("I-1")),
        ("tax", Value::from("13.00")),
        ("rate", Value::from("13")),
        ("lines", Value::List(vec![line("7.80"), line("5.20")])),
    ]
    .into_iter()
    .collect();
    let shaped = mapping.apply(&source, &Scope::new()).unwrap();
    let document = xml::Element::from_value("Invoice", None, &shaped).unwrap();
    // As another reader sees it.
    let again = xml::decode(&document.encode(), None, &BodyLimits::default()).unwrap();
    assert_eq!(again, document);
    let amount = again.child_in(Some("urn:tax"), "Amount").unwrap();
    assert_eq!((amount.text().as_str(), amount.attribute(Some("urn:extra"), "rate")), ("13.00", Some("13")));
    assert_eq!(again.attribute(Some(xml::XML), "lang"), Some("zh"));
    assert!(again.child_in(None, "No").is_some());
    let lines: Vec<_> = again.elements().filter(|element| element.name.is(Some("urn:tax"), "Line")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1].child_in(Some("urn:tax"), "Amount").unwrap().text(), "5.20");
    assert_eq!(lines[1].child_in(None, "Note").unwrap().text(), "备注", "a name without a prefix is in none");
}

#[test]
fn a_key_that_names_no_namespace_is_no_name() {
    for key in
        ["{}a", "{urn:t}", "{urn:t}a b", "{http://www.w3.org/2000/xmlns/}a", "{urn:\u{1}}a", "{urn:t", "@{urn:t}a:b"]
    {
        let value: Value = [(key, Value::from("x"))].into_iter().collect();
        let refused = xml::Element::from_value("r", None, &value).unwrap_err();
        assert!(refused.contains("is no XML name"), "{key}: {refused}");
    }
}

#[test]
fn what_a_prefix_cannot_mean_is_told_with_its_place_and_mend() {
    let told = problems(
        "version: 1\nmapping: tax\nto: order\nnamespaces:\n  tax: urn:tax\n  xmlns: urn:x\n  \"a b\": urn:y\n  e: \"\"\nrows:\n  - { to: a, from: \"taxs:Amount\" }\n  - { to: b, from: \"q:Amount.@z:rate\" }\n  - { to: \"tax:c\", from: c }\n",
    );
    let find = |place: &str| {
        told.iter()
            .filter(|(at, ..)| at == place)
            .map(|(_, code, text, help)| (*code, text.as_str(), help.as_deref().unwrap_or("")))
            .collect::<Vec<_>>()
    };
    assert_eq!(find("mappings/tax.yaml:6:3")[0].0, "bad-namespace");
    assert_eq!(find("mappings/tax.yaml:7:3")[0].1, "`a b` cannot be a prefix");
    assert_eq!(find("mappings/tax.yaml:8:6")[0].1, "`` is no namespace");
    let near = find("mappings/tax.yaml:10:20");
    assert_eq!(near, [("unknown-prefix", "the prefix `taxs` of `taxs:Amount` is not declared", "did you mean `tax`?")]);
    let far = find("mappings/tax.yaml:11:20");
    assert_eq!(far.len(), 2, "{far:?}");
    assert!(far[0].2.contains("namespaces: { q: \"urn:…\" }") && far[0].2.contains("backticks"), "{far:?}");
    assert_eq!(find("mappings/tax.yaml:12:11")[0].0, "namespace");
    assert_eq!(told.len(), 7, "{told:?}");
}
