//! Requests and their answers: an exclusive reply queue on a connection of its own, and who waits for what.
//!
//! An answer lives as long as its caller waits, so nothing here is durable. A lost reply connection ends every wait at
//! once: the answers to what was asked before can no longer arrive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::BasicReturnMessage;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::link::Link;
use super::names::Names;
use super::parcels::{self, Origin, Stamp};
use super::publish::{Outgoing, Pool};
use crate::{Parcel, PublishError, RequestError};

/// Opening channel and queue.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// How long a request waits for the reply queue after a reconnect.
const GRACE: Duration = Duration::from_secs(2);
/// Answers in flight from the broker.
const PREFETCH: u16 = 200;
/// A channel that died silently is found after this.
const LOOK: Duration = Duration::from_secs(1);

type Answer = Result<Parcel, RequestError>;

/// Who waits, by correlation id. Each wait has a deadline, so the map is bounded by the callers.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<HashMap<String, oneshot::Sender<Answer>>>>);

impl Waiting {
    /// The broker returned a request: nobody consumes, or the queue is gone. Found by its own correlation id, which is
    /// ours and unique, never by the confirm that it came with.
    pub(super) fn returned(&self, message: &BasicReturnMessage) {
        let id = message.delivery.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned());
        if let Some(id) = id {
            let why = format!("no queue takes it ({})", message.reply_text);
            self.answer(&id, Err(RequestError::Unavailable(why)));
        }
    }

    /// False where nobody waits any more.
    fn answer(&self, id: &str, answer: Answer) -> bool {
        let waiting = self.lock().remove(id);
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    fn give_up(&self) {
        let all = std::mem::take(&mut *self.lock());
        for (_, waiting) in all {
            let _ = waiting.send(Err(RequestError::Deadline));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a caller out of the map however the wait ends.
struct Wait<'a>(&'a Waiting, String);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// Sends requests and hands answers to those who wait.
pub(super) struct Switchboard {
    names: Names,
    pool: Arc<Pool>,
    waiting: Waiting,
    /// The reply queue, while there is one.
    address: watch::Receiver<Option<ShortString>>,
}

impl Switchboard {
    /// Starts listening for answers. `pool` must give its returns to `waiting`.
    pub(super) fn start(link: Link, names: Names, pool: Arc<Pool>, waiting: Waiting, stop: CancellationToken) -> Self {
        let (tell, address) = watch::channel(None);
        let this = Self { names: names.clone(), pool, waiting: waiting.clone(), address };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listen(&link, &names, &tell, &waiting) => {}
            }
            tell.send_replace(None);
            waiting.give_up();
        });
        this
    }

    /// Asks, and waits for the answer.
    pub(super) async fn request(&self, key: ShortString, parcel: Parcel, within: Duration) -> Answer {
        let until = Instant::now() + within;
        let mut address = self.address.clone();
        let reply_to = match timeout_at(until.min(Instant::now() + GRACE), address.wait_for(Option::is_some)).await {
            Ok(Ok(address)) => address.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(reply_to) = reply_to else {
            return Err(RequestError::Unavailable("no reply queue: not connected to RabbitMQ".to_owned()));
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().insert(id.clone(), tell);
        let wait = Wait(&self.waiting, id);
        let out = self.outgoing(key, parcel, reply_to, &wait.1, until)?;
        match self.pool.send(out, until.saturating_duration_since(Instant::now())).await {
            Ok(()) => {}
            Err(PublishError::Refused(why) | PublishError::Unavailable(why)) => {
                return Err(RequestError::Unavailable(why));
            }
            Err(PublishError::Unknown(_)) => return Err(RequestError::Deadline),
        }
        match timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(RequestError::Deadline),
        }
    }

    fn outgoing(
        &self,
        key: ShortString,
        parcel: Parcel,
        reply_to: ShortString,
        id: &str,
        until: Instant,
    ) -> Result<Outgoing, RequestError> {
        // Nobody waits after the deadline, so the broker forgets it then.
        let left = until.saturating_duration_since(Instant::now()).as_millis().max(1).to_string();
        let stamp = Stamp {
            reply_to: Some(reply_to),
            correlation_id: ShortString::try_new(id).ok(),
            expiration: ShortString::try_new(left).ok(),
            transient: true,
        };
        let properties = parcels::properties(parcel.id, parcel.content_type, parcel.headers, stamp)
            .map_err(RequestError::Unavailable)?;
        Ok(Outgoing { exchange: self.names.rpc(), key, mandatory: true, body: parcel.body, properties })
    }
}

/// Keeps a reply queue for as long as the bus lives. Each connection has a new one.
async fn listen(link: &Link, names: &Names, address: &watch::Sender<Option<ShortString>>, waiting: &Waiting) {
    let mut failures = 0u32;
    loop {
        let Some(connection) = link.connection().await else { return };
        let queue = names.reply_queue();
        match timeout(OPEN_DEADLINE, open(&connection, names, &queue)).await {
            Ok(Ok((channel, mut answers))) => {
                failures = 0;
                address.send_replace(Some(queue));
                hand_out(&channel, &mut answers, names, waiting).await;
                address.send_replace(None);
                waiting.give_up();
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no reply queue yet");
                failures = failures.saturating_add(1);
            }
            Err(_) => failures = failures.saturating_add(1),
        }
        sleep(backoff::wait(failures)).await;
    }
}

async fn open(
    connection: &Connection,
    names: &Names,
    queue: &ShortString,
) -> lapin::Result<(Channel, lapin::Consumer)> {
    let channel = connection.create_channel().await?;
    // As the topology does: on a new broker this may come first.
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(names.reply(), ExchangeKind::Direct, options, FieldTable::default()).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    channel
        .queue_bind(queue.clone(), names.reply(), queue.clone(), QueueBindOptions::default(), FieldTable::default())
        .await?;
    channel.basic_qos(PREFETCH, BasicQosOptions { global: false }).await?;
    let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let answers = channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await?;
    Ok((channel, answers))
}

async fn hand_out(channel: &Channel, answers: &mut lapin::Consumer, names: &Names, waiting: &Waiting) {
    loop {
        let mut delivery = match timeout(LOOK, answers.next()).await {
            Ok(Some(Ok(delivery))) => delivery,
            Ok(_) => return,
            Err(_) if channel.status().connected() => continue,
            Err(_) => return,
        };
        let tag = delivery.delivery_tag;
        let id = delivery.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
        let answer = parcels::parcel(&mut delivery, names, Origin::Here);
        if !waiting.answer(&id, Ok(answer)) {
            tracing::debug!("an answer came after its caller had gone");
        }
        if !matches!(timeout(OPEN_DEADLINE, channel.basic_ack(tag, BasicAckOptions::default())).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_goes_to_the_one_who_waits_and_to_nobody_twice() {
        let waiting = Waiting::default();
        let (tell, answer) = oneshot::channel();
        waiting.lock().insert("1".to_owned(), tell);
        assert!(!waiting.answer("2", Err(RequestError::Deadline)), "nobody waits for 2");
        assert!(waiting.answer("1", Ok(Parcel { id: "a".to_owned(), ..Parcel::default() })));
        assert!(!waiting.answer("1", Err(RequestError::Deadline)), "answered once");
        assert_eq!(answer.await.expect("told").expect("an answer").id, "a");
    }

    #[tokio::test]
    async fn a_lost_connection_ends_every_wait() {
        let waiting = Waiting::default();
        let (tell, answer) = oneshot::channel();
        waiting.lock().insert("1".to_owned(), tell);
        waiting.give_up();
        assert_eq!(answer.await.expect("told"), Err(RequestError::Deadline));
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let waiting = Waiting::default();
        let (tell, _answer) = oneshot::channel();
        waiting.lock().insert("1".to_owned(), tell);
        drop(Wait(&waiting, "1".to_owned()));
        assert!(waiting.lock().is_empty());
    }
}
