//! A system's file: the example is accepted; every mistake is told with its place and mend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by panicking, in its helpers too")]

mod common;

use common::check;
use gatehouse_core::adapter::{Adapter, Direction};
use gatehouse_core::diagnostics::Problem;
use gatehouse_soap::Soap;

fn problems(text: &str) -> Vec<(String, &'static str, String, String)> {
    let (system, problems) = check(None, text);
    assert!(system.is_none(), "accepted:\n{text}");
    let told = |problem: &Problem| {
        let line = problem.place().split(':').nth(1).unwrap().to_owned();
        (line, problem.code, problem.message.clone(), problem.help.clone().unwrap_or_default())
    };
    problems.iter().map(told).collect()
}

/// A file with these endpoints, indented by two; they begin at line 6.
fn with(endpoints: &str) -> String {
    format!(
        "version: 1\nsystem: erp\nadapter: soap\n\
         address: http://erp/ws\nendpoints:\n{endpoints}\n\
         accept: {{ basic: {{ username: a, password: '${{env:P}}' }} }}\n"
    )
}

#[test]
fn the_example_is_accepted() {
    let (system, problems) = check(None, Soap::new(None).example());
    let drawn: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
    assert!(problems.is_empty(), "{}", drawn.join("\n"));
    let system = system.unwrap();
    let endpoints: Vec<_> = system.endpoints().iter().map(|e| (e.name.as_str(), e.direction)).collect();
    assert_eq!(endpoints, [("CreateSalesOrder", Direction::Outbound), ("OrderStatus", Direction::Inbound)]);
    assert_eq!(system.limits().concurrency, 8);
    assert_eq!(system.circuit().open_after, 5);
    let example = Soap::new(None).example();
    assert_eq!(&example[system.endpoints()[1].span.clone()], "OrderStatus");
}

#[test]
fn the_erp_of_the_example_site_is_accepted() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../routes/systems/erp.yaml");
    let (system, problems) = check(None, &std::fs::read_to_string(path).unwrap());
    assert!(system.is_some() && problems.is_empty(), "{problems:?}");
}

#[test]
fn what_does_not_fit_the_wsdl_is_told() {
    let file = |system: &str, endpoint: &str| {
        format!("version: 1\nsystem: erp\nadapter: soap\n{system}\nendpoints:\n  {endpoint}\n")
    };
    let cases = [
        (file("wsdl: wsdl/gone.wsdl", "CreateSalesOrder: {}"), "wsdl-missing", "save the WSDL"),
        (file("wsdl: wsdl/sales.wsdl", "CreateSaleOrder: {}"), "wsdl-operation", "did you mean `CreateSalesOrder`?"),
        (file("wsdl: wsdl/sales.wsdl\nport: Sales", "CreateSalesOrder: {}"), "wsdl-port", "did you mean `SalesSoap`?"),
        (file("wsdl: wsdl/sales.wsdl\nsoap: '1.2'", "CreateSalesOrder: {}"), "wsdl-port", ""),
        (file("wsdl: wsdl/sales.wsdl", "CreateSalesOrder: { namespace: urn:x }"), "misplaced", "the WSDL says it"),
        (file("wsdl: systems/erp.yaml", "CreateSalesOrder: {}"), "wsdl-xml", ""),
    ];
    for (text, code, help) in cases {
        let told = problems(&text);
        assert!(told.iter().any(|(_, found, _, mend)| *found == code && mend.contains(help)), "{code}: {told:?}");
    }
}

#[test]
fn a_contract_of_canonical_types_is_checked() {
    let file = |system: &str, endpoints: &str| {
        let accept = "accept: { basic: { username: a, password: '${env:P}' } }";
        format!(
            "version: 1\nsystem: oa\nadapter: soap\naddress: http://h/\n{accept}\n{system}endpoints:\n  {endpoints}\n"
        )
    };
    let (system, found) = check(None, &file("", "Submit: { listen: /a, type: order.paid, id: orderNo }"));
    assert!(system.is_some() && found.is_empty(), "{found:?}");
    let cases = [
        (file("", "A: { listen: /a, type: order.payd }"), "7", "unknown-type", "types/order.payd.schema.json"),
        (
            file("", "A: { listen: /a, type: order.paid, reply: { body: { x: message_id } } }"),
            "7",
            "reply-type",
            "type: NAME",
        ),
        (file("", "A: { listen: /a, reply: { type: order.paid } }"), "7", "reply-type", "add `type: NAME`"),
        (
            file("wsdl: wsdl/sales.wsdl\n", "CreateSalesOrder: { listen: /a, reply: { type: order.paid } }"),
            "8",
            "reply-type",
            "the WSDL",
        ),
        (
            file("", "A: { listen: /a, type: order.paid, reply: { element: B } }"),
            "7",
            "misplaced",
            "the contract says it",
        ),
        (file("", "A: { type: order.paid }"), "7", "misplaced", "add `listen"),
        (
            file("wsdl: wsdl/sales.wsdl\n", "CreateSalesOrder: { listen: /a, type: order.paid }"),
            "8",
            "misplaced",
            "the WSDL",
        ),
        (
            file("", "A: { listen: /a, type: order.paid, namespace: 'urn:a' }\n  B: { listen: /a, type: order.paid }"),
            "8",
            "two-namespaces",
            "the same `namespace`",
        ),
    ];
    for (text, line, code, help) in cases {
        let told = problems(&text);
        let found = told.iter().any(|(at, found, _, mend)| at == line && *found == code && mend.contains(help));
        assert!(found, "{line} {code} {help}: {told:?}");
    }
}

#[test]
fn attachments_say_how_and_where() {
    let cases = [
        ("{ as: mime, at: [a] }", "bad-value", "write `mtom`, `swa` or `swa-href`"),
        ("{ as: mtom }", "no-attachments", "`at: [Path.To.Content]`"),
        ("{ as: mtom, at: ['a.@b'] }", "bad-path", "leave out `@…`"),
        ("{ as: mtom, at: ['a['] }", "bad-path", "write a path"),
        ("{ as: swa, above: much, at: [a] }", "bad-value", "a size such as `4KiB`"),
    ];
    for (attachments, code, help) in cases {
        let told = problems(&with(&format!("  Op: {{ attachments: {attachments} }}")));
        assert!(
            told.iter().any(|(_, found, _, mend)| *found == code && mend.contains(help)),
            "{attachments}: {told:?}"
        );
    }
    let (system, problems) = check(None, &with("  Op: { attachments: { as: swa-href, above: 4KiB, at: ['f[].c'] } }"));
    assert!(system.is_some(), "{problems:?}");
}

#[test]
fn signatures_need_what_they_need() {
    let file = |lines: &str, endpoints: &str| {
        format!("version: 1\nsystem: erp\nadapter: soap\naddress: http://erp/ws\n{lines}\nendpoints:\n{endpoints}\n")
    };
    let auth = "auth: { signature: { certificate_file: c.pem, key: '${env:K}' } }";
    let accept = "accept: { signature: { certificate_files: [c.pem] } }";
    let (call, listen) = ("  Op: {}", "  Op: { listen: /op }");
    let told = |text: &str| {
        let (system, problems) = check(None, text);
        (system.is_some(), problems.iter().map(|problem| problem.code).collect::<Vec<_>>())
    };
    for text in [file(auth, call), file(accept, listen)] {
        let expected = if cfg!(feature = "ws-security") { (true, vec![]) } else { (false, vec!["not-built"]) };
        assert_eq!(told(&text), expected);
    }
    let wrong = [
        (file("accept: { signature: { certificate_files: [] } }", listen), "no-certificate"),
        (file(&format!("charset: GBK\n{auth}"), call), "misplaced"),
        (file(auth, "  Op: { attachments: { as: mtom, at: [a] } }"), "misplaced"),
        (
            file(&auth.replace("auth: {", "auth: { username_token: { username: a, password: '${env:P}' },"), call),
            "two-credentials",
        ),
    ];
    for (text, code) in wrong {
        let (accepted, codes) = told(&text);
        assert!(!accepted && codes.contains(&code), "{code}: {codes:?}");
    }
}

#[test]
fn the_schema_knows_every_key_of_the_example() {
    let schema = serde_json_text(&Soap::new(None).schema());
    for key in ["address", "soap", "accept", "listen", "id_header", "must_understand", "retry_when", "one_way", "reply"]
    {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
}

fn serde_json_text(schema: &schemars::Schema) -> String {
    schema.as_value().to_string()
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "version: 1\nsystem: erp\nadapter: soap\naddress: ftp://erp\nsoap: '1.3'\ncharset: utf-7\n\
                auth: { bearer: '${env:A}', basic: { username: a, password: '${env:B}' } }\n\
                accept: { api_key: { header: 'a b', value: '${env:C}' } }\n\
                endpoints:\n  1st: { action: 'a b' }\n  Two: { path: x, reply: {}, success_when: 'replyy.x == 1' }\n  \
                Three: { listen: 'soap', id: 'a..b', qualified: false }\n";
    let told = problems(text);
    let lines: Vec<_> = told.iter().map(|(line, code, ..)| (line.as_str(), *code)).collect();
    for expected in [
        ("4", "bad-address"),
        ("5", "bad-value"),
        ("6", "bad-value"),
        ("7", "two-credentials"),
        ("8", "bad-header"),
        ("10", "xml-name"),
        ("10", "bad-value"),
        ("11", "bad-path"),
        ("11", "misplaced"),
        ("11", "expression"),
        ("12", "bad-path"),
        ("12", "misplaced"),
    ] {
        assert!(lines.contains(&expected), "{expected:?} is not in {told:#?}");
    }
    assert_eq!(lines.iter().filter(|line| **line == ("11", "expression")).count(), 1, "told once");
    let expression = told.iter().find(|problem| problem.1 == "expression").unwrap();
    assert_eq!(expression.3, "did you mean `reply`?");
}

#[test]
fn unknown_keys_are_told() {
    let told = problems(&with("  A: { opration: B }"));
    assert_eq!(told[0].0, "6");
    assert!(told[0].2.contains("opration"), "{told:?}");
    assert!(problems(&with("  A: {}\nadress: x"))[0].2.contains("adress"));
}

#[test]
fn an_address_is_needed_only_to_call() {
    let text = "version: 1\nsystem: erp\nadapter: soap\nendpoints:\n  A: {}\n";
    let told = problems(text);
    assert_eq!((told[0].1, told[0].3.as_str()), ("no-address", "add `address: https://host:port/path`"));
    let text = "version: 1\nsystem: erp\nadapter: soap\nendpoints:\n  A: { listen: /a }\n";
    let (system, problems) = check(None, text);
    assert!(system.is_some());
    // It listens to anybody: said, but no error.
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["no-accept"]);
}

#[test]
fn one_operation_on_one_path_belongs_to_one_endpoint() {
    let told = problems(&with(
        "  A: { listen: /s, operation: O, namespace: u }\n  B: { listen: /s, operation: O, namespace: u }",
    ));
    assert_eq!(told[0].0, "7");
    assert_eq!(told[0].2, "`erp/A` already takes `{u}O` on /s");
    let (system, _) =
        check(None, &with("  A: { listen: /s, operation: O }\n  B: { listen: /s, operation: O, namespace: u }"));
    assert!(system.is_some());
    let (system, _) = check(None, &with("  A: { listen: /s, operation: O }\n  B: { listen: /t, operation: O }"));
    assert!(system.is_some());
}

#[test]
fn header_blocks_and_replies_are_compiled() {
    let told = problems(&with("  A: { headers: [ { name: 'a b', namespace: '', value: { 'c d': 'x.y' } } ] }"));
    let codes: Vec<_> = told.iter().map(|problem| problem.1).collect();
    for code in ["xml-name", "no-namespace", "expression"] {
        assert!(codes.contains(&code), "{code}: {told:?}");
    }
    let told = problems(&with("  A: { listen: /a, reply: { element: '1', body: { x: 'message_idd' } } }"));
    assert!(told.iter().any(|problem| problem.3 == "did you mean `message_id`?"), "{told:?}");
    assert!(told.iter().any(|problem| problem.1 == "xml-name"), "{told:?}");
}

#[test]
fn a_secret_in_clear_is_refused_and_not_shown() {
    let told = problems(&with("  A: {}\nauth: { bearer: hunter2 }"));
    assert!(told[0].2.contains("${env:NAME}"), "{told:?}");
    assert!(told.iter().all(|problem| !problem.2.contains("hunter2")), "{told:?}");
}
