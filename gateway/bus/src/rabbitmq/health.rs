//! One word for how the bus is: from the links, the publish channels and the topology. Readiness follows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::keeper::Declared;
use super::link::{Link, LinkState};
use super::publish::Lane;
use crate::{BusError, Health};

/// A change that no watch told (a channel that died) is seen after this.
const LOOK: Duration = Duration::from_millis(500);

/// What health is made of.
pub(super) struct Signs {
    pub(super) publish: Link,
    pub(super) consume: Link,
    pub(super) lanes: Vec<watch::Receiver<Option<Arc<Lane>>>>,
    pub(super) declared: watch::Receiver<Declared>,
}

impl Signs {
    /// Follows the signs until the bus is closed.
    pub(super) fn follow(self, stop: CancellationToken) -> watch::Receiver<Health> {
        let (tell, health) = watch::channel(Health::Starting);
        tokio::spawn(async move {
            let (mut publish, mut consume, mut declared) =
                (self.publish.watch(), self.consume.watch(), self.declared.clone());
            let mut lane = self.lanes.first().cloned();
            while !stop.is_cancelled() {
                let now = self.read();
                tell.send_if_modified(|health| {
                    let changed = *health != now;
                    if changed {
                        tracing::info!(health = ?now, "the bus on RabbitMQ");
                        *health = now;
                    }
                    changed
                });
                let lane_changed = async {
                    match &mut lane {
                        Some(lane) => lane.changed().await,
                        None => std::future::pending().await,
                    }
                };
                let _ = timeout(LOOK, async {
                    tokio::select! {
                        _ = publish.changed() => {}
                        _ = consume.changed() => {}
                        _ = declared.changed() => {}
                        _ = lane_changed => {}
                        () = stop.cancelled() => {}
                    }
                })
                .await;
            }
            tell.send_replace(Health::Down("closed".to_owned()));
        });
        health
    }

    fn read(&self) -> Health {
        let publish = self.publish.state().clone();
        let consume = self.consume.state().clone();
        for state in [&publish, &consume] {
            match state {
                LinkState::Down(reason) => return Health::Down(reason.clone()),
                LinkState::Starting => return Health::Starting,
                LinkState::Up(_) | LinkState::Blocked(..) => {}
            }
        }
        if let LinkState::Blocked(_, reason) = publish {
            return Health::Blocked(reason);
        }
        match &self.declared.borrow().result {
            Ok(()) => {}
            Err(BusError::Contradiction(why)) => return Health::Down(why.clone()),
            Err(_) => return Health::Starting,
        }
        let open = self.lanes.iter().any(|lane| lane.borrow().as_ref().is_some_and(|lane| lane.alive()));
        if open { Health::Ready } else { Health::Starting }
    }
}
