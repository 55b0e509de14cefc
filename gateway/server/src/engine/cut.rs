//! How a backfill is cut into slices: days of a time, thousands of a number, or the whole where its values are neither. Pure.

use std::time::Duration;

use gatehouse_core::backfill::{Slice, Span};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::limits::parse_duration;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Unit};

/// The most slices of one backfill.
const MAX_SLICES: usize = 10_000;

/// How many slices are made where nobody says how wide one is.
const USUAL_SLICES: i64 = 366;

/// The least width of a slice of numbers where nobody says it.
const USUAL_WIDTH: i64 = 10_000;

const DAY: i64 = 86_400;

/// What an operator wants to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// From this value on.
    pub from: Option<String>,
    /// Up to this value, without it.
    pub to: Option<String>,
    /// How wide a slice is: `1d`, `6h` of times, `10000` of numbers.
    pub width: Option<String>,
}

impl Cut {
    /// The slices of one table, in the order in which they are read; none where it holds nothing there.
    ///
    /// # Errors
    /// `Invalid`: bounds in the wrong order, a width that does not fit the column, too many slices.
    pub fn slices(&self, span: &Span) -> Result<Vec<Slice>, Fault> {
        self.fits(span)?;
        let low = self.from.as_ref().or(span.least.as_ref());
        let (Some(low), Some(high)) = (low, self.to.as_ref().or(span.largest.as_ref())) else { return Ok(Vec::new()) };
        let bounds = if let (true, Ok(low), Ok(high)) = (span.numbers, low.parse(), high.parse()) {
            self.numbers(low, high)?
        } else if let (Some(low), Some(high)) = (moment(low), moment(high)) {
            self.times(low, high)?
        } else {
            if let Some(width) = &self.width {
                return Err(invalid(format!(
                    "`{}` of `{}` holds neither whole numbers nor times: it cannot be cut into slices of {width}",
                    span.by, span.table
                )));
            }
            vec![self.from.clone(), self.to.clone()]
        };
        let slice = |pair: &[Option<String>]| {
            let [from, to] = pair else { return None };
            Some(Slice { table: span.table.clone(), by: span.by.clone(), from: from.clone(), to: to.clone() })
        };
        Ok(bounds.windows(2).filter_map(slice).collect())
    }

    /// Refuses bounds that the column cannot be compared with: some databases would find no rows and say nothing.
    fn fits(&self, span: &Span) -> Result<(), Fault> {
        let times = [&span.least, &span.largest]
            .into_iter()
            .all(|value| value.as_deref().is_some_and(|at| moment(at).is_some()));
        for bound in [&self.from, &self.to].into_iter().flatten() {
            let what = match (span.numbers, times) {
                (true, _) if bound.parse::<i64>().is_err() => "whole number",
                (false, true) if moment(bound).is_none() => "time such as `2026-08-01` or `2026-08-01 12:00`",
                _ => continue,
            };
            return Err(invalid(format!("`{bound}` is no {what}, which `{}` of `{}` holds", span.by, span.table)));
        }
        Ok(())
    }

    fn numbers(&self, low: i64, high: i64) -> Result<Vec<Option<String>>, Fault> {
        // The largest value that is there belongs in; a bound that was said does not.
        let end = if self.to.is_some() { high } else { high.saturating_add(1) };
        let range = self.range(low, end, i128::from(end) - i128::from(low))?;
        let width = match &self.width {
            None => i128::from(USUAL_WIDTH).max(range.div_euclid(100) + 1),
            Some(width) => match width.parse::<u32>() {
                Ok(width) if width > 0 => i128::from(width),
                _ => return Err(invalid(format!("`{width}` is no width of numbers: expected one such as `10000`"))),
            },
        };
        few(range / width)?;
        let mut bounds = Vec::new();
        let mut at = i128::from(low);
        while at < i128::from(end) {
            bounds.push(Some(at.to_string()));
            at += width;
        }
        bounds.push(Some(end.to_string()));
        Ok(bounds)
    }

    fn times(&self, low: DateTime, high: DateTime) -> Result<Vec<Option<String>>, Fault> {
        let strange = |error: jiff::Error| invalid(format!("these times cannot be cut: {error}"));
        let day = |at: DateTime| at.date().to_datetime(jiff::civil::Time::midnight());
        let low = if self.from.is_some() { low } else { day(low) };
        let high = match &self.to {
            Some(_) => high,
            None => day(high).checked_add(SignedDuration::from_secs(DAY)).map_err(strange)?,
        };
        let range = self.range(low, high, i128::from(high.duration_since(low).as_secs()))?;
        let range = i64::try_from(range).unwrap_or(i64::MAX);
        let width = match &self.width {
            None => DAY * (range / DAY / USUAL_SLICES + 1),
            Some(width) => {
                let said = parse_duration(width).filter(|width| *width >= Duration::from_secs(1));
                let said = said.and_then(|width| i64::try_from(width.as_secs()).ok());
                let text = || format!("`{width}` is no width of times: expected one such as `1d` or `6h`");
                said.ok_or_else(|| invalid(text()))?
            }
        };
        few(i128::from(range / width))?;
        let mut inner = Vec::new();
        let mut at = low;
        while at < high {
            inner.push(at);
            at = at.checked_add(SignedDuration::from_secs(width)).map_err(strange)?;
        }
        inner.push(high);
        let whole_days = inner.iter().all(|at| day(*at) == *at);
        let text =
            |at: &DateTime| at.strftime(if whole_days { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S%.f" }).to_string();
        let mut bounds: Vec<_> = inner.iter().map(|at| Some(text(at))).collect();
        // The operator's own words, whose form is that of the column.
        if let (Some(first), Some(from)) = (bounds.first_mut(), &self.from) {
            *first = Some(from.clone());
        }
        if let (Some(last), Some(to)) = (bounds.last_mut(), &self.to) {
            *last = Some(to.clone());
        }
        Ok(bounds)
    }

    /// How far the bounds are apart; 0 where what the table holds ends before they begin.
    fn range<T: PartialOrd + std::fmt::Display>(&self, low: T, high: T, range: i128) -> Result<i128, Fault> {
        if low < high {
            return Ok(range);
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => Err(invalid(format!("`{from}` is not before `{to}`"))),
            _ => Ok(0),
        }
    }
}

fn few(slices: i128) -> Result<(), Fault> {
    if slices < MAX_SLICES as i128 {
        return Ok(());
    }
    Err(invalid(format!("this makes {} slices; at most {MAX_SLICES}: say a larger `--slice`", slices + 1)))
}

fn invalid(text: String) -> Fault {
    Fault::new(Code::Invalid, text)
}

/// A date, or date and time; an offset and what is below the microsecond do not matter for where a cut is made.
fn moment(text: &str) -> Option<DateTime> {
    let text = text.trim();
    let date = text.get(..10)?;
    if text.len() == 10 {
        return date.parse::<jiff::civil::Date>().ok().map(|date| date.to_datetime(jiff::civil::Time::midnight()));
    }
    let rest = text.get(10..)?.strip_prefix(['T', ' '])?;
    let clock = rest.split(['+', '-', 'Z']).next()?.trim_end();
    let moment: DateTime = format!("{date}T{clock}").parse().ok()?;
    moment.round(Unit::Microsecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(numbers: bool, least: &str, largest: &str) -> Span {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Span { table: "t".into(), by: "c".into(), numbers, least: some(least), largest: some(largest) }
    }

    fn cut(from: &str, to: &str, width: &str) -> Cut {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Cut { from: some(from), to: some(to), width: some(width) }
    }

    /// The bounds, each slice's end being the next one's beginning.
    fn bounds(cut: &Cut, span: &Span) -> Vec<String> {
        let slices = cut.slices(span).unwrap();
        assert!(slices.windows(2).all(|pair| pair[0].to == pair[1].from), "{slices:?}");
        let text = |bound: &Option<String>| bound.clone().unwrap_or_else(|| "…".into());
        let mut bounds: Vec<_> = slices.iter().map(|slice| text(&slice.from)).collect();
        bounds.extend(slices.last().map(|slice| text(&slice.to)));
        bounds
    }

    #[test]
    fn times_are_cut_into_days() {
        let there = span(false, "2026-08-01 09:30:00.123456+08", "2026-08-03 08:00:00+08");
        assert_eq!(bounds(&cut("", "", ""), &there), ["2026-08-01", "2026-08-02", "2026-08-03", "2026-08-04"]);
        assert_eq!(bounds(&cut("2026-08-02", "", ""), &there), ["2026-08-02", "2026-08-03", "2026-08-04"]);
        assert_eq!(
            bounds(&cut("2026-08-01T12:00", "2026-08-02", "6h"), &there),
            ["2026-08-01T12:00", "2026-08-01 18:00:00", "2026-08-02"]
        );
        assert_eq!(bounds(&cut("2020-01-01", "2026-01-01", ""), &there).len(), 367, "2,192 days, six at a time");
        assert!(bounds(&cut("2027-01-01", "", ""), &there).is_empty());
    }

    #[test]
    fn numbers_are_cut_into_thousands() {
        let there = span(true, "1", "25000");
        assert_eq!(bounds(&cut("", "", ""), &there), ["1", "10001", "20001", "25001"]);
        assert_eq!(bounds(&cut("-5", "5", "4"), &there), ["-5", "-1", "3", "5"]);
        let wide = span(true, &i64::MIN.to_string(), &i64::MAX.to_string());
        assert!(bounds(&cut("", "", ""), &wide).len() <= 102);
    }

    #[test]
    fn what_is_neither_is_one_slice() {
        let there = span(false, "A-1", "Z-9");
        assert_eq!(bounds(&cut("", "", ""), &there), ["…", "…"]);
        assert_eq!(bounds(&cut("B", "C", ""), &there), ["B", "C"]);
        assert!(cut("", "", "1d").slices(&there).unwrap_err().public.contains("cannot be cut"));
        // Texts of digits sort as texts: they are never cut as numbers.
        assert_eq!(bounds(&cut("", "", ""), &span(false, "100", "9")), ["…", "…"]);
        assert!(bounds(&cut("", "", ""), &span(true, "", "")).is_empty());
    }

    #[test]
    fn bounds_that_cannot_be_are_told() {
        let there = span(true, "1", "25000");
        assert!(cut("9", "9", "").slices(&there).unwrap_err().public.contains("not before"));
        assert!(cut("1", "100000", "1").slices(&there).unwrap_err().public.contains("at most 10000"));
        assert!(cut("", "", "x").slices(&there).unwrap_err().public.contains("no width"));
        assert!(cut("x1", "", "").slices(&there).unwrap_err().public.contains("no whole number"));
        let times = span(false, "2026-08-01", "2026-08-03");
        assert!(cut("2026-13-01", "", "").slices(&times).unwrap_err().public.contains("no time such as"));
        assert!(cut("", "", "5").slices(&times).unwrap_err().public.contains("no width of times"));
    }
}
