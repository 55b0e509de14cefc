//! What deliveries with order have been through while they are back on the bus. There a parcel stays as it was, so that
//! it keeps its place; its attempts would be counted anew each time.
//!
//! It is only a memory: another gateway, or this one after a restart, counts from what the parcel says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use gatehouse_bus::{Headers, Parcel};

use super::headers;

/// The most deliveries that are kept in mind; more than a worker ever gives back at once.
const MOST: usize = 1_024;

/// The headers of what was given back, by delivery.
#[derive(Debug, Default)]
pub struct Kept(Mutex<HashMap<String, Headers>>);

impl Kept {
    /// Keeps in mind what a parcel has been through, before it is given back.
    pub(super) fn put(&self, parcel: Parcel) {
        if headers::attempt(&parcel) == 1 {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            // Taken by other gateways long ago.
            kept.clear();
        }
        kept.insert(parcel.id, parcel.headers);
    }

    /// Writes on a parcel that came again what it has been through. A replay begins anew.
    pub(super) fn recall(&self, parcel: &mut Parcel) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(headers) = kept.remove(&parcel.id) else { return };
        if headers.get(headers::REPLAY) == parcel.headers.get(headers::REPLAY) {
            // What its attempts wrote, no more: whether its body is there is told by how it came now.
            let written = [headers::ATTEMPT, headers::HISTORY, headers::NOT_BEFORE];
            parcel.headers.extend(headers.into_iter().filter(|(name, _)| written.contains(&name.as_str())));
        }
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_bus::claims;

    use super::*;

    fn parcel(pairs: &[(&str, &str)]) -> Parcel {
        let headers = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parcel { id: "d-1".to_owned(), headers, ..Parcel::default() }
    }

    #[test]
    fn what_comes_again_goes_on_counting_once() {
        let kept = Kept::default();
        kept.put(parcel(&[(headers::ATTEMPT, "3")]));
        let mut again = parcel(&[]);
        kept.recall(&mut again);
        assert_eq!(headers::attempt(&again), 3);
        let mut later = parcel(&[]);
        kept.recall(&mut later);
        assert_eq!(headers::attempt(&later), 1);
    }

    #[test]
    fn whether_the_body_is_there_is_told_by_how_it_came() {
        let kept = Kept::default();
        kept.put(parcel(&[(headers::ATTEMPT, "3")]));
        let mut lost = parcel(&[(claims::CLAIM, "receipt"), (claims::LOST, "why")]);
        kept.recall(&mut lost);
        assert_eq!((lost.header(claims::CLAIM), lost.header(claims::LOST)), (Some("receipt"), Some("why")));
        assert_eq!(headers::attempt(&lost), 3);
        kept.put(lost);
        let mut whole = parcel(&[]);
        kept.recall(&mut whole);
        assert_eq!((whole.header(claims::CLAIM), whole.header(claims::LOST)), (None, None));
    }

    #[test]
    fn a_replay_begins_anew() {
        let kept = Kept::default();
        kept.put(parcel(&[(headers::ATTEMPT, "3")]));
        let mut replayed = parcel(&[(headers::REPLAY, "7")]);
        kept.recall(&mut replayed);
        assert_eq!(headers::attempt(&replayed), 1);
    }
}
