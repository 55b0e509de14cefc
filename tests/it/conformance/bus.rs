//! What every bus must do. One suite: the embedded bus and RabbitMQ 3.10 and 4.0 run the same cases.
//!
//! Not here: what only one of them can suffer (a torn file, a blocked broker).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_bus::{Bus, Consumer, Delivered, Headers, Parcel, QueueSpec};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

mod close;
mod consume;
mod embedded;
mod kill;
mod publish;
mod rabbitmq;
mod request;
mod settle;

/// A bus under test: how to get it, hurt it, and get it again.
#[async_trait]
pub(crate) trait Ground: Send {
    /// The bus with these queues and [`LADDER`] declared, ready.
    async fn bus(&mut self, queues: &[(&str, QueueSpec)]) -> Arc<dyn Bus>;

    /// Closes the bus and opens it again, as a restarted gateway does.
    async fn reopen(&mut self) -> Arc<dyn Bus>;

    /// Kills what keeps the parcels, while `callers` publish, and brings it back: ready, and the same queues. Callers
    /// that live in the killed process die with it.
    async fn strike(&mut self, callers: &mut JoinSet<()>) -> Arc<dyn Bus>;

    /// Removes what it made.
    async fn end(self: Box<Self>);
}

/// Two short rungs.
pub(crate) const LADDER: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(900)];

/// Whatever is awaited comes within this, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What does not come within this does not come.
const NEVER: Duration = Duration::from_millis(250);

/// The queue that most cases need.
const A: &str = "gatehouse.work.r.a";

/// Every case, for one kind of ground: `$shared` and `$alone` make one (or say why not) for cases that leave others in
/// peace and for those that kill.
macro_rules! cases {
    ($shared:path, $alone:path) => {
        $crate::conformance::bus::cases!(@list $shared, publish: [
            a_confirmed_parcel_arrives_as_it_was,
            an_unknown_queue_loses_nothing,
            a_full_queue_refuses_and_keeps_what_it_confirmed,
            chinese_headers_and_large_bodies_keep_every_byte,
            too_many_headers_are_refused,
            parcels_of_many_publishers_arrive,
            the_depth_is_told,
        ]);
        $crate::conformance::bus::cases!(@list $shared, settle: [
            a_dropped_settlement_gives_the_parcel_back,
            a_retry_comes_after_its_delay_as_it_was_changed,
            a_retry_waits_at_its_rung,
            a_dead_parcel_lies_with_the_dead,
            what_is_done_does_not_come_again,
            what_is_settled_in_any_order_comes_once,
            a_dead_letter_can_be_settled,
        ]);
        $crate::conformance::bus::cases!(@list $shared, consume: [
            one_consumer_sees_the_order,
            a_dropped_settlement_keeps_the_order,
            nobody_holds_more_than_the_prefetch,
            consumers_share_and_each_parcel_comes_once,
            a_single_active_consumer_is_followed_by_the_next,
            an_undeclared_queue_is_a_contradiction,
        ]);
        $crate::conformance::bus::cases!(@list $shared, request: [
            a_request_is_answered,
            an_answer_that_is_late_is_a_deadline,
            without_a_consumer_nobody_waits_for_ever,
            requests_at_once_get_their_own_answers,
            a_reply_to_no_request_is_done,
        ]);
        $crate::conformance::bus::cases!(@list $shared, close: [
            a_close_keeps_what_was_confirmed,
            a_closed_bus_says_so,
            what_was_in_hand_at_closing_comes_again,
        ]);
        $crate::conformance::bus::cases!(@list $alone, kill: [
            a_kill_loses_nothing_that_was_confirmed,
            a_kill_keeps_retries_and_the_dead,
        ]);
    };
    (@list $ground:path, $module:ident: [$($case:ident),* $(,)?]) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::broker::in_time(async {
                        if let Some(mut ground) = $ground().await {
                            $crate::conformance::bus::$module::$case(ground.as_mut()).await;
                            ground.end().await;
                        }
                    })
                    .await;
                }
            )*
        }
    };
}
pub(crate) use cases;

/// A parcel with a little of everything.
fn parcel(id: impl Into<String>) -> Parcel {
    Parcel {
        id: id.into(),
        content_type: "application/json".to_owned(),
        headers: [("gatehouse-attempt", "1")].into(),
        body: Bytes::from_static(br#"{"orderNo":"4711"}"#),
    }
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().copied().collect()
}

fn plain() -> QueueSpec {
    QueueSpec::default()
}

/// The next delivery, which must come.
async fn next(consumer: &mut Consumer) -> Delivered {
    timeout(SOON, consumer.next()).await.expect("a delivery in time").expect("the bus lives")
}

/// The next delivery's id, done.
async fn take(consumer: &mut Consumer) -> String {
    let Delivered { parcel, settlement, .. } = next(consumer).await;
    settlement.done().await.expect("settled");
    parcel.id
}

/// Nothing comes.
async fn silent(consumer: &mut Consumer) -> bool {
    timeout(NEVER, consumer.next()).await.is_err()
}

async fn put(bus: &dyn Bus, queue: &str, parcel: Parcel) {
    bus.publish(queue, parcel, SOON).await.expect("confirmed");
}

/// Takes everything until all of `expected` came; what else comes (it was never confirmed) is no fault.
async fn drain(consumer: &mut Consumer, expected: &BTreeSet<String>) {
    let mut missing = expected.clone();
    let until = Instant::now() + 3 * SOON;
    while !missing.is_empty() {
        assert!(Instant::now() < until, "what comes cannot be settled: {missing:?}");
        let Ok(delivered) = timeout(SOON, consumer.next()).await else {
            panic!("{} of {} confirmed parcels are lost: {missing:?}", missing.len(), expected.len());
        };
        let delivered = delivered.expect("the bus lives");
        // A connection that was just lost: it comes again.
        if delivered.settlement.done().await.is_ok() {
            missing.remove(&delivered.parcel.id);
        }
    }
}
