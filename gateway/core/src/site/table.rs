//! A routing table as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::merge;
use super::retry::RetryFile;
use crate::yaml::Located;

/// A routing table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutesFile {
    /// The format of this file: 1.
    pub version: Located<u32>,
    /// The routes.
    pub routes: Vec<RouteFile>,
}

/// One route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteFile {
    /// Its name: small letters, digits and hyphens, at most 60; unique in the site. Queues are named after it.
    pub route: Located<String>,
    /// The endpoint that messages come from: `shop/orders`. A route with `merge` names its sources there.
    #[serde(default)]
    pub from: Option<Located<String>>,
    /// Several sources into one type: which records are of one thing, and which source's value survives.
    #[serde(default)]
    pub merge: Option<merge::MergeFile>,
    /// `event` (default): accepted once the bus holds it. `request`: the caller waits for the answer of the first target
    /// whose condition holds.
    #[serde(default)]
    pub exchange: Option<Located<String>>,
    /// The mapping from the source's shape to the canonical body. Default: the body is canonical as it comes.
    #[serde(default)]
    pub map: Option<Located<String>>,
    /// The canonical type, a file under `types/`. Every route has one, but those with `pass_through`.
    #[serde(default, rename = "type")]
    pub kind: Option<Located<String>>,
    /// With `exchange: request`: the body goes to the target, and the answer to the caller, as it came, whatever its shape.
    /// Conditions see the source's own fields, and `meta`; no more of the body is read than they ask for.
    #[serde(default)]
    pub pass_through: Option<Located<bool>>,
    /// Path in the canonical body to the business key that support staff search for.
    #[serde(default)]
    pub key: Option<Located<String>>,
    /// What happens when no target's condition holds: `reject` (default), `dead` or `drop` (default with `merge`).
    #[serde(default)]
    pub unrouted: Option<Located<String>>,
    /// On `exchange: request`: the mapping from the target's answer to what the caller gets. Default: as it is.
    #[serde(default)]
    pub reply: Option<Located<String>>,
    /// Who gets it.
    pub to: Vec<TargetFile>,
}

impl RouteFile {
    /// Whether its bodies go through as they came.
    pub(super) fn passes(&self) -> bool {
        self.pass_through.as_ref().is_some_and(|flag| flag.value)
    }
}

/// One target of a route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetFile {
    /// The endpoint that receives it: `erp/CreateSalesOrder`.
    pub target: Located<String>,
    /// The mapping from the canonical body to the target's shape. Default: the canonical body.
    #[serde(default)]
    pub map: Option<Located<String>>,
    /// A condition over the canonical body's fields. Default: always.
    #[serde(default)]
    pub when: Option<Located<String>>,
    /// How often and how long it is tried.
    #[serde(default)]
    pub retry: Option<RetryFile>,
    /// Path in the canonical body: messages with the same value there arrive one after the other, in order.
    #[serde(default)]
    pub order_by: Option<Located<String>>,
    /// With `order_by`, what happens to those behind a delivery that died: `go_on` (default), or `park`: they become
    /// letters too, and go in their order as soon as it has arrived or is discarded.
    #[serde(default)]
    pub on_dead: Option<Located<String>>,
}
