//! One worker a target: takes deliveries from its queue when the target's circuit, places and rate allow, and hands
//! each to [`super::delivery`].
//!
//! A target without order takes as many at once as its limits allow. A target with `order_by` takes the deliveries of
//! one key one after the other: while one waits for its next attempt, its key waits, the others go on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_bus::claims::LOST;
use gatehouse_bus::{Bus, Consumer, Delivered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::circuit::State;
use super::delivery::{Carrier, Ordered};

/// Unsettled deliveries that keep a consumer fed (measured in `rabbitmq.md`); places at the target are another number.
const PREFETCH: u16 = 256;

/// Unsettled deliveries of a target with order: most of them wait for their key.
const ORDERED_PREFETCH: u16 = 64;

/// The most bytes of bodies that wait for their key, in memory. Whoever waits has one of its key under way, so it goes on.
const MOST_WAITING: usize = 64 << 20;

/// Takes deliveries for one target until `stop`.
pub struct Worker {
    /// Who carries them.
    pub carrier: Arc<Carrier>,
    /// Where they come from.
    pub bus: Arc<dyn Bus>,
    /// When to stop.
    pub stop: CancellationToken,
    /// Who is under way.
    pub tasks: TaskTracker,
}

impl Worker {
    /// Runs until stopped. Deliveries under way finish by themselves, tracked by `tasks`.
    pub async fn run(self) {
        loop {
            let trying = tokio::select! {
                () = self.stop.cancelled() => return,
                trying = self.permitted() => trying,
            };
            let prefetch = match (trying, self.carrier.target.order_by.is_some()) {
                (true, _) => 1,
                (false, true) => ORDERED_PREFETCH,
                (false, false) => PREFETCH,
            };
            let consumer = tokio::select! {
                () = self.stop.cancelled() => return,
                consumer = self.bus.consume(&self.carrier.target.queue, prefetch) => consumer,
            };
            match consumer {
                Ok(consumer) if trying => self.try_one(consumer).await,
                Ok(consumer) if self.carrier.target.order_by.is_some() => self.drain_in_order(consumer).await,
                Ok(consumer) => self.drain(consumer).await,
                Err(error) => {
                    tracing::warn!(queue = self.carrier.target.queue, %error, "cannot consume; trying again");
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(Duration::from_secs(2)) => {}
                    }
                }
            }
        }
    }

    /// Waits until the system is connected and its circuit lets a call through; tells whether it is the trying one.
    async fn permitted(&self) -> bool {
        self.carrier.system.outbound().await;
        self.carrier.system.circuit.permitted().await
    }

    /// Done once the circuit is not closed.
    async fn circuit_opened(&self) {
        self.carrier.system.circuit.left(State::Closed).await;
    }

    /// The circuit is half open: one delivery shows whether the system is back. Without one to try, the system is probed.
    async fn try_one(&self, mut consumer: Consumer) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Another target of the same system has tried.
            () = self.carrier.system.circuit.left(State::HalfOpen) => {}
            delivered = consumer.next() => if let Some(delivered) = delivered {
                let carrier = self.carrier.clone();
                let tried = if carrier.target.order_by.is_some() {
                    tokio::spawn(carrier.try_in_order(delivered))
                } else {
                    tokio::spawn(carrier.carry(delivered))
                };
                // Cut off by a stop, the delivery comes again.
                tokio::select! { _ = tried => {}, () = self.stop.cancelled() => {} }
            },
            () = tokio::time::sleep(Duration::from_secs(1)) => self.carrier.probe().await,
        }
    }

    async fn drain(&self, mut consumer: Consumer) {
        // Made once, not for each delivery: it is looked at with every one.
        let ended = async {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.circuit_opened() => {}
            }
        };
        tokio::pin!(ended);
        loop {
            let delivered = tokio::select! {
                biased;
                () = &mut ended => return,
                delivered = consumer.next() => delivered,
            };
            let Some(delivered) = delivered else { return self.pause().await };
            let place = tokio::select! {
                biased;
                place = self.carrier.place() => place,
                () = &mut ended => return,
            };
            let carrier = self.carrier.clone();
            self.tasks.spawn(async move {
                carrier.carry(delivered).await;
                drop(place);
            });
        }
    }

    async fn drain_in_order(&self, mut consumer: Consumer) {
        let mut waiting: HashMap<String, VecDeque<Delivered>> = HashMap::new();
        let (finished, mut inbox) = mpsc::channel::<(String, Ordered)>(usize::from(ORDERED_PREFETCH));
        let halt = self.stop.child_token();
        let start = |key: String, delivered: Delivered| {
            let (carrier, finished, halt) = (self.carrier.clone(), finished.clone(), halt.clone());
            self.tasks.spawn(async move {
                let outcome = carrier.carry_in_order(delivered, halt).await;
                // The receiver is gone when the worker stops: the rest of the key goes back to the queue.
                let _ = finished.send((key, outcome)).await;
            });
        };
        // Of a delivery whose body is lost nobody knows the key: nothing may pass it.
        let mut blind = false;
        loop {
            let bytes = waiting.values().flatten().map(|delivered| delivered.parcel.body.len()).sum::<usize>();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.circuit_opened() => break,
                Some((key, outcome)) = inbox.recv() => {
                    if outcome == Ordered::GivenBack {
                        break;
                    }
                    blind &= key != LOST;
                    match waiting.get_mut(&key).and_then(VecDeque::pop_front) {
                        Some(next) => start(key, next),
                        None => { waiting.remove(&key); }
                    }
                }
                delivered = consumer.next(), if !blind && bytes < MOST_WAITING => {
                    let Some(delivered) = delivered else { break };
                    blind = delivered.parcel.header(LOST).is_some();
                    let key = if blind { LOST.to_owned() } else { self.carrier.order_key(&delivered.parcel) };
                    match waiting.get_mut(&key) {
                        Some(queue) => queue.push_back(delivered),
                        None => {
                            waiting.insert(key.clone(), VecDeque::new());
                            start(key, delivered);
                        }
                    }
                }
            }
        }
        // Those that wait for their next attempt give theirs back first; then those behind them; order is kept by the bus.
        halt.cancel();
        drop(finished);
        while inbox.recv().await.is_some() {}
    }

    /// The bus ended the stream (it is closing, or has given up): do not spin.
    async fn pause(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}
