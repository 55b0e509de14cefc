//! The functions of expressions. Each is total or fails with a sentence; each bounds its own work.

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use super::convert::{number, same};

/// Every function with what it does, for the reference and for did-you-mean.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("abs", "`abs(x)`: without its sign"),
    ("choose", "`choose(condition, a, b)`: `a` where the condition holds, else `b`"),
    (
        "contains",
        "`contains(text, part)`, `contains(list, item)`, `contains(object, \"name\")`; also as `item in list`",
    ),
    ("ends_with", "`ends_with(text, end)`"),
    ("int", "`int(x)`: a whole number from text or a number; fails where there is a fraction"),
    ("join", "`join(list, \", \")`: the items as one text"),
    ("len", "`len(x)`: characters of a text, items of a list, fields of an object"),
    ("lower", "`lower(text)`"),
    ("max", "`max(a, b)`"),
    ("min", "`min(a, b)`"),
    ("number", "`number(text)`: exact; fails where it is none"),
    ("replace", "`replace(text, from, to)`: every occurrence"),
    ("round", "`round(x, digits)`: half away from zero, 0 to 28 digits"),
    ("starts_with", "`starts_with(text, start)`"),
    ("sub_string", "`sub_string(text, from, count)`: by characters, from 0"),
    ("sum", "`sum(list)`, `sum(list, \"field\")`: exact"),
    ("text", "`text(x)`: a number, text or boolean as text"),
    ("trim", "`trim(text)`"),
    ("upper", "`upper(text)`"),
];

type Outcome<T> = Result<T, Box<EvalAltResult>>;

/// Refuses `<`, `<=`, `>` and `>=` between two different kinds of values, which Rhai would answer with `false`.
macro_rules! refuse_comparisons {
    ($engine:expr, $($left:ty => [$($right:ty),*]),* $(,)?) => {
        $($(for operator in ["<", "<=", ">", ">="] {
            $engine.register_fn(operator, move |left: $left, right: $right| -> Outcome<bool> {
                let (left, right) = (Dynamic::from(left), Dynamic::from(right));
                let (left, right) = (super::convert::kind(left.type_name()).to_owned(), super::convert::kind(right.type_name()).to_owned());
                fail(format!("`{operator}` does not go with {left} and {right}"))
            });
        })*)*
    };
}

/// Registers them all.
pub(super) fn register(engine: &mut Engine) {
    refuse_comparisons!(engine,
        ImmutableString => [Decimal, i64, bool, (), Array, Map],
        Decimal => [ImmutableString, bool, (), Array, Map],
        i64 => [ImmutableString, bool, (), Array, Map],
        bool => [ImmutableString, Decimal, i64, (), Array, Map],
        () => [ImmutableString, Decimal, i64, bool, Array, Map],
    );
    engine
        .register_fn("!", |flag: bool| !flag)
        .register_fn("-", |x: Decimal| -x)
        .register_fn("-", |x: i64| -Decimal::from(x))
        .register_fn("/", |a: Decimal, b: Decimal| divide(a, b))
        .register_fn("/", |a: Decimal, b: i64| divide(a, b.into()))
        .register_fn("/", |a: i64, b: Decimal| divide(a.into(), b))
        .register_fn("/", |a: i64, b: i64| divide(a.into(), b.into()))
        .register_fn("trim", |text: &str| -> ImmutableString { text.trim().into() })
        .register_fn("upper", |text: &str| -> ImmutableString { text.to_uppercase().into() })
        .register_fn("lower", |text: &str| -> ImmutableString { text.to_lowercase().into() })
        .register_fn("contains", |text: &str, part: &str| text.contains(part))
        .register_fn("contains", |list: Array, item: Dynamic| list.iter().any(|other| same(other, &item)))
        .register_fn("contains", |map: Map, name: &str| map.contains_key(name))
        .register_fn("starts_with", |text: &str, start: &str| text.starts_with(start))
        .register_fn("ends_with", |text: &str, end: &str| text.ends_with(end))
        .register_fn("len", |text: &str| Decimal::from(text.chars().count()))
        .register_fn("len", |list: Array| Decimal::from(list.len()))
        .register_fn("len", |map: Map| Decimal::from(map.len()))
        .register_fn("replace", replace)
        .register_fn("sub_string", |text: &str, from: Dynamic, count: Dynamic| -> Outcome<ImmutableString> {
            Ok(text.chars().skip(size(&from)?).take(size(&count)?).collect::<String>().into())
        })
        .register_fn("round", round)
        .register_fn("abs", |x: Dynamic| -> Outcome<Decimal> { Ok(need(&x)?.abs()) })
        .register_fn("min", |a: Dynamic, b: Dynamic| -> Outcome<Decimal> { Ok(need(&a)?.min(need(&b)?)) })
        .register_fn("max", |a: Dynamic, b: Dynamic| -> Outcome<Decimal> { Ok(need(&a)?.max(need(&b)?)) })
        .register_fn("number", to_number)
        .register_fn("int", |x: Dynamic| -> Outcome<Decimal> {
            let x = to_number(x)?;
            if x.is_integer() { Ok(x.trunc()) } else { fail(format!("{x} is no whole number")) }
        })
        .register_fn("text", to_text)
        .register_fn("join", |list: Array, between: &str| -> Outcome<ImmutableString> {
            let items = list.into_iter().map(to_text).collect::<Outcome<Vec<_>>>()?;
            Ok(items.iter().map(ImmutableString::as_str).collect::<Vec<_>>().join(between).into())
        })
        .register_fn("sum", |list: Array| sum(&list, None))
        .register_fn("sum", |list: Array, field: &str| sum(&list, Some(field)))
        .register_fn("choose", |condition: bool, a: Dynamic, b: Dynamic| if condition { a } else { b });
}

fn fail<T>(text: String) -> Outcome<T> {
    Err(text.into())
}

/// Exact to 28 digits, without the zeros that a division leaves behind.
fn divide(a: Decimal, b: Decimal) -> Outcome<Decimal> {
    a.checked_div(b).map_or_else(|| fail(format!("{a} cannot be divided by {b}")), |quotient| Ok(quotient.normalize()))
}

fn need(x: &Dynamic) -> Outcome<Decimal> {
    number(x).map_or_else(|| fail(format!("{} is no number", super::convert::kind(x.type_name()))), Ok)
}

fn size(x: &Dynamic) -> Outcome<usize> {
    let whole = need(x)?;
    whole.to_usize().filter(|_| whole.is_integer()).map_or_else(|| fail(format!("{whole} is no count")), Ok)
}

fn replace(text: &str, from: &str, to: &str) -> Outcome<ImmutableString> {
    let count = if from.is_empty() { 0 } else { text.matches(from).count() };
    // Native functions are outside Rhai's size limits.
    if text.len() + count * to.len() > 1 << 20 {
        return fail("the replaced text would be too long".to_owned());
    }
    Ok(if count == 0 { text.into() } else { text.replace(from, to).into() })
}

fn round(x: Dynamic, digits: Dynamic) -> Outcome<Decimal> {
    let digits = size(&digits)?.min(28);
    // `min` above makes the conversion sound.
    Ok(need(&x)?.round_dp_with_strategy(u32::try_from(digits).unwrap_or(28), RoundingStrategy::MidpointAwayFromZero))
}

fn to_number(x: Dynamic) -> Outcome<Decimal> {
    if let Some(number) = number(&x) {
        return Ok(number);
    }
    let Ok(text) = x.as_immutable_string_ref() else {
        return fail(format!("{} is no number", super::convert::kind(x.type_name())));
    };
    crate::number::Number::parse(text.trim())
        .and_then(|number| number.to_decimal())
        .map_or_else(|| fail("this text is no number".to_owned()), Ok)
}

fn to_text(x: Dynamic) -> Outcome<ImmutableString> {
    if let Some(number) = number(&x) {
        return Ok(number.to_string().into());
    }
    if let Ok(flag) = x.as_bool() {
        return Ok(flag.to_string().into());
    }
    let kind = x.type_name();
    x.into_immutable_string().or_else(|_| fail(format!("{} has no text", super::convert::kind(kind))))
}

fn sum(list: &[Dynamic], field: Option<&str>) -> Outcome<Decimal> {
    let mut total = Decimal::ZERO;
    for item in list {
        let number = match field {
            None => need(item)?,
            Some(field) => {
                let map =
                    item.as_map_ref().map_err(|_| Box::<EvalAltResult>::from("an item of the list is no object"))?;
                match map.get(field) {
                    Some(value) => need(value)?,
                    None => return fail(format!("an item of the list has no `{field}`")),
                }
            }
        };
        total = total.checked_add(number).map_or_else(|| fail("the sum is too large".to_owned()), Ok)?;
    }
    Ok(total)
}
