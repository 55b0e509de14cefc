//! Claim checks: a body that is too large for a bus waits in a file, and its parcel carries the receipt.
//!
//! Brokers refuse large messages (RabbitMQ 4.0: 16 MiB) and carry them badly before that. [`Claims`] stands before a bus and looks
//! like one: what is published above a size is written to a file of its own, durably, before the parcel goes; who consumes gets the body back
//! as it was, or is told why not ([`LOST`]). A file belongs to one publish of one parcel, is handed on to its copy (a retry, a dead letter's),
//! and goes when the last of them is settled. What a crash leaves behind is swept away when it is old and
//! the queues are empty. Who shares a broker shares the folder.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{
    Bus, BusError, Consumer, DEAD, Delivered, Depth, Health, Parcel, PublishError, RequestError, Settle, SettleError,
    Settlement, Topology, UNROUTABLE,
};

/// The header with the receipt: the file's name, its length and its SHA-256.
pub const CLAIM: &str = "gatehouse-claim";

/// The header that says why the body could not be fetched; the receipt stays beside it, and the next attempt tries again.
pub const LOST: &str = "gatehouse-claim-lost";

/// How often old files are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// Where large bodies wait, and which are large.
#[derive(Clone, Debug)]
pub struct ClaimsConfig {
    /// The folder, made if it is not there; the same one for all gateways that share a broker.
    pub folder: PathBuf,
    /// Bodies of more bytes than this wait there.
    pub above: usize,
    /// How old a file is at least that is swept away.
    pub keep: Duration,
    /// How long a file stays after its parcel was settled: an acknowledgement that was on its way when the connection or
    /// the process died has not arrived, and the parcel comes again and must find its body. Zero: it goes at once.
    pub linger: Duration,
    /// Whether requests of waiting callers are for the bus as large as anything else; not where they never leave the process.
    pub requests: bool,
}

/// A bus for bodies of any size.
pub struct Claims {
    bus: Arc<dyn Bus>,
    shelf: Arc<Shelf>,
    /// Whether large requests wait there too.
    requests: bool,
    /// The queues whose parcels may refer to a file.
    queues: Mutex<BTreeSet<String>>,
}

impl Claims {
    /// Before a bus.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(bus: Arc<dyn Bus>, config: ClaimsConfig) -> io::Result<Arc<Self>> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.folder)?;
        let claims = Arc::new(Self {
            bus,
            requests: config.requests,
            queues: Mutex::default(),
            shelf: Arc::new(Shelf { folder: config.folder, above: config.above, linger: config.linger }),
        });
        tokio::spawn(sweep_now_and_then(Arc::downgrade(&claims), config.keep));
        Ok(claims)
    }

    /// Removes files older than `keep` while every queue is empty: nothing refers to them. Tells how many.
    ///
    /// # Errors
    /// The bus cannot tell how full it is, or the folder cannot be read.
    pub async fn sweep(&self, keep: Duration) -> io::Result<usize> {
        let depths = self.bus.depths().await.map_err(io::Error::other)?;
        // A queue that the bus may not look at is not known to be empty.
        let known =
            self.queues.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|queue| depths.contains_key(queue));
        if !known || depths.values().any(|depth| depth.parcels > 0) {
            return Ok(0);
        }
        let shelf = self.shelf.clone();
        blocking(move || shelf.sweep(keep)).await
    }
}

async fn sweep_now_and_then(claims: Weak<Claims>, keep: Duration) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(claims) = claims.upgrade() else { return };
        match claims.sweep(keep).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "old claim files that no parcel refers to were removed"),
            Err(error) => tracing::warn!(%error, "old claim files could not be looked for"),
        }
    }
}

#[async_trait]
impl Bus for Claims {
    async fn declare(&self, topology: Topology) -> Result<(), BusError> {
        let queues = topology.queues.keys().map(String::as_str).chain([DEAD, UNROUTABLE]).map(str::to_owned);
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = queues.collect();
        self.bus.declare(topology).await
    }

    async fn publish(&self, queue: &str, mut parcel: Parcel, deadline: Duration) -> Result<(), PublishError> {
        let left = self.shelf.leave(&mut parcel, None).await;
        let left = left.map_err(|error| PublishError::Unavailable(error.to_string()))?;
        let published = self.bus.publish(queue, parcel, deadline).await;
        if let (Err(PublishError::Refused(_) | PublishError::Unavailable(_)), Some(claim)) = (&published, left) {
            self.shelf.remove(claim).await;
        }
        published
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, BusError> {
        let mut consumer = self.bus.consume(queue, prefetch).await?;
        consumer.shelf = Some(self.shelf.clone());
        Ok(consumer)
    }

    async fn request(&self, queue: &str, mut parcel: Parcel, deadline: Duration) -> Result<Parcel, RequestError> {
        let left = if self.requests { self.shelf.leave(&mut parcel, None).await } else { Ok(None) };
        let left = left.map_err(|error| RequestError::Unavailable(error.to_string()))?;
        let mut answer = match self.bus.request(queue, parcel, deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                if let (RequestError::Unavailable(_), Some(claim)) = (&error, left) {
                    self.shelf.remove(claim).await;
                }
                return Err(error);
            }
        };
        if let Some(claim) = self.shelf.fetch(&mut answer).await {
            self.shelf.remove(claim).await;
        }
        match answer.headers.remove(LOST) {
            // It was worked on: nobody may be told that nothing was sent.
            Some(reason) => {
                tracing::warn!(%reason, "the answer to a request is lost");
                Err(RequestError::Deadline)
            }
            None => Ok(answer),
        }
    }

    async fn depths(&self) -> Result<std::collections::BTreeMap<String, Depth>, BusError> {
        self.bus.depths().await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.bus.health()
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    name: String,
    bytes: u64,
    digest: String,
}

impl Claim {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let claim = Self {
            name: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
            digest: words.next()?.to_owned(),
        };
        // A name of ours: a parcel that somebody else made leads to no other file.
        let lawful = uuid::Uuid::try_parse(&claim.name).is_ok_and(|id| id.to_string() == claim.name);
        (lawful && words.next().is_none()).then_some(claim)
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.name, self.bytes, self.digest)
    }
}

/// The files.
pub(crate) struct Shelf {
    folder: PathBuf,
    above: usize,
    linger: Duration,
}

impl Shelf {
    /// Gives a parcel its body back, and its settlement the care for the file.
    pub(crate) async fn open(self: &Arc<Self>, delivered: Delivered) -> Delivered {
        let Delivered { mut parcel, redelivered, mut settlement } = delivered;
        let claim = self.fetch(&mut parcel).await;
        let Some(settle) = settlement.0.take() else { return Delivered { parcel, redelivered, settlement } };
        let held = claim.map(|claim| (claim, parcel.body.clone()));
        let settlement = Settlement::new(Arc::new(Checked { settle, shelf: self.clone(), held }));
        Delivered { parcel, redelivered, settlement }
    }

    /// Puts a large body away. `from`: where these bytes may be already.
    async fn leave(&self, parcel: &mut Parcel, from: Option<&(Claim, Bytes)>) -> io::Result<Option<Claim>> {
        // What could not be fetched goes on with its receipt, for the next to try.
        if parcel.headers.remove(LOST).is_some() || parcel.body.len() <= self.above {
            return Ok(None);
        }
        let (body, folder) = (parcel.body.clone(), self.folder.clone());
        let from = from.filter(|(_, held)| *held == body).map(|(claim, _)| claim.clone());
        let made = blocking(move || make(&folder, &body, from.as_ref())).await;
        let explain =
            |error| io::Error::other(format!("a large body cannot be put into {}: {error}", self.folder.display()));
        let claim = made.map_err(explain)?;
        parcel.headers.insert(CLAIM, claim.to_string());
        parcel.body = format!(r#"{{"claim":"{}","bytes":{}}}"#, claim.name, claim.bytes).into();
        Ok(Some(claim))
    }

    /// Fetches a body; where that fails, [`LOST`] says why.
    async fn fetch(&self, parcel: &mut Parcel) -> Option<Claim> {
        let text = parcel.headers.get(CLAIM)?;
        let Some(claim) = Claim::parse(text) else {
            parcel.headers.insert(LOST, "the receipt of its body cannot be read");
            return None;
        };
        let (path, wanted) = (self.folder.join(&claim.name), claim.clone());
        match blocking(move || read(&path, &wanted)).await {
            Ok(body) => {
                parcel.body = body;
                parcel.headers.remove(CLAIM);
                parcel.headers.remove(LOST);
                Some(claim)
            }
            Err(error) => {
                let path = self.folder.join(&claim.name);
                let reason = format!(
                    "its body of {} bytes is gone: {}: {error} (gateways that share a broker share the folder of `claims`)",
                    claim.bytes,
                    path.display()
                );
                parcel.headers.insert(LOST, reason);
                None
            }
        }
    }

    async fn remove(&self, claim: Claim) {
        let path = self.folder.join(&claim.name);
        // What stays by mistake is swept away later.
        let _ = blocking(move || std::fs::remove_file(path)).await;
    }

    fn sweep(&self, keep: Duration) -> io::Result<usize> {
        let mut count = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let ours = entry.file_name().to_str().is_some_and(|name| uuid::Uuid::try_parse(name).is_ok());
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if ours && age > keep {
                std::fs::remove_file(entry.path())?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// Makes a body durable: nothing is to be done where `from` holds it already, but to make that look young.
fn make(folder: &Path, body: &[u8], from: Option<&Claim>) -> io::Result<Claim> {
    let young = |from: &&Claim| {
        let file = std::fs::File::options().write(true).open(folder.join(&from.name));
        file.and_then(|file| file.set_modified(SystemTime::now())).is_ok()
    };
    if let Some(from) = from.filter(young) {
        return Ok(from.clone());
    }
    let name = uuid::Uuid::now_v7().to_string();
    let path = folder.join(&name);
    let write = |mut file: std::fs::File| {
        io::Write::write_all(&mut file, body)?;
        file.sync_all()?;
        std::fs::File::open(folder)?.sync_all()
    };
    if let Err(error) = std::fs::File::create_new(&path).and_then(write) {
        // On a full disk the half of a body would keep its place until it is old.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(Claim { name, bytes: body.len() as u64, digest: digest(body) })
}

fn read(path: &Path, claim: &Claim) -> io::Result<Bytes> {
    let length = std::fs::metadata(path)?.len();
    if length != claim.bytes {
        return Err(io::Error::other(format!("it has {length} bytes")));
    }
    let body = std::fs::read(path)?;
    if digest(&body) != claim.digest {
        return Err(io::Error::other("it was changed"));
    }
    Ok(body.into())
}

fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Settles a parcel, and then its file.
struct Checked {
    settle: Arc<dyn Settle>,
    shelf: Arc<Shelf>,
    /// The file that this parcel came with, and what was in it.
    held: Option<(Claim, Bytes)>,
}

impl Checked {
    /// A copy that may be large: with the file that is there, or one of its own. Tells which.
    async fn leave(&self, parcel: &mut Parcel) -> Result<Option<Claim>, SettleError> {
        let left = self.shelf.leave(parcel, self.held.as_ref()).await;
        left.map_err(|error| {
            self.settle.give_back();
            SettleError(error.to_string())
        })
    }

    /// The file goes with its parcel, but where a copy has it now.
    async fn settled(&self, outcome: Result<(), SettleError>, copy: Option<Claim>) -> Result<(), SettleError> {
        if let (Ok(()), Some((claim, _))) = (&outcome, &self.held)
            && copy.as_ref() != Some(claim)
        {
            let (shelf, claim) = (self.shelf.clone(), claim.clone());
            let gone = async move {
                tokio::time::sleep(shelf.linger).await;
                shelf.remove(claim).await;
            };
            if self.shelf.linger.is_zero() {
                gone.await;
            } else {
                tokio::spawn(gone);
            }
        }
        outcome
    }
}

#[async_trait]
impl Settle for Checked {
    async fn done(&self) -> Result<(), SettleError> {
        self.settled(self.settle.done().await, None).await
    }

    async fn retry(&self, mut parcel: Parcel, delay: Duration) -> Result<(), SettleError> {
        let copy = self.leave(&mut parcel).await?;
        self.settled(self.settle.retry(parcel, delay).await, copy).await
    }

    async fn dead(&self, mut parcel: Parcel) -> Result<(), SettleError> {
        let copy = self.leave(&mut parcel).await?;
        self.settled(self.settle.dead(parcel).await, copy).await
    }

    async fn reply(&self, mut answer: Parcel) -> Result<(), SettleError> {
        let copy = self.leave(&mut answer).await?;
        self.settled(self.settle.reply(answer).await, copy).await
    }

    fn give_back(&self) {
        self.settle.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueSpec;
    use crate::embedded::Embedded;

    const SOON: Duration = Duration::from_secs(20);
    const QUEUE: &str = "gatehouse.work.r.t";
    const ASK: &str = "gatehouse.work.r.ask";

    struct World {
        folder: tempfile::TempDir,
        claims: Arc<Claims>,
    }

    async fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let bus = Arc::new(Embedded::open(&folder.path().join("bus.db")).unwrap());
        let claims = folder.path().join("claims");
        let config = ClaimsConfig { folder: claims, above: 100, keep: SOON, linger: Duration::ZERO, requests: true };
        let claims = Claims::new(bus, config).unwrap();
        let request = QueueSpec { request: true, ..QueueSpec::default() };
        let queues = [(QUEUE.to_owned(), QueueSpec::default()), (ASK.to_owned(), request)].into();
        claims.declare(Topology { queues, ladder: vec![Duration::from_millis(50)] }).await.unwrap();
        World { folder, claims }
    }

    impl World {
        fn files(&self) -> Vec<PathBuf> {
            let mut files: Vec<_> = std::fs::read_dir(self.folder.path().join("claims"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            files
        }

        async fn publish(&self, body: &Bytes) {
            let parcel = Parcel { id: "p".to_owned(), body: body.clone(), ..Parcel::default() };
            self.claims.publish(QUEUE, parcel, SOON).await.unwrap();
        }
    }

    async fn next(consumer: &mut Consumer) -> Delivered {
        tokio::time::timeout(SOON, consumer.next()).await.expect("in time").expect("open")
    }

    fn large() -> Bytes {
        (0..5000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into()
    }

    /// A worker with order waits for several things at once: what it stops waiting for must not lose its place.
    #[tokio::test]
    async fn a_delivery_whose_body_is_being_fetched_is_not_given_back_when_nobody_waits() {
        let world = world().await;
        world.publish(&large()).await;
        let mut consumer = world.claims.consume(QUEUE, 1).await.unwrap();
        let asked = async {
            while consumer.opening.is_none() {
                // Asked once, and not waited for.
                std::future::poll_fn(|context| {
                    assert!(Box::pin(consumer.next()).as_mut().poll(context).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, asked).await.expect("it comes");
        let came = next(&mut consumer).await;
        assert_eq!((came.parcel.body.clone(), came.redelivered), (large(), false));
        came.settlement.done().await.unwrap();
    }

    #[tokio::test]
    async fn a_large_body_waits_in_a_file_until_it_is_settled() {
        let world = world().await;
        world.publish(&large()).await;
        assert_eq!(world.files().len(), 1);
        let mut raw = world.claims.bus.consume(QUEUE, 1).await.unwrap();
        let seen = next(&mut raw).await;
        assert!(seen.parcel.body.len() < 100, "what the bus carries: {:?}", seen.parcel);
        drop(seen);
        drop(raw);
        let mut consumer = world.claims.consume(QUEUE, 1).await.unwrap();
        // Given back, tried again, dead: the body stays what it was, and there is one file.
        drop(next(&mut consumer).await);
        let delivered = next(&mut consumer).await;
        assert_eq!(delivered.parcel.body, large());
        assert!(delivered.parcel.headers.is_empty(), "{:?}", delivered.parcel.headers);
        let before = world.files();
        let mut parcel = delivered.parcel;
        parcel.headers.insert("attempt", "2");
        delivered.settlement.retry(parcel, Duration::ZERO).await.unwrap();
        let delivered = next(&mut consumer).await;
        assert_eq!((delivered.parcel.body.clone(), delivered.parcel.header("attempt")), (large(), Some("2")));
        assert_eq!(world.files().len(), 1);
        assert_eq!(world.files(), before, "the copy goes on with it");
        delivered.settlement.dead(delivered.parcel).await.unwrap();
        let mut dead = world.claims.consume(DEAD, 1).await.unwrap();
        let delivered = next(&mut dead).await;
        assert_eq!(delivered.parcel.body, large());
        assert_eq!(world.files().len(), 1);
        delivered.settlement.done().await.unwrap();
        assert!(world.files().is_empty());
    }

    #[tokio::test]
    async fn small_bodies_and_requests_are_as_they_were() {
        let world = world().await;
        world.publish(&Bytes::from_static(b"small")).await;
        let mut consumer = world.claims.consume(QUEUE, 1).await.unwrap();
        let delivered = next(&mut consumer).await;
        assert_eq!(&delivered.parcel.body[..], b"small");
        assert!(world.files().is_empty());
        delivered.settlement.done().await.unwrap();

        let mut asked = world.claims.consume(ASK, 1).await.unwrap();
        let answering = tokio::spawn(async move {
            let delivered = next(&mut asked).await;
            let answer = Parcel { body: delivered.parcel.body.slice(1..), ..Parcel::default() };
            delivered.settlement.reply(answer).await.unwrap();
        });
        let parcel = Parcel { id: "q".to_owned(), body: large(), ..Parcel::default() };
        let answer = world.claims.request(ASK, parcel, SOON).await.unwrap();
        answering.await.unwrap();
        assert_eq!(answer.body, large().slice(1..));
        assert!(world.files().is_empty(), "the request's is gone, and the answer's");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_or_changed_is_told_and_tried_again() {
        let world = world().await;
        world.publish(&large()).await;
        let [file] = &*world.files() else { panic!("one file") };
        let kept = std::fs::read(file).unwrap();
        let mut consumer = world.claims.consume(QUEUE, 1).await.unwrap();
        let mut changed = kept.clone();
        changed[7] ^= 1;
        for (wrong, reason) in [(None, "gone"), (Some(&kept[1..]), "has 19999 bytes"), (Some(&changed), "changed")] {
            match wrong {
                None => std::fs::remove_file(file).unwrap(),
                Some(bytes) => std::fs::write(file, bytes).unwrap(),
            }
            let delivered = next(&mut consumer).await;
            let told = delivered.parcel.header(LOST).unwrap_or_default().to_owned();
            assert!(told.contains(reason) && told.contains("20000 bytes"), "{told}");
            assert!(delivered.parcel.body.len() < 100);
            delivered.settlement.retry(delivered.parcel, Duration::ZERO).await.unwrap();
        }
        // It came back (a folder that was not mounted): the next attempt has it.
        std::fs::write(file, &kept).unwrap();
        let delivered = next(&mut consumer).await;
        if delivered.parcel.header(LOST).is_some() {
            delivered.settlement.retry(delivered.parcel, Duration::ZERO).await.unwrap();
            assert_eq!(next(&mut consumer).await.parcel.body, large());
        } else {
            assert_eq!(delivered.parcel.body, large());
        }
    }

    #[tokio::test]
    async fn a_receipt_leads_to_no_other_file() {
        for text in [
            "../bus.db 1 x",
            "",
            "x",
            "00000000-0000-0000-0000-000000000000 1 a b",
            "{00000000-0000-0000-0000-000000000000} 1 a",
        ] {
            assert_eq!(Claim::parse(text), None, "{text}");
        }
        let world = world().await;
        let headers = [(CLAIM.to_owned(), "../bus.db 1 x".to_owned())].into();
        let parcel = Parcel { id: "p".to_owned(), headers, ..Parcel::default() };
        world.claims.publish(QUEUE, parcel, SOON).await.unwrap();
        let mut consumer = world.claims.consume(QUEUE, 1).await.unwrap();
        let delivered = next(&mut consumer).await;
        assert!(delivered.parcel.header(LOST).unwrap().contains("cannot be read"));
        delivered.settlement.done().await.unwrap();
        assert!(world.folder.path().join("bus.db").exists());
    }

    #[tokio::test]
    async fn only_what_is_old_and_not_waited_for_is_swept() {
        let world = world().await;
        let orphan = world.folder.path().join("claims").join(uuid::Uuid::now_v7().to_string());
        std::fs::write(&orphan, "x").unwrap();
        let other = world.folder.path().join("claims/notes.txt");
        std::fs::write(&other, "x").unwrap();
        world.publish(&large()).await;
        assert_eq!(world.claims.sweep(Duration::ZERO).await.unwrap(), 0, "something waits");
        let mut consumer = world.claims.consume(QUEUE, 1).await.unwrap();
        next(&mut consumer).await.settlement.done().await.unwrap();
        assert_eq!(world.claims.sweep(SOON).await.unwrap(), 0, "it is young");
        assert_eq!(world.claims.sweep(Duration::ZERO).await.unwrap(), 1);
        assert_eq!(world.files(), [other]);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_takes_nothing() {
        let world = world().await;
        std::fs::remove_dir(world.folder.path().join("claims")).unwrap();
        let parcel = Parcel { id: "p".to_owned(), body: large(), ..Parcel::default() };
        let refused = world.claims.publish(QUEUE, parcel, SOON).await.unwrap_err();
        assert!(matches!(&refused, PublishError::Unavailable(why) if why.contains("claims")), "{refused:?}");
        assert_eq!(world.claims.depths().await.unwrap()[QUEUE].parcels, 0);
    }
}
