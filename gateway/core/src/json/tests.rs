//! Tests of the JSON codec: the public suite, our own refusals with their places, and properties.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::corpus;

fn read(text: &str) -> Result<Value, DecodeError> {
    decode(text.as_bytes(), &BodyLimits::default())
}

fn refused(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

/// JSONTestSuite takes a duplicate key for fine; we do not (RFC 8259 §4: "names SHOULD be unique"; receivers differ).
const DUPLICATES: [&str; 2] = ["y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"];

#[test]
fn the_public_suite_is_judged_right() {
    let Some(folder) = corpus::folder("json-suite") else { return };
    let (mut accepted, mut refused) = (0, 0);
    for path in corpus::files(&folder, ".json") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let result = decode(&std::fs::read(&path).unwrap(), &BodyLimits::default());
        if DUPLICATES.contains(&name.as_str()) {
            assert!(result.expect_err(&name).reason.contains("twice"), "{name}");
        } else if name.starts_with("y_") {
            let value = result.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(decode(&encode(&value), &BodyLimits::default()).as_ref(), Ok(&value), "{name}");
            accepted += 1;
        } else if name.starts_with("n_") {
            assert!(result.is_err(), "{name} was accepted");
            refused += 1;
        }
    }
    assert!(accepted >= 90 && refused >= 180, "{accepted} accepted, {refused} refused: is the suite complete?");
}

#[test]
fn errors_say_what_and_where() {
    assert_eq!(refused("{\"客户\": 1,\n \"b\" 2}"), "expected `:` after the key `b`, found `2` (line 2, column 6)");
    assert_eq!(
        refused("{\"客户\": 1 2}"),
        "expected `,` or `}` after the value of `客户`, found `2` (line 1, column 10)"
    );
    assert_eq!(
        refused("[1, 2"),
        "expected `,` or `]` after element 2 of the list, the document ends here (line 1, column 6)"
    );
    assert_eq!(refused("{\"a\":1,\"a\":1}"), "the key `a` comes twice in one object (line 1, column 8)");
    assert_eq!(refused("{\"a\":1,\"\\u0061\":1}"), "the key `a` comes twice in one object (line 1, column 8)");
    assert_eq!(
        refused("\"\\ud800x\""),
        "\\ud800 is half of a surrogate pair; the other half is missing (line 1, column 2)"
    );
    assert!(refused("\"\\udc00\"").contains("surrogate"));
    assert!(refused("\"\\ud800\\u0041\"").contains("surrogate"));
    assert!(refused("007").contains("quotes"));
    assert!(refused("\"中\u{1}\"").contains("(line 1, column 3)"));
    assert!(refused("{} 中").contains("expected the end of the document, found `中`"));
}

#[test]
fn numbers_keep_their_digits() {
    let text = r#"[12345678901234567.89,9223372036854775808,1.50,-0,1E+2,1e999]"#;
    assert_eq!(String::from_utf8(encode(&read(text).unwrap())).unwrap(), text);
    // No number is smuggled in by a magic key.
    let forged = r#"{"$serde_json::private::Number":"1"}"#;
    assert_eq!(String::from_utf8(encode(&read(forged).unwrap())).unwrap(), forged);
}

#[test]
fn limits_are_kept_and_told() {
    let limits = BodyLimits { bytes: 200, depth: 3, keys: 2, nodes: 10, text: 5 };
    let over = |text: &str| {
        let error = decode(text.as_bytes(), &limits).expect_err(text);
        assert!(error.too_large, "{error}");
        error.reason
    };
    assert_eq!(over("[[[[]]]]"), "nested more than 3 deep");
    assert_eq!(over(r#"{"a":1,"b":1,"c":1}"#), "more than 2 keys in one object");
    assert_eq!(over("[1,2,3,4,5,6,7,8,9,0]"), "more than 10 values");
    assert_eq!(over(r#""123456""#), "a text of more than 5 bytes");
    assert_eq!(over(r#"{"123456":0}"#), "a text of more than 5 bytes");
    assert_eq!(over(r#""\n\n\n\n\n\n""#), "a text of more than 5 bytes");
    assert_eq!(over("123456"), "a number of more than 5 digits");
    assert_eq!(over(&" ".repeat(201)), "the body has 201 bytes, 200 are allowed");
    assert!(decode(br#"[[[12345]], {"a":"12345","b":1}]"#, &limits).is_ok());
}

#[test]
fn hostile_bodies_are_refused_fast() {
    let big = BodyLimits { bytes: 64 << 20, ..BodyLimits::default() };
    let keys: String = (0..1_000_000).map(|n| format!("\"k{n}\":0,")).collect();
    let bodies = [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        format!("{{{keys}\"z\":0}}"),
        format!("\"{}\"", "x".repeat(10 << 20)),
        format!("\"{}\"", "\\n".repeat(5 << 20)),
        "9".repeat(10 << 20),
        format!("[{}0]", "0,".repeat(1_000_000)),
    ];
    for body in bodies {
        let start = Instant::now();
        assert!(decode(body.as_bytes(), &big).is_err(), "{:.20}", body);
        assert!(start.elapsed() < Duration::from_secs(2), "{:.20} took {:?}", body, start.elapsed());
    }
    let deep = BodyLimits { depth: usize::MAX, ..big };
    assert!(decode("[".repeat(1_000_000).as_bytes(), &deep).is_err());
}

#[test]
fn no_truncation_is_accepted() {
    let text = r#"{"a":[1.5e3,true,null,"中\u0041\n"],"b":{"c":-0.1}}"#;
    assert!(read(text).is_ok());
    for cut in 0..text.len() {
        assert!(decode(&text.as_bytes()[..cut], &BodyLimits::default()).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(read("\u{FEFF} {}"), Ok(Value::map()));
    assert!(read("\u{FEFF}").is_err());
}

fn value() -> impl Strategy<Value = Value> {
    let number = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number.prop_map(|literal| Value::Number(Number::parse(&literal).unwrap())),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            proptest::collection::vec((any::<String>(), inner), 0..6).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(value in value()) {
        let bytes = encode(&value);
        prop_assert_eq!(decode(&bytes, &BodyLimits::default()), Ok(value));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }

    #[test]
    fn what_another_reader_refuses_is_refused(text in "[\\[\\]{}:,\"\\\\a0-9.eE+\\- tnu]{0,12}") {
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let ours = read(&text);
        // They allow duplicate keys and lone surrogates when they ignore the content.
        if !theirs {
            prop_assert!(ours.is_err(), "{}", text);
        }
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode(&bytes, &BodyLimits::default());
    }
}
