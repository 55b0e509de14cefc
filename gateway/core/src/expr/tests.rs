//! What expressions promise: exactness, absence, limits, places.

use proptest::prelude::*;

use super::*;
use crate::number::Number;

fn order() -> Value {
    let line = |sku: &str, qty: &str| -> Value {
        [("sku", Value::from(sku)), ("qty", Value::Number(Number::parse(qty).unwrap()))].into_iter().collect()
    };
    [
        ("amount", Value::Number(Number::parse("12345678901234567.89").unwrap())),
        ("status", Value::from("paid")),
        ("客户", Value::from("甲")),
        ("customer", [("no", Value::from("C-17")), ("vip", Value::Null)].into_iter().collect()),
        ("lines", Value::List(vec![line("A", "1.5"), line("B", "2")])),
        ("id", Value::Number(Number::parse("9223372036854775807").unwrap())),
    ]
    .into_iter()
    .collect()
}

fn eval(text: &str) -> Result<Value, String> {
    let order = order();
    Expression::compile(text, &Names::Open).map_err(|error| error.message)?.eval(&Scope::new().with_fields(&order))
}

#[test]
fn values_come_out_exact() {
    for (text, expected) in [
        ("amount + 0.01", "12345678901234567.90"),
        ("amount", "12345678901234567.89"),
        ("id", "9223372036854775807"),
        ("10 / 4", "2.5"),
        ("0.1 + 0.2", "0.3"),
        ("round(2.345, 2)", "2.35"),
        ("round(-2.345, 2)", "-2.35"),
        ("7 % 4", "3"),
        ("-(1 + 2)", "-3"),
        ("sum(lines, \"qty\")", "3.5"),
        ("len(lines)", "2"),
        ("lines[1].qty", "2"),
        ("len(\"订单\")", "2"),
        ("int(\"12\") * 2", "24"),
        ("max(1, 2.5)", "2.5"),
    ] {
        assert_eq!(eval(text).map(|value| value.to_plain_text().unwrap()), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn conditions_hold_or_not() {
    for (text, expected) in [
        ("amount > 0 && customer.no != \"\"", true),
        ("status in [\"paid\", \"done\"]", true),
        ("status !in [\"E\", \"A\"]", true),
        ("1 in [1.0, 2]", true),
        ("customer.vip == ()", true),
        ("客户 == \"甲\"", true),
        ("customer.no.starts_with(\"C-\")", true),
        ("starts_with(customer.no, \"D\")", false),
        ("lines[0].sku == \"A\" || false", true),
        ("\"no\" in customer", true),
        ("status == 1", false),
        ("(customer?.level ?? 1) == 1 && \"no\" in customer", true),
        ("(customer.vip?.since ?? 1) == 1 && customer.vip == ()", true),
        ("choose(amount > 1, true, false)", true),
    ] {
        assert_eq!(eval(text), Ok(Value::Bool(expected)), "{text}");
    }
}

#[test]
fn what_may_be_absent_says_so() {
    for (text, expected) in [
        ("customer?.level ?? \"none\"", Value::from("none")),
        ("customer.level ?? \"none\"", Value::from("none")),
        ("note ?? \"none\"", Value::from("none")),
        ("customer?.address?.city ?? \"none\"", Value::from("none")),
        ("customer.vip ?? false", Value::Bool(false)),
    ] {
        assert_eq!(eval(text), Ok(expected), "{text}");
    }
    assert!(eval("customer.level == 1").unwrap_err().contains("no field `level`"));
    assert!(eval("ammount > 100").unwrap_err().contains("no `ammount`"));
}

#[test]
fn types_that_do_not_fit_are_told() {
    let error = eval("status > 100").unwrap_err();
    assert!(error.contains("text") && error.contains("number"), "{error}");
    assert!(eval("\"a\" + 1").is_err(), "text and numbers are not glued silently");
    assert!(eval("number(\"x\")").unwrap_err().contains("no number"));
}

#[test]
fn names_and_functions_are_known_at_check_time() {
    let names = Names::Closed(vec!["amount".to_owned(), "customer".to_owned()]);
    let error = Expression::compile("客 == 1 || ammount > 100", &names).unwrap_err();
    assert_eq!(error.message, "there is no `客` here");
    let error = Expression::compile("amount > 1 && ammount > 100", &names).unwrap_err();
    assert_eq!((error.span, error.help.as_deref()), (14..21, Some("did you mean `amount`?")));
    let error = Expression::compile("rond(amount, 2) > 1", &names).unwrap_err();
    assert_eq!((error.span, error.help.as_deref()), (0..4, Some("did you mean `round`?")));
    let error = Expression::compile("\"订单\" == 1 andd amount", &names).unwrap_err();
    assert_eq!(&"\"订单\" == 1 andd amount"[error.span], "andd");
}

#[test]
fn the_profile_has_no_programs() {
    for text in [
        "loop { }",
        "while true {}",
        "for x in [1] {}",
        "let x = 1",
        "eval(\"1\")",
        "print(1)",
        "fn f() {}",
        "|x| x",
        "x = 1",
        "import \"a\"",
        "throw 1",
        "if true { 1 } else { 2 }",
        "switch 1 { 1 => 2 }",
        "{ 1 }",
        "type_of(1)",
        "Fn(\"x\")",
        "amount += 1",
        "",
        "1;2",
    ] {
        assert!(Expression::compile(text, &Names::Open).is_err(), "{text} compiles");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_text_panics(text in "[a-z0-9\"'().,\\[\\]{}?!&|=<>+*/% 订-]{0,60}") {
        let _ = eval(&text);
    }
}
