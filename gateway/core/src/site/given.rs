//! What a route gives to its targets, told by its files alone.

use super::{Route, Target};
use crate::outline::Given;

impl Route {
    /// What one of its targets is given.
    #[must_use]
    pub fn gives(&self, target: &Target) -> Given {
        let canonical = self.kind.outline();
        let body = target.map.as_ref().map_or_else(|| canonical.clone(), |map| map.outline(canonical));
        Given { endpoint: target.endpoint.clone(), at: target.at.clone(), body }
    }
}
