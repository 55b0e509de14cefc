//! Which attempts of a letter that comes again are new. A dead letter is put at least once; attempts that are known
//! already change nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::Attempt;

/// The attempts that are not known yet, oldest first.
///
/// An attempt is known by its number. One thing more: while a letter is on its way again (`replayed`: since when), an
/// attempt that ended after that is new whatever its number says (a sender may count a replay from 1 again); it gets the
/// next free number.
pub(crate) fn fresh(known: &BTreeSet<u32>, replayed: Option<Timestamp>, attempts: Vec<Attempt>) -> Vec<Attempt> {
    let mut taken = known.clone();
    let mut fresh = Vec::new();
    let mut recounted = false;
    for mut attempt in attempts {
        if taken.contains(&attempt.number) {
            recounted |= replayed.is_some_and(|since| attempt.at > since);
            if !recounted {
                continue;
            }
            attempt.number = taken.last().map_or(1, |last| last.saturating_add(1));
        }
        taken.insert(attempt.number);
        fresh.push(attempt);
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, second: i64) -> Attempt {
        Attempt {
            number,
            at: Timestamp::from_second(second).unwrap(),
            instance: "gw".into(),
            code: "refused".into(),
            text: "no".into(),
            sent: None,
            answered: None,
        }
    }

    fn numbers(attempts: &[Attempt]) -> Vec<u32> {
        attempts.iter().map(|attempt| attempt.number).collect()
    }

    #[test]
    fn the_same_again_is_nothing_new() {
        let known = BTreeSet::from([1, 2]);
        assert!(fresh(&known, None, vec![attempt(1, 10), attempt(2, 20)]).is_empty());
        // Even while it is on its way again: this is the old death, told twice.
        let since = Some(Timestamp::from_second(30).unwrap());
        assert!(fresh(&known, since, vec![attempt(1, 10), attempt(2, 20)]).is_empty());
    }

    #[test]
    fn higher_numbers_are_new() {
        let new = fresh(&BTreeSet::from([1, 2]), None, vec![attempt(2, 20), attempt(3, 30), attempt(4, 40)]);
        assert_eq!(numbers(&new), [3, 4]);
    }

    #[test]
    fn a_replay_that_counts_from_one_again_gets_the_next_numbers() {
        let since = Some(Timestamp::from_second(30).unwrap());
        let new = fresh(&BTreeSet::from([1, 2]), since, vec![attempt(1, 40), attempt(2, 50), attempt(3, 60)]);
        assert_eq!(numbers(&new), [3, 4, 5]);
    }
}
