//! One delivery that brings many: each element is planned, judged and written as a delivery of its own.

use std::collections::HashSet;
use std::sync::Arc;

use gatehouse_core::Value;
use gatehouse_core::adapter::{Call, Refused, Reply};
use gatehouse_core::fault::{Code, Exchange, Fault, Verdict};

use crate::batch::{Batch, part_id};
use crate::file::Write;
use crate::group;
use crate::outbound::{Writer, Written, sent};
use crate::work::{Context, MAX_ROWS, Work};

/// The most elements that one delivery may have refused: beyond, it is the delivery that is wrong.
const MOST_REFUSED: usize = 1_000;

/// The most of them that the reply tells.
const MOST_TOLD: usize = 100;

impl Writer {
    /// Writes each element.
    pub(crate) async fn deliver_parts(&self, write: &Write, batch: &Batch, call: &Call<'_>) -> Result<Reply, Fault> {
        let elements = batch.elements(call.body);
        if elements.len() > MAX_ROWS {
            let text = format!("it brings {} rows; one delivery writes at most {MAX_ROWS}", elements.len());
            return Err(Fault::new(Code::TooLarge, text));
        }
        let context = Context::new(call, Some(call.body));
        let mut planned = Vec::with_capacity(elements.len());
        let mut wrong: Vec<(usize, Fault)> = Vec::new();
        let mut looked = HashSet::new();
        for (index, element) in elements.iter().enumerate() {
            let id = part_id(call.delivery_id, index, elements.len());
            let work = Work::plan(write, element, &id, &context);
            let judged = match work {
                Ok(work) => self.judge(&work, &mut looked).await.map(|()| work),
                Err(fault) => Err(fault),
            };
            match judged {
                Ok(work) => planned.push((index, Arc::new(work))),
                Err(fault) if fault.verdict == Verdict::Reject => wrong.push((index, fault)),
                Err(fault) => return Err(fault),
            }
        }
        let works: Vec<_> = planned.iter().map(|(_, work)| work.clone()).collect();
        let exchange = Exchange { sent: Some(sent(works.iter().flat_map(|work| &work.rows))), answered: None };
        let outcomes = group::each(self.database.as_ref(), &works).await;
        let outcomes = outcomes.map_err(|fault| fault.exchange(exchange.clone()))?;
        let (mut rows, mut new) = (0, 0);
        for ((index, work), outcome) in planned.iter().zip(outcomes) {
            match outcome {
                Ok(written) => {
                    rows += work.rows.len();
                    new += usize::from(written == Written::Now);
                }
                Err(fault) => {
                    let exchange = Exchange { sent: Some(sent(work.rows.iter())), answered: None };
                    wrong.push((*index, fault.exchange(exchange)));
                }
            }
        }
        wrong.sort_by_key(|(index, _)| *index);
        // A list of one is the delivery itself.
        if let ([_], Some((_, fault))) = (elements, wrong.first()) {
            return Err(fault.clone());
        }
        if wrong.len() > MOST_REFUSED {
            let first = wrong.first().map(|(_, fault)| fault.public.as_str()).unwrap_or_default();
            let text = format!("{} of {} rows are refused; the first: {first}", wrong.len(), elements.len());
            return Err(Fault::new(Code::Refused, text).exchange(exchange));
        }
        let body = [
            ("rows", count(rows)),
            ("refused", Value::List(wrong.iter().take(MOST_TOLD).map(told).collect())),
            ("repeated", Value::Bool(new == 0 && !planned.is_empty())),
        ];
        let refused = wrong.into_iter().filter_map(|(index, mut fault)| {
            fault.public = format!("row {} of {}: {}", index + 1, elements.len(), fault.public);
            let delivery_id = part_id(call.delivery_id, index, elements.len());
            Some(Refused { delivery_id, body: batch.alone(call.body, elements.get(index)?), fault })
        });
        Ok(Reply { body: body.into_iter().collect(), exchange, refused: refused.collect(), passed: None })
    }
}

/// A refused element as a waiting caller is told of it.
fn told((index, fault): &(usize, Fault)) -> Value {
    [("row", count(index + 1)), ("reason", Value::from(fault.public.as_str()))].into_iter().collect()
}

fn count(number: usize) -> Value {
    Value::from(i64::try_from(number).unwrap_or(i64::MAX))
}
