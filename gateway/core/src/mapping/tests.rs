//! What mapping tables promise, shown on the table of design.md.

use proptest::prelude::*;

use super::*;
use crate::number::Number;

const TABLE: &str = r#"
version: 1
mapping: shop-order
to: order.paid
rows:
  - { to: orderNo,           from: order_id,        required: true }
  - { to: customer.no,       from: buyer.user_id,   type: string }
  - { to: customer.phone,    from: buyer.mobile,    clean: [trim, digits, phone_cn], example: ["138 0013 8000", "+86-138-0013-8000"] }
  - { to: customer.industry, from: buyer.industry,  default: 其他 }
  - { to: status,            from: status,          values: { TRADE_PAID: paid, WAIT_PAY: pending }, otherwise: reject }
  - { to: amount,            from: pay.total,       type: decimal(2), check: value > 0 }
  - { to: createdAt,         from: created,         type: datetime, format: "%Y-%m-%d %H:%M:%S", zone: Asia/Shanghai }
  - { to: "lines[].sku",     from: "items[].code" }
  - { to: "lines[].qty",     from: "items[].num",   type: decimal }
  - { to: "lines[].total",   from: "items[]",       value: num * price, type: decimal }
  - { to: "lines[].order",   from: order_id }
  - { to: tag,               value: "upper(order_id) + \"/\" + (meta?.shop ?? \"-\")" }
"#;

fn compile(text: &str) -> Result<Mapping, String> {
    let file = SourceFile::new("mappings/shop-order.yaml", text);
    let mut problems = Problems::new();
    let mapping = Mapping::compile(&file, &mut problems);
    mapping.ok_or_else(|| problems.iter().map(|p| format!("{} {} {:?}\n", p.place(), p.message, p.help)).collect())
}

fn number(text: &str) -> Value {
    Number::parse(text).unwrap().into()
}

fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    pairs.into_iter().collect()
}

fn order() -> Value {
    let item = |code: &str, num: Value| map([("code", code.into()), ("num", num), ("price", number("2.50"))]);
    map([
        ("order_id", "a-1".into()),
        (
            "buyer",
            map([
                ("user_id", number("12345678901234567890")),
                ("mobile", " +86 138-0013-8000".into()),
                ("industry", "".into()),
            ]),
        ),
        ("status", "TRADE_PAID".into()),
        ("pay", map([("total", "12345678901234567.89".into())])),
        ("created", "2026-11-24 08:00:00".into()),
        ("items", Value::List(vec![item("A", number("2")), item("B", "1.5".into())])),
    ])
}

#[test]
fn the_table_of_the_design_works() {
    let mapping = compile(TABLE).unwrap();
    let mut order = order();
    // `num * price` needs numbers on both sides.
    if let Some(Value::List(items)) = order.as_map_mut().and_then(|map| map.get_mut("items")) {
        items[1].as_map_mut().unwrap().insert("num".to_owned(), number("1.5"));
    }
    let meta = map([("shop", "s1".into())]);
    let body = mapping.apply(&order, &Scope::new().with("meta", &meta)).unwrap();
    let line = |sku: &str, qty: &str, total: &str| {
        map([("sku", sku.into()), ("qty", number(qty)), ("total", number(total)), ("order", "a-1".into())])
    };
    let expected = map([
        ("orderNo", "a-1".into()),
        (
            "customer",
            map([
                ("no", "12345678901234567890".into()),
                ("phone", "+86-138-0013-8000".into()),
                ("industry", "其他".into()),
            ]),
        ),
        ("status", "paid".into()),
        ("amount", number("12345678901234567.89")),
        ("createdAt", "2026-11-24T08:00:00+08:00".into()),
        ("lines", Value::List(vec![line("A", "2", "5.00"), line("B", "1.5", "3.750")])),
        ("tag", "A-1/s1".into()),
    ]);
    assert_eq!(body, expected);
}

#[test]
fn examples_are_tests() {
    let mapping = compile(TABLE).unwrap();
    assert!(mapping.run_examples().iter().all(|example| example.failure.is_none()));
    let wrong = compile(&TABLE.replace("\"+86-138-0013-8000\"]", "\"13800138000\"]")).unwrap();
    let failure = wrong.run_examples().remove(0).failure.unwrap();
    assert!(failure.contains("becomes `+86-138-0013-8000`"), "{failure}");
}

#[test]
fn every_row_that_fails_is_told_with_its_place() {
    let mapping = compile(TABLE).unwrap();
    let mut order = order();
    let fields = order.as_map_mut().unwrap();
    fields.shift_remove("order_id");
    fields.insert("status".to_owned(), "GONE".into());
    fields.insert("pay".to_owned(), map([("total", "1.005".into())]));
    fields.insert("created".to_owned(), "24/11/2026".into());
    if let Some(Value::List(items)) = fields.get_mut("items") {
        items[1].as_map_mut().unwrap().insert("num".to_owned(), "many".into());
    }
    let violations = mapping.apply(&order, &Scope::new()).unwrap_err();
    let told: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.pointer, v.message)).collect();
    for part in [
        "order_id: row 1 (`order_id` → `orderNo`) is required, but absent",
        "status: row 5 (`status` → `status`): \"GONE\" is not in the table (TRADE_PAID, WAIT_PAY)",
        "pay.total: row 6 (`pay.total` → `amount`): \"1.005\" has more than 2 digits",
        "created: row 7",
        "items[1].num: row 9 (`items[].num` → `lines[].qty`): \"many\" is no decimal",
        "items[1]: row 10",
    ] {
        assert!(told.iter().any(|line| line.starts_with(part)), "{part}\n{told:#?}");
    }
}

#[test]
fn sensitive_values_are_masked() {
    let mapping =
        compile("version: 1\nmapping: m\nrows:\n  - { to: phone, from: phone, clean: [phone_cn], sensitive: true }\n")
            .unwrap();
    let violations = mapping.apply(&map([("phone", "021-5555 4444".into())]), &Scope::new()).unwrap_err();
    assert!(violations[0].message.contains("***") && !violations[0].message.contains("5555"), "{violations:?}");
}

#[test]
fn one_is_a_list_of_one_and_lists_nest() {
    let table = "version: 1\nmapping: m\nrows:\n  - { to: \"o[].l[].s\", from: \"orders[].items[].code\" }\n  - { to: \"tags[]\", from: \"tag[]\" }\n  - { to: first, from: \"orders[0].items[0].code\" }\n";
    let mapping = compile(table).unwrap();
    let item = |code: &str| map([("code", code.into())]);
    let source = map([
        (
            "orders",
            Value::List(vec![map([("items", item("A"))]), map([("items", Value::List(vec![item("B"), item("C")]))])]),
        ),
        ("tag", "x".into()),
    ]);
    let s = |code: &str| map([("s", code.into())]);
    let l = |list: Vec<Value>| map([("l", Value::List(list))]);
    let expected = map([
        ("o", Value::List(vec![l(vec![s("A")]), l(vec![s("B"), s("C")])])),
        ("tags", Value::List(vec!["x".into()])),
        ("first", "A".into()),
    ]);
    assert_eq!(mapping.apply(&source, &Scope::new()), Ok(expected));
}

#[test]
fn types_convert_exactly_or_refuse() {
    let one = |kind: &str, input: Value| {
        let mapping = compile(&format!("version: 1\nmapping: m\nrows:\n  - {{ to: x, from: x, {kind} }}\n")).unwrap();
        let outcome = mapping.apply(&map([("x", input)]), &Scope::new());
        outcome
            .map(|body| body.field("x").map(|x| x.to_plain_text().unwrap_or_else(|| x.to_string())).unwrap_or_default())
            .map_err(|v| v[0].message.clone())
    };
    for (kind, input, expected) in [
        ("type: integer", number("9223372036854775808"), "9223372036854775808"),
        ("type: integer", "-3055041260160661500".into(), "-3055041260160661500"),
        ("type: integer", number("5.0"), "5"),
        ("type: decimal(2)", "1.500".into(), "1.5"),
        ("type: decimal(2)", number("1.50"), "1.50"),
        ("type: \"decimal(2)\", round: half_up", "1.005".into(), "1.01"),
        ("type: boolean", "是".into(), "true"),
        ("type: boolean", number("0"), "false"),
        ("type: date, format: \"%Y%m%d\"", "20261124".into(), "2026-11-24"),
        ("type: date, write: \"%Y%m%d\"", "2026-11-24".into(), "20261124"),
        ("type: datetime, format: epoch_ms, zone: Asia/Shanghai", number("0"), "1970-01-01T08:00:00+08:00"),
        ("type: datetime", "2026-11-24T08:00:00+08:00".into(), "2026-11-24T08:00:00+08:00"),
        (
            "type: datetime, write: \"%Y%m%d%H%M%S\", zone: Asia/Shanghai",
            "2026-11-24T00:00:00Z".into(),
            "20261124080000",
        ),
        ("type: string, clean: [half_width, upper]", "ａｂ１".into(), "AB1"),
        ("type: string, clean: [collapse]", "  a   b ".into(), "a b"),
        ("type: decimal", "  ".into(), ""),
        ("values: { A: \"1\" }, otherwise: keep", "B".into(), "B"),
        ("values: { A: \"1\" }, otherwise: other", "B".into(), "other"),
        ("type: integer, default: \"7\"", Value::Null, "7"),
    ] {
        assert_eq!(one(kind, input).as_deref(), Ok(expected), "{kind}");
    }
    for (kind, input) in [
        ("type: integer", number("5.1")),
        ("type: integer", Value::Bool(true)),
        ("type: decimal", "1,5".into()),
        ("type: date", "2026-02-30".into()),
        ("type: datetime", "2026-11-24 08:00:00".into()),
        ("type: string", Value::map()),
        ("required: true", "".into()),
        ("check: value > 3", number("2")),
    ] {
        assert!(one(kind, input).is_err(), "{kind}");
    }
}

#[test]
fn a_table_tells_all_its_problems() {
    let table = "version: 1\nmapping: m\nrows:\n  - { to: a, from: a, type: strng }\n  - { to: b, from: b, clean: [trimm] }\n  - { to: a, from: c }\n  - { to: \"d\", from: \"e[].f\" }\n  - { to: g, from: g, check: valu > 1 }\n  - { to: h }\n  - { to: i, from: i, type: datetime, zone: Asia/Shangai }\n  - { to: j, from: j, type: integer, default: x }\n  - { to: k, from: \"k[\" }\n  - { to: a, from: l }\n";
    let told = compile(table).unwrap_err();
    for part in [
        "4:29 there is no type `strng` Some(\"did you mean `string`?\")",
        "there is no cleaning word `trimm` Some(\"did you mean `trim`?\")",
        "finds lists in 1 levels",
        "there is no `valu` here",
        "needs `from`, `value` or `default`",
        "no such time zone",
        "default of `j` does not fit",
        "`k[` is no path",
        "is written by row 3",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::Text)
    ];
    let names = prop_oneof![
        Just("items"),
        Just("order_id"),
        Just("buyer"),
        Just("pay"),
        Just("total"),
        Just("num"),
        Just("created"),
        Just("status")
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::vec((names.clone(), inner), 0..5).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_that_comes_in_panics(value in any_value()) {
        let _ = compile(TABLE).unwrap().apply(&value, &Scope::new());
    }
}
