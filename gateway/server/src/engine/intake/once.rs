//! Rows that are read once more (`gatehouse backfill`), and letters of them that are replayed: for one route, and only to targets
//! that have not taken them, unless an operator wants it so.

use gatehouse_core::adapter::{Admission, Arrival, Outcome, Receipt};
use gatehouse_core::fault::{Code, Fault};
use gatehouse_core::message::delivery_id;
use gatehouse_core::site::Unrouted;

use super::super::pull::{self, Kept};
use super::merge::Merged;
use super::{Desk, Entrance, Ids, check_id, unavailable};

/// Where a row that is read once more goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    pub(in crate::engine) route: String,
    /// 0: targets that have taken it are left out; else its deliveries have ids of their own.
    pub(in crate::engine) generation: u32,
}

impl Once {
    pub(in crate::engine) fn new(route: &str, generation: u32) -> Self {
        Self { route: route.to_owned(), generation }
    }
}

impl Desk {
    /// Takes an arrival of an operator's own for one route, once more.
    ///
    /// # Errors
    /// As [`Intake::accept`](gatehouse_core::adapter::Intake::accept).
    pub(in crate::engine) async fn accept_once(
        &self,
        admission: Admission,
        arrival: Arrival,
        once: &Once,
    ) -> Result<Receipt, Fault> {
        let entrance = self.entrance(&admission.endpoint)?;
        let id = arrival.id.clone().unwrap_or_default();
        let outcome = self.take_once(entrance, &arrival, check_id(&id)?, once).await;
        let word = outcome.as_ref().map_or_else(|fault| fault.code.as_str(), |_| "backfilled");
        self.metrics.received(&admission.endpoint, word);
        outcome
            .map(|outcome| Receipt { message_id: id.clone(), outcome, reply: None, passed: None })
            .map_err(|fault| fault.about(id))
    }

    async fn take_once(&self, entrance: &Entrance, arrival: &Arrival, id: &str, once: &Once) -> Result<Outcome, Fault> {
        let lane = entrance.routes.iter().find(|lane| lane.route.name == once.route);
        let lane = lane.ok_or_else(|| Fault::new(Code::NotFound, format!("there is no route `{}`", once.route)))?;
        let mut plan = lane.route.plan(&arrival.body, arrival.document.as_ref(), &arrival.meta)?;
        if lane.route.merge.is_some() {
            return match self.merge(entrance, lane, &plan, id, None, once.generation).await? {
                Merged::Taken(outcome) => Ok(outcome),
                Merged::Apart(fault) => Err(fault),
            };
        }
        if plan.targets.is_empty() && lane.route.unrouted == Unrouted::Reject {
            return Err(Fault::new(Code::Unrouted, format!("no target of route `{}` wants this message", once.route)));
        }
        let is_wanted = !plan.targets.is_empty();
        if once.generation == 0 {
            let mut left = Vec::with_capacity(plan.targets.len());
            for target in plan.targets {
                let delivery = delivery_id(id, &entrance.name, &once.route, &target.name, 0);
                let done = self.ledger.is_done(&delivery, true).await;
                if !done.map_err(|error| unavailable("the store cannot be read now").private(error.to_string()))? {
                    left.push(target);
                }
            }
            plan.targets = left;
        }
        if is_wanted && plan.targets.is_empty() {
            return Ok(Outcome::Repeated);
        }
        let mut publishes = Vec::new();
        let ids = Ids { message: id, delivery: id, source: &entrance.name, generation: once.generation };
        self.outgoing(entrance, lane, &plan, ids, None, &mut publishes);
        let outcome = if publishes.is_empty() { Outcome::Dropped } else { Outcome::Accepted };
        self.publish(publishes).await?;
        Ok(outcome)
    }

    /// As [`Intake::keep`](gatehouse_core::adapter::Intake::keep), for one route once more.
    pub(in crate::engine) async fn keep_once(
        &self,
        endpoint: &str,
        arrival: Arrival,
        once: &Once,
    ) -> Result<Kept, Fault> {
        pull::keep(self, self.store.as_ref(), &self.instance, endpoint, arrival, Some(once)).await
    }

    /// As [`Intake::bury`](gatehouse_core::adapter::Intake::bury), for one route.
    pub(in crate::engine) async fn bury_once(&self, endpoint: &str, arrival: &Arrival, fault: &Fault, once: &Once) {
        pull::bury(self.store.as_ref(), &self.instance, endpoint, arrival, fault, Some(once)).await;
    }
}
