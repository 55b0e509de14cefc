//! The adapters of this program, one line each.

use std::sync::Arc;

use gatehouse_core::adapter::Adapter;
use gatehouse_net::door::Door;

/// Every adapter. `door` is where inbound halves mount; without one (`gatehouse check`) they can only check.
#[must_use]
pub fn adapters(door: Option<Arc<Door>>) -> Vec<Arc<dyn Adapter>> {
    vec![
        Arc::new(gatehouse_rest::Rest::new(door)),
        Arc::new(gatehouse_sql::Sql::new()),
    ]
}
