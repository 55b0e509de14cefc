//! What must be on the broker: a plan (data), and its declaring. `docs/rabbitmq.md` shows it as a table.
//!
//! Declared with arguments, not by policy, so that no management rights are needed. Not here: when it is declared
//! (`keeper`).

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Error, ErrorKind, ExchangeKind};
use tokio::time::timeout;

use super::names::Names;
use crate::{BusError, QueueSpec, Topology};

/// One declare. A quorum queue in a cluster needs an election.
const STEP_DEADLINE: Duration = Duration::from_secs(15);
/// Bytes that may wait where the site says nothing.
const MAX_BYTES: u64 = 1 << 30;
/// The dead queue must not drop what its reader gave back too often (RabbitMQ 4 does so after 20 times unless told
/// otherwise, and 3.10 does not know -1 for "never").
const NEVER: i64 = 1_000_000_000;
/// A request queue that nobody consumes or declares any more goes away.
const REQUEST_EXPIRES: Duration = Duration::from_secs(30 * 60);

/// One thing to declare. Order matters: exchanges, queues, bindings.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Exchange { name: ShortString, kind: ExchangeKind, arguments: FieldTable },
    Queue { name: ShortString, arguments: FieldTable },
    Bind { queue: ShortString, exchange: ShortString, key: ShortString },
}

/// Everything that `topology` needs. A queue name that is longer than AMQP allows is a contradiction.
pub(super) fn plan(names: &Names, topology: &Topology, delivery_limit: u32) -> Result<Vec<Step>, BusError> {
    let mut exchanges = base_exchanges(names);
    let mut queues = base_queues(names);
    let mut binds = base_binds(names);
    for delay in &topology.ladder {
        let rung = names.retry(*delay);
        exchanges.push(exchange(rung.clone(), ExchangeKind::Fanout, Some(names.unroutable())));
        queues.push(Step::Queue { name: rung.clone(), arguments: rung_arguments(names, *delay) });
        binds.push(Step::Bind { queue: rung.clone(), exchange: rung, key: ShortString::default() });
    }
    for (queue, spec) in &topology.queues {
        let name = names.on_broker(queue).ok_or_else(|| {
            BusError::Contradiction(format!(
                "queue `{queue}` has a name of more than 255 bytes; shorten the route's or target's name"
            ))
        })?;
        let arguments =
            if spec.request { request_arguments(spec) } else { work_arguments(names, spec, delivery_limit) };
        queues.push(Step::Queue { name: name.clone(), arguments });
        // A request queue hangs on the work exchange too: that is how its retries come back.
        binds.push(Step::Bind { queue: name.clone(), exchange: names.work(), key: name.clone() });
        if spec.request {
            binds.push(Step::Bind { queue: name.clone(), exchange: names.rpc(), key: name });
        }
    }
    exchanges.append(&mut queues);
    exchanges.append(&mut binds);
    Ok(exchanges)
}

fn base_exchanges(names: &Names) -> Vec<Step> {
    vec![
        exchange(names.unroutable(), ExchangeKind::Fanout, None),
        exchange(names.dlx(), ExchangeKind::Fanout, Some(names.unroutable())),
        exchange(names.work(), ExchangeKind::Direct, Some(names.unroutable())),
        // No alternate exchange: a request that nobody takes must be returned to its caller, who waits.
        exchange(names.rpc(), ExchangeKind::Direct, None),
        // None here either: an answer whose caller has gone is of no use to anybody.
        exchange(names.reply(), ExchangeKind::Direct, None),
    ]
}

fn base_queues(names: &Names) -> Vec<Step> {
    [names.dead(), names.unroutable()]
        .into_iter()
        .map(|name| {
            let mut arguments = quorum();
            put(&mut arguments, "x-delivery-limit", AMQPValue::LongLongInt(NEVER));
            Step::Queue { name, arguments }
        })
        .collect()
}

fn base_binds(names: &Names) -> Vec<Step> {
    let bind = |queue: ShortString, exchange, key| Step::Bind { queue, exchange, key };
    let (dead, unroutable) = (names.dead(), names.unroutable());
    vec![
        bind(dead.clone(), names.dlx(), ShortString::default()),
        bind(unroutable.clone(), unroutable.clone(), ShortString::default()),
        // They are queues like others too: what was taken from them can wait on the ladder and come back.
        bind(dead.clone(), names.work(), dead),
        bind(unroutable.clone(), names.work(), unroutable),
    ]
}

fn exchange(name: ShortString, kind: ExchangeKind, alternate: Option<ShortString>) -> Step {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = alternate {
        put_text(&mut arguments, "alternate-exchange", alternate.as_str());
    }
    Step::Exchange { name, kind, arguments }
}

/// Replicated, and refusing when full: what at-least-once dead lettering by the broker needs.
fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    put_text(&mut arguments, "x-queue-type", "quorum");
    put_text(&mut arguments, "x-overflow", "reject-publish");
    arguments
}

fn work_arguments(names: &Names, spec: &QueueSpec, delivery_limit: u32) -> FieldTable {
    let mut arguments = quorum();
    put_text(&mut arguments, "x-dead-letter-exchange", names.dlx().as_str());
    put_text(&mut arguments, "x-dead-letter-strategy", "at-least-once");
    put(&mut arguments, "x-delivery-limit", AMQPValue::LongLongInt(i64::from(delivery_limit)));
    put(&mut arguments, "x-max-length-bytes", bytes(spec));
    if spec.single_active_consumer {
        put(&mut arguments, "x-single-active-consumer", AMQPValue::Boolean(true));
    }
    arguments
}

fn rung_arguments(names: &Names, delay: Duration) -> FieldTable {
    let mut arguments = quorum();
    let ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    put(&mut arguments, "x-message-ttl", AMQPValue::LongLongInt(ms));
    put_text(&mut arguments, "x-dead-letter-exchange", names.work().as_str());
    put_text(&mut arguments, "x-dead-letter-strategy", "at-least-once");
    arguments
}

/// A classic queue: requests are worth their caller's wait and no replication. Durable, because RabbitMQ 4.3 refuses
/// queues that are neither durable nor exclusive; what is in it is not.
fn request_arguments(spec: &QueueSpec) -> FieldTable {
    let mut arguments = FieldTable::default();
    put_text(&mut arguments, "x-queue-type", "classic");
    put_text(&mut arguments, "x-overflow", "reject-publish");
    put(&mut arguments, "x-max-length-bytes", bytes(spec));
    let expires = i64::try_from(REQUEST_EXPIRES.as_millis()).unwrap_or(i64::MAX);
    put(&mut arguments, "x-expires", AMQPValue::LongLongInt(expires));
    if spec.single_active_consumer {
        put(&mut arguments, "x-single-active-consumer", AMQPValue::Boolean(true));
    }
    arguments
}

fn bytes(spec: &QueueSpec) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(spec.max_bytes.unwrap_or(MAX_BYTES)).unwrap_or(i64::MAX))
}

fn put(table: &mut FieldTable, name: &str, value: AMQPValue) {
    table.insert(name.into(), value);
}

fn put_text(table: &mut FieldTable, name: &str, value: &str) {
    put(table, name, AMQPValue::LongString(value.into()));
}

/// Declares the plan. Every contradiction is found, not only the first.
pub(super) async fn apply(connection: &Connection, plan: &[Step]) -> Result<(), BusError> {
    let mut channel = open(connection).await?;
    let mut contradictions = Vec::new();
    for step in plan {
        match timeout(STEP_DEADLINE, declare(&channel, step)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => match contradiction(step, &error) {
                Some(text) => {
                    contradictions.push(text);
                    channel = open(connection).await?; // the broker closed the other one
                }
                None => return Err(BusError::Unavailable(format!("declaring {}: {error}", step.shown()))),
            },
            Err(_) => {
                let seconds = STEP_DEADLINE.as_secs();
                return Err(BusError::Unavailable(format!("declaring {}: no answer within {seconds} s", step.shown())));
            }
        }
    }
    let _ = timeout(STEP_DEADLINE, channel.close(200, "declared".into())).await;
    if contradictions.is_empty() { Ok(()) } else { Err(BusError::Contradiction(contradictions.join("\n"))) }
}

/// A fresh channel, under a deadline.
pub(super) async fn open(connection: &Connection) -> Result<Channel, BusError> {
    match timeout(STEP_DEADLINE, connection.create_channel()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(BusError::Unavailable(format!("opening a channel: {error}"))),
        Err(_) => Err(BusError::Unavailable("opening a channel: no answer".to_owned())),
    }
}

async fn declare(channel: &Channel, step: &Step) -> lapin::Result<()> {
    match step.clone() {
        Step::Exchange { name, kind, arguments } => {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(name, kind, options, arguments).await
        }
        Step::Queue { name, arguments } => {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name, options, arguments).await.map(drop)
        }
        Step::Bind { queue, exchange, key } => {
            channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
        }
    }
}

impl Step {
    fn shown(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange `{name}`"),
            Self::Queue { name, .. } => format!("queue `{name}`"),
            Self::Bind { queue, exchange, .. } => format!("the binding of queue `{queue}` to exchange `{exchange}`"),
        }
    }
}

/// What a person must mend, or `None` where trying again may help.
fn contradiction(step: &Step, error: &Error) -> Option<String> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    contradiction_text(step, error.get_id(), error.get_message().as_str())
}

fn contradiction_text(step: &Step, code: u16, said: &str) -> Option<String> {
    let shown = step.shown();
    let mend = match (code, step) {
        (406, Step::Queue { name, .. }) => format!(
            "either go back to the setting that the queue was made with, or let it drain and, when it is empty, run \
             `rabbitmqctl delete_queue {name}`: it is made again at once"
        ),
        (406, _) => "another program made it with other settings: delete it there, or use another bus prefix".to_owned(),
        (403, _) => "give the bus user the rights: `rabbitmqctl set_permissions -p VHOST USER '^PREFIX\\.' '^PREFIX\\.' '^PREFIX\\.'`".to_owned(),
        (405, _) => "another connection holds it exclusively: end that one".to_owned(),
        _ => return None,
    };
    let what = match difference(said) {
        Some((argument, asked, is)) => format!("its `{argument}` is {is} there, and {asked} is asked for"),
        None => said.to_owned(),
    };
    Some(format!("{shown} cannot be declared: {what}; {mend}"))
}

/// Reads `inequivalent arg 'x' for queue 'q' in vhost '/': received A but current is B`: the name, A, B.
fn difference(said: &str) -> Option<(&str, String, String)> {
    let (_, rest) = said.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (asked, is) = rest.split_once(" but current is ")?;
    Some((argument, plain(asked), plain(is)))
}

/// `the value '5' of type 'long'` is `5`; `none` is "not set".
fn plain(said: &str) -> String {
    match said.trim() {
        "none" => "not set".to_owned(),
        said => said.strip_prefix("the value '").and_then(|s| s.split('\'').next()).unwrap_or(said).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Topology {
        let mut topology = Topology { ladder: crate::LADDER.to_vec(), ..Topology::default() };
        topology.queues.insert(
            "gatehouse.work.a.b".to_owned(),
            QueueSpec { single_active_consumer: true, ..QueueSpec::default() },
        );
        topology.queues.insert("gatehouse.work.a.ask".to_owned(), QueueSpec { request: true, ..QueueSpec::default() });
        topology
    }

    fn queue<'a>(steps: &'a [Step], wanted: &str) -> &'a FieldTable {
        steps
            .iter()
            .find_map(|step| match step {
                Step::Queue { name, arguments } if name.as_str() == wanted => Some(arguments),
                _ => None,
            })
            .expect(wanted)
    }

    fn text(table: &FieldTable, name: &str) -> Option<String> {
        table.inner().get(name).map(|value| match value {
            AMQPValue::LongString(text) => text.to_string(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn every_quorum_queue_that_dead_letters_fulfils_what_at_least_once_needs() {
        let steps = plan(&Names::new("gatehouse"), &site(), 1000).expect("a plan");
        let mut seen = 0;
        for step in &steps {
            let Step::Queue { name, arguments } = step else { continue };
            if arguments.contains_key("x-dead-letter-exchange") {
                seen += 1;
                assert_eq!(text(arguments, "x-queue-type").as_deref(), Some("quorum"), "{name}");
                assert_eq!(text(arguments, "x-overflow").as_deref(), Some("reject-publish"), "{name}");
                assert_eq!(text(arguments, "x-dead-letter-strategy").as_deref(), Some("at-least-once"), "{name}");
                assert!(
                    !arguments.contains_key("x-dead-letter-routing-key"),
                    "{name}: the key says where it came from"
                );
            }
        }
        assert_eq!(seen, 6, "one work queue and five rungs");
    }

    #[test]
    fn every_exchange_is_declared_before_it_is_named_and_every_dead_letter_exchange_is_bound() {
        let steps = plan(&Names::new("gatehouse"), &site(), 1000).expect("a plan");
        let mut there = Vec::new();
        let mut bound = Vec::new();
        for step in &steps {
            match step {
                Step::Exchange { name, arguments, .. } => {
                    if let Some(alternate) = text(arguments, "alternate-exchange") {
                        assert!(there.contains(&alternate), "{name} before {alternate}");
                    }
                    there.push(name.to_string());
                }
                Step::Bind { exchange, .. } => bound.push(exchange.to_string()),
                Step::Queue { arguments, .. } => {
                    if let Some(dlx) = text(arguments, "x-dead-letter-exchange") {
                        assert!(there.contains(&dlx));
                    }
                }
            }
        }
        for exchange in ["gatehouse.dlx", "gatehouse.unroutable", "gatehouse.work", "gatehouse.retry.5s"] {
            assert!(bound.iter().any(|b| b == exchange), "{exchange} is bound");
        }
    }

    #[test]
    fn arguments_follow_the_spec() {
        let steps = plan(&Names::new("t"), &site(), 7).expect("a plan");
        let work = queue(&steps, "t.work.a.b");
        assert_eq!(text(work, "x-single-active-consumer").as_deref(), Some("Boolean(true)"));
        assert_eq!(text(work, "x-delivery-limit").as_deref(), Some("LongLongInt(7)"));
        assert_eq!(text(work, "x-max-length-bytes").as_deref(), Some("LongLongInt(1073741824)"));
        let ask = queue(&steps, "t.work.a.ask");
        assert_eq!(text(ask, "x-queue-type").as_deref(), Some("classic"));
        assert!(ask.contains_key("x-expires") && !ask.contains_key("x-dead-letter-exchange"));
        assert_eq!(text(queue(&steps, "t.retry.2m"), "x-message-ttl").as_deref(), Some("LongLongInt(120000)"));
        assert!(!queue(&steps, "t.dead").contains_key("x-max-length-bytes"), "the dead queue takes everything");
    }

    #[test]
    fn a_406_names_the_queue_the_argument_both_values_and_the_mend() {
        let step = Step::Queue { name: "gatehouse.work.a.b".into(), arguments: FieldTable::default() };
        let said = "PRECONDITION_FAILED - inequivalent arg 'x-max-length-bytes' for queue 'gatehouse.work.a.b' in vhost '/': \
                    received the value '5' of type 'long' but current is the value '9' of type 'long'";
        let text = contradiction_text(&step, 406, said).expect("a contradiction");
        assert!(text.contains("its `x-max-length-bytes` is 9 there, and 5 is asked for"), "{text}");
        assert!(text.contains("rabbitmqctl delete_queue gatehouse.work.a.b"), "{text}");
        let said = "PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue 'q' in vhost '/': received the value \
                    'true' of type 'bool' but current is none";
        assert!(contradiction_text(&step, 406, said).expect("one").contains("is not set there, and true is asked for"));
        assert!(contradiction_text(&step, 403, "ACCESS_REFUSED - x").expect("one").contains("set_permissions"));
        assert_eq!(contradiction_text(&step, 404, "NOT_FOUND - home node down"), None);
    }

    #[test]
    fn a_name_too_long_for_amqp_is_a_contradiction() {
        let mut topology = Topology::default();
        topology.queues.insert("g".repeat(300), QueueSpec::default());
        assert!(matches!(plan(&Names::new("t"), &topology, 1), Err(BusError::Contradiction(_))));
    }
}
