//! Keeps the topology declared: when it is asked for, after each reconnect, when a consumer finds its queue gone, and
//! every now and then, because nobody tells a publisher that an operator deleted a queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::names::Names;
use super::topology;
use crate::{BusError, Topology};

/// After a failure that may pass.
const AGAIN: Duration = Duration::from_secs(1);

/// What came of the latest declaring.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    /// Which wish it answers.
    wish: u64,
    pub(super) result: Result<(), BusError>,
}

/// The remembered topology and the task that declares it.
pub(super) struct Keeper {
    wanted: Mutex<Topology>,
    wishes: watch::Sender<u64>,
    declared: watch::Sender<Declared>,
}

impl Keeper {
    /// Starts declaring what every instance needs; [`Keeper::declare`] adds the site's.
    pub(super) fn start(
        link: Link,
        names: Names,
        delivery_limit: u32,
        refresh: Duration,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let first = Declared { wish: 0, result: Err(BusError::Unavailable("not declared yet".to_owned())) };
        let keeper = Arc::new(Self {
            wanted: Mutex::default(),
            wishes: watch::Sender::new(1),
            declared: watch::Sender::new(first),
        });
        let this = keeper.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.keep(&link, &names, delivery_limit, refresh) => {}
            }
            this.declared.send_replace(Declared { wish: u64::MAX, result: Err(BusError::Closed) });
        });
        keeper
    }

    /// Remembers the topology and waits until it is declared.
    pub(super) async fn declare(&self, topology: Topology, deadline: Duration) -> Result<(), BusError> {
        *self.lock() = topology;
        self.assure(deadline).await
    }

    /// Declares what is remembered again, and waits for it.
    pub(super) async fn assure(&self, deadline: Duration) -> Result<(), BusError> {
        let mut wish = 0;
        self.wishes.send_modify(|w| {
            *w += 1;
            wish = *w;
        });
        let mut declared = self.declared.subscribe();
        match timeout(deadline, declared.wait_for(|d| d.wish >= wish)).await {
            Ok(Ok(declared)) => declared.result.clone(),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => {
                let why = match &self.declared.borrow().result {
                    Err(error) => error.to_string(),
                    Ok(()) => "no connection".to_owned(),
                };
                Err(BusError::Unavailable(format!("not declared within {deadline:.0?}, it goes on trying: {why}")))
            }
        }
    }

    pub(super) fn wanted(&self) -> Topology {
        self.lock().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Declared> {
        self.declared.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Topology> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(&self, link: &Link, names: &Names, delivery_limit: u32, refresh: Duration) {
        let mut wishes = self.wishes.subscribe();
        let mut state = link.watch();
        loop {
            state.mark_unchanged();
            let Some(connection) = link.connection().await else { return };
            let wish = *wishes.borrow_and_update();
            let result = match topology::plan(names, &self.wanted(), delivery_limit) {
                Ok(plan) => topology::apply(&connection, &plan).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &result {
                tracing::warn!(%error, "the bus topology is not declared");
            }
            let wait = if matches!(result, Err(BusError::Unavailable(_))) { AGAIN } else { refresh };
            // A wish is answered by success or by what a person must mend; what may pass is tried again.
            let answered = if matches!(result, Err(BusError::Unavailable(_))) { wish.saturating_sub(1) } else { wish };
            self.declared.send_replace(Declared { wish: answered, result });
            tokio::select! {
                _ = wishes.changed() => {}
                _ = state.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }
}
